from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from tollway.errors import BadRequest, InvalidJson
from tollway.wire.conversation import (
    Audio,
    Cache,
    Conversation,
    Document,
    Extra,
    Image,
    Message,
    Opaque,
    Reasoning,
    Refusal,
    ServerTool,
    Source,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Video,
)
from tollway.wire.formats.openai_chat import CODEC

GOLDEN = Path(__file__).parents[3] / "golden" / "openai_chat"
HELLO = {"role": "user", "content": "hello"}


def read(*messages: Any, **fields: Any) -> Conversation:
    body = {"model": "gpt-4o", "messages": list(messages) or [HELLO], **fields}
    return CODEC.read_request(json.dumps(body).encode())


def refused(*messages: Any, **fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        read(*messages, **fields)
    return caught.value


def blocks(message: Any, *before: Any) -> tuple[Any, ...]:
    return read(*before, message).messages[-1].blocks


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def test_every_documented_field() -> None:
    told = CODEC.read_request((GOLDEN / "request.json").read_bytes())
    assert told.model == "gpt-4o"
    assert told.messages == (
        Message(role="developer", blocks=(Text(text="Answer in one sentence."),), name="house"),
        Message(
            role="user",
            blocks=(
                Text(text="What is in these?", cache=Cache(ttl="1h")),
                Image(source=Source(kind="data", value="iVBORw0KGgo=", media_type="image/png"), detail="low"),
                Image(source=Source(kind="url", value="https://example.com/cat.jpg")),
                Audio(source=Source(kind="data", value="UklGRg==", media_type="audio/wav")),
                Document(
                    source=Source(kind="data", value="JVBERi0=", media_type="application/pdf"), title="a.pdf"
                ),
                Document(source=Source(kind="file", value="file-1")),
            ),
        ),
        Message(
            role="assistant",
            blocks=(
                Text(text="I look."),
                ToolCall(id="call_a", name="look", arguments='{"at": 1}'),
                ToolCall(id="call_b", name="shell", arguments="ls -l", custom=True),
            ),
        ),
        Message(
            role="user",
            blocks=(ToolResult(call_id="call_a", name="look", content=(Text(text="a cat"),)),),
        ),
        Message(
            role="user",
            blocks=(ToolResult(call_id="call_b", name="shell", content=(Text(text="a.pdf"),)),),
        ),
        Message(
            role="assistant",
            blocks=(
                Refusal(text="I cannot hear."),
                Audio(source=Source(kind="file", value="audio_1"), id="audio_1"),
            ),
        ),
        Message(role="user", blocks=(Text(text="Go on."),)),
    )
    look, shell, search = told.tools
    assert isinstance(look, Tool)
    assert (look.name, look.description, look.strict) == ("look", "Look.", True)
    assert json.loads(bytes(look.schema))["required"] == ["at"]
    assert isinstance(shell, Tool)
    assert shell.custom
    assert json.loads(bytes(shell.grammar))["type"] == "grammar"
    assert isinstance(search, ServerTool)
    assert (search.kind, search.format) == ("web_search", "openai.chat")
    assert told.tool_choice == ToolChoice(mode="named", name="look")
    assert told.parallel_tool_calls is False
    assert told.response_format is not None
    assert (told.response_format.name, told.response_format.strict) == ("seen", True)
    assert told.reasoning == Reasoning(effort="low")
    assert told.max_tokens == 500
    assert (told.temperature, told.top_p) == (0.5, 0.9)
    assert (told.frequency_penalty, told.presence_penalty) == (0.1, -0.1)
    assert told.stop == ("END", "STOP")
    assert (told.seed, told.logprobs, told.top_logprobs, told.n) == (7, True, 2, 2)
    assert told.modalities == ("text", "audio")
    assert json.loads(bytes(told.audio)) == {"voice": "alloy", "format": "mp3"}
    assert json.loads(bytes(told.prediction))["content"] == "a cat"
    assert (told.verbosity, told.service_tier, told.store) == ("low", "flex", True)
    assert told.metadata == {"job": "7"}
    assert (told.user, told.safety_identifier, told.prompt_cache_key) == ("u1", "s1", "k1")
    assert (told.stream, told.include_usage, told.format) == (True, True, "openai.chat")
    assert told.extra == (
        Extra(format="openai.chat", name="logit_bias", raw=Raw(b'{"50256": -100}')),
        Extra(format="openai.chat", name="stream_options", raw=Raw(b'{"include_obfuscation":false}')),
    )


def test_older_functions() -> None:
    told = read(
        HELLO,
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "4"},
        functions=[{"name": "f", "parameters": {"type": "object"}}],
        function_call={"name": "f"},
    )
    call = told.messages[1].blocks[0]
    result = told.messages[2].blocks[0]
    assert isinstance(call, ToolCall)
    assert isinstance(result, ToolResult)
    assert result.call_id == call.id
    assert told.functions
    assert [tool.name for tool in told.tools] == ["f"]
    assert told.tool_choice == ToolChoice(mode="named", name="f")


def test_two_calls_of_one_function_keep_their_results_apart() -> None:
    def call(arguments: str) -> dict[str, Any]:
        return {"role": "assistant", "function_call": {"name": "f", "arguments": arguments}}

    told = read(
        call('{"a":1}'),
        {"role": "function", "name": "f", "content": "one"},
        call('{"a":2}'),
        {"role": "function", "name": "f", "content": "two"},
    )
    ids = [getattr(turn.blocks[0], "id", None) or turn.blocks[0].call_id for turn in told.messages]  # type: ignore[union-attr]
    assert ids[0] == ids[1] != ids[2] == ids[3]


def test_reasoning_of_other_servers_in_an_assistant_turn() -> None:
    said = {"role": "assistant", "content": "4", "reasoning_content": "2 and 2"}
    assert blocks(said)[0] == Thinking(text="2 and 2", format="openai.chat")
    said = {"role": "assistant", "content": "4", "reasoning": "2 and 2", "reasoning_details": [{"type": "x"}]}
    assert blocks(said) == (
        Thinking(text="2 and 2", format="openai.chat"),
        Text(text="4"),
        Opaque(format="openai.chat", kind="reasoning_details", raw=Raw(b'[{"type": "x"}]')),
    )


def test_signed_thinking_comes_back_to_who_signed_it() -> None:
    said = {
        "role": "assistant",
        "content": "4",
        "reasoning_content": "2 and 2",
        "thinking_blocks": [
            {"type": "thinking", "thinking": "2 and 2", "signature": "sig"},
            {"type": "redacted_thinking", "data": "secret"},
            {"type": "thinking", "thinking": "hm", "signature": "s2", "format": "gemini"},
        ],
    }
    assert blocks(said)[:3] == (
        Thinking(text="2 and 2", signature="sig", format="anthropic"),
        Thinking(redacted="secret", format="anthropic"),
        Thinking(text="hm", signature="s2", format="gemini"),
    )


def test_thought_signature_of_a_call() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    call["extra_content"] = {"google": {"thought_signature": "sig"}}
    (found,) = blocks({"role": "assistant", "tool_calls": [call]})
    assert found.signature == "sig"


def test_arguments_given_as_an_object_or_not_at_all() -> None:
    def arguments(value: Any) -> str:
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": value}}
        (found,) = blocks({"role": "assistant", "tool_calls": [call]})
        assert isinstance(found, ToolCall)
        return found.arguments

    assert json.loads(arguments({"a": 1})) == {"a": 1}
    assert arguments("") == "{}"
    assert arguments(None) == "{}"


def test_a_video_and_a_kind_that_is_newer_than_we_are() -> None:
    found = blocks(
        user(
            {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}},
            {"type": "hologram", "hologram": {"id": 1}},
            {"type": "text", "text": "?", "prompt_cache_breakpoint": {"mode": "explicit"}},
        ),
        user({"type": "text", "text": "before"}),
    )
    assert found[0] == Video(source=Source(kind="url", value="https://example.com/a.mp4"))
    assert found[1] == Opaque(
        format="openai.chat", kind="hologram", raw=Raw(b'{"type": "hologram", "hologram": {"id": 1}}')
    )
    assert found[2] == Text(text="?", cache=Cache())


def test_an_image_url_that_is_a_bare_string() -> None:
    (found,) = blocks(user({"type": "image_url", "image_url": "https://example.com/a.png"}))
    assert found == Image(source=Source(kind="url", value="https://example.com/a.png"))


def test_base64_loses_its_line_breaks_and_needs_no_data_url() -> None:
    (found,) = blocks(user({"type": "file", "file": {"filename": "a.pdf", "file_data": "JVBE\nRi0="}}))
    assert found.source == Source(kind="data", value="JVBERi0=", media_type="application/pdf")
    (found,) = blocks(user({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}))
    assert found.source.media_type == "audio/mpeg"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"reasoning_effort": "none"}, Reasoning(enabled=False, effort="none")),
        ({"reasoning": {"max_tokens": 2000, "exclude": True}}, Reasoning(budget=2000, show=False)),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, Reasoning(enabled=True, budget=1024)),
        ({"thinking": {"type": "disabled"}}, Reasoning(enabled=False)),
        ({"thinking": {"type": "adaptive"}}, Reasoning(enabled=True, adaptive=True)),
    ],
)
def test_ways_to_ask_for_reasoning(said: dict[str, Any], meant: Reasoning) -> None:
    assert read(**said).reasoning == meant


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("any", ToolChoice(mode="required")),
        ("none", ToolChoice(mode="none")),
        ({"type": "custom", "custom": {"name": "c"}}, ToolChoice(mode="named", name="c")),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "f"}}],
                },
            },
            ToolChoice(mode="required", allowed=("f",)),
        ),
    ],
)
def test_tool_choices(said: Any, meant: ToolChoice) -> None:
    assert read(tool_choice=said).tool_choice == meant


def test_tools_the_provider_runs() -> None:
    told = read(
        tools=[
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 2},
            {"type": "code_interpreter", "container": {"type": "auto"}},
            {"googleSearch": {}},
        ]
    )
    assert [(tool.kind, tool.format) for tool in told.tools if isinstance(tool, ServerTool)] == [
        ("web_search", "anthropic"),
        ("code_execution", "openai.chat"),
        ("web_search", "openai.chat"),
    ]


def test_the_newer_limit_wins_and_the_older_is_read() -> None:
    assert read(max_tokens=5).max_tokens == 5
    assert read(max_tokens=5, max_completion_tokens=6).max_tokens == 6


def test_nulls_are_as_good_as_nothing() -> None:
    fields = dict.fromkeys(
        ("temperature", "tools", "stop", "n", "stream_options", "response_format", "logit_bias", "audio")
    )
    assert read(**fields) == read()


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "content": [{"type": 3}]}, "messages.0.content.0.type"),
        ({"role": "user", "content": [{"text": "x"}]}, "messages.0.content.0.type"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages.0.content.0.text"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "messages.0.content.0.image_url"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": 3}}]},
            "messages.0.content.0.image_url.url",
        ),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "A"}}]},
            "messages.0.content.0.input_audio.format",
        ),
        ({"role": "user", "content": [{"type": "file", "file": {}}]}, "messages.0.content.0.file"),
        ({"role": "user", "content": 3}, "messages.0.content"),
        ({"role": "user"}, "messages.0.content"),
        ({"content": "x"}, "messages.0.role"),
        ({"role": "robot", "content": "x"}, "messages.0.role"),
        ({"role": "tool", "content": "x"}, "messages.0.tool_call_id"),
        ({"role": "function", "content": "x"}, "messages.0.name"),
        ({"role": "assistant", "tool_calls": [{"id": "c"}]}, "messages.0.tool_calls.0.function"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, "messages.0.tool_calls.0.function.name"),
        ({"role": "assistant", "tool_calls": {}}, "messages.0.tool_calls"),
        ("hello", "messages.0"),
    ],
)
def test_what_is_wrong_with_a_message_is_named(message: Any, param: str) -> None:
    error = refused(message)
    assert (error.http_status, error.param) == (400, param)
    assert param in error.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"model": 3}, "model"),
        ({"n": 0}, "n"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"stop": 3}, "stop"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools.0.function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
            "tools.0.function.parameters",
        ),
        ({"tools": [{}]}, "tools.0.type"),
        ({"tool_choice": "perhaps"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function.name"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"thinking": {"type": "maybe"}}, "thinking.type"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_what_is_wrong_with_a_request_is_named(fields: dict[str, Any], param: str) -> None:
    error = refused(**fields)
    assert (error.http_status, error.param) == (400, param)


def test_missing_fields_are_named() -> None:
    for body, param in ((b'{"messages": []}', "model"), (b'{"model": "x"}', "messages")):
        with pytest.raises(BadRequest) as caught:
            CODEC.read_request(body)
        assert caught.value.param == param


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff{}",
        b'{"model":"x","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model":"x","messages":[{"role":"user","content":' + b"[" * 5_000 + b"]" * 5_000 + b"}]}",
        b'{"model":"x","messages":[{"role":"user","content":"a"}],"deep":'
        + b'{"a":' * 50_000
        + b"1"
        + b"}" * 50_001,
    ],
)
def test_what_is_no_json_is_refused_and_not_a_stack_trace(body: bytes) -> None:
    with pytest.raises(BadRequest):
        CODEC.read_request(body)


def test_no_json_is_invalid_json() -> None:
    with pytest.raises(InvalidJson):
        CODEC.read_request(b"{")
