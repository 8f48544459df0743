"""The official SDK against the simulator: messages whole and streamed, thinking, tools, errors, counts, models."""

import pytest

anthropic = pytest.importorskip("anthropic")
from pydantic import TypeAdapter  # noqa: E402

from tollway.simulator.running import start_in_thread  # noqa: E402

HELLO = [{"role": "user", "content": "Hello"}]
TOOLS = [
    {
        "name": "weather",
        "input_schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    }
]
THINKING = {"type": "enabled", "budget_tokens": 1024}


@pytest.fixture(scope="module")
def running():
    with start_in_thread() as made:
        yield made


@pytest.fixture(scope="module")
def client(running):
    with anthropic.Anthropic(base_url=running.simulator.origin, api_key="sk-ant", max_retries=0) as made:
        yield made


def checked(value):
    TypeAdapter(type(value)).validate_python(value.model_dump())
    return value


def last_line(running):
    return running.simulator.bill.entries()[-1]


def test_a_message(client, running):
    said = checked(client.messages.create(model="claude-haiku-4-5", max_tokens=100, messages=HELLO))
    assert said.stop_reason == "end_turn"
    assert len(said.content[0].text) == 4 * said.usage.output_tokens == 4 * 32
    assert said._request_id == said.id.replace("msg_", "req_")
    line = last_line(running)
    assert (line.id, line.endpoint, line.model) == (said.id, "messages", "claude-haiku-4-5")
    assert line.tokens["input"] == said.usage.input_tokens == 3 + 3 + 2


def test_usage_with_caches(client, running):
    model = "m+prompt_tokens=1000+cached=60%+cache_write=100+cache_write_1h=50"
    for streamed in (False, True):
        if streamed:
            with client.messages.stream(model=model, max_tokens=100, messages=HELLO) as stream:
                usage = stream.get_final_message().usage
        else:
            usage = client.messages.create(model=model, max_tokens=100, messages=HELLO).usage
        assert (usage.input_tokens, usage.cache_read_input_tokens) == (250, 600)
        assert usage.cache_creation_input_tokens == 150
        created = usage.cache_creation
        assert (created.ephemeral_5m_input_tokens, created.ephemeral_1h_input_tokens) == (100, 50)
        assert last_line(running).tokens == {
            "input": 250,
            "cache_read": 600,
            "cache_write_5m": 100,
            "cache_write_1h": 50,
            "output": 32,
            "reasoning": 0,
        }


@pytest.mark.parametrize("knobs", ["", "+crlf+comments", "+split=5", "+encoding=gzip", "+pace=0"])
def test_streams(client, knobs):
    with client.messages.stream(model=f"m{knobs}+tokens=9", max_tokens=100, messages=HELLO) as stream:
        kinds = [event.type for event in stream]
        said = checked(stream.get_final_message())
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert len(said.content[0].text) == 36
    assert said.usage.output_tokens == 9


def test_whole_and_streamed_say_the_same(client):
    fields = {
        "model": "m+reasoning=5+redacted+citations+parallel=3",
        "max_tokens": 2000,
        "messages": HELLO,
        "tools": TOOLS,
        "thinking": THINKING,
    }
    for extra in ({}, {"tool_choice": {"type": "none"}}):
        whole = client.messages.create(**fields, **extra)
        with client.messages.stream(**fields, **extra) as stream:
            streamed = stream.get_final_message()
        stable = {"id": True, "content": {"__all__": {"id", "parsed_output"}}}
        assert whole.model_dump(exclude=stable) == streamed.model_dump(exclude=stable)


def test_thinking_goes_round_with_its_signature(client, running):
    fields = {"model": "m+reasoning=7", "max_tokens": 2000, "tools": TOOLS, "thinking": THINKING}
    with client.messages.stream(messages=HELLO, **fields) as stream:
        kinds = {event.delta.type for event in stream if event.type == "content_block_delta"}
        said = checked(stream.get_final_message())
    assert kinds == {"thinking_delta", "signature_delta", "input_json_delta"}
    assert [block.type for block in said.content] == ["thinking", "tool_use"]
    assert said.usage.output_tokens_details.thinking_tokens == 7
    assert last_line(running).tokens["reasoning"] == 7
    result = {"type": "tool_result", "tool_use_id": said.content[1].id, "content": "Sunny"}
    turns = [*HELLO, {"role": "assistant", "content": said.content}, {"role": "user", "content": [result]}]
    again = checked(client.messages.create(messages=turns, **fields))
    assert [block.type for block in again.content] == ["thinking", "text"]
    forged = said.content[0].model_copy(update={"signature": "bm8="})
    turns[1] = {"role": "assistant", "content": [forged, said.content[1]]}
    with pytest.raises(anthropic.BadRequestError, match=r"messages.1.content.0: Invalid `signature`"):
        client.messages.create(messages=turns, **fields)
    turns[1] = {"role": "assistant", "content": [said.content[1]]}
    with pytest.raises(anthropic.BadRequestError, match="Expected `thinking`"):
        client.messages.create(messages=turns, **fields)


def test_redacted_thinking_goes_round(client):
    fields = {"model": "m+redacted", "max_tokens": 2000, "thinking": THINKING}
    said = checked(client.messages.create(messages=HELLO, **fields))
    assert [block.type for block in said.content] == ["thinking", "redacted_thinking", "text"]
    turns = [*HELLO, {"role": "assistant", "content": said.content}, *HELLO]
    assert client.messages.create(messages=turns, **fields).content
    turns[1] = {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "b3Vycw=="}]}
    with pytest.raises(anthropic.BadRequestError, match="Invalid `data`"):
        client.messages.create(messages=turns, **fields)


def test_parallel_tool_calls(client):
    fields = {"model": "m+parallel=3", "max_tokens": 500, "messages": HELLO, "tools": TOOLS}
    said = checked(client.messages.create(**fields))
    assert said.stop_reason == "tool_use"
    assert [block.input for block in said.content] == [{"city": "the old cat", "days": 7}] * 3
    assert len({block.id for block in said.content}) == 3
    one = client.messages.create(**fields, tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    assert len(one.content) == 1
    none = client.messages.create(**fields, tool_choice={"type": "none"})
    assert none.content[0].type == "text"


def test_citations_come_from_the_documents(client):
    source = {"type": "text", "media_type": "text/plain", "data": "The grass is green."}
    document = {"type": "document", "source": source, "title": "Nature", "citations": {"enabled": True}}
    turn = [{"role": "user", "content": [document, {"type": "text", "text": "What is green?"}]}]
    said = checked(client.messages.create(model="m", max_tokens=50, messages=turn))
    (cited,) = said.content[0].citations
    assert (cited.cited_text, cited.document_title, cited.end_char_index) == (
        "The grass is green.",
        "Nature",
        19,
    )


def test_structured_outputs(client):
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    form = {"format": {"type": "json_schema", "schema": schema}}
    said = client.messages.create(model="m", max_tokens=50, messages=HELLO, output_config=form)
    assert said.content[0].text == '{"age":7}'


@pytest.mark.parametrize(
    ("model", "more", "reason"),
    [
        ("m", {"max_tokens": 3}, "max_tokens"),
        ("m+text=one%20STOP%20two", {"stop_sequences": ["STOP"]}, "stop_sequence"),
        ("m+refusal", {}, "refusal"),
        ("m+finish=pause", {}, "pause_turn"),
        ("m+finish=content_filter", {}, "refusal"),
    ],
)
def test_why_it_stopped(client, model, more, reason):
    fields = {"model": model, "max_tokens": 100, "messages": HELLO, **more}
    said = checked(client.messages.create(**fields))
    assert said.stop_reason == reason
    assert said.stop_sequence == ("STOP" if reason == "stop_sequence" else None)
    with client.messages.stream(**fields) as stream:
        assert stream.get_final_message().stop_reason == reason


def test_an_error_in_the_middle_of_a_stream(client, running):
    with pytest.raises(anthropic.APIStatusError, match="Overloaded") as caught:
        list(client.messages.create(model="m+error_event=4", max_tokens=50, messages=HELLO, stream=True))
    assert caught.value.body["error"]["type"] == "overloaded_error"
    line = last_line(running)
    assert (line.complete, line.usage, line.completion_tokens) == (False, None, 1)


@pytest.mark.parametrize(
    ("suffix", "kind", "said"),
    [
        ("+status=400", "BadRequestError", "invalid_request_error"),
        ("+status=401", "AuthenticationError", "authentication_error"),
        ("+status=403", "PermissionDeniedError", "permission_error"),
        ("+known_only", "NotFoundError", "not_found_error"),
        ("+status=413", "RequestTooLargeError", "request_too_large"),
        ("+status=429", "RateLimitError", "rate_limit_error"),
        ("+status=500", "InternalServerError", "api_error"),
        ("+status=529", "OverloadedError", "overloaded_error"),
    ],
)
def test_errors_are_the_sdks_own(client, suffix, kind, said):
    with pytest.raises(getattr(anthropic, kind, anthropic.APIStatusError)) as caught:
        client.messages.create(model="m" + suffix, max_tokens=5, messages=HELLO)
    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["type"] == said
    assert caught.value.body["request_id"] == caught.value.request_id


def test_the_sdk_retries_as_it_is_told(running):
    with anthropic.Anthropic(base_url=running.simulator.origin, api_key="k", max_retries=3) as patient:
        model = "m+fail_first=2+status=429+retry_after=5ms+scope=anthropic-sdk"
        assert patient.messages.create(model=model, max_tokens=5, messages=HELLO).content


def test_counting_and_the_list(client, running):
    counted = checked(client.messages.count_tokens(model="m", messages=HELLO, system="Be brief"))
    assert counted.input_tokens == 3 + 3 + 2 + 2
    assert last_line(running).endpoint == "messages.count_tokens"
    assert last_line(running).prompt_tokens == 0
    listed = [checked(one) for one in client.models.list(limit=2)]
    assert len(listed) == 5
    assert checked(client.models.retrieve("claude-opus-4-5")).display_name == "Claude Opus 4 5"


def test_the_beta_door(client):
    said = client.beta.messages.create(model="m", max_tokens=50, messages=HELLO, betas=["some-2026-01-01"])
    assert said.content[0].text


async def test_the_asynchronous_client(running):
    async with (
        anthropic.AsyncAnthropic(base_url=running.simulator.origin, api_key="k") as client,
        client.messages.stream(model="m+pace=1ms+tokens=5", max_tokens=50, messages=HELLO) as stream,
    ):
        texts = [text async for text in stream.text_stream]
    assert len(texts) == 5


def test_files(client):
    made = checked(client.beta.files.upload(file=("toll.txt", b"two", "text/plain")))
    assert (made.filename, made.mime_type, made.size_bytes) == ("toll.txt", "text/plain", 3)
    assert made.id in [one.id for one in client.beta.files.list()]
    assert client.beta.files.download(made.id).read() == b"two"
    assert checked(client.beta.files.delete(made.id)).type == "file_deleted"
    with pytest.raises(anthropic.NotFoundError):
        client.beta.files.retrieve_metadata(made.id)


def test_messages_at_vertex(running):
    origin = running.simulator.origin + "/v1"
    with anthropic.AnthropicVertex(
        region="r", project_id="p", access_token="ya29", base_url=origin, max_retries=0
    ) as client:
        asked = {"model": "claude-sonnet-4-5@20250929", "max_tokens": 64, "messages": HELLO}
        assert client.messages.create(**asked).content[0].text
        with client.messages.stream(**asked) as stream:
            assert stream.get_final_message().stop_reason == "end_turn"
