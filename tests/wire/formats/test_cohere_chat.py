"""Cohere's chat, version 2: requests, answers and events as its own client's types have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cohere.types.chat_message_v2 import ChatMessageV2
from cohere.types.tool_v2 import ToolV2
from cohere.v2.types.v2chat_response import V2ChatResponse
from cohere.v2.types.v2chat_stream_response import V2ChatStreamResponse
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, structs
from pydantic import TypeAdapter
from tests.wire.accumulate import Broken, accumulate

from tollway.errors import BadRequest, InvalidJson, RateLimitExceeded
from tollway.model.usage import Usage
from tollway.wire import sse
from tollway.wire.codec import Profile, Unreadable
from tollway.wire.conversation import (
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    Cache,
    Choice,
    Citation,
    Completion,
    Conversation,
    Document,
    End,
    Extra,
    Failed,
    Finished,
    Image,
    Loss,
    Message,
    Metered,
    Opaque,
    Reasoning,
    ResponseFormat,
    ServerTool,
    Source,
    Start,
    StreamEvent,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from tollway.wire.formats.cohere_chat import CODEC

GOLDEN = Path(__file__).parents[2] / "golden" / "cohere_chat"
COMMAND = Profile(model="command-a-03-2025")
MESSAGE: TypeAdapter[Any] = TypeAdapter(ChatMessageV2)
EVENT: TypeAdapter[Any] = TypeAdapter(V2ChatStreamResponse)


def user(*said: str | Block) -> Message:
    return Message(role="user", blocks=tuple(Text(text=one) if isinstance(one, str) else one for one in said))


def model(*said: str | Block) -> Message:
    return structs.replace(user(*said), role="assistant")


def ask(*messages: Message, **more: Any) -> Conversation:
    return Conversation(model="m", messages=messages or (user("hi"),), **more)


def write(conversation: Conversation, profile: Profile = COMMAND) -> tuple[dict[str, Any], set[Loss]]:
    written = CODEC.write_request(conversation, profile)
    assert len(set(written.lost)) == len(written.lost)
    wire = json.loads(written.body)
    for message in wire["messages"]:
        assert MESSAGE.validate_python(message).role == message["role"]
    for tool in wire.get("tools", ()):
        ToolV2.model_validate(tool)
    return wire, set(written.lost)


def read(data: bytes) -> list[StreamEvent]:
    reader = CODEC.stream_reader()
    return [*reader.feed(data), *reader.finish()]


def client_events(data: bytes) -> list[Any]:
    """A stream's events as the client's types hold them; the last one is the end mark."""
    parts = [sse.parse(part) for part in sse.split(data)]
    assert parts[-1].data == b"[DONE]"
    found = []
    for part in parts[:-1]:
        wire = json.loads(part.data or b"")
        event = EVENT.validate_python(wire)
        assert event.type == wire["type"] == part.name.decode()
        found.append(event)
    return found


def plain(value: Any) -> Any:
    if isinstance(value, Raw):
        return json.loads(bytes(value)) if bytes(value) else None
    if isinstance(value, msgspec.Struct):
        return (type(value).__name__, {name: plain(getattr(value, name)) for name in value.__struct_fields__})
    return [plain(one) for one in value] if isinstance(value, tuple | list) else value


# ------------------------------------------------------------------ requests


def test_a_documented_request_is_read_whole() -> None:
    asked = CODEC.read_request((GOLDEN / "request.json").read_bytes())
    system, first, second, third, fourth, _ = asked.messages
    assert system == Message(role="system", blocks=(Text(text="Be terse."),))
    assert first.blocks[1] == Image(source=Source(kind="url", value="https://a.example/x.png"), detail="low")
    assert second.blocks == (
        Thinking(text="Let me see.", format="cohere"),
        Thinking(text="I will look.", id="tool_plan", format="cohere"),
        ToolCall(id="weather_1", name="weather", arguments='{"city": "Oslo"}'),
    )
    document = Document(text='{"temperature": 4}', title="1")
    assert third.blocks == (ToolResult(call_id="weather_1", content=(document, Text(text="cold"))),)
    [said] = fourth.blocks
    assert isinstance(said, Text)
    assert [(one.start, one.end) for one in said.citations] == [(6, 10)]
    [tool] = asked.tools
    assert isinstance(tool, Tool)
    assert tool.strict is True
    assert asked.tool_choice == ToolChoice(mode="required")
    assert asked.reasoning == Reasoning(enabled=True, budget=500)
    assert (asked.top_p, asked.top_k, asked.stop, asked.stream) == (0.75, 40, ("END",), True)
    assert {found.name for found in asked.extra} == {
        "documents",
        "citation_options",
        "safety_mode",
        "priority",
    }


def test_what_was_read_is_written_back_the_same() -> None:
    body = (GOLDEN / "request.json").read_bytes()
    wire, lost = write(CODEC.read_request(body))
    assert wire == json.loads(body)
    assert lost == set()


def test_content_may_be_text_a_list_or_one_item() -> None:
    item = {"type": "text", "text": "hi"}
    for content in ("hi", item, [item]):
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]}).encode()
        assert CODEC.read_request(body).messages == (user("hi"),)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "model"),
        ({"model": "m"}, "messages"),
        ({"model": "m", "messages": [{"content": "x"}]}, "messages.0.role"),
        ({"model": "m", "messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"model": "m", "messages": [{"role": "user", "content": 3}]}, "messages.0.content"),
        (
            {"model": "m", "messages": [{"role": "user", "content": [{"text": "x"}]}]},
            "messages.0.content.0.type",
        ),
        (
            {"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages.0.content.0.image_url",
        ),
        ({"model": "m", "messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        (
            {"model": "m", "messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]},
            "messages.0.tool_calls.0.function.name",
        ),
        (
            {"model": "m", "messages": [{"role": "assistant", "content": "x", "citations": [3]}]},
            "messages.0.citations.0",
        ),
        ({"model": "m", "messages": [], "tool_choice": "SOME"}, "tool_choice"),
        ({"model": "m", "messages": [], "tools": [{}]}, "tools.0.function"),
        ({"model": "m", "messages": [], "temperature": "x"}, "temperature"),
        ({"model": "m", "messages": [], "response_format": {"type": "xml"}}, "response_format.type"),
    ],
)
def test_a_wrong_request_is_refused_with_its_place(body: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        CODEC.read_request(json.dumps(body).encode())
    assert refused.value.param == param


def test_a_body_nested_too_deeply_is_refused() -> None:
    with pytest.raises(InvalidJson):
        CODEC.read_request(b'{"model":"m","messages":' + b"[" * 100_000)


def test_results_follow_their_calls_and_what_has_no_partner_is_told() -> None:
    wire, lost = write(
        ask(
            user("q"),
            Message(role="developer", blocks=(Text(text="D"),)),
            model(ToolCall(id="a", name="t", arguments=""), ToolCall(id="b", name="t")),
            user("and?", ToolResult(call_id="b", content=(Text(text="B"),), error=True)),
            user(ToolResult(call_id="z", name="u", content=(Text(text="Z"),))),
        )
    )
    assert [message["role"] for message in wire["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
        "user",
    ]
    assert wire["messages"][2]["tool_calls"][0]["function"] == {"name": "t", "arguments": "{}"}
    assert [message.get("tool_call_id") for message in wire["messages"][3:5]] == ["a", "b"]
    assert [item["text"] for item in wire["messages"][5]["content"]] == ["and?", "[result of tool u]", "Z"]
    assert lost == {Loss("messages.tool_result.error")}


def test_arguments_that_are_no_object_are_refused_with_their_turn() -> None:
    with pytest.raises(BadRequest) as refused:
        CODEC.write_request(ask(user("q"), model(ToolCall(id="a", name="t", arguments="{"))), COMMAND)
    assert refused.value.param == "messages.1.blocks.0"


def test_blocks_that_cannot_be_said_are_named() -> None:
    wire, lost = write(
        ask(
            user(
                Text(text="look", cache=Cache()),
                Image(source=Source(kind="data", value="iVBORw0KGgo=")),
                Image(source=Source(kind="file", value="file_1")),
                Document(text="plain", title="T"),
                Document(source=Source(kind="data", value="JVBERi0=", media_type="application/pdf")),
                Opaque(format="anthropic", kind="container_upload", raw=Raw(b"{}")),
            ),
            model(Thinking(text="t", signature="s", format="anthropic"), "a"),
        )
    )
    content = wire["messages"][0]["content"]
    assert content[1]["image_url"]["url"] == "data:image/png;base64,iVBORw0KGgo="
    assert content[2] == {"type": "text", "text": "T\nplain"}
    assert lost == {
        Loss("cache_control"),
        Loss("messages.thinking"),
        Loss("messages.image", "meaning"),
        Loss("messages.document", "meaning"),
        Loss("messages.container_upload", "meaning"),
    }


def test_tools_and_choices() -> None:
    tools = (Tool(name="a", strict=True, schema=Raw(b'{"properties":{}}')), Tool(name="b"))
    wire, lost = write(ask(tools=tools, tool_choice=ToolChoice(mode="named", name="a")))
    assert [tool["function"]["name"] for tool in wire["tools"]] == ["a"]
    assert (wire["tool_choice"], wire["strict_tools"]) == ("REQUIRED", True)
    assert lost == set()
    wire, lost = write(ask(tools=tools, tool_choice=ToolChoice(mode="none"), parallel_tool_calls=False))
    assert wire["tool_choice"] == "NONE"
    assert lost == {Loss("tools.strict"), Loss("parallel_tool_calls")}
    search = ServerTool(kind="web_search", format="openai", raw=Raw(b"{}"))
    assert write(ask(tools=(search, Tool(name="free", custom=True))))[1] == {
        Loss("tools.web_search", "meaning"),
        Loss("tools.custom", "meaning"),
    }
    history = (user("q"), model(ToolCall(id="x", name="a")), user(ToolResult(call_id="x")))
    wire, lost = write(ask(*history, tools=tools), Profile(model="m", tools=False))
    assert all(message["role"] != "tool" for message in wire["messages"])
    assert lost == {Loss("tools", "meaning")}


def test_format_thinking_and_numbers_within_cohere_s_bounds() -> None:
    schema = ResponseFormat(kind="json_schema", schema=Raw(b'{"type":"object"}'))
    wire, lost = write(ask(response_format=schema))
    assert wire["response_format"] == {"type": "json_object", "json_schema": {"type": "object"}}
    assert write(ask(response_format=schema, tools=(Tool(name="a"),)))[1] == {
        Loss("response_format", "meaning")
    }
    assert write(ask(reasoning=Reasoning(effort="medium")))[0]["thinking"] == {
        "type": "enabled",
        "token_budget": 2048,
    }
    wire, _ = write(ask(reasoning=Reasoning(budget=5000), max_tokens=1000))
    assert wire["thinking"] == {"type": "enabled", "token_budget": 999}
    assert write(ask(reasoning=Reasoning(enabled=False)))[0]["thinking"] == {"type": "disabled"}
    assert write(ask(reasoning=Reasoning(effort="low")), Profile(model="m", thinking="none"))[1] == {
        Loss("reasoning")
    }
    wire, lost = write(
        ask(
            top_p=1.0,
            top_k=900,
            frequency_penalty=-1.0,
            presence_penalty=1.5,
            stop=tuple("abcdef"),
            n=2,
            user="u",
            top_logprobs=3,
            extra=(Extra(format="openai", name="logit_bias", raw=Raw(b"{}")),),
        )
    )
    assert (wire["p"], wire["k"], wire["frequency_penalty"], wire["presence_penalty"]) == (
        0.99,
        500,
        0.0,
        1.0,
    )
    assert wire["stop_sequences"] == list("abcde")
    hints = ("top_k", "frequency_penalty", "presence_penalty", "stop", "user", "top_logprobs", "logit_bias")
    assert lost == {Loss(name) for name in hints} | {Loss("n", "meaning")}


WORDS = st.text("abc äß日\n{}\"'", min_size=1, max_size=12)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    messages: list[Message] = [Message(role="system", blocks=(Text(text=draw(WORDS)),))]
    for number in range(draw(st.integers(1, 3))):
        messages.append(user(draw(WORDS), draw(WORDS)))
        calls = tuple(
            ToolCall(id=f"call_{number}_{index}", name="t", arguments=json.dumps({"a": draw(WORDS)}))
            for index in range(draw(st.integers(0, 3)))
        )
        plan = (Thinking(text=draw(WORDS), id="tool_plan", format="cohere"),) if calls else ()
        messages.append(model(Thinking(text=draw(WORDS), format="cohere"), draw(WORDS), *plan, *calls))
        messages.extend(
            user(ToolResult(call_id=call.id, content=(Text(text=draw(WORDS)),))) for call in calls
        )
        if calls:
            messages.append(model(draw(WORDS)))
    return Conversation(
        model="command-a-03-2025",
        messages=tuple(messages),
        tools=(Tool(name="t", description="d"),),
        max_tokens=draw(st.none() | st.integers(1, 9999)),
        temperature=draw(st.none() | st.floats(0, 2)),
        stop=tuple(draw(st.lists(WORDS, max_size=5))),
        reasoning=draw(st.sampled_from([None, Reasoning(enabled=True), Reasoning(enabled=False)])),
        stream=draw(st.booleans()),
        include_usage=True,
        format="cohere",
    )


@settings(max_examples=50, deadline=None)
@given(conversations())
def test_what_is_written_is_read_back(conversation: Conversation) -> None:
    written = CODEC.write_request(conversation, COMMAND)
    assert written.lost == ()
    assert plain(CODEC.read_request(written.body)) == plain(conversation)


# ------------------------------------------------------------------ answers and streams


def test_an_answer_is_read_whole() -> None:
    answer = CODEC.read_answer((GOLDEN / "answer.json").read_bytes())
    [choice] = answer.choices
    thought, text, plan, first, second = choice.blocks
    assert thought == Thinking(text="Let me see.", format="cohere")
    assert isinstance(text, Text)
    [citation] = text.citations
    assert (citation.start, citation.end, citation.title, citation.cited) == (6, 10, "Plan", "cold days")
    assert plan == Thinking(text="I will look twice.", id="tool_plan", format="cohere")
    assert first == ToolCall(id="weather_1", name="weather", arguments='{"city": "Oslo"}')
    assert second == ToolCall(id="clock_2", name="clock")
    assert (answer.id, choice.finish) == ("fba98ad3", "tool_calls")


def test_what_is_billed_is_counted_and_cached_tokens_once() -> None:
    assert CODEC.read_answer((GOLDEN / "answer.json").read_bytes()).usage == Usage(
        input=1, cache_read=16, output=12
    )
    body = {"message": {}, "usage": {"billed_units": {"search_units": 2}, "tokens": {"input_tokens": 5.0}}}
    assert CODEC.read_answer(json.dumps(body).encode()).usage == Usage(input=5, searches=2)


def test_a_stream_and_its_whole_form_say_the_same() -> None:
    told = accumulate(read((GOLDEN / "stream.sse").read_bytes()))
    assert plain(told) == plain(CODEC.read_answer((GOLDEN / "answer.json").read_bytes()))


def test_any_split_gives_the_same_events() -> None:
    data = (GOLDEN / "stream.sse").read_bytes()
    expected = plain(read(data))
    for cut in range(0, len(data) + 1, 3):
        reader = CODEC.stream_reader()
        assert plain([*reader.feed(data[:cut]), *reader.feed(data[cut:]), *reader.finish()]) == expected
    reader = CODEC.stream_reader()
    events = [event for byte in data for event in reader.feed(bytes((byte,)))]
    assert plain([*events, *reader.finish()]) == expected
    assert plain(read(data.replace(b"\n", b"\r\n"))) == expected


def test_the_client_reads_a_written_answer_and_a_written_stream() -> None:
    whole = CODEC.read_answer((GOLDEN / "answer.json").read_bytes())
    written = CODEC.write_answer(whole, ask())
    parsed = V2ChatResponse.model_validate(json.loads(written))
    assert parsed.message.tool_plan == "I will look twice."
    assert parsed.message.tool_calls is not None
    assert [call.id for call in parsed.message.tool_calls] == ["weather_1", "clock_2"]
    assert plain(CODEC.read_answer(written).choices) == plain(whole.choices)
    assert CODEC.read_answer(written).usage == whole.usage
    events = read((GOLDEN / "stream.sse").read_bytes())
    data = CODEC.stream_writer(ask()).write(events)
    assert [event.type for event in client_events(data)] == [
        part.name.decode()
        for part in map(sse.parse, sse.split((GOLDEN / "stream.sse").read_bytes()))
        if part.name
    ]
    told = accumulate(read(data))
    assert plain(told.choices) == plain(whole.choices)
    assert (told.id, told.usage) == (whole.id, whole.usage)


def test_citations_after_the_end_of_their_text_are_kept() -> None:
    data = (GOLDEN / "stream.sse").read_bytes()
    parts = sse.split(data)
    cited = [part for part in parts if b"citation-" in part]
    others = [part for part in parts if part not in cited]
    place = next(number for number, part in enumerate(others) if b'"content-end","index":1' in part)
    moved = b"".join([*others[: place + 1], *cited, *others[place + 1 :]])
    assert plain(accumulate(read(moved))) == plain(accumulate(read(data)))


def test_interleaved_calls_foreign_citations_and_what_has_no_place() -> None:
    events: list[StreamEvent] = [
        Start(id="x"),
        BlockStart(index=0, block=Thinking(redacted="c2VjcmV0", format="anthropic")),
        BlockStop(index=0),
        BlockStart(index=1, block=Text()),
        BlockDelta(index=1, text="see"),
        BlockDelta(index=1, citation=Citation(url="https://a.example", title="A", cited="q")),
        BlockStart(index=2, block=ToolCall(id="a", name="t", arguments="")),
        BlockStart(index=3, block=ToolCall(id="b", name="u", arguments="")),
        BlockDelta(index=3, arguments="{}"),
        BlockDelta(index=2, arguments='{"x":'),
        BlockStop(index=1),
        BlockDelta(index=2, arguments="1}"),
        BlockStop(index=3),
        BlockStop(index=2),
        Finished(finish="stop", stop_sequence="END"),
        Metered(usage=Usage(input=3, output=4, searches=1)),
        End(),
    ]
    data = CODEC.stream_writer(ask()).write(events)
    client_events(data)
    told = accumulate(read(data))
    text, first, second = told.choices[0].blocks
    assert isinstance(text, Text)
    [citation] = text.citations
    assert (citation.url, citation.title, citation.cited, citation.end) == ("https://a.example", "A", "q", 3)
    assert first == ToolCall(id="a", name="t", arguments='{"x":1}')
    assert second == ToolCall(id="b", name="u", arguments="{}")
    assert told.choices[0].stop_sequence == ""
    assert told.usage == Usage(input=3, output=4, searches=1)


def test_logprobs_go_through() -> None:
    body = {
        "id": "x",
        "message": {"content": [{"type": "text", "text": "ab"}]},
        "logprobs": [{"text": "ab", "token_ids": [1, 2], "logprobs": [-0.5, -0.25]}],
    }
    answer = CODEC.read_answer(json.dumps(body).encode())
    assert plain(answer.choices[0].logprobs)["content"][0]["logprob"] == -0.75
    written = json.loads(CODEC.write_answer(answer, ask()))
    assert written["logprobs"] == [{"text": "ab", "token_ids": [], "logprobs": [-0.75]}]
    events: list[StreamEvent] = [
        Start(),
        BlockStart(index=0, block=Text()),
        BlockDelta(index=0, text="ab", logprobs=answer.choices[0].logprobs),
        BlockStop(index=0),
        Finished(finish="stop"),
        End(),
    ]
    told = accumulate(read(CODEC.stream_writer(ask()).write(events)))
    assert plain(told.choices[0].logprobs) == plain(answer.choices[0].logprobs)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("COMPLETE", "stop"),
        ("MAX_TOKENS", "length"),
        ("ERROR", "error"),
        ("TIMEOUT", "error"),
        ("NEWER", "stop"),
    ],
)
def test_every_finish_reason_has_its_finish(reason: str, finish: str) -> None:
    body = json.dumps({"id": "x", "finish_reason": reason, "message": {}}).encode()
    assert CODEC.read_answer(body).choices[0].finish == finish


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"message":{"citations":[3]}}', b'{"message":{"content":[3]}}']
)
def test_an_unreadable_answer_says_so(body: bytes) -> None:
    with pytest.raises(Unreadable):
        CODEC.read_answer(body)


def test_errors_in_a_stream_and_broken_streams() -> None:
    data = (GOLDEN / "stream.sse").read_bytes()
    with pytest.raises(Broken) as broken:
        accumulate(read(data[:1500]))
    assert broken.value.failed.code == "stream_broken"
    written = CODEC.stream_writer(ask()).write([Start(id="x"), Failed(message="too slow", status=504)])
    last = client_events(written)[-1]
    assert (last.delta.finish_reason, last.delta.error) == ("ERROR", "too slow")
    assert read(written)[-1] == Failed(message="too slow")
    with pytest.raises(Unreadable):
        read(b"data: <html>\n\n")
    with pytest.raises(Unreadable):
        read(
            b'data: {"type":"tool-call-delta","delta":{"message":{"tool_calls":{"function":{"arguments":"x"}}}}}\n\n'
        )


def test_broken_arguments_of_an_answer_stay_as_they_are() -> None:
    answer = Completion(choices=(Choice(blocks=(ToolCall(id="a", name="t", arguments="{oops"),)),))
    [call] = json.loads(CODEC.write_answer(answer, ask()))["message"]["tool_calls"]
    assert call["function"]["arguments"] == "{oops"


def test_an_error_has_coheres_shape() -> None:
    assert json.loads(CODEC.write_error(RateLimitExceeded("Wait.", details={"limit": 3}))) == {
        "message": "Wait.",
        "code": "rate_limit_exceeded",
        "limit": 3,
    }
