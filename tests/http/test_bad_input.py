"""Whatever a client sends gets an error that says what to do, over both doors, and the server goes on.

Where HTTP leaves the connection usable, the next request on it is served; where it does not, the connection is closed.
"""

# ruff: noqa: UP031

from __future__ import annotations

import json
import urllib.request
from typing import NamedTuple

import pytest

from doors import (
    ADMIN,
    BLOCKED,
    CHAT,
    EXPIRED,
    KEY,
    NARROW,
    PRICED,
    SECRETS,
    UPSTREAM,
    Door,
    Ended,
    chat,
    chunked,
    get,
    open_doors,
    post,
)

EMBEDDINGS = "/v1/embeddings"
COMPLETIONS = "/v1/completions"


class Case(NamedTuple):
    """``words`` must be in the message."""

    sent: bytes
    status: int
    code: str
    words: str = ""
    param: str | None = None


def body(text: str | bytes, *lines: str, path: str = CHAT) -> bytes:
    return post(text if isinstance(text, bytes) else text.encode(), *lines, path=path)


def fields(**given: object) -> bytes:
    return post({**chat(), **given})


DEEP = b'{"model": "fast", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
TWICE = '{"model": "fast", "model": "slow", "messages": [{"role": "user", "content": "hi"}]}'
HELLO = '"messages": [{"role": "user", "content": "hi"}]'

CASES = {
    # JSON
    "empty": Case(body(""), 400, "invalid_json", "is empty"),
    "no body at all": Case(get(CHAT, method="POST"), 400, "invalid_json", "is empty"),
    "blank": Case(body("  \r\n"), 400, "invalid_json"),
    "not json": Case(body("hello"), 400, "invalid_json", "not valid JSON: invalid character (byte 0)"),
    "cut short": Case(body('{"model": "fast", "messages": ['), 400, "invalid_json", "ends too early"),
    "behind the end": Case(body(json.dumps(chat()) + "x"), 400, "invalid_json", "trailing characters"),
    "trailing comma": Case(body('{"model": "fast",}'), 400, "invalid_json", "trailing comma"),
    "single quotes": Case(body("{'model': 'fast'}"), 400, "invalid_json"),
    "not a number": Case(body('{"model": "fast", "temperature": NaN}'), 400, "invalid_json"),
    "bad escape": Case(body('{"model": "fast", "x": "\\q"}'), 400, "invalid_json", "escape"),
    "array": Case(body("[]"), 400, "invalid_json", "must be a JSON object"),
    "string": Case(body('"fast"'), 400, "invalid_json", "must be a JSON object"),
    "null": Case(body("null"), 400, "invalid_json", "must be a JSON object"),
    "byte order mark": Case(body(b"\xef\xbb\xbf" + json.dumps(chat()).encode()), 400, "invalid_json"),
    "utf-16": Case(body(json.dumps(chat()).encode("utf-16-le")), 400, "invalid_json", "NUL"),
    "nul byte": Case(body(b'{"model": "fast\x00", ' + HELLO.encode() + b"}"), 400, "invalid_json", "NUL"),
    "invalid utf-8": Case(body(b'{"model": "f\xff"}'), 400, "invalid_json", "not valid UTF-8 at byte 12"),
    "overlong utf-8": Case(body(b'{"model": "f\xc0\xaf"}'), 400, "invalid_json", "not valid UTF-8"),
    "cut utf-8": Case(body(b'{"model": "f\xe2\x82"}'), 400, "invalid_json", "not valid UTF-8"),
    "surrogate in utf-8": Case(body(b'{"model": "\xed\xa0\x80"}'), 400, "invalid_json", "not valid UTF-8"),
    "half a surrogate pair": Case(body('{"model": "\\ud800 and more"}'), 400, "invalid_json"),
    "deep": Case(body(DEEP), 400, "invalid_json", "nested too deeply"),
    "deep objects": Case(body(b'{"a":' * 30_000 + b"1" + b"}" * 30_000), 400, "invalid_json", "deeply"),
    "deep and open": Case(body(b'{"a":' + b"[" * 200_000), 400, "invalid_json"),
    "gzip": Case(body(b"\x1f\x8b\x08\x00\x00\x00", "Content-Encoding: gzip"), 400, "invalid_json"),
    # model
    "no model": Case(body("{%s}" % HELLO), 400, "invalid_request", "GET /v1/models", "model"),
    "model null": Case(fields(model=None), 400, "invalid_request", "names no model", "model"),
    "model empty": Case(fields(model=""), 400, "invalid_request", "names no model", "model"),
    "model number": Case(fields(model=4), 400, "invalid_request", "a string, not a number", "model"),
    "model list": Case(fields(model=["fast"]), 400, "invalid_request", "a string, not an array", "model"),
    "model object": Case(fields(model={}), 400, "invalid_request", "a string, not an object", "model"),
    "model twice": Case(body(TWICE), 400, "invalid_request", "more than once", "model"),
    "model twice, spelled": Case(
        body(TWICE.replace('"model": "slow"', '"\\u006dodel" : "slow"')), 400, "invalid_request", "once", "model"
    ),
    "model twice, same": Case(body(TWICE.replace("slow", "fast")), 400, "invalid_request", "once", "model"),
    "model unknown": Case(fields(model="fsat"), 404, "model_not_found", "Did you mean 'fast'?", "model"),
    "model of nobody": Case(
        fields(model="nobody/gpt-4o"), 404, "model_not_found", "No provider 'nobody'", "model"
    ),
    "model without end": Case(fields(model="mock/" + "m" * 100_000), 404, "model_not_found", "", "model"),
    "model with a newline": Case(fields(model="mock/a\r\nx-evil: 1"), 404, "model_not_found", "", "model"),
    "model with a nul": Case(fields(model="mock/a\0b"), 404, "model_not_found", "", "model"),
    "model not allowed": Case(
        post(chat("slow"), key=NARROW), 403, "model_not_allowed", "Key narrow may not use model 'slow'", "model"
    ),
    "provider not allowed": Case(post(chat("mock/gpt-4o"), key=NARROW), 403, "model_not_allowed", "", "model"),
    # other fields
    "no messages": Case(body('{"model": "fast"}'), 400, "invalid_request", "no 'messages'", "messages"),
    "messages null": Case(fields(messages=None), 400, "invalid_request", "not null", "messages"),
    "messages string": Case(fields(messages="hi"), 400, "invalid_request", "not a string", "messages"),
    "messages object": Case(fields(messages={}), 400, "invalid_request", "not an object", "messages"),
    "no prompt": Case(post({"model": "fast"}, path=COMPLETIONS), 400, "invalid_request", "", "prompt"),
    "prompt number": Case(
        post({"model": "fast", "prompt": 1}, path=COMPLETIONS), 400, "invalid_request", "not a number", "prompt"
    ),
    "no input": Case(post({"model": "fast"}, path=EMBEDDINGS), 400, "invalid_request", "", "input"),
    "input boolean": Case(
        post({"model": "fast", "input": True}, path=EMBEDDINGS), 400, "invalid_request", "a boolean", "input"
    ),
    "stream string": Case(fields(stream="true"), 400, "invalid_request", "true or false", "stream"),
    "stream number": Case(fields(stream=1), 400, "invalid_request", "not a number", "stream"),
    "stream options list": Case(
        fields(stream=True, stream_options=[]), 400, "invalid_request", "an object", "stream_options"
    ),
    "include usage number": Case(
        fields(stream=True, stream_options={"include_usage": 1}), 400, "invalid_request", "", "include_usage"
    ),
    "max_tokens string": Case(fields(max_tokens="5"), 400, "invalid_request", "an integer", "max_tokens"),
    "max_tokens fraction": Case(fields(max_tokens=1.5), 400, "invalid_request", "an integer", "max_tokens"),
    "max_tokens negative": Case(fields(max_tokens=-1), 400, "invalid_request", "negative", "max_tokens"),
    "max_tokens huge": Case(
        body('{"model":"fast",%s,"max_tokens":1%s}' % (HELLO, "0" * 5000)), 400, "invalid_request", "", "max_tokens"
    ),
    "n huge": Case(
        post(('{"model":"fast",%s,"n":1%s}' % (HELLO, "0" * 4000)).encode(), key=PRICED),
        400, "invalid_request", "'n' is too large", "n",
    ),
    "n beyond a budget": Case(post({**chat(), "n": 2**50}, key=PRICED), 402, "budget_exceeded", "budget"),
    # content type
    "form": Case(body("a=b", "Content-Type: application/x-www-form-urlencoded"), 415, "unsupported_media_type"),
    "text": Case(
        body(json.dumps(chat()), "Content-Type: text/plain"),
        415, "unsupported_media_type", "Content type 'text/plain' is not served here. Send application/json.",
    ),
    "multipart": Case(body("--x", "Content-Type: multipart/form-data; boundary=x"), 415, "unsupported_media_type"),
    # keys
    "no key": Case(post(chat(), key=""), 401, "invalid_api_key", "Authorization: Bearer"),
    "unknown key": Case(post(chat(), key="sk-tw-nobody"), 401, "invalid_api_key", "not known here"),
    "key of another case": Case(post(chat(), key=KEY.upper()), 401, "invalid_api_key"),
    "key with more behind": Case(post(chat(), key=KEY + "x"), 401, "invalid_api_key"),
    "basic": Case(post(chat(), "Authorization: Basic YTpi", key=""), 401, "invalid_api_key", "'Bearer'"),
    "bearer without key": Case(post(chat(), "Authorization: Bearer", key=""), 401, "invalid_api_key"),
    "expired": Case(post(chat(), key=EXPIRED), 401, "key_expired", "expired"),
    "blocked": Case(post(chat(), key=BLOCKED), 403, "key_blocked", "blocked"),
    "two credentials": Case(post(chat(), f"x-api-key: {NARROW}"), 400, "ambiguous_credentials", "Send one"),
    "one header twice": Case(
        post(chat(), f"Authorization: Bearer {NARROW}"), 400, "ambiguous_credentials", "twice"
    ),
    "query and header": Case(post(chat(), path=f"{CHAT}?key={NARROW}"), 400, "ambiguous_credentials"),
    "query twice": Case(post(chat(), path=f"{CHAT}?key={KEY}&key=x", key=""), 400, "ambiguous_credentials"),
    # paths
    "unknown path": Case(get("/v1/nothing"), 404, "not_found", "There is no GET '/v1/nothing' here"),
    "long path": Case(get("/" + "x" * 5000), 404, "not_found"),
    "get": Case(get(CHAT), 405, "method_not_allowed", "takes POST"),
    "model page unknown": Case(get("/v1/models/nothing"), 404, "model_not_found", "'nothing'", "model"),
    "pass-through to nobody": Case(get("/nobody/v1/models"), 404, "not_found"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_error_says_what_to_do_and_the_connection_stays(door: Door, name: str) -> None:
    case = CASES[name]
    with door.wire() as wire:
        wire.send(case.sent)
        answer = wire.answer()
        assert (answer.status, answer.code) == (case.status, case.code), answer.raw
        error = answer.json()["error"]
        assert case.words in error["message"]
        assert error["param"] == case.param
        assert len(error["message"]) < 700
        assert error["message"][0].isupper() or error["message"].startswith(("'", "key "))
        assert error["message"].endswith((".", "?"))
        assert error["type"]
        for secret in SECRETS:
            assert secret.encode() not in answer.raw
        wire.send(post(chat()))
        assert wire.answer().status == 200, "the same connection"
    door.goes_on()


CL_TE = ("Content-Length: 5", "Transfer-Encoding: chunked")
FATAL = {
    "length and chunked": post(b"0\r\n\r\n", *CL_TE),
    "chunked and length": post(b"0\r\n\r\n", *reversed(CL_TE)),
    "length and chunked elsewhere": post(b"0\r\n\r\n", *CL_TE, path="/v1/models"),
    "two lengths": post(chat(), "Content-Length: 5", "Content-Length: 6"),
    "two equal lengths": post(b"hello", "Content-Length: 5", "Content-Length: 5"),
    "list of lengths": post(b"hello", "Content-Length: 5, 5"),
    "negative length": post(b"hello", "Content-Length: -5"),
    "signed length": post(b"hello", "Content-Length: +5"),
    "length in words": post(b"hello", "Content-Length: five"),
    "endless length": post(b"hello", "Content-Length: " + "9" * 40),
    "unknown coding": post(chat(), "Transfer-Encoding: chunked, gzip"),
    "space before the colon": post(chat(), "X-Odd : 1"),
    "folded header": post(chat(), "X-Odd: 1\r\n folded"),
    "line feed alone": post(chat(), "X-Odd: 1\nX-Evil: 2"),
    "carriage return alone": post(chat(), "X-Odd: 1\rX-Evil: 2"),
    "nul in a header": post(chat(), "X-Odd: a\x00b"),
    "nul in a name": post(chat(), "X-\x00: b"),
    "no colon": post(chat(), "X-Odd"),
    "no name": post(chat(), ": x"),
    "unknown method": get("/v1/models", method="BREW"),
    "space in the target": get("/v1/ models"),
    "version 9": get("/v1/models", version="9.9"),
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40 + b"\r\n\r\n",
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "garbage": b"\x00\x01\x02\xff\xfe garbage\r\n\r\n",
    "bad chunk size": post(b"zz\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
    "negative chunk size": post(b"-1\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
    "endless chunk size": post(b"f" * 17 + b"\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
    "chunk without end": post(b"5\r\nhello, and more\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
    "connect": get("example.com:443", method="CONNECT"),
}


@pytest.mark.parametrize("name", FATAL)
def test_what_is_not_http_is_refused_and_closed(door: Door, name: str) -> None:
    """Nothing behind it is read as a request: what the client meant is not known any more."""
    with door.wire() as wire:
        wire.send(FATAL[name] + get("/v1/models"))
        answer = wire.answer()
        assert answer.status == 400, answer.raw
        if door.name == "lane":  # under a stock uvicorn these are uvicorn's own refusals
            assert answer.code == "invalid_request"
            assert answer.json()["error"]["message"].startswith("The request")
        assert answer.headers["connection"] == "close"
        assert wire.ends() == b""
    door.goes_on()


def test_two_hosts(door: Door) -> None:
    for path in (CHAT, CHAT + "?x=1"):
        answer = door.ask(post(chat(), "Host: again", path=path))
        assert (answer.status, answer.code) == (400, "invalid_request")
        assert "repeats its host header" in answer.json()["error"]["message"]


def test_an_answer_on_its_way_is_not_broken_by_what_follows_it(doors: dict[str, Door]) -> None:
    """A pipelined request that is none: the one before it is answered, then the connection ends."""
    for first in (
        post(chat("mock/gpt-4o-mini+latency=100ms")),
        post(
            chunked(json.dumps(chat("mock/gpt-4o-mini+latency=100ms")).encode()), "Transfer-Encoding: chunked"
        ),
        get("/mock/v1/models?latency"),
    ):
        with doors["lane"].wire() as wire:
            wire.send(first + b"\x00 garbage\r\n\r\n")
            assert wire.answer().status == 200
            assert wire.ends().startswith((b"", b"HTTP/1.1 400"))
    doors["lane"].goes_on()


def test_same_credential_in_two_headers_is_one(door: Door) -> None:
    lines = (
        f"x-api-key: {KEY}",
        f"api-key: {KEY}",
        f"x-goog-api-key: {KEY}",
        f"x-litellm-api-key: Bearer {KEY}",
    )
    assert door.ask(post(chat(), *lines, f"Authorization: bearer  {KEY}", key="")).status == 200
    for line in (*lines, f"x-portkey-api-key: {KEY}"):
        assert door.ask(post(chat(), line, key="")).status == 200


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/x+json"]
)
def test_json_by_other_names(door: Door, content_type: str) -> None:
    assert door.ask(post(chat(), f"Content-Type: {content_type}")).status == 200


def test_unusual_but_valid_bodies(door: Door) -> None:
    for text in (
        ' \r\n\t{ "model" : "fast" , %s } \n' % HELLO,
        '{"\\u006dodel": "fast", %s}' % HELLO,
        '{"model": "fast", "messages": [{"role": "user", "content": "a \\u0000 b \\"model\\": 1"}], "model2": 1}',
        '{"model": "fast", %s, "metadata": {"model": "x", "\\u006dodel": "y"}}' % HELLO,
        '{"model": "fast", %s, "stream": null, "max_tokens": null, "n": null, "stream_options": null}'
        % HELLO,
        '{"model": "fast", %s, "x": 1e300, "y": -0.0, "z": %s}' % (HELLO, "9" * 400),
    ):
        assert door.ask(body(text)).status == 200, text


@pytest.mark.parametrize(
    ("knobs", "status"),
    [
        (f"status=401+error_message=bad%20key%20{UPSTREAM}", 401),
        (f"status=500+error_message={UPSTREAM}+error_code={UPSTREAM}", 500),
        (f"status=400+body=plain+error_message={UPSTREAM}", 400),
        ("malformed=json", 200),
        ("malformed=status_line", 502),
        ("malformed=garbage", 502),
        ("cut=headers", 502),
    ],
)
def test_a_provider_gives_nothing_away(door: Door, knobs: str, status: int) -> None:
    answer = door.ask(post(chat(f"mock/gpt-4o-mini+{knobs}")))
    assert answer.status == status, answer.raw
    if status != 200:
        assert "mock" in answer.json()["error"]["message"]
        assert answer.headers["x-tollway-provider"] == "mock"
    for secret in SECRETS:
        assert secret.encode() not in answer.raw


@pytest.mark.parametrize("path", [CHAT, "/mock" + CHAT])
def test_an_error_in_the_middle_of_a_stream_gives_nothing_away(door: Door, path: str) -> None:
    model = f"gpt-4o-mini+events=6+error_event=3+error_message=bad%20{UPSTREAM}"
    answer = door.ask(post(chat(model if path != CHAT else f"mock/{model}", stream=True), path=path))
    assert answer.status == 200
    assert b'"error"' in answer.body
    assert b"bad [redacted]" in answer.body
    assert UPSTREAM.encode() not in answer.body
    event = door.event(answer.headers["x-tollway-request-id"])
    if path == CHAT:
        assert event["error"] == "bad [redacted]"


def test_digits_behind_a_head_without_length_are_not_its_length(doors: dict[str, Door]) -> None:
    """The lane knows a head again by its bytes, save for the length."""
    bare = get(CHAT, method="POST")
    with doors["lane"].wire() as wire:
        wire.send(bare)
        assert wire.answer().code == "invalid_json"
        wire.send(bare + b"5\r\nhello" + b"\r\n\r\n")
        assert "is empty" in wire.answer().json()["error"]["message"]
        answer = wire.answer()
        assert (answer.code, answer.headers["connection"]) == ("invalid_request", "close")


def set_defaults(door: Door, **knobs: object) -> None:
    """What the simulator does from now on."""
    url = door.upstream.url.removesuffix("/v1") + "/defaults"
    for method, data in (("DELETE", None), ("PUT", json.dumps(knobs).encode())):
        with urllib.request.urlopen(urllib.request.Request(url, data, method=method), timeout=5) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("name", ["lane", "asgi"])
def test_no_secret_and_no_trace_in_the_logs(name: str) -> None:
    """Every case once more, over a server whose whole output is then searched."""
    with open_doors(name) as opened:
        door = opened[name]
        for case in CASES.values():
            assert door.ask(case.sent).status == case.status
        for data in FATAL.values():
            with door.wire() as wire:
                wire.send(data)
                try:
                    wire.answer()
                except Ended:
                    pass
        for knobs in ({"status": 500}, {"status": 401}, {"error_event": 1}):
            set_defaults(door, error_message=f"bad key {UPSTREAM}", error_code=UPSTREAM, **knobs)
            for stream in (False, True):
                for data in (
                    post(chat(stream=stream)),
                    post(chat("gpt-4o", stream=stream), path="/mock" + CHAT),
                ):
                    assert UPSTREAM.encode() not in door.ask(data).raw
        set_defaults(door)
        door.ask(get(f"/mock/v1/models?key={KEY}"))
        door.ask(get("/v1/models", key=ADMIN))
        door.goes_on()
        door.stop()
        for secret in SECRETS:
            assert secret not in door.log
        assert "Traceback" not in door.log
