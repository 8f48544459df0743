from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, structs
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from tests.wire.accumulate import Broken, accumulate

from tollway.model.usage import Usage
from tollway.wire import sse
from tollway.wire.codec import Unreadable
from tollway.wire.conversation import (
    Audio,
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    Citation,
    Completion,
    Conversation,
    End,
    Failed,
    Finish,
    Finished,
    Image,
    Metered,
    Opaque,
    Ping,
    Refusal,
    Source,
    Start,
    StreamEvent,
    Text,
    Thinking,
    ToolCall,
)
from tollway.wire.formats.openai_chat import CODEC

GOLDEN = Path(__file__).parents[3] / "golden" / "openai_chat"
ASKED = Conversation(model="m", stream=True, include_usage=True)
DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


def frame(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def chunk(
    delta: dict[str, Any] | None = None, finish: str | None = None, index: int = 0, **more: Any
) -> bytes:
    return frame(
        id="chatcmpl-9",
        object="chat.completion.chunk",
        created=1,
        model="m",
        choices=[{"index": index, "delta": delta or {}, "finish_reason": finish}],
        **more,
    )


def calls(*entries: dict[str, Any]) -> bytes:
    return chunk({"tool_calls": list(entries)})


def events(*data: bytes) -> list[StreamEvent]:
    reader = CODEC.stream_reader()
    found: list[StreamEvent] = []
    for part in data:
        found += reader.feed(part)
    return found + reader.finish()


def told(*data: bytes) -> tuple[Block, ...]:
    (choice,) = accumulate(events(*data)).choices
    return choice.blocks


def made(*data: bytes) -> list[tuple[str, str, Any]]:
    """Calls by id, name and decoded arguments."""
    return [
        (call.id, call.name, json.loads(call.arguments))
        for call in told(*data, chunk(finish="tool_calls"), DONE)
        if isinstance(call, ToolCall)
    ]


def plain(whole: Completion) -> Completion:
    """Without the provider's own usage object, which a written stream replaces."""
    return structs.replace(whole, raw_usage=Raw())


def frames(data: bytes) -> list[dict[str, Any]]:
    """The chunks of a written stream, each of which the SDK takes strictly. It ends in exactly one [DONE]."""
    parts = sse.split(data)
    assert parts[-1] == DONE
    assert data.count(b"[DONE]") == 1
    found = []
    for part in parts[:-1]:
        text = sse.parse(part).data
        assert text is not None
        ChatCompletionChunk.model_validate_json(text, strict=True)
        found.append(json.loads(text))
    return found


def by_sdk(data: bytes) -> ChatCompletion:
    """What the SDK makes of a written stream."""
    state: Any = ChatCompletionStreamState()
    for wire in frames(data):
        list(state.handle_chunk(ChatCompletionChunk.model_validate(wire)))
    found: ChatCompletion = state.get_final_completion()
    return found


def write(*said: StreamEvent, asked: Conversation = ASKED) -> bytes:
    return CODEC.stream_writer(asked).write(said)


def stream(*blocks: Block, finish: Finish = "stop") -> list[StreamEvent]:
    """Events of an answer whose blocks are told whole."""
    said: list[StreamEvent] = [Start(id="a", model="m", created=1)]
    for index, block in enumerate(blocks):
        said += [BlockStart(index=index, block=block), BlockStop(index=index)]
    return [*said, Finished(finish=finish), End()]


# ------------------------------------------------------------------ reading


def test_a_stream_and_its_whole_form_tell_the_same() -> None:
    compact = json.dumps(json.loads((GOLDEN / "answer.json").read_bytes()), separators=(",", ":"))
    whole = CODEC.read_answer(compact.encode())
    streamed = accumulate(events((GOLDEN / "stream.sse").read_bytes()))
    left, right = whole.choices[0], streamed.choices[0]
    assert json.loads(bytes(left.logprobs))["content"] == json.loads(bytes(right.logprobs))["content"]
    assert plain(structs.replace(streamed, choices=(structs.replace(right, logprobs=Raw()),))) == plain(
        structs.replace(whole, choices=(structs.replace(left, logprobs=Raw()),))
    )


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_split_at_any_byte_the_events_are_the_same(ending: bytes) -> None:
    data = b"".join(
        [
            b": comment\n\n",
            chunk({"role": "assistant", "content": ""}),
            chunk({"content": "äö"}),
            calls({"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}),
            chunk(finish="tool_calls", usage=USAGE),
            DONE,
        ]
    ).replace(b"\n", ending)
    expected = events(data)
    assert isinstance(expected[-1], End)
    for cut in range(len(data) + 1):
        assert events(data[:cut], data[cut:]) == expected
    assert events(*[data[place : place + 1] for place in range(len(data))]) == expected


def test_parallel_calls_that_interleave() -> None:
    assert made(
        calls({"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}),
        calls({"index": 1, "id": "b", "function": {"name": "g", "arguments": '{"y"'}}),
        calls(
            {"index": 0, "function": {"arguments": '{"x":1}'}}, {"index": 1, "function": {"arguments": ":2}"}}
        ),
    ) == [("a", "f", {"x": 1}), ("b", "g", {"y": 2})]


def test_parallel_calls_that_all_have_index_0() -> None:
    """Ollama numbers every call 0; Groq has done so as well."""
    assert made(
        calls({"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":1}'}}),
        calls({"index": 0, "id": "b", "function": {"name": "f", "arguments": '{"x":'}}),
        calls({"index": 0, "function": {"arguments": "2}"}}),
    ) == [("a", "f", {"x": 1}), ("b", "f", {"x": 2})]


def test_parallel_calls_without_index() -> None:
    assert made(
        calls(
            {"id": "a", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"id": "b", "function": {"name": "g", "arguments": '{"x":'}},
        ),
        calls({"id": "b", "function": {"arguments": "2}"}}),
    ) == [("a", "f", {"x": 1}), ("b", "g", {"x": 2})]


def test_parallel_calls_without_any_id() -> None:
    found = made(
        calls({"index": 0, "function": {"name": "f", "arguments": '{"x":1}'}}),
        calls({"index": 0, "function": {"name": "f", "arguments": '{"x":2}'}}),
        calls({"function": {"name": "g", "arguments": {"x": 3}}}),
    )
    assert found == [
        ("call_chatcmpl9_0_0", "f", {"x": 1}),
        ("call_chatcmpl9_0_1", "f", {"x": 2}),
        ("call_chatcmpl9_0_2", "g", {"x": 3}),
    ]


def test_a_name_that_comes_late_and_one_that_is_repeated() -> None:
    assert made(
        calls({"index": 0, "id": "a"}),
        calls({"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x"'}}),
        calls({"index": 0, "id": "a", "function": {"name": "f", "arguments": ":1}"}}),
    ) == [("a", "f", {"x": 1})]


def test_arguments_as_an_object_and_none_at_all() -> None:
    assert made(
        calls({"index": 0, "id": "a", "function": {"name": "f", "arguments": {"x": 1}}}),
        calls({"index": 1, "id": "b", "function": {"name": "g"}}),
    ) == [("a", "f", {"x": 1}), ("b", "g", {})]


def test_an_older_function_call() -> None:
    said = events(
        chunk({"function_call": {"name": "f", "arguments": ""}}),
        chunk({"function_call": {"arguments": '{"x":1}'}}),
        chunk(finish="function_call"),
        DONE,
    )
    (choice,) = accumulate(said).choices
    assert choice.finish == "tool_calls"
    assert choice.blocks == (ToolCall(id="call_chatcmpl9_0_0", name="f", arguments='{"x":1}'),)


def test_calls_end_in_tool_calls_whatever_the_server_says() -> None:
    for reason in ("stop", "end_turn"):
        said = events(
            calls({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}),
            chunk(finish=reason),
            DONE,
        )
        assert accumulate(said).choices[0].finish == "tool_calls"


def test_more_after_the_finish_reason_is_not_lost() -> None:
    said = told(
        chunk({"content": "a"}), chunk(finish="stop"), chunk({"content": "b"}), chunk(finish="stop"), DONE
    )
    assert said == (Text(text="ab"),)


def test_usage_in_the_last_chunk_of_a_choice_or_alone() -> None:
    for last in (chunk(finish="stop", usage=USAGE), chunk(finish="stop") + frame(choices=[], usage=USAGE)):
        whole = accumulate(events(chunk({"content": "a"}), last, DONE))
        assert whole.usage == Usage(input=5, output=3)


def test_running_usage_counts_once() -> None:
    """Some servers report usage with every chunk; the last one is the whole."""
    said = events(
        chunk({"content": "a"}, usage={**USAGE, "completion_tokens": 1}),
        chunk(finish="stop", usage=USAGE),
        DONE,
    )
    assert accumulate(said).usage == Usage(input=5, output=3)


def test_a_stream_without_done() -> None:
    assert told(chunk({"content": "a"}), chunk(finish="stop")) == (Text(text="a"),)
    assert told(chunk({"content": "a"}), chunk(finish="stop").rstrip()) == (Text(text="a"),)


def test_a_stream_without_finish_reason() -> None:
    (choice,) = accumulate(events(chunk({"content": "a"}), DONE)).choices
    assert choice.finish == "stop"


def test_a_stream_that_breaks_off() -> None:
    with pytest.raises(Broken) as caught:
        accumulate(events(chunk({"content": "a"}), b'data: {"choi'))
    assert caught.value.failed.status == 502
    assert caught.value.so_far.choices[0].blocks == (Text(text="a"),)


def test_a_stream_that_says_nothing() -> None:
    for data in (b"", DONE, b'{"not": "a stream"}'):
        (failed,) = events(data)
        assert isinstance(failed, Failed)


def test_an_error_in_the_stream() -> None:
    error = {"message": "Overloaded", "type": "server_error", "code": 503}
    said = events(chunk({"content": "a"}), frame(error=error, choices=[]), chunk({"content": "b"}), DONE)
    assert said[-1] == Failed(message="Overloaded", status=503, kind="server_error", code="503")


def test_an_error_that_is_not_wrapped() -> None:
    """vLLM has said errors as the event itself."""
    said = events(frame(object="error", message="bad", type="BadRequestError", code=400))
    assert said == [Failed(message="bad", status=400, kind="BadRequestError", code="400")]


def test_an_error_that_is_a_string() -> None:
    (failed,) = events(frame(error="boom"))
    assert isinstance(failed, Failed)
    assert "boom" in failed.message


def test_what_is_no_chunk_is_unreadable() -> None:
    reader = CODEC.stream_reader()
    for data in (b"data: nonsense\n\n", b'data: {"choices":3}\n\n', b"data: " + b"[" * 100_000 + b"\n\n"):
        with pytest.raises(Unreadable):
            reader.feed(data)


def test_reasoning_under_either_name_and_both() -> None:
    for delta in (
        {"reasoning": "hm"},
        {"reasoning_content": "hm"},
        {"reasoning": "hm", "reasoning_content": "hm"},
    ):
        said = told(chunk({**delta, "content": ""}), chunk({"content": "4"}), chunk(finish="stop"), DONE)
        assert said == (Thinking(text="hm", format="openai.chat"), Text(text="4"))


def test_reasoning_details_in_pieces_are_what_they_are_whole() -> None:
    def detail(index: int, **more: Any) -> dict[str, Any]:
        return {"type": "reasoning.text", "index": index, **more}

    streamed = events(
        chunk({"reasoning": "a", "reasoning_details": [detail(0, text="a")]}),
        chunk({"reasoning": "b", "reasoning_details": [detail(0, text="b")]}),
        chunk({"content": "4"}),
        chunk({"reasoning_details": [detail(0, signature="s"), detail(1, text=None)]}),
        chunk(finish="stop"),
        DONE,
    )
    message = {
        "content": "4",
        "reasoning": "ab",
        "reasoning_details": [detail(0, text="ab", signature="s"), detail(1, text=None)],
    }
    whole = CODEC.read_answer(
        json.dumps(
            {
                "id": "chatcmpl-9",
                "model": "m",
                "created": 1,
                "choices": [{"message": message, "finish_reason": "stop"}],
            }
        ).encode()
    )
    left, right = accumulate(streamed).choices[0].blocks, whole.choices[0].blocks
    assert left[:-1] == right[:-1]
    assert isinstance(left[-1], Opaque)
    assert isinstance(right[-1], Opaque)
    assert json.loads(bytes(left[-1].raw)) == json.loads(bytes(right[-1].raw))


def test_audio_in_pieces() -> None:
    one, two = base64.b64encode(b"ab").decode(), base64.b64encode(b"cd").decode()
    (audio,) = told(
        chunk({"audio": {"id": "audio_1", "transcript": "he"}}),
        chunk({"audio": {"data": one, "transcript": "y"}}),
        chunk({"audio": {"data": two}}),
        chunk({"audio": {"expires_at": 9}}),
        chunk(finish="stop"),
        DONE,
    )
    assert isinstance(audio, Audio)
    assert (audio.id, audio.transcript) == ("audio_1", "hey")
    assert base64.b64decode(audio.source.value) == b"abcd"


def test_pictures_a_model_made() -> None:
    entry = {"type": "image_url", "index": 0, "image_url": {"url": "data:image/png;base64,AAAA"}}
    (image,) = told(chunk({"images": [entry]}), chunk(finish="stop"), DONE)
    assert image == Image(source=Source(kind="data", value="AAAA", media_type="image/png"))


def test_content_in_parts() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    said = told(chunk({"content": [thinking]}), chunk({"content": "4"}), chunk(finish="stop"), DONE)
    assert said == (Thinking(text="hm", format="openai.chat"), Text(text="4"))


def test_a_refusal_in_words() -> None:
    (choice,) = accumulate(
        events(chunk({"refusal": "I "}), chunk({"refusal": "won't"}), chunk(finish="stop"), DONE)
    ).choices
    assert (choice.blocks, choice.finish) == ((Refusal(text="I won't"),), "refusal")


def test_several_choices_side_by_side() -> None:
    whole = accumulate(
        events(
            chunk({"content": "a"}),
            chunk({"content": "x"}, index=1),
            chunk({"content": "b"}),
            chunk(finish="stop"),
            chunk(finish="length", index=1),
            DONE,
        )
    )
    assert [(choice.blocks, choice.finish) for choice in whole.choices] == [
        ((Text(text="ab"),), "stop"),
        ((Text(text="x"),), "length"),
    ]


def test_a_first_event_without_choices() -> None:
    """Azure begins with the judgement of its content filter."""
    said = told(
        frame(id="", choices=[], prompt_filter_results=[]),
        chunk({"content": "a"}),
        chunk(finish="stop"),
        DONE,
    )
    assert said == (Text(text="a"),)


def test_a_message_beside_the_deltas_is_not_said_twice() -> None:
    last = frame(id="c", choices=[{"index": 0, "finish_reason": "stop", "message": {"content": "ab"}}])
    assert told(chunk({"content": "a"}), chunk({"content": "b"}), last, DONE) == (Text(text="ab"),)


# ------------------------------------------------------------------ writing


def test_what_was_read_is_written_for_the_sdk() -> None:
    said = events((GOLDEN / "stream.sse").read_bytes())
    data = write(*said)
    found = by_sdk(data)
    (choice,) = found.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Bern is on the Aare."
    calls = choice.message.tool_calls or []
    assert [
        (made.id, made.function.name, made.function.arguments) for made in calls if made.type == "function"
    ] == [
        ("call_1", "look", '{"at":"Bern"}'),
        ("call_2", "wait", "{}"),
    ]
    extra = choice.message.model_extra or {}
    assert extra["reasoning_content"] == "Let me see."
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (100, 40)
    again = accumulate(events(data))
    assert plain(again) == plain(accumulate(said))


def test_usage_is_a_chunk_of_its_own_where_it_was_asked_for() -> None:
    said = [*stream(Text(text="x"))]
    said.insert(1, Metered(usage=Usage(input=1, output=2), cost="0.5"))
    found = frames(write(*said))
    assert [wire["usage"] for wire in found[:-1]] == [None] * (len(found) - 1)
    assert found[-1]["choices"] == []
    assert (found[-1]["usage"]["total_tokens"], found[-1]["usage"]["cost"]) == (3, 0.5)
    quiet = structs.replace(ASKED, include_usage=False)
    assert all("usage" not in wire and wire["choices"] for wire in frames(write(*said, asked=quiet)))


def test_usage_at_the_start_only() -> None:
    said = stream(Text(text="x"))
    said[0] = structs.replace(said[0], usage=Usage(input=4))
    assert frames(write(*said))[-1]["usage"]["prompt_tokens"] == 4


def test_a_failure_is_an_error_event_and_the_end() -> None:
    data = write(
        Start(id="a"), Failed(message="gone", status=503, kind="api_error", code="overloaded"), End()
    )
    first, error, done = sse.split(data)
    assert done == DONE
    assert json.loads(sse.parse(error).data or b"") == {
        "error": {"message": "gone", "type": "api_error", "param": None, "code": "overloaded", "status": 503}
    }
    assert events(data)[-1] == Failed(message="gone", status=503, kind="api_error", code="overloaded")
    assert b"assistant" in first


def test_a_failure_before_anything_was_said() -> None:
    assert events(write(Failed(message="gone", status=500))) == [Failed(message="gone", status=500)]


def test_pings_are_nothing() -> None:
    assert write(Ping()) == b""


def test_calls_told_whole_and_calls_without_arguments() -> None:
    data = write(
        *stream(
            ToolCall(id="a", name="f", arguments='{"x":1}', signature="sig"),
            ToolCall(id="b", name="g", arguments=""),
            finish="tool_calls",
        )
    )
    calls = by_sdk(data).choices[0].message.tool_calls or []
    assert [made.function.arguments for made in calls if made.type == "function"] == ['{"x":1}', "{}"]
    assert accumulate(events(data)).choices[0].blocks == (
        ToolCall(id="a", name="f", arguments='{"x":1}', signature="sig"),
        ToolCall(id="b", name="g"),
    )


def test_custom_calls() -> None:
    said: list[StreamEvent] = [
        Start(id="a"),
        BlockStart(index=0, block=ToolCall(id="c", name="sh", arguments="", custom=True)),
        BlockDelta(index=0, arguments="ls"),
        BlockDelta(index=0, arguments=" -l"),
        BlockStop(index=0),
        Finished(finish="tool_calls"),
        End(),
    ]
    assert accumulate(events(write(*said))).choices[0].blocks == (
        ToolCall(id="c", name="sh", arguments="ls -l", custom=True),
    )


def test_signed_thoughts_are_given_at_their_end() -> None:
    said: list[StreamEvent] = [
        Start(id="a", model="m", created=1),
        BlockStart(index=0, block=Thinking(format="anthropic")),
        BlockDelta(index=0, text="h"),
        BlockDelta(index=0, text="m"),
        BlockDelta(index=0, signature="sig"),
        BlockStop(index=0),
        BlockStart(index=1, block=Thinking(redacted="r", format="anthropic")),
        BlockStop(index=1),
        BlockStart(index=2, block=Text()),
        BlockDelta(index=2, text="4"),
        BlockStop(index=2),
        Finished(finish="stop"),
        End(),
    ]
    data = write(*said)
    extra = by_sdk(data).choices[0].message.model_extra or {}
    assert extra["reasoning_content"] == "hm"
    found = [{name: entry[name] for name in entry if name != "index"} for entry in extra["thinking_blocks"]]
    assert found == [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "r"},
    ]
    whole = CODEC.write_answer(accumulate(said), ASKED)
    assert json.loads(whole)["choices"][0]["message"]["thinking_blocks"] == found
    streamed = accumulate(events(data)).choices[0].blocks
    assert streamed == CODEC.read_answer(whole).choices[0].blocks
    assert streamed[0] == Thinking(text="hm", signature="sig", format="openai.chat")


def test_citations_wait_for_the_end_of_their_text() -> None:
    said: list[StreamEvent] = [
        Start(id="a"),
        BlockStart(index=0, block=Text(text="Hello. ")),
        BlockStop(index=0),
        BlockStart(index=1, block=Text()),
        BlockDelta(index=1, citation=Citation(url="https://e.com", title="t")),
        BlockDelta(index=1, text="Bern is."),
        BlockStop(index=1),
        Finished(finish="stop"),
        End(),
    ]
    cited = [
        wire["choices"][0]["delta"].get("annotations") for wire in frames(write(*said)) if wire["choices"]
    ]
    (found,) = [entry for entry in cited if entry]
    assert found[0]["url_citation"] == {
        "start_index": 7,
        "end_index": 15,
        "title": "t",
        "url": "https://e.com",
    }


def test_who_asked_with_functions_gets_a_function_call() -> None:
    asked = structs.replace(ASKED, functions=True)
    data = write(*stream(ToolCall(id="a", name="f", arguments='{"x":1}'), finish="tool_calls"), asked=asked)
    found = frames(data)
    assert [wire["choices"][0]["finish_reason"] for wire in found if wire["choices"]][-1] == "function_call"
    assert any(wire["choices"][0]["delta"].get("function_call") for wire in found if wire["choices"])


def test_audio_pictures_and_details_are_written() -> None:
    blocks = (
        Audio(source=Source(kind="data", value="AAAA"), id="audio_1", transcript="hey"),
        Image(source=Source(kind="data", value="AAAA", media_type="image/png")),
        Opaque(format="openai.chat", kind="reasoning_details", raw=Raw(b'[{"type":"x","index":0}]')),
    )
    assert accumulate(events(write(*stream(*blocks)))).choices[0].blocks == blocks


def test_a_choice_that_says_nothing() -> None:
    assert by_sdk(write(Start(id="a"), Finished(finish="stop"), End())).choices[0].finish_reason == "stop"


def test_written_at_once_or_one_by_one() -> None:
    said = events((GOLDEN / "stream.sse").read_bytes())
    writer = CODEC.stream_writer(ASKED)
    assert b"".join(writer.write([event]) for event in said) == write(*said)


# ------------------------------------------------------------------ properties

words = st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=8)


@st.composite
def answers(draw: st.DrawFn) -> list[StreamEvent]:
    """Streams of legal grammar: thoughts, then text, then calls whose pieces interleave."""
    said: list[StreamEvent] = [Start(id="chatcmpl-9", model="m", created=1)]
    index = 0
    for block in (Thinking(format="openai.chat"), Text()):
        pieces = draw(st.lists(words, max_size=3))
        if pieces:
            said.append(BlockStart(index=index, block=block))
            said += [BlockDelta(index=index, text=piece) for piece in pieces]
            said.append(BlockStop(index=index))
            index += 1
    count = draw(st.integers(0, 3))
    places = range(index, index + count)
    said += [
        BlockStart(index=place, block=ToolCall(id=f"c{place}", name=f"f{place}", arguments=""))
        for place in places
    ]
    pieces = [BlockDelta(index=place, arguments=part) for place in places for part in ('{"a"', ":1}")]
    order = sorted(draw(st.permutations(range(len(pieces)))), key=lambda place: place % 2)
    said += [pieces[place] for place in order]
    said += [BlockStop(index=place) for place in places]
    said += [Metered(usage=Usage(input=draw(st.integers(0, 99)), output=draw(st.integers(1, 99))))]
    return [*said, Finished(finish="tool_calls" if count else "stop"), End()]


@settings(max_examples=150, deadline=None)
@given(answers(), st.randoms(use_true_random=False))
def test_a_written_stream_tells_the_same_whole_and_in_pieces(said: list[StreamEvent], random: Any) -> None:
    expected = accumulate(said)
    data = write(*said)
    assert plain(accumulate(events(data))) == expected
    whole = CODEC.read_answer(CODEC.write_answer(expected, ASKED))
    assert plain(whole) == expected
    cuts = sorted(random.sample(range(len(data) + 1), 3))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert events(*pieces) == events(data)
    sdk = by_sdk(data).choices[0].message
    texts = [block.text for block in expected.choices[0].blocks if isinstance(block, Text)]
    assert (sdk.content or "") == "".join(texts)
