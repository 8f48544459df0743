"""The responses API through the official SDK: whole, streamed, in the background; what is kept; what is refused."""

import pytest

openai = pytest.importorskip("openai")
from pydantic import BaseModel, TypeAdapter  # noqa: E402

from tollway.simulator.running import start_in_thread  # noqa: E402

FUNCTION = {
    "type": "function",
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
CUSTOM = {"type": "custom", "name": "shell"}
THINK = {"effort": "low", "summary": "auto"}


@pytest.fixture(scope="module")
def running():
    with start_in_thread() as made:
        yield made


@pytest.fixture(scope="module")
def client(running):
    with openai.OpenAI(base_url=running.url, api_key="sk-any", max_retries=0) as made:
        yield made


def checked(value):
    TypeAdapter(type(value)).validate_python(value.model_dump())
    return value


def last_line(running):
    return running.simulator.bill.entries()[-1]


def test_a_response(client, running):
    said = checked(client.responses.create(model="gpt-5-mini+cached=2+cache_write=3", input="Hello"))
    assert said.status == "completed"
    assert len(said.output_text) == 128
    assert (said.usage.input_tokens, said.usage.output_tokens, said.usage.total_tokens) == (8, 32, 40)
    assert said.usage.input_tokens_details.cached_tokens == 2
    line = last_line(running)
    assert (line.endpoint, line.id, line.model) == ("responses", said.id, "gpt-5-mini")
    assert (line.tokens["input"], line.tokens["cache_read"], line.tokens["cache_write_5m"]) == (3, 2, 3)


@pytest.mark.parametrize("knobs", ["", "+crlf+comments", "+split=5", "+pace=0", "+obfuscation"])
def test_streams_number_their_events(client, knobs):
    stream = client.responses.create(model=f"m{knobs}+tokens=3", input="Hello", stream=True)
    events = [checked(event) for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert events[-1].response.usage.output_tokens == 3


@pytest.mark.parametrize("tools", [[], [FUNCTION, CUSTOM]])
def test_whole_and_streamed_say_the_same(client, running, tools):
    fields = {
        "model": "m+reasoning=6+parallel=3+citations",
        "input": "Hello",
        "tools": tools,
        "reasoning": THINK,
        "include": ["reasoning.encrypted_content"],
    }
    whole = checked(client.responses.create(**fields))
    with client.responses.stream(**fields) as stream:
        events = [checked(event) for event in stream]
        streamed = stream.get_final_response()
    assert streamed.usage == whole.usage
    assert whole.usage.output_tokens_details.reasoning_tokens == 6
    kinds = [item.type for item in whole.output]
    assert kinds == [item.type for item in streamed.output]
    if tools:
        assert kinds == ["reasoning", "function_call", "custom_tool_call", "function_call"]
        assert [item.arguments for item in whole.output[1::2]] == ['{"city":"the old cat"}'] * 2
    else:
        assert kinds == ["reasoning", "web_search_call", "message"]
        assert streamed.output_text == whole.output_text
        assert whole.output[2].content[0].annotations[0].type == "url_citation"
        assert last_line(running).tokens["searches"] == 1
    line = last_line(running)
    assert line.completion_tokens == whole.usage.output_tokens
    assert "response.reasoning_summary_text.delta" in {event.type for event in events}


def test_a_tool_loop_with_the_items_sent_back(client):
    fields = {"model": "m", "tools": [FUNCTION, CUSTOM], "reasoning": THINK, "store": False}
    fields["include"] = ["reasoning.encrypted_content"]
    question = [{"role": "user", "content": "Weather?"}]
    said = client.responses.create(input=question, **fields)
    items = [item.model_dump(exclude_none=True) for item in said.output]
    call = items[-1]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "Sunny"}
    again = checked(client.responses.create(input=[*question, *items, result], **fields))
    assert again.output_text
    for wrong, message in (
        ([*question, *items], "No tool output found for function call"),
        ([*question, result], "No tool call found for function call output"),
        ([*question, items[0], *question], "without its required following item"),
        ([*question, {**items[0], "encrypted_content": "bm8="}, call, result], "could not be verified"),
    ):
        with pytest.raises(openai.BadRequestError, match=message):
            client.responses.create(input=wrong, **fields)


def test_a_conversation_goes_on_by_id(client):
    first = client.responses.create(model="m", input="Hello", tools=[FUNCTION])
    call = first.output[-1]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny"}
    second = checked(client.responses.create(model="m", input=[result], previous_response_id=first.id))
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens == 3 + (3 + 2) + (3 + 2 + 6) + (3 + 2)
    listed = client.responses.input_items.list(second.id).data
    assert [item.type for item in listed] == ["function_call_output"]
    with pytest.raises(openai.BadRequestError, match="not found") as caught:
        client.responses.create(model="m", input="x", previous_response_id="resp_none")
    assert caught.value.code == "previous_response_not_found"


def test_what_is_kept(client):
    said = client.responses.create(model="m", input="Hello")
    assert checked(client.responses.retrieve(said.id)) == said
    assert checked(client.responses.input_items.list(said.id).data[0]).content[0].text == "Hello"
    client.responses.delete(said.id)
    for gone in (said.id, client.responses.create(model="m", input="Hello", store=False).id):
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(gone)


def test_in_the_background(client, running):
    slow = checked(client.responses.create(model="m+job=60s", input="Hello", background=True))
    assert slow.status == "queued"
    assert client.responses.retrieve(slow.id).status == "in_progress"
    assert client.responses.cancel(slow.id).status == "cancelled"
    assert client.responses.retrieve(slow.id).status == "cancelled"
    quick = client.responses.create(model="m", input="Hello", background=True)
    line = last_line(running)
    assert (quick.usage, line.usage, line.completion_tokens) == (None, None, 32)
    done = client.responses.retrieve(quick.id)
    assert (done.status, done.usage.output_tokens) == ("completed", 32)
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.cancel(client.responses.create(model="m", input="Hello").id)


def test_a_background_stream_can_be_taken_up_again(client):
    stream = client.responses.create(model="m+tokens=3", input="Hello", background=True, stream=True)
    events = list(stream)
    ident = events[0].response.id
    rest = list(client.responses.retrieve(ident, stream=True, starting_after=4))
    assert rest == events[5:]


class Step(BaseModel):
    text: str
    sure: float


def test_structured_outputs(client):
    assert client.responses.parse(model="m", input="Hello", text_format=Step).output_parsed.sure == 1.5


@pytest.mark.parametrize(
    ("model", "more", "status", "reason"),
    [
        ("m", {"max_output_tokens": 16}, "incomplete", "max_output_tokens"),
        ("m+finish=content_filter", {}, "incomplete", "content_filter"),
        ("m+refusal", {}, "completed", None),
    ],
)
def test_why_it_ended(client, model, more, status, reason):
    said = checked(client.responses.create(model=model, input="Hello", **more))
    assert said.status == status
    assert (said.incomplete_details and said.incomplete_details.reason) == reason
    if model == "m+refusal":
        assert said.output[0].content[0].refusal
    *_, last = client.responses.create(model=model, input="Hello", stream=True, **more)
    assert last.type == "response." + status


def test_counting(client, running):
    counted = checked(client.responses.input_tokens.count(model="m", input="Hello", instructions="Be brief"))
    assert counted.input_tokens == 3 + 5 + 5
    assert last_line(running).endpoint == "responses.input_tokens"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": []}, "Unknown parameter: 'messages'."),
        ({"input": []}, "Missing required parameter: 'input'."),
        ({"input": [{"role": "tool", "content": "x"}]}, "Invalid value: 'tool'"),
        ({"max_output_tokens": 5}, "below minimum value"),
        ({"tools": [{"type": "function"}]}, "tools\\[0\\].name"),
        ({"background": True, "store": False}, "Background mode requires store"),
    ],
)
def test_refusals(client, fields, message):
    with pytest.raises(openai.BadRequestError, match=message):
        client.responses.create(model="m", input="Hello", extra_body=fields)


def test_errors(client, running):
    with pytest.raises(openai.RateLimitError):
        client.responses.create(model="m+status=429", input="Hello")
    events = list(client.responses.create(model="m+error_event=6", input="Hello", stream=True))
    assert (events[-1].type, events[-1].sequence_number, events[-1].code) == ("error", 6, "server_error")
    line = last_line(running)
    assert (line.complete, line.usage, line.completion_tokens) == (False, None, 2)


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v1/responses", {"input": "x"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
    ],
)
async def test_an_end_user_has_64_characters(ask, path, more):
    for length, status in ((64, 200), (65, 400)):
        reply = await ask({"model": "m", "user": "u" * length, **more}, path=path)
        assert reply.status == status
    assert reply.json()["error"]["code"] == "string_above_max_length"
