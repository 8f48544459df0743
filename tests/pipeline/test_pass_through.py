"""A client's own request to a provider's own API: what arrives there, what comes back, what is written down."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from doors import (
    BLOCKED,
    EXPIRED,
    KEY,
    PRICED,
    SECRETS,
    UPSTREAM,
    Door,
    Wire,
    chat,
    chunked,
    configuration,
    eventually,
    get,
    post,
)
from tollway.simulator.running import start_in_thread

NARROW = "sk-tw-one-model-canary-44d1"
WHOLE = "sk-tw-whole-provider-canary-91"
CHAT = "/mock/v1/chat/completions"
MODEL = "gpt-4o-mini"


@pytest.fixture(scope="module", params=["lane", "asgi"])
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with start_in_thread() as upstream:
        config: dict[str, Any] = configuration(upstream, max_body="1MiB")
        priced = {"type": "openai", "base_url": upstream.url, "api_key": UPSTREAM}
        strict = {**config["providers"]["mock"], "unpriced": "refuse"}
        gone = {**config["providers"]["mock"], "base_url": "http://127.0.0.1:9/v1"}
        config["providers"]["mock"] = {**config["providers"]["mock"], "unknown_objects": "pass"}
        config["providers"] |= {"openai": priced, "strict": strict, "gone": gone}
        config["keys"] += [
            {"name": "one", "key": NARROW, "models": [f"mock/{MODEL}", "fast"]},
            {"name": "whole", "key": WHOLE, "models": ["mock/*"]},
            {"name": "poor", "key": "sk-tw-poor", "budget": {"usd": 0.000001}},
            {"name": "rare", "key": "sk-tw-rare", "limits": {"rpm": 1}},
        ]
        opened = Door(request.param, tmp_path_factory.mktemp("pass"), upstream, config)
        try:
            opened.wait()
            yield opened
        finally:
            opened.stop()


def received(door: Door) -> dict[str, Any]:
    """The provider's last request."""
    url = door.upstream.url.removesuffix("/v1") + "/requests"
    with urllib.request.urlopen(url, timeout=5) as answer:
        found = json.load(answer)
    rows = found["requests"] if isinstance(found, dict) else found
    last: dict[str, Any] = rows[-1]
    return last


def test_an_answer_comes_back_as_it_was_made(door: Door) -> None:
    answer = door.ask(post(chat(MODEL), path=CHAT))
    assert answer.status == 200
    assert answer.json()["model"] == MODEL
    assert answer.headers["x-tollway-provider"] == "mock"
    with urllib.request.urlopen(
        urllib.request.Request(
            door.upstream.url + "/chat/completions",
            json.dumps(chat(MODEL)).encode(),
            {"authorization": "Bearer x"},
        ),
        timeout=5,
    ) as direct:
        words = json.load(direct)["choices"]
    assert answer.json()["choices"] == words
    assert int(answer.headers["content-length"]) == len(answer.body)


@pytest.mark.parametrize("path", ["client_secrets", "sessions", "transcription_sessions", "calls"])
def test_nobody_gets_a_session_past_the_gateway(door: Door, path: str) -> None:
    for prefix in ("/mock/v1/realtime/", "/mock/realtime/"):
        answer = door.ask(post({"model": "gpt-realtime"}, path=prefix + path))
        assert (answer.status, answer.code) == (404, "not_found")


def test_what_the_provider_sees(door: Door) -> None:
    """The client's bytes and its own headers; never its credentials, our headers or those of a hop."""
    data = (
        b'{ "model":"gpt-4o-mini",\n "messages": [{"role":"user","content":"a  b"}], "unknown_field": 1.50 }'
    )
    lines = (
        "X-Custom: kept", "OpenAI-Organization: org-1", "OpenAI-Beta: assistants=v2", "User-Agent: their-sdk/1.0",
        f"x-api-key: {KEY}", f"api-key: {KEY}", f"x-goog-api-key: {KEY}", f"x-litellm-api-key: {KEY}",
        "Cookie: session=1", "Proxy-Authorization: Basic eDp5", "Connection: keep-alive, X-Secret-Hop",
        "X-Secret-Hop: 1", "TE: trailers", "Keep-Alive: timeout=5", "X-Forwarded-For: 10.0.0.1",
        "X-Tollway-Trick: 1", "X-LiteLLM-Trick: 1", "X-Portkey-Trick: 1", "Forwarded: for=10.0.0.1",
        "Accept-Encoding: br", "Origin: http://evil.example",
    )  # fmt: skip
    assert door.ask(post(data, *lines, path=f"{CHAT}?beta=true&key={KEY}")).status == 200
    seen = received(door)
    headers = seen["headers"]
    assert seen["method"] == "POST"
    assert seen["path"] == "/v1/chat/completions"
    assert seen["query"] == "beta=true"
    assert seen["body"].encode() == data
    assert headers["authorization"] == f"Bearer {UPSTREAM}"
    assert headers["x-custom"] == "kept"
    assert headers["openai-organization"] == "org-1"
    assert headers["openai-beta"] == "assistants=v2"
    assert headers["host"] == f"127.0.0.1:{door.upstream.port}"
    assert headers["content-length"] == str(len(data))
    assert headers["accept-encoding"] == "identity"
    assert not set(headers) & {
        "x-api-key", "api-key", "x-goog-api-key", "x-litellm-api-key", "cookie", "proxy-authorization", "keep-alive",
        "te", "x-secret-hop", "x-forwarded-for", "x-tollway-trick", "x-litellm-trick", "x-portkey-trick", "forwarded",
        "origin", "transfer-encoding", "expect",
    }  # fmt: skip
    assert not [secret for secret in SECRETS if secret != UPSTREAM and secret in json.dumps(seen)]


def test_a_chunked_body_arrives_whole(door: Door) -> None:
    data = json.dumps(chat(MODEL)).encode()
    assert door.ask(post(chunked(data), "Transfer-Encoding: chunked", path=CHAT)).status == 200
    assert received(door)["body"].encode() == data
    assert received(door)["headers"]["content-length"] == str(len(data))


def test_any_method_and_path(door: Door) -> None:
    answer = door.ask(get("/mock/v1/models"))
    assert answer.status == 200
    assert received(door)["method"] == "GET"
    for method in ("DELETE", "PUT", "PATCH"):
        answer = door.ask(post({"a": 1}, path="/mock/v1/things/thing-1%20x?after=1", method=method))
        assert answer.status in (404, 405)
        seen = received(door)
        assert (seen["method"], seen["path"], seen["query"]) == (method, "/v1/things/thing-1%20x", "after=1")


def test_head(door: Door) -> None:
    with door.wire() as wire:
        wire.send(get("/mock/v1/models", method="HEAD"))
        answer = wire.answer(bodiless=True)
        assert received(door)["method"] == "HEAD"
        wire.send(get("/mock/v1/models"))
        assert wire.answer().status == 200
        assert answer.status in (200, 404, 405)


def test_a_path_does_not_leave_the_provider(door: Door) -> None:
    before = door.upstream.simulator.requests
    for path in (
        "/mock/../v1/models", "/mock/v1/../../bill", "/mock/%2e%2e/bill", "/mock/v1/%252e%252e/bill", "/mock//bill",
        "/mock/v1/a%2fb", "/mock/v1/a%5cb", "/mock/v1/a%00b", "/mock/v1/a%0d%0ab",
    ):  # fmt: skip
        answer = door.ask(get(path))
        assert answer.status in (400, 404), path
        assert answer.code in ("invalid_request", "not_found")
    assert door.upstream.simulator.requests == before


# Who may.


def test_a_key_is_needed(door: Door) -> None:
    before = door.upstream.simulator.requests
    for key, status, code in (
        ("", 401, "invalid_api_key"),
        ("sk-tw-nobody", 401, "invalid_api_key"),
        (UPSTREAM, 401, "invalid_api_key"),
        (EXPIRED, 401, "key_expired"),
        (BLOCKED, 403, "key_blocked"),
    ):
        answer = door.ask(post(chat(MODEL), path=CHAT, key=key))
        assert (answer.status, answer.code) == (status, code)
    answer = door.ask(post(chat(MODEL), "x-api-key: other", path=CHAT))
    assert answer.code == "ambiguous_credentials"
    assert door.upstream.simulator.requests == before


def test_the_list_of_a_key_holds(door: Door) -> None:
    """A key for one model passes requests to that model, and nothing that touches more."""
    assert door.ask(post(chat(MODEL), path=CHAT, key=NARROW)).status == 200
    before = door.upstream.simulator.requests
    allowed = chat(MODEL)
    refused = [
        post(chat("gpt-4o"), path=CHAT, key=NARROW),
        get("/mock/v1/models", key=NARROW),
        post({"messages": []}, path=CHAT, key=NARROW),
        post(allowed, "Content-Type: text/plain", path=CHAT, key=NARROW),
        post(allowed, path="/mock/v1/files/file-1", method="DELETE", key=NARROW),
        post(allowed, path="/mock/v1/fine_tuning/jobs", key=NARROW),
        post(allowed, path="/mock/openai/deployments/gpt-4o/chat/completions", key=NARROW),
        post(allowed, path="/mock/v1/chat/completions/x", key=NARROW),
        post(chat(MODEL), path="/other/v1/chat/completions", key=NARROW),
        post(chat(MODEL), path="/other/v1/chat/completions", key=WHOLE),
    ]
    for data in refused:
        answer = door.ask(data)
        assert (answer.status, answer.code) == (403, "model_not_allowed"), data
        assert "mock/" in answer.json()["error"]["message"] or "other/" in answer.json()["error"]["message"]
    assert door.upstream.simulator.requests == before
    assert door.ask(get("/mock/v1/models", key=WHOLE)).status == 200
    assert door.ask(post(chat("gpt-4o"), path=CHAT, key=WHOLE)).status == 200


def test_a_second_model_in_the_body_reaches_nobody(door: Door) -> None:
    """What is judged is what is sent: in a small body two names are refused, of a large one the judged one goes on."""
    twice = '{"model": "gpt-4o", "messages": [{"role": "user", "content": "%s"}], "model": "gpt-4o-mini"}'
    answer = door.ask(post((twice % "hi").encode(), path=CHAT, key=NARROW))
    assert (answer.status, answer.json()["error"]["param"]) == (400, "model")
    assert door.ask(post((twice % ("x" * 300_000)).encode(), path=CHAT, key=NARROW)).status == 200
    body = received(door)["body"]
    assert body.count('"model"') == 1
    assert json.loads(body)["model"] == "gpt-4o-mini"


def test_limits_and_budgets_hold(door: Door) -> None:
    assert door.ask(post(chat(MODEL), path=CHAT, key="sk-tw-rare")).status == 200
    answer = door.ask(post(chat(MODEL), path=CHAT, key="sk-tw-rare"))
    assert (answer.status, answer.code) == (429, "rate_limit_exceeded")
    assert int(answer.headers["retry-after"]) > 0
    answer = door.ask(post(chat("gpt-4o"), path="/openai/v1/chat/completions", key="sk-tw-poor"))
    assert (answer.status, answer.code) == (402, "budget_exceeded")


def test_unpriced_requests_are_refused_where_they_are(door: Door) -> None:
    answer = door.ask(post(chat("nobody-knows"), path="/strict/v1/chat/completions"))
    assert (answer.status, answer.code) == (400, "model_unpriced")
    assert door.ask(get("/strict/v1/models")).status == 200, "reading costs nothing"


# What is written down.


def test_an_answer_is_metered(door: Door) -> None:
    answer = door.ask(post(chat("gpt-4o-mini"), path="/openai/v1/chat/completions", key=PRICED))
    usage = answer.json()["usage"]
    event = door.event(answer.headers["x-tollway-request-id"])
    assert (event["endpoint"], event["key"], event["provider"]) == ("passthrough", "priced", "openai")
    assert (event["outcome"], event["status"], event.get("attempt", 1)) == ("ok", 200, 1)
    assert event["upstream_model"] == "gpt-4o-mini"
    assert event["usage"]["input"] == usage["prompt_tokens"]
    assert event["usage"]["output"] == usage["completion_tokens"]
    assert event.get("priced", True)
    assert event["cost_nano_usd"] == usage["prompt_tokens"] * 150 + usage["completion_tokens"] * 600
    assert float(answer.headers["x-tollway-cost-usd"]) == pytest.approx(event["cost_nano_usd"] / 1e9)


def test_a_stream_is_relayed_untouched_and_metered(door: Door) -> None:
    body = chat("gpt-4o-mini", stream=True, stream_options={"include_usage": True})
    answer = door.ask(post(body, path="/openai/v1/chat/completions"))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.body.endswith(b"data: [DONE]\n\n")
    chunks = [json.loads(line[6:]) for line in answer.body.decode().split("\n") if line.startswith("data: {")]
    usage = chunks[-1]["usage"]
    assert "cost" not in usage
    event = door.event(answer.headers["x-tollway-request-id"])
    assert event["streamed"] is True
    assert (event["usage"]["input"], event["usage"]["output"]) == (
        usage["prompt_tokens"],
        usage["completion_tokens"],
    )
    assert event["cost_nano_usd"] == usage["prompt_tokens"] * 150 + usage["completion_tokens"] * 600


def test_a_stream_without_usage_is_unpriced_not_free(door: Door) -> None:
    answer = door.ask(post(chat("gpt-4o-mini", stream=True), path="/openai/v1/chat/completions"))
    assert b'"usage"' not in answer.body, "nothing is asked for in the client's name"
    event = door.event(answer.headers["x-tollway-request-id"])
    assert event["priced"] is False


def test_reading_costs_nothing(door: Door) -> None:
    answer = door.ask(get("/mock/v1/models"))
    event = door.event(answer.headers["x-tollway-request-id"])
    assert (event.get("cost_nano_usd", 0), event.get("priced", True)) == (0, True)


# What goes wrong.


def test_a_refusal_comes_back_as_it_was_said(door: Door) -> None:
    answer = door.ask(post(chat(f"{MODEL}+status=429+retry_after=7+error_message=slow%20down"), path=CHAT))
    assert answer.status == 429
    assert answer.headers["retry-after"] == "7"
    assert answer.json()["error"]["message"] == "slow down"
    assert answer.headers["x-tollway-provider"] == "mock"
    event = door.event(answer.headers["x-tollway-request-id"])
    assert (event["outcome"], event["status"], event.get("cost_nano_usd", 0)) == ("error", 429, 0)


@pytest.mark.parametrize(
    "knobs", ["cut=headers", "malformed=garbage", "malformed=status_line", "malformed=header_huge"]
)
def test_a_broken_answer_is_a_502_that_names_the_provider(door: Door, knobs: str) -> None:
    answer = door.ask(post(chat(f"{MODEL}+{knobs}"), path=CHAT))
    assert answer.status == 502
    assert answer.code in ("upstream_malformed", "upstream_unreachable")
    assert "mock" in answer.json()["error"]["message"]
    assert door.event(answer.headers["x-tollway-request-id"])["outcome"] == "error"


def test_a_provider_that_is_away(door: Door) -> None:
    answer = door.ask(get("/gone/v1/models"))
    assert (answer.status, answer.code) == (502, "upstream_unreachable")
    assert "gone" in answer.json()["error"]["message"]


def test_a_stream_that_breaks_off_does_not_look_complete(door: Door) -> None:
    with door.wire() as wire:
        wire.send(post(chat(f"{MODEL}+cut=3", stream=True), path=CHAT))
        _, headers, _ = wire.head()
        rest = wire.ends()
        assert b"data: " in rest
        assert not rest.endswith(b"0\r\n\r\n")
    assert door.event(headers["x-tollway-request-id"])["outcome"] == "error"
    door.goes_on()


def test_a_client_that_leaves_ends_the_providers_work(door: Door) -> None:
    wire: Wire = door.wire()
    wire.send(post(chat(f"{MODEL}+stall=3", stream=True), path=CHAT))
    _, headers, _ = wire.head()
    wire.socket.close()
    eventually(lambda: door.upstream.simulator.aborted_total >= 1, what="the provider's connection closed")
    event = door.event(headers["x-tollway-request-id"])
    assert (event["outcome"], event["status"]) == ("cancelled", 499)
