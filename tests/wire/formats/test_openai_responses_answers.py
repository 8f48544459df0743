"""Answers and streams of the Responses API: read from providers, written for the SDKs and agents that speak it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, structs
from openai import APIError, AsyncOpenAI, omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from tests.raw_provider import Wire, listen
from tests.wire.accumulate import Broken, accumulate

from tollway.model.usage import Usage
from tollway.wire.codec import Unreadable
from tollway.wire.conversation import (
    Audio,
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    Choice,
    Citation,
    Completion,
    Conversation,
    Document,
    End,
    Extra,
    Failed,
    Finish,
    Finished,
    Image,
    Message,
    Metered,
    Opaque,
    Ping,
    Reasoning,
    Refusal,
    Source,
    Start,
    StreamEvent,
    Text,
    Thinking,
    Tool,
    ToolCall,
)
from tollway.wire.formats.openai_responses import CODEC

GOLDEN = Path(__file__).parents[2] / "golden" / "openai_responses"
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ASKED = CODEC.read_request((GOLDEN / "request.json").read_bytes())
HELLO = Conversation(
    model="fast", messages=(Message(role="user", blocks=(Text(text="Hi"),)),), format="openai.responses"
)
USAGE = Usage(input=100, cache_read=30, cache_write_5m=5, output=40, reasoning=12)


def plain(value: object) -> Any:
    """A hub value without its raw parts' spelling: what they say, as JSON."""
    if isinstance(value, Raw):
        return json.loads(bytes(value)) if bytes(value) else None
    if isinstance(value, msgspec.Struct):
        return {"": type(value).__name__} | {
            name: plain(getattr(value, name)) for name in value.__struct_fields__
        }
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


def told(answer: Completion, *, pieces: int = 3) -> list[StreamEvent]:
    """The events of a stream that tells ``answer``, its texts in pieces; calls are told side by side."""
    choice = answer.choices[0]
    events: list[StreamEvent] = [
        Start(id=answer.id, model=answer.model, created=answer.created, service_tier=answer.service_tier)
    ]
    late: list[StreamEvent] = []
    for index, block in enumerate(choice.blocks):
        if isinstance(block, ToolCall):
            events.append(BlockStart(index=index, block=structs.replace(block, arguments="", signature=None)))
            late.extend(BlockDelta(index=index, arguments=part) for part in _split(block.arguments, pieces))
            if block.signature:
                late.append(BlockDelta(index=index, signature=block.signature))
            late.append(BlockStop(index=index))
            continue
        if isinstance(block, Text):
            events.append(BlockStart(index=index, block=Text()))
            events.extend(BlockDelta(index=index, text=part) for part in _split(block.text, pieces))
            events.extend(BlockDelta(index=index, citation=citation) for citation in block.citations)
        elif isinstance(block, Thinking):
            empty = structs.replace(block, text="", signature=None, redacted=None)
            events.append(BlockStart(index=index, block=empty))
            events.extend(BlockDelta(index=index, text=part) for part in _split(block.text, pieces))
            if block.signature:
                events.append(BlockDelta(index=index, signature=block.signature))
            if block.redacted:
                events.append(BlockDelta(index=index, redacted=block.redacted))
        elif isinstance(block, Refusal):
            events.append(BlockStart(index=index, block=Refusal()))
            events.extend(BlockDelta(index=index, text=part) for part in _split(block.text, pieces))
        else:
            events.append(BlockStart(index=index, block=block))
        events.append(BlockStop(index=index))
    # The deltas of parallel calls come in turns, as OpenAI's chat format tells them.
    events += sorted(late, key=lambda event: isinstance(event, BlockStop))
    events.append(Finished(finish=choice.finish, stop_sequence=choice.stop_sequence))
    if answer.usage is not None:
        events.append(Metered(usage=answer.usage, service_tier=answer.service_tier, cost=answer.cost))
    events.append(End())
    return events


def _split(text: str, pieces: int) -> list[str]:
    size = max(1, -(-len(text) // pieces))
    return [text[at : at + size] for at in range(0, len(text), size)]


def answered(*blocks: Block, finish: Finish = "stop", **fields: Any) -> Completion:
    return Completion(
        **{
            "id": "msg_01ABC",
            "model": "claude-opus-4-5",
            "created": 1764000000,
            "choices": (Choice(blocks=blocks, finish=finish),),
            "usage": USAGE,
            **fields,
        }
    )


def streamed(events: Sequence[StreamEvent], asked: Conversation = HELLO) -> list[dict[str, Any]]:
    """The events written, each of them checked against the SDK's types and numbered without a gap."""
    data = CODEC.stream_writer(asked).write(events)
    found = []
    for number, frame in enumerate(data.decode().split("\n\n")[:-1]):
        name, _, body = frame.partition("\n")
        event = json.loads(body.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        assert event["sequence_number"] == number
        EVENT.validate_python(event)
        found.append(event)
    return found


def gathered(events: Iterable[dict[str, Any]]) -> Any:
    """What the SDK's own accumulator makes of a stream: the finished response."""
    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=omit, text_format=omit)
    for event in events:
        state.handle_event(EVENT.validate_python(event))
    return state._completed_response


def whole(answer: Completion, asked: Conversation = HELLO) -> dict[str, Any]:
    body = json.loads(CODEC.write_answer(answer, asked))
    Response.model_validate(body)
    assert isinstance(body, dict)
    return body


def read_all(data: bytes) -> list[StreamEvent]:
    reader = CODEC.stream_reader()
    return reader.feed(data) + reader.finish()


def frames(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


# ------------------------------------------------------------------ reading answers


def test_a_whole_answer_is_read() -> None:
    got = CODEC.read_answer((GOLDEN / "answer.json").read_bytes())
    assert (got.id, got.model, got.created) == ("resp_68a0f3", "gpt-5-codex", 1764000000)
    assert got.usage == Usage(input=176, cache_read=1024, output=180, reasoning=64)
    assert json.loads(bytes(got.raw_usage))["total_tokens"] == 1380
    (choice,) = got.choices
    assert choice.finish == "tool_calls"
    thought, search, text, shell, patch = choice.blocks
    assert thought == Thinking(
        text="**Looking**\n\nThen searching.",
        signature="gAAAAABo-enc",
        summary=True,
        id="rs_68a1",
        format="openai.responses",
    )
    assert isinstance(search, Opaque)
    assert search.kind == "web_search_call"
    assert isinstance(text, Text)
    assert (text.text, text.citations[0].url) == ("Found it: ü.", "https://example.com/u")
    assert shell == ToolCall(id="call_Ab1", name="shell", arguments='{"command":["ls","-la"]}')
    assert patch == ToolCall(
        id="call_Ab2", name="apply_patch", arguments="*** Begin Patch\n*** End Patch", custom=True
    )
    said = json.loads(bytes(choice.logprobs))["content"]
    assert "".join(token["token"] for token in said) == "Found it: ü."


def test_a_stream_tells_the_same_as_the_whole_answer() -> None:
    data = (GOLDEN / "stream.sse").read_bytes()
    answer = CODEC.read_answer((GOLDEN / "answer.json").read_bytes())
    assert plain(accumulate(read_all(data))) == plain(answer)


def test_any_split_of_the_bytes_gives_the_same_events() -> None:
    data = (GOLDEN / "stream.sse").read_bytes()
    at_once = [plain(event) for event in read_all(data)]
    reader = CODEC.stream_reader()
    one_by_one = [event for at in range(len(data)) for event in reader.feed(data[at : at + 1])]
    assert [plain(event) for event in one_by_one + reader.finish()] == at_once
    for cut in range(0, len(data), 97):
        reader = CODEC.stream_reader()
        events = reader.feed(data[:cut]) + reader.feed(data[cut:]) + reader.finish()
        assert [plain(event) for event in events] == at_once


@pytest.mark.parametrize(
    ("status", "fields", "finish"),
    [
        ("completed", {}, "stop"),
        ("incomplete", {"incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ("incomplete", {"incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ("failed", {"error": {"code": "server_error", "message": "x"}}, "error"),
    ],
)
def test_how_an_answer_ended(status: str, fields: dict[str, Any], finish: str) -> None:
    item = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "x"}],
    }
    response = {"id": "resp_1", "status": status, "output": [item], **fields}
    got = CODEC.read_answer(json.dumps(response).encode())
    assert got.choices[0].finish == finish
    if status == "failed":
        return
    events = read_all(frames({"type": f"response.{status}", "response": response}))
    assert plain(accumulate(events)) == plain(got)


def test_a_refusal_is_one() -> None:
    item = {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}
    got = CODEC.read_answer(json.dumps({"status": "completed", "output": [item]}).encode())
    assert got.choices == (Choice(blocks=(Refusal(text="No."),), finish="refusal"),)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"output": 5}',
        b'{"output": [{"id": 1}]}',
        b'{"output": [{"type": "function_call", "id": "fc_1"}]}',
        b'{"status": "queued", "output": []}',
        b'{"status": "failed", "output": [], "error": {"code": "server_error", "message": "secret"}}',
        b'{"output":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_answer_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable) as found:
        CODEC.read_answer(body)
    assert "secret" not in str(found.value)


def test_a_made_picture_is_an_image() -> None:
    item = {
        "type": "image_generation_call",
        "id": "ig_1",
        "status": "completed",
        "result": "UklGRg==",
        "output_format": "webp",
    }
    got = CODEC.read_answer(json.dumps({"status": "completed", "output": [item]}).encode())
    assert got.choices[0].blocks == (
        Image(source=Source(kind="data", value="UklGRg==", media_type="image/webp")),
    )


def test_reasoning_without_a_word_and_reasoning_with_content() -> None:
    hidden = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "enc"}
    content = [{"type": "reasoning_text", "text": "a"}, {"type": "reasoning_text", "text": "b"}]
    summary = [{"type": "summary_text", "text": "s"}]
    open_one = {
        "type": "reasoning",
        "id": "rs_2",
        "summary": summary,
        "content": content,
        "encrypted_content": "e",
    }
    response = {"status": "completed", "output": [hidden, open_one]}
    got = CODEC.read_answer(json.dumps(response).encode())
    own = "openai.responses"
    assert got.choices[0].blocks == (
        Thinking(redacted="enc", id="rs_1", format=own),
        Thinking(text="s", summary=True, id="rs_2", format=own),
        Thinking(text="a\n\nb", signature="e", id="rs_2", format=own),
    )
    at = {"output_index": 1, "item_id": "rs_2"}
    events = read_all(
        frames(
            {"type": "response.created", "response": {"id": ""}},
            {"type": "response.output_item.added", "output_index": 0, "item": hidden},
            {"type": "response.output_item.done", "output_index": 0, "item": hidden},
            {
                "type": "response.output_item.added",
                "output_index": 1,
                "item": {"type": "reasoning", "id": "rs_2", "summary": []},
            },
            {"type": "response.reasoning_summary_text.delta", "summary_index": 0, "delta": "s", **at},
            {"type": "response.reasoning_text.delta", "content_index": 0, "delta": "a", **at},
            {"type": "response.reasoning_text.delta", "content_index": 1, "delta": "b", **at},
            {"type": "response.output_item.done", "output_index": 1, "item": open_one},
            {"type": "response.completed", "response": response},
        )
    )
    assert plain(accumulate(events)) == plain(got)


# ------------------------------------------------------------------ servers that leave events out

_MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "content": [
        {
            "type": "output_text",
            "text": "Hello",
            "annotations": [
                {"type": "url_citation", "url": "https://example.com", "start_index": 0, "end_index": 5}
            ],
        }
    ],
}
_CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "f",
    "arguments": '{"a":1}',
}
_RESPONSE = {"id": "resp_1", "model": "m", "status": "completed", "output": [_MESSAGE, _CALL]}
_CREATED = {"type": "response.created", "response": {"id": "resp_1", "model": "m"}}
_COMPLETED = {"type": "response.completed", "response": _RESPONSE}


@pytest.mark.parametrize(
    "events",
    [
        pytest.param((_CREATED, _COMPLETED), id="only the response"),
        pytest.param(
            (
                _CREATED,
                {"type": "response.output_item.done", "output_index": 0, "item": _MESSAGE},
                {"type": "response.output_item.done", "output_index": 1, "item": _CALL},
                _COMPLETED,
            ),
            id="only done items",
        ),
        pytest.param(
            (
                _CREATED,
                {"type": "response.output_text.delta", "delta": "Hel"},
                {"type": "response.output_text.delta", "delta": "lo"},
                {"type": "response.output_item.done", "output_index": 0, "item": _MESSAGE},
                {
                    "type": "response.output_item.added",
                    "output_index": 1,
                    "item": {**_CALL, "arguments": ""},
                },
                {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": '{"a"'},
                {"type": "response.output_item.done", "output_index": 1, "item": _CALL},
                {"type": "response.completed", "response": {**_RESPONSE, "output": []}},
            ),
            id="no parts, some deltas, an empty response",
        ),
        pytest.param(
            (
                _CREATED,
                {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message"}},
                {"type": "response.output_text.done", "text": "Hello"},
                {"type": "response.content_part.done", "part": _MESSAGE["content"][0]},
                {"type": "response.output_item.added", "output_index": 1, "item": _CALL},
                {**_COMPLETED, "response": {**_RESPONSE, "status": "in_progress"}},
            ),
            id="no deltas, an item that is never done",
        ),
    ],
)
def test_servers_that_leave_events_out_lose_nothing(events: tuple[dict[str, Any], ...]) -> None:
    answer = CODEC.read_answer(json.dumps(_RESPONSE).encode())
    assert plain(accumulate(read_all(frames(*events)))) == plain(answer)


def test_a_stream_that_never_began_begins_all_the_same() -> None:
    events = read_all(frames({"type": "response.output_text.delta", "delta": "x"}, _COMPLETED))
    assert events[0] == Start()
    assert accumulate(events).choices[0].blocks == (Text(text="x"),)


def test_signs_of_life_and_unknown_events() -> None:
    data = b": waiting\n\n" + frames(
        _CREATED, {"type": "keepalive"}, {"type": "response.new.thing"}, _COMPLETED
    )
    events = read_all(data + b"data: [DONE]\n\n")
    assert [event for event in events if isinstance(event, Ping)] == [Ping(), Ping()]
    assert isinstance(events[-1], End)


def test_a_tools_own_error_is_not_the_streams() -> None:
    failed = {"type": "response.mcp_call.failed", "output_index": 0, "error": {"message": "no such tool"}}
    unnamed = {**_RESPONSE, "id": None, "model": None}
    events = read_all(frames(_CREATED, failed, {"type": "response.completed", "response": unnamed}))
    assert isinstance(events[-1], End)
    assert CODEC.read_answer(json.dumps(unnamed).encode()).id == ""


def test_a_stream_that_breaks_off_has_failed() -> None:
    data = (GOLDEN / "stream.sse").read_bytes()
    events = read_all(data[: len(data) // 2])
    assert isinstance(events[-1], Failed)
    assert events[-1].status == 502
    with pytest.raises(Broken):
        accumulate(events)


def test_a_broken_stream_fails_once() -> None:
    events = read_all((GOLDEN / "broken.sse").read_bytes())
    assert events[1:] == [
        Failed(
            message="The quota is used up.",
            status=429,
            code="insufficient_quota",
            kind="insufficient_quota",
        )
    ]


@pytest.mark.parametrize(
    ("event", "failed"),
    [
        (
            {"type": "error", "code": "server_error", "message": "Boom.", "param": None},
            Failed(message="Boom.", status=502, code="server_error"),
        ),
        (
            {"type": "error", "error": {"type": "invalid_request_error", "message": "Too long."}},
            Failed(message="Too long.", status=400, kind="invalid_request_error"),
        ),
        ({"error": {"code": 503, "message": "Busy."}}, Failed(message="Busy.", status=503, code="503")),
        (
            {
                "type": "response.failed",
                "response": {"error": {"code": "rate_limit_exceeded", "message": "Slow down."}},
            },
            Failed(message="Slow down.", status=429, code="rate_limit_exceeded"),
        ),
    ],
)
def test_errors_in_a_stream(event: dict[str, Any], failed: Failed) -> None:
    events = read_all(frames(_CREATED, event))
    assert events[-1] == failed


def test_usage_of_a_failed_response_is_not_lost() -> None:
    response = {"usage": {"input_tokens": 7, "output_tokens": 0}, "error": {"message": "x"}}
    events = read_all(frames(_CREATED, {"type": "response.failed", "response": response}))
    assert [event.usage for event in events if isinstance(event, Metered)] == [Usage(input=7)]


@pytest.mark.parametrize("data", [b"data: {\n\n", b"data: 5\n\n", b'data: {"type":"response.completed"}\n\n'])
def test_garbage_in_a_stream_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        read_all(data)


# ------------------------------------------------------------------ writing answers


def test_the_response_repeats_the_request() -> None:
    got = whole(answered(Text(text="Hi")), ASKED)
    assert got["instructions"] == "You are a coding agent."
    assert (got["max_output_tokens"], got["max_tool_calls"], got["truncation"]) == (4096, 3, "auto")
    assert got["reasoning"] == {"effort": "medium", "summary": "auto"}
    assert got["text"]["verbosity"] == "low"
    assert got["text"]["format"]["name"] == "codex_output_schema"
    assert got["tools"] == json.loads((GOLDEN / "request.json").read_bytes())["tools"]
    assert (got["tool_choice"], got["parallel_tool_calls"], got["store"]) == ("auto", True, False)
    assert (got["prompt_cache_key"], got["safety_identifier"]) == ("thread-7", "u-1")
    assert got["metadata"] == {"run": "7"}
    assert got["status"] == "completed"
    documented = set(Response.model_fields) - {"moderation", "prompt_cache_options", "prompt_cache_retention"}
    assert documented <= got.keys()


def test_defaults_of_a_bare_request_are_filled_in() -> None:
    got = whole(answered(Text(text="Hi")))
    assert (got["temperature"], got["top_p"], got["truncation"]) == (1.0, 1.0, "disabled")
    assert (got["tools"], got["tool_choice"], got["background"]) == ([], "auto", False)
    assert got["text"] == {"format": {"type": "text"}}


def test_ids_are_made_of_the_answers_own_and_call_ids_survive() -> None:
    got = whole(answered(Text(text="Hi"), ToolCall(id="toolu_01X", name="f"), finish="tool_calls"))
    assert got["id"] == "resp_01ABC"
    message, call = got["output"]
    assert message["id"] == "msg_01ABC_0"
    assert call["id"] == "fc_01ABC_1"
    assert (call["call_id"], call["arguments"], call["status"]) == ("toolu_01X", "{}", "completed")
    assert got == whole(answered(Text(text="Hi"), ToolCall(id="toolu_01X", name="f"), finish="tool_calls"))
    assert whole(answered(id="resp_1"))["id"] == "resp_1"
    odd = whole(answered(Text(text="x"), id="a b/" + "é" * 90))
    assert len(odd["id"]) <= 64
    assert odd["id"].isascii()


def test_usage_is_counted_as_this_api_counts() -> None:
    got = whole(answered(Text(text="x"), cost="0.00001234"))
    assert got["usage"] == {
        "input_tokens": 135,
        "input_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 5},
        "output_tokens": 40,
        "output_tokens_details": {"reasoning_tokens": 12},
        "total_tokens": 175,
        "cost": 0.00001234,
    }
    assert CODEC.read_answer(json.dumps(got).encode()).usage == USAGE
    assert whole(answered(usage=None))["usage"] is None


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("refusal", "incomplete", "content_filter"),
        ("pause", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
        ("error", "failed", None),
    ],
)
def test_every_end_has_its_status_and_closing_event(finish: Finish, status: str, reason: str | None) -> None:
    answer = answered(Text(text="x"), finish=finish)
    got = whole(answer)
    assert got["status"] == status
    assert got["incomplete_details"] == ({"reason": reason} if reason else None)
    assert (got["error"] is not None) == (status == "failed")
    assert got["output"][0]["status"] == ("completed" if status == "completed" else "incomplete")
    last = streamed(told(answer))[-1]
    assert last["type"] == f"response.{status}"
    assert last["response"] == got


def test_a_refusal_told_as_one_completes_the_answer() -> None:
    answer = answered(Refusal(text="No."), finish="refusal")
    got = whole(answer)
    assert (got["status"], got["incomplete_details"]) == ("completed", None)
    assert streamed(told(answer))[-1]["response"] == got


def test_thoughts_are_summaries_where_they_are_wanted_as_such() -> None:
    thought = Thinking(text="Hm", format="anthropic")
    assert whole(answered(thought))["output"][0]["content"] == [{"type": "reasoning_text", "text": "Hm"}]
    for asked, block in (
        (structs.replace(HELLO, reasoning=Reasoning(summary="auto")), thought),
        (HELLO, structs.replace(thought, summary=True)),
    ):
        (item,) = whole(answered(block), asked)["output"]
        assert item["summary"] == [{"type": "summary_text", "text": "Hm"}]


@pytest.mark.parametrize("summary", [None, "auto"])
def test_signed_thoughts_of_other_providers_travel_through_the_client(summary: str | None) -> None:
    """A thought must be shown to its provider again, unchanged, in the next turn of a tool loop."""
    asked = structs.replace(HELLO, reasoning=Reasoning(summary=summary))
    thoughts: tuple[Block, ...] = (
        Thinking(text="Let me see.", signature="sig==", format="anthropic"),
        Thinking(redacted="opaque", format="anthropic"),
    )
    call = ToolCall(id="toolu_1", name="f", signature="thought-signature")
    output = whole(answered(*thoughts, call, finish="tool_calls"), asked)["output"]
    for item in output:
        # Some clients hand back neither ids nor the content of a thought.
        item.pop("id")
        item.pop("content", None)
    result = {"type": "function_call_output", "call_id": "toolu_1", "output": "ok"}
    again = CODEC.read_request(json.dumps({"model": "m", "input": [*output, result]}).encode())
    assert again.messages[0].blocks == (*thoughts, call)


def test_a_damaged_seal_is_no_proof_of_anything() -> None:
    for broken in ("tollway.1.%%%", "tollway.1.e30", "tollway.1.bm90IGpzb24="):
        item = {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "S"}],
            "encrypted_content": broken,
        }
        got = CODEC.read_request(json.dumps({"model": "m", "input": [item]}).encode())
        (block,) = got.messages[0].blocks
        assert isinstance(block, Thinking)
        assert (block.text, block.signature) == ("S", None)


def test_a_namespaced_call_gets_its_two_names_back() -> None:
    answer = answered(ToolCall(id="c", name="mcp__files__read"), finish="tool_calls")
    (item,) = whole(answer, ASKED)["output"]
    assert (item["namespace"], item["name"]) == ("mcp__files__", "read")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"input":"*** Begin Patch\\n"}', "*** Begin Patch\n"),
        ('{"patch":"x"}', "x"),
        ('{"a":"x","b":"y"}', '{"a":"x","b":"y"}'),
        ("not json", "not json"),
    ],
)
def test_a_custom_tool_called_as_a_function_is_a_custom_call(arguments: str, text: str) -> None:
    """Codex offers apply_patch as free text; providers without such tools call it as a function."""
    answer = answered(ToolCall(id="c", name="apply_patch", arguments=arguments), finish="tool_calls")
    (item,) = whole(answer, ASKED)["output"]
    assert (item["type"], item["call_id"], item["input"]) == ("custom_tool_call", "c", text)
    events = streamed(told(answer), ASKED)
    said = [event["delta"] for event in events if event["type"] == "response.custom_tool_call_input.delta"]
    assert "".join(said) == text


def test_citations_pictures_and_sound() -> None:
    got = whole(
        answered(
            Text(
                text="abc",
                citations=(
                    Citation(url="https://example.com", title="T"),
                    Citation(file_id="file_1", title="F", end=2),
                    Citation(cited="nowhere"),
                ),
            ),
            Audio(source=Source(kind="data", value="AA=="), transcript="spoken"),
            Image(source=Source(kind="data", value="iVBORw0KGgo=", media_type="image/png")),
            Image(source=Source(kind="url", value="https://example.com/x.png")),
            Opaque(format="anthropic", kind="server_tool_use", raw=Raw(b"{}")),
            Document(text="never"),
        )
    )
    message, picture, link = got["output"]
    assert [part["text"] for part in message["content"]] == ["abc", "spoken"]
    assert [annotation["type"] for annotation in message["content"][0]["annotations"]] == [
        "url_citation",
        "file_citation",
    ]
    assert (picture["type"], picture["result"], picture["status"]) == (
        "image_generation_call",
        "iVBORw0KGgo=",
        "completed",
    )
    assert link["content"][0]["text"] == "![image](https://example.com/x.png)"


def test_log_probabilities_stand_with_their_texts() -> None:
    tokens = [
        {"token": "He", "logprob": -0.1, "bytes": [72, 101], "top_logprobs": []},
        {
            "token": "llo",
            "logprob": -0.2,
            "bytes": None,
            "top_logprobs": [{"token": "y", "logprob": -3, "bytes": None}],
        },
        {"token": "World", "logprob": -0.3, "bytes": None, "top_logprobs": []},
    ]
    logprobs = Raw(json.dumps({"content": tokens, "refusal": None}).encode())
    choice = Choice(blocks=(Text(text="Hello"), Text(text="World")), logprobs=logprobs)
    (message,) = whole(answered(choices=(choice,)))["output"]
    found = [[token["token"] for token in part["logprobs"]] for part in message["content"]]
    assert found == [["He", "llo"], ["World"]]
    assert message["content"][0]["logprobs"][1]["bytes"] == [108, 108, 111]
    events = streamed(
        [
            Start(id="x", model="m"),
            BlockStart(index=0, block=Text()),
            BlockDelta(index=0, text="He", logprobs=Raw(json.dumps({"content": tokens[:1]}).encode())),
            BlockDelta(index=0, text="llo", logprobs=Raw(json.dumps({"content": tokens[1:2]}).encode())),
            BlockStop(index=0),
            Finished(finish="stop"),
            End(),
        ]
    )
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert [event["logprobs"][0]["token"] for event in deltas] == ["He", "llo"]
    assert len(events[-1]["response"]["output"][0]["content"][0]["logprobs"]) == 2


# ------------------------------------------------------------------ writing streams


def test_the_events_of_a_plain_answer() -> None:
    events = streamed(told(answered(Text(text="Hello!")), pieces=2))
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert events[0]["response"]["status"] == "in_progress"
    assert events[0]["response"]["usage"] is None
    assert events[6]["text"] == "Hello!"
    assert {event["item_id"] for event in events if "item_id" in event} == {"msg_01ABC_0"}


def test_the_events_of_thoughts_and_calls() -> None:
    answer = answered(
        Thinking(text="Hm", summary=True, signature="s", format="anthropic"),
        ToolCall(id="c1", name="f", arguments='{"a":1}'),
        ToolCall(id="c2", name="p", arguments="free", custom=True),
        Refusal(text="No."),
        finish="tool_calls",
    )
    kinds = [event["type"].removeprefix("response.") for event in streamed(told(answer, pieces=1))]
    assert kinds[2:-1] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "refusal.delta",
        "refusal.done",
        "content_part.done",
        "output_item.done",
    ]


def test_pretty_printed_values_of_the_request_do_not_break_the_frames() -> None:
    asked = structs.replace(
        HELLO,
        tools=(Tool(name="f", schema=Raw(b'{\n "type":\r\n "object"}')),),
        extra=(Extra(format="openai.responses", name="truncation", raw=Raw(b'\n"auto"\n')),),
    )
    events = streamed(told(answered(Text(text="a\nb"))), asked)
    assert events[-1]["response"]["tools"][0]["parameters"] == {"type": "object"}
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "a\nb"


def test_only_one_item_is_open_at_a_time() -> None:
    """Codex keeps one active item: a delta for another is an error there."""
    calls = tuple(ToolCall(id=f"c{at}", name="f", arguments=f'{{"n":{at}}}') for at in range(3))
    active = None
    for event in streamed(told(answered(Text(text="x"), *calls, finish="tool_calls"))):
        if event["type"] == "response.output_item.added":
            assert active is None
            active = event["item"]["id"]
        elif event["type"] == "response.output_item.done":
            assert event["item"]["id"] == active
            active = None
        elif "item_id" in event:
            assert event["item_id"] == active


def test_a_failure_is_an_error_event_and_a_failed_response() -> None:
    begun = told(answered(Text(text="Hello")))[:3]
    events = streamed([*begun, Failed(message="Overloaded.", status=529, kind="overloaded_error")])
    assert [event["type"] for event in events[-3:]] == [
        "response.output_item.done",
        "error",
        "response.failed",
    ]
    assert (events[-2]["code"], events[-2]["message"]) == ("server_error", "Overloaded.")
    assert events[-2]["error"]["type"] == "overloaded_error"
    failed = events[-1]["response"]
    assert (failed["status"], failed["error"]) == (
        "failed",
        {"code": "server_error", "message": "Overloaded."},
    )
    assert failed["output"][0]["content"][0]["text"]
    # Codex chooses what to do by the code of the failed response.
    data = CODEC.stream_writer(HELLO).write(
        [Failed(message="Too long.", status=400, code="context_length_exceeded")]
    )
    assert data.startswith(b"event: response.created\n")
    assert read_all(data)[-1] == Failed(
        message="Too long.", status=400, code="context_length_exceeded", kind="api_error"
    )


def test_nothing_is_written_behind_the_end_and_for_a_ping() -> None:
    writer = CODEC.stream_writer(HELLO)
    assert writer.write([Start(id="x"), Finished(finish="stop"), End()])
    assert writer.write([Ping(), End(), Failed(message="late")]) == b""
    assert CODEC.stream_writer(HELLO).write([Ping()]) == b""


def test_a_stream_of_this_api_is_written_as_it_was_read() -> None:
    data = (GOLDEN / "stream.sse").read_bytes()
    answer = accumulate(read_all(data))
    written = CODEC.stream_writer(ASKED).write(read_all(data))
    again = accumulate(read_all(written))
    assert plain(again) | {"raw_usage": None} == plain(answer) | {"raw_usage": None}
    ours = json.loads(written.rsplit(b"data: ", 1)[1])["response"]["output"]
    theirs = json.loads((GOLDEN / "answer.json").read_bytes())["output"]
    assert [item["type"] for item in ours] == [item["type"] for item in theirs]
    assert ours[0]["id"] == "rs_68a1"
    assert ours[0]["encrypted_content"] == theirs[0]["encrypted_content"]
    assert ours[1] == theirs[1]
    assert ours[2]["content"] == theirs[2]["content"]


# ------------------------------------------------------------------ any answer

_words = st.text(alphabet=st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)
_blocks: st.SearchStrategy[Block] = st.one_of(
    st.builds(Text, text=_words),
    st.builds(Text, text=_words, citations=st.just((Citation(url="https://example.com", title="T"),))),
    st.builds(Refusal, text=_words),
    st.builds(
        Thinking,
        text=_words,
        summary=st.booleans(),
        format=st.just("anthropic"),
        signature=st.none() | _words,
    ),
    st.builds(Thinking, redacted=_words, format=st.just("anthropic")),
    st.builds(
        Opaque,
        format=st.just("openai.responses"),
        kind=st.just("web_search_call"),
        raw=st.just(
            Raw(
                b'{"type":"web_search_call","id":"ws_1","status":"completed","action":{"type":"search","query":"q"}}'
            )
        ),
    ),
    st.builds(ToolCall, id=_words, name=st.just("f"), arguments=st.sampled_from(("{}", '{"a":[1,2,3]}'))),
    st.builds(ToolCall, id=_words, name=st.just("p"), arguments=_words, custom=st.just(True)),
    st.builds(ToolCall, id=_words, name=st.just("f"), arguments=st.just("{}"), signature=_words),
)
_answers = st.builds(
    lambda blocks, finish, usage: answered(*blocks, finish=finish, usage=usage),
    st.lists(_blocks, max_size=6),
    st.sampled_from(("stop", "length", "content_filter")),
    st.none() | st.just(USAGE),
)


@settings(max_examples=120, deadline=None)
@given(_answers, st.integers(1, 6), st.sampled_from((None, "auto")))
def test_stream_and_whole_are_the_same_answer(answer: Completion, pieces: int, summary: str | None) -> None:
    asked = structs.replace(HELLO, reasoning=Reasoning(summary=summary))
    # Blocks told side by side: those that are no calls come first, as they do in a stream.
    blocks = sorted(answer.choices[0].blocks, key=lambda block: isinstance(block, ToolCall))
    answer = structs.replace(answer, choices=(structs.replace(answer.choices[0], blocks=tuple(blocks)),))
    events = streamed(told(answer, pieces=pieces), asked)
    complete = whole(answer, asked)
    assert events[-1]["response"] == complete
    for index, item in enumerate(complete["output"]):
        done = [event for event in events if event["type"] == "response.output_item.done"]
        assert done[index]["item"] | {"status": 0} == item | {"status": 0}
    if complete["status"] == "completed":
        assert gathered(events).output_text == "".join(
            block.text for block in blocks if isinstance(block, Text)
        )
    data = CODEC.stream_writer(asked).write(told(answer, pieces=pieces))
    ours = accumulate(read_all(data))
    again = CODEC.read_answer(json.dumps(complete).encode())
    assert plain(ours) | {"raw_usage": None} == plain(again) | {"raw_usage": None}
    kept = [block for block in ours.choices[0].blocks if isinstance(block, Text | Refusal | ToolCall)]
    assert [_said(block) for block in kept] == [
        _said(block) for block in blocks if isinstance(block, Text | Refusal | ToolCall)
    ]
    assert ours.usage == answer.usage


def _said(block: Text | Refusal | ToolCall) -> tuple[str, ...]:
    if isinstance(block, ToolCall):
        return (block.id, block.name, block.arguments)
    return (block.text,)


# ------------------------------------------------------------------ the clients themselves


def _http(data: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    return head + data


async def test_the_openai_sdk_streams_it() -> None:
    answer = answered(
        Text(text="Hello there"), ToolCall(id="c1", name="f", arguments='{"a":1}'), finish="tool_calls"
    )
    data = CODEC.stream_writer(HELLO).write(told(answer))

    async def serve(wire: Wire) -> None:
        await wire.request()
        await wire.trickle(_http(data), 64)
        wire.close()

    async with listen(serve) as provider:
        client = AsyncOpenAI(base_url=f"http://127.0.0.1:{provider.port}/v1", api_key="k", max_retries=0)
        async with client.responses.stream(model="fast", input="Hi") as stream:
            texts = [event.delta async for event in stream if event.type == "response.output_text.delta"]
            final = await stream.get_final_response()
        await client.close()
    assert "".join(texts) == final.output_text == "Hello there"
    assert final.output[1].type == "function_call"
    assert final.output[1].call_id == "c1"
    assert final.usage is not None
    assert final.usage.input_tokens_details.cached_tokens == 30


async def test_the_openai_sdk_raises_on_a_failure() -> None:
    data = CODEC.stream_writer(HELLO).write([Start(id="x"), Failed(message="Overloaded.", status=529)])

    async def serve(wire: Wire) -> None:
        await wire.request()
        wire.send(_http(data))
        wire.close()

    async with listen(serve) as provider:
        client = AsyncOpenAI(base_url=f"http://127.0.0.1:{provider.port}/v1", api_key="k", max_retries=0)
        with pytest.raises(APIError, match="Overloaded"):
            async for _ in await client.responses.create(model="fast", input="Hi", stream=True):
                pass
        await client.close()


async def test_the_agents_sdk_walks_a_tool_loop() -> None:
    """A whole loop of two turns: what the agent sends back is read again, its thoughts with it."""
    set_tracing_disabled(True)
    requests: list[Conversation] = []
    thought = Thinking(text="Let me look it up.", signature="sig", format="anthropic")
    turns = [
        answered(
            thought, ToolCall(id="toolu_9", name="weather", arguments='{"city":"Graz"}'), finish="tool_calls"
        ),
        answered(Text(text="It is sunny in Graz."), id="msg_02"),
    ]

    async def serve(wire: Wire) -> None:
        whole_request = await wire.request()
        asked = CODEC.read_request(whole_request.partition(b"\r\n\r\n")[2])
        requests.append(asked)
        wire.send(_http(CODEC.stream_writer(asked).write(told(turns[len(requests) - 1]))))
        wire.close()

    @function_tool
    def weather(city: str) -> str:
        return f"sunny in {city}"

    async with listen(serve) as provider:
        client = AsyncOpenAI(base_url=f"http://127.0.0.1:{provider.port}/v1", api_key="k", max_retries=0)
        agent = Agent(
            name="a",
            instructions="Help.",
            model=OpenAIResponsesModel(model="fast", openai_client=client),
            tools=[weather],
            model_settings=ModelSettings(store=False),
        )
        result = Runner.run_streamed(agent, "Weather in Graz?")
        async for _ in result.stream_events():
            pass
        await client.close()
    assert result.final_output == "It is sunny in Graz."
    second = requests[1]
    assert second.messages[0].blocks == (Text(text="Help."),)
    assert second.messages[2].blocks == (
        thought,
        ToolCall(id="toolu_9", name="weather", arguments='{"city":"Graz"}'),
    )
    (given_back,) = second.messages[3].blocks
    assert plain(given_back)["content"][0]["text"] == "sunny in Graz"
    assert given_back.name == "weather"  # type: ignore[union-attr]
