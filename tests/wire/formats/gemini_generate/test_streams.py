"""Streams of generateContent: the same answer as the whole form, however the bytes are torn."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
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
    End,
    Failed,
    Finished,
    Image,
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
    ToolCall,
)
from tollway.wire.formats.gemini_generate import CODEC, array_writer
from tollway.wire.sse import parse, split

GOLDEN = Path(__file__).parents[3] / "golden" / "gemini_generate"
ASKED = Conversation(model="m", reasoning=Reasoning(show=True))


def read(data: bytes, *cuts: int) -> list[StreamEvent]:
    reader = CODEC.stream_reader()
    events = []
    for start, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
        events += reader.feed(data[start:end])
    return events + reader.finish()


def sse(*pieces: Any) -> bytes:
    return b"".join(b"data: " + msgspec.json.encode(piece) + b"\r\n\r\n" for piece in pieces)


def piece(*parts: dict[str, Any], **candidate: Any) -> dict[str, Any]:
    return {
        "candidates": [{"content": {"parts": list(parts), "role": "model"}, "index": 0, **candidate}],
        "modelVersion": "m",
        "responseId": "r",
    }


def pieces(data: bytes) -> list[dict[str, Any]]:
    """The JSON of each event, after the SDK's types took it."""
    found = []
    for block in split(data):
        text = parse(block).data
        assert text is not None
        if not text.startswith(b'{"error"'):
            types.GenerateContentResponse.model_validate_json(text)
        found.append(msgspec.json.decode(text))
    return found


def write(*events: StreamEvent, asked: Conversation = ASKED) -> list[dict[str, Any]]:
    return pieces(CODEC.stream_writer(asked).write(events))


def told(completion: Completion) -> Iterator[StreamEvent]:
    """Events that tell ``completion`` in small steps."""
    yield Start(id=completion.id, model=completion.model)
    for number, choice in enumerate(completion.choices):
        for index, block in enumerate(choice.blocks):
            yield from _told(block, index, number)
        yield Finished(finish=choice.finish, choice=number)
    if completion.usage is not None:
        yield Metered(usage=completion.usage)
    yield End()


def _told(block: Block, index: int, choice: int) -> Iterator[StreamEvent]:
    if isinstance(block, Text | Thinking):
        empty: Block = structs.replace(block, text="", signature=None)
        yield BlockStart(index=index, block=empty, choice=choice)
        for letter in block.text:
            yield BlockDelta(index=index, text=letter, choice=choice)
        if block.signature:
            yield BlockDelta(index=index, signature=block.signature, choice=choice)
    elif isinstance(block, ToolCall):
        yield BlockStart(index=index, block=structs.replace(block, arguments=""), choice=choice)
        for place in range(0, len(block.arguments), 3):
            yield BlockDelta(index=index, arguments=block.arguments[place : place + 3], choice=choice)
    else:
        yield BlockStart(index=index, block=block, choice=choice)
    yield BlockStop(index=index, choice=choice)


# ------------------------------------------------------------------ reading


def test_the_golden_stream_is_the_golden_answer() -> None:
    events = read((GOLDEN / "stream.sse").read_bytes())
    whole = CODEC.read_answer((GOLDEN / "answer.json").read_bytes())
    found = accumulate(events)
    assert found == structs.replace(whole, raw_usage=found.raw_usage)
    assert isinstance(events[0], Start)
    assert events[0].usage == Usage(input=300, cache_read=600, audio_input=100)


def test_any_cut_gives_the_same_events() -> None:
    data = (GOLDEN / "stream.sse").read_bytes()
    once = read(data)
    assert all(read(data, cut) == once for cut in range(1, len(data)))
    assert read(data, *range(1, len(data))) == once
    assert read(data.replace(b"\r\n", b"\n")) == once
    assert read(data.rstrip()) == once  # the last blank line is missing


def test_calls_are_told_one_by_one_and_whole() -> None:
    events = read((GOLDEN / "stream.sse").read_bytes())
    calls = [event for event in events if isinstance(event, BlockStart) and isinstance(event.block, ToolCall)]
    assert [call.index for call in calls] == [2, 3]
    for call in calls:
        place = events.index(call)
        assert isinstance(call.block, ToolCall)
        assert call.block.arguments == ""
        delta, stop = events[place + 1 : place + 3]
        assert isinstance(delta, BlockDelta)
        assert delta.arguments is not None
        assert stop == BlockStop(index=call.index)


def test_words_arrive_as_they_come() -> None:
    reader = CODEC.stream_reader()
    assert reader.feed(sse(piece({"text": "He"})))[1:] == [
        BlockStart(index=0, block=Text()),
        BlockDelta(index=0, text="He"),
    ]
    assert reader.feed(sse(piece({"text": "llo"}))) == [BlockDelta(index=0, text="llo")]


def test_a_finish_reason_in_every_piece_does_not_end_the_answer() -> None:
    data = sse(piece({"text": "a"}, finishReason="STOP"), piece({"text": "b"}, finishReason="STOP"))
    assert accumulate(read(data)).choices == (Choice(blocks=(Text(text="ab"),), finish="stop"),)


def test_a_signature_at_the_end_belongs_to_the_words_before() -> None:
    data = sse(
        piece({"text": "Hel"}),
        piece({"text": "lo"}),
        piece({"text": "", "thoughtSignature": "cw=="}, finishReason="STOP"),
    )
    assert accumulate(read(data)).choices[0].blocks == (Text(text="Hello", signature="cw=="),)


def test_grounding_of_the_last_piece_cites_the_whole_text() -> None:
    grounded = msgspec.json.decode((GOLDEN / "grounded.json").read_bytes())
    (last,) = grounded["candidates"]
    data = sse(
        {**grounded, "candidates": [{"content": {"parts": [{"text": "Köln gew"}]}}]},
        {**grounded, "candidates": [{**last, "content": {"parts": [{"text": "ann. Es war knapp."}]}}]},
    )
    assert accumulate(read(data)) == CODEC.read_answer(msgspec.json.encode(grounded))


def test_sound_in_pieces_is_one_sound() -> None:
    def sound(data: bytes) -> dict[str, Any]:
        return {"inlineData": {"mimeType": "audio/L16;rate=24000", "data": base64.b64encode(data).decode()}}

    data = sse(piece(sound(b"a")), piece(sound(b"bc")), piece(finishReason="STOP"))
    (block,) = accumulate(read(data)).choices[0].blocks
    assert isinstance(block, Audio)
    assert base64.b64decode(block.source.value) == b"abc"


def test_arguments_that_vertex_streams_are_put_together() -> None:
    def call(**fields: Any) -> dict[str, Any]:
        return piece({"functionCall": fields})

    def at(path: str, **value: Any) -> dict[str, Any]:
        return {"jsonPath": path, **value}

    data = sse(
        call(name="book", willContinue=True),
        call(partialArgs=[at("$.city", stringValue="Par", willContinue=True)], willContinue=True),
        call(
            partialArgs=[at("$.city", stringValue="is"), at("$.days[0].n", numberValue=12345678901234567890)],
            willContinue=True,
        ),
        call(
            partialArgs=[at("$.days[1]['a.b']", boolValue=True), at("$.none", nullValue="NULL_VALUE")],
            willContinue=True,
        ),
        call(),
        call(name="now", args={}),
        piece(finishReason="STOP"),
    )
    first, second = accumulate(read(data)).choices[0].blocks
    assert isinstance(first, ToolCall)
    assert first.name == "book"
    assert first.arguments == '{"city":"Paris","days":[{"n":12345678901234567890},{"a.b":true}],"none":null}'
    assert isinstance(second, ToolCall)
    assert (second.name, second.arguments) == ("now", "{}")


@pytest.mark.parametrize("path", ["$", "", "$[9999999]", "$.a" + "[0]" * 500, "$.a[999999].b"])
def test_odd_paths_do_no_harm(path: str) -> None:
    data = sse(
        piece({"functionCall": {"name": "f", "partialArgs": [{"jsonPath": path, "stringValue": "x"}]}}),
        piece(finishReason="STOP"),
    )
    (block,) = accumulate(read(data)).choices[0].blocks
    assert isinstance(block, ToolCall)
    assert len(block.arguments) < 100


def test_a_blocked_prompt() -> None:
    body = {
        "promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": "No."},
        "responseId": "r",
        "modelVersion": "m",
    }
    found = accumulate(read(sse(body)))
    assert found == CODEC.read_answer(msgspec.json.encode(body))
    assert found.choices == (Choice(blocks=(Refusal(text="No."),), finish="content_filter"),)


def test_log_probabilities_of_every_piece() -> None:
    def likely(token: str) -> dict[str, Any]:
        return {"logprobsResult": {"chosenCandidates": [{"token": token, "logProbability": -1.0}]}}

    data = sse(
        piece({"text": "a"}, **likely("a")),
        piece({"text": "b"}, **likely("b")),
        piece(finishReason="STOP", **likely("c")),
    )
    (choice,) = accumulate(read(data)).choices
    assert [each["token"] for each in msgspec.json.decode(choice.logprobs)["content"]] == ["a", "b", "c"]


def test_candidates_side_by_side() -> None:
    data = sse(
        piece({"text": "a"}),
        piece({"text": "x"}, index=1),
        piece({"text": "b"}, finishReason="STOP"),
        piece({"text": "y"}, index=1, finishReason="MAX_TOKENS"),
    )
    assert accumulate(read(data)).choices == (
        Choice(blocks=(Text(text="ab"),)),
        Choice(blocks=(Text(text="xy"),), finish="length"),
    )


ERROR = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}


@pytest.mark.parametrize(
    "tail",
    [
        sse(ERROR),
        b"[" + json.dumps(ERROR, indent=2).encode() + b"\n]\n",
        msgspec.json.encode(ERROR) + b"\n\n",
    ],
)
def test_an_error_in_the_middle(tail: bytes) -> None:
    usage = {"usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 1, "totalTokenCount": 5}}
    with pytest.raises(Broken) as broken:
        accumulate(read(sse({**piece({"text": "half"}), **usage}) + tail))
    assert broken.value.failed == Failed(message="The model is overloaded.", status=503, code="UNAVAILABLE")
    assert broken.value.so_far.choices[0].blocks == (Text(text="half"),)
    assert broken.value.so_far.usage == Usage(input=4, output=1)


def test_nothing_follows_a_failure() -> None:
    reader = CODEC.stream_reader()
    assert len(reader.feed(sse(piece({"text": "a"}), ERROR, piece({"text": "never"})))) == 5
    assert reader.feed(sse(piece({"text": "never"}))) == reader.finish() == []


def test_an_error_in_place_of_a_stream() -> None:
    (failed,) = read(sse({"error": {"code": 429, "message": "Quota.", "status": "RESOURCE_EXHAUSTED"}}))
    assert failed == Failed(message="Quota.", status=429, kind="rate_limit_error", code="RESOURCE_EXHAUSTED")
    (failed,) = read(sse({"error": "odd"}))
    assert isinstance(failed, Failed)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b": hello\n\n",
        sse(piece({"text": "a"})),
        sse(piece({"text": "a"}))[:-40],
        sse({"modelVersion": "m"}),
    ],
)
def test_a_stream_that_breaks_off(data: bytes) -> None:
    with pytest.raises(Broken) as broken:
        accumulate(read(data))
    assert broken.value.failed.status == 502


@pytest.mark.parametrize(
    "data",
    [
        b"data: {\n\n",
        b"data: 3\n\n",
        sse(piece({"text": 1})),
        b"{odd\n\n",
        b'data: {"candidates":[{"content":{"parts":[1]}}]}\n\n',
    ],
)
def test_what_is_no_stream_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        CODEC.stream_reader().feed(data)


def test_the_end_mark_of_others_is_skipped() -> None:
    assert accumulate(read(sse(piece({"text": "a"}, finishReason="STOP")) + b"data: [DONE]\n\n")).choices


# ------------------------------------------------------------------ writing


def test_a_stream_of_another_provider() -> None:
    found = write(
        Start(id="r", model="claude"),
        BlockStart(index=0, block=Thinking(format="anthropic")),
        BlockDelta(index=0, text="hm"),
        BlockDelta(index=0, signature="sig"),
        BlockStop(index=0),
        Ping(),
        BlockStart(index=1, block=Text()),
        BlockDelta(index=1, text="Hi"),
        BlockStop(index=1),
        Finished(finish="stop"),
        Metered(usage=Usage(input=3, output=2)),
        End(),
    )
    head = {"modelVersion": "claude", "responseId": "r"}
    assert [each["candidates"][0]["content"]["parts"][0]["text"] for each in found] == ["hm", "", "Hi", ""]
    assert found[0]["candidates"][0]["content"]["parts"][0]["thought"] is True
    assert all(head.items() <= each.items() for each in found)
    assert all("finishReason" not in each["candidates"][0] for each in found[:-1])
    assert found[-1] == {
        "candidates": [
            {"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": "STOP", "index": 0}
        ],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
        **head,
    }


def test_interleaved_calls_are_written_whole() -> None:
    found = write(
        Start(),
        BlockStart(index=0, block=ToolCall(id="a", name="f", arguments="")),
        BlockStart(index=1, block=ToolCall(id="b", name="g", arguments="")),
        BlockDelta(index=0, arguments='{"x"'),
        BlockDelta(index=1, arguments='{"y":2}'),
        BlockDelta(index=0, arguments=":1}"),
        BlockStop(index=1),
        BlockStop(index=0),
        Finished(finish="tool_calls"),
        End(),
    )
    calls = [each["candidates"][0]["content"]["parts"][0].get("functionCall") for each in found]
    assert calls == [
        {"id": "b", "name": "g", "args": {"y": 2}},
        {"id": "a", "name": "f", "args": {"x": 1}},
        None,
    ]


def test_nothing_is_written_after_the_end() -> None:
    writer = CODEC.stream_writer(ASKED)
    writer.write([Start(), BlockStart(index=0, block=Text()), BlockStop(index=0), Finished(finish="stop")])
    assert writer.write([End()])
    assert writer.write([BlockDelta(index=0, text="late"), End(), Failed(message="x")]) == b""


def test_arguments_that_are_no_object() -> None:
    found = write(
        Start(),
        BlockStart(index=0, block=ToolCall(id="a", name="f", arguments="[")),
        BlockStop(index=0),
        Finished(finish="tool_calls"),
        End(),
    )
    (candidate,) = found[-1]["candidates"]
    assert candidate["finishReason"] == "MALFORMED_FUNCTION_CALL"
    assert candidate["finishMessage"] == "Malformed function call: f([)"


def test_a_failure_is_an_error_of_google() -> None:
    failed = Failed(message="Overloaded.", status=529, code="overloaded_error")
    found = write(Start(), BlockStart(index=0, block=Text()), BlockDelta(index=0, text="a"), failed, End())
    assert found[1:] == [{"error": {"code": 529, "message": "Overloaded.", "status": "INTERNAL"}}]
    (found,) = write(Failed(message="Quota.", status=429, code="RESOURCE_EXHAUSTED"))
    assert found["error"]["status"] == "RESOURCE_EXHAUSTED"


def test_citations_come_with_the_end() -> None:
    citation = Citation(url="u", title="t", start=0, end=2)
    found = write(
        Start(),
        BlockStart(index=0, block=Text()),
        BlockDelta(index=0, text="ü. "),
        BlockStop(index=0),
        BlockStart(index=1, block=Text()),
        BlockDelta(index=1, text="ab"),
        BlockDelta(index=1, citation=citation),
        BlockStop(index=1),
        Finished(finish="stop"),
        End(),
    )
    (support,) = found[-1]["candidates"][0]["groundingMetadata"]["groundingSupports"]
    assert support["segment"] == {"startIndex": 4, "endIndex": 6, "text": "ab"}


def test_indented_json_stays_on_one_line() -> None:
    found = write(
        Start(),
        BlockStart(index=0, block=ToolCall(id="a", name="f", arguments='{\n "x":\r\n "a\\nb"}')),
        BlockStop(index=0),
        Finished(finish="tool_calls"),
        End(),
    )
    assert found[0]["candidates"][0]["content"]["parts"][0]["functionCall"]["args"] == {"x": "a\nb"}


@pytest.mark.parametrize(
    "thought",
    [
        Thinking(text="hm so", signature="c2ln", format="anthropic"),
        Thinking(text="hm", redacted="b3Bh", id="rs_1", summary=True, format="openai"),
        Thinking(text="hm", format="deepseek"),
        Thinking(redacted="b3Bh", format="anthropic"),
    ],
)
@pytest.mark.parametrize("apart", [True, False])
def test_anothers_thinking_survives_a_client_that_keeps_the_pieces(thought: Thinking, apart: bool) -> None:
    """Google's SDK keeps each piece of a stream as a turn of its own and sends them all back."""
    found = write(*told(Completion(choices=(Choice(blocks=(thought, Text(text="ab"))),))))
    contents = [each["candidates"][0]["content"] for each in found]
    if not apart:
        contents = [{"role": "model", "parts": [part for content in contents for part in content["parts"]]}]
    messages = CODEC.read_request(msgspec.json.encode({"contents": contents})).messages
    blocks = [block for message in messages for block in message.blocks]
    assert blocks[0] == thought
    assert "".join(block.text for block in blocks[1:] if isinstance(block, Text)) == "ab"
    assert not any(isinstance(block, Thinking) for block in blocks[1:])


def test_own_metadata_and_opaque_parts_come_back() -> None:
    grounded = (GOLDEN / "grounded.json").read_bytes()
    events = [*told(CODEC.read_answer(grounded))]
    found = write(*events)
    assert (
        found[-1]["candidates"][0]["groundingMetadata"]
        == msgspec.json.decode(grounded)["candidates"][0]["groundingMetadata"]
    )
    code = Opaque(format="gemini", kind="executableCode", raw=msgspec.Raw(b'{"executableCode":{"code":"1"}}'))
    found = write(
        Start(), BlockStart(index=0, block=code), BlockStop(index=0), Finished(finish="stop"), End()
    )
    assert found[0]["candidates"][0]["content"]["parts"] == [{"executableCode": {"code": "1"}}]


def test_thoughts_nobody_asked_for_are_left_out() -> None:
    events = [*told(Completion(choices=(Choice(blocks=(Thinking(text="hm", format="x"), Text(text="a"))),)))]
    found = write(*events, asked=Conversation(model="m"))
    assert [each["candidates"][0]["content"]["parts"] for each in found] == [[{"text": "a"}], [{"text": ""}]]


def test_the_array_form_holds_the_same_pieces() -> None:
    events = [*told(CODEC.read_answer((GOLDEN / "answer.json").read_bytes()))]
    writer = array_writer(ASKED)
    data = b"".join(writer.write([event]) for event in events)
    assert data.startswith(b"[{")
    assert b"},\n{" in data
    assert msgspec.json.decode(data) == pieces(CODEC.stream_writer(ASKED).write(events))
    failed = array_writer(ASKED).write([Failed(message="x", status=500)])
    assert msgspec.json.decode(failed)[0]["error"]["status"] == "INTERNAL"


def test_an_answer_without_choices() -> None:
    assert write(Start(id="r"), End()) == [{"candidates": [], "responseId": "r"}]


# ------------------------------------------------------------------ properties

WORDS = st.text(min_size=1, max_size=8)
SIGNED = st.none() | st.binary(min_size=1, max_size=6).map(lambda data: base64.b64encode(data).decode())
BLOCKS = st.one_of(
    st.builds(Text, text=WORDS, signature=SIGNED),
    st.builds(Thinking, text=WORDS, signature=SIGNED, summary=st.just(True), format=st.just("gemini")),
    st.builds(Thinking, text=WORDS, signature=WORDS, redacted=SIGNED, format=st.just("anthropic")),
    st.builds(Thinking, redacted=WORDS, id=st.none() | WORDS, format=st.just("openai")),
    st.builds(
        ToolCall,
        id=st.uuids().map(str),
        name=st.sampled_from(("f", "g.h")),
        arguments=st.dictionaries(WORDS, st.integers(0, 9) | WORDS, max_size=2).map(
            lambda v: msgspec.json.encode(v).decode()
        ),
        signature=SIGNED,
    ),
    st.builds(
        Image,
        source=st.builds(
            Source, kind=st.just("data"), value=st.just("aGk="), media_type=st.just("image/png")
        ),
        signature=SIGNED,
    ),
)
COMPLETIONS = st.builds(
    Completion,
    id=WORDS,
    model=WORDS,
    choices=st.lists(
        st.builds(
            Choice,
            blocks=st.lists(BLOCKS, min_size=1, max_size=5).map(tuple),
            finish=st.sampled_from(("stop", "length", "content_filter")),
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
    usage=st.builds(
        Usage,
        input=st.integers(0, 99),
        cache_read=st.integers(0, 9),
        output=st.integers(10, 99),
        reasoning=st.integers(0, 10),
    ),
)


@given(COMPLETIONS, st.data())
@settings(max_examples=80, deadline=None)
def test_a_stream_and_its_whole_form_give_the_same(completion: Completion, data: st.DataObject) -> None:
    stream = CODEC.stream_writer(ASKED).write(list(told(completion)))
    pieces(stream)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=5).map(sorted))
    found = accumulate(read(stream, *cuts))
    body = CODEC.write_answer(completion, ASKED)
    types.GenerateContentResponse.model_validate_json(body)
    whole = CODEC.read_answer(body)
    assert structs.replace(found, raw_usage=whole.raw_usage) == whole
    assert found.usage == completion.usage
    for choice, before in zip(found.choices, completion.choices, strict=True):
        calls = [block for block in before.blocks if isinstance(block, ToolCall)]
        assert [block for block in choice.blocks if isinstance(block, ToolCall)] == calls
        said = "".join(block.text for block in before.blocks if isinstance(block, Text))
        assert "".join(block.text for block in choice.blocks if isinstance(block, Text)) == said
        assert choice.finish == ("tool_calls" if calls and before.finish == "stop" else before.finish)
