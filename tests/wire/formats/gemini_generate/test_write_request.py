"""Conversations written as generateContent bodies: what Gemini insists on, and what gets lost."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, structs

from tollway.errors import BadRequest
from tollway.wire.codec import Profile
from tollway.wire.conversation import (
    Audio,
    Block,
    Cache,
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
    Written,
)
from tollway.wire.formats.gemini_generate import CODEC
from tollway.wire.formats.gemini_generate.signatures import FOREIGN_CALL
from tollway.wire.formats.gemini_generate.turns import BEGUN, NO_RESULT

GOLDEN = Path(__file__).parents[3] / "golden" / "gemini_generate"
NEW = Profile(model="gemini-3-pro-preview", thinking="effort")
OLD = Profile(model="gemini-2.5-flash")
FUNCTION = Tool(name="f", schema=Raw(b'{"type":"object","properties":{"a":{"type":"string"}}}'))


def says(role: Any, *blocks: Block, **more: Any) -> Message:
    return Message(role=role, blocks=blocks, **more)


def write(*messages: Message, profile: Profile = NEW, **fields: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """The body, checked by the SDK's own types, and the losses by name."""
    written = CODEC.write_request(Conversation(model="x", messages=messages, **fields), profile)
    assert len({loss.field for loss in written.lost}) == len(written.lost)
    return checked(written), {loss.field: loss.weight for loss in written.lost}


def checked(written: Written) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(written.body)
    assert "model" not in body
    for content in body["contents"]:
        types.Content.model_validate(content)
    if "systemInstruction" in body:
        types.Content.model_validate(body["systemInstruction"])
    for tool in body.get("tools", ()):
        types.Tool.model_validate(tool)
    if "toolConfig" in body:
        types.ToolConfig.model_validate(body["toolConfig"])
    config = body.get("generationConfig", {})
    types.GenerateContentConfig.model_validate(config)
    return body


def contents(*messages: Message, profile: Profile = NEW) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = write(*messages, profile=profile)[0]["contents"]
    return found


HI = says("user", Text(text="hi"))


# ------------------------------------------------------------------ the same again


def test_golden_request_comes_back() -> None:
    before = msgspec.json.decode((GOLDEN / "request.json").read_bytes())
    written = CODEC.write_request(CODEC.read_request(msgspec.json.encode(before)), NEW)
    assert checked(written) == {name: value for name, value in before.items() if name != "model"}
    assert written.lost == ()


TEXTS = st.text(min_size=1, max_size=20)
SIGNATURES = st.none() | st.binary(min_size=1, max_size=9).map(lambda data: base64.b64encode(data).decode())
JSONS = st.dictionaries(
    st.text(max_size=5),
    st.integers(-(2**53), 2**53) | st.text(max_size=5) | st.booleans() | st.none(),
    max_size=3,
).map(lambda value: msgspec.json.encode(value).decode())
SPOKEN = st.one_of(
    st.builds(Text, text=TEXTS, signature=SIGNATURES),
    st.builds(Thinking, text=TEXTS, signature=SIGNATURES, summary=st.just(True), format=st.just("gemini")),
)
DATA = st.binary(min_size=1, max_size=20).map(lambda data: base64.b64encode(data).decode())
HEARD = st.one_of(
    st.builds(Text, text=TEXTS),
    st.builds(
        Image, source=st.builds(Source, kind=st.just("data"), value=DATA, media_type=st.just("image/png"))
    ),
    st.builds(
        Audio, source=st.builds(Source, kind=st.just("data"), value=DATA, media_type=st.just("audio/wav"))
    ),
    st.builds(Document, text=TEXTS),
)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    messages = []
    number = 0
    for _ in range(draw(st.integers(1, 4))):
        messages.append(says("user", *draw(st.lists(HEARD, min_size=1, max_size=3))))
        calls = []
        for name, arguments, signature in draw(
            st.lists(st.tuples(st.sampled_from(("f", "g")), JSONS, SIGNATURES), max_size=3)
        ):
            number += 1
            calls.append(ToolCall(id=f"id{number}", name=name, arguments=arguments, signature=signature))
        messages.append(says("assistant", *draw(st.lists(SPOKEN, min_size=1, max_size=3)), *calls))
        if calls:
            results = [
                ToolResult(
                    call_id=call.id,
                    name=call.name,
                    content=(Text(text=draw(TEXTS)),),
                    error=draw(st.booleans()),
                )
                for call in calls
            ]
            messages.append(says("user", *results))
            messages.append(says("assistant", Text(text="so")))
    return tuple(messages)


@given(conversations())
@settings(max_examples=80, deadline=None)
def test_what_is_written_reads_the_same(messages: tuple[Message, ...]) -> None:
    written = CODEC.write_request(Conversation(model="x", messages=messages), OLD)
    assert written.lost == ()
    checked(written)
    assert CODEC.read_request(written.body).messages == messages


@given(
    st.text(max_size=30) | JSONS | JSONS.map(lambda text: f'{{"output":{text}}}') | st.just('{"error":"x"}')
)
@settings(max_examples=100, deadline=None)
def test_any_text_of_a_tool_comes_back(text: str) -> None:
    call = says("assistant", ToolCall(id="1", name="f"))
    result = says("user", ToolResult(call_id="1", content=(Text(text=text),)))
    written = CODEC.write_request(Conversation(model="x", messages=(HI, call, result)), OLD)
    (block,) = CODEC.read_request(written.body).messages[2].blocks
    assert isinstance(block, ToolResult)
    assert not block.error
    told = "".join(piece.text for piece in block.content if isinstance(piece, Text))
    assert told == text or (msgspec.json.decode(text) == {} and told == "")


# ------------------------------------------------------------------ turns


def test_turns_of_one_role_are_joined() -> None:
    found = contents(
        HI,
        says("user", Text(text="again")),
        says("assistant", Text(text="a")),
        says("assistant", Text(text="b")),
        HI,
    )
    assert [(content["role"], len(content["parts"])) for content in found] == [
        ("user", 2),
        ("model", 2),
        ("user", 1),
    ]


def test_system_and_developer_turns_become_the_instruction() -> None:
    body, lost = write(says("system", Text(text="a")), says("developer", Text(text="b")), HI)
    assert body["systemInstruction"] == {"parts": [{"text": "a"}, {"text": "b"}]}
    assert lost == {}
    body, lost = write(HI, says("system", Text(text="late")), HI)
    assert body["systemInstruction"] == {"parts": [{"text": "late"}]}
    assert lost == {"messages.system": "hint"}


def test_a_conversation_of_system_turns_only_is_asked_by_the_user() -> None:
    body, _ = write(says("system", Text(text="Write a poem.")))
    assert body == {"contents": [{"role": "user", "parts": [{"text": "Write a poem."}]}]}


def test_a_conversation_without_words_is_refused() -> None:
    with pytest.raises(BadRequest) as refused:
        write(says("user", Text(text="")))
    assert refused.value.param == "messages"


def test_a_conversation_begins_with_the_user() -> None:
    found = contents(says("assistant", Text(text="Welcome!")), HI)
    assert found[0] == {"role": "user", "parts": [{"text": BEGUN}]}


def test_empty_texts_are_left_out() -> None:
    found = contents(says("user", Text(text=""), Text(text="hi")), says("assistant", Text(text="")), HI)
    assert found == [{"role": "user", "parts": [{"text": "hi"}, {"text": "hi"}]}]


def test_results_stand_behind_their_calls_in_order_and_apart_from_words() -> None:
    found = contents(
        HI,
        says("assistant", ToolCall(id="a", name="f"), ToolCall(id="b", name="g")),
        says("user", Text(text="wait"), ToolResult(call_id="b", content=(Text(text="B"),))),
        says("assistant", Text(text="waiting")),
        says("user", ToolResult(call_id="a", content=(Text(text="A"),)), Text(text="now")),
    )
    assert [content["role"] for content in found] == ["user", "model", "user", "user", "model", "user"]
    responses = [part["functionResponse"] for part in found[2]["parts"]]
    assert [(each["id"], each["name"], each["response"]) for each in responses] == [
        ("a", "f", {"output": "A"}),
        ("b", "g", {"output": "B"}),
    ]
    assert found[3]["parts"] == [{"text": "wait"}]
    assert found[5]["parts"] == [{"text": "now"}]


def test_calls_in_turns_of_their_own_are_one_step() -> None:
    found = contents(
        HI,
        says("assistant", ToolCall(id="a", name="f")),
        says("assistant", ToolCall(id="b", name="f")),
        says("user", ToolResult(call_id="a", content=(Text(text="A"),))),
        says("user", ToolResult(call_id="b", content=(Text(text="B"),))),
    )
    assert [len(content["parts"]) for content in found] == [1, 2, 2]


def test_an_id_used_twice_finds_the_result_behind_each_call() -> None:
    step = lambda text: (  # noqa: E731
        says("assistant", ToolCall(id="same", name="f")),
        says("user", ToolResult(call_id="same", content=(Text(text=text),))),
    )
    found = contents(HI, *step("1"), *step("2"))
    assert [content["parts"][0]["functionResponse"]["response"]["output"] for content in found[2::2]] == [
        "1",
        "2",
    ]


def test_a_call_without_a_result_gets_one_that_says_so() -> None:
    found = contents(HI, says("assistant", ToolCall(id="a", name="f")), HI)
    assert found[2]["parts"] == [
        {"functionResponse": {"id": "a", "name": "f", "response": {"error": NO_RESULT}}}
    ]
    assert found[3]["parts"] == [{"text": "hi"}]


def test_a_result_without_a_call_becomes_text() -> None:
    body, lost = write(says("user", ToolResult(call_id="gone", name="f", content=(Text(text="42"),))))
    (part,) = body["contents"][0]["parts"]
    assert "f" in part["text"]
    assert "42" in part["text"]
    assert lost == {"messages.tool_result": "hint"}


@pytest.mark.parametrize("arguments", ["", "  ", "{}"])
def test_empty_arguments_are_an_empty_object(arguments: str) -> None:
    found = contents(HI, says("assistant", ToolCall(id="a", name="f", arguments=arguments)))
    assert found[1]["parts"][0]["functionCall"]["args"] == {}


@pytest.mark.parametrize("arguments", ['{"a":', "[1]", '"x"', "null"])
def test_arguments_that_are_no_object_are_refused_with_their_turn(arguments: str) -> None:
    with pytest.raises(BadRequest, match="'f'") as refused:
        contents(HI, says("assistant", Text(text="x"), ToolCall(id="a", name="f", arguments=arguments)))
    assert refused.value.param == "messages.1.content.1"


def test_free_text_of_custom_tools_is_wrapped() -> None:
    found = contents(HI, says("assistant", ToolCall(id="a", name="f", arguments="ls -l", custom=True)))
    assert found[1]["parts"][0]["functionCall"]["args"] == {"input": "ls -l"}


def test_a_failed_tool_says_so() -> None:
    found = contents(
        HI,
        says("assistant", ToolCall(id="a", name="f")),
        says("user", ToolResult(call_id="a", content=(Text(text="no"),), error=True)),
    )
    assert found[2]["parts"][0]["functionResponse"]["response"] == {"error": "no"}


# ------------------------------------------------------------------ signatures and thoughts


def test_the_first_call_of_a_foreign_step_gets_the_documented_signature() -> None:
    step = says("assistant", ToolCall(id="a", name="f"), ToolCall(id="b", name="f"))
    signatures = [part.get("thoughtSignature") for part in contents(HI, step)[1]["parts"]]
    assert signatures == [FOREIGN_CALL, None]
    assert FOREIGN_CALL == "skip_thought_signature_validator"
    old = contents(HI, step, profile=OLD)[1]["parts"]
    assert all("thoughtSignature" not in part for part in old)


def test_real_signatures_stay_where_they_were() -> None:
    step = says(
        "assistant",
        Text(text="x", signature="dA=="),
        ToolCall(id="a", name="f", signature="Yw=="),
        ToolCall(id="b", name="f"),
    )
    assert [part.get("thoughtSignature") for part in contents(HI, step)[1]["parts"]] == ["dA==", "Yw==", None]
    image = Image(source=Source(kind="data", value="aGk=", media_type="image/png"), signature="aQ==")
    assert contents(HI, says("assistant", image))[1]["parts"][0]["thoughtSignature"] == "aQ=="


@pytest.mark.parametrize(
    ("model", "signed"),
    [
        ("gemini-3-pro-preview", True),
        ("models/gemini-3.5-flash", True),
        ("gemini-flash-latest", True),
        ("google/gemini-4", True),
        ("gemini-2.0-flash", False),
        ("publishers/google/models/gemini-2.5-pro", False),
        ("gemma-3-27b-it", False),
    ],
)
def test_which_models_want_signatures(model: str, signed: bool) -> None:
    found = contents(HI, says("assistant", ToolCall(id="a", name="f")), profile=Profile(model=model))
    assert ("thoughtSignature" in found[1]["parts"][0]) is signed


def test_thoughts_of_others_are_lost() -> None:
    body, lost = write(
        HI, says("assistant", Thinking(text="hm", signature="s", format="anthropic"), Text(text="a"))
    )
    assert body["contents"][1]["parts"] == [{"text": "a"}]
    assert lost == {"messages.thinking": "hint"}


def test_opaque_blocks() -> None:
    own = Opaque(
        format="gemini",
        kind="executableCode",
        raw=Raw(b'{"executableCode":{"language":"PYTHON","code":"1"}}'),
    )
    beside = Opaque(format="gemini", kind="groundingMetadata", raw=Raw(b"{}"))
    other = Opaque(format="anthropic", kind="server_tool_use", raw=Raw(b"{}"))
    body, lost = write(HI, says("assistant", own, beside, other))
    assert body["contents"][1]["parts"] == [{"executableCode": {"language": "PYTHON", "code": "1"}}]
    assert lost == {"messages.server_tool_use": "meaning"}


def test_words_behind_an_opaque_part_of_the_user() -> None:
    own = Opaque(format="gemini", kind="newKind", raw=Raw(b'{"text":"x"}'))
    assert contents(says("user", own), HI) == [{"role": "user", "parts": [{"text": "x"}, {"text": "hi"}]}]


# ------------------------------------------------------------------ attachments


def test_attachments() -> None:
    blocks: list[Block] = [
        Image(source=Source(kind="url", value="https://x.example/a.png?s=1")),
        Image(source=Source(kind="data", value="/9j/4AAQ")),
        Image(source=Source(kind="file", value="gs://b/a", media_type="image/png"), detail="high"),
        Document(source=Source(kind="file", value="files/abc", media_type="application/pdf")),
        Video(source=Source(kind="url", value="https://youtu.be/x"), metadata=Raw(b'{"fps":2}')),
        Refusal(text="no"),
    ]
    body, lost = write(says("user", *blocks))
    assert body["contents"][0]["parts"] == [
        {"fileData": {"fileUri": "https://x.example/a.png?s=1", "mimeType": "image/png"}},
        {"inlineData": {"mimeType": "image/jpeg", "data": "/9j/4AAQ"}},
        {
            "fileData": {"fileUri": "gs://b/a", "mimeType": "image/png"},
            "mediaResolution": {"level": "MEDIA_RESOLUTION_HIGH"},
        },
        {"fileData": {"fileUri": "files/abc", "mimeType": "application/pdf"}},
        {"fileData": {"fileUri": "https://youtu.be/x"}, "videoMetadata": {"fps": 2}},
        {"text": "no"},
    ]
    assert lost == {}


def test_what_cannot_be_attached_is_named() -> None:
    image = Image(source=Source(kind="data", value="aGk="), detail="original")
    blind = Profile(model="gemini-3-pro", images=False, audio=False, documents=False)
    audio = Audio(source=Source(kind="data", value="aGk="))
    paper = Document(
        source=Source(kind="url", value="https://x.example/a.pdf"), title="t", context="c", citations=True
    )
    assert write(HI, says("user", image, audio, paper), profile=blind)[1] == {
        "messages.image": "meaning",
        "messages.audio": "meaning",
        "messages.document": "meaning",
        "messages.document.title": "hint",
        "messages.document.context": "hint",
        "messages.document.citations": "hint",
    }
    assert write(HI, says("user", image))[1] == {"messages.image.detail": "hint"}
    foreign = Image(source=Source(kind="file", value="file-abc"))
    assert write(HI, says("user", foreign))[1] == {"messages.image": "meaning"}


def test_pictures_of_tools_stand_in_the_response_or_beside_it() -> None:
    call = says("assistant", ToolCall(id="a", name="f"))
    image = Image(source=Source(kind="data", value="aGk=", media_type="image/png"))
    result = says("user", ToolResult(call_id="a", content=(Text(text="see"), image)))
    inline = {"inlineData": {"mimeType": "image/png", "data": "aGk="}}
    new = contents(HI, call, result)
    assert new[2]["parts"][0]["functionResponse"]["parts"] == [inline]
    assert len(new) == 3
    old = contents(HI, call, result, profile=OLD)
    assert "parts" not in old[2]["parts"][0]["functionResponse"]
    assert old[3]["parts"] == [inline]


# ------------------------------------------------------------------ tools


def test_functions_and_choice() -> None:
    body, lost = write(HI, tools=(structs.replace(FUNCTION, description="d", strict=True), Tool(name="g")))
    assert body["tools"] == [
        {
            "functionDeclarations": [
                {
                    "name": "f",
                    "description": "d",
                    "parametersJsonSchema": msgspec.json.decode(FUNCTION.schema),
                },
                {"name": "g"},
            ]
        }
    ]
    assert lost == {"tools.strict": "hint"}


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        (ToolChoice(), {"mode": "AUTO"}),
        (ToolChoice(allowed=("f",)), {"mode": "VALIDATED", "allowedFunctionNames": ["f"]}),
        (ToolChoice(mode="none"), {"mode": "NONE"}),
        (ToolChoice(mode="required"), {"mode": "ANY"}),
        (
            ToolChoice(mode="required", allowed=("f", "g")),
            {"mode": "ANY", "allowedFunctionNames": ["f", "g"]},
        ),
        (ToolChoice(mode="named", name="f"), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_choices(choice: ToolChoice, config: dict[str, Any]) -> None:
    body, lost = write(HI, tools=(FUNCTION,), tool_choice=choice)
    assert body["toolConfig"] == {"functionCallingConfig": config}
    assert lost == {}


@pytest.mark.parametrize("name", ["", "1f", "a b", "ü", "x" * 129])
def test_names_gemini_refuses_are_refused_here(name: str) -> None:
    with pytest.raises(BadRequest) as refused:
        write(HI, tools=(FUNCTION, Tool(name=name)))
    assert refused.value.param == "tools.1.name"


def test_server_tools_of_others_become_googles() -> None:
    def tool(kind: str, raw: bytes) -> ServerTool:
        return ServerTool(kind=kind, name=kind, format="openai", raw=Raw(raw))

    body, lost = write(
        HI,
        tools=(
            tool("web_search", b'{"type":"web_search","search_context_size":"low"}'),
            tool("code_execution", b'{"type":"code_interpreter"}'),
            tool("web_fetch", b'{"type":"web_fetch"}'),
            tool("url_context", b"{}"),
            tool(
                "mcp",
                b'{"type":"mcp","server_label":"s","server_url":"https://m.example","authorization":"t","server_description":"d"}',
            ),
            ServerTool(
                kind="maps",
                name="googleMaps",
                format="gemini",
                raw=Raw(b'{"googleMaps":{"enableWidget":true}}'),
            ),
        ),
    )
    assert body["tools"] == [
        {"googleSearch": {}},
        {"codeExecution": {}},
        {"urlContext": {}},
        {
            "mcpServers": [
                {
                    "name": "s",
                    "streamableHttpTransport": {
                        "url": "https://m.example",
                        "headers": {"Authorization": "Bearer t"},
                    },
                }
            ]
        },
        {"googleMaps": {"enableWidget": True}},
    ]
    assert lost == {"tools.web_search.search_context_size": "hint", "tools.mcp.server_description": "hint"}


@pytest.mark.parametrize(
    "tool",
    [
        ServerTool(kind="bash", format="anthropic", raw=Raw(b"{}")),
        ServerTool(
            kind="mcp",
            format="openai",
            raw=Raw(b'{"server_url":"https://m.example","require_approval":"always"}'),
        ),
        ServerTool(kind="file_search", format="openai", raw=Raw(b"{}")),
        Tool(name="f", custom=True),
    ],
)
def test_tools_that_mean_something_else_are_lost(tool: Tool | ServerTool) -> None:
    body, lost = write(HI, tools=(tool,), tool_choice=ToolChoice(mode="required"))
    assert "tools" not in body
    assert "toolConfig" not in body
    kind = tool.kind if isinstance(tool, ServerTool) else "custom"
    assert lost == {f"tools.{kind}": "meaning", "tool_choice": "meaning"}


def test_a_model_without_tools() -> None:
    _, lost = write(HI, tools=(FUNCTION,), profile=Profile(model="gemini-3-pro", tools=False))
    assert lost == {"tools": "meaning"}


# ------------------------------------------------------------------ settings


def test_answers_in_json() -> None:
    schema = Raw(b'{"type":"object","additionalProperties":false}')
    wanted = ResponseFormat(kind="json_schema", schema=schema, strict=True)
    body, lost = write(HI, response_format=wanted)
    assert body["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object", "additionalProperties": False},
    }
    assert lost == {}
    body, lost = write(HI, response_format=ResponseFormat(kind="json_object"))
    assert body["generationConfig"] == {"responseMimeType": "application/json"}
    assert write(HI, response_format=wanted, tools=(FUNCTION,))[1] == {}
    assert write(HI, response_format=wanted, tools=(FUNCTION,), profile=OLD)[1] == {
        "response_format": "meaning"
    }
    plain = Profile(model="gemini-3-pro", schema=False)
    assert write(HI, response_format=wanted, profile=plain)[1] == {"response_format": "meaning"}


@pytest.mark.parametrize(
    ("model", "thinking", "reasoning", "config", "lost"),
    [
        ("gemini-2.5-flash", "budget", Reasoning(effort="low"), {"thinkingBudget": 1024}, {}),
        ("gemini-2.5-flash", "budget", Reasoning(effort="medium"), {"thinkingBudget": 8192}, {}),
        ("gemini-2.5-flash", "budget", Reasoning(effort="max"), {"thinkingBudget": 24576}, {}),
        ("gemini-2.5-pro", "budget", Reasoning(effort="max"), {"thinkingBudget": 32768}, {}),
        ("gemini-2.5-flash", "budget", Reasoning(effort="none"), {"thinkingBudget": 0}, {}),
        (
            "gemini-2.5-pro",
            "budget",
            Reasoning(enabled=False, show=True),
            {"thinkingBudget": 128, "includeThoughts": True},
            {"reasoning.enabled": "hint"},
        ),
        ("gemini-2.5-flash-lite", "budget", Reasoning(budget=100), {"thinkingBudget": 512}, {}),
        (
            "gemini-2.5-flash",
            "budget",
            Reasoning(enabled=True, budget=5000, show=True),
            {"thinkingBudget": 5000, "includeThoughts": True},
            {},
        ),
        ("gemini-2.5-flash", "budget", Reasoning(adaptive=True), {"thinkingBudget": -1}, {}),
        ("gemini-2.5-flash", "budget", Reasoning(effort="odd"), {}, {"reasoning.effort": "hint"}),
        ("gemini-3-flash-preview", "budget", Reasoning(effort="minimal"), {"thinkingLevel": "MINIMAL"}, {}),
        ("gemini-3-pro-preview", "effort", Reasoning(effort="medium"), {"thinkingLevel": "HIGH"}, {}),
        ("gemini-3.1-pro-preview", "effort", Reasoning(effort="medium"), {"thinkingLevel": "MEDIUM"}, {}),
        (
            "gemini-3-flash-preview",
            "effort",
            Reasoning(enabled=False),
            {"thinkingLevel": "MINIMAL"},
            {"reasoning.enabled": "hint"},
        ),
        ("gemini-3-flash-preview", "effort", Reasoning(budget=4096), {"thinkingLevel": "MEDIUM"}, {}),
        (
            "gemini-3-flash-preview",
            "effort",
            Reasoning(effort="xhigh", summary="auto"),
            {"thinkingLevel": "HIGH", "includeThoughts": True},
            {"reasoning.effort": "hint"},
        ),
        ("gemini-3-flash-preview", "effort", Reasoning(enabled=True, adaptive=True), {}, {}),
        ("gemini-2.0-flash", "none", Reasoning(effort="high"), {}, {"reasoning": "hint"}),
        ("gemini-2.0-flash", "none", Reasoning(effort="none"), {}, {}),
    ],
)
def test_thinking(
    model: str, thinking: str, reasoning: Reasoning, config: dict[str, Any], lost: dict[str, str]
) -> None:
    body, found = write(HI, reasoning=reasoning, profile=Profile(model=model, thinking=thinking))
    assert body.get("generationConfig", {}).get("thinkingConfig", {}) == config
    assert found == lost


def test_an_effort_leaves_half_of_the_answer() -> None:
    body, _ = write(HI, reasoning=Reasoning(effort="high"), max_tokens=1000, profile=OLD)
    assert body["generationConfig"] == {"maxOutputTokens": 1000, "thinkingConfig": {"thinkingBudget": 500}}


def test_speech() -> None:
    body, lost = write(HI, modalities=("text", "audio"), audio=Raw(b'{"voice":"Kore","format":"wav"}'))
    assert body["generationConfig"] == {
        "responseModalities": ["AUDIO"],
        "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Kore"}}},
    }
    assert lost == {"audio.format": "hint"}
    body, _ = write(HI, modalities=("text", "image"))
    assert body["generationConfig"] == {"responseModalities": ["TEXT", "IMAGE"]}


def test_losses() -> None:
    _, lost = write(
        says("user", Text(text="hi", cache=Cache()), name="Ann"),
        min_p=0.1,
        verbosity="low",
        metadata={"a": "b"},
        user="u",
        safety_identifier="s",
        prompt_cache_key="k",
        prediction=Raw(b'{"type":"content"}'),
        previous_response_id="resp_1",
        parallel_tool_calls=False,
        service_tier="scale",
        seed=2**40,
        stop=tuple("abcdef"),
        modalities=("smell",),
        extra=(Extra(format="openai", name="logit_bias", raw=Raw(b"{}")),),
    )
    hints = (
        "cache_control messages.name min_p verbosity metadata user safety_identifier prompt_cache_key prediction "
        "parallel_tool_calls service_tier seed logit_bias"
    )
    assert {name for name, weight in lost.items() if weight == "hint"} == set(hints.split())
    assert {name for name, weight in lost.items() if weight == "meaning"} == {
        "previous_response_id",
        "stop",
        "modalities",
    }


def test_fields_beside_a_part_are_named_once() -> None:
    body = {
        "contents": [
            {"role": "user", "parts": [{"text": "a", "partMetadata": {}}, {"text": "b", "partMetadata": {}}]}
        ]
    }
    written = CODEC.write_request(CODEC.read_request(msgspec.json.encode(body)), NEW)
    assert written.lost == (Loss("contents.parts.partMetadata", "hint"),)
