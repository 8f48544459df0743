"""The simulator as tests and benchmarks see it: answers, faults, the bill, and who went away."""

import asyncio
import socket
import time
from email.utils import parsedate_to_datetime

import pytest

from tollway.simulator.knobs import Knobs
from tollway.simulator.server import Simulator


async def test_a_plain_answer_is_billed_as_sent(simulator, ask, chat):
    reply = await ask(chat(text="x" * 40), x_request_id="mine")
    said = reply.json()
    assert reply.status == 200
    assert reply.headers["x-request-id"] == "mine"
    assert said["usage"]["prompt_tokens"] == 3 + 3 + 10
    assert said["usage"]["completion_tokens"] == 32 == len(said["choices"][0]["message"]["content"]) / 4
    (entry,) = (await ask(path="/bill")).json()["entries"]
    assert entry == {
        "number": 1,
        "id": said["id"],
        "model": "gpt-4o-mini",
        "endpoint": "chat.completions",
        "status": 200,
        "streamed": False,
        "complete": True,
        "events": 0,
        "usage": said["usage"],
        "prompt_tokens": 16,
        "completion_tokens": 32,
        "request_id": "mine",
        "tokens": {
            "input": 16,
            "cache_read": 0,
            "cache_write_5m": 0,
            "cache_write_1h": 0,
            "output": 32,
            "reasoning": 0,
        },
    }


async def test_equal_requests_get_equal_answers_with_ids_of_their_own(simulator, ask, chat):
    """The second answer comes from memory: it must differ in nothing but its ids."""
    for body in (
        chat(),
        chat(stream=True),
        chat(tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]),
    ):
        replies = [await ask(body, x_request_id=str(number)) for number in range(3)]
        replies.append(await ask(body))
        ids = [(reply.chunks[0] if body.get("stream") else reply.json())["id"] for reply in replies]
        assert len(set(ids)) == 4
        assert [reply.headers["x-request-id"] for reply in replies[:3]] == ["0", "1", "2"]
        assert replies[3].headers["x-request-id"] == "req_" + ids[3].removeprefix("chatcmpl-")
        serials = [one.removeprefix("chatcmpl-").encode() for one in ids]
        bodies = {
            reply.body.replace(serial, b"").replace(str(_created(reply)).encode(), b"")
            for reply, serial in zip(replies, serials, strict=True)
        }
        assert len(bodies) == 1
        assert [entry.id for entry in simulator.bill.entries()[-4:]] == ids


def _created(reply):
    return (reply.chunks[0] if reply.data else reply.json())["created"]


async def test_memory_respects_new_defaults(ask, chat):
    assert (await ask(chat())).status == 200
    assert (await ask({"status": 503}, "/defaults", method="PUT")).json()["status"] == 503
    assert (await ask(chat())).status == 503
    assert (await ask(path="/defaults", method="DELETE")).json()["status"] is None
    assert (await ask(chat())).status == 200


async def test_defaults_of_one_model(ask, chat):
    await ask({"status": 500, "crlf": True}, "/defaults?model=bad", method="PUT")
    assert (await ask(chat("bad"))).status == 500
    assert (await ask(chat("bad+status=502"))).status == 502
    assert (await ask(chat("good"))).status == 200
    wrong = await ask({"stats": 500}, "/defaults", method="PUT")
    assert wrong.status == 400
    assert "'status'" in wrong.json()["error"]["message"]


async def test_the_three_ways_to_set_a_knob_outrank_one_another(chat, post, read):
    made = Simulator(Knobs(tokens=1))
    await made.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    sizes = []
    for request in (
        post(chat()),
        post(chat("gpt-4o-mini+tokens=2")),
        post(chat("gpt-4o-mini+tokens=2"), x_mock_tokens="3"),
    ):
        writer.write(request)
        sizes.append((await read(reader)).json()["usage"]["completion_tokens"])
    writer.close()
    await made.stop()
    assert sizes == [1, 2, 3]
    assert list(made.bill.totals) == ["gpt-4o-mini"]


@pytest.mark.parametrize(
    ("suffix", "status", "header", "kind", "code"),
    [
        ("+status=429+retry_after=2", 429, ("retry-after", "2"), "requests", "rate_limit_exceeded"),
        (
            "+status=429+retry_after=1500ms",
            429,
            ("retry-after-ms", "1500"),
            "requests",
            "rate_limit_exceeded",
        ),
        ("+status=500", 500, None, "server_error", None),
        ("+status=503", 503, None, "server_error", "service_unavailable"),
        ("+status=400", 400, None, "invalid_request_error", None),
        ("+status=418", 418, None, "invalid_request_error", None),
        ("+status=599", 599, None, "server_error", None),
        (
            "+status=429+error_type=insufficient_quota+error_code=insufficient_quota",
            429,
            None,
            "insufficient_quota",
            "insufficient_quota",
        ),
    ],
)
async def test_errors_bear_their_shape(ask, chat, suffix, status, header, kind, code):
    reply = await ask(chat("m" + suffix, stream=True))
    error = reply.json()["error"]
    assert reply.status == status
    assert (error["type"], error["code"], error["param"]) == (kind, code, None)
    assert error["message"]
    if header:
        assert reply.headers[header[0]] == header[1]


async def test_retry_after_as_a_date(ask, chat):
    reply = await ask(chat("m+status=429+retry_after=date:30"))
    ahead = parsedate_to_datetime(reply.headers["retry-after"]).timestamp() - time.time()
    assert 27 < ahead < 31


@pytest.mark.parametrize(
    ("kind", "content_type", "starts"),
    [("html", "text/html", b"<html>"), ("plain", "text/plain", b"Simulated"), ("empty", "text/plain", b"")],
)
async def test_error_bodies_that_are_not_json(ask, chat, kind, content_type, starts):
    reply = await ask(chat(f"m+status=502+body={kind}"))
    assert reply.status == 502
    assert reply.headers["content-type"].startswith(content_type)
    assert reply.body.startswith(starts)
    assert bool(reply.body) == bool(starts)


async def test_an_earned_error_says_why_whatever_the_body_knob(ask, chat):
    reply = await ask(chat("m+body=html", n=0))
    assert reply.status == 400
    assert reply.json()["error"]["param"] == "n"


async def test_the_first_requests_of_a_scope_fail(ask, chat):
    async def statuses(model: str) -> list[int]:
        return [(await ask(chat(model))).status for _ in range(4)]

    assert await statuses("a+fail_first=2+status=503") == [503, 503, 200, 200]
    assert await statuses("b+fail_first=1") == [500, 200, 200, 200]
    assert await statuses("c+fail_first=3+scope=one") == [500, 500, 500, 200]
    assert await statuses("d+fail_first=3+scope=one") == [200, 200, 200, 200]


async def test_a_share_of_requests_fails_exactly(ask, chat):
    failed = [(await ask(chat("a+errors=25%+status=429"))).status for _ in range(12)]
    assert failed.count(429) == 3
    assert failed == [200, 200, 200, 429] * 3
    assert [(await ask(chat("b+errors=0"))).status for _ in range(3)] == [200] * 3


async def test_knobs_that_do_not_exist_are_refused(ask, chat):
    for reply in (await ask(chat("m+tokes=3")), await ask(chat("m"), x_mock_tokes="3")):
        assert reply.status == 400
        assert reply.json()["error"]["code"] == "unknown_knob"
        assert "'tokens'" in reply.json()["error"]["message"]


async def test_what_is_not_there_says_so(ask, chat):
    missing = await ask(path="/v1/nothing")
    assert (missing.status, missing.json()["error"]["type"]) == (404, "invalid_request_error")
    wrong = await ask(path="/v1/chat/completions")
    assert wrong.status == 405
    head = await ask(path="/v1/models", method="HEAD")
    assert (head.status, head.body) == (200, b"")


async def test_a_required_key(chat, post, read):
    made = Simulator(require_key="sk-right-key")
    await made.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    statuses = []
    for headers in ({}, {"authorization": "Bearer sk-wrong-key"}, {"authorization": "Bearer sk-right-key"}):
        for _ in range(2):
            writer.write(post(chat(), **headers))
            reply = await read(reader)
            statuses.append(reply.status)
            assert b"sk-wrong-key" not in reply.body
    writer.write(b"GET /health HTTP/1.1\r\n\r\n")
    assert (await read(reader)).status == 200
    writer.close()
    await made.stop()
    assert statuses == [401, 401, 401, 401, 200, 200]


async def test_models_outside_the_list(ask, chat):
    assert (await ask(chat("anything"))).status == 200
    reply = await ask(chat("anything+known_only"))
    assert (reply.status, reply.json()["error"]["code"]) == (404, "model_not_found")
    assert (await ask(chat("gpt-4o+known_only"))).status == 200


async def test_a_client_that_leaves_before_the_headers(simulator, connect, chat, post, until):
    _, writer = await connect()
    writer.write(post(chat("m+latency=5s"), x_request_id="r1"))
    await until(lambda: simulator.open == 1)
    writer.close()
    await until(lambda: simulator.open == 0)
    (gone,) = simulator.aborted
    assert (gone.phase, gone.model, gone.endpoint, gone.request_id) == (
        "before-headers",
        "m",
        "chat.completions",
        "r1",
    )
    (entry,) = simulator.bill.entries()
    assert (entry.complete, entry.usage, entry.prompt_tokens, entry.completion_tokens) == (False, None, 0, 0)


async def test_a_client_that_leaves_mid_stream(simulator, connect, chat, post, until):
    reader, writer = await connect()
    writer.write(post(chat("m+pace=5ms+tokens=500", stream=True, stream_options={"include_usage": True})))
    while b"fox" not in await reader.readuntil(b"\n\n"):
        pass
    writer.close()
    await until(lambda: simulator.open == 0)
    (gone,) = simulator.aborted
    assert gone.phase == "mid-stream"
    (entry,) = simulator.bill.entries()
    assert (entry.complete, entry.usage) == (False, None)
    assert 1 <= entry.completion_tokens < 500
    assert entry.completion_tokens == entry.events - 1 == gone.events - 1


async def test_a_client_that_leaves_a_large_body(simulator, connect, chat, post, until):
    _, writer = await connect()
    writer.transport.pause_reading()
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    writer.write(post(chat("m+malformed=body_huge")))
    await until(lambda: simulator.open == 1)
    writer.transport.abort()
    await until(lambda: simulator.open == 0)
    assert [gone.phase for gone in simulator.aborted] == ["mid-body"]


async def test_a_client_that_leaves_its_own_request(simulator, connect, chat, post, until):
    _, writer = await connect()
    writer.write(post(chat())[:-5])
    await until(lambda: len(simulator.connections) == 1)
    await asyncio.sleep(0.01)
    writer.close()
    await until(lambda: simulator.aborted_total == 1)
    assert simulator.aborted[0].phase == "mid-request"
    assert simulator.bill.requests == 0


async def test_a_stop_is_nobody_leaving(chat, post, until):
    made = Simulator()
    await made.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    writer.write(post(chat("m+stall=2", stream=True)))
    await reader.readuntil(b"\n\n")
    await made.stop()
    await made.stop()
    assert not made.connections
    assert made.aborted_total == 0
    assert await reader.read() is not None
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", made.port)


async def test_own_pages(simulator, ask, chat, connect, post, until):
    assert (await ask(path="/health")).json() == {"status": "ok"}
    await ask(chat(text="find me"), authorization="Bearer k")
    _, writer = await connect()
    writer.write(post(chat("m+latency=5s")))
    await until(lambda: simulator.open == 1)
    stats = (await ask(path="/stats")).json()
    assert (stats["open"], stats["connections"], stats["aborted"]) == (1, 2, 0)
    writer.close()
    await until(lambda: simulator.open == 0)
    stats = (await ask(path="/stats")).json()
    assert (stats["open"], stats["aborted"], stats["aborted_phases"]) == (0, 1, {"before-headers": 1})
    received = (await ask(path="/requests")).json()
    assert received[0]["path"] == "/v1/chat/completions"
    assert received[0]["headers"]["authorization"] == "Bearer k"
    assert "find me" in received[0]["body"]
    assert (await ask(path="/bill?since=x")).status == 400
    assert (await ask(path="/bill?totals=1")).json()["requests"] == 2
    assert "entries" not in (await ask(path="/bill?totals=1")).json()
    await ask(path="/bill", method="DELETE")
    assert (await ask(path="/bill")).json() == {"requests": 0, "totals": {}, "entries": []}


async def test_the_bill_is_what_many_clients_were_served(simulator, chat, post, read):
    async def client(number: int) -> tuple[int, int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
        prompt = completion = 0
        for turn in range(10):
            streamed = turn % 2 == 0
            body = chat(f"m+tokens={turn}", "x" * (number + turn), stream=streamed)
            if streamed:
                body["stream_options"] = {"include_usage": True}
            writer.write(post(body))
            reply = await read(reader)
            usage = reply.chunks[-1]["usage"] if streamed else reply.json()["usage"]
            prompt += usage["prompt_tokens"]
            completion += usage["completion_tokens"]
        writer.close()
        return prompt, completion

    served = await asyncio.gather(*(client(number) for number in range(20)))
    total = simulator.bill.totals["m"]
    assert (total.requests, total.complete) == (200, 200)
    assert total.prompt_tokens == sum(prompt for prompt, _ in served)
    assert total.completion_tokens == sum(completion for _, completion in served) == 20 * sum(range(10))
    assert len({entry.id for entry in simulator.bill.entries()}) == 200
