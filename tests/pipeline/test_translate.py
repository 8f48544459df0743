"""Requests whose dialect is not the provider's: what goes up, what comes back, what is written down, in both doors."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from doors import KEY, PRICE, Door, configuration, eventually, get, post
from tollway.simulator.running import start_in_thread

MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"
POOR = "sk-tw-poor-canary-51"
LIMITED = "sk-tw-limited-canary-52"


@pytest.fixture(scope="module", params=["lane", "asgi"])
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with start_in_thread() as upstream:
        origin = upstream.url.removesuffix("/v1")
        config: dict[str, Any] = configuration(upstream)
        config["providers"] |= {
            "claude": {"type": "anthropic", "base_url": origin, "api_key": "sk-of-claude"},
            "gem": {"type": "gemini", "base_url": origin, "api_key": "sk-of-gemini"},
            "native": {**config["providers"]["mock"], "languages": ["anthropic.messages"]},
            "local": {"type": "ollama", "base_url": origin, "languages": ["ollama.chat"]},
        }
        config["models"] |= {
            "sonnet": {"targets": [{"model": "claude/claude-sonnet-4-5", "price": PRICE}]},
            "flash": {"targets": [{"model": "gem/gemini-2.5-flash", "price": PRICE}]},
            "lenient": {"targets": ["local/llama"], "on_unsupported": "drop"},
            "exact": {"targets": ["claude/claude-sonnet-4-5"], "on_unsupported": "refuse"},
            "rescued": {
                "targets": ["mock/m+status=500", "claude/claude-sonnet-4-5"],
                "retry": {"attempts": 1},
            },
            "suited": {"targets": ["local/llama", "mock/gpt-4o"]},
        }
        config["keys"] += [
            {"name": "poor", "key": POOR, "budget": {"usd": 0.0000001}},
            {"name": "limited", "key": LIMITED, "limits": {"rpm": 1000, "tpm": 100000}},
        ]
        opened = Door(request.param, tmp_path_factory.mktemp("translate"), upstream, config)
        try:
            opened.wait()
            yield opened
        finally:
            opened.stop()


def messages(model: str, **more: object) -> dict[str, object]:
    return {
        "model": model,
        "max_tokens": 300,
        "messages": [{"role": "user", "content": "Hello there"}],
        **more,
    }


def chat(model: str, **more: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "Hello there"}], **more}


def contents(**more: object) -> dict[str, object]:
    return {"contents": [{"role": "user", "parts": [{"text": "Hello there"}]}], **more}


def generate(model: str, *, stream: bool = False) -> str:
    return f"/v1beta/models/{model}:" + ("streamGenerateContent?alt=sse" if stream else "generateContent")


def events(body: bytes) -> list[Any]:
    lines = body.decode().replace("\r\n", "\n").split("\n")
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ") and line != "data: [DONE]"]


def _received(door: Door) -> Any:
    import urllib.request

    with urllib.request.urlopen(door.upstream.url.removesuffix("/v1") + "/requests", timeout=5) as answer:
        found = json.load(answer)
    rows = found["requests"] if isinstance(found, dict) else found
    return rows[-1]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (MESSAGES, messages("fast")),
        (RESPONSES, {"model": "fast", "input": "Hello there"}),
        (MESSAGES, messages("flash")),
        (RESPONSES, {"model": "sonnet", "input": "Hello there"}),
        ("/v1/chat/completions", chat("sonnet", max_tokens=300)),
        ("/v1/chat/completions", chat("flash")),
        ("/v2/chat", chat("sonnet", max_tokens=300)),
    ],
)
def test_the_event_says_what_the_provider_billed(
    door: Door, path: str, body: dict[str, object], stream: bool
) -> None:
    answer = door.ask(post({**body, "stream": stream}, path=path))
    assert answer.status == 200, answer.raw
    event = door.event(answer.headers["x-tollway-request-id"])
    billed = json.loads(door_bill(door))["entries"][-1]
    used = event["usage"]
    assert (used["input"], used["output"]) == (billed["tokens"]["input"], billed["tokens"]["output"])
    assert event["outcome"] == "ok"
    assert not event.get("estimated", False)
    assert event.get("streamed", False) is stream
    cost = used["input"] * 150_000_000 + used["output"] * 600_000_000
    assert event["cost_nano_usd"] == (cost + 500_000) // 1_000_000
    assert event["endpoint"] == {MESSAGES: "messages", RESPONSES: "responses", "/v2/chat": "chat"}.get(
        path, "chat.completions"
    )


def door_bill(door: Door) -> bytes:
    import urllib.request

    with urllib.request.urlopen(door.upstream.url.removesuffix("/v1") + "/bill", timeout=5) as answer:
        told: bytes = answer.read()
    return told


def test_a_path_names_the_model(door: Door) -> None:
    answer = door.ask(post(contents(), path=generate("flash")))
    assert answer.status == 200, answer.raw
    assert answer.json()["candidates"][0]["content"]["parts"][0]["text"]
    slashed = door.ask(post(contents(), path=generate("mock/gpt-4o")))
    assert slashed.status == 200, slashed.raw
    assert slashed.headers["x-tollway-deployment"] == "mock/gpt-4o"
    encoded = door.ask(post(contents(), path=generate("mock%2Fgpt-4o")))
    assert encoded.status == 200, encoded.raw
    streamed = door.ask(post(contents(), path=generate("mock/gpt-4o", stream=True)))
    assert streamed.headers["content-type"].startswith("text/event-stream")
    pieces = events(streamed.body)
    assert pieces[-1]["candidates"][0]["finishReason"] == "STOP"
    assert pieces[-1]["usageMetadata"]["promptTokenCount"] > 0


def test_a_deployment_named_as_azure_does(door: Door) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}]}
    path = "/openai/deployments/fast/chat/completions?api-version=2024-10-21"
    answer = door.ask(post(body, f"api-key: {KEY}", path=path, key=""))
    assert answer.status == 200, answer.raw
    assert answer.headers["x-tollway-model"] == "fast"


def test_credentials_of_each_dialect(door: Door) -> None:
    assert door.ask(post(messages("fast"), f"x-api-key: {KEY}", path=MESSAGES, key="")).status == 200
    header = f"x-goog-api-key: {KEY}"
    assert door.ask(post(contents(), header, path=generate("fast"), key="")).status == 200
    assert door.ask(post(contents(), path=generate("fast") + f"?key={KEY}", key="")).status == 200
    assert door.ask(post(contents(), path=generate("fast") + "?key=sk-wrong", key="")).status == 401


@pytest.mark.parametrize(
    ("path", "body", "shape"),
    [
        (MESSAGES, messages("fast"), lambda told: told["type"] == "error" and told["error"]["type"]),
        (RESPONSES, {"model": "fast", "input": "x"}, lambda told: told["error"]["type"]),
        (generate("fast"), contents(), lambda told: told["error"]["status"]),
    ],
)
def test_refusals_have_the_clients_shape(door: Door, path: str, body: Any, shape: Any) -> None:
    wrong_key = door.ask(post(body, path=path, key="sk-wrong"))
    assert wrong_key.status == 401
    assert shape(wrong_key.json()), wrong_key.body
    missing = door.ask(post({"x": 1}, path=path.replace("fast", "nobody")))
    assert missing.status in (400, 404)
    assert shape(missing.json())
    broke = door.ask(post(body, path=path, key=POOR))
    assert broke.status == 402
    assert shape(broke.json())
    assert "budget" in json.dumps(broke.json())
    broken = door.ask(post(b"{", path=path))
    assert broken.status == 400
    assert shape(broken.json())


def test_an_upstream_error_has_the_clients_shape_and_its_own_status(door: Door) -> None:
    answer = door.ask(post(messages("mock/gpt-4o+status=429+retry_after=70"), path=MESSAGES))
    assert answer.status == 429
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert answer.headers["retry-after"] == "70"
    assert answer.headers["request-id"] == answer.headers["x-tollway-request-id"]


def test_another_dialect_takes_over(door: Door) -> None:
    for stream in (False, True):
        answer = door.ask(post(messages("rescued", stream=stream), path=MESSAGES))
        assert answer.status == 200, answer.raw
        assert answer.headers["x-tollway-provider"] == "claude"
        assert answer.headers["x-tollway-attempts"] == "2"


def test_what_a_target_cannot_carry_is_named_or_refused(door: Door) -> None:
    hint = door.ask(post(chat("sonnet", max_tokens=300, seed=7, presence_penalty=0.5)))
    assert hint.status == 200, hint.raw
    assert {"seed", "presence_penalty"} <= set(hint.headers["x-tollway-dropped"].split(","))
    several = door.ask(post(chat("sonnet", max_tokens=300, n=3)))
    assert several.status == 400
    assert several.code == "unsupported_by_model"
    assert several.json()["error"]["unsupported"] == ["n"]
    strict = door.ask(post(chat("exact", max_tokens=300, seed=7)))
    assert (strict.status, strict.code) == (400, "unsupported_by_model")
    dropped = door.ask(post(chat("lenient", n=3)))
    assert dropped.status == 200, dropped.raw
    assert "n" in dropped.headers["x-tollway-dropped"].split(",")


def test_a_target_that_can_carry_it_is_chosen(door: Door) -> None:
    answer = door.ask(post(chat("suited", n=2)))
    assert answer.status == 200, answer.raw
    assert answer.headers["x-tollway-provider"] == "mock"
    assert len(answer.json()["choices"]) == 2


def test_same_dialect_passes_untouched(door: Door) -> None:
    body = (
        b'{"model": "sonnet",  "max_tokens":300, "metadata":{"user_id":"u"}, '
        b'"messages":[{"role":"user","content":"a  b"}]}'
    )
    answer = door.ask(post(body, "anthropic-beta: some-beta-2026", path=MESSAGES))
    assert answer.status == 200, answer.raw
    seen = _received(door)
    assert seen["headers"]["anthropic-beta"] == "some-beta-2026"
    assert seen["headers"]["x-api-key"] == "sk-of-claude"
    assert json.loads(seen["body"])["messages"][0]["content"] == "a  b"
    assert "x-tollway-dropped" not in answer.headers


def test_another_makers_proof_in_the_history_does_not_reach_the_provider(door: Door) -> None:
    """Thinking that a gateway sealed for the client is opened again, though both sides speak the same."""
    first = door.ask(
        post(
            messages(
                "gem/gemini-2.5-flash+reasoning=12",
                thinking={"type": "enabled", "budget_tokens": 1024},
                max_tokens=4000,
            ),
            path=MESSAGES,
        )
    )
    assert first.status == 200, first.raw
    blocks = first.json()["content"]
    history = [
        {"role": "user", "content": "Hello there"},
        {"role": "assistant", "content": blocks},
        {"role": "user", "content": "And now?"},
    ]
    again = door.ask(post(messages("sonnet", messages=history), path=MESSAGES))
    assert again.status == 200, again.raw
    assert "tollway-" not in _received(door)["body"]


def test_a_stream_that_breaks_ends_in_the_clients_dialect(door: Door) -> None:
    answer = door.ask(post(messages("mock/gpt-4o+events=20+cut=5", stream=True), path=MESSAGES))
    assert answer.status == 200
    last = events(answer.body)[-1]
    assert last["type"] == "error"
    event = door.event(answer.headers["x-tollway-request-id"])
    assert event["outcome"] == "error"
    assert event["estimated"] is True
    assert event["usage"]["output"] > 0
    door.goes_on()


def test_a_relayed_stream_that_breaks_counts_what_was_said(door: Door) -> None:
    answer = door.ask(post(messages("native/claude+events=40+cut=12", stream=True), path=MESSAGES))
    assert events(answer.body)[-1]["type"] == "error"
    event = door.event(answer.headers["x-tollway-request-id"])
    assert (event["outcome"], event["estimated"]) == ("error", True)
    assert event["usage"]["output"] > 3


def test_an_error_event_before_content_is_an_ordinary_error(door: Door) -> None:
    answer = door.ask(post(chat("claude/claude-sonnet-4-5+error_event=0", max_tokens=300, stream=True)))
    assert answer.status >= 400, answer.raw
    assert answer.json()["error"]["message"]


def test_a_client_that_leaves_is_charged_for_what_was_said(door: Door) -> None:
    with door.wire() as wire:
        wire.send(post(messages("mock/gpt-4o+events=200+pace=20ms", stream=True), path=MESSAGES))
        _, headers, _ = wire.head()
        time.sleep(0.2)
    event = door.event(headers["x-tollway-request-id"])
    assert event["outcome"] == "cancelled"
    assert event["usage"]["output"] > 0
    assert event["streamed"] is True


def test_limits_are_told_as_the_dialect_does(door: Door) -> None:
    answer = door.ask(post(messages("fast"), path=MESSAGES, key=LIMITED))
    assert answer.headers["anthropic-ratelimit-requests-limit"] == "1000"
    assert int(answer.headers["anthropic-ratelimit-tokens-remaining"]) < 100_000
    assert answer.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    assert answer.headers["x-ratelimit-limit-requests"] == "1000"


def test_tokens_are_counted(door: Door) -> None:
    body = {"model": "fast", "messages": [{"role": "user", "content": "Hello there, how are you today?"}]}
    made = door.ask(post(body, path=MESSAGES + "/count_tokens"))
    assert made.status == 200, made.raw
    assert 5 <= made.json()["input_tokens"] <= 40
    assert made.headers["x-tollway-token-count"] != "provider"
    asked = door.ask(post({**body, "model": "sonnet"}, path=MESSAGES + "/count_tokens"))
    assert asked.headers["x-tollway-token-count"] == "provider", asked.raw

    def counted(body: object) -> Any:
        """Once the vocabulary is loaded: the first count may be late, and then goes by size."""

        def asked() -> Any:
            answer = door.ask(post(body, path="/v1beta/models/fast:countTokens"))
            assert answer.status == 200, answer.raw
            return "bytes" not in answer.headers["x-tollway-token-count"] and answer.json()["totalTokens"]

        return eventually(asked)

    wrapped = {"generateContentRequest": {"model": "models/fast", **contents()}}
    assert counted(wrapped) == counted(contents()) > 0


def test_embeddings_as_gemini_asks_for_them(door: Door) -> None:
    one = {"content": {"parts": [{"text": "Hello"}]}}
    answer = door.ask(post(one, path="/v1beta/models/fast:embedContent"))
    assert answer.status == 200, answer.raw
    assert len(answer.json()["embedding"]["values"]) > 8
    many = {"requests": [{"model": "models/fast", **one}, {"model": "models/fast", **one}]}
    answer = door.ask(post(many, path="/v1beta/models/fast:batchEmbedContents"))
    assert len(answer.json()["embeddings"]) == 2


def test_models_are_listed_as_the_client_knows_lists(door: Door) -> None:
    names = {row["id"] for row in door.ask(get("/v1/models")).json()["data"]}
    claude = door.ask(get("/v1/models", "anthropic-version: 2023-06-01")).json()
    assert {row["id"] for row in claude["data"]} == names
    assert claude["data"][0]["type"] == "model"
    google = door.ask(get("/v1beta/models")).json()
    assert {row["name"].removeprefix("models/") for row in google["models"]} == names
    assert door.ask(get("/v1beta/models/fast")).json()["name"] == "models/fast"


def test_unknown_methods_are_not_served(door: Door) -> None:
    answer = door.ask(post(contents(), path="/v1beta/models/fast:makeCoffee"))
    assert answer.status == 404
    assert answer.json()["error"]["status"] == "NOT_FOUND"


def test_nothing_is_left_running(door: Door) -> None:
    def idle() -> bool:
        told = json.loads(door_bill(door))
        return not told.get("open", 0)

    eventually(idle)
