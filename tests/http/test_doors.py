"""One suite over both doors: what HTTP allows a client to do, and what it gets back."""

from __future__ import annotations

import json
import signal
import threading
import time
import urllib.request

import pytest

from doors import CHAT, KEY, PRICE, Door, Ended, chat, chunked, eventually, get, open_doors, post

CONTENT = json.dumps(chat()).encode()


def words(answer_body: bytes) -> str:
    """The text of a chat, whole or streamed."""
    if answer_body.startswith(b"{"):
        found: str = json.loads(answer_body)["choices"][0]["message"]["content"]
        return found
    events = [line[6:] for line in answer_body.decode().split("\n") if line.startswith("data: {")]
    chunks = [json.loads(event) for event in events]
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])


# Ordinary requests.


def test_a_whole_answer(door: Door) -> None:
    answer = door.ask(post(chat()))
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-tollway-request-id"].startswith("req_")
    assert answer.headers["x-tollway-model"] == "fast"
    assert answer.headers["x-tollway-provider"] == "mock"
    assert answer.headers["x-tollway-attempts"] == "1"
    assert float(answer.headers["x-tollway-overhead-ms"]) < 1000
    usage = answer.json()["usage"]
    usd = (usage["prompt_tokens"] * PRICE["input"] + usage["completion_tokens"] * PRICE["output"]) / 1e6
    assert float(answer.headers["x-tollway-cost-usd"]) == pytest.approx(usd, rel=1e-9)
    assert "date" in answer.headers


def test_a_stream(door: Door) -> None:
    answer = door.ask(post(chat(stream=True)))
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert answer.body.count(b"[DONE]") == 1
    assert b'"usage"' not in answer.body, "asked for by the gateway, not by the client"
    assert words(answer.body) == words(door.ask(post(chat())).body)


def test_events_arrive_as_they_are_made(door: Door) -> None:
    with door.wire() as wire:
        wire.send(post(chat("mock/gpt-4o-mini+events=3+pace=400ms", stream=True)))
        started = time.monotonic()
        wire.head()
        wire._until(b"data: ")
        assert time.monotonic() - started < 0.35, "the first event waited for a later one"


@pytest.mark.parametrize("path", [CHAT, "/chat/completions", "/v1/completions", "/v1/embeddings"])
def test_every_endpoint(door: Door, path: str) -> None:
    body = {"model": "fast", "prompt": "Hello", "input": "Hello", "messages": chat()["messages"]}
    answer = door.ask(post(body, path=path))
    assert answer.status == 200, answer.raw
    assert answer.json()["object"] in ("chat.completion", "text_completion", "list")


def test_a_connection_is_kept(door: Door) -> None:
    with door.wire() as wire:
        seen = set()
        for _ in range(5):
            wire.send(post(chat()))
            answer = wire.answer()
            assert answer.status == 200
            assert "connection" not in answer.headers
            seen.add(answer.headers["x-tollway-request-id"])
        assert len(seen) == 5


def test_the_length_may_change_on_a_kept_connection(door: Door) -> None:
    with door.wire() as wire:
        for length in (1, 5, 10_000, 3, 100_000, 0, 7):
            wire.send(post(chat("mock/gpt-4o-mini+echo", "x" * length or "y")))
            assert words(wire.answer().body) == ("x" * length or "y")


def test_another_key_on_a_kept_connection(door: Door) -> None:
    with door.wire() as wire:
        wire.send(post(chat()))
        assert wire.answer().status == 200
        wire.send(post(chat(), key="sk-tw-nobody"))
        assert wire.answer().code == "invalid_api_key"
        wire.send(post(chat()))
        assert wire.answer().status == 200


# Framing.


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_chunked_body(door: Door, size: int) -> None:
    with door.wire() as wire:
        for _ in range(2):
            wire.send(post(chunked(CONTENT, size), "Transfer-Encoding: chunked"))
            assert wire.answer().status == 200
        wire.send(post(chat()))
        assert wire.answer().status == 200


def test_chunk_extensions_and_trailers(door: Door) -> None:
    body = b'%x;name="value"\r\n%b\r\n0\r\nx-checksum: 1\r\n\r\n' % (len(CONTENT), CONTENT)
    with door.wire() as wire:
        wire.send(post(body, "Transfer-Encoding: chunked", "Trailer: x-checksum") + post(chat()))
        assert wire.answer().status == 200
        assert wire.answer().status == 200


def test_expect_100_continue(door: Door) -> None:
    head, _, content = post(chat(), "Expect: 100-continue").partition(b"\r\n\r\n")
    with door.wire() as wire:
        wire.send(head + b"\r\n\r\n")
        assert wire.answer().status == 100
        wire.send(content)
        assert wire.answer().status == 200
        wire.send(post(chat()))
        assert wire.answer().status == 200


def test_a_refused_expectation_is_not_continued(door: Door) -> None:
    head, _, _ = post(chat(), "Expect: 100-continue", f"Content-Length: {10**9}").partition(b"\r\n\r\n")
    with door.wire() as wire:
        wire.send(head + b"\r\n\r\n")
        answer = wire.answer()
        assert answer.status == 413
        assert answer.code == "request_too_large"


@pytest.mark.parametrize("cuts", ["every", "head", "body"])
def test_a_request_in_pieces(door: Door, cuts: str) -> None:
    whole = post(chat())
    border = whole.index(b"\r\n\r\n") + 4
    places = {"every": range(1, len(whole)), "head": [border], "body": [border + 5, border + 9]}[cuts]
    with door.wire() as wire:
        at = 0
        for place in [*places, len(whole)]:
            wire.send(whole[at:place])
            at = place
        assert wire.answer().status == 200


def test_empty_lines_before_a_request(door: Door) -> None:
    with door.wire() as wire:
        wire.send(b"\r\n\r\n" + post(chat()) + b"\r\n" + post(chat()) + b"\r\n" + get("/v1/models"))
        assert [wire.answer().status for _ in range(3)] == [200, 200, 200]


def test_http_10(door: Door) -> None:
    for data in (post(chat(), version="1.0"), get("/v1/models", version="1.0")):
        with door.wire() as wire:
            wire.send(data)
            answer = wire.answer()
            assert answer.status == 200
            assert wire.ends() == b"", "HTTP/1.0 ends with the connection"


def test_connection_close(door: Door) -> None:
    for data in (post(chat(), "Connection: close"), get("/v1/models", "Connection: close")):
        with door.wire() as wire:
            wire.send(data)
            answer = wire.answer()
            assert answer.status == 200
            assert answer.headers["connection"] == "close"
            assert wire.ends() == b""


def test_a_stream_before_connection_close(door: Door) -> None:
    with door.wire() as wire:
        wire.send(post(chat(stream=True), "Connection: close"))
        assert wire.answer().body.endswith(b"[DONE]\n\n")
        assert wire.ends() == b""


def test_an_offer_to_upgrade_is_ignored(door: Door) -> None:
    lines = (
        "Upgrade: h2c",
        "Connection: Upgrade, HTTP2-Settings",
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    )
    if door.name == "lane":  # uvicorn drops the body of such a request
        with door.wire() as wire:
            wire.send(post(chat(), *lines))
            assert wire.answer().status == 200
    with door.wire() as wire:
        wire.send(get("/v1/models", *lines) + b"")
        assert wire.answer().status == 200
    with door.wire() as wire:
        wire.send(get("/v1/models", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"))
        assert wire.answer().status == 200


# Methods and targets.


def test_head(door: Door) -> None:
    with door.wire() as wire:
        for path in ("/v1/models", "/health/liveness", "/v1/models/fast"):
            wire.send(get(path))
            whole = wire.answer()
            wire.send(get(path, method="HEAD"))
            answer = wire.answer(bodiless=True)
            assert answer.status == whole.status == 200
            assert answer.headers["content-length"] == whole.headers["content-length"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_a_method_that_is_not_served(door: Door, method: str) -> None:
    with door.wire() as wire:
        wire.send(get(CHAT, method=method))
        answer = wire.answer(bodiless=method == "HEAD")
        assert answer.status == 405
        assert answer.headers["allow"] == "POST"
        wire.send(post(chat()))
        assert wire.answer().status == 200


def test_an_absolute_target(door: Door) -> None:
    for path in (f"http://gateway{CHAT}", f"http://gateway:4000{CHAT}"):
        assert door.ask(post(chat(), path=path)).status == 200
    assert door.ask(get("http://gateway/v1/models")).status == 200


def test_a_query_is_no_other_path(door: Door) -> None:
    assert door.ask(post(chat(), path=CHAT + "?api-version=2024-10-21")).status == 200
    assert door.ask(post(chat(), path=f"{CHAT}?key={KEY}", key="")).status == 200


def test_an_unknown_path(door: Door) -> None:
    for path in (
        "/",
        "/v2/chat/completions",
        "/v1/chat",
        "/v1/chat/completions/",
        "/nobody/v1/x",
        "/v1/../v1/x",
    ):
        answer = door.ask(post(chat(), path=path))
        assert answer.status == 404, path
        assert answer.code == "not_found"


# Several requests at once.


def test_pipelining(door: Door) -> None:
    requests = [
        post(chat("mock/gpt-4o-mini+echo", "one")),
        get("/v1/models/fast"),
        post(
            chunked(json.dumps(chat("mock/gpt-4o-mini+echo", "three")).encode()), "Transfer-Encoding: chunked"
        ),
        post(chat("mock/gpt-4o-mini+echo", "four", stream=True)),
        get("/nowhere"),
        get("/health/liveness"),
        post(b"{", path="/v1/embeddings"),
        post(chat("mock/gpt-4o-mini+echo", "eight")),
    ]
    with door.wire() as wire:
        wire.send(b"".join(requests))
        answers = [wire.answer() for _ in requests]
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 404, 200, 400, 200]
    assert [words(answers[at].body) for at in (0, 2, 3, 7)] == ["one", "three", "four", "eight"]
    assert answers[1].json()["id"] == "fast"


def test_pipelined_requests_are_answered_in_order(door: Door) -> None:
    slow = post(chat("mock/gpt-4o-mini+echo+latency=100ms", "slow"))
    quick = post(chat("mock/gpt-4o-mini+echo", "quick"))
    with door.wire() as wire:
        wire.send(slow + quick + slow + quick)
        assert [words(wire.answer().body) for _ in range(4)] == ["slow", "quick"] * 2


def test_more_is_sent_than_is_read_ahead(door: Door) -> None:
    """A hundred requests of 20 kB in one go: reading pauses, nothing is lost."""
    data = post(chat(text="x" * 20_000)) * 100
    with door.wire() as wire:
        wire.socket.settimeout(20)
        thread = threading.Thread(target=wire.send, args=(data,))
        thread.start()
        assert [wire.answer().status for _ in range(100)] == [200] * 100
        thread.join()


def test_the_connection_comes_back_to_the_lane(doors: dict[str, Door]) -> None:
    """uvicorn's protocol serves what the lane does not, and the lane goes on after it: seen by its own refusal of a
    second host, which uvicorn lets through to a refusal of ours with another connection header."""
    door = doors["lane"]
    with door.wire() as wire:
        for _ in range(3):
            wire.send(get("/v1/models"))
            assert wire.answer().status == 200
            wire.send(post(chat()))
            assert wire.answer().status == 200
        wire.send(post(chat(), "Host: again"))
        answer = wire.answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")


# Limits.


def test_a_body_at_the_limit_and_past_it(door: Door) -> None:
    limit = 256 * 1024
    body = json.dumps(chat(text="")).encode()
    fits = body.replace(b'"content": ""', b'"content": "' + b"x" * (limit - len(body)) + b'"')
    assert len(fits) == limit
    for lines, data in (((), fits), (("Transfer-Encoding: chunked",), chunked(fits, 65_536))):
        assert door.ask(post(data, *lines)).status == 200, lines
    for lines, data in (((), fits + b" "), (("Transfer-Encoding: chunked",), chunked(fits + b" ", 65_536))):
        with door.wire() as wire:
            wire.send(post(data, *lines))
            answer = wire.answer()
            assert (answer.status, answer.code) == (413, "request_too_large"), lines
            assert "262144 bytes" in answer.json()["error"]["message"]
            assert answer.headers["connection"] == "close"
    door.goes_on()


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_a_client_in_the_middle_of_a_large_body_reads_why_it_was_refused(door: Door, framing: str) -> None:
    """A server that closes at once resets the connection, and the client sees a broken pipe instead."""
    size = 20_000_000
    data = b"x" * size
    if framing == "chunked":
        request = post(b"%x\r\n%b\r\n0\r\n\r\n" % (size, data), "Transfer-Encoding: chunked")
    else:
        request = post(data)
    with door.wire() as wire:
        assert wire.send(request), "reset while sending"
        assert wire.answer().code == "request_too_large"


def test_headers_past_the_limit(door: Door) -> None:
    with door.wire() as wire:
        wire.send(post(chat(), "X-Filler: " + "x" * 7500))
        assert wire.answer().status == 200
    for line in ("X-Filler: " + "x" * 9000, "\r\n".join(f"x-{n}: {n}" for n in range(1000))):
        for data in (post(chat(), line), get("/v1/models", line)):
            with door.wire() as wire:
                wire.send(data)
                answer = wire.answer()
                assert (answer.status, answer.code) == (431, "headers_too_large")
    door.goes_on()


@pytest.mark.parametrize(
    "beginning",
    [
        b"POST / HTTP/1.1\r\n",
        get("/v1/models") + b"GET /v1/models HTTP/1.1\r\n",
        post(chat()) + b"GET /v1/models HTTP/1.1\r\n",
        post(b"5\r\nhello\r\n0\r\n", "Transfer-Encoding: chunked"),
    ],
    ids=["first", "behind a get", "behind a post", "trailers"],
)
def test_a_head_without_end_is_cut_off(doors: dict[str, Door], beginning: bytes) -> None:
    """First and following heads alike, and trailers, which are headers too."""
    door = doors["lane"]
    before = door.memory
    with door.wire() as wire:
        wire.send(beginning)
        for _ in range(500):  # 25 MB
            wire.send(b"x-filler: " + b"x" * 50_000)
        answers = b""
        try:
            while True:
                answers += wire.answer().raw
        except (Ended, TimeoutError):
            pass
        if not beginning.startswith(b"GET"):  # there the last answer is lost with the reset of the connection
            assert b'"headers_too_large"' in answers
    assert door.memory - before < 8_000_000
    door.goes_on()


def test_too_many_connections_are_closed() -> None:
    with open_doors("lane", max_connections=3) as opened:
        door = opened["lane"]
        held = [door.wire() for _ in range(3)]
        for wire, data in zip(held, (post(chat()), get("/v1/models"), post(chat())), strict=True):
            wire.send(data)
            assert wire.answer().status == 200
        with door.wire() as wire:
            wire.send(post(chat()))
            with pytest.raises(Ended):
                wire.answer()
        held.pop().socket.close()
        eventually(lambda: _served(door), what="a free place")
        for wire in held:
            wire.send(post(chat()))
            assert wire.answer().status == 200
            wire.socket.close()


def _served(door: Door) -> bool:
    with door.wire() as wire:
        wire.send(post(chat()))
        try:
            return wire.answer().status == 200
        except Ended:
            return False


# The end.


def test_sigterm_ends_gracefully() -> None:
    """A running stream comes to its end, idle connections are closed, nobody new gets in, the exit code is 0."""
    with open_doors("lane") as opened:
        door = opened["lane"]
        with door.wire() as idle, door.wire() as visiting, door.wire() as running, door.wire() as through:
            idle.send(post(chat()))
            assert idle.answer().status == 200
            visiting.send(get("/v1/models"))
            assert visiting.answer().status == 200
            running.send(post(chat("mock/gpt-4o-mini+events=10+pace=100ms", stream=True)))
            running.head()
            through.send(
                post(
                    chunked(json.dumps(chat("mock/gpt-4o-mini+latency=500ms")).encode()),
                    "Transfer-Encoding: chunked",
                )
            )
            eventually(lambda: _open(door) == 2, what="both requests at the provider")
            door.process.send_signal(signal.SIGTERM)
            assert idle.ends() == b""
            assert visiting.ends() == b""
            with pytest.raises(ConnectionRefusedError):
                door.wire()
            assert running.ends().endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            answer = through.answer()
            assert answer.status == 200
            assert answer.headers["connection"] == "close"
            assert through.ends() == b""
        assert door.process.wait(5) == 0
        assert "Traceback" not in door.log


def _open(door: Door) -> int:
    with urllib.request.urlopen(door.upstream.url.removesuffix("/v1") + "/stats", timeout=5) as answer:
        count: int = json.load(answer)["open"]
        return count


def test_the_grace_of_a_stop_has_an_end() -> None:
    with open_doors("lane", drain="1s") as opened:
        door = opened["lane"]
        with door.wire() as endless, door.wire() as through:
            endless.send(post(chat("mock/gpt-4o-mini+stall=2", stream=True)))
            _, headers, _ = endless.head()
            through.send(
                post(
                    chunked(json.dumps(chat("mock/gpt-4o-mini+stall=headers")).encode()),
                    "Transfer-Encoding: chunked",
                )
            )
            started = time.monotonic()
            door.process.send_signal(signal.SIGTERM)
            assert not endless.ends().endswith(b"0\r\n\r\n")
            through.ends()
            assert door.process.wait(5) == 0
            assert 0.9 < time.monotonic() - started < 4
        event = door.event(headers["x-tollway-request-id"])
        assert event["outcome"] == "cancelled"
        assert event["usage"]["output"] > 0
