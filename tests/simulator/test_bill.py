import json

from tollway.simulator.bill import Bill, Line


def line(bill: Bill, **more: object) -> Line:
    values = {
        "number": bill.next_number(),
        "id": "chatcmpl-1",
        "model": "m",
        "endpoint": "chat.completions",
        "status": 200,
        "streamed": False,
        "complete": True,
        "events": 0,
        "usage": b'{"prompt_tokens":3}',
        "prompt_tokens": 3,
        "cached_tokens": 1,
        "completion_tokens": 5,
        "reasoning_tokens": 2,
        "request_id": None,
    }
    return Line(**{**values, **more})


def test_totals_outlive_the_lines():
    bill = Bill(keep=10)
    for _ in range(25):
        bill.add(line(bill))
    bill.add(line(bill, status=500, complete=False, usage=None, prompt_tokens=0, completion_tokens=0))
    assert len(bill.entries()) == 10
    assert json.loads(bill.summary()) == {
        "requests": 26,
        "totals": {
            "m": {
                "requests": 26,
                "complete": 25,
                "errors": 1,
                "events": 0,
                "prompt_tokens": 75,
                "cached_tokens": 26,
                "completion_tokens": 125,
                "reasoning_tokens": 52,
            }
        },
    }


def test_pages_follow_one_another():
    bill = Bill(keep=10)
    for _ in range(25):
        bill.add(line(bill))
    first = json.loads(bill.page(limit=4))
    assert [entry["number"] for entry in first["entries"]] == [16, 17, 18, 19]
    assert first["next"] == 19
    assert first["entries"][0]["usage"] == {"prompt_tokens": 3}
    rest = json.loads(bill.page(since=first["next"]))
    assert [entry["number"] for entry in rest["entries"]] == [20, 21, 22, 23, 24, 25]
    assert "next" not in rest
    assert json.loads(bill.page(since=25))["entries"] == []
    assert json.loads(bill.page(since=99))["entries"] == []


def test_a_reset_forgets_everything_but_the_numbering():
    bill = Bill()
    bill.add(line(bill))
    bill.reset()
    assert json.loads(bill.page()) == {"requests": 0, "totals": {}, "entries": []}
    bill.add(line(bill))
    assert bill.entries()[0].number == 2


def test_totals_alone_keep_no_lines():
    bill = Bill(keep=0)
    bill.add(line(bill))
    assert bill.entries() == []
    assert bill.totals["m"].requests == 1
