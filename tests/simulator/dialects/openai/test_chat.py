"""Chat completions as documented: shapes, limits, streams, tools, structured answers, usage."""

import json

import pytest

CITY = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
            "required": ["city", "days"],
        },
    },
}
OTHER = {"type": "function", "function": {"name": "clock"}}


async def test_a_whole_answer(ask, chat):
    said = (await ask(chat())).json()
    assert list(said) == [
        "id",
        "object",
        "created",
        "model",
        "service_tier",
        "system_fingerprint",
        "choices",
        "usage",
    ]
    assert said["object"] == "chat.completion"
    (choice,) = said["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["logprobs"] is None
    message = choice["message"]
    assert (message["role"], message["refusal"], message["annotations"]) == ("assistant", None, [])
    assert said["usage"] == {
        "prompt_tokens": 9,
        "completion_tokens": 32,
        "total_tokens": 41,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


async def test_a_stream_says_the_same_as_the_whole(ask, chat):
    whole = (await ask(chat())).json()["choices"][0]["message"]["content"]
    reply = await ask(chat(stream=True))
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.data[-1] == "[DONE]"
    chunks = reply.chunks
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert chunks[-1]["choices"][0]["delta"] == {}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 33 + ["stop"]
    assert reply.text == whole
    assert all("usage" not in chunk for chunk in chunks)


async def test_include_usage_as_documented(ask, chat):
    reply = await ask(chat(stream=True, stream_options={"include_usage": True}))
    *rest, last = reply.chunks
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in rest)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 41
    none = await ask(chat("m+no_usage", stream=True, stream_options={"include_usage": True}))
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in none.chunks)


async def test_usage_on_every_event(simulator, ask, chat):
    for reply in (
        await ask(chat("m+usage_every+reasoning=5", stream=True)),
        await ask(chat("m+reasoning=5", stream=True, stream_options={"continuous_usage_stats": True})),
    ):
        seen = [chunk["usage"]["completion_tokens"] for chunk in reply.chunks]
        assert seen == [5, *range(6, 38), 37]
    assert simulator.bill.entries()[0].completion_tokens == 37
    assert simulator.bill.entries()[0].usage is not None


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("knobs", "path", "value"),
    [
        ("prompt_tokens=1000+cached=600", "prompt_tokens_details.cached_tokens", 600),
        ("prompt_tokens=1000+cached=60%", "prompt_tokens_details.cached_tokens", 600),
        ("prompt_tokens=10+cached=600", "prompt_tokens_details.cached_tokens", 10),
        ("prompt_tokens=1000", "prompt_tokens", 1000),
        ("reasoning=100", "completion_tokens_details.reasoning_tokens", 100),
        ("reasoning=100", "completion_tokens", 132),
        ("audio_in=8", "prompt_tokens_details.audio_tokens", 8),
        ("audio_in=8", "prompt_tokens", 17),
        ("audio_out=8", "completion_tokens", 40),
    ],
)
async def test_usage_variants_agree_with_the_bill(simulator, ask, chat, knobs, path, value, streamed):
    body = chat(f"m+{knobs}", stream=streamed)
    if streamed:
        body["stream_options"] = {"include_usage": True}
    reply = await ask(body)
    usage = reply.chunks[-1]["usage"] if streamed else reply.json()["usage"]
    found = usage
    for step in path.split("."):
        found = found[step]
    assert found == value
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    total = simulator.bill.totals["m"]
    assert total.prompt_tokens == usage["prompt_tokens"]
    assert total.completion_tokens == usage["completion_tokens"]
    assert total.cached_tokens == usage["prompt_tokens_details"]["cached_tokens"]
    assert total.reasoning_tokens == usage["completion_tokens_details"]["reasoning_tokens"]


async def test_usage_shapes(simulator, ask, chat):
    assert "usage" not in (await ask(chat("m+no_usage"))).json()
    assert (await ask(chat("m+usage=null"))).json()["usage"] is None
    bare = (await ask(chat("m+usage=bare"))).json()["usage"]
    assert bare == {"prompt_tokens": 9, "completion_tokens": 32, "total_tokens": 41}
    assert [entry.usage is None for entry in simulator.bill.entries()] == [True, False, False]


async def test_limits_are_honoured(ask, chat):
    for name in ("max_tokens", "max_completion_tokens"):
        said = (await ask(chat(**{name: 5}))).json()
        assert said["choices"][0]["finish_reason"] == "length"
        assert len(said["choices"][0]["message"]["content"]) == 20
        assert said["usage"]["completion_tokens"] == 5
    assert (await ask(chat(max_tokens=32))).json()["choices"][0]["finish_reason"] == "stop"
    said = (await ask(chat("m+reasoning=10", max_completion_tokens=10))).json()
    assert (said["choices"][0]["message"]["content"], said["choices"][0]["finish_reason"]) == ("", "length")


async def test_stop_sequences(ask, chat):
    whole = (await ask(chat())).json()["choices"][0]["message"]["content"]
    word = whole.split()[5]
    for stop in (word, ["never", word]):
        said = (await ask(chat(stop=stop))).json()
        assert said["choices"][0]["message"]["content"] == whole[: whole.index(word)]
        assert said["choices"][0]["finish_reason"] == "stop"


async def test_seeds_choices_and_names(ask, chat):
    async def texts(**more: object) -> list[str]:
        said = (await ask(chat(**more))).json()
        return [choice["message"]["content"] for choice in said["choices"]]

    assert await texts(seed=1) == await texts(seed=1)
    assert await texts(seed=1) != await texts(seed=2)
    assert len(set(await texts(n=3))) == 3
    reply = await ask(chat("m+tokens=3", n=2, stream=True))
    order = [chunk["choices"][0]["index"] for chunk in reply.chunks]
    assert order == [0, 1] * 5
    assert (await ask(chat("m+answer_model=m-2026-01-01"))).json()["model"] == "m-2026-01-01"
    assert (await ask(chat(service_tier="flex"))).json()["service_tier"] == "flex"
    assert (await ask(chat(service_tier="auto"))).json()["service_tier"] == "default"


async def test_what_is_said(ask, chat):
    assert (await ask(chat("m+text=a%20b%2Bc"))).json()["choices"][0]["message"]["content"] == "a b+c"
    echoed = await ask(chat("m+echo", "Grüße, 世界!", stream=True))
    assert echoed.text == "Grüße, 世界!"
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    body = {"model": "m+echo", "messages": [{"role": "user", "content": parts}]}
    assert (await ask(body)).json()["choices"][0]["message"]["content"] == "one two"
    assert (await ask(chat("m+finish=content_filter"))).json()["choices"][0][
        "finish_reason"
    ] == "content_filter"


async def test_output_sizes(ask, chat):
    said = (await ask(chat("m+tokens=5000"))).json()
    assert len(said["choices"][0]["message"]["content"]) == 20_000
    events = await ask(chat("m+tokens=100+events=7", stream=True))
    assert len(events.chunks) == 9
    assert len(events.text) == 400
    assert len((await ask(chat("m+events=7", stream=True))).text) == 28


async def test_refusals(ask, chat):
    message = (await ask(chat("m+refusal"))).json()["choices"][0]["message"]
    assert message["content"] is None
    chunks = (await ask(chat("m+refusal", stream=True))).chunks
    assert (
        "".join(chunk["choices"][0]["delta"].get("refusal") or "" for chunk in chunks) == message["refusal"]
    )


async def test_obfuscation(ask, chat):
    padded = await ask(chat("m+obfuscation", stream=True))
    assert len({len(chunk["obfuscation"]) for chunk in padded.chunks}) > 1
    off = await ask(chat("m+obfuscation", stream=True, stream_options={"include_obfuscation": False}))
    assert all("obfuscation" not in chunk for chunk in off.chunks)


async def test_tool_calls(ask, chat):
    said = (await ask(chat(tools=[CITY, OTHER]))).json()
    (choice,) = said["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert call["type"] == "function"
    assert call["function"]["name"] == "weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "the old cat", "days": 7}
    assert said["usage"]["completion_tokens"] == 2 + -(-len(call["function"]["arguments"]) // 4)


async def test_streamed_tool_calls_in_parallel(ask, chat):
    reply = await ask(chat("m+parallel=3", tools=[CITY, OTHER], stream=True))
    calls: dict[int, dict[str, str]] = {}
    for chunk in reply.chunks:
        for part in chunk["choices"][0]["delta"].get("tool_calls", []):
            call = calls.setdefault(part["index"], {"arguments": ""})
            if "id" in part:
                assert part["type"] == "function"
                call |= {"id": part["id"], "name": part["function"]["name"]}
            call["arguments"] += part["function"]["arguments"]
    assert [call["name"] for call in calls.values()] == ["weather", "clock", "weather"]
    assert len({call["id"] for call in calls.values()}) == 3
    assert json.loads(calls[0]["arguments"])["days"] == 7
    assert json.loads(calls[1]["arguments"]) == {}
    assert reply.chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_when_tools_are_not_called(ask, chat):
    async def finish(model: str = "m", **more: object) -> str:
        return (await ask(chat(model, tools=[CITY, OTHER], **more))).json()["choices"][0]["finish_reason"]

    assert await finish(tool_choice="none") == "stop"
    assert await finish("m+tool_calls=off") == "stop"
    assert await finish(tool_choice="required") == "tool_calls"
    named = {"type": "function", "function": {"name": "clock"}}
    said = (await ask(chat(tools=[CITY, OTHER], tool_choice=named))).json()
    assert said["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "clock"
    answered = [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "clock", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "noon"},
    ]
    assert await finish(messages=answered) == "stop"


async def test_parallel_calls_can_be_forbidden(ask, chat):
    said = (await ask(chat("m+parallel=3", tools=[CITY], parallel_tool_calls=False))).json()
    assert len(said["choices"][0]["message"]["tool_calls"]) == 1


async def test_structured_answers(ask, chat):
    schema = {"name": "x", "strict": True, "schema": CITY["function"]["parameters"]}
    form = {"type": "json_schema", "json_schema": schema}
    reply = await ask(chat(response_format=form, stream=True))
    assert json.loads(reply.text) == {"city": "the old cat", "days": 7}
    said = (await ask(chat(response_format={"type": "json_object"}))).json()
    assert isinstance(json.loads(said["choices"][0]["message"]["content"]), dict)
    assert (await ask(chat(response_format={"type": "text"}))).status == 200


async def test_logprobs(ask, chat):
    said = (await ask(chat("m+tokens=3", logprobs=True, top_logprobs=2))).json()["choices"][0]
    tokens = said["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == said["message"]["content"]
    assert all(len(token["top_logprobs"]) == 2 and token["logprob"] <= 0 for token in tokens)
    assert bytes(tokens[0]["bytes"]).decode() == tokens[0]["token"]
    chunks = (await ask(chat("m+tokens=3", logprobs=True, stream=True))).chunks
    assert [len((chunk["choices"][0]["logprobs"] or {}).get("content", [])) for chunk in chunks] == [
        0,
        1,
        1,
        1,
        0,
    ]


async def test_prompts_are_counted_by_the_rule(ask):
    messages = [
        {"role": "system", "content": "x" * 9, "name": "four"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "x" * 8},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
                {"type": "input_audio", "input_audio": {"data": "A" * 2500, "format": "wav"}},
            ],
        },
    ]
    usage = (await ask({"model": "m", "messages": messages})).json()["usage"]
    assert usage["prompt_tokens"] == 3 + (3 + 3 + 1) + (3 + 2 + 85 + 3)
    assert usage["prompt_tokens_details"]["audio_tokens"] == 3


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b'"text"', None),
        (b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}', None),
        ({"messages": [{"role": "user", "content": "x"}]}, "model"),
        ({"model": "m"}, "messages"),
        ({"model": 3, "messages": [{"role": "user", "content": "x"}]}, "model"),
        ({"model": "m", "messages": []}, "messages"),
        ({"model": "m", "messages": [{"content": "x"}]}, "messages[0].role"),
        ({"model": "m", "messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"model": "m", "messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    ],
)
async def test_requests_that_are_not_valid(ask, body, param):
    reply = await ask(body)
    assert reply.status == 400
    error = reply.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert len(error["message"]) > 10


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"tools": []}, "tools"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [CITY], "tool_choice": "perhaps"}, "tool_choice"),
        ({"tools": [CITY], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"$ref": "#/a"}},
                }
            },
            "response_format.json_schema.schema",
        ),
    ],
)
async def test_fields_that_are_not_valid(ask, chat, more, param):
    reply = await ask(chat(**more))
    assert (reply.status, reply.json()["error"]["param"]) == (400, param)


async def test_unknown_fields_are_accepted(ask, chat):
    assert (await ask(chat(reasoning_effort="low", metadata={"a": "b"}, brand_new=1))).status == 200
