"""Cohere's SDK against the simulator: chat whole and streamed, embeddings of every type, ranks, errors."""

import json

import pytest

cohere = pytest.importorskip("cohere")

from tollway.simulator.running import start_in_thread  # noqa: E402

HELLO = [{"role": "user", "content": "Hello"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
THINKING = {"type": "enabled"}


@pytest.fixture(scope="module")
def running():
    with start_in_thread() as made:
        yield made


@pytest.fixture(scope="module")
def client(running):
    return cohere.ClientV2(api_key="any", base_url=running.simulator.origin)


def last_line(running):
    return running.simulator.bill.entries()[-1]


def test_chat(client, running):
    said = client.chat(model="command-a-03-2025", messages=HELLO)
    assert said.finish_reason == "COMPLETE"
    assert len(said.message.content[0].text) == 128
    assert (said.usage.tokens.input_tokens, said.usage.billed_units.output_tokens) == (8, 32)
    line = last_line(running)
    assert (line.endpoint, line.id, line.completion_tokens) == ("cohere.chat", said.id, 32)


@pytest.mark.parametrize("knobs", ["", "+crlf", "+split=5", "+encoding=gzip", "+pace=0"])
def test_streams(client, running, knobs):
    events = list(client.chat_stream(model=f"m{knobs}+tokens=3", messages=HELLO))
    assert [event.type for event in events] == [
        "message-start",
        "content-start",
        *["content-delta"] * 3,
        "content-end",
        "message-end",
    ]
    assert events[-1].delta.usage.tokens.output_tokens == last_line(running).completion_tokens == 3


def test_tools_thinking_and_citations(client, running):
    fields = {"model": "m+reasoning=4+parallel=2", "messages": HELLO, "tools": TOOLS, "thinking": THINKING}
    whole = client.chat(**fields)
    assert whole.finish_reason == "TOOL_CALL"
    assert whole.message.content[0].thinking
    pieces, thought = {}, ""
    for event in client.chat_stream(**fields):
        if event.type == "tool-call-start":
            pieces[event.index] = event.delta.message.tool_calls.function.arguments
        elif event.type == "tool-call-delta":
            pieces[event.index] += event.delta.message.tool_calls.function.arguments
        elif event.type == "content-delta":
            thought += event.delta.message.content.thinking
    assert [json.loads(one) for one in pieces.values()] == [{"city": "the old cat"}] * 2
    assert thought == whole.message.content[0].thinking
    assert last_line(running).tokens["output"] == whole.usage.tokens.output_tokens
    assert last_line(running).tokens["reasoning"] == 4
    result = {"role": "tool", "tool_call_id": whole.message.tool_calls[0].id, "content": "Sunny"}
    turn = {"role": "assistant", "tool_calls": whole.message.tool_calls, "tool_plan": whole.message.tool_plan}
    again = client.chat(model="m", messages=[*HELLO, turn, result], tools=TOOLS)
    assert again.message.content[0].text
    cited = client.chat(model="m", messages=HELLO, documents=[{"id": "d1", "data": {"text": "Cats."}}])
    assert cited.message.citations[0].sources[0].id == "d1"


def test_structured_output_and_limits(client):
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}}
    form = {"type": "json_object", "json_schema": schema}
    assert client.chat(model="m", messages=HELLO, response_format=form).message.content[0].text == '{"age":7}'
    assert client.chat(model="m", messages=HELLO, max_tokens=3).finish_reason == "MAX_TOKENS"
    said = client.chat(model="m+text=one%20STOP", messages=HELLO, stop_sequences=["STOP"])
    assert said.finish_reason == "STOP_SEQUENCE"


def test_embeddings(client, running):
    kinds = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    said = client.embed(
        model="embed-v4.0",
        texts=["a cat", "a dog"],
        input_type="search_document",
        embedding_types=kinds,
        output_dimension=64,
    )
    assert [len(one) for one in said.embeddings.float_] == [64, 64]
    assert [len(said.embeddings.binary[0]), len(said.embeddings.ubinary[0])] == [8, 8]
    assert said.meta.billed_units.input_tokens == last_line(running).prompt_tokens == 4
    picture = client.embed(
        model="m", images=["data:image/png;base64,AA=="], input_type="image", embedding_types=["float"]
    )
    assert picture.meta.billed_units.images == last_line(running).tokens["images"] == 1


def test_ranks(client, running):
    said = client.rerank(
        model="rerank-v3.5", query="red fox", documents=["the sea", "a red fox", "fox"], top_n=2
    )
    assert [one.index for one in said.results] == [1, 2]
    assert said.results[0].relevance_score > said.results[1].relevance_score > 0
    assert said.meta.billed_units.search_units == last_line(running).tokens["searches"] == 1


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        ("+status=400", "BadRequestError"),
        ("+status=401", "UnauthorizedError"),
        ("+known_only", "NotFoundError"),
        ("+status=429+retry_after=1ms+fail_first=9+scope=cohere", "TooManyRequestsError"),
    ],
)
def test_errors_are_the_sdks_own(running, suffix, kind):
    client = cohere.ClientV2(api_key="any", base_url=running.simulator.origin)
    with pytest.raises(getattr(cohere.errors, kind)) as caught:
        client.chat(model="m" + suffix, messages=HELLO, request_options={"max_retries": 0})
    assert caught.value.body["message"]


def test_an_error_in_the_middle_of_a_stream(client, running):
    *_, last = client.chat_stream(model="m+error_event=4", messages=HELLO)
    assert (last.type, last.delta.finish_reason) == ("message-end", "ERROR")
    line = last_line(running)
    assert (line.complete, line.usage, line.completion_tokens) == (False, None, 2)


async def test_the_door_and_the_fields(ask):
    body = {"model": "m", "messages": HELLO}
    assert (await ask(body, path="/v2/chat")).json()["message"] == "no api key supplied"
    for fields, message in (
        ({"top_k": 1}, "unknown field: parameter 'top_k' is not a valid field"),
        ({"messages": []}, "messages is required"),
        ({"messages": [{"role": "robot"}]}, "role must be one of"),
        ({"messages": [{"role": "tool", "tool_call_id": "x", "content": "y"}]}, "no tool call with id 'x'"),
    ):
        reply = await ask({**body, **fields}, path="/v2/chat", authorization="Bearer k")
        assert reply.status == 400
        assert message in reply.json()["message"]
