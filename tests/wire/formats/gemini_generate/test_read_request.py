"""generateContent requests read into the hub, in both spellings, with errors that name their place."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.genai import types
from msgspec import Raw

from tollway.errors import BadRequest, InvalidJson
from tollway.wire.codec import Profile
from tollway.wire.conversation import (
    Audio,
    Conversation,
    Document,
    Image,
    Opaque,
    Reasoning,
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
from tollway.wire.formats.gemini_generate import CODEC

GOLDEN = Path(__file__).parents[3] / "golden" / "gemini_generate"


def read(body: dict[str, Any]) -> Conversation:
    return CODEC.read_request(json.dumps(body).encode())


def user(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": list(parts)}], **more}


def blocks(*parts: dict[str, Any]) -> tuple[Any, ...]:
    return read(user(*parts)).messages[0].blocks


def snake(value: Any) -> Any:
    """Every key of a request in snake_case, save those that users name."""
    if isinstance(value, list):
        return [snake(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = ("args", "response", "parametersJsonSchema", "responseJsonSchema", "labels", "speechConfig")
    return {
        re.sub("([A-Z])", lambda match: "_" + match[1].lower(), key): each if key in kept else snake(each)
        for key, each in value.items()
    }


def test_golden_request() -> None:
    found = CODEC.read_request((GOLDEN / "request.json").read_bytes())
    assert found.model == "gemini-3-pro-preview"
    assert found.format == "gemini.generate"
    assert [message.role for message in found.messages] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    asked, called, answered, said = (message.blocks for message in found.messages[1:5])
    assert asked[1] == Image(
        source=Source(kind="data", value="iVBORw0KGgo=", media_type="image/png"), detail="high"
    )
    assert isinstance(asked[2], Document)
    assert asked[2].source is not None
    assert asked[2].source.kind == "file"
    assert isinstance(asked[3], Video)
    assert asked[3].source == Source(kind="url", value="https://www.youtube.com/watch?v=xyz")
    assert msgspec.json.decode(asked[3].metadata)["endOffset"] == "20s"
    assert called == (
        Thinking(text="I look at both cities.", summary=True, format="gemini"),
        Text(text="Let me see."),
        ToolCall(id="fc-1", name="get_weather", arguments='{"city": "Paris"}', signature="c2lnLWE="),
        ToolCall(id="fc-2", name="get_weather", arguments='{"city": "Köln", "days": 2}'),
    )
    assert answered[0] == ToolResult(call_id="fc-1", name="get_weather", content=(Text(text="sunny"),))
    assert isinstance(answered[1], ToolResult)
    (other,) = answered[1].content
    assert isinstance(other, Text)
    assert other.text == '{"temperature": 12.50, "sky": ["grey", "rain"]}'  # every byte kept
    assert [block.kind for block in said if isinstance(block, Opaque)] == [
        "executableCode",
        "codeExecutionResult",
    ]
    assert said[2] == Text(text="Paris is nicer.", signature="c2lnLWI=")
    weather, now, search, code = found.tools
    assert isinstance(weather, Tool)
    assert msgspec.json.decode(weather.schema)["required"] == ["city"]
    assert isinstance(now, Tool)
    assert now.schema == Tool(name="x").schema
    assert [each.kind for each in (search, code) if isinstance(each, ServerTool)] == [
        "web_search",
        "code_execution",
    ]
    assert found.tool_choice == ToolChoice(mode="required", allowed=("get_weather", "now"))
    assert (found.temperature, found.top_p, found.top_k, found.max_tokens) == (0.5, 0.9, 40, 2048)
    assert (found.n, found.seed, found.stop, found.logprobs, found.top_logprobs) == (2, 7, ("END",), True, 3)
    assert (found.presence_penalty, found.frequency_penalty) == (0.1, -0.1)
    assert found.response_format is not None
    assert found.response_format.kind == "json_schema"
    assert found.reasoning == Reasoning(effort="low", show=True)
    assert (found.service_tier, found.store, found.include_usage) == ("priority", False, True)
    assert sorted(extra.name for extra in found.extra) == [
        "cachedContent",
        "generationConfig.mediaResolution",
        "generationConfig.speechConfig",
        "labels",
        "safetySettings",
        "toolConfig.retrievalConfig",
        "tools.now.behavior",
    ]


def test_snake_case_means_the_same() -> None:
    body = msgspec.json.decode((GOLDEN / "request.json").read_bytes())
    spelled = msgspec.json.encode(snake(body))
    assert b"inlineData" not in spelled
    assert CODEC.read_request(spelled) == CODEC.read_request(msgspec.json.encode(body))


def test_names_of_users_are_not_respelled() -> None:
    found = read(
        {
            "system_instruction": {"parts": {"text": "x"}},
            "contents": [
                {
                    "role": "model",
                    "parts": [{"function_call": {"name": "f", "args": {"inline_data": {"mime_type": 1}}}}],
                },
                {
                    "role": "user",
                    "parts": [{"function_response": {"name": "f", "response": {"file_data": 2}}}],
                },
            ],
            "tools": [
                {
                    "function_declarations": [
                        {
                            "name": "f",
                            "parameters": {"type": "OBJECT", "properties": {"top_k": {"type": "STRING"}}},
                        }
                    ]
                }
            ],
            "labels": {"tool_config": "kept"},
        }
    )
    call = found.messages[1].blocks[0]
    assert isinstance(call, ToolCall)
    assert msgspec.json.decode(call.arguments) == {"inline_data": {"mime_type": 1}}
    result = found.messages[2].blocks[0]
    assert isinstance(result, ToolResult)
    assert result.content == (Text(text='{"file_data": 2}'),)
    assert isinstance(found.tools[0], Tool)
    assert msgspec.json.decode(found.tools[0].schema)["properties"] == {"top_k": {"type": "string"}}
    assert msgspec.json.decode(found.extra[0].raw) == {"tool_config": "kept"}


def test_a_field_in_two_spellings_is_refused() -> None:
    with pytest.raises(BadRequest, match="two spellings"):
        CODEC.read_request(
            b'{"contents":[{"parts":[{"text":"a"}]}],"systemInstruction":null,"system_instruction":null}'
        )


def test_single_values_where_lists_belong() -> None:
    found = read({"contents": {"parts": {"text": "hi"}}, "tools": {"googleSearch": {}}})
    assert found.messages[0].blocks == (Text(text="hi"),)
    assert found.messages[0].role == "user"
    assert len(found.tools) == 1


def test_calls_without_ids_get_stable_ones_and_results_find_them_by_name_in_order() -> None:
    def call(name: str, number: int) -> dict[str, Any]:
        return {"functionCall": {"name": name, "args": {"n": number}}}

    def result(name: str, number: int) -> dict[str, Any]:
        return {"functionResponse": {"name": name, "response": {"output": str(number)}}}

    body = {
        "contents": [
            {"role": "user", "parts": [{"text": "go"}]},
            {"role": "model", "parts": [call("a.b", 1), call("c", 2), call("a.b", 3)]},
            {"role": "user", "parts": [result("c", 2), result("a.b", 1), result("a.b", 3)]},
            {"role": "model", "parts": [call("c", 4)]},
            {"role": "function", "parts": [result("c", 4)]},
        ]
    }
    found = read(body)
    assert found == read(body)
    ids = {
        block.id: msgspec.json.decode(block.arguments)["n"]
        for message in found.messages
        for block in message.blocks
        if isinstance(block, ToolCall)
    }
    assert list(ids) == ["call_1_a_b", "call_2_c", "call_3_a_b", "call_4_c"]
    for message in found.messages:
        for block in message.blocks:
            if isinstance(block, ToolResult):
                assert block.content == (Text(text=str(ids[block.call_id])),)


def test_a_result_with_an_id_goes_to_the_call_with_that_id() -> None:
    found = read(
        {
            "contents": [
                {"role": "model", "parts": [{"functionCall": {"id": i, "name": "f"}} for i in ("x", "y")]},
                {
                    "role": "user",
                    "parts": [
                        {"functionResponse": {"id": i, "name": "f", "response": {"error": i}}}
                        for i in ("y", "x")
                    ],
                },
            ]
        }
    )
    assert [block.call_id for block in found.messages[1].blocks if isinstance(block, ToolResult)] == [
        "y",
        "x",
    ]
    assert all(block.error for block in found.messages[1].blocks if isinstance(block, ToolResult))


def test_a_result_without_a_call_keeps_an_id() -> None:
    (block,) = blocks({"functionResponse": {"name": "lost one", "response": {}}})
    assert block == ToolResult(call_id="call_1_lost_one", name="lost one")


def test_attachments_by_media_type() -> None:
    found = blocks(
        {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}},
        {"inlineData": {"mimeType": "video/mp4", "data": "AAAA"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}},
        {"inlineData": {"mimeType": "text/plain", "data": "aGVsbG8="}},
        {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://x.example/a.jpg"}},
        {"fileData": {"mimeType": "image/jpeg", "fileUri": "gs://bucket/a.jpg"}},
        {"inlineData": {"data": "/9j/4AAQ"}},
    )
    assert [type(block) for block in found] == [Audio, Video, Document, Document, Image, Image, Image]
    assert found[3] == Document(text="hello")
    assert [block.source.kind for block in found[4:6]] == ["url", "file"]


def test_media_in_function_responses() -> None:
    (block,) = blocks(
        {
            "functionResponse": {
                "name": "shot",
                "response": {"output": "done"},
                "parts": [
                    {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
                    {"inlineData": {"mimeType": "audio/wav", "data": "aGk="}},
                ],
            }
        }
    )
    assert block.content[0] == Text(text="done")
    assert isinstance(block.content[1], Image)
    assert isinstance(block.content[2], Opaque)


def test_parts_the_hub_has_no_block_for_are_kept_whole() -> None:
    part = {"toolCall": {"toolType": "GOOGLE_SEARCH_WEB", "id": "1"}, "thoughtSignature": "YQ=="}
    (block,) = blocks(part)
    assert isinstance(block, Opaque)
    assert (block.format, block.kind, msgspec.json.decode(block.raw)) == ("gemini", "toolCall", part)


def test_what_only_modifies_a_part_is_told_as_extra() -> None:
    found = read(user({"text": "a", "partMetadata": {"k": "v"}}))
    assert found.messages[0].blocks == (Text(text="a"),)
    assert [extra.name for extra in found.extra] == ["contents.0.parts.0.partMetadata"]


@pytest.mark.parametrize(
    ("config", "choice"),
    [
        ({"mode": "AUTO"}, ToolChoice(mode="auto")),
        ({}, ToolChoice(mode="auto")),
        ({"mode": "NONE"}, ToolChoice(mode="none")),
        ({"mode": "ANY"}, ToolChoice(mode="required")),
        ({"mode": "ANY", "allowedFunctionNames": ["f"]}, ToolChoice(mode="named", name="f")),
        (
            {"mode": "any", "allowedFunctionNames": ["f", "g"]},
            ToolChoice(mode="required", allowed=("f", "g")),
        ),
        ({"mode": "VALIDATED", "allowedFunctionNames": ["f"]}, ToolChoice(mode="auto", allowed=("f",))),
    ],
)
def test_tool_choice(config: dict[str, Any], choice: ToolChoice) -> None:
    found = read(user({"text": "a"}, toolConfig={"functionCallingConfig": config}))
    assert found.tool_choice == choice
    assert found.extra == ()


def test_validated_without_names_comes_back() -> None:
    tools = [{"functionDeclarations": [{"name": "f"}]}]
    body = user({"text": "a"}, tools=tools, toolConfig={"functionCallingConfig": {"mode": "VALIDATED"}})
    written = CODEC.write_request(read(body), Profile(model="gemini-3-pro"))
    assert msgspec.json.decode(written.body)["toolConfig"] == body["toolConfig"]


@pytest.mark.parametrize(
    ("config", "reasoning"),
    [
        ({"thinkingBudget": 0}, Reasoning(enabled=False, effort="none", budget=0)),
        ({"thinkingBudget": -1}, Reasoning(enabled=True, budget=-1, adaptive=True)),
        ({"thinkingBudget": 2000, "includeThoughts": True}, Reasoning(enabled=True, budget=2000, show=True)),
        ({"thinkingLevel": "minimal"}, Reasoning(effort="minimal")),
        ({"includeThoughts": False}, Reasoning(show=False)),
    ],
)
def test_thinking(config: dict[str, Any], reasoning: Reasoning) -> None:
    assert read(user({"text": "a"}, generationConfig={"thinkingConfig": config})).reasoning == reasoning


def test_numbers_may_be_strings() -> None:
    found = read(user({"text": "a"}, generationConfig={"maxOutputTokens": "100", "topK": 40.0, "seed": "3"}))
    assert (found.max_tokens, found.top_k, found.seed) == (100, 40, 3)


def test_words_of_an_enum_stay_with_this_family() -> None:
    config = {"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING", "enum": ["a", "b"]}}
    found = read(user({"text": "a"}, generationConfig=config))
    assert found.response_format is None
    written = msgspec.json.decode(CODEC.write_request(found, Profile(model="gemini-2.5-flash")).body)
    assert written["generationConfig"] == {
        "responseMimeType": "text/x.enum",
        "responseJsonSchema": {"type": "string", "enum": ["a", "b"]},
    }


def test_what_the_sdk_sends_is_read() -> None:
    config = types.GenerateContentConfig(
        temperature=0.2,
        tools=[
            types.Tool(
                function_declarations=[
                    types.FunctionDeclaration(name="f", parameters=types.Schema(type=types.Type.OBJECT))
                ]
            )
        ],
        thinking_config=types.ThinkingConfig(thinking_level=types.ThinkingLevel.HIGH, include_thoughts=True),
    )
    told = config.model_dump(mode="json", exclude_none=True, by_alias=True)
    body = {
        "contents": [
            types.Content(role="user", parts=[types.Part(text="hi")]).model_dump(
                mode="json", exclude_none=True, by_alias=True
            )
        ],
        "tools": told.pop("tools"),
        "generationConfig": told,
    }
    found = read(body)
    assert isinstance(found.tools[0], Tool)
    assert msgspec.json.decode(found.tools[0].schema) == {"type": "object"}
    assert found.reasoning == Reasoning(effort="high", show=True)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "contents"),
        ({"contents": []}, "contents"),
        ({"contents": "hi"}, "contents"),
        ({"contents": [3]}, "contents.0"),
        ({"contents": [{"role": "assistant", "parts": [{"text": "a"}]}]}, "contents.0.role"),
        (user({"text": 1}), "contents.0.parts.0.text"),
        (user({"text": "a"}, {}), "contents.0.parts.1"),
        (user({"inlineData": {"mimeType": "image/png"}}), "contents.0.parts.0.inlineData.data"),
        (user({"inlineData": {"mimeType": 3, "data": "x"}}), "contents.0.parts.0.inlineData.mimeType"),
        (user({"fileData": {"mimeType": "image/png"}}), "contents.0.parts.0.fileData.fileUri"),
        (user({"functionCall": {"args": {}}}), "contents.0.parts.0.functionCall.name"),
        (user({"functionCall": {"name": "f", "args": []}}), "contents.0.parts.0.functionCall.args"),
        (user({"functionResponse": {"response": {}}}), "contents.0.parts.0.functionResponse.name"),
        (
            user({"functionResponse": {"name": "f", "response": "x"}}),
            "contents.0.parts.0.functionResponse.response",
        ),
        (user({"text": "a"}, tools=[{"functionDeclarations": [{}]}]), "tools.0.functionDeclarations.0.name"),
        (
            user({"text": "a"}, tools=[{"functionDeclarations": [{"name": "f", "parameters": 1}]}]),
            "tools.0.functionDeclarations.0.parameters",
        ),
        (
            user({"text": "a"}, toolConfig={"functionCallingConfig": {"mode": "SOME"}}),
            "toolConfig.functionCallingConfig.mode",
        ),
        (user({"text": "a"}, generationConfig={"temperature": "hot"}), "generationConfig.temperature"),
        (user({"text": "a"}, generationConfig={"candidateCount": 0}), "generationConfig.candidateCount"),
        (user({"text": "a"}, generationConfig={"stopSequences": [1]}), "generationConfig.stopSequences.0"),
        (user({"text": "a"}, generationConfig={"responseSchema": {}}), "generationConfig.responseMimeType"),
        (user({"text": "a"}, generationConfig=[]), "generationConfig"),
        (user({"text": "a"}, serviceTier=1), "serviceTier"),
        (user({"text": "a"}, store="yes"), "store"),
    ],
)
def test_what_is_wrong_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(body)
    assert refused.value.param == param
    assert "Traceback" not in refused.value.message


@pytest.mark.parametrize(
    "part", [b'{"functionCall":{"name":"f","args":%s}}', b'{"text":%s}', b'{"newKind":%s}']
)
def test_deep_nesting_is_refused_or_read_but_never_breaks(part: bytes) -> None:
    deep = b'{"a":' * 5000 + b"1" + b"}" * 5000
    with pytest.raises(InvalidJson):
        CODEC.read_request(b'{"contents":[{"parts":[' + part % deep + b"]}]}")


def test_a_deep_schema_is_refused() -> None:
    deep = b'{"items":' * 700 + b"{}" + b"}" * 700
    body = (
        b'{"contents":{"parts":{"text":"a"}},"tools":{"functionDeclarations":{"name":"f","parameters":%s}}}'
    )
    with pytest.raises(BadRequest) as refused:
        CODEC.read_request(body % deep)
    assert refused.value.param == "tools.0.functionDeclarations.0.parameters"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"contents":[{"parts":[{"text":"\xff"}]}]}',
        b'{"contents":[{"parts":[{"text":"\\ud800"}]}]}',
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        CODEC.read_request(body)


def test_the_doors_model_and_stream() -> None:
    found = read(user({"text": "a"}, model="models/gemini-2.5-flash", stream=True))
    assert (found.model, found.stream, found.extra) == ("gemini-2.5-flash", True, ())
    assert read(user({"text": "a"})).model == ""


def test_thoughts_that_are_pictures_are_not_taken_for_answers() -> None:
    body = {
        "contents": [
            {
                "role": "model",
                "parts": [{"thought": True, "inlineData": {"mimeType": "image/png", "data": "aGk="}}],
            }
        ]
    }
    (block,) = read(body).messages[0].blocks
    assert isinstance(block, Opaque)
    assert block.raw != Raw()
