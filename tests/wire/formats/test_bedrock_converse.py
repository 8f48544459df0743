"""Bedrock's Converse: read, written and streamed as botocore's own service model and parsers have it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import msgspec
import pytest
from botocore.eventstream import EventStream
from botocore.exceptions import EventStreamError
from botocore.parsers import create_parser
from botocore.validate import ParamValidator
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, structs
from tests.wire.accumulate import Broken, accumulate

from tollway.errors import BadRequest, InvalidJson, RateLimitExceeded
from tollway.model.usage import Usage
from tollway.wire import event_stream
from tollway.wire.codec import Profile, Unreadable
from tollway.wire.conversation import (
    Audio,
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
    Ping,
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
    Video,
)
from tollway.wire.formats.bedrock_converse import CODEC

GOLDEN = Path(__file__).parents[2] / "golden" / "bedrock_converse"
CLAUDE = Profile(model="eu.anthropic.claude-sonnet-4-5-20250929-v1:0", max_output=64000)
NOVA = Profile(model="us.amazon.nova-2-lite-v1:0")
LLAMA = Profile(model="meta.llama3-70b-instruct-v1:0")

SERVICE = botocore.session.get_session().get_service_model("bedrock-runtime")
CONVERSE = SERVICE.operation_model("Converse")
STREAM = SERVICE.operation_model("ConverseStream")


# ------------------------------------------------------------------ the oracle


def unknown_members(wire: Any, shape: Any, path: str = "") -> list[str]:
    """Names in a body that the service's model has not."""
    if shape.type_name == "structure" and isinstance(wire, dict) and not shape.metadata.get("document"):
        if not shape.members:
            return []
        found = [f"{path}.{name}" for name in wire if name not in shape.members]
        for name in wire:
            if name in shape.members:
                found += unknown_members(wire[name], shape.members[name], f"{path}.{name}")
        return found
    if shape.type_name == "list":
        return [
            name
            for index, item in enumerate(wire)
            for name in unknown_members(item, shape.member, f"{path}.{index}")
        ]
    return []


def accepted(body: bytes, model: str = CLAUDE.model) -> dict[str, Any]:
    """The body as JSON, after botocore found nothing in it that the service would not know or take."""
    wire = json.loads(body)
    assert unknown_members(wire, CONVERSE.input_shape) == []
    parsed = create_parser("rest-json").parse(
        {"status_code": 200, "headers": {}, "body": body}, CONVERSE.input_shape
    )
    parsed.pop("ResponseMetadata")
    parsed["modelId"] = model
    report = ParamValidator().validate(parsed, CONVERSE.input_shape)
    assert not report.has_errors(), report.generate_report()
    roles = [message["role"] for message in wire.get("messages", [])]
    assert all(role == ("user", "assistant")[number % 2] for number, role in enumerate(roles)), roles
    return wire


def answered(body: bytes) -> dict[str, Any]:
    """A whole answer as botocore's parser gives it to a caller."""
    wire = json.loads(body)
    assert unknown_members(wire, CONVERSE.output_shape) == []
    parsed: dict[str, Any] = create_parser("rest-json").parse(
        {"status_code": 200, "headers": {}, "body": body}, CONVERSE.output_shape
    )
    return parsed


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def stream(self) -> Iterator[bytes]:
        yield self._data

    def close(self) -> None: ...


def streamed(data: bytes) -> list[dict[str, Any]]:
    """A stream's events as botocore gives them to a caller; raises EventStreamError as it does."""
    parser = create_parser("rest-json")._event_stream_parser
    return list(EventStream(_Bytes(data), STREAM.output_shape.members["stream"], parser, "ConverseStream"))


def golden_stream() -> bytes:
    out = b""
    for line in (GOLDEN / "stream.jsonl").read_text().splitlines():
        [(name, payload)] = json.loads(line).items()
        headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
        out += event_stream.encode(headers, json.dumps(payload).encode())
    return out


def read(data: bytes) -> list[StreamEvent]:
    reader = CODEC.stream_reader()
    return [*reader.feed(data), *reader.finish()]


def ask(*messages: Message, **more: Any) -> Conversation:
    return Conversation(model="m", messages=messages or (user("hi"),), **more)


def user(*said: str | Block) -> Message:
    return Message(role="user", blocks=tuple(Text(text=one) if isinstance(one, str) else one for one in said))


def model(*said: str | Block) -> Message:
    return structs.replace(user(*said), role="assistant")


def write(conversation: Conversation, profile: Profile = CLAUDE) -> tuple[dict[str, Any], set[Loss]]:
    written = CODEC.write_request(conversation, profile)
    assert len(set(written.lost)) == len(written.lost)
    return accepted(written.body, profile.model), set(written.lost)


def plain(value: Any) -> Any:
    """Comparable: Raw as its JSON."""
    if isinstance(value, Raw):
        return json.loads(bytes(value)) if bytes(value) else None
    if isinstance(value, msgspec.Struct):
        return (type(value).__name__, {name: plain(getattr(value, name)) for name in value.__struct_fields__})
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    return value


# ------------------------------------------------------------------ requests, read


def test_a_documented_request_is_read_whole() -> None:
    asked = CODEC.read_request((GOLDEN / "request.json").read_bytes())
    assert asked.model == CLAUDE.model
    assert asked.format == "bedrock"
    system, first, second, third = asked.messages
    assert system == Message(role="system", blocks=(Text(text="Be terse.", cache=Cache()),))
    assert first.blocks == (
        Text(text="Weather in Oslo and Rome?"),
        Image(source=Source(kind="data", value="iVBORw0KGgo=", media_type="image/png")),
        Document(
            source=Source(kind="data", value="JVBERi0xLjc=", media_type="application/pdf"),
            title="Plan (draft)",
            context="a plan",
            citations=True,
            cache=Cache(ttl="1h"),
        ),
    )
    assert second.blocks == (
        Thinking(text="Two calls.", signature="c2ln", format="bedrock"),
        Thinking(redacted="c2VjcmV0", format="bedrock"),
        Text(text="Looking."),
        ToolCall(id="tooluse_1", name="weather", arguments='{"city": "Oslo"}'),
        ToolCall(id="tooluse_2", name="weather", arguments="{}"),
    )
    cold, failed, guarded = third.blocks
    assert cold == ToolResult(call_id="tooluse_1", name="weather", content=(Text(text="4 C"),))
    assert failed == ToolResult(
        call_id="tooluse_2", name="weather", content=(Text(text="no city"),), error=True
    )
    assert isinstance(guarded, Opaque)
    assert (guarded.format, guarded.kind) == ("bedrock", "guardContent")
    [tool] = asked.tools
    assert isinstance(tool, Tool)
    assert (tool.name, tool.description, tool.cache) == ("weather", "Weather of a city", Cache())
    assert asked.reasoning == Reasoning(enabled=True, budget=2048)
    assert (asked.max_tokens, asked.stop, asked.service_tier) == (8192, ("END",), "priority")
    assert asked.metadata == {"team": "blue"}
    assert asked.response_format is not None
    assert (asked.response_format.name, bytes(asked.response_format.schema)) == (
        "weather_report",
        b'{"type":"object"}',
    )
    assert {found.name for found in asked.extra} == {
        "guardrailConfig",
        "performanceConfig",
        "additionalModelRequestFields",
    }


def test_what_was_read_is_written_back_the_same() -> None:
    body = (GOLDEN / "request.json").read_bytes()
    wire, lost = write(CODEC.read_request(body))
    expected = json.loads(body)
    del expected["model"]
    expected["additionalModelResponseFieldPaths"] = ["/stop_sequence"]
    assert wire == expected
    assert lost == set()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": 3}, "messages"),
        ({}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "tool", "content": []}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"text": 3}]}]}, "messages.0.content.0.text"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": [{"text": "a", "image": {}}]}]}, "messages.0.content.0"),
        (
            {"messages": [{"role": "user", "content": [{"image": {"format": "png"}}]}]},
            "messages.0.content.0.image.source",
        ),
        (
            {"messages": [{"role": "assistant", "content": [{"toolUse": {"toolUseId": "", "name": "x"}}]}]},
            "messages.0.content.0.toolUse.toolUseId",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"toolResult": {"toolUseId": "x", "content": [{"text": 1}]}}],
                    }
                ]
            },
            "messages.0.content.0.toolResult.content.0.text",
        ),
        ({"messages": [], "inferenceConfig": {"maxTokens": "x"}}, "inferenceConfig.maxTokens"),
        ({"messages": [], "toolConfig": {"tools": [{"toolSpec": {}}]}}, "toolConfig.tools.0.toolSpec.name"),
        ({"messages": [], "toolConfig": {"tools": [{}]}}, "toolConfig.tools.0"),
        ({"messages": [], "toolConfig": {"tools": [], "toolChoice": {"x": {}}}}, "toolConfig.toolChoice"),
        ({"messages": [], "model": 3}, "model"),
        (
            {"messages": [], "additionalModelRequestFields": {"top_k": "x"}},
            "additionalModelRequestFields.top_k",
        ),
    ],
)
def test_a_wrong_request_is_refused_with_its_place(body: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        CODEC.read_request(json.dumps(body).encode())
    assert refused.value.param == param
    assert param in refused.value.message


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"messages":' + b"[" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000]
)
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        CODEC.read_request(body)


# ------------------------------------------------------------------ requests, written


def test_system_and_developer_turns_move_to_the_front() -> None:
    wire, _ = write(
        ask(
            Message(role="system", blocks=(Text(text="a"),)),
            user("q"),
            Message(role="developer", blocks=(Text(text="b"),)),
        )
    )
    assert wire["system"] == [{"text": "a"}, {"text": "b"}]
    assert wire["messages"] == [{"role": "user", "content": [{"text": "q"}]}]


def test_turns_alternate_and_begin_with_the_user() -> None:
    wire, _ = write(ask(model("hello"), user("a"), user("b", " "), model("c "), model("d \n")))
    assert wire["messages"] == [
        {"role": "user", "content": [{"text": "."}]},
        {"role": "assistant", "content": [{"text": "hello"}]},
        {"role": "user", "content": [{"text": "a"}, {"text": "b"}]},
        {"role": "assistant", "content": [{"text": "c "}, {"text": "d"}]},
    ]


def test_a_turn_of_which_nothing_is_left_does_not_break_the_alternation() -> None:
    wire, lost = write(ask(user("a"), model(Thinking(text="hm", format="openai")), user("b")))
    assert wire["messages"] == [{"role": "user", "content": [{"text": "a"}, {"text": "b"}]}]
    assert lost == {Loss("messages.thinking")}


def test_results_follow_their_calls_in_order() -> None:
    wire, _ = write(
        ask(
            user("q"),
            model(ToolCall(id="a", name="t"), ToolCall(id="b", name="t")),
            user(ToolResult(call_id="b", content=(Text(text="B"),))),
            user("and?", ToolResult(call_id="a", content=(Text(text="A"),))),
        )
    )
    last = wire["messages"][-1]["content"]
    assert [block["toolResult"]["toolUseId"] for block in last[:2]] == ["a", "b"]
    assert last[2] == {"text": "and?"}


def test_a_call_without_result_gets_one_that_says_so() -> None:
    wire, _ = write(ask(user("q"), model(ToolCall(id="a", name="t")), user("never mind")))
    result, said = wire["messages"][-1]["content"]
    assert result["toolResult"]["toolUseId"] == "a"
    assert result["toolResult"]["status"] == "error"
    assert said == {"text": "never mind"}
    wire, _ = write(ask(user("q"), model(ToolCall(id="a", name="t"))))
    assert wire["messages"][-1]["role"] == "user"


def test_a_result_without_call_is_told_in_words() -> None:
    wire, _ = write(ask(user(ToolResult(call_id="x", name="clock", content=(Text(text="noon"),)))))
    assert wire["messages"][0]["content"] == [{"text": "[result of tool clock]"}, {"text": "noon"}]


def test_a_history_with_calls_names_tools_even_when_none_are_offered() -> None:
    wire, lost = write(ask(user("q"), model(ToolCall(id="a", name="clock")), user(ToolResult(call_id="a"))))
    assert [tool["toolSpec"]["name"] for tool in wire["toolConfig"]["tools"]] == ["clock"]
    assert wire["messages"][-1]["content"][0]["toolResult"]["content"] == [{"text": "(empty)"}]
    assert lost == set()


def test_empty_arguments_become_an_object() -> None:
    # Some clients replay a call without arguments as an empty string.
    wire, _ = write(ask(user("q"), model(ToolCall(id="a", name="t", arguments=""))))
    assert wire["messages"][1]["content"][0]["toolUse"]["input"] == {}


@pytest.mark.parametrize("arguments", ["{", "[1]", '"x"', "nope"])
def test_arguments_that_are_no_object_are_refused_with_their_turn(arguments: str) -> None:
    with pytest.raises(BadRequest) as refused:
        CODEC.write_request(
            ask(user("q"), model("x", ToolCall(id="a", name="t", arguments=arguments))), CLAUDE
        )
    assert refused.value.param == "messages.1.blocks.1"


def test_foreign_call_ids_are_mapped_alike_in_call_and_result() -> None:
    first, second = "call|1|" + "x" * 80, "call|1|" + "x" * 79 + "y"
    wire, _ = write(
        ask(
            user("q"),
            model(ToolCall(id=first, name="t"), ToolCall(id=second, name="t")),
            user(ToolResult(call_id=first), ToolResult(call_id=second)),
        )
    )
    calls = [block["toolUse"]["toolUseId"] for block in wire["messages"][1]["content"]]
    results = [block["toolResult"]["toolUseId"] for block in wire["messages"][2]["content"]]
    assert calls == results
    assert len(set(calls)) == 2


def test_a_tool_name_bedrock_refuses_is_refused_here_with_its_place() -> None:
    with pytest.raises(BadRequest) as refused:
        CODEC.write_request(ask(tools=(Tool(name="ok"), Tool(name="no.dots"))), CLAUDE)
    assert refused.value.param == "tools.1.name"


def test_tools_and_choices() -> None:
    tools = (
        Tool(name="a", description="", schema=Raw(b'{"properties":{}}'), strict=True),
        Tool(name="b", cache=Cache(ttl="1h")),
    )
    wire, lost = write(ask(tools=tools, tool_choice=ToolChoice(mode="required"), parallel_tool_calls=False))
    assert wire["toolConfig"]["toolChoice"] == {"any": {}}
    assert wire["toolConfig"]["tools"] == [
        {
            "toolSpec": {
                "name": "a",
                "inputSchema": {"json": {"type": "object", "properties": {}}},
                "strict": True,
            }
        },
        {"toolSpec": {"name": "b", "inputSchema": {"json": {"type": "object", "properties": {}}}}},
        {"cachePoint": {"type": "default", "ttl": "1h"}},
    ]
    assert lost == {Loss("parallel_tool_calls")}
    wire, lost = write(ask(tools=tools, tool_choice=ToolChoice(mode="named", name="a")))
    assert wire["toolConfig"]["toolChoice"] == {"tool": {"name": "a"}}
    wire, lost = write(ask(tools=tools, tool_choice=ToolChoice(mode="auto", allowed=("b",))))
    assert [tool["toolSpec"]["name"] for tool in wire["toolConfig"]["tools"] if "toolSpec" in tool] == ["b"]
    wire, lost = write(ask(tools=tools, tool_choice=ToolChoice(mode="none")))
    assert "toolConfig" not in wire
    assert lost == set()
    history = (user("q"), model(ToolCall(id="x", name="a")), user(ToolResult(call_id="x")))
    wire, lost = write(ask(*history, tools=tools, tool_choice=ToolChoice(mode="none")))
    assert lost == {Loss("tool_choice", "meaning")}
    wire, lost = write(ask(*history, tools=tools), Profile(model=LLAMA.model, tools=False))
    assert "toolConfig" not in wire
    assert "[called tool a with {}]" in json.dumps(wire["messages"])
    assert lost == {Loss("tools", "meaning")}
    _, lost = write(ask(tools=(Tool(name="free", custom=True),)))
    assert lost == {Loss("tools.custom", "meaning")}


def test_server_tools_are_translated_where_there_is_an_equal() -> None:
    search = ServerTool(kind="web_search", format="openai", raw=Raw(b'{"type":"web_search"}'))
    wire, lost = write(ask(tools=(search,)), NOVA)
    assert wire["toolConfig"]["tools"] == [{"systemTool": {"name": "nova_grounding"}}]
    assert lost == set()
    wire, lost = write(ask(tools=(search,)))
    assert lost == {Loss("tools.web_search", "meaning")}
    computer = ServerTool(
        kind="computer",
        name="computer",
        format="anthropic",
        raw=Raw(b'{"type":"computer_20250124","name":"computer"}'),
    )
    wire, lost = write(ask(tools=(computer, Tool(name="t"))))
    assert wire["additionalModelRequestFields"] == {
        "tools": [{"type": "computer_20250124", "name": "computer"}],
        "anthropic_beta": ["computer-use-2025-01-24"],
    }
    assert lost == set()
    again = CODEC.read_request(
        b'{"messages":[],"toolConfig":{"tools":[{"systemTool":{"name":"nova_grounding"}}]}}'
    )
    [tool] = again.tools
    assert isinstance(tool, ServerTool)
    assert tool.kind == "web_search"


def test_media() -> None:
    png = base64.b64encode(b"\x89PNG\r\n\x1a\n....").decode()
    wire, lost = write(
        ask(
            user(
                "look",
                Image(source=Source(kind="data", value=png)),
                Image(source=Source(kind="data", value="aaaa", media_type="image/jpg"), detail="high"),
                Image(source=Source(kind="url", value="s3://bucket/key.jpg")),
                Video(source=Source(kind="data", value="aaaa", media_type="video/mp4")),
                Audio(source=Source(kind="data", value="aaaa", media_type="audio/mpeg")),
            )
        )
    )
    kinds = [(next(iter(block)), block) for block in wire["messages"][0]["content"]]
    assert [kind for kind, _ in kinds] == ["text", "image", "image", "image", "video", "audio"]
    assert [block["image"]["format"] for kind, block in kinds if kind == "image"] == ["png", "jpeg", "jpeg"]
    assert kinds[5][1]["audio"]["format"] == "mp3"
    assert lost == {Loss("messages.image.detail")}


def test_what_would_have_to_be_fetched_is_lost_with_its_meaning() -> None:
    _, lost = write(
        ask(
            user(
                "look",
                Image(source=Source(kind="url", value="https://example.com/a.png")),
                Document(source=Source(kind="file", value="file_1")),
                Audio(source=Source(kind="data", value="aaaa", media_type="audio/unheard")),
            )
        )
    )
    assert lost == {
        Loss("messages.image", "meaning"),
        Loss("messages.document", "meaning"),
        Loss("messages.audio", "meaning"),
    }


def test_document_names_are_what_bedrock_allows_and_no_two_alike() -> None:
    def paper(title: str | None) -> Document:
        return Document(text="words", title=title)

    wire, lost = write(
        ask(
            user(
                paper("Q3_report:  v1.2.pdf"),
                paper("Q3 report v1 2 pdf"),
                paper(None),
                paper("日本"),
                paper("x" * 300),
            )
        )
    )
    content = wire["messages"][0]["content"]
    names = [block["document"]["name"] for block in content if "document" in block]
    assert names == ["Q3 report v1 2 pdf", "Q3 report v1 2 pdf (2)", "document", "document (2)", "x" * 180]
    assert content[0]["document"]["source"]["bytes"] == base64.b64encode(b"words").decode()
    assert "text" in content[-1], "a document needs words beside it"
    assert lost == set()


def test_cache_points_go_only_where_they_are_known() -> None:
    said = user(Text(text="long", cache=Cache(ttl="1h")), Text(text="short", cache=Cache()))
    wire, lost = write(ask(said))
    assert wire["messages"][0]["content"] == [
        {"text": "long"},
        {"cachePoint": {"type": "default", "ttl": "1h"}},
        {"text": "short"},
        {"cachePoint": {"type": "default"}},
    ]
    assert lost == set()
    wire, lost = write(ask(said), LLAMA)
    assert wire["messages"][0]["content"] == [{"text": "long"}, {"text": "short"}]
    assert lost == {Loss("cache_control")}


def test_thoughts_go_back_only_to_the_one_who_signed_them() -> None:
    def thinks(**fields: Any) -> tuple[list[str], set[Loss]]:
        wire, lost = write(ask(user("q"), model(Thinking(text="t", **fields), "a"), user("r")), profile)
        return [next(iter(block)) for block in wire["messages"][1]["content"]], lost

    profile = CLAUDE
    assert thinks(signature="s", format="anthropic") == (["reasoningContent", "text"], set())
    assert thinks(signature="s", format="bedrock") == (["reasoningContent", "text"], set())
    assert thinks(format="bedrock") == (["text"], {Loss("messages.thinking")})
    assert thinks(signature="s", format="gemini") == (["text"], {Loss("messages.thinking")})
    profile = NOVA
    assert thinks(format="bedrock") == (["reasoningContent", "text"], set())
    assert thinks(signature="s", format="anthropic") == (["text"], {Loss("messages.thinking")})


def thinking_of(conversation: Conversation, profile: Profile = CLAUDE) -> tuple[Any, set[Loss]]:
    wire, lost = write(conversation, profile)
    return wire.get("additionalModelRequestFields"), lost


def test_a_thinking_budget_below_the_minimum_is_raised() -> None:
    # Clients send 500 where Claude wants at least 1024.
    assert thinking_of(ask(reasoning=Reasoning(enabled=True, budget=500))) == (
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        set(),
    )


def test_reasoning_in_each_familys_words() -> None:
    high = Reasoning(effort="high")
    assert thinking_of(ask(reasoning=high))[0] == {"thinking": {"type": "enabled", "budget_tokens": 4096}}
    assert thinking_of(ask(reasoning=high, max_tokens=3000))[0] == {
        "thinking": {"type": "enabled", "budget_tokens": 2999}
    }
    assert thinking_of(ask(reasoning=high, max_tokens=1000)) == (None, {Loss("reasoning")})
    assert thinking_of(ask(reasoning=Reasoning(effort="none"))) == (None, set())
    assert thinking_of(ask(reasoning=high), NOVA) == (
        {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}},
        set(),
    )
    assert thinking_of(ask(reasoning=Reasoning(budget=2500)), Profile(model="openai.gpt-oss-120b-1:0")) == (
        {"reasoning_effort": "medium"},
        set(),
    )
    assert thinking_of(ask(reasoning=high), LLAMA) == (None, {Loss("reasoning")})
    adaptive = structs.replace(CLAUDE, thinking="adaptive")
    wire, lost = write(ask(reasoning=Reasoning(effort="xhigh")), adaptive)
    assert wire["additionalModelRequestFields"] == {"thinking": {"type": "adaptive"}}
    assert wire["outputConfig"] == {"effort": "xhigh"}
    assert wire["inferenceConfig"] == {"maxTokens": 64000}
    assert lost == set()


def test_settings_that_thinking_forbids_give_way_to_it() -> None:
    wire, lost = write(ask(reasoning=Reasoning(budget=2000), temperature=0.2, top_k=5, top_p=0.5))
    assert wire["inferenceConfig"] == {"maxTokens": 64000}
    assert lost == {Loss("temperature"), Loss("top_k"), Loss("top_p")}


def test_thinking_gives_way_where_claude_would_refuse_it() -> None:
    tools = (Tool(name="t"),)
    forced = ask(reasoning=Reasoning(budget=2000), tools=tools, tool_choice=ToolChoice(mode="required"))
    assert thinking_of(forced) == (None, {Loss("reasoning")})
    signed = Thinking(text="t", signature="s", format="anthropic")
    turns = (user("q"), model(ToolCall(id="a", name="t")), user(ToolResult(call_id="a")))
    assert thinking_of(ask(*turns, reasoning=Reasoning(budget=2000), tools=tools)) == (
        None,
        {Loss("reasoning")},
    )
    turns = (user("q"), model(signed, ToolCall(id="a", name="t")), user(ToolResult(call_id="a")))
    assert thinking_of(ask(*turns, reasoning=Reasoning(budget=2000), tools=tools))[1] == set()


def test_sampling_and_the_rest() -> None:
    wire, lost = write(
        ask(
            temperature=1.5,
            top_p=0.5,
            top_k=5,
            max_tokens=10,
            stop=("a", "", "b"),
            seed=1,
            n=2,
            user="u",
            logprobs=True,
            store=True,
            metadata={"k": "v"},
            service_tier="auto",
            prediction=Raw(b"{}"),
            modalities=("text", "audio"),
            previous_response_id="r",
            response_format=ResponseFormat(kind="json_object"),
            extra=(Extra(format="openai", name="logit_bias", raw=Raw(b"{}")),),
        )
    )
    assert wire["inferenceConfig"] == {
        "maxTokens": 10,
        "temperature": 1.0,
        "topP": 0.5,
        "stopSequences": ["a", "b"],
    }
    assert wire["additionalModelRequestFields"] == {"top_k": 5}
    assert wire["requestMetadata"] == {"k": "v"}
    hints = {"temperature", "seed", "user", "logprobs", "store", "prediction", "logit_bias"}
    meanings = {"n", "modalities", "previous_response_id", "response_format"}
    assert lost == {Loss(name) for name in hints} | {Loss(name, "meaning") for name in meanings}
    wire, lost = write(ask(top_k=5), NOVA)
    assert wire["additionalModelRequestFields"] == {"inferenceConfig": {"topK": 5}}
    _, lost = write(ask(top_k=5, metadata={"k": "ü!"}, service_tier="gold"), LLAMA)
    assert lost == {Loss("top_k"), Loss("metadata"), Loss("service_tier")}


def test_blocks_of_other_formats_are_lost_with_their_meaning() -> None:
    _, lost = write(
        ask(user("q"), model(Opaque(format="openai", kind="web_search_call", raw=Raw(b"{}")), "a"), user("r"))
    )
    assert lost == {Loss("messages.web_search_call", "meaning")}


WORDS = st.text("abc äß日\n{}\"'", min_size=1, max_size=12).filter(lambda word: bool(word.strip()))
CACHES = st.sampled_from([None, Cache(), Cache(ttl="1h")])
USER_BLOCKS = st.one_of(
    st.builds(Text, text=WORDS, cache=CACHES),
    st.builds(
        Image,
        source=st.builds(
            Source, kind=st.just("data"), value=st.just("iVBORw0KGgo="), media_type=st.just("image/png")
        ),
        cache=CACHES,
    ),
)
MODEL_BLOCKS = st.one_of(
    st.builds(Text, text=WORDS),
    st.builds(Thinking, text=WORDS, signature=WORDS, format=st.just("bedrock")),
)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    messages: list[Message] = []
    for number in range(draw(st.integers(1, 3))):
        said = draw(st.lists(USER_BLOCKS, min_size=1, max_size=3))
        messages.append(Message(role="user", blocks=(Text(text="q"), *said)))
        calls = tuple(
            ToolCall(id=f"call_{number}_{index}", name="t", arguments=json.dumps({"a": draw(WORDS)}))
            for index in range(draw(st.integers(0, 2)))
        )
        thought = draw(st.lists(MODEL_BLOCKS, min_size=1, max_size=2))
        messages.append(Message(role="assistant", blocks=(*thought, Text(text="said"), *calls)))
        if calls:
            results = tuple(
                ToolResult(
                    call_id=call.id, name="t", content=(Text(text=draw(WORDS)),), error=draw(st.booleans())
                )
                for call in calls
            )
            messages.append(Message(role="user", blocks=results))
            messages.append(Message(role="assistant", blocks=(Text(text="so"),)))
    messages.append(Message(role="user", blocks=(Text(text="next"),)))
    return Conversation(
        model="",
        messages=tuple(messages),
        tools=(Tool(name="t", description="d"),),
        max_tokens=draw(st.none() | st.integers(1, 9999)),
        temperature=draw(st.none() | st.floats(0, 1)),
        top_k=draw(st.none() | st.integers(1, 99)),
        include_usage=True,
        format="bedrock",
    )


@settings(max_examples=50, deadline=None)
@given(conversations())
def test_what_is_written_is_read_back(conversation: Conversation) -> None:
    written = CODEC.write_request(conversation, CLAUDE)
    assert written.lost == ()
    accepted(written.body)
    assert plain(CODEC.read_request(written.body)) == plain(conversation)


# ------------------------------------------------------------------ answers


def test_an_answer_is_read_whole() -> None:
    answer = CODEC.read_answer((GOLDEN / "answer.json").read_bytes())
    [choice] = answer.choices
    thought, cited, call, result, first, second = choice.blocks
    assert thought == Thinking(text="I should look.", signature="c2ln", format="bedrock")
    assert isinstance(cited, Text)
    assert cited.text == "It is cold."
    assert [(one.title, one.cited, one.format) for one in cited.citations] == [("Plan", "cold", "bedrock")]
    assert isinstance(call, Opaque)
    assert isinstance(result, Opaque)
    assert (call.kind, result.kind) == ("toolUse", "toolResult")
    assert first == ToolCall(id="tooluse_1", name="weather", arguments='{"city": "Oslo"}')
    assert second == ToolCall(id="tooluse_2", name="clock")
    assert choice.finish == "tool_calls"
    assert answer.service_tier == "priority"


def test_cached_tokens_are_counted_once() -> None:
    # inputTokens leaves out what the cache served and what was written to it.
    answer = CODEC.read_answer((GOLDEN / "answer.json").read_bytes())
    assert answer.usage == Usage(input=30, cache_read=1000, cache_write_5m=50, cache_write_1h=150, output=50)
    assert json.loads(bytes(answer.raw_usage))["totalTokens"] == answer.usage.tokens()
    written = json.loads(CODEC.write_answer(answer, ask()))
    assert written["usage"] == json.loads(bytes(answer.raw_usage))


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("malformed_tool_use", "error"),
        ("malformed_model_output", "error"),
        ("newer_than_we_are", "stop"),
    ],
)
def test_every_stop_reason_has_its_finish(reason: str, finish: str) -> None:
    body = {"output": {"message": {"role": "assistant", "content": [{"text": "x"}]}}, "stopReason": reason}
    assert CODEC.read_answer(json.dumps(body).encode()).choices[0].finish == finish


def test_the_stop_sequence_is_named_where_the_model_named_it() -> None:
    body: dict[str, Any] = {"output": {"message": {"content": []}}, "stopReason": "stop_sequence"}
    assert CODEC.read_answer(json.dumps(body).encode()).choices[0].stop_sequence == ""
    body["additionalModelResponseFields"] = {"stop_sequence": "END"}
    answer = CODEC.read_answer(json.dumps(body).encode())
    assert answer.choices[0].stop_sequence == "END"
    assert json.loads(CODEC.write_answer(answer, ask()))["additionalModelResponseFields"] == {
        "stop_sequence": "END"
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        b'{"output":{"message":{"content":[{"text":3}]}}}',
        b'{"output":{"message":{"content":[{}]}}}',
    ],
)
def test_an_unreadable_answer_says_so_without_quoting_it(body: bytes) -> None:
    with pytest.raises(Unreadable) as unreadable:
        CODEC.read_answer(body)
    assert "html" not in str(unreadable.value)


def test_botocore_reads_a_written_answer() -> None:
    answer = Completion(
        choices=(
            Choice(
                blocks=(
                    Thinking(text="hm", signature="s"),
                    Text(text="see", citations=(Citation(url="https://a.example", title="A", cited="q"),)),
                    Refusal(text="no"),
                    ToolCall(id="a", name="t", arguments='{"x":1}'),
                    ToolCall(id="b", name="t", arguments="broken {"),
                    ToolCall(id="c", name="t", arguments="free", custom=True),
                ),
                finish="tool_calls",
            ),
        ),
        usage=Usage(input=1, output=2),
    )
    parsed = answered(CODEC.write_answer(answer, ask()))
    content = parsed["output"]["message"]["content"]
    assert content[0]["reasoningContent"]["reasoningText"] == {"text": "hm", "signature": "s"}
    assert content[1]["citationsContent"]["citations"][0]["location"] == {"web": {"url": "https://a.example"}}
    assert content[2] == {"text": "no"}
    assert [block["toolUse"]["input"] for block in content[3:]] == [{"x": 1}, "broken {", {"input": "free"}]
    assert parsed["stopReason"] == "tool_use"
    assert parsed["usage"] == {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}


# ------------------------------------------------------------------ streams


def test_a_stream_and_its_whole_form_say_the_same() -> None:
    told = accumulate(read(golden_stream()))
    whole = CODEC.read_answer((GOLDEN / "answer.json").read_bytes())
    assert plain(told) == plain(whole)


def test_any_split_of_a_stream_gives_the_same_events() -> None:
    data = golden_stream()
    expected = plain(read(data))
    for size in (1, 2, 3, 7, 64):
        reader = CODEC.stream_reader()
        events: list[StreamEvent] = []
        for start in range(0, len(data), size):
            events += reader.feed(data[start : start + size])
        assert plain([*events, *reader.finish()]) == expected
    for cut in range(0, len(data), 5):
        reader = CODEC.stream_reader()
        assert plain([*reader.feed(data[:cut]), *reader.feed(data[cut:]), *reader.finish()]) == expected


def test_botocore_reads_a_written_stream_and_so_do_we() -> None:
    events = read(golden_stream())
    data = CODEC.stream_writer(ask()).write(events)
    names = [next(iter(event)) for event in streamed(data)]
    assert (names[0], names[-2], names[-1]) == ("messageStart", "messageStop", "metadata")
    assert plain(accumulate(read(data))) == plain(accumulate(events))


def test_parallel_calls_that_interleave_are_written_one_after_the_other() -> None:
    events: list[StreamEvent] = [
        Start(),
        BlockStart(index=0, block=Text()),
        BlockDelta(index=0, text="two calls"),
        BlockStart(index=1, block=ToolCall(id="a", name="t", arguments="")),
        BlockStart(index=2, block=ToolCall(id="b", name="u", arguments="")),
        BlockDelta(index=1, arguments='{"x"'),
        BlockDelta(index=2, arguments='{"y"'),
        BlockStop(index=0),
        BlockDelta(index=1, arguments=":1}"),
        BlockDelta(index=2, arguments=":2}"),
        BlockStop(index=2),
        Ping(),
        BlockStop(index=1),
        Finished(finish="tool_calls"),
        Metered(usage=Usage(input=3, output=4)),
        End(),
    ]
    for size in (1, 3, len(events)):
        writer = CODEC.stream_writer(ask())
        data = b"".join(writer.write(events[at : at + size]) for at in range(0, len(events), size))
        open_block: int | None = None
        for event in streamed(data):
            [(name, payload)] = event.items()
            number = payload.get("contentBlockIndex")
            if name == "contentBlockStop":
                assert number == open_block
                open_block = None
            elif name in ("contentBlockStart", "contentBlockDelta"):
                assert open_block in (None, number)
                open_block = number
        told = structs.replace(accumulate(read(data)), raw_usage=Raw())
        assert plain(told) == plain(accumulate(events))


def test_blocks_that_came_whole_and_free_text_calls_are_written() -> None:
    events: list[StreamEvent] = [
        Start(usage=Usage(input=9)),
        BlockStart(index=0, block=Thinking(redacted="c2VjcmV0", format="bedrock")),
        BlockStop(index=0),
        BlockStart(index=1, block=Audio(source=Source(kind="data", value="aaaa"))),
        BlockDelta(index=1, audio="aaaa"),
        BlockStop(index=1),
        BlockStart(index=2, block=Image(source=Source(kind="data", value="aaaa", media_type="image/png"))),
        BlockStop(index=2),
        BlockStart(index=3, block=ToolCall(id="a", name="t", arguments="", custom=True)),
        BlockDelta(index=3, arguments='free "text"'),
        BlockStop(index=3),
        BlockStart(index=4, block=Refusal(text="no")),
        BlockStop(index=4),
        Finished(finish="refusal"),
        End(),
    ]
    data = CODEC.stream_writer(ask()).write(events)
    streamed(data)
    told = accumulate(read(data))
    assert told.choices[0].blocks == (
        Thinking(redacted="c2VjcmV0", format="bedrock"),
        Image(source=Source(kind="data", value="aaaa", media_type="image/png")),
        ToolCall(id="a", name="t", arguments='{"input":"free \\"text\\""}'),
        Text(text="no"),
    )
    assert told.choices[0].finish == "content_filter"
    assert told.usage == Usage(input=9)


def test_reasoning_and_text_in_one_content_block_become_two() -> None:
    def frame(delta: dict[str, Any]) -> bytes:
        return event_stream.encode(
            {":event-type": "contentBlockDelta", ":message-type": "event"},
            json.dumps({"contentBlockIndex": 0, "delta": delta}).encode(),
        )

    data = (
        frame({"reasoningContent": {"text": "hm"}})
        + frame({"text": "so"})
        + event_stream.encode(
            {":event-type": "messageStop", ":message-type": "event"}, b'{"stopReason":"end_turn"}'
        )
    )
    told = accumulate(read(data))
    assert told.choices[0].blocks == (Thinking(text="hm", format="bedrock"), Text(text="so"))


def test_a_stream_that_breaks_off_has_failed() -> None:
    data = golden_stream()
    with pytest.raises(Broken) as broken:
        accumulate(read(data[: len(data) // 2]))
    assert broken.value.failed.code == "stream_broken"
    assert read(b"") == [Failed(message="Bedrock's stream broke off before its end.", code="stream_broken")]


@pytest.mark.parametrize(
    ("headers", "payload", "status", "message"),
    [
        (
            {":message-type": "exception", ":exception-type": "throttlingException"},
            b'{"message":"slow down"}',
            429,
            "slow down",
        ),
        (
            {":message-type": "exception", ":exception-type": "modelStreamErrorException"},
            b'{"message":"m","originalStatusCode":503}',
            503,
            "m",
        ),
        (
            {":message-type": "exception", ":exception-type": "internalServerException"},
            b"{}",
            500,
            "internalServerException",
        ),
        ({":message-type": "exception", ":exception-type": "unheardOf"}, b"not json", 502, "not json"),
        ({":message-type": "error", ":error-code": "503", ":error-message": "gone"}, b"", 503, "gone"),
        ({":message-type": "error", ":error-code": "Internal"}, b"", 502, "broke"),
    ],
)
def test_exceptions_and_errors_in_a_stream(
    headers: dict[str, str], payload: bytes, status: int, message: str
) -> None:
    events = read(event_stream.encode(headers, payload) + golden_stream())
    [failed] = events
    assert isinstance(failed, Failed)
    assert failed.status == status
    assert message in failed.message


def test_a_failure_is_written_as_an_exception_botocore_raises() -> None:
    data = CODEC.stream_writer(ask()).write([Start(), Failed(message="too many", status=429)])
    with pytest.raises(EventStreamError) as raised:
        streamed(data)
    assert raised.value.response["Error"] == {"Code": "throttlingException", "Message": "too many"}
    assert read(data)[-1] == Failed(
        message="too many", status=429, kind="throttlingException", code="throttlingException"
    )


def test_a_frame_of_no_known_type_and_a_delta_without_its_start_are_unreadable() -> None:
    for headers, payload in (
        ({":message-type": "parcel"}, b"{}"),
        (
            {":message-type": "event", ":event-type": "contentBlockDelta"},
            b'{"contentBlockIndex":0,"delta":{"toolUse":{"input":"x"}}}',
        ),
        ({":message-type": "event", ":event-type": "messageStop"}, b"{"),
    ):
        with pytest.raises(Unreadable):
            read(event_stream.encode(headers, payload))


def test_events_of_a_newer_service_are_passed_over() -> None:
    later = event_stream.encode({":message-type": "event", ":event-type": "somethingNew"}, b"{}")
    assert plain(accumulate(read(later + golden_stream()))) == plain(accumulate(read(golden_stream())))


def test_an_error_has_the_services_shape() -> None:
    body = CODEC.write_error(RateLimitExceeded("Wait.", details={"retry_after": 3}))
    parsed = create_parser("rest-json").parse({"status_code": 429, "headers": {}, "body": body}, None)
    assert parsed["Error"]["Message"] == "Wait."
    assert json.loads(body)["__type"] == "ThrottlingException"
    assert json.loads(body)["retry_after"] == 3
