"""Ollama's chat: requests, answers and lines as its own client has them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, structs
from ollama import ChatResponse
from ollama._types import ChatRequest
from tests.wire.accumulate import Broken, accumulate

from tollway.errors import BadRequest, InvalidJson, RateLimitExceeded
from tollway.model.usage import Usage
from tollway.wire.codec import Profile, Unreadable
from tollway.wire.conversation import (
    Audio,
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    Cache,
    Choice,
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
    Refusal,
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
from tollway.wire.formats.ollama_chat import CODEC
from tollway.wire.sse import EventTooLarge

GOLDEN = Path(__file__).parents[2] / "golden" / "ollama_chat"
QWEN = Profile(model="qwen3:8b")


def user(*said: str | Block) -> Message:
    return Message(role="user", blocks=tuple(Text(text=one) if isinstance(one, str) else one for one in said))


def model(*said: str | Block) -> Message:
    return structs.replace(user(*said), role="assistant")


def ask(*messages: Message, **more: Any) -> Conversation:
    return Conversation(model="m", messages=messages or (user("hi"),), **more)


def write(conversation: Conversation, profile: Profile = QWEN) -> tuple[dict[str, Any], set[Loss]]:
    written = CODEC.write_request(conversation, profile)
    assert len(set(written.lost)) == len(written.lost)
    wire = json.loads(written.body)
    ChatRequest.model_validate(wire)
    return wire, set(written.lost)


def read(data: bytes) -> list[StreamEvent]:
    reader = CODEC.stream_reader()
    return [*reader.feed(data), *reader.finish()]


def lines(data: bytes) -> list[ChatResponse]:
    """A stream's lines as Ollama's client gives them to a caller."""
    assert data.endswith(b"\n")
    return [ChatResponse.model_validate(json.loads(line)) for line in data.splitlines()]


def plain(value: Any) -> Any:
    if isinstance(value, Raw):
        return json.loads(bytes(value)) if bytes(value) else None
    if isinstance(value, msgspec.Struct):
        return (type(value).__name__, {name: plain(getattr(value, name)) for name in value.__struct_fields__})
    return [plain(one) for one in value] if isinstance(value, tuple | list) else value


# ------------------------------------------------------------------ requests


def test_a_documented_request_is_read_whole() -> None:
    asked = CODEC.read_request((GOLDEN / "request.json").read_bytes())
    first, second = "call_2_0", "call_2_1"
    assert asked.messages == (
        Message(role="system", blocks=(Text(text="Be terse."),)),
        user(
            "Weather in Oslo and Rome?",
            Image(source=Source(kind="data", value="iVBORw0KGgo=", media_type="image/png")),
        ),
        model(
            Thinking(text="Two calls.", format="ollama"),
            "Looking.",
            ToolCall(id=first, name="weather", arguments='{"city": "Oslo"}'),
            ToolCall(id=second, name="weather", arguments='{"city": "Rome"}'),
        ),
        user(ToolResult(call_id=first, name="weather", content=(Text(text="4 C"),))),
        user(ToolResult(call_id=second, name="weather", content=(Text(text="18 C"),))),
    )
    assert asked.reasoning == Reasoning(enabled=True, effort="high")
    assert (asked.max_tokens, asked.temperature, asked.top_k, asked.stop) == (100, 0.5, 40, ("END",))
    assert asked.response_format is not None
    assert asked.response_format.kind == "json_schema"
    assert asked.stream is False
    assert {found.name: bytes(found.raw) for found in asked.extra} == {
        "keep_alive": b'"5m"',
        "options": b'{"num_ctx":8192}',
    }


def test_what_was_read_is_written_back_the_same_but_for_ids() -> None:
    body = (GOLDEN / "request.json").read_bytes()
    wire, lost = write(CODEC.read_request(body))
    for message in wire["messages"]:
        message.pop("tool_call_id", None)
        for call in message.get("tool_calls", ()):
            del call["id"]
    assert wire == json.loads(body)
    assert lost == set()


def test_a_request_streams_unless_it_says_no() -> None:
    assert CODEC.read_request(b'{"model":"m"}').stream is True
    assert CODEC.read_request(b'{"model":"m","stream":null}').stream is True
    assert CODEC.read_request(b'{"model":"m","stream":false}').stream is False
    assert write(ask())[0]["stream"] is False


def test_results_find_their_calls_by_id_name_and_order() -> None:
    call = {"function": {"name": "a", "arguments": '{"x":1}'}}
    other = {"id": "mine", "function": {"name": "b"}}
    body = {
        "model": "m",
        "messages": [
            {"role": "assistant", "content": None, "tool_calls": [call, other, call]},
            {"role": "tool", "content": "B", "tool_call_id": "mine"},
            {"role": "tool", "content": "A1", "tool_name": "a"},
            {"role": "tool", "content": "A2"},
            {"role": "tool", "content": "stray", "tool_name": "z"},
        ],
    }
    turns = CODEC.read_request(json.dumps(body).encode()).messages
    assert turns[0].blocks[0] == ToolCall(id="call_0_0", name="a", arguments='{"x":1}')
    results = [block for turn in turns[1:] for block in turn.blocks if isinstance(block, ToolResult)]
    assert [(one.call_id, one.name) for one in results] == [
        ("mine", "b"),
        ("call_0_0", "a"),
        ("call_0_2", "a"),
        ("call_4", "z"),
    ]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "model"),
        ({"model": "m", "messages": {}}, "messages"),
        ({"model": "m", "messages": [{"content": "x"}]}, "messages.0.role"),
        ({"model": "m", "messages": [{"role": "robot"}]}, "messages.0.role"),
        ({"model": "m", "messages": [{"role": "user", "content": [1]}]}, "messages.0.content"),
        (
            {"model": "m", "messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]},
            "messages.0.tool_calls.0.function.name",
        ),
        ({"model": "m", "tools": [{"type": "function"}]}, "tools.0.function"),
        ({"model": "m", "options": {"temperature": "warm"}}, "options.temperature"),
        ({"model": "m", "format": 3}, "format"),
        ({"model": "m", "think": 3}, "think"),
        ({"model": "m", "stream": "yes"}, "stream"),
    ],
)
def test_a_wrong_request_is_refused_with_its_place(body: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        CODEC.read_request(json.dumps(body).encode())
    assert refused.value.param == param


def test_a_body_nested_too_deeply_is_refused() -> None:
    with pytest.raises(InvalidJson):
        CODEC.read_request(b'{"model":"m","messages":' + b"[" * 100_000)


def test_results_are_turns_of_their_own_named_by_tool_and_id() -> None:
    png = base64.b64encode(b"\x89PNG....").decode()
    wire, lost = write(
        ask(
            user("q"),
            model(ToolCall(id="a", name="t", arguments=""), ToolCall(id="b", name="u")),
            user(
                "before",
                ToolResult(call_id="a", content=(Text(text="A"), Text(text="A2"))),
                ToolResult(call_id="b", content=(Image(source=Source(kind="data", value=png)),), error=True),
                "after",
            ),
        )
    )
    assert wire["messages"][1]["tool_calls"][0] == {"id": "a", "function": {"name": "t", "arguments": {}}}
    assert wire["messages"][2:] == [
        {"role": "user", "content": "before"},
        {"role": "tool", "content": "A\nA2", "tool_call_id": "a", "tool_name": "t"},
        {"role": "tool", "content": "", "tool_call_id": "b", "tool_name": "u", "images": [png]},
        {"role": "user", "content": "after"},
    ]
    assert lost == {Loss("messages.tool_result.error")}


def test_arguments_that_are_no_object_are_refused_with_their_turn() -> None:
    with pytest.raises(BadRequest) as refused:
        CODEC.write_request(ask(user("q"), model(ToolCall(id="a", name="t", arguments="{"))), QWEN)
    assert refused.value.param == "messages.1.blocks.0"


def test_blocks_that_cannot_be_said_are_named() -> None:
    text = base64.b64encode("grün".encode()).decode()
    wire, lost = write(
        ask(
            user(
                Text(text="look", cache=Cache()),
                Image(source=Source(kind="url", value="https://a.example/x.png")),
                Document(text="plain", title="T"),
                Document(source=Source(kind="data", value=text, media_type="text/plain; charset=utf-8")),
                Document(source=Source(kind="data", value="JVBERi0=", media_type="application/pdf")),
                Audio(source=Source(kind="data", value="aaaa")),
                Opaque(format="anthropic", kind="container_upload", raw=Raw(b"{}")),
            ),
            model(Thinking(text="t", signature="s", format="anthropic"), Refusal(text="no")),
            model(),
        )
    )
    assert wire["messages"] == [
        {"role": "user", "content": "look\nT\nplain\ngrün"},
        {"role": "assistant", "content": "no"},
    ]
    assert lost == {
        Loss("cache_control"),
        Loss("messages.thinking"),
        Loss("messages.image", "meaning"),
        Loss("messages.document", "meaning"),
        Loss("messages.audio", "meaning"),
        Loss("messages.container_upload", "meaning"),
    }


def test_tools_and_choices() -> None:
    tools = (Tool(name="a", schema=Raw(b'{"properties":{}}')), Tool(name="b", description="B"))
    wire, lost = write(ask(tools=tools, tool_choice=ToolChoice(allowed=("a",))))
    assert [tool["function"] for tool in wire["tools"]] == [
        {"name": "a", "description": "", "parameters": {"type": "object", "properties": {}}}
    ]
    assert lost == set()
    wire, lost = write(ask(tools=tools, tool_choice=ToolChoice(mode="none")))
    assert "tools" not in wire
    assert lost == set()
    for choice in (ToolChoice(mode="required"), ToolChoice(mode="named", name="a")):
        assert write(ask(tools=tools, tool_choice=choice))[1] == {Loss("tool_choice", "meaning")}
    search = ServerTool(kind="web_search", format="openai", raw=Raw(b"{}"))
    wire, lost = write(ask(tools=(*tools, search, Tool(name="free", custom=True)), parallel_tool_calls=False))
    assert lost == {
        Loss("tools.web_search", "meaning"),
        Loss("tools.custom", "meaning"),
        Loss("parallel_tool_calls"),
    }
    assert write(ask(tools=tools), Profile(model="m", tools=False))[1] == {Loss("tools", "meaning")}


def test_format_think_and_the_rest() -> None:
    wire, lost = write(
        ask(
            response_format=ResponseFormat(kind="json_object"),
            reasoning=Reasoning(effort="high"),
            max_tokens=5,
            seed=1,
            min_p=0.1,
            presence_penalty=1.0,
            stop=("a",),
            logprobs=True,
            top_logprobs=2,
            n=2,
            user="u",
            extra=(
                Extra(format="openai", name="logit_bias", raw=Raw(b"{}")),
                Extra(format="ollama", name="options", raw=Raw(b'{"num_ctx":9}')),
            ),
        )
    )
    assert wire["format"] == "json"
    assert wire["think"] is True
    assert wire["options"] == {
        "num_ctx": 9,
        "num_predict": 5,
        "min_p": 0.1,
        "seed": 1,
        "presence_penalty": 1.0,
        "stop": ["a"],
    }
    assert (wire["logprobs"], wire["top_logprobs"]) == (True, 2)
    assert lost == {Loss("reasoning.effort"), Loss("n", "meaning"), Loss("user"), Loss("logit_bias")}
    leveled = Profile(model="gpt-oss:20b", thinking="effort")
    assert write(ask(reasoning=Reasoning(effort="minimal")), leveled)[0]["think"] == "low"
    assert write(ask(reasoning=Reasoning(effort="none")))[0]["think"] is False
    wire, lost = write(ask(reasoning=Reasoning(enabled=True)), Profile(model="m", thinking="none"))
    assert "think" not in wire
    assert lost == {Loss("reasoning")}


def test_no_limit_stays_no_limit() -> None:
    asked = CODEC.read_request(b'{"model":"m","options":{"num_predict":-1}}')
    assert asked.max_tokens is None
    assert write(asked)[0]["options"] == {"num_predict": -1}


WORDS = st.text("abc äß日\n{}\"'", min_size=1, max_size=12)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    messages: list[Message] = [Message(role="system", blocks=(Text(text=draw(WORDS)),))]
    for number in range(draw(st.integers(1, 3))):
        messages.append(user(draw(WORDS)))
        calls = tuple(
            ToolCall(id=f"call_{number}_{index}", name="t", arguments=json.dumps({"a": draw(WORDS)}))
            for index in range(draw(st.integers(0, 3)))
        )
        messages.append(model(Thinking(text=draw(WORDS), format="ollama"), draw(WORDS), *calls))
        messages.extend(
            user(ToolResult(call_id=call.id, name="t", content=(Text(text=draw(WORDS)),))) for call in calls
        )
    return Conversation(
        model="qwen3:8b",
        messages=tuple(messages),
        tools=(Tool(name="t", description="d"),),
        max_tokens=draw(st.none() | st.integers(0, 9999)),
        temperature=draw(st.none() | st.floats(0, 2)),
        stop=tuple(draw(st.lists(WORDS, max_size=2))),
        reasoning=draw(st.sampled_from([None, Reasoning(enabled=True), Reasoning(enabled=False)])),
        stream=draw(st.booleans()),
        include_usage=True,
        format="ollama",
    )


@settings(max_examples=50, deadline=None)
@given(conversations())
def test_what_is_written_is_read_back(conversation: Conversation) -> None:
    written = CODEC.write_request(conversation, QWEN)
    assert written.lost == ()
    assert plain(CODEC.read_request(written.body)) == plain(conversation)


# ------------------------------------------------------------------ answers and streams


def test_parallel_calls_without_ids_get_ids_of_their_own() -> None:
    # All calls carry index 0, in one line or in several: none of them may be fused.
    told = accumulate(read((GOLDEN / "stream.ndjson").read_bytes()))
    calls = [block for block in told.choices[0].blocks if isinstance(block, ToolCall)]
    assert [(call.name, call.arguments) for call in calls] == [
        ("weather", '{"city":"Oslo"}'),
        ("weather", '{"city":"Rome"}'),
        ("clock", "{}"),
    ]
    assert len({call.id for call in calls}) == 3
    assert told.choices[0].finish == "tool_calls"


def test_ids_differ_from_answer_to_answer() -> None:
    body = (GOLDEN / "answer.json").read_bytes()
    later = body.replace(b"10:00:00", b"10:00:07")
    first, second = (CODEC.read_answer(one).choices[0].blocks[2] for one in (body, later))
    assert isinstance(first, ToolCall)
    assert isinstance(second, ToolCall)
    assert first.id != second.id


def test_a_stream_and_its_whole_form_say_the_same() -> None:
    told = accumulate(read((GOLDEN / "stream.ndjson").read_bytes()))
    whole = CODEC.read_answer((GOLDEN / "answer.json").read_bytes())
    assert plain(told) == plain(whole)
    assert whole.usage == Usage(input=26, output=29)
    assert whole.created == 1777629600
    assert json.loads(bytes(whole.raw_usage))["eval_duration"] == 500


def test_any_split_gives_the_same_events() -> None:
    data = (GOLDEN / "stream.ndjson").read_bytes()
    expected = plain(read(data))
    for cut in range(len(data) + 1):
        reader = CODEC.stream_reader()
        assert plain([*reader.feed(data[:cut]), *reader.feed(data[cut:]), *reader.finish()]) == expected
    reader = CODEC.stream_reader()
    events = [event for byte in data for event in reader.feed(bytes((byte,)))]
    assert plain([*events, *reader.finish()]) == expected
    assert plain(read(data.rstrip(b"\n"))) == expected
    assert plain(read(data.replace(b"\n", b"\r\n"))) == expected


def test_the_client_reads_a_written_answer_and_a_written_stream() -> None:
    whole = CODEC.read_answer((GOLDEN / "answer.json").read_bytes())
    parsed = ChatResponse.model_validate(json.loads(CODEC.write_answer(whole, ask())))
    assert (parsed.message.content, parsed.message.thinking) == ("Looking.", "Two calls.")
    assert parsed.message.tool_calls is not None
    assert [call.function.arguments for call in parsed.message.tool_calls] == [
        {"city": "Oslo"},
        {"city": "Rome"},
        {},
    ]
    assert (parsed.prompt_eval_count, parsed.eval_count, parsed.done_reason) == (26, 29, "stop")
    events = read((GOLDEN / "stream.ndjson").read_bytes())
    data = CODEC.stream_writer(ask()).write(events)
    found = lines(data)
    assert "".join(line.message.content or "" for line in found) == "Looking."
    assert [line.done for line in found] == [False] * (len(found) - 1) + [True]
    told = accumulate(read(data))
    assert plain(told.choices) == plain(whole.choices)
    assert told.usage == whole.usage
    assert plain(CODEC.read_answer(CODEC.write_answer(whole, ask())).choices) == plain(whole.choices)


def test_interleaved_calls_are_written_whole_and_in_order() -> None:
    events: list[StreamEvent] = [
        Start(model="m"),
        BlockStart(index=0, block=ToolCall(id="a", name="t", arguments="")),
        BlockStart(index=1, block=ToolCall(id="b", name="u", arguments="", custom=True)),
        BlockDelta(index=1, arguments="free"),
        BlockDelta(index=0, arguments='{"x":'),
        BlockStop(index=1),
        BlockDelta(index=0, arguments="1}"),
        BlockStop(index=0),
        BlockStart(index=2, block=Refusal(text="n")),
        BlockDelta(index=2, text="o"),
        BlockStop(index=2),
        Finished(finish="length"),
        Metered(usage=Usage(input=1, cache_read=2, output=3)),
        End(),
    ]
    told = accumulate(read(CODEC.stream_writer(ask()).write(events)))
    assert told.choices[0].blocks == (
        ToolCall(id="a", name="t", arguments='{"x":1}'),
        ToolCall(id="b", name="u", arguments='{"input":"free"}'),
        Text(text="no"),
    )
    assert told.choices[0].finish == "length"
    assert told.usage == Usage(input=3, output=3)


def test_logprobs_go_through() -> None:
    item = {"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -1.0}]}
    body = {"model": "m", "message": {"role": "assistant", "content": "a"}, "done": True, "logprobs": [item]}
    whole = CODEC.read_answer(json.dumps(body).encode())
    assert plain(whole.choices[0].logprobs) == {"content": [item]}
    assert json.loads(CODEC.write_answer(whole, ask()))["logprobs"] == [item]
    told = accumulate(read(json.dumps(body).encode() + b"\n"))
    assert plain(told) == plain(whole)
    again = CODEC.stream_writer(ask()).write(read(json.dumps(body).encode()))
    assert plain(accumulate(read(again)).choices) == plain(whole.choices)


def test_broken_arguments_of_an_answer_are_not_lost() -> None:
    answer = Completion(choices=(Choice(blocks=(ToolCall(id="a", name="t", arguments="{oops"),)),))
    [call] = json.loads(CODEC.write_answer(answer, ask()))["message"]["tool_calls"]
    assert call["function"]["arguments"] == {"input": "{oops"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"message":{"role":"assistant","content":3}}'])
def test_an_unreadable_answer_says_so(body: bytes) -> None:
    with pytest.raises(Unreadable):
        CODEC.read_answer(body)


def test_errors_in_a_stream_and_broken_streams() -> None:
    data = (GOLDEN / "stream.ndjson").read_bytes()
    first = data.splitlines(keepends=True)[0]
    assert read(first + b'{"error":"out of memory"}\n' + data)[-1] == Failed(message="out of memory")
    with pytest.raises(Broken) as broken:
        accumulate(read(data[: len(data) - 60]))
    assert broken.value.failed.code == "stream_broken"
    with pytest.raises(Unreadable):
        read(b"<html>\n")
    reader = CODEC.stream_reader()
    assert reader.feed(b"x" * 16 * 1024 * 1024) == []
    with pytest.raises(EventTooLarge):
        reader.feed(b"x")
    written = CODEC.stream_writer(ask()).write([Start(), Failed(message="gone", status=503)])
    assert json.loads(written) == {"error": "gone"}


def test_an_error_has_ollamas_shape() -> None:
    assert json.loads(CODEC.write_error(RateLimitExceeded("Wait.", details={"limit": 3}))) == {
        "error": "Wait.",
        "code": "rate_limit_exceeded",
        "limit": 3,
    }
