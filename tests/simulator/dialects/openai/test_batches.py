"""Batches: every line is answered as its endpoint would; the batch is complete when its time has come."""

import json

import pytest

openai = pytest.importorskip("openai")

URL = "/v1/chat/completions"


def lines(*models, url=URL):
    body = {"messages": [{"role": "user", "content": "Hello"}]}
    asked = [
        {"custom_id": f"c{place}", "method": "POST", "url": url, "body": {**body, "model": model}}
        for place, model in enumerate(models)
    ]
    return "\n".join(map(json.dumps, asked)).encode()


def uploaded(sdk, content):
    return sdk.files.create(file=("in.jsonl", content), purpose="batch").id


def test_a_batch(sdk, checked, last_line):
    ident = uploaded(sdk, lines("m+tokens=3", "m+status=500", "m+tokens=4"))
    made = checked(sdk.batches.create(input_file_id=ident, endpoint=URL, completion_window="24h"))
    assert (made.status, made.request_counts.total) == ("validating", 3)
    line = last_line()
    assert (line.endpoint, line.id, line.model) == ("batches", made.id, "m")
    assert (line.prompt_tokens, line.completion_tokens, line.tokens["requests"]) == (16, 7, 3)
    done = checked(sdk.batches.retrieve(made.id))
    assert (done.status, done.request_counts.completed, done.request_counts.failed) == ("completed", 2, 1)
    assert done.usage.output_tokens == 7
    results = [json.loads(one) for one in sdk.files.content(done.output_file_id).text.splitlines()]
    assert [one["custom_id"] for one in results] == ["c0", "c2"]
    assert [one["response"]["body"]["usage"]["completion_tokens"] for one in results] == [3, 4]
    (failed,) = [json.loads(one) for one in sdk.files.content(done.error_file_id).text.splitlines()]
    assert (failed["custom_id"], failed["response"]["status_code"]) == ("c1", 500)
    assert made.id in [one.id for one in sdk.batches.list()]


def test_a_batch_takes_its_time(sdk):
    ident = uploaded(sdk, lines("m"))
    fields = {"input_file_id": ident, "endpoint": URL, "completion_window": "24h"}
    slow = sdk.batches.create(**fields, extra_headers={"x-mock-job": "60s"})
    assert sdk.batches.retrieve(slow.id).status == "in_progress"
    assert sdk.batches.cancel(slow.id).status == "cancelled"
    assert sdk.batches.retrieve(slow.id).output_file_id is None
    with pytest.raises(openai.ConflictError):
        sdk.batches.cancel(sdk.batches.create(**fields).id)


@pytest.mark.parametrize("content", [b"nonsense", b'{"custom_id": 1}', b"\n"])
def test_a_file_that_is_no_batch(sdk, content):
    ident = uploaded(sdk, content)
    with pytest.raises(openai.BadRequestError, match="input file"):
        sdk.batches.create(input_file_id=ident, endpoint=URL, completion_window="24h")


def test_lines_for_another_endpoint_fail_alone(sdk):
    ident = uploaded(sdk, lines("m", url="/v1/embeddings"))
    made = sdk.batches.create(input_file_id=ident, endpoint=URL, completion_window="24h")
    done = sdk.batches.retrieve(made.id)
    assert (done.output_file_id, done.request_counts.failed) == (None, 1)
