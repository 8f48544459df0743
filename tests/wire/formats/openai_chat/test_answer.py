from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw, structs
from openai.types.chat import ChatCompletion

from tollway.errors import BudgetExceeded
from tollway.model.usage import Usage
from tollway.wire.codec import Unreadable
from tollway.wire.conversation import (
    Audio,
    Choice,
    Citation,
    Completion,
    Conversation,
    Finish,
    Image,
    Opaque,
    Refusal,
    Source,
    Text,
    Thinking,
    ToolCall,
)
from tollway.wire.formats.openai_chat import CODEC

GOLDEN = Path(__file__).parents[3] / "golden" / "openai_chat"
ASKED = Conversation(model="m")


def answered(message: dict[str, Any], finish: str | None = "stop", **more: Any) -> Choice:
    body = {
        "id": "chatcmpl-9",
        "choices": [{"index": 0, "message": message, "finish_reason": finish, **more}],
    }
    (choice,) = CODEC.read_answer(json.dumps(body).encode()).choices
    return choice


def written(
    *blocks: Any, finish: Finish = "stop", asked: Conversation = ASKED, **more: Any
) -> dict[str, Any]:
    """An answer with one choice as it is written; the SDK takes it strictly."""
    whole = Completion(id="a", model="m", created=1, choices=(Choice(blocks=blocks, finish=finish),), **more)
    body = CODEC.write_answer(whole, asked)
    ChatCompletion.model_validate_json(body, strict=True)
    found: dict[str, Any] = json.loads(body)
    return found


def message(*blocks: Any, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = written(*blocks, **more)["choices"][0]["message"]
    return found


def test_an_answer_is_read_and_written_again() -> None:
    body = (GOLDEN / "answer.json").read_bytes()
    told = CODEC.read_answer(body)
    (choice,) = told.choices
    thoughts, text, look, wait = choice.blocks
    assert thoughts == Thinking(text="Let me see.", format="openai.chat")
    assert isinstance(text, Text)
    assert text.text == "Bern is on the Aare."
    assert [(cited.url, cited.title, cited.start, cited.end) for cited in text.citations] == [
        ("https://example.com/bern", "Bern", 0, 4)
    ]
    assert look == ToolCall(id="call_1", name="look", arguments='{"at":"Bern"}')
    assert wait == ToolCall(id="call_2", name="wait", arguments="{}")
    assert (choice.finish, told.service_tier, told.created) == ("tool_calls", "default", 1741569952)
    assert told.usage == Usage(input=70, cache_read=30, output=40, reasoning=10)
    again = CODEC.write_answer(told, ASKED)
    ChatCompletion.model_validate_json(again, strict=True)
    expected = json.loads(body)
    del expected["system_fingerprint"]
    assert json.loads(again) == expected


@pytest.mark.parametrize(
    ("reason", "meant"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("end_turn", "stop"),
        ("model_length", "length"),
        ("insufficient_system_resource", "error"),
        ("something new", "stop"),
        (None, "stop"),
    ],
)
def test_finish_reasons_of_many_servers(reason: str | None, meant: Finish) -> None:
    assert answered({"content": "x"}, reason).finish == meant


@pytest.mark.parametrize("reason", ["stop", "tool_calls", "function_call", "tool_use", None])
def test_calls_end_in_tool_calls_whatever_the_server_says(reason: str | None) -> None:
    called = {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}
    assert answered(called, reason).finish == "tool_calls"


def test_an_older_function_call() -> None:
    choice = answered({"content": None, "function_call": {"name": "f", "arguments": ""}}, "function_call")
    assert choice.finish == "tool_calls"
    (call,) = choice.blocks
    assert isinstance(call, ToolCall)
    assert (call.id, call.name, call.arguments) == ("call_chatcmpl9_0_0", "f", "{}")


def test_calls_with_no_id_with_one_id_and_with_objects_for_arguments() -> None:
    made = [
        {"function": {"name": "a", "arguments": {"x": 1}}},
        {"id": "c", "function": {"name": "b", "arguments": None}},
        {"id": "c", "function": {"name": "b", "arguments": " "}},
    ]
    calls = answered({"tool_calls": made}).blocks
    ids = [call.id for call in calls if isinstance(call, ToolCall)]
    assert len(set(ids)) == 3
    assert all(ids)
    assert [json.loads(call.arguments) for call in calls if isinstance(call, ToolCall)] == [{"x": 1}, {}, {}]


def test_two_names_for_reasoning_are_not_twice_the_reasoning() -> None:
    choice = answered({"content": "4", "reasoning": "hm", "reasoning_content": "hm"})
    assert choice.blocks == (Thinking(text="hm", format="openai.chat"), Text(text="4"))


def test_reasoning_details_are_kept_and_read_where_they_are_all() -> None:
    details = [{"type": "reasoning.text", "text": "hm", "signature": "s", "index": 0}]
    choice = answered({"content": "4", "reasoning_details": details})
    assert choice.blocks[:2] == (Thinking(text="hm", format="openai.chat"), Text(text="4"))
    kept = choice.blocks[2]
    assert isinstance(kept, Opaque)
    assert json.loads(bytes(kept.raw)) == details
    assert message(*choice.blocks)["reasoning_details"] == details


def test_content_in_parts() -> None:
    """Mistral's thinking models answer in parts."""
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "4"},
    ]
    assert answered({"content": parts}).blocks == (Thinking(text="hm", format="openai.chat"), Text(text="4"))


def test_a_refusal_in_words() -> None:
    choice = answered({"content": None, "refusal": "No."})
    assert (choice.blocks, choice.finish) == ((Refusal(text="No."),), "refusal")
    found = written(Refusal(text="No."), finish="refusal")["choices"][0]
    assert (found["message"]["refusal"], found["finish_reason"]) == ("No.", "stop")


def test_a_refusal_without_words_is_a_content_filter() -> None:
    assert written(Text(text="x"), finish="refusal")["choices"][0]["finish_reason"] == "content_filter"


@pytest.mark.parametrize(
    "finish", ["stop", "length", "tool_calls", "content_filter", "refusal", "pause", "error"]
)
def test_every_end_has_a_legal_name(finish: Finish) -> None:
    written(Text(text="x"), finish=finish)


def test_audio_and_pictures() -> None:
    spoken = {"id": "audio_1", "data": "AAAA", "expires_at": 9, "transcript": "hi"}
    drawn = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    choice = answered({"content": None, "audio": spoken, "images": drawn})
    assert choice.blocks == (
        Audio(source=Source(kind="data", value="AAAA"), id="audio_1", transcript="hi"),
        Image(source=Source(kind="data", value="AAAA", media_type="image/png")),
    )
    found = message(*choice.blocks)
    assert found["audio"] == {**spoken, "expires_at": 0}
    assert found["images"][0]["image_url"] == {"url": "data:image/png;base64,AAAA"}


def test_signed_thoughts_of_other_providers_are_given_to_the_client() -> None:
    found = message(
        Thinking(text="hm", signature="sig", format="anthropic"),
        Thinking(redacted="r", format="anthropic"),
        ToolCall(id="c", name="f", signature="ts"),
        finish="tool_calls",
    )
    assert found["reasoning_content"] == "hm"
    assert found["thinking_blocks"] == [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "r"},
    ]
    assert found["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "ts"}}


def test_citations_count_from_the_start_of_the_message() -> None:
    """Other formats cite in blocks of their own; here they are one text."""
    found = message(
        Text(text="Hello. "),
        Text(
            text="Bern is.",
            citations=(Citation(url="https://e.com", title="t", cited="q"), Citation(cited="c")),
        ),
        Text(text="x", citations=(Citation(url="https://f.com", start=0, end=1),)),
    )
    assert found["content"] == "Hello. Bern is.x"
    assert [entry["url_citation"] for entry in found["annotations"]] == [
        {"start_index": 7, "end_index": 15, "title": "t", "url": "https://e.com", "content": "q"},
        {"start_index": 15, "end_index": 16, "title": "", "url": "https://f.com"},
    ]


def test_who_asked_with_functions_gets_a_function_call() -> None:
    asked = structs.replace(ASKED, functions=True)
    found = written(ToolCall(id="c", name="f", arguments='{"a":1}'), finish="tool_calls", asked=asked)
    (choice,) = found["choices"]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    assert "tool_calls" not in choice["message"]


def test_usage_in_this_formats_counting_with_its_cost() -> None:
    usage = Usage(
        input=10, cache_read=20, cache_write_5m=3, cache_write_1h=4, audio_input=5, output=30, reasoning=12,
        audio_output=6, searches=2,
    )  # fmt: skip
    found = written(Text(text="x"), usage=usage, cost="0.00125")["usage"]
    assert (found["prompt_tokens"], found["completion_tokens"], found["total_tokens"]) == (42, 36, 78)
    assert found["prompt_tokens_details"] == {"cached_tokens": 20, "audio_tokens": 5, "cache_write_tokens": 7}
    assert found["completion_tokens_details"]["reasoning_tokens"] == 12
    assert found["cost"] == 0.00125
    whole = Completion(id="a", choices=(Choice(),), usage=usage)
    again = CODEC.read_answer(CODEC.write_answer(whole, ASKED)).usage
    assert again == structs.replace(usage, cache_write_5m=7, cache_write_1h=0)


def test_an_answer_without_usage_says_none() -> None:
    assert "usage" not in written(Text(text="x"))
    assert CODEC.read_answer(b'{"choices":[]}').usage is None


def test_the_stop_sequence_that_vllm_names() -> None:
    assert answered({"content": "x"}, stop_reason="END").stop_sequence == "END"
    assert answered({"content": "x"}, stop_reason=32000).stop_sequence is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b"{}",
        b'{"choices":3}',
        b'{"choices":[{"message":{"content":3}}]}',
        b'{"choices":[{"message":{"content":[{"text":"no type"}]}}]}',
        b'{"error":{"message":"secret-words"},"choices":[]}',
        b'{"choices":' + b"[" * 100_000,
    ],
)
def test_what_cannot_be_read_says_so_without_quoting_it(body: bytes) -> None:
    with pytest.raises(Unreadable) as caught:
        CODEC.read_answer(body)
    assert "secret-words" not in str(caught.value)


def test_errors_have_the_dialects_shape() -> None:
    error = BudgetExceeded("The budget is used up.", details={"budget": "b"})
    found = json.loads(CODEC.write_error(error))["error"]
    assert found == {
        "message": "The budget is used up.",
        "type": "insufficient_quota",
        "param": None,
        "code": "budget_exceeded",
        "budget": "b",
    }


def test_raw_usage_is_the_providers_own() -> None:
    told = CODEC.read_answer(b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"own":7}}')
    assert told.raw_usage == Raw(b'{"prompt_tokens":1,"completion_tokens":1,"own":7}')
