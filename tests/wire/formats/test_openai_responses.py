"""Requests of the Responses API: what clients send is read, what a provider gets is what its reference says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from openai.types.responses import ResponseCreateParams
from pydantic import TypeAdapter

from tollway.errors import BadRequest, BudgetExceeded, InvalidJson
from tollway.wire.codec import Profile
from tollway.wire.conversation import (
    Audio,
    Block,
    Cache,
    Citation,
    Conversation,
    Document,
    Extra,
    Image,
    Message,
    Opaque,
    Reasoning,
    Refusal,
    ResponseFormat,
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
from tollway.wire.formats.openai_responses import CODEC

GOLDEN = Path(__file__).parents[2] / "golden" / "openai_responses"
PROFILE = Profile(model="gpt-5.1", thinking="effort")
PARAMS: TypeAdapter[Any] = TypeAdapter(ResponseCreateParams)
USER = Message(role="user", blocks=(Text(text="Hi"),))
WEATHER = Tool(name="weather", schema=Raw(b'{"type":"object","properties":{"city":{"type":"string"}}}'))


def hello(**fields: Any) -> Conversation:
    return Conversation(**{"model": "m", "messages": (USER,), **fields})


def written(conversation: Conversation, profile: Profile = PROFILE) -> dict[str, Any]:
    body = json.loads(CODEC.write_request(conversation, profile).body)
    valid = json.loads(json.dumps(body))
    for item in valid.get("input", ()):
        # The service takes reasoning without an id, and refuses encrypted reasoning under a wrong one.
        if item["type"] == "reasoning":
            item.setdefault("id", "rs_1")
    PARAMS.validate_python(valid)
    assert isinstance(body, dict)
    return body


def items(*messages: Message, **fields: Any) -> list[dict[str, Any]]:
    """The input items written for some turns, none of them taken as instructions."""
    body = json.loads(CODEC.write_request(hello(messages=messages, **fields), PROFILE).body)
    found: list[dict[str, Any]] = body["input"]
    return found


def lost(conversation: Conversation, profile: Profile = PROFILE) -> set[tuple[str, str]]:
    found = CODEC.write_request(conversation, profile).lost
    assert len({loss.field for loss in found}) == len(found), "a loss is named twice"
    return {(loss.field, loss.weight) for loss in found}


def request(**fields: Any) -> bytes:
    whole = {"model": "m", "input": "Hi", **fields}
    return json.dumps({name: value for name, value in whole.items() if value is not ...}).encode()


def read(**fields: Any) -> Conversation:
    return CODEC.read_request(request(**fields))


def plain(value: object) -> Any:
    """A hub value as JSON, so that raw parts compare by what they say."""
    return json.loads(msgspec.json.encode(value))


def assistant(*blocks: Block) -> Message:
    return Message(role="assistant", blocks=blocks)


def user(*blocks: Block) -> Message:
    return Message(role="user", blocks=blocks)


# ------------------------------------------------------------------ reading


def test_what_codex_sends_is_read() -> None:
    got = CODEC.read_request((GOLDEN / "request.json").read_bytes())
    assert got.format == "openai.responses"
    assert (got.model, got.stream, got.include_usage, got.store) == ("gpt-5-codex", True, True, False)
    assert got.reasoning == Reasoning(enabled=True, effort="medium", show=True, summary="auto")
    assert (got.max_tokens, got.top_logprobs, got.verbosity) == (4096, 2, "low")
    assert (got.prompt_cache_key, got.safety_identifier) == ("thread-7", "u-1")
    assert (got.metadata, got.service_tier, got.parallel_tool_calls) == ({"run": "7"}, "flex", True)
    assert got.tool_choice == ToolChoice(mode="auto")
    assert got.response_format is not None
    assert (got.response_format.name, got.response_format.strict) == ("codex_output_schema", True)
    assert {extra.name for extra in got.extra} == {
        "include",
        "reasoning.context",
        "tools.mcp__files__read",
        "namespaces",
        "stream_options",
        "client_metadata",
        "max_tool_calls",
        "truncation",
    }

    roles = [message.role for message in got.messages]
    assert roles == ["system", "developer", "user", "assistant", "user", "assistant"]
    assert got.messages[0].blocks == (Text(text="You are a coding agent."),)
    assert got.messages[2].blocks[1:] == (
        Image(source=Source(kind="data", value="iVBORw0KGgo=", media_type="image/png"), detail="high"),
        Document(source=Source(kind="data", value="JVBERi0=", media_type="application/pdf"), title="log.pdf"),
    )
    thought, said, shell, files, patch = got.messages[3].blocks
    assert thought == Thinking(
        text="**Looking**", summary=True, signature="gAAAAABo-enc", format="openai.responses"
    )
    assert said == Text(text="Let me look.")
    assert shell == ToolCall(id="call_1", name="shell", arguments='{"command":["ls"]}')
    assert files == ToolCall(id="call_2", name="mcp__files__read", arguments='{"path":"a"}')
    assert patch == ToolCall(id="call_3", name="apply_patch", arguments="*** Begin Patch", custom=True)
    first, second, third = got.messages[4].blocks
    assert first == ToolResult(call_id="call_1", name="shell", content=(Text(text="a.py"),))
    assert isinstance(second, ToolResult)
    assert second.content[1] == Image(source=Source(kind="url", value="https://example.com/a.png"))
    assert isinstance(third, ToolResult)
    assert (third.name, third.custom) == ("apply_patch", True)
    opaque = [block for block in got.messages[5].blocks if isinstance(block, Opaque)]
    assert [block.kind for block in opaque] == ["web_search_call", "item_reference"]

    assert [tool.name for tool in got.tools if isinstance(tool, Tool)] == [
        "shell",
        "mcp__files__read",
        "mcp__files__write",
        "apply_patch",
    ]
    assert [tool.kind for tool in got.tools if isinstance(tool, ServerTool)] == [
        "web_search",
        "local_shell",
        "mcp",
        "image_generation",
        "code_execution",
        "file_search",
        "computer",
        "apply_patch",
        "tool_search",
    ]


def test_what_codex_sends_is_written_back_as_it_came() -> None:
    body = (GOLDEN / "request.json").read_bytes()
    conversation = CODEC.read_request(body)
    sent, again = json.loads(body), written(conversation, Profile(model="gpt-5-codex"))
    assert lost(conversation) == set()
    for name in sent.keys() | again.keys():
        if name != "input":
            assert again[name] == sent[name], name
    # What the reference gives a default to is filled in, and one plain text is written short; nothing else differs.
    said = {"type": "message", "role": "assistant", "content": "Let me look."}
    sent["input"][3] = said
    del sent["input"][6]["status"]
    sent["input"][8]["output"][1]["detail"] = "auto"
    assert again["input"] == sent["input"]


def test_a_plain_text_is_a_user_turn() -> None:
    assert read().messages == (USER,)
    assert read(input="").messages == (Message(role="user", blocks=(Text(text=""),)),)


def test_items_without_a_type_are_messages_or_references() -> None:
    got = read(
        input=[{"role": "assistant", "content": "Yes?"}, {"id": "msg_1"}, {"role": "user", "content": "x"}]
    )
    assert [message.role for message in got.messages] == ["assistant", "user"]
    assert [type(block).__name__ for block in got.messages[0].blocks] == ["Text", "Opaque"]


def test_every_kind_of_part_is_read() -> None:
    content = [
        {"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}},
        {"type": "input_image", "file_id": "file_1", "detail": "low"},
        {"type": "input_image", "image_url": "https://example.com/x.png"},
        {"type": "input_file", "file_id": "file_2"},
        {"type": "input_file", "file_url": "https://example.com/x.pdf"},
        {"type": "input_file", "file_data": "JVBERi0x", "filename": "x.pdf"},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "input_hologram", "shape": [1, 2]},
    ]
    blocks = read(input=[{"role": "user", "content": content}]).messages[0].blocks
    assert blocks[:7] == (
        Text(text="a", cache=Cache()),
        Image(source=Source(kind="file", value="file_1"), detail="low"),
        Image(source=Source(kind="url", value="https://example.com/x.png")),
        Document(source=Source(kind="file", value="file_2")),
        Document(source=Source(kind="url", value="https://example.com/x.pdf")),
        Document(source=Source(kind="data", value="JVBERi0x", media_type="application/pdf"), title="x.pdf"),
        Audio(source=Source(kind="data", value="UklGRg==", media_type="audio/wav")),
    )
    assert plain(blocks[7])["raw"] == content[7]


def test_assistant_parts_keep_refusals_and_annotations() -> None:
    annotation = {
        "type": "url_citation",
        "start_index": 0,
        "end_index": 2,
        "title": "T",
        "url": "https://e.com",
    }
    message = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "phase": "final_answer",
        "content": [
            {"type": "output_text", "text": "Hm", "annotations": [annotation], "logprobs": []},
            {"type": "refusal", "refusal": "No."},
        ],
    }
    got = read(input=[message])
    text, refusal = got.messages[0].blocks
    assert isinstance(text, Text)
    assert (text.citations[0].url, text.citations[0].start, text.citations[0].end) == ("https://e.com", 0, 2)
    assert refusal == Refusal(text="No.")
    assert got.messages[0].id == "msg_1"
    assert [extra.name for extra in got.extra] == ["input.phase"]
    assert lost(got) == {("input.phase", "hint")}
    (again,) = items(*got.messages, format="openai.responses")
    assert again["id"] == "msg_1"
    assert [
        part | {"logprobs": []} if part["type"] == "output_text" else part for part in again["content"]
    ] == (message["content"])


def test_instructions_prompt_and_conversation() -> None:
    got = read(input=..., instructions="Be brief.", prompt={"id": "pmpt_1"}, conversation="conv_1")
    assert got.messages[0] == Message(role="system", blocks=(Text(text="Be brief."),))
    assert [
        (block.kind, bytes(block.raw)) for block in got.messages[1].blocks if isinstance(block, Opaque)
    ] == [
        ("prompt", b'{"id": "pmpt_1"}'),
        ("conversation", b'"conv_1"'),
    ]
    body = written(got)
    assert (body["prompt"], body["conversation"]) == ({"id": "pmpt_1"}, "conv_1")
    assert "input" not in body or body["input"] == []


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("required", ToolChoice(mode="required")),
        ("none", ToolChoice(mode="none")),
        ({"type": "function", "name": "weather"}, ToolChoice(mode="named", name="weather")),
        ({"type": "custom", "name": "patch"}, ToolChoice(mode="named", name="patch")),
        ({"type": "mcp", "server_label": "docs"}, ToolChoice(mode="named", name="docs")),
        ({"type": "code_interpreter"}, ToolChoice(mode="named", name="code_interpreter")),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]},
            ToolChoice(mode="required", allowed=("weather",)),
        ),
    ],
)
def test_tool_choices_come_and_go(choice: object, expected: ToolChoice) -> None:
    tools = [
        {"type": "function", "name": "weather", "parameters": None, "strict": None},
        {"type": "custom", "name": "patch"},
        {"type": "mcp", "server_label": "docs", "server_url": "https://example.com/mcp"},
        {"type": "code_interpreter", "container": {"type": "auto"}},
    ]
    got = read(tools=tools, tool_choice=choice)
    assert got.tool_choice == expected
    assert written(got)["tool_choice"] == choice


def test_additional_tools_in_the_input_are_tools() -> None:
    brought = {"type": "additional_tools", "role": "developer", "tools": [{"type": "custom", "name": "late"}]}
    got = read(input=[brought, {"role": "user", "content": "x"}])
    assert [tool.name for tool in got.tools] == ["late"]


def test_an_output_without_a_call_id_is_an_event_told_by_the_client() -> None:
    """Codex sends such items for events of its own; providers accept them as a developer's message."""
    got = read(input=[{"type": "function_call_output", "name": "notify", "output": "build done"}])
    assert got.messages == (
        Message(role="developer", blocks=(Text(text="[notify]"), Text(text="build done"))),
    )


def test_early_clients_send_outputs_as_objects() -> None:
    output = {"type": "function_call_output", "call_id": "c", "output": {"content": "no", "success": False}}
    block = read(input=[output]).messages[0].blocks[0]
    assert block == ToolResult(call_id="c", content=(Text(text="no"),), error=True)


# ------------------------------------------------------------------ refusing


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ...}, "model"),
        ({"model": 5}, "model"),
        ({"input": ...}, "input"),
        ({"input": 7}, "input"),
        ({"input": [7]}, "input.0"),
        ({"input": [{}]}, "input.0.type"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input.0.role"),
        ({"input": [{"role": "user"}]}, "input.0.content"),
        ({"input": [{"role": "user", "content": [{"text": "x"}]}]}, "input.0.content.0.type"),
        ({"input": [{"role": "user", "content": [{"type": 4}]}]}, "input.0.content.0.type"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input.0.content.0.text"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0.content.0.image_url"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input.0.content.0.file_data"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "input.0.content.0.input_audio",
        ),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input.0.call_id"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": ""}]}, "input.0.name"),
        (
            {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": {}}]},
            "input.0.arguments",
        ),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input.0.call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": 5}]}, "input.0.output"),
        (
            {
                "input": [
                    {
                        "type": "function_call_output",
                        "call_id": "c",
                        "output": [{"type": "refusal", "refusal": "x"}],
                    }
                ]
            },
            "input.0.output.0.type",
        ),
        ({"input": [{"type": "reasoning", "summary": "x"}]}, "input.0.summary"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"name": "f"}]}, "tools.0.type"),
        ({"tools": [{"type": "function"}]}, "tools.0.name"),
        ({"tools": [{"type": "function", "name": ""}]}, "tools.0.name"),
        (
            {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "custom"}]}]},
            "tools.0.tools.0.name",
        ),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
        ({"reasoning": {"effort": 3}}, "reasoning.effort"),
        ({"metadata": {"a": 1}}, "metadata.*"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": "many"}, "max_output_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"stream": "yes"}, "stream"),
        ({"include": "all"}, "include"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(**fields)
    found = refused.value.param or ""
    assert found.replace("[...]", "*").split(".") == param.split(".") or found == param.removesuffix(".*")
    assert refused.value.message.endswith(".")
    assert "Traceback" not in refused.value.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"model":"m","input":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model":"m","input":[{"role":"user","content":'
        + b'[{"a":' * 50_000
        + b"1"
        + b"}]" * 50_000
        + b"}]}",
        b'{"model":"m","input":"\xff"}',
        b'{"model":"m","input":"\0"}',
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        CODEC.read_request(body)
    assert isinstance(refused.value, InvalidJson) or refused.value.param


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ("type", "role", "content", "text", "call_id", "name", "output", "id", "tools")
                ),
                inner
                | st.sampled_from(
                    ("message", "function_call", "reasoning", "user", "input_text", "function")
                ),
                max_size=4,
            )
        ),
        max_leaves=12,
    ),
    st.sampled_from(("input", "tools", "tool_choice", "text", "reasoning", "metadata", "prompt")),
)
def test_nothing_a_client_sends_breaks_the_reader(value: object, name: str) -> None:
    try:
        conversation = read(**{name: value})
    except BadRequest as refused:
        assert refused.param  # noqa: PT017 both ends are fine, a third is not
        return
    try:
        CODEC.write_request(conversation, PROFILE)
    except BadRequest as refused:
        assert refused.param  # noqa: PT017


# ------------------------------------------------------------------ writing


def test_every_setting_has_its_place() -> None:
    body = written(
        hello(
            tools=(WEATHER,),
            tool_choice=ToolChoice(mode="required"),
            parallel_tool_calls=False,
            response_format=ResponseFormat(
                kind="json_schema", name="n", schema=Raw(b'{"type":"object"}'), strict=True, description="d"
            ),
            reasoning=Reasoning(effort="low", summary="detailed"),
            max_tokens=500,
            temperature=0.5,
            top_p=0.9,
            logprobs=True,
            top_logprobs=3,
            verbosity="high",
            service_tier="priority",
            metadata={"a": "b"},
            user="u",
            safety_identifier="s",
            prompt_cache_key="p",
            store=True,
            previous_response_id="resp_1",
            stream=True,
        )
    )
    assert body == {
        "model": "gpt-5.1",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
        "tools": [
            {
                "type": "function",
                "name": "weather",
                "parameters": json.loads(bytes(WEATHER.schema)),
                "strict": False,
            }
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "text": {
            "format": {
                "type": "json_schema",
                "name": "n",
                "schema": {"type": "object"},
                "strict": True,
                "description": "d",
            },
            "verbosity": "high",
        },
        "reasoning": {"effort": "low", "summary": "detailed"},
        "max_output_tokens": 500,
        "temperature": 0.5,
        "top_p": 0.9,
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 3,
        "service_tier": "priority",
        "metadata": {"a": "b"},
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "p",
        "store": True,
        "previous_response_id": "resp_1",
        "stream": True,
    }


def test_answers_for_clients_of_other_formats_are_not_kept_by_the_provider() -> None:
    assert written(hello())["store"] is False
    assert written(hello(store=True))["store"] is True
    assert "store" not in written(read())


def test_what_cannot_be_said_is_named() -> None:
    conversation = hello(
        messages=(
            Message(role="user", name="ann", blocks=(Text(text="x", cache=Cache()),)),
            assistant(
                Thinking(text="t", signature="s", format="anthropic"),
                Image(source=Source(kind="url", value="https://example.com/x.png")),
                Text(text="y"),
            ),
            user(
                Audio(source=Source(kind="data", value="AA==")),
                Video(source=Source(kind="url", value="https://example.com/v.mp4")),
                Opaque(format="anthropic", kind="container_upload", raw=Raw(b"{}")),
            ),
        ),
        tools=(ServerTool(kind="maps", format="gemini", raw=Raw(b'{"googleMaps":{}}')),),
        tool_choice=ToolChoice(mode="required"),
        n=2,
        top_k=5,
        min_p=0.1,
        seed=1,
        stop=("END",),
        frequency_penalty=0.1,
        presence_penalty=0.1,
        modalities=("text", "audio"),
        audio=Raw(b'{"voice":"x"}'),
        prediction=Raw(b"{}"),
        max_tokens=1,
        service_tier="standard_only",
        extra=(Extra(format="anthropic", name="container", raw=Raw(b'"c"')),),
    )
    assert lost(conversation) == {
        ("messages.name", "hint"),
        ("cache_control", "hint"),
        ("messages.thinking", "hint"),
        ("messages.image", "meaning"),
        ("messages.audio", "meaning"),
        ("messages.video", "meaning"),
        ("messages.container_upload", "meaning"),
        ("tools.maps", "meaning"),
        ("tool_choice", "meaning"),
        ("n", "meaning"),
        ("top_k", "hint"),
        ("min_p", "hint"),
        ("seed", "hint"),
        ("stop", "hint"),
        ("frequency_penalty", "hint"),
        ("presence_penalty", "hint"),
        ("modalities", "meaning"),
        ("audio", "hint"),
        ("prediction", "hint"),
        ("max_tokens", "hint"),
        ("service_tier", "hint"),
        ("container", "hint"),
    }
    body = written(conversation)
    assert body["max_output_tokens"] == 16
    assert "tools" not in body
    assert "tool_choice" not in body


def test_what_a_model_cannot_do_is_not_asked_of_it() -> None:
    weak = Profile(
        model="m", thinking="none", images=False, documents=False, tools=False, schema=False, sampling=False
    )
    conversation = hello(
        messages=(
            user(
                Text(text="x"),
                Image(source=Source(kind="url", value="https://example.com/x.png")),
                Document(source=Source(kind="file", value="f")),
            ),
            assistant(ToolCall(id="c", name="weather")),
            user(ToolResult(call_id="c", name="weather", content=(Text(text="sun"),))),
        ),
        tools=(WEATHER,),
        reasoning=Reasoning(effort="high"),
        response_format=ResponseFormat(kind="json_schema", schema=Raw(b"{}")),
        temperature=0.1,
    )
    assert lost(conversation, weak) == {
        ("messages.image", "meaning"),
        ("messages.document", "meaning"),
        ("tools", "meaning"),
        ("response_format", "meaning"),
        ("reasoning", "hint"),
        ("temperature", "hint"),
    }
    body = written(conversation, weak)
    assert body.keys() == {"model", "input", "store"}
    assert [item["type"] for item in body["input"]] == ["message"] * 3
    assert lost(hello(reasoning=Reasoning(enabled=False)), weak) == set()


@pytest.mark.parametrize(
    ("reasoning", "expected"),
    [
        (Reasoning(budget=1024), {"effort": "low"}),
        (Reasoning(budget=2048), {"effort": "medium"}),
        (Reasoning(budget=16000, show=True), {"effort": "high", "summary": "auto"}),
        (Reasoning(budget=0), {"effort": "none"}),
        (Reasoning(enabled=False), {"effort": "none"}),
        (Reasoning(enabled=True, effort="xhigh"), {"effort": "xhigh"}),
        (Reasoning(enabled=True, adaptive=True), None),
        (Reasoning(budget=-1), None),
    ],
)
def test_reasoning_budgets_become_efforts(reasoning: Reasoning, expected: object) -> None:
    assert written(hello(reasoning=reasoning)).get("reasoning") == expected


def test_the_leading_system_turn_is_the_instructions() -> None:
    system = Message(role="system", blocks=(Text(text="A"), Text(text="B")))
    later = Message(role="developer", blocks=(Text(text="C"),))
    body = written(hello(messages=(system, later, USER)))
    assert body["instructions"] == "A\n\nB"
    assert [item["role"] for item in body["input"]] == ["developer", "user"]
    # A request needs input: a lone system turn is one.
    alone = written(hello(messages=(system,)))
    assert "instructions" not in alone
    assert alone["input"][0]["role"] == "system"


def test_a_cache_breakpoint_goes_back_only_to_the_format_it_came_from() -> None:
    marked = {"type": "input_text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}}
    conversation = read(input=[{"role": "user", "content": [marked]}])
    assert written(conversation)["input"][0]["content"] == [marked]


def test_outputs_stand_behind_their_calls() -> None:
    """Some servers of this API refuse anything between a call and its output."""
    found = items(
        assistant(ToolCall(id="a", name="f"), ToolCall(id="b", name="g", arguments="")),
        Message(role="developer", blocks=(Text(text="note"),)),
        user(
            Text(text="and then?"),
            ToolResult(call_id="b", content=(Text(text="2"),)),
            ToolResult(call_id="a", content=(Text(text="1"),)),
        ),
    )
    assert [(item["type"], item.get("call_id"), item.get("output")) for item in found] == [
        ("function_call", "a", None),
        ("function_call", "b", None),
        ("function_call_output", "a", "1"),
        ("function_call_output", "b", "2"),
        ("message", None, None),
        ("message", None, None),
    ]
    assert found[1]["arguments"] == "{}"
    assert [item["role"] for item in found[4:]] == ["developer", "user"]


def test_a_call_without_output_gets_one_and_an_output_without_call_is_told() -> None:
    found = items(
        assistant(ToolCall(id="a", name="f"), ToolCall(id="p", name="patch", custom=True, arguments="x")),
        user(ToolResult(call_id="zz", name="g", content=(Text(text="late"),)), Text(text="go on")),
    )
    assert [item["type"] for item in found] == [
        "function_call",
        "custom_tool_call",
        "function_call_output",
        "custom_tool_call_output",
        "message",
        "message",
    ]
    assert found[2]["output"]
    assert [part["text"] for part in found[4]["content"]] == ["[result of tool g]", "late"]


def test_an_output_for_a_turn_the_provider_keeps_stays_an_output() -> None:
    result = user(ToolResult(call_id="call_9", content=(Text(text="ok"),)))
    found = items(result, previous_response_id="resp_1")
    assert found == [{"type": "function_call_output", "call_id": "call_9", "output": "ok"}]


def test_a_call_id_used_twice_gets_its_outputs_in_order() -> None:
    found = items(
        assistant(ToolCall(id="c", name="f")),
        user(ToolResult(call_id="c", content=(Text(text="1"),))),
        assistant(ToolCall(id="c", name="f")),
        user(ToolResult(call_id="c", content=(Text(text="2"),))),
    )
    assert [item.get("output") for item in found] == [None, "1", None, "2"]


def test_long_call_ids_are_mapped_alike_in_call_and_output() -> None:
    long = "call_" + "x" * 200
    call, output = items(
        assistant(ToolCall(id=long, name="f")), user(ToolResult(call_id=long, content=(Text(text="1"),)))
    )
    assert call["call_id"] == output["call_id"]
    assert len(call["call_id"]) <= 64
    assert call["call_id"] != items(assistant(ToolCall(id=long + "y", name="f")))[0]["call_id"]


def test_results_with_pictures_and_errors() -> None:
    conversation = hello(
        messages=(
            assistant(ToolCall(id="c", name="f")),
            user(
                ToolResult(
                    call_id="c",
                    error=True,
                    content=(Text(text="see"), Image(source=Source(kind="data", value="iVBORw0KGgo="))),
                )
            ),
        )
    )
    assert written(conversation)["input"][1]["output"] == [
        {"type": "input_text", "text": "see"},
        {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,iVBORw0KGgo="},
    ]
    assert lost(conversation) == {("messages.tool_result.is_error", "hint")}


def test_documents_of_every_source() -> None:
    (item,) = items(
        user(
            Document(source=Source(kind="data", value="JVBERi0=", media_type="application/pdf")),
            Document(source=Source(kind="url", value="https://example.com/x.pdf")),
            Document(source=Source(kind="file", value="file_1")),
            Document(text="plain", title="T"),
        )
    )
    assert item["content"] == [
        {
            "type": "input_file",
            "filename": "document.pdf",
            "file_data": "data:application/pdf;base64,JVBERi0=",
        },
        {"type": "input_file", "file_url": "https://example.com/x.pdf"},
        {"type": "input_file", "file_id": "file_1"},
        {"type": "input_text", "text": "T\n\nplain"},
    ]


def test_empty_texts_are_left_out() -> None:
    assert items(user(Text(text="")), assistant(Text(text="")), USER) == items(USER)


def test_reasoning_goes_back_only_to_who_made_it() -> None:
    own = Thinking(text="S", summary=True, signature="enc", id="rs_1", format="openai.responses")
    content = Thinking(text="C", signature="enc2", id="rs_2", format="openai.responses")
    more = Thinking(text="D", summary=True, id="rs_2", format="openai.responses")
    hidden = Thinking(redacted="enc3", format="openai.responses")
    other = Thinking(text="T", signature="sig", format="anthropic")
    found = items(assistant(own, hidden, other, Text(text="x")))
    assert found[:2] == [
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "S"}],
            "id": "rs_1",
            "encrypted_content": "enc",
        },
        {"type": "reasoning", "summary": [], "encrypted_content": "enc3"},
    ]
    assert found[2]["type"] == "message"
    merged = items(assistant(more, content), format="openai.responses")
    assert [item["type"] for item in merged] == ["reasoning"]
    assert (merged[0]["summary"][0]["text"], merged[0]["content"][0]["text"]) == ("D", "C")


def test_namespaces_become_flat_names_and_are_whole_again() -> None:
    conversation = CODEC.read_request((GOLDEN / "request.json").read_bytes())
    space = next(tool for tool in written(conversation)["tools"] if tool["type"] == "namespace")
    assert (space["name"], space["description"]) == ("mcp__files__", "Files.")
    assert [tool["name"] for tool in space["tools"]] == ["read", "write"]
    assert space["tools"][0]["defer_loading"] is True
    long = read(
        tools=[
            {
                "type": "namespace",
                "name": "n" * 60,
                "description": "",
                "tools": [
                    {"type": "function", "name": "first" * 5, "parameters": {}, "strict": False},
                    {"type": "function", "name": "first" * 4 + "other", "parameters": {}, "strict": False},
                ],
            }
        ]
    )
    names = [tool.name or "" for tool in long.tools]
    assert len(set(names)) == 2
    assert all(len(name) <= 64 for name in names)


def test_grammars_are_kept_as_the_chat_format_has_them() -> None:
    flat = {"type": "grammar", "syntax": "regex", "definition": "a+"}
    conversation = read(tools=[{"type": "custom", "name": "p", "format": flat}])
    (tool,) = conversation.tools
    assert isinstance(tool, Tool)
    assert json.loads(bytes(tool.grammar)) == {
        "type": "grammar",
        "grammar": {"syntax": "regex", "definition": "a+"},
    }
    assert written(conversation)["tools"] == [{"type": "custom", "name": "p", "format": flat}]


@pytest.mark.parametrize(
    ("kind", "raw", "expected", "losses"),
    [
        (
            "web_search",
            {
                "type": "web_search_20250305",
                "name": "web_search",
                "max_uses": 3,
                "allowed_domains": ["example.com"],
                "user_location": {"type": "approximate", "city": "Graz", "country": "AT"},
            },
            {
                "type": "web_search",
                "filters": {"allowed_domains": ["example.com"]},
                "user_location": {"type": "approximate", "city": "Graz", "country": "AT"},
            },
            {("tools.web_search.max_uses", "hint")},
        ),
        (
            "web_search",
            {"type": "web_search_20250305", "name": "web_search", "blocked_domains": ["example.com"]},
            {"type": "web_search"},
            {("tools.web_search.blocked_domains", "meaning")},
        ),
        (
            "web_search",
            {
                "search_context_size": "low",
                "user_location": {"type": "approximate", "approximate": {"city": "Graz"}},
            },
            {
                "type": "web_search",
                "search_context_size": "low",
                "user_location": {"type": "approximate", "city": "Graz"},
            },
            set(),
        ),
        ("web_search", {"googleSearch": {}}, {"type": "web_search"}, set()),
        (
            "code_execution",
            {"codeExecution": {}},
            {"type": "code_interpreter", "container": {"type": "auto"}},
            set(),
        ),
        (
            "mcp",
            {
                "type": "url",
                "name": "wiki",
                "url": "https://example.com/mcp",
                "authorization_token": "t",
                "tool_configuration": {"enabled": True, "allowed_tools": ["ask"]},
            },
            {
                "type": "mcp",
                "server_label": "wiki",
                "server_url": "https://example.com/mcp",
                "require_approval": "never",
                "authorization": "t",
                "allowed_tools": ["ask"],
            },
            set(),
        ),
        (
            "mcp",
            {"type": "mcp_toolset", "mcp_server_name": "wiki"},
            None,
            {("tools.mcp_toolset", "hint")},
        ),
        ("bash", {"type": "bash_20250124", "name": "bash"}, None, {("tools.bash", "meaning")}),
    ],
)
def test_server_tools_of_other_formats(
    kind: str, raw: object, expected: object, losses: set[tuple[str, str]]
) -> None:
    conversation = hello(
        tools=(ServerTool(kind=kind, name=kind, format="elsewhere", raw=Raw(json.dumps(raw).encode())),)
    )
    assert written(conversation).get("tools") == ([expected] if expected else None)
    assert lost(conversation) == losses


@pytest.mark.parametrize("name", ["", "a b", "naïve", "x" * 129, "a.b"])
def test_tool_names_the_provider_refuses_are_refused_here(name: str) -> None:
    with pytest.raises(BadRequest) as refused:
        CODEC.write_request(hello(tools=(Tool(name=name),)), PROFILE)
    assert refused.value.param == "tools.0.name"


def test_a_schema_name_the_provider_refuses_is_refused_here() -> None:
    with pytest.raises(BadRequest) as refused:
        CODEC.write_request(
            hello(response_format=ResponseFormat(kind="json_schema", name="a b", schema=Raw(b"{}"))), PROFILE
        )
    assert refused.value.param == "response_format.json_schema.name"


def test_citations_of_others_become_annotations() -> None:
    cited = Text(
        text="abc",
        citations=(
            Citation(url="https://example.com", title="T", format="anthropic", raw=Raw(b"{}")),
            Citation(cited="q", format="anthropic", raw=Raw(b"{}")),
        ),
    )
    conversation = hello(messages=(assistant(cited),))
    (item,) = items(*conversation.messages)
    assert item["content"][0]["annotations"] == [
        {"type": "url_citation", "start_index": 0, "end_index": 3, "title": "T", "url": "https://example.com"}
    ]
    assert lost(conversation) == {("messages.citations", "hint")}


def test_refusals_have_the_shape_of_openai() -> None:
    error = BudgetExceeded("The budget is spent.", details={"budget": "team"})
    assert json.loads(CODEC.write_error(error)) == {
        "error": {
            "message": "The budget is spent.",
            "type": "insufficient_quota",
            "param": None,
            "code": "budget_exceeded",
            "budget": "team",
        }
    }


# ------------------------------------------------------------------ there and back

_words = st.text(min_size=1, max_size=12)
_thoughts = st.builds(
    Thinking,
    text=_words,
    summary=st.just(True),
    signature=_words,
    format=st.just("openai.responses"),
)
_user_blocks = st.one_of(
    st.builds(Text, text=_words),
    st.builds(
        Image,
        source=st.builds(
            Source, kind=st.just("data"), value=st.just("iVBORw0KGgo="), media_type=st.just("image/png")
        ),
        detail=st.sampled_from(("auto", "low", "high")),
    ),
    st.builds(Document, source=st.builds(Source, kind=st.just("file"), value=_words), title=st.none()),
)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    messages: list[Message] = [Message(role="system", blocks=(Text(text=draw(_words)),))]
    for turn in range(draw(st.integers(1, 4))):
        messages.append(user(*draw(st.lists(_user_blocks, min_size=1, max_size=3))))
        said: list[Block] = []
        if draw(st.booleans()):
            said.append(draw(_thoughts))
        said.append(Text(text=draw(_words)))
        calls = [
            ToolCall(
                id=f"call_{turn}_{at}", name="weather", arguments=draw(st.sampled_from(("{}", '{"a":1}')))
            )
            for at in range(draw(st.integers(0, 2)))
        ]
        messages.append(assistant(*said, *calls))
        if calls:
            messages.append(
                user(
                    *(
                        ToolResult(call_id=call.id, name="weather", content=(Text(text=draw(_words)),))
                        for call in calls
                    )
                )
            )
    return hello(
        messages=tuple(messages),
        tools=draw(st.sampled_from(((), (WEATHER,)))),
        temperature=draw(st.none() | st.floats(0, 2)),
        max_tokens=draw(st.none() | st.integers(16, 9999)),
        verbosity=draw(st.sampled_from((None, "low"))),
        reasoning=draw(st.sampled_from((None, Reasoning(enabled=True, effort="high")))),
        stream=draw(st.booleans()),
    )


@settings(max_examples=60, deadline=None)
@given(conversations())
def test_what_the_format_can_carry_comes_back(conversation: Conversation) -> None:
    again = CODEC.read_request(CODEC.write_request(conversation, Profile(model="m")).body)
    assert plain(again.messages) == plain(conversation.messages)
    for name in ("temperature", "max_tokens", "verbosity", "reasoning", "stream", "model"):
        assert getattr(again, name) == getattr(conversation, name), name
    assert [tool.name for tool in again.tools] == [tool.name for tool in conversation.tools]
    # Written once more it is the same; only a client of this very format may leave out what is its default.
    body = json.loads(CODEC.write_request(conversation, Profile(model="m")).body)
    assert json.loads(CODEC.write_request(again, Profile(model="m")).body) == body
