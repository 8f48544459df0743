from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, structs
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)
from pydantic import TypeAdapter

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
from tollway.wire.formats.openai_chat import CODEC

GOLDEN = Path(__file__).parents[3] / "golden" / "openai_chat"
PROFILE = Profile(model="gpt-4o")
WHOLE: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsNonStreaming)
STREAMED: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsStreaming)
PIXEL = "iVBORw0KGgo="


def forced(value: Any) -> Any:
    """Pydantic checks the items of an Iterable only when they are taken."""
    if isinstance(value, dict):
        return {name: forced(item) for name, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [forced(item) for item in value]
    return value


def written(conversation: Conversation, profile: Profile = PROFILE) -> tuple[dict[str, Any], dict[str, str]]:
    """The body, which the SDK's types accept, and what it does not say."""
    found = CODEC.write_request(conversation, profile)
    body = json.loads(found.body)
    adapter = STREAMED if body.get("stream") else WHOLE
    forced(adapter.validate_python(json.loads(found.body)))
    lost = {loss.field: loss.weight for loss in found.lost}
    assert len(lost) == len(found.lost), "a loss is named twice"
    return body, lost


def talk(*messages: Message, **fields: Any) -> Conversation:
    return Conversation(model="m", messages=messages or (say("user", Text(text="hello")),), **fields)


def say(role: Any, *blocks: Block) -> Message:
    return Message(role=role, blocks=blocks)


def call(name: str, call_id: str, arguments: str = "{}") -> ToolCall:
    return ToolCall(id=call_id, name=name, arguments=arguments)


def result(call_id: str, *content: Any, **more: Any) -> ToolResult:
    return ToolResult(call_id=call_id, content=content, **more)


def test_what_was_read_is_written_again() -> None:
    asked = json.loads((GOLDEN / "request.json").read_bytes())
    body, lost = written(CODEC.read_request((GOLDEN / "request.json").read_bytes()))
    assert lost == {}
    # One text is a string, and OpenAI's two names for the limit mean the same.
    asked["messages"][4]["content"] = "a.pdf"
    asked["messages"][5] |= {"content": None, "refusal": "I cannot hear."}
    del asked["messages"][2]["refusal"]
    asked["max_tokens"] = asked.pop("max_completion_tokens")
    asked["messages"][1]["content"][5]["file"] = {"file_id": "file-1"}
    assert body == asked


def test_the_limit_is_named_as_the_model_knows_it() -> None:
    body, _ = written(talk(max_tokens=9))
    assert (body["max_tokens"], "max_completion_tokens" in body) == (9, False)
    body, _ = written(talk(max_tokens=9), Profile(model="gpt-5", thinking="effort"))
    assert (body["max_completion_tokens"], "max_tokens" in body) == (9, False)


def test_a_model_that_refuses_sampling_is_not_asked_for_it() -> None:
    body, lost = written(talk(temperature=0.2, top_p=0.9), Profile(model="gpt-5", sampling=False))
    assert "temperature" not in body
    assert "top_p" not in body
    assert lost == {"temperature": "hint", "top_p": "hint"}
    body, lost = written(talk(temperature=0.2, top_p=0.9))
    assert (body["temperature"], body["top_p"], lost) == (0.2, 0.9, {})


def test_results_stand_behind_their_calls_in_their_order() -> None:
    body, lost = written(
        talk(
            say("user", Text(text="go")),
            say("assistant", Text(text="I "), Text(text="go."), call("a", "1"), call("b", "2")),
            say("user", Text(text="and hurry"), result("2", Text(text="B")), result("1", Text(text="A"))),
            say("user", Text(text="please")),
        )
    )
    assert [(turn["role"], turn.get("tool_call_id"), turn["content"]) for turn in body["messages"]] == [
        ("user", None, "go"),
        ("assistant", None, "I go."),
        ("tool", "1", "A"),
        ("tool", "2", "B"),
        ("user", None, "and hurry"),
        ("user", None, "please"),
    ]
    assert lost == {}


def test_a_call_without_result_and_a_result_without_call() -> None:
    body, lost = written(
        talk(
            say("user", result("0", Text(text="old"), name="before")),
            say("assistant", call("a", "1"), call("b", "2")),
            say("user", result("2", Text(text="B")), result("2", Text(text="again"))),
            say("assistant", call("c", "3")),
        )
    )
    assert [(turn["role"], turn.get("tool_call_id")) for turn in body["messages"]] == [
        ("user", None),
        ("assistant", None),
        ("tool", "1"),
        ("tool", "2"),
        ("user", None),
        ("assistant", None),
        ("tool", "3"),
    ]
    assert "old" in json.dumps(body["messages"][0])
    assert "again" in json.dumps(body["messages"][4])
    assert "No result" in body["messages"][2]["content"]
    assert lost == {"messages.tool_calls": "hint", "messages.tool_result": "hint"}


def test_single_items_of_an_assistant_are_one_turn() -> None:
    """The Responses format lists text and every call as an item of its own."""
    body, _ = written(
        talk(
            say("user", Text(text="go")),
            say("assistant", Text(text="yes")),
            say("assistant", call("a", "1")),
            say("assistant", call("b", "2")),
            say("user", result("1", Text(text="A"))),
            say("user", result("2", Text(text="B"))),
        )
    )
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "tool", "tool"]
    assert body["messages"][1]["content"] == "yes"
    assert [made["id"] for made in body["messages"][1]["tool_calls"]] == ["1", "2"]


def test_pictures_of_a_result_follow_in_a_user_turn() -> None:
    shot = Image(source=Source(kind="data", value=PIXEL))
    body, lost = written(
        talk(
            say("assistant", call("shot", "1"), call("b", "2")),
            say("user", result("1", shot), result("2", Text(text="B")), Text(text="what now?")),
        )
    )
    assert [turn["role"] for turn in body["messages"]] == ["assistant", "tool", "tool", "user"]
    parts = body["messages"][3]["content"]
    assert [part["type"] for part in parts] == ["text", "image_url", "text"]
    assert parts[1]["image_url"]["url"] == f"data:image/png;base64,{PIXEL}"
    assert lost == {}


def test_pictures_of_a_result_before_the_next_assistant_turn() -> None:
    shot = Image(source=Source(kind="url", value="https://example.com/a.png"))
    body, _ = written(
        talk(
            say("assistant", call("shot", "1")),
            say("user", result("1", Text(text="see"), shot)),
            say("assistant", Text(text="seen")),
        )
    )
    assert [turn["role"] for turn in body["messages"]] == ["assistant", "tool", "user", "assistant"]
    assert body["messages"][1]["content"] == "see"


def test_long_ids_are_shortened_alike() -> None:
    long = "toolu_" + "x" * 60
    body, _ = written(talk(say("assistant", call("a", long)), say("user", result(long, Text(text="A")))))
    made = body["messages"][0]["tool_calls"][0]["id"]
    assert len(made) <= 40
    assert body["messages"][1]["tool_call_id"] == made
    other = "toolu_" + "x" * 61
    body, _ = written(talk(say("assistant", call("a", other)), say("user", result(other))))
    assert body["messages"][0]["tool_calls"][0]["id"] != made


def test_empty_arguments_are_an_object_and_broken_ones_stay() -> None:
    body, _ = written(talk(say("assistant", call("a", "1", ""), call("b", "2", '{"x": '))))
    arguments = [made["function"]["arguments"] for made in body["messages"][0]["tool_calls"]]
    assert arguments == ["{}", '{"x": ']


def test_empty_texts_vanish() -> None:
    body, _ = written(
        talk(say("user", Text(text=""), Text(text="x")), say("assistant", Text(text="")), say("user"))
    )
    assert body["messages"] == [{"role": "user", "content": "x"}, {"role": "user", "content": ""}]


def test_developers_are_systems_for_everybody_else() -> None:
    asked = talk(say("developer", Text(text="be brief")), say("user", Text(text="hi")))
    assert written(asked)[0]["messages"][0]["role"] == "system"
    assert written(structs.replace(asked, format="openai.chat"))[0]["messages"][0]["role"] == "developer"


def test_several_system_texts_stay_parts() -> None:
    body, lost = written(talk(say("system", Text(text="a", cache=Cache()), Text(text="b"))))
    assert body["messages"][0]["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert lost == {"cache_control": "hint"}


def test_thoughts_go_back_only_where_they_are_worth_something() -> None:
    def thoughts(block: Thinking, profile: Profile = PROFILE) -> tuple[Any, dict[str, str]]:
        body, lost = written(talk(say("assistant", block, Text(text="x"))), profile)
        return body["messages"][0].get("reasoning_content"), lost

    assert thoughts(Thinking(text="hm", format="openai.chat")) == ("hm", {})
    assert thoughts(Thinking(text="hm", format="anthropic")) == ("hm", {}), "nobody signed it"
    signed = Thinking(text="hm", signature="s", format="anthropic")
    assert thoughts(signed) == (None, {"messages.thinking": "hint"})
    assert thoughts(Thinking(redacted="r", format="anthropic")) == (None, {"messages.thinking": "hint"})
    plain = Profile(model="m", thinking="none")
    assert thoughts(Thinking(text="hm", format="openai.chat"), plain) == (None, {"messages.thinking": "hint"})


def test_thinking_blocks_never_reach_a_server_as_content() -> None:
    body, _ = written(talk(say("assistant", Thinking(text="hm", signature="s", format="anthropic"))))
    assert body["messages"] == []


def test_own_reasoning_details_go_back_as_they_came() -> None:
    details = Opaque(format="openai.chat", kind="reasoning_details", raw=Raw(b'[{"type":"reasoning.text"}]'))
    body, lost = written(talk(say("assistant", Text(text="x"), details)))
    assert body["messages"][0]["reasoning_details"] == [{"type": "reasoning.text"}]
    assert lost == {}


def test_what_only_others_know_is_named() -> None:
    body, lost = written(
        talk(
            say(
                "user",
                Text(text="x"),
                Opaque(format="anthropic", kind="web_search_tool_result", raw=Raw(b"{}")),
                Document(source=Source(kind="url", value="https://example.com/a.pdf")),
                Image(source=Source(kind="file", value="file_1")),
                Audio(source=Source(kind="url", value="https://example.com/a.mp3")),
                Video(source=Source(kind="file", value="f")),
            ),
            say("assistant", Text(text="y", citations=(Citation(url="https://example.com"),))),
            top_k=4,
            min_p=0.1,
            metadata={"a": "b"},
            service_tier="standard_only",
            previous_response_id="resp_1",
            extra=(Extra(format="anthropic", name="container", raw=Raw(b'"c"')),),
            reasoning=Reasoning(summary="detailed"),
        )
    )
    assert lost == {
        "messages.web_search_tool_result": "meaning",
        "messages.document": "meaning",
        "messages.image": "meaning",
        "messages.audio": "meaning",
        "messages.video": "meaning",
        "messages.citations": "hint",
        "top_k": "hint",
        "min_p": "hint",
        "metadata": "hint",
        "service_tier": "hint",
        "previous_response_id": "meaning",
        "container": "hint",
        "reasoning.summary": "hint",
    }
    assert body["messages"][0]["content"] == "x"


def test_what_the_model_cannot_take_is_named() -> None:
    blind = Profile(model="m", images=False, documents=False, audio=False, tools=False, schema=False)
    body, lost = written(
        talk(
            say(
                "user",
                Text(text="x"),
                Image(source=Source(kind="data", value=PIXEL)),
                Document(source=Source(kind="data", value="JVBERi0=")),
                Audio(source=Source(kind="data", value="AAAA")),
            ),
            say("assistant", call("a", "1", '{"k":1}')),
            say("user", result("1", Text(text="A"))),
            tools=(Tool(name="a"),),
            tool_choice=ToolChoice(mode="required"),
            response_format=ResponseFormat(kind="json_schema", schema=Raw(b"{}")),
        ),
        blind,
    )
    assert lost == dict.fromkeys(
        ("messages.image", "messages.document", "messages.audio", "tools", "tool_choice", "response_format"),
        "meaning",
    )
    assert "tools" not in body
    assert "tool_choice" not in body
    told = json.dumps(body["messages"])
    assert "called tool a" in told
    assert "tool_calls" not in told


def test_a_text_document_is_text() -> None:
    body, lost = written(talk(say("user", Document(text="body", title="Title"))))
    assert body["messages"][0]["content"] == "Title\n\nbody"
    assert lost == {}


def test_metadata_is_written_where_answers_are_stored() -> None:
    body, lost = written(talk(metadata={"a": "b"}, store=True))
    assert (body["metadata"], lost) == ({"a": "b"}, {})


def test_allowed_tools_are_those_that_are_offered() -> None:
    tools = (Tool(name="a"), Tool(name="b"))
    body, lost = written(talk(tools=tools, tool_choice=ToolChoice(mode="required", allowed=("b",))))
    assert [tool["function"]["name"] for tool in body["tools"]] == ["b"]
    assert (body["tool_choice"], lost) == ("required", {})


def test_choosing_a_custom_tool() -> None:
    tools = (Tool(name="sh", custom=True, schema=Raw()),)
    body, _ = written(talk(tools=tools, tool_choice=ToolChoice(mode="named", name="sh")))
    assert body["tool_choice"] == {"type": "custom", "custom": {"name": "sh"}}


def test_settings_of_tools_without_tools_are_left_out() -> None:
    body, lost = written(talk(parallel_tool_calls=True, tool_choice=ToolChoice(mode="auto")))
    assert "parallel_tool_calls" not in body
    assert "tool_choice" not in body
    assert lost == {}


def test_web_search_of_other_formats() -> None:
    asked = ServerTool(
        kind="web_search",
        format="anthropic",
        raw=Raw(
            b'{"type":"web_search_20250305","name":"web_search","max_uses":3,"allowed_domains":["a.com"],'
            b'"user_location":{"type":"approximate","city":"Bern","country":"CH"}}'
        ),
    )
    body, lost = written(talk(tools=(asked, ServerTool(kind="bash", format="anthropic", raw=Raw(b"{}")))))
    assert body["web_search_options"] == {
        "user_location": {"type": "approximate", "approximate": {"city": "Bern", "country": "CH"}}
    }
    assert lost == {
        "tools.web_search.max_uses": "hint",
        "tools.web_search.domains": "meaning",
        "tools.bash": "meaning",
    }


@pytest.mark.parametrize(
    ("wanted", "effort", "lost"),
    [
        (Reasoning(effort="xhigh"), "xhigh", {}),
        (Reasoning(enabled=True, budget=1024), "low", {}),
        (Reasoning(enabled=True, budget=2000), "medium", {}),
        (Reasoning(enabled=True, budget=31999), "high", {}),
        (Reasoning(enabled=True), "medium", {}),
        (Reasoning(enabled=True, adaptive=True), None, {}),
        (Reasoning(enabled=True, budget=-1), None, {}),
        (Reasoning(enabled=False), None, {"reasoning": "hint"}),
        (Reasoning(enabled=False, effort="none"), "none", {}),
        (Reasoning(effort="enormous"), None, {"reasoning.effort": "hint"}),
    ],
)
def test_levels_of_reasoning(wanted: Reasoning, effort: str | None, lost: dict[str, str]) -> None:
    body, found = written(talk(reasoning=wanted))
    assert (body.get("reasoning_effort"), found) == (effort, lost)


def test_a_model_that_cannot_think_is_not_asked_to() -> None:
    body, lost = written(talk(reasoning=Reasoning(effort="high")), Profile(model="m", thinking="none"))
    assert "reasoning_effort" not in body
    assert lost == {"reasoning": "hint"}


def test_streams_ask_for_usage() -> None:
    body, _ = written(talk(stream=True))
    assert body["stream_options"] == {"include_usage": True}
    assert "stream_options" not in written(talk())[0]


# ------------------------------------------------------------------ properties

words = st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=12)
sources = st.builds(
    Source, kind=st.just("data"), value=st.just(PIXEL), media_type=st.just("image/png")
) | st.builds(Source, kind=st.just("url"), value=st.just("https://example.com/a.png"))
user_blocks = st.one_of(
    st.builds(Text, text=words),
    st.builds(Image, source=sources, detail=st.none() | st.just("low")),
    st.builds(Document, source=st.just(Source(kind="file", value="file-1"))),
)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    messages: list[Message] = []
    for turn in range(draw(st.integers(1, 4))):
        messages.append(say("user", *draw(st.lists(user_blocks, min_size=1, max_size=3))))
        calls = [
            ToolCall(id=f"c{turn}_{place}", name=f"f{place}", arguments='{"a": 1}')
            for place in range(draw(st.integers(0, 2)))
        ]
        text = draw(st.none() | words)
        if text is None and not calls:
            text = "."
        said: list[Block] = [Thinking(text="hm", format="openai.chat")] if draw(st.booleans()) else []
        said += [Text(text=text)] if text else []
        messages.append(say("assistant", *said, *calls))
        for made in calls:
            answer = ToolResult(call_id=made.id, name=made.name, content=(Text(text=draw(words)),))
            messages.append(say("user", answer))
    return Conversation(
        model="gpt-4o",
        messages=tuple(messages),
        temperature=draw(st.none() | st.floats(0, 2)),
        stop=tuple(draw(st.lists(words, max_size=3))),
        n=draw(st.integers(1, 3)),
        seed=draw(st.none() | st.integers(0, 2**31)),
        max_tokens=draw(st.none() | st.integers(1, 1000)),
        format="openai.chat",
    )


@settings(max_examples=150, deadline=None)
@given(conversations())
def test_reading_what_was_written_keeps_the_meaning(asked: Conversation) -> None:
    found = CODEC.write_request(asked, PROFILE)
    assert found.lost == ()
    assert CODEC.read_request(found.body) == asked
