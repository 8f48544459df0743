"""Requests of the Messages API: read into the hub, written from it, held against the official SDK's own types."""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import message_count_tokens_params, message_create_params
from anthropic.types.beta import message_create_params as beta_create_params
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, structs
from pydantic import TypeAdapter

from tollway.errors import BadRequest, InvalidJson
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
    Loss,
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
from tollway.wire.formats.anthropic_messages import CODEC, count_request
from tollway.wire.formats.anthropic_messages.proof import seal, seal_call

GOLDEN = Path(__file__).parents[2] / "golden" / "anthropic_messages"
PROFILE = Profile(model="claude-test", max_output=64000)
PLAIN = Profile(model="claude-test")
SDK = TypeAdapter(message_create_params.MessageCreateParamsNonStreaming)
SDK_COUNT = TypeAdapter(message_count_tokens_params.MessageCountTokensParams)
SDK_BETA = TypeAdapter(beta_create_params.MessageCreateParamsStreaming)

USER = Message(role="user", blocks=(Text(text="Hi"),))
WEATHER = Tool(name="get_weather", schema=Raw(b'{"type":"object"}'))


def hello(**fields: Any) -> Conversation:
    return Conversation(**{"model": "m", "messages": (USER,), **fields})


def written(conversation: Conversation, profile: Profile = PROFILE) -> dict[str, Any]:
    body = json.loads(CODEC.write_request(conversation, profile).body)
    assert isinstance(body, dict)
    return body


def lost(conversation: Conversation, profile: Profile = PROFILE) -> set[tuple[str, str]]:
    found = CODEC.write_request(conversation, profile).lost
    assert len({loss.field for loss in found}) == len(found), "a loss is named twice"
    return {(loss.field, loss.weight) for loss in found}


def request(**fields: Any) -> bytes:
    whole = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}], **fields}
    return json.dumps({name: value for name, value in whole.items() if value is not ...}).encode()


def turns(*messages: Message, **fields: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = written(hello(messages=messages, **fields))["messages"]
    return found


def assistant(*blocks: Block) -> Message:
    return Message(role="assistant", blocks=blocks)


def user(*blocks: Block) -> Message:
    return Message(role="user", blocks=blocks)


# ------------------------------------------------------------------ reading


def test_every_documented_field_is_read() -> None:
    body = (GOLDEN / "request.json").read_bytes()
    got = CODEC.read_request(body)
    assert got.model == "claude-opus-4-5"
    assert (got.max_tokens, got.temperature, got.stream, got.include_usage) == (8192, 1.0, True, True)
    assert got.stop == ("\n\nHuman:", "END")
    assert got.user == "user_5f1c"
    assert got.service_tier == "default"
    assert got.reasoning == Reasoning(enabled=True, budget=4000, show=True)
    assert got.response_format is not None
    assert got.response_format.kind == "json_schema"
    assert json.loads(bytes(got.response_format.schema))["required"] == ["city"]
    assert got.tool_choice == ToolChoice(mode="auto")
    assert got.parallel_tool_calls is False
    assert {extra.name for extra in got.extra} == {
        "container",
        "context_management",
        "output_config.task_budget",
        "tools.get_weather",
    }
    assert {extra.format for extra in got.extra} == {"anthropic"}

    assert [message.role for message in got.messages] == ["system", "user", "assistant", "user"]
    rules = got.messages[0].blocks[1]
    assert isinstance(rules, Text)
    assert rules.cache == Cache(ttl="1h")

    weather, time, *servers = got.tools
    assert isinstance(weather, Tool)
    assert (weather.strict, weather.description) == (True, "The weather of a city.")
    assert isinstance(time, Tool)
    assert time.cache == Cache()
    assert [(tool.kind, tool.name) for tool in servers if isinstance(tool, ServerTool)] == [
        ("web_search", "web_search"),
        ("bash", "bash"),
        ("mcp", None),
        ("mcp", "wiki"),
    ]

    asked = got.messages[1].blocks
    assert asked[1] == Image(source=Source(kind="data", value="iVBORw0KGgo=", media_type="image/png"))
    assert asked[2] == Image(source=Source(kind="url", value="https://example.com/cat.jpg"))
    assert asked[3] == Image(source=Source(kind="file", value="file_011a"))
    assert asked[4] == Document(
        source=Source(kind="data", value="JVBERi0xLjQ=", media_type="application/pdf"),
        title="Report",
        context="Draft of May",
        citations=True,
        cache=Cache(),
    )
    assert asked[5] == Document(text="The grass is green.", citations=True)
    assert [block.kind for block in asked[8:] if isinstance(block, Opaque)] == [
        "document",
        "search_result",
        "container_upload",
    ]

    said = got.messages[2].blocks
    assert said[0] == Thinking(text="Let me look.", signature="EqQBCgIYAhIM", format="anthropic")
    assert said[1] == Thinking(redacted="EmwKAhgBEgy3", format="anthropic")
    assert isinstance(said[2], Text)
    assert said[2].citations[0].cited == "The grass is green."
    assert [block.kind for block in said[3:5] if isinstance(block, Opaque)] == [
        "server_tool_use",
        "web_search_tool_result",
    ]
    assert said[5] == ToolCall(id="toolu_01", name="get_weather", arguments='{"city": "Paris"}')

    first, second = got.messages[3].blocks[:2]
    assert isinstance(first, ToolResult)
    assert [type(part) for part in first.content] == [Text, Image, Document, Opaque]
    assert second == ToolResult(
        call_id="toolu_02", content=(Text(text="no clock"),), error=True, cache=Cache()
    )


@pytest.mark.parametrize("name", ["request.json", "agent.json"])
def test_what_is_read_is_written_again(name: str) -> None:
    """The same turns, tools and settings come out; the SDK knows every one of them."""
    body = json.loads((GOLDEN / name).read_bytes())
    profile = Profile(
        model=body["model"],
        thinking="adaptive" if name == "agent.json" else "budget",
        system_turns=True,
    )
    out = CODEC.write_request(CODEC.read_request(json.dumps(body).encode()), profile)
    assert out.lost == ()
    got = json.loads(out.body)
    for block in (block for message in body["messages"] for block in message["content"]):
        if block["type"] == "tool_result":
            block.pop("is_error") if block.get("is_error") is False else None
            content = block["content"]
            if isinstance(content, list) and len(content) == 1:
                block["content"] = content[0]["text"]
    for message in body["messages"]:
        if len(message["content"]) == 1 and set(message["content"][0]) == {"type", "text"}:
            message["content"] = message["content"][0]["text"]
    for tool in body["tools"]:
        if tool.get("type") == "custom":
            del tool["type"]
    body.pop("temperature", None)  # 1 is what thinking models do anyway
    assert got == body
    SDK_BETA.validate_python(got)


def test_counting_takes_the_same_without_max_tokens() -> None:
    body = request(max_tokens=..., system="Be brief.")
    with pytest.raises(BadRequest) as error:
        CODEC.read_request(body)
    assert error.value.param == "max_tokens"
    got = count_request(body)
    assert got.max_tokens is None
    assert [message.role for message in got.messages] == ["system", "user"]
    out = written(got)
    del out["max_tokens"]
    SDK_COUNT.validate_python(out)


def test_system_messages_between_turns_keep_their_place_in_the_hub() -> None:
    got = CODEC.read_request((GOLDEN / "agent.json").read_bytes())
    assert [message.role for message in got.messages] == ["system", "user", "system", "assistant", "user"]
    assert got.reasoning == Reasoning(enabled=True, adaptive=True, effort="high", show=False)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ...}, "model"),
        ({"model": 3}, "model"),
        ({"model": None}, "model"),
        ({"max_tokens": "10"}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"messages": ...}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 4}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": [{"type": 1}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64"}}]}]},
            "messages.0.content.0.source.media_type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "disk"}}]}]},
            "messages.0.content.0.source.type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "text"}}]}]},
            "messages.0.content.0.source.data",
        ),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "a", "name": "b", "input": []}],
                    }
                ]
            },
            "messages.0.content.0.input",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "tool_use_id": "a",
                                "content": [{"type": "text", "text": 1}],
                            }
                        ],
                    }
                ]
            },
            "messages.0.content.0.content.0.text",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "9m"}}
                        ],
                    }
                ]
            },
            "messages.0.content.0.cache_control.ttl",
        ),
        ({"system": 4}, "system"),
        ({"system": [{"type": "text"}]}, "system.0.text"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"name": "x"}]}, "tools.0.input_schema"),
        ({"tools": [{"name": "x", "input_schema": []}]}, "tools.0.input_schema"),
        ({"tools": [{"input_schema": {}}]}, "tools.0.name"),
        ({"tools": [{"type": 4}]}, "tools.0.type"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": "many"}}, "thinking.budget_tokens"),
        ({"output_config": {"effort": 3}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"output_config": {"format": {"type": "xml", "schema": {}}}}, "output_config.format.type"),
        ({"metadata": {"user_id": 3}}, "metadata.user_id"),
        ({"temperature": "warm"}, "temperature"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"stop_sequences": ["a", 1]}, "stop_sequences.1"),
        ({"stream": "yes"}, "stream"),
        ({"mcp_servers": [3]}, "mcp_servers.0"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as error:
        CODEC.read_request(request(**fields))
    assert error.value.param == param
    assert param in error.value.message
    assert "Traceback" not in error.value.message
    assert "`" not in error.value.message.replace("`xml`", "")


@pytest.mark.parametrize("depth", [200, 100_000])
def test_deep_nesting_is_refused_and_nothing_else_happens(depth: int) -> None:
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    start = b'{"model":"m","max_tokens":5,"messages":[{"role":"assistant","content":[{"type":"tool_use",'
    body = start + b'"id":"a","name":"b","input":' + deep + b"}]}]}"
    if depth < 1000:
        call = CODEC.read_request(body).messages[0].blocks[0]
        assert isinstance(call, ToolCall)
        return
    with pytest.raises(InvalidJson):
        CODEC.read_request(body)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model":"\xff"}', b"null", b'{"model":"m"} x'])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        CODEC.read_request(body)


def test_newer_fields_blocks_and_tools_are_carried_unread() -> None:
    body = request(
        speed="fast",
        betas=["new-2030"],
        thinking={"type": "between_tools"},
        tools=[{"type": "hologram_20300101", "name": "holo", "size": 3}],
        messages=[
            {"role": "user", "content": [{"type": "smell", "of": {"a": [1]}}, {"type": "text", "text": "?"}]}
        ],
    )
    got = CODEC.read_request(body)
    assert {extra.name: json.loads(bytes(extra.raw)) for extra in got.extra} == {
        "speed": "fast",
        "betas": ["new-2030"],
        "thinking": {"type": "between_tools"},
    }
    assert got.messages[0].blocks[0] == Opaque(
        format="anthropic", kind="smell", raw=Raw(b'{"type": "smell", "of": {"a": [1]}}')
    )
    out = written(got)
    assert out["speed"] == "fast"
    assert out["thinking"] == {"type": "between_tools"}
    assert out["tools"] == [{"type": "hologram_20300101", "name": "holo", "size": 3}]
    assert out["messages"][0]["content"][0] == {"type": "smell", "of": {"a": [1]}}


def test_scaling_of_images_is_kept_as_a_field_nobody_else_can_say() -> None:
    block = {
        "type": "image",
        "transformations": {"oversized_image": "error"},
        "source": {"type": "url", "url": "https://example.com/a.png"},
    }
    got = CODEC.read_request(request(messages=[{"role": "user", "content": [block]}]))
    assert [extra.name for extra in got.extra] == ["messages.image.transformations"]
    assert lost(got) == {("messages.image.transformations", "hint")}


def test_a_document_in_parts_becomes_text_where_no_citation_counts_them() -> None:
    source = {
        "type": "content",
        "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}],
    }
    got = CODEC.read_request(
        request(
            messages=[{"role": "user", "content": [{"type": "document", "source": source, "title": "T"}]}]
        )
    )
    assert got.messages[0].blocks == (Document(text="One.\n\nTwo.", title="T"),)


# ------------------------------------------------------------------ writing: the frame


def test_max_tokens_is_always_there() -> None:
    assert written(hello())["max_tokens"] == 64000
    assert written(hello(), PLAIN)["max_tokens"] == 4096
    assert written(hello(max_tokens=7))["max_tokens"] == 7


def test_a_plain_request_is_what_the_sdk_calls_one() -> None:
    conversation = hello(
        messages=(Message(role="system", blocks=(Text(text="Be brief."),)), USER),
        temperature=0.4,
        top_k=5,
        stop=("END",),
        user="u1",
        service_tier="auto",
        tools=(WEATHER,),
        tool_choice=ToolChoice(mode="named", name="get_weather"),
        parallel_tool_calls=False,
        response_format=ResponseFormat(kind="json_schema", schema=Raw(b'{"type":"object"}')),
    )
    body = written(conversation)
    assert body == {
        "model": "claude-test",
        "max_tokens": 64000,
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [{"name": "get_weather", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True},
        "temperature": 0.4,
        "top_k": 5,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u1"},
        "service_tier": "auto",
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
    }
    assert lost(conversation) == set()
    SDK.validate_python(body)


def test_what_has_no_word_there_is_named() -> None:
    conversation = hello(
        min_p=0.1,
        frequency_penalty=1.0,
        presence_penalty=1.0,
        seed=4,
        logprobs=True,
        top_logprobs=3,
        n=2,
        modalities=("text", "audio"),
        prediction=Raw(b"{}"),
        verbosity="low",
        service_tier="flex",
        metadata={"a": "b"},
        user="u",
        safety_identifier="s",
        prompt_cache_key="k",
        store=True,
        previous_response_id="r",
        response_format=ResponseFormat(kind="json_object"),
        temperature=1.7,
        stop=("  ", "x"),
        extra=(Extra(format="openai", name="logit_bias", raw=Raw(b"{}")),),
    )
    assert lost(conversation) == {
        ("min_p", "hint"),
        ("frequency_penalty", "hint"),
        ("presence_penalty", "hint"),
        ("seed", "hint"),
        ("logprobs", "hint"),
        ("top_logprobs", "hint"),
        ("prediction", "hint"),
        ("verbosity", "hint"),
        ("service_tier", "hint"),
        ("metadata", "hint"),
        ("safety_identifier", "hint"),
        ("prompt_cache_key", "hint"),
        ("store", "hint"),
        ("temperature", "hint"),
        ("stop", "hint"),
        ("logit_bias", "hint"),
        ("n", "meaning"),
        ("modalities", "meaning"),
        ("previous_response_id", "meaning"),
        ("response_format", "meaning"),
    }
    body = written(conversation)
    assert (body["temperature"], body["stop_sequences"]) == (1, ["x"])
    SDK.validate_python({name: value for name, value in body.items() if name != "temperature"})


def test_a_schema_is_never_turned_into_a_forced_tool() -> None:
    wanted = hello(response_format=ResponseFormat(kind="json_schema", schema=Raw(b'{"type":"object"}')))
    body = written(wanted, structs.replace(PROFILE, schema=False))
    assert "tools" not in body
    assert "output_config" not in body
    assert lost(wanted, structs.replace(PROFILE, schema=False)) == {("response_format", "meaning")}


@pytest.mark.parametrize(
    ("temperature", "top_p", "kept", "gone"),
    [
        (0.2, 0.9, {"temperature": 0.2}, {("top_p", "hint")}),
        (0.2, 1, {"temperature": 0.2}, set()),
        (1, 0.9, {"top_p": 0.9}, set()),
        (None, 0.9, {"top_p": 0.9}, set()),
    ],
)
def test_only_one_of_temperature_and_top_p(
    temperature: float | None, top_p: float, kept: dict[str, float], gone: set[tuple[str, str]]
) -> None:
    asked = hello(temperature=temperature, top_p=top_p)
    body = written(asked)
    assert {name: body[name] for name in ("temperature", "top_p") if name in body} == kept
    assert lost(asked) == gone


def test_a_model_without_sampling_settings_gets_none() -> None:
    asked = hello(temperature=0.5, top_p=0.5, top_k=3)
    profile = structs.replace(PROFILE, sampling=False)
    assert not {"temperature", "top_p", "top_k"} & written(asked, profile).keys()
    assert lost(asked, profile) == {("temperature", "hint"), ("top_p", "hint"), ("top_k", "hint")}


# ------------------------------------------------------------------ thinking


@pytest.mark.parametrize(
    ("reasoning", "max_tokens", "budget", "limit"),
    [
        (Reasoning(effort="low"), None, 1024, 64000),
        (Reasoning(effort="minimal"), None, 1024, 64000),
        (Reasoning(effort="medium"), None, 2048, 64000),
        (Reasoning(effort="high"), None, 4096, 64000),
        (Reasoning(enabled=True, adaptive=True), None, 4096, 64000),
        (Reasoning(enabled=True, budget=-1), None, 4096, 64000),
        (Reasoning(effort="high"), 3000, 1500, 3000),
        (Reasoning(effort="high"), 1500, 1024, 1500),
        (Reasoning(enabled=True, budget=500), 5000, 1024, 5000),
        (Reasoning(enabled=True, budget=9000), 5000, 4999, 5000),
        (Reasoning(enabled=True, budget=1024), 1025, 1024, 1025),
    ],
)
def test_budgets_are_what_the_api_takes(
    reasoning: Reasoning, max_tokens: int | None, budget: int, limit: int
) -> None:
    asked = hello(reasoning=reasoning, max_tokens=max_tokens)
    body = written(asked)
    assert body["thinking"] == {"type": "enabled", "budget_tokens": budget}
    assert body["max_tokens"] == limit
    assert lost(asked) == set()
    SDK.validate_python(body)


def test_a_limit_nobody_set_is_raised_above_the_budget() -> None:
    body = written(hello(reasoning=Reasoning(enabled=True, budget=10000)), PLAIN)
    assert body["max_tokens"] == 14096
    body = written(hello(reasoning=Reasoning(effort="max")), Profile(model="m", max_output=12000))
    assert (body["max_tokens"], body["thinking"]["budget_tokens"]) == (12000, 11999)


def test_too_small_a_limit_to_think_in() -> None:
    asked = hello(reasoning=Reasoning(effort="high"), max_tokens=1024)
    assert "thinking" not in written(asked)
    assert lost(asked) == {("reasoning", "hint")}


def test_thinking_leaves_no_room_for_sampling() -> None:
    asked = hello(reasoning=Reasoning(effort="low"), temperature=0.3, top_p=0.5, top_k=4)
    body = written(asked)
    assert not {"temperature", "top_p", "top_k"} & body.keys()
    assert lost(asked) == {("temperature", "hint"), ("top_p", "hint"), ("top_k", "hint")}
    assert written(hello(reasoning=Reasoning(effort="low"), top_p=0.97))["top_p"] == 0.97


@pytest.mark.parametrize("thinking", ["budget", "adaptive"])
@pytest.mark.parametrize("mode", ["required", "named"])
def test_a_demanded_call_outweighs_thinking(thinking: str, mode: Any) -> None:
    asked = hello(
        reasoning=Reasoning(effort="high"),
        tools=(WEATHER,),
        tool_choice=ToolChoice(mode=mode, name="get_weather" if mode == "named" else None),
    )
    profile = structs.replace(PROFILE, thinking=thinking)
    body = written(asked, profile)
    assert body["tool_choice"]["type"] in ("any", "tool")
    assert body.get("thinking", {}).get("type") != "enabled"
    assert body.get("thinking", {}).get("type") != "adaptive"
    assert lost(asked, profile) == {("reasoning", "hint")}


def test_a_tool_loop_begun_without_thinking_goes_on_without() -> None:
    """With a budget the API insists that the turn whose results come last begins with a thinking block."""
    loop = (
        USER,
        assistant(ToolCall(id="a", name="get_weather")),
        user(ToolResult(call_id="a", content=(Text(text="sun"),))),
    )
    asked = hello(messages=loop, tools=(WEATHER,), reasoning=Reasoning(effort="low"))
    assert "thinking" not in written(asked)
    assert lost(asked) == {("reasoning", "hint")}
    assert written(asked, structs.replace(PROFILE, thinking="adaptive"))["thinking"] == {"type": "adaptive"}

    thought = Thinking(text="t", signature="s", format="anthropic")
    begun = structs.replace(asked, messages=(USER, assistant(thought, *loop[1].blocks), loop[2]))
    assert written(begun)["thinking"]["type"] == "enabled"
    over = structs.replace(asked, messages=(*loop, assistant(Text(text="Sunny.")), USER))
    assert written(over)["thinking"]["type"] == "enabled"
    prefilled = structs.replace(asked, messages=(USER, assistant(Text(text="{"))))
    assert "thinking" not in written(prefilled)


@pytest.mark.parametrize(
    ("reasoning", "thinking", "effort"),
    [
        (Reasoning(effort="minimal"), {"type": "adaptive"}, "low"),
        (Reasoning(effort="xhigh"), {"type": "adaptive"}, "xhigh"),
        (Reasoning(enabled=True, budget=1024), {"type": "adaptive"}, "low"),
        (Reasoning(enabled=True, budget=2000), {"type": "adaptive"}, "medium"),
        (Reasoning(enabled=True, budget=31999), {"type": "adaptive"}, "high"),
        (Reasoning(enabled=True, budget=-1), {"type": "adaptive"}, None),
        (Reasoning(adaptive=True, show=False), {"type": "adaptive", "display": "omitted"}, None),
        (Reasoning(effort="low", summary="auto"), {"type": "adaptive", "display": "summarized"}, "low"),
        (Reasoning(enabled=False), {"type": "disabled"}, None),
        (Reasoning(effort="none"), {"type": "disabled"}, None),
        (Reasoning(budget=0), {"type": "disabled"}, None),
    ],
)
def test_models_that_decide_for_themselves(
    reasoning: Reasoning, thinking: dict[str, str], effort: str | None
) -> None:
    body = written(hello(reasoning=reasoning), structs.replace(PROFILE, thinking="adaptive"))
    assert body["thinking"] == thinking
    assert body.get("output_config", {}).get("effort") == effort
    SDK.validate_python(body)


def test_thinking_that_is_forbidden_or_impossible() -> None:
    assert "thinking" not in written(hello(reasoning=Reasoning(enabled=False)))
    never = structs.replace(PROFILE, thinking="none")
    assert lost(hello(reasoning=Reasoning(effort="low")), never) == {("reasoning", "hint")}
    assert lost(hello(reasoning=Reasoning(enabled=False)), never) == set()
    levels = structs.replace(PROFILE, thinking="effort")
    assert written(hello(reasoning=Reasoning(effort="max")), levels)["output_config"] == {"effort": "max"}


# ------------------------------------------------------------------ tools


def test_server_tools_of_others_where_the_api_has_the_same() -> None:
    conversation = hello(
        tools=(
            ServerTool(
                kind="web_search",
                format="openai",
                raw=Raw(
                    b'{"type":"web_search","filters":{"allowed_domains":["a.com"]},'
                    b'"user_location":{"type":"approximate","city":"Paris","country":null}}'
                ),
            ),
            ServerTool(kind="url_context", format="google", raw=Raw(b'{"urlContext":{}}')),
            ServerTool(kind="code_execution", format="google", raw=Raw(b'{"codeExecution":{}}')),
        )
    )
    body = written(conversation)
    assert body["tools"] == [
        {
            "type": "web_search_20250305",
            "name": "web_search",
            "allowed_domains": ["a.com"],
            "user_location": {"type": "approximate", "city": "Paris", "country": None},
        },
        {"type": "web_fetch_20250910", "name": "web_fetch"},
        {"type": "code_execution_20250825", "name": "code_execution"},
    ]
    assert lost(conversation) == set()
    SDK.validate_python(body)


@pytest.mark.parametrize(
    "tool",
    [
        ServerTool(kind="file_search", format="openai", raw=Raw(b'{"type":"file_search"}')),
        ServerTool(kind="image_generation", format="openai", raw=Raw(b'{"type":"image_generation"}')),
        ServerTool(kind="mcp", format="openai", raw=Raw(b'{"type":"mcp","server_url":"https://x"}')),
        ServerTool(
            kind="code_execution",
            format="openai",
            raw=Raw(b'{"type":"code_interpreter","container":{"type":"auto","file_ids":["f"]}}'),
        ),
        Tool(name="patch", custom=True),
    ],
)
def test_tools_that_cannot_be_had_are_named(tool: Tool | ServerTool) -> None:
    assert lost(hello(tools=(tool,))) == {("tools", "meaning")}


def test_only_allowed_tools_are_offered() -> None:
    other = structs.replace(WEATHER, name="other")
    choice = ToolChoice(mode="required", allowed=("get_weather",))
    body = written(hello(tools=(WEATHER, other), tool_choice=choice))
    assert [tool["name"] for tool in body["tools"]] == ["get_weather"]
    assert body["tool_choice"] == {"type": "any"}


def test_a_choice_without_tools_is_not_sent() -> None:
    assert "tool_choice" not in written(hello(tool_choice=ToolChoice(mode="auto"), parallel_tool_calls=False))
    assert lost(hello(tool_choice=ToolChoice(mode="required"))) == {("tool_choice", "meaning")}


def test_one_call_at_a_time_without_a_choice() -> None:
    body = written(hello(tools=(WEATHER,), parallel_tool_calls=False))
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert "tool_choice" not in written(hello(tools=(WEATHER,), parallel_tool_calls=True))


def test_a_schema_that_does_not_say_it_is_an_object() -> None:
    loose = structs.replace(WEATHER, schema=Raw(b'{"properties":{"type":{"type":"string"}}}'))
    (tool,) = written(hello(tools=(loose,)))["tools"]
    assert tool["input_schema"] == {"properties": {"type": {"type": "string"}}, "type": "object"}
    empty = structs.replace(WEATHER, schema=Raw())
    assert written(hello(tools=(empty,)))["tools"][0]["input_schema"] == {"type": "object"}


@pytest.mark.parametrize("name", ["", "a.b", "a b", "é", "x" * 129])
def test_tool_names_outside_the_alphabet(name: str) -> None:
    with pytest.raises(BadRequest) as error:
        written(hello(tools=(WEATHER, structs.replace(WEATHER, name=name))))
    assert error.value.param == "tools.1.name"


def test_tools_that_were_used_are_declared_but_may_not_be_called() -> None:
    conversation = hello(
        messages=(USER, assistant(ToolCall(id="a", name="old")), user(ToolResult(call_id="a")))
    )
    body = written(conversation)
    assert body["tools"] == [{"name": "old", "input_schema": {"type": "object"}}]
    assert body["tool_choice"] == {"type": "none"}


# ------------------------------------------------------------------ turns


def test_turns_of_a_role_are_joined() -> None:
    got = turns(
        user(Text(text="a")),
        user(Text(text="b")),
        assistant(Text(text="c")),
        assistant(ToolCall(id="1", name="f")),
        user(ToolResult(call_id="1", content=(Text(text="r"),))),
        user(Text(text="d")),
    )
    assert [turn["role"] for turn in got] == ["user", "assistant", "user"]
    assert [block["type"] for block in got[1]["content"]] == ["text", "tool_use"]
    assert [block["type"] for block in got[2]["content"]] == ["tool_result", "text"]


def test_system_messages_behind_others_go_to_the_front_or_stay() -> None:
    messages = (
        Message(role="system", blocks=(Text(text="A", cache=Cache(ttl="1h")),)),
        USER,
        Message(role="developer", blocks=(Text(text="B"),)),
        assistant(Text(text="ok")),
        user(Text(text="x")),
        Message(role="system", blocks=(Text(text="C"),)),
        user(Text(text="y")),
    )
    body = written(hello(messages=messages))
    assert [block["text"] for block in body["system"]] == ["A", "B", "C"]
    assert lost(hello(messages=messages)) == {("messages.system", "hint")}
    assert lost(hello(messages=messages[:2])) == set()
    assert body["system"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    placed = written(hello(messages=messages), structs.replace(PROFILE, system_turns=True))
    assert [block["text"] for block in placed["system"]] == ["A", "C"]
    assert [turn["role"] for turn in placed["messages"]] == ["user", "system", "assistant", "user"]
    SDK.validate_python(placed)


def test_a_system_message_alone_is_asked() -> None:
    body = written(hello(messages=(Message(role="system", blocks=(Text(text="Say hi."),)),)))
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Say hi."}]}]
    assert "system" not in body


def test_results_come_first_and_in_the_order_of_the_calls() -> None:
    got = turns(
        USER,
        assistant(ToolCall(id="a", name="f"), ToolCall(id="b", name="g")),
        user(
            Text(text="meanwhile"),
            ToolResult(call_id="b", content=(Text(text="2"),)),
            ToolResult(call_id="a", content=(Text(text="1"),), error=True),
        ),
    )
    assert got[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": "1", "is_error": True},
        {"type": "tool_result", "tool_use_id": "b", "content": "2"},
        {"type": "text", "text": "meanwhile"},
    ]


def test_a_call_without_result_is_answered_by_an_error() -> None:
    got = turns(
        USER,
        assistant(ToolCall(id="a", name="f"), ToolCall(id="b", name="g")),
        user(ToolResult(call_id="a", content=(Text(text="1"),)), Text(text="stop that")),
    )
    answers = {block["tool_use_id"]: block for block in got[2]["content"] if block["type"] == "tool_result"}
    assert answers["a"].get("is_error") is None
    assert answers["b"]["is_error"] is True


def test_calls_that_end_the_conversation_are_refused() -> None:
    with pytest.raises(BadRequest) as error:
        turns(USER, assistant(ToolCall(id="a", name="f")))
    assert error.value.param == "messages.1"


def test_results_without_a_call_stay_as_content() -> None:
    conversation = hello(
        messages=(
            user(ToolResult(call_id="gone", content=(Text(text="trimmed away"),))),
            assistant(ToolCall(id="a", name="f")),
            user(
                ToolResult(call_id="a", content=(Text(text="first"),)),
                ToolResult(call_id="a", content=(Text(text="again"),)),
            ),
        )
    )
    got = written(conversation)["messages"]
    assert got[0]["content"] == "trimmed away"
    assert got[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": "first"},
        {"type": "text", "text": "again"},
    ]
    assert lost(conversation) == {("messages.tool_result", "hint")}


def test_call_ids_are_unique_and_in_the_alphabet() -> None:
    """Servers that number calls anew in every turn, and ids with any character in them."""
    got = turns(
        USER,
        assistant(ToolCall(id="call_0", name="f"), ToolCall(id="call_0", name="f")),
        user(
            ToolResult(call_id="call_0", content=(Text(text="1"),)),
            ToolResult(call_id="call_0", content=(Text(text="2"),)),
        ),
        assistant(ToolCall(id="call_0", name="f"), ToolCall(id="functions.f:0|x", name="f")),
        user(
            ToolResult(call_id="functions.f:0|x", content=(Text(text="4"),)),
            ToolResult(call_id="call_0", content=(Text(text="3"),)),
        ),
    )
    calls = [block["id"] for turn in got if turn["role"] == "assistant" for block in turn["content"]]
    results = [(block["tool_use_id"], block["content"]) for turn in got[2::2] for block in turn["content"]]
    assert len(set(calls)) == 4
    assert [call for call, _ in results] == calls
    assert [content for _, content in results] == ["1", "2", "3", "4"]
    assert all(
        set(call) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") for call in calls
    )


def test_a_tool_name_the_model_made_up_does_not_end_the_session() -> None:
    got = turns(USER, assistant(ToolCall(id="a", name="ns.tool x")), user(ToolResult(call_id="a")))
    assert got[1]["content"][0]["name"] == "ns_tool_x"


@pytest.mark.parametrize("arguments", ["", "  ", "null", "{}"])
def test_empty_arguments_are_an_empty_object(arguments: str) -> None:
    call = ToolCall(id="a", name="f", arguments=arguments)
    got = turns(USER, assistant(call), user(ToolResult(call_id="a")))
    assert got[1]["content"][0]["input"] == {}


@pytest.mark.parametrize("arguments", ["{", "[1]", '"x"', "3", '{"a":1} b', "{'a': 1}"])
def test_arguments_that_are_no_object_name_the_turn(arguments: str) -> None:
    call = ToolCall(id="a", name="f", arguments=arguments)
    with pytest.raises(BadRequest) as error:
        turns(USER, assistant(call), user(ToolResult(call_id="a")))
    assert error.value.param == "messages.1"


def test_free_text_of_a_custom_tool_stays() -> None:
    call = ToolCall(id="a", name="patch", arguments='*** "Begin"', custom=True)
    got = turns(USER, assistant(call), user(ToolResult(call_id="a")))
    assert got[1]["content"][0]["input"] == {"input": '*** "Begin"'}


def test_blank_text_is_left_out_and_its_cache_marker_moves() -> None:
    got = turns(
        user(Text(text="a"), Text(text=" \n", cache=Cache())),
        assistant(Text(text="")),
        user(Text(text="b")),
    )
    assert got == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": "b"},
            ],
        }
    ]


def test_a_conversation_of_nothing() -> None:
    with pytest.raises(BadRequest) as error:
        turns(user(Text(text="")), assistant(Text(text=" ")))
    assert error.value.param == "messages"


def test_a_prefilled_answer_loses_white_space_at_its_end() -> None:
    assert turns(USER, assistant(Text(text="The answer is: \n")))[1]["content"] == "The answer is:"
    assert turns(USER, assistant(Text(text="a \n")), USER)[1]["content"] == "a \n"


def test_thinking_of_others_is_not_replayed() -> None:
    conversation = hello(
        messages=(
            USER,
            assistant(
                Thinking(text="own", signature="s", format="anthropic"),
                Thinking(redacted="r", format="anthropic"),
                Thinking(text="unsigned"),
                Thinking(text="theirs", signature="x", format="google"),
                Text(text="Hi"),
            ),
            USER,
        )
    )
    got = written(conversation)["messages"][1]["content"]
    assert got == [
        {"type": "thinking", "thinking": "own", "signature": "s"},
        {"type": "redacted_thinking", "data": "r"},
        {"type": "text", "text": "Hi"},
    ]
    assert lost(conversation) == {("messages.thinking", "hint")}


def test_replayed_thinking_keeps_its_order_and_its_letters() -> None:
    """The API checks what it signed: blocks between calls may be neither moved, joined nor trimmed."""
    content = [
        {"type": "thinking", "thinking": " first \n", "signature": "s1"},
        {"type": "text", "text": "Looking. "},
        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
        {"type": "thinking", "thinking": "", "signature": "s2"},
        {"type": "redacted_thinking", "data": "r"},
        {"type": "tool_use", "id": "b", "name": "f", "input": {}},
    ]
    results = [{"type": "tool_result", "tool_use_id": call, "content": "x"} for call in ("a", "b")]
    asked = request(
        messages=[
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": content},
            {"role": "user", "content": results},
        ]
    )
    assert written(CODEC.read_request(asked))["messages"][1:] == [
        {"role": "assistant", "content": content},
        {"role": "user", "content": results},
    ]


def test_sealed_reasoning_of_others_comes_back_as_theirs() -> None:
    theirs = Thinking(text="t", redacted="enc", id="rs_1", summary=True, format="openai")
    silent = Thinking(signature="sig", format="google")
    content = [
        {"type": "thinking", "thinking": "t", "signature": seal(theirs)},
        {"type": "redacted_thinking", "data": seal(silent)},
        {"type": "redacted_thinking", "data": seal_call("c1", "proof")},
        {"type": "tool_use", "id": "c1", "name": "f", "input": {}},
        {"type": "thinking", "thinking": "bare", "signature": ""},
    ]
    got = CODEC.read_request(request(messages=[{"role": "assistant", "content": content}]))
    assert got.messages[0].blocks == (
        theirs,
        silent,
        ToolCall(id="c1", name="f", signature="proof"),
        Thinking(text="bare"),
    )


@pytest.mark.parametrize("proof", ["tollway-reasoning.", "tollway-reasoning.!!", "tollway-call.e30="])
def test_a_broken_seal_is_only_a_strange_signature(proof: str) -> None:
    content = [{"type": "redacted_thinking", "data": proof}]
    got = CODEC.read_request(request(messages=[{"role": "assistant", "content": content}]))
    assert got.messages[0].blocks == (Thinking(redacted=proof, format="anthropic"),)


def test_citations_go_back_only_to_whoever_made_them() -> None:
    own = Citation(format="anthropic", raw=Raw(b'{"type":"char_location","cited_text":"x"}'))
    ours = Citation(
        format="anthropic", raw=Raw(b'{"type":"web_search_result_location","encrypted_index":""}')
    )
    theirs = Citation(url="https://a", format="openai", raw=Raw(b"{}"))
    conversation = hello(messages=(USER, assistant(Text(text="x", citations=(own, ours, theirs))), USER))
    block = written(conversation)["messages"][1]["content"][0]
    assert block["citations"] == [{"type": "char_location", "cited_text": "x"}]
    assert lost(conversation) == {("messages.citations", "hint")}


# ------------------------------------------------------------------ attachments


def data(value: str, media_type: str | None) -> Source:
    return Source(kind="data", value=value, media_type=media_type)


@pytest.mark.parametrize(
    ("block", "source"),
    [
        (
            Image(source=data("AAAA", "image/webp")),
            {"type": "base64", "media_type": "image/webp", "data": "AAAA"},
        ),
        (
            Image(source=data("/9j/AA", "image/jpg")),
            {"type": "base64", "media_type": "image/jpeg", "data": "/9j/AA"},
        ),
        (Image(source=data("iVBORw", None)), {"type": "base64", "media_type": "image/png", "data": "iVBORw"}),
        (Image(source=Source(kind="url", value="https://a/b")), {"type": "url", "url": "https://a/b"}),
        (Image(source=Source(kind="file", value="file_01")), {"type": "file", "file_id": "file_01"}),
        (
            Document(source=data("JVBERi0=", None)),
            {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
        ),
        (
            Document(
                source=data(base64.b64encode("größe".encode()).decode(), "text/markdown; charset=utf-8")
            ),
            {"type": "text", "media_type": "text/plain", "data": "größe"},
        ),
        (
            Document(source=Source(kind="url", value="https://a/b.pdf")),
            {"type": "url", "url": "https://a/b.pdf"},
        ),
        (Document(text="t"), {"type": "text", "media_type": "text/plain", "data": "t"}),
    ],
)
def test_attachments(block: Block, source: dict[str, str]) -> None:
    body = written(hello(messages=(user(Text(text="?"), block),)))
    assert body["messages"][0]["content"][1]["source"] == source
    SDK.validate_python(body)


@pytest.mark.parametrize(
    ("block", "field"),
    [
        (Image(source=data("AAAA", "image/tiff")), "messages.image"),
        (Image(source=Source(kind="file", value="file-abc")), "messages.image"),
        (Document(source=data("AAAA", "application/msword")), "messages.document"),
        (Document(source=data("/w==", "text/plain")), "messages.document"),
        (Document(source=Source(kind="file", value="file-abc")), "messages.document"),
        (Document(text=""), "messages.document"),
        (Audio(source=data("AAAA", "audio/wav")), "messages.audio"),
        (Video(source=data("AAAA", "video/mp4")), "messages.video"),
        (Opaque(format="openai", kind="item_reference", raw=Raw(b"{}")), "messages.item_reference"),
    ],
)
def test_attachments_the_api_does_not_take(block: Block, field: str) -> None:
    conversation = hello(messages=(user(Text(text="?"), block),))
    assert lost(conversation) == {(field, "meaning")}
    assert written(conversation)["messages"][0]["content"] == "?"


def test_what_the_model_cannot_see_is_named() -> None:
    conversation = hello(
        messages=(
            user(
                Text(text="?"),
                Image(source=Source(kind="url", value="https://a")),
                Document(text="t"),
            ),
        ),
        tools=(WEATHER,),
    )
    blind = Profile(model="m", images=False, documents=False, tools=False)
    assert lost(conversation, blind) == {
        ("messages.image", "meaning"),
        ("messages.document", "meaning"),
        ("tools", "meaning"),
    }


def test_what_a_model_spoke_is_its_words() -> None:
    spoken = Audio(source=data("AAAA", "audio/wav"), transcript="Hello.")
    conversation = hello(messages=(USER, assistant(spoken, Refusal(text="No.")), USER))
    assert [block["text"] for block in written(conversation)["messages"][1]["content"]] == ["Hello.", "No."]
    assert lost(conversation) == {("messages.audio", "hint")}


# ------------------------------------------------------------------ properties

WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).map(lambda text: f"<{text}>")
CACHES = st.none() | st.sampled_from([Cache(), Cache(ttl="1h")])
TEXTS = st.builds(Text, text=WORDS, cache=CACHES)
IMAGES = st.builds(
    Image,
    source=st.sampled_from([data("AAAA", "image/png"), Source(kind="url", value="https://a/b")]),
    cache=CACHES,
)
DOCUMENTS = st.builds(
    Document,
    text=WORDS,
    title=st.none() | WORDS,
    context=st.none() | WORDS,
    citations=st.booleans(),
    cache=CACHES,
)
THOUGHTS = st.builds(Thinking, text=WORDS, signature=WORDS, format=st.just("anthropic"))


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[Message, ...]:
    """Turns that the API itself would take: nothing to mend in them."""
    messages = [user(*draw(st.lists(TEXTS | IMAGES | DOCUMENTS, min_size=1, max_size=3)))]
    for turn in range(draw(st.integers(0, 3))):
        arguments = st.dictionaries(WORDS, st.integers() | WORDS, max_size=2).map(
            lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        )
        calls = [
            ToolCall(id=f"toolu_{turn}_{number}", name="f", arguments=draw(arguments), cache=draw(CACHES))
            for number in range(draw(st.integers(0, 3)))
        ]
        said = draw(st.lists(THOUGHTS, max_size=1)) + draw(st.lists(TEXTS, min_size=1, max_size=2))
        messages.append(assistant(*said, *calls))
        results = [
            ToolResult(
                call_id=call.id,
                content=tuple(draw(st.lists(TEXTS | IMAGES, max_size=2))),
                error=draw(st.booleans()),
                cache=draw(CACHES),
            )
            for call in calls
        ]
        messages.append(user(*results, *draw(st.lists(TEXTS, min_size=1, max_size=2))))
    return tuple(messages)


@settings(max_examples=150, deadline=None)
@given(
    messages=exchanges(),
    system=st.lists(TEXTS, max_size=2),
    choice=st.none()
    | st.builds(ToolChoice, mode=st.sampled_from(["auto", "none", "required"]))
    | st.just(ToolChoice(mode="named", name="f")),
    parallel=st.none() | st.just(False),
    numbers=st.fixed_dictionaries(
        {"max_tokens": st.integers(1, 9999)},
        optional={
            "temperature": st.floats(0, 1),
            "top_k": st.integers(0, 100),
            "user": WORDS,
            "stop": st.just(("E",)),
        },
    ),
)
def test_what_the_format_carries_comes_back(
    messages: tuple[Message, ...],
    system: list[Text],
    choice: ToolChoice | None,
    parallel: bool | None,
    numbers: dict[str, Any],
) -> None:
    front = (Message(role="system", blocks=tuple(system)),) if system else ()
    conversation = Conversation(
        model="claude-test",
        messages=(*front, *messages),
        tools=(structs.replace(WEATHER, name="f"),),
        tool_choice=choice,
        parallel_tool_calls=parallel if choice is None or choice.mode != "none" else None,
        **numbers,
    )
    out = CODEC.write_request(conversation, PROFILE)
    assert out.lost == ()
    back = CODEC.read_request(out.body)
    if choice is None and parallel is False:
        conversation = structs.replace(conversation, tool_choice=ToolChoice(mode="auto"))
    assert back == conversation
    body = json.loads(out.body)
    SDK.validate_python({name: body[name] for name in body.keys() - {"temperature", "top_k"}})


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.builds(
            Message,
            role=st.sampled_from(["system", "user", "assistant"]),
            blocks=st.lists(
                st.builds(Text, text=st.sampled_from(["", " ", "x", "y\n"]), cache=CACHES)
                | st.builds(
                    ToolCall, id=st.sampled_from(["a", "b", "c:d"]), name=st.sampled_from(["f", "g.h"])
                )
                | st.builds(
                    ToolResult, call_id=st.sampled_from(["a", "b", "c:d"]), content=st.just((Text(text="r"),))
                )
                | st.just(Thinking(text="t"))
                | THOUGHTS,
                max_size=4,
            ).map(tuple),
        ),
        max_size=6,
    )
)
def test_whatever_agents_send_comes_out_legal(messages: list[Message]) -> None:
    """Roles alternate, every call is answered in the next turn and nothing else is, nothing is blank."""
    own: dict[str, tuple[type, ...]] = {
        "system": (Text,),
        "user": (Text, ToolResult),
        "assistant": (Text, ToolCall, Thinking),
    }
    kept = [
        structs.replace(
            message, blocks=tuple(block for block in message.blocks if isinstance(block, own[message.role]))
        )
        for message in messages
    ]
    try:
        body = written(hello(messages=tuple(kept)))
    except BadRequest as error:
        if error.param is None:
            raise
        return
    SDK.validate_python(body)
    sent = body["messages"]
    assert all(one["role"] != other["role"] for one, other in pairwise(sent))
    waiting: list[str] = []
    seen: set[str] = set()
    for turn in sent:
        blocks = turn["content"]
        if isinstance(blocks, str):
            blocks = [{"type": "text", "text": blocks}]
        assert blocks
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        assert results == waiting
        assert [block["type"] for block in blocks[: len(results)]] == ["tool_result"] * len(results)
        assert all(block["text"].strip() for block in blocks if block["type"] == "text")
        waiting = [block["id"] for block in blocks if block["type"] == "tool_use"]
        assert not seen & set(waiting)
        seen |= set(waiting)
    assert waiting == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(
        ["messages", "system", "tools", "tool_choice", "thinking", "output_config", "metadata", "mcp_servers"]
    ),
    value=JSON
    | st.lists(
        st.fixed_dictionaries({"role": st.just("user"), "content": st.lists(JSON, max_size=2)}), max_size=2
    )
    | st.lists(
        st.fixed_dictionaries(
            {"type": st.sampled_from(["text", "image", "tool_use", "tool_result", "document"])}
        ),
        max_size=2,
    ).map(lambda blocks: [{"role": "assistant", "content": blocks}]),
)
def test_any_json_is_read_or_refused_with_a_name(name: str, value: Any) -> None:
    try:
        CODEC.read_request(request(**{name: value}))
    except BadRequest as error:
        if error.param is None or error.param.split(".")[0] != name:
            raise


def test_losses_are_values() -> None:
    out = CODEC.write_request(hello(seed=1), PROFILE)
    assert out.lost == (Loss("seed"),)
