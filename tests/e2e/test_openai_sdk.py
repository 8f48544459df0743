"""OpenAI's own Python SDK against a real gateway, with a virtual key: what it gets is what OpenAI would give it."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel
from served import PRICE, Served, fetch, served, wait_until

EMBEDDING = {"model": "mock/text-embedding-3-small", "price": {"input": 0.02}}
CONFIG = {
    "models": {
        "small": {"targets": [{"model": "mock/gpt-4o-mini", "price": PRICE}]},
        "tokens-50": {"targets": [{"model": "mock/gpt-4o-mini+tokens=50", "price": PRICE}]},
        "embed": {"targets": [EMBEDDING]},
        "instruct": {
            "targets": [{"model": "mock/gpt-3.5-turbo-instruct", "price": {"input": 1.5, "output": 2}}]
        },
        "flaky": {
            "targets": ["mock/gpt-4o-mini+status=503+fail_first=1+scope=flaky"],
            "retry": {"attempts": 1},
        },
        "late": {
            "targets": ["mock/gpt-4o-mini+stall=headers"],
            "retry": {"attempts": 1},
            "timeouts": {"first_byte": "300ms", "first_token": "200ms"},
        },
    },
}
HELLO: Any = [{"role": "user", "content": "Say hello."}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
CLOCK: Any = {
    "type": "function",
    "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}},
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("gateway"), CONFIG) as running:
        yield running


@pytest.fixture(scope="module")
def key(gateway: Served) -> str:
    return gateway.key("sdk")


@pytest.fixture(scope="module")
def client(gateway: Served, key: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def direct(gateway: Served) -> Iterator[OpenAI]:
    """The provider itself, to compare with."""
    with OpenAI(base_url=gateway.upstream.url, api_key="sk-any", max_retries=0) as made:
        yield made


def plain(answer: BaseModel) -> dict[str, Any]:
    """An answer without what differs from one time to the next."""
    return answer.model_dump(exclude={"id", "created"})


def test_a_chat_is_what_the_provider_says(client: OpenAI, direct: OpenAI, gateway: Served) -> None:
    raw = client.chat.completions.with_raw_response.create(model="small", messages=HELLO, temperature=0.3)
    answer = raw.parse()
    assert plain(answer) == plain(
        direct.chat.completions.create(model="gpt-4o-mini", messages=HELLO, temperature=0.3)
    )
    assert answer.choices[0].message.content
    assert answer.usage is not None
    nano = answer.usage.prompt_tokens * 150 + answer.usage.completion_tokens * 600
    headers = raw.headers
    assert headers["x-tollway-model"] == "small"
    assert headers["x-tollway-provider"] == "mock"
    assert headers["x-tollway-attempts"] == "1"
    assert round(float(headers["x-tollway-cost-usd"]) * 1e9) == nano
    assert float(headers["x-tollway-overhead-ms"]) < 1000
    event = gateway.event(headers["x-tollway-request-id"])
    assert (event["key"], event["model"], event["upstream_model"]) == ("sdk", "small", "gpt-4o-mini")
    assert (event["outcome"], event["cost_nano_usd"], event["priced"]) == ("ok", nano, True)
    assert event["raw_usage"] == answer.usage.model_dump(exclude_unset=True)


def stream_of(client: OpenAI, model: str, **more: Any) -> list[ChatCompletionChunk]:
    with client.chat.completions.create(model=model, messages=HELLO, stream=True, **more) as stream:
        return list(stream)


def test_a_stream_shows_no_usage_that_was_not_asked_for(
    client: OpenAI, direct: OpenAI, gateway: Served
) -> None:
    chunks = stream_of(client, "small")
    assert [plain(one) for one in chunks] == [plain(one) for one in stream_of(direct, "gpt-4o-mini")]
    assert len({one.id for one in chunks}) == 1
    assert all("usage" not in one.model_fields_set for one in chunks)
    event = gateway.events()[0]
    assert event["streamed"] is True
    assert event["estimated"] is False, "the gateway asked for usage itself"
    assert event["usage"]["output"] == 32


@pytest.mark.parametrize("options", [{"include_usage": False}, {"include_obfuscation": False}])
def test_other_stream_options_are_kept(client: OpenAI, direct: OpenAI, options: dict[str, bool]) -> None:
    chunks = stream_of(client, "small", stream_options=options)
    expected = stream_of(direct, "gpt-4o-mini", stream_options=options)
    assert [plain(one) for one in chunks] == [plain(one) for one in expected]


def test_a_stream_shows_usage_and_cost_when_asked(client: OpenAI, direct: OpenAI, gateway: Served) -> None:
    options = {"include_usage": True}
    chunks = stream_of(client, "small", stream_options=options)
    expected = stream_of(direct, "gpt-4o-mini", stream_options=options)
    assert [plain(one) for one in chunks[:-1]] == [plain(one) for one in expected[:-1]]
    last = chunks[-1]
    assert last.choices == []
    assert last.usage is not None
    usage = last.usage.model_dump()
    cost = usage.pop("cost")
    assert expected[-1].usage is not None
    assert usage == expected[-1].usage.model_dump()
    assert round(cost * 1e9) == last.usage.prompt_tokens * 150 + last.usage.completion_tokens * 600
    assert gateway.events()[0]["cost_nano_usd"] == round(cost * 1e9)


def test_the_bytes_of_a_stream_are_the_providers(client: OpenAI, direct: OpenAI) -> None:
    """Not only what the SDK makes of them: the same lines, in the same order, and one end."""

    def lines(of: OpenAI, model: str) -> list[str]:
        with of.chat.completions.with_streaming_response.create(
            model=model, messages=HELLO, stream=True, seed=1
        ) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            found = list(answer.iter_lines())
        head = json.loads(found[0].removeprefix("data: "))
        created = f'"created":{head["created"]}'
        return [line.replace(head["id"], "ID").replace(created, "CREATED") for line in found]

    ours = lines(client, "small")
    assert ours == lines(direct, "gpt-4o-mini")
    assert [line for line in ours if "DONE" in line] == ["data: [DONE]"]


def test_unknown_fields_reach_the_provider(client: OpenAI, direct: OpenAI, gateway: Served) -> None:
    extra = {"vendor_field": {"deep": [1.5, None, "Grüße \u2028 😀"]}, "top_k": 7, "metadata": {"a": "b"}}
    for of, model in ((client, "small"), (direct, "gpt-4o-mini")):
        of.chat.completions.create(model=model, messages=HELLO, extra_body=extra)
    ours, theirs = [one.body for one in list(gateway.upstream.received)[-2:]]
    assert ours == theirs, "the SDK's body, the model's name apart, was changed on the way"
    raw = b'{"model" : "small","messages":[{"role":"user","content":"\\u00e9\\/"}], "x":[1.50,1E3, 9007199254740993]}'
    assert fetch(gateway.base_url + "/chat/completions", raw, key=client.api_key).status == 200
    sent = gateway.upstream.received[-1].body
    assert b"[1.50,1E3, 9007199254740993]" in sent
    assert b'[{"role":"user","content":"\\u00e9\\/"}]' in sent
    assert json.loads(sent) == {**json.loads(raw), "model": "gpt-4o-mini"}


def test_tools_called_in_parallel_and_answered(client: OpenAI) -> None:
    first = client.chat.completions.create(
        model="mock/gpt-4o-mini+parallel=2", messages=HELLO, tools=[WEATHER, CLOCK], tool_choice="auto"
    )
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    assert message.content is None
    calls = message.tool_calls or []
    assert [call.function.name for call in calls if call.type == "function"] == ["weather", "clock"]
    arguments = json.loads(calls[0].function.arguments)  # type: ignore[union-attr]
    assert set(arguments) == {"city", "days"}
    results: Any = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in calls]
    second = client.chat.completions.create(
        model="mock/gpt-4o-mini+parallel=2", messages=[*HELLO, message, *results], tools=[WEATHER, CLOCK]
    )
    assert second.choices[0].finish_reason == "stop"
    assert second.choices[0].message.content


def test_tools_in_a_stream_are_put_together(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="mock/gpt-4o-mini+parallel=2", messages=HELLO, tools=[WEATHER, CLOCK]
    ) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    calls = final.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls] == ["weather", "clock"]
    assert set(json.loads(calls[0].function.arguments)) == {"city", "days"}
    assert final.choices[0].finish_reason == "tool_calls"


class Step(BaseModel):
    explanation: str
    output: float


class Solution(BaseModel):
    steps: list[Step]
    final_answer: str


def test_structured_output(client: OpenAI, gateway: Served) -> None:
    answer = client.chat.completions.parse(model="small", messages=HELLO, response_format=Solution)
    assert isinstance(answer.choices[0].message.parsed, Solution)
    sent = json.loads(gateway.upstream.received[-1].body)
    assert sent["response_format"]["json_schema"]["name"] == "Solution"
    with client.chat.completions.stream(model="small", messages=HELLO, response_format=Solution) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == answer.choices[0].message.parsed


def test_several_choices_logprobs_and_refusals(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="small", messages=HELLO, n=3, logprobs=True, top_logprobs=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert len((logprobs.content or [])[0].top_logprobs) == 2
    refused = client.chat.completions.create(model="mock/gpt-4o-mini+refusal", messages=HELLO)
    assert refused.choices[0].message.refusal
    cut = client.chat.completions.create(model="small", messages=HELLO, max_completion_tokens=3)
    assert cut.choices[0].finish_reason == "length"


def test_embeddings_in_every_encoding(client: OpenAI, direct: OpenAI, gateway: Served) -> None:
    texts = ["one", "two words", "grüße"]
    raw = client.embeddings.with_raw_response.create(model="embed", input=texts, dimensions=8)
    usual = raw.parse()  # the SDK asks for base64 of itself and decodes it
    floats = client.embeddings.create(model="embed", input=texts, dimensions=8, encoding_format="float")
    packed = client.embeddings.create(model="embed", input=texts, dimensions=8, encoding_format="base64")
    for one, exact in zip(usual.data, floats.data, strict=True):
        assert one.embedding == pytest.approx(exact.embedding, abs=1e-6)
    decoded = [struct.unpack("<8f", base64.b64decode(str(one.embedding))) for one in packed.data]
    assert [list(one) for one in decoded] == [one.embedding for one in usual.data]
    assert usual == direct.embeddings.create(model="text-embedding-3-small", input=texts, dimensions=8)
    event = gateway.event(raw.headers["x-tollway-request-id"])
    assert (event["endpoint"], event["usage"]["input"]) == ("embeddings", usual.usage.prompt_tokens)
    assert event["cost_nano_usd"] == usual.usage.prompt_tokens * 20
    tokens = client.embeddings.create(model="embed", input=[[1, 2, 3], [4]])
    assert (len(tokens.data), tokens.usage.prompt_tokens) == (2, 4)


def test_legacy_completions(client: OpenAI, direct: OpenAI) -> None:
    ask: Any = {"prompt": "Once upon a time", "max_tokens": 9, "echo": True}
    answer = client.completions.create(model="instruct", **ask)
    assert plain(answer) == plain(direct.completions.create(model="gpt-3.5-turbo-instruct", **ask))
    with client.completions.create(model="instruct", prompt=["a", "b"], stream=True) as stream:
        chunks = list(stream)
    assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1}
    assert all(chunk.usage is None for chunk in chunks)


def test_models_are_those_the_key_may_use(client: OpenAI, gateway: Served) -> None:
    assert {one.id for one in client.models.list()} == set(CONFIG["models"])
    assert client.models.retrieve("small").id == "small"
    assert client.models.retrieve("mock/gpt-4o-mini").object == "model"
    narrow = client.with_options(api_key=gateway.key("narrow", models=["small"]))
    assert [one.id for one in narrow.models.list()] == ["small"]
    for name in ("embed", "nothing"):
        with pytest.raises(openai.NotFoundError):
            narrow.models.retrieve(name)


# Errors, as the SDK's own classes


def body_of(error: openai.APIStatusError) -> dict[str, Any]:
    assert isinstance(error.body, dict)
    assert set(error.body) >= {"message", "type", "param", "code"}
    assert error.response.headers["x-tollway-request-id"]
    return error.body


def test_a_wrong_key(client: OpenAI, gateway: Served) -> None:
    for wrong in ("sk-tw-nobody-knows-this", "x"):
        with pytest.raises(openai.AuthenticationError) as caught:
            client.with_options(api_key=wrong).chat.completions.create(model="small", messages=HELLO)
        assert body_of(caught.value)["code"] == "invalid_api_key"
        assert wrong not in str(caught.value) or len(wrong) == 1
    blocked = gateway.key("blocked")
    gateway.api("/keys/blocked/block", {})
    with pytest.raises(openai.PermissionDeniedError, match="blocked"):
        client.with_options(api_key=blocked).models.list()


def test_a_model_beyond_the_key(client: OpenAI, gateway: Served) -> None:
    narrow = client.with_options(api_key=gateway.key("one-model", models=["small"]))
    assert narrow.chat.completions.create(model="small", messages=HELLO).choices
    for model in ("tokens-50", "mock/gpt-4o-mini"):
        with pytest.raises(openai.PermissionDeniedError) as caught:
            narrow.chat.completions.create(model=model, messages=HELLO)
        assert body_of(caught.value)["code"] == "model_not_allowed"


def test_an_unknown_model(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="smal", messages=HELLO)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert "small" in caught.value.message


def test_bad_requests(client: OpenAI) -> None:
    bad: Any = 7
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="small", messages=bad)
    assert caught.value.param == "messages"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="small", messages=HELLO, extra_body={"stream": "yes"})
    assert caught.value.param == "stream"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="", messages=HELLO)
    assert caught.value.param == "model"


def test_a_budget_that_is_spent(client: OpenAI, gateway: Served) -> None:
    poor = client.with_options(
        api_key=gateway.key("poor", budget={"usd": 0.00005, "per": "month", "strict": True}), max_retries=2
    )
    before = gateway.upstream.bill.requests
    usage = poor.chat.completions.create(model="small", messages=HELLO, max_tokens=32).usage
    assert usage is not None
    with pytest.raises(openai.APIStatusError) as caught:
        poor.chat.completions.create(model="small", messages=HELLO, max_tokens=60)
    error = caught.value
    assert error.status_code == 402
    assert error.code == "budget_exceeded"
    body = body_of(error)
    assert body["spent_nano_usd"] == usage.prompt_tokens * 150 + usage.completion_tokens * 600
    assert body["resets_at"]
    assert gateway.upstream.bill.requests == before + 1, "the SDK retried, or a refused request was sent"


def test_a_rate_limit_of_the_key(client: OpenAI, gateway: Served) -> None:
    slow = client.with_options(api_key=gateway.key("slow", limits={"rpm": 1}))
    raw = slow.chat.completions.with_raw_response.create(model="small", messages=HELLO)
    assert (raw.headers["x-ratelimit-limit-requests"], raw.headers["x-ratelimit-remaining-requests"]) == (
        "1",
        "0",
    )
    with pytest.raises(openai.RateLimitError) as caught:
        slow.chat.completions.create(model="small", messages=HELLO)
    assert caught.value.code == "rate_limit_exceeded"
    assert 0 < float(caught.value.response.headers["retry-after"]) <= 61


PROVIDER_REFUSALS = [
    ("status=429+retry_after=9", openai.RateLimitError, 429),
    ("status=500", openai.InternalServerError, 500),
    ("status=503+body=html", openai.InternalServerError, 503),
    ("status=400", openai.BadRequestError, 400),
    ("status=404", openai.NotFoundError, 404),
    ("status=409", openai.ConflictError, 409),
    ("status=422", openai.UnprocessableEntityError, 422),
    ("malformed=garbage", openai.InternalServerError, 502),
]


@pytest.mark.parametrize(("knob", "kind", "status"), PROVIDER_REFUSALS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_of_the_provider(
    client: OpenAI, knob: str, kind: type[openai.APIStatusError], status: int, stream: bool
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model=f"mock/gpt-4o-mini+{knob}", messages=HELLO, stream=stream)
    assert caught.value.status_code == status
    assert body_of(caught.value)["provider"] == "mock"
    assert caught.value.response.headers["x-tollway-provider"] == "mock"
    if "retry_after" in knob:
        assert caught.value.response.headers["retry-after"] == "9"


def test_a_stream_that_breaks_off(client: OpenAI) -> None:
    with pytest.raises(openai.APIError) as caught:
        stream_of(client, "mock/gpt-4o-mini+cut=5")
    assert "mock" in str(caught.value)
    with pytest.raises(openai.APIError):
        stream_of(client, "mock/gpt-4o-mini+error_event=3")


def test_the_sdk_waits_and_tries_again(client: OpenAI) -> None:
    patient = client.with_options(max_retries=2)
    raw = patient.chat.completions.with_raw_response.create(model="flaky", messages=HELLO)
    assert raw.retries_taken == 1
    assert raw.parse().choices


def test_a_client_that_has_no_patience(client: OpenAI, gateway: Served) -> None:
    left = gateway.upstream.aborted_total
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(
            model="mock/gpt-4o-mini+stall=headers", messages=HELLO
        )
    wait_until(lambda: gateway.upstream.aborted_total == left + 1, 2, "the provider is let go")
    wait_until(lambda: gateway.events()[0]["outcome"] == "cancelled", 2, "the event says so")


def test_a_provider_that_keeps_silent(client: OpenAI) -> None:
    for stream, clock in ((False, "first_byte clock of 0.3 s"), (True, "first_token clock of 0.2 s")):
        with pytest.raises(openai.InternalServerError, match=clock) as caught:
            client.chat.completions.create(model="late", messages=HELLO, stream=stream)
        assert (caught.value.status_code, caught.value.code) == (504, "upstream_timeout")


# The asynchronous client


async def test_many_at_once(gateway: Served, key: str) -> None:
    async with AsyncOpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as client:

        async def whole(number: int) -> str:
            answer = await client.chat.completions.create(
                model="mock/gpt-4o-mini+echo", messages=[{"role": "user", "content": f"number {number}"}]
            )
            return answer.choices[0].message.content or ""

        async def streamed(number: int) -> str:
            stream = await client.chat.completions.create(
                model="mock/gpt-4o-mini+echo",
                messages=[{"role": "user", "content": f"number {number}"}],
                stream=True,
            )
            return "".join([one.choices[0].delta.content or "" async for one in stream])

        said = await asyncio.gather(*(one(number) for number in range(30) for one in (whole, streamed)))
    assert said == [f"number {number}" for number in range(30) for _ in range(2)]


async def test_leaving_a_stream_half_way(gateway: Served, key: str) -> None:
    left = gateway.upstream.aborted_total
    async with AsyncOpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as client:
        stream = await client.chat.completions.create(
            model="mock/gpt-4o-mini+events=5000+pace=5ms", messages=HELLO, stream=True
        )
        async for _ in stream:
            break
        await stream.close()
        async with asyncio.timeout(2):
            while gateway.upstream.aborted_total == left:
                await asyncio.sleep(0.01)
        assert (await client.embeddings.create(model="embed", input="x")).data


async def test_errors_of_the_asynchronous_client(gateway: Served) -> None:
    async with AsyncOpenAI(base_url=gateway.base_url, api_key="sk-wrong", max_retries=2) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.create(model="small", messages=HELLO)
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
