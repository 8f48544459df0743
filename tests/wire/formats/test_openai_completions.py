from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, structs
from openai.types import Completion as SdkCompletion
from tests.wire.accumulate import Broken, accumulate

from tollway.errors import BadRequest
from tollway.model.usage import Usage
from tollway.wire import sse
from tollway.wire.codec import Profile, Unreadable
from tollway.wire.conversation import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Choice,
    Completion,
    Conversation,
    End,
    Extra,
    Failed,
    Finish,
    Finished,
    Image,
    Message,
    Metered,
    Opaque,
    Reasoning,
    Refusal,
    ResponseFormat,
    Source,
    Start,
    StreamEvent,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from tollway.wire.formats.openai_chat import CODEC as CHAT
from tollway.wire.formats.openai_completions import CODEC

PROFILE = Profile(model="davinci-002")
ASKED = Conversation(model="m", stream=True, include_usage=True)
DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
FULL = {
    "model": "gpt-3.5-turbo-instruct",
    "prompt": "Once upon",
    "suffix": "the end.",
    "best_of": 3,
    "echo": True,
    "logit_bias": {"50256": -100},
    "logprobs": 2,
    "max_tokens": 9,
    "n": 2,
    "temperature": 0.5,
    "top_p": 0.9,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.2,
    "seed": 7,
    "stop": ["\n"],
    "user": "u",
    "stream": True,
    "stream_options": {"include_usage": True},
}


def read(**fields: Any) -> Conversation:
    return CODEC.read_request(json.dumps({"model": "m", "prompt": "hello", **fields}).encode())


def written(asked: Conversation) -> tuple[dict[str, Any], dict[str, str]]:
    found = CODEC.write_request(asked, PROFILE)
    lost = {loss.field: loss.weight for loss in found.lost}
    assert len(lost) == len(found.lost), "a loss is named twice"
    return json.loads(found.body), lost


def losses_in_chat(asked: Conversation) -> dict[str, str]:
    return {loss.field: loss.weight for loss in CHAT.write_request(asked, PROFILE).lost}


# ------------------------------------------------------------------ requests


def test_every_documented_field() -> None:
    told = CODEC.read_request(json.dumps(FULL).encode())
    assert told == Conversation(
        model="gpt-3.5-turbo-instruct",
        messages=(
            Message(
                role="user",
                blocks=(
                    Text(text="Once upon"),
                    Opaque(format="openai.completions", kind="suffix", raw=Raw(b'"the end."')),
                ),
            ),
        ),
        max_tokens=9,
        temperature=0.5,
        top_p=0.9,
        frequency_penalty=0.1,
        presence_penalty=0.2,
        stop=("\n",),
        seed=7,
        logprobs=True,
        top_logprobs=2,
        n=2,
        user="u",
        stream=True,
        include_usage=True,
        format="openai.completions",
        extra=(
            Extra(format="openai.completions", name="best_of", raw=Raw(b"3")),
            Extra(format="openai.completions", name="echo", raw=Raw(b"true")),
            Extra(format="openai.completions", name="logit_bias", raw=Raw(b'{"50256": -100}')),
        ),
    )
    body, lost = written(told)
    assert body == {**FULL, "model": "davinci-002"}
    assert lost == {}


@pytest.mark.parametrize("prompt", ["one", "", ["one"], ["one", "two"], [1, 2, 3], [[1, 2], [3]]], ids=str)
def test_prompts_of_every_kind_come_back(prompt: Any) -> None:
    body, lost = written(read(prompt=prompt))
    assert body["prompt"] == ("one" if prompt == ["one"] else prompt)
    assert lost == {}


def test_prompts_that_no_turn_can_hold_are_named_by_other_formats() -> None:
    assert losses_in_chat(read(prompt="one")) == {}
    assert losses_in_chat(read(prompt=["one", "two"])) == {"messages.separate_prompt": "meaning"}
    assert losses_in_chat(read(prompt=[1, 2])) == {"messages.prompt_tokens": "meaning"}
    assert losses_in_chat(read(suffix="x")) == {"messages.suffix": "meaning"}
    assert losses_in_chat(read(echo=True, best_of=2, logit_bias={"1": 1})) == {
        "echo": "hint",
        "best_of": "hint",
    }


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"n": 0}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"model":"x","prompt":' + b"[" * 50_000 + b"]" * 50_000 + b"}"]
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        CODEC.read_request(body)


def say(role: Any, *blocks: Any) -> Message:
    return Message(role=role, blocks=blocks)


def test_a_single_question_is_the_prompt() -> None:
    body, lost = written(Conversation(model="m", messages=(say("user", Text(text="2+2=")),)))
    assert (body["prompt"], lost) == ("2+2=", {})
    asked = Conversation(
        model="m", messages=(say("system", Text(text="Count.")), say("user", Text(text="2+2=")))
    )
    body, lost = written(asked)
    assert (body["prompt"], lost) == ("Count.\n\n2+2=", {})


def test_turns_become_words() -> None:
    body, lost = written(
        Conversation(
            model="m",
            messages=(
                say("system", Text(text="Be brief.")),
                say("user", Text(text="Hi")),
                say("assistant", Thinking(text="hm"), Text(text="Hello"), ToolCall(id="c", name="f")),
                say("user", ToolResult(call_id="c", name="f", content=(Text(text="4"),))),
            ),
        )
    )
    assert body["prompt"].startswith("Be brief.\n\nUser: Hi\n\nAssistant: Hello")
    assert body["prompt"].endswith("4\n\n\nAssistant:")
    assert lost == {"messages.thinking": "hint", "messages.tool_calls": "meaning", "messages.role": "hint"}


def test_what_this_format_has_no_word_for_is_named() -> None:
    body, lost = written(
        Conversation(
            model="m",
            messages=(
                say(
                    "user",
                    Text(text="x"),
                    Image(source=Source(kind="url", value="https://example.com/a.png")),
                ),
            ),
            tools=(Tool(name="f"),),
            response_format=ResponseFormat(kind="json_object"),
            reasoning=Reasoning(effort="low"),
            top_k=3,
            logprobs=True,
            top_logprobs=20,
            metadata={"a": "b"},
            extra=(Extra(format="anthropic", name="container", raw=Raw(b"1")),),
        )
    )
    assert body["prompt"] == "x"
    assert body["logprobs"] == 5
    assert lost == {
        "messages.image": "meaning",
        "tools": "meaning",
        "response_format": "meaning",
        "reasoning": "hint",
        "top_k": "hint",
        "top_logprobs": "hint",
        "metadata": "hint",
        "container": "hint",
    }


# ------------------------------------------------------------------ answers

LOGPROBS = {
    "tokens": ["He", "y"],
    "token_logprobs": [-0.5, -0.25],
    "top_logprobs": [{"He": -0.5, "Ho": -1.5}, {}],
    "text_offset": [0, 2],
}


def test_an_answer_is_read_and_written_again() -> None:
    body = {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 5,
        "model": "m",
        "choices": [
            {"text": "Hey", "index": 0, "logprobs": LOGPROBS, "finish_reason": "length"},
            {"text": "", "index": 1, "logprobs": None, "finish_reason": "stop"},
        ],
        "usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 2}},
    }
    told = CODEC.read_answer(json.dumps(body).encode())
    assert [(choice.blocks, choice.finish) for choice in told.choices] == [
        ((Text(text="Hey"),), "length"),
        ((), "stop"),
    ]
    assert told.usage == Usage(input=3, cache_read=2, output=3)
    assert json.loads(bytes(told.choices[0].logprobs))["content"][0] == {
        "token": "He",
        "logprob": -0.5,
        "bytes": None,
        "top_logprobs": [
            {"token": "He", "logprob": -0.5, "bytes": None},
            {"token": "Ho", "logprob": -1.5, "bytes": None},
        ],
    }
    again = CODEC.write_answer(structs.replace(told, cost="0.5"), ASKED)
    SdkCompletion.model_validate_json(again, strict=True)
    found = json.loads(again)
    assert found["choices"] == body["choices"]
    assert (found["usage"]["total_tokens"], found["usage"]["cost"]) == (8, 0.5)


@pytest.mark.parametrize(
    "finish", ["stop", "length", "tool_calls", "content_filter", "refusal", "pause", "error"]
)
def test_every_end_has_a_legal_name_and_only_words_are_written(finish: Finish) -> None:
    blocks = (Thinking(text="hm"), Text(text="a"), ToolCall(id="c", name="f"), Refusal(text="b"))
    whole = Completion(id="a", model="m", created=1, choices=(Choice(blocks=blocks, finish=finish),))
    body = CODEC.write_answer(whole, ASKED)
    SdkCompletion.model_validate_json(body, strict=True)
    assert json.loads(body)["choices"][0]["text"] == "ab"


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"choices":3}', b'{"error":{"message":"x"},"choices":[]}']
)
def test_what_cannot_be_read_says_so(body: bytes) -> None:
    with pytest.raises(Unreadable):
        CODEC.read_answer(body)


# ------------------------------------------------------------------ streams


def chunk(text: str = "", finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    wire = {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 5,
        "model": "m",
        "choices": [{"text": text, "index": index, "logprobs": None, "finish_reason": finish}],
        **more,
    }
    return b"data: " + json.dumps(wire).encode() + b"\n\n"


def events(*data: bytes) -> list[StreamEvent]:
    reader = CODEC.stream_reader()
    found: list[StreamEvent] = []
    for part in data:
        found += reader.feed(part)
    return found + reader.finish()


def write(*said: StreamEvent, asked: Conversation = ASKED) -> bytes:
    return CODEC.stream_writer(asked).write(said)


def plain(whole: Completion) -> Completion:
    return structs.replace(whole, raw_usage=Raw())


def test_split_at_any_byte_the_events_are_the_same() -> None:
    data = b"".join(
        [chunk("ä"), chunk("b", index=1), chunk("", "stop"), chunk("", "length", 1, usage=USAGE), DONE]
    )
    expected = events(data)
    whole = accumulate(expected)
    assert [(choice.blocks, choice.finish) for choice in whole.choices] == [
        ((Text(text="ä"),), "stop"),
        ((Text(text="b"),), "length"),
    ]
    assert whole.usage == Usage(input=5, output=3)
    for cut in range(len(data) + 1):
        assert events(data[:cut], data[cut:]) == expected


def test_a_stream_without_done_and_one_that_breaks_off() -> None:
    assert accumulate(events(chunk("a"), chunk("", "stop"))).choices[0].blocks == (Text(text="a"),)
    with pytest.raises(Broken):
        accumulate(events(chunk("a")))
    (failed,) = events(b"")
    assert isinstance(failed, Failed)


def test_an_error_in_the_stream_both_ways() -> None:
    said = events(chunk("a"), b'data: {"error":{"message":"gone","type":"t","code":503}}\n\n')
    assert said[-1] == Failed(message="gone", status=503, kind="t", code="503")
    data = write(*said)
    assert data.endswith(DONE)
    assert events(data)[-1] == said[-1]


def test_logprobs_of_a_stream_keep_their_places() -> None:
    said = [
        Start(id="a"),
        BlockStart(index=0, block=Text()),
        *(
            BlockDelta(
                index=0,
                text=token,
                logprobs=Raw(
                    json.dumps({"content": [{"token": token, "logprob": -1.0, "top_logprobs": []}]}).encode()
                ),
            )
            for token in ("He", "y")
        ),
        BlockStop(index=0),
        Finished(finish="stop"),
        End(),
    ]
    found = [
        json.loads(data)["choices"][0]["logprobs"]
        for part in sse.split(write(*said))
        if (data := sse.parse(part).data) and data != b"[DONE]" and json.loads(data)["choices"][0]["logprobs"]
    ]
    assert [entry["text_offset"] for entry in found] == [[0], [2]]
    assert (
        json.loads(bytes(accumulate(events(write(*said))).choices[0].logprobs))["content"][1]["token"] == "y"
    )


words = st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(words, max_size=3), min_size=1, max_size=3), st.booleans())
def test_a_written_stream_tells_the_same_whole_and_in_pieces(texts: list[list[str]], usage: bool) -> None:
    said: list[StreamEvent] = [Start(id="a", model="m", created=1)]
    for number, pieces in enumerate(texts):
        if pieces:
            said.append(BlockStart(index=0, block=Text(), choice=number))
            said += [BlockDelta(index=0, text=piece, choice=number) for piece in pieces]
            said.append(BlockStop(index=0, choice=number))
        said.append(Finished(finish="stop", choice=number))
    if usage:
        said.append(Metered(usage=Usage(input=1, output=2)))
    said.append(End())
    data = write(*said)
    assert data.count(b"[DONE]") == 1
    for part in sse.split(data)[:-1]:
        SdkCompletion.model_validate_json(
            (sse.parse(part).data or b"").replace(b'"finish_reason":null', b'"finish_reason":"stop"'),
            strict=True,
        )
    expected = accumulate(said)
    assert plain(accumulate(events(data))) == expected
    assert plain(CODEC.read_answer(CODEC.write_answer(expected, ASKED))) == expected
    quiet = write(*said, asked=structs.replace(ASKED, include_usage=False))
    assert b'"usage"' not in quiet
