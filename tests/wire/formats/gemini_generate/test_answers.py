"""Whole answers of generateContent read and written, and what they count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.genai import types
from msgspec import Raw

from tollway.model.usage import Usage
from tollway.wire.codec import Unreadable
from tollway.wire.conversation import (
    Audio,
    Block,
    Choice,
    Citation,
    Completion,
    Conversation,
    Image,
    Opaque,
    Reasoning,
    Refusal,
    Source,
    Text,
    Thinking,
    ToolCall,
)
from tollway.wire.formats.gemini_generate import CODEC
from tollway.wire.formats.gemini_generate.shapes import FINISHES
from tollway.wire.formats.gemini_generate.usage import read_tier, read_usage, write_usage

GOLDEN = Path(__file__).parents[3] / "golden" / "gemini_generate"
ASKED = Conversation(model="m")
CURIOUS = Conversation(model="m", reasoning=Reasoning(show=True))


def read(*parts: dict[str, Any], **candidate: Any) -> Choice:
    told = {"content": {"parts": list(parts), "role": "model"}, "finishReason": "STOP", **candidate}
    (choice,) = CODEC.read_answer(msgspec.json.encode({"candidates": [told], "responseId": "r"})).choices
    return choice


def written(*blocks: Block, asked: Conversation = ASKED, **choice: Any) -> dict[str, Any]:
    """The first candidate, after the SDK's types took the whole."""
    completion = Completion(id="r", model="m", choices=(Choice(blocks=blocks, **choice),))
    body = CODEC.write_answer(completion, asked)
    types.GenerateContentResponse.model_validate_json(body)
    found: dict[str, Any] = msgspec.json.decode(body)["candidates"][0]
    return found


def parts(*blocks: Block, asked: Conversation = ASKED) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = written(*blocks, asked=asked)["content"].get("parts", [])
    return found


# ------------------------------------------------------------------ reading


def test_golden_answer() -> None:
    found = CODEC.read_answer((GOLDEN / "answer.json").read_bytes())
    assert (found.id, found.model) == ("resp-1", "gemini-3-pro-preview")
    (choice,) = found.choices
    assert choice.finish == "tool_calls"
    thought, text, first, second = choice.blocks
    assert thought == Thinking(text="Two cities, two calls.", summary=True, format="gemini")
    assert text == Text(text="I ask both.")
    assert isinstance(first, ToolCall)
    assert isinstance(second, ToolCall)
    assert (first.name, first.arguments, first.signature) == ("get_weather", '{"city": "Paris"}', "c2lnLWE=")
    assert (second.name, second.arguments, second.signature) == ("get_weather", '{"city": "Köln"}', None)


def test_cached_tokens_are_not_counted_twice() -> None:
    found = CODEC.read_answer((GOLDEN / "answer.json").read_bytes())
    assert found.usage == Usage(input=300, cache_read=600, audio_input=100, output=100, reasoning=60)
    assert found.usage is not None
    assert found.usage.tokens() == 1100
    assert msgspec.json.decode(found.raw_usage)["cachedContentTokenCount"] == 600


def test_parallel_calls_keep_their_own_ids_names_and_arguments() -> None:
    calls = CODEC.read_answer((GOLDEN / "answer.json").read_bytes()).choices[0].blocks[2:]
    ids = [block.id for block in calls if isinstance(block, ToolCall)]
    assert len(set(ids)) == 2
    assert all(len(each) <= 64 and each.replace("_", "").isalnum() for each in ids)
    again = CODEC.read_answer((GOLDEN / "answer.json").read_bytes()).choices[0].blocks[2:]
    assert [block.id for block in again if isinstance(block, ToolCall)] == ids
    later = (GOLDEN / "answer.json").read_bytes().replace(b"resp-1", b"resp-9")
    others = [block.id for block in CODEC.read_answer(later).choices[0].blocks if isinstance(block, ToolCall)]
    assert not set(ids) & set(others)


def test_ids_of_gemini_are_kept() -> None:
    (call,) = read({"functionCall": {"id": "own", "name": "f"}}).blocks
    assert call == ToolCall(id="own", name="f", arguments="{}")


def test_calls_of_an_answer_without_an_id_differ_by_what_they_say() -> None:
    def ids(city: str) -> list[str]:
        told = {
            "content": {"parts": [{"functionCall": {"name": "f", "args": {"city": city}}}]},
            "finishReason": "STOP",
        }
        blocks = CODEC.read_answer(msgspec.json.encode({"candidates": [told]})).choices[0].blocks
        return [block.id for block in blocks if isinstance(block, ToolCall)]

    assert ids("Paris") == ids("Paris") != ids("Rome")


def test_every_kind_of_part() -> None:
    choice = read(
        {"text": "Look: "},
        {"text": "a cat.", "thoughtSignature": "cw=="},
        {"text": "And a dog."},
        {"inlineData": {"mimeType": "image/png", "data": "aGk="}, "thoughtSignature": "aQ=="},
        {"inlineData": {"mimeType": "audio/L16;rate=24000", "data": "YWI="}},
        {"inlineData": {"mimeType": "audio/L16;rate=24000", "data": "Yw=="}},
        {"executableCode": {"language": "PYTHON", "code": "1"}},
        {"functionResponse": {"name": "f", "response": {}}},
        {"text": ""},
        {},
    )
    assert choice.blocks[:4] == (
        Text(text="Look: a cat.", signature="cw=="),
        Text(text="And a dog."),
        Image(source=Source(kind="data", value="aGk=", media_type="image/png"), signature="aQ=="),
        Audio(source=Source(kind="data", value="YWJj", media_type="audio/L16;rate=24000")),
    )
    assert [block.kind for block in choice.blocks[4:] if isinstance(block, Opaque)] == [
        "executableCode",
        "functionResponse",
    ]
    assert choice.finish == "stop"


def test_a_signature_behind_the_words_belongs_to_them() -> None:
    assert read({"text": "Hello"}, {"text": "", "thoughtSignature": "cw=="}).blocks == (
        Text(text="Hello", signature="cw=="),
    )
    assert read({"thoughtSignature": "cw=="}).blocks == (Text(signature="cw=="),)


@pytest.mark.parametrize("reason", [each.value for each in types.FinishReason])
def test_every_finish_reason_of_the_sdk_is_known(reason: str) -> None:
    assert read({"text": "a"}, finishReason=reason).finish == FINISHES[reason]


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("BLOCKLIST", "content_filter"),
        ("SPII", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "error"),
        ("UNEXPECTED_TOOL_CALL", "error"),
        ("SOMETHING_NEW", "error"),
    ],
)
def test_finish_reasons(reason: str, finish: str) -> None:
    assert read({"text": "a"}, finishReason=reason).finish == finish


def test_a_message_in_place_of_an_answer_is_told() -> None:
    choice = read(finishReason="MALFORMED_FUNCTION_CALL", finishMessage="Malformed function call: f(")
    assert choice == Choice(blocks=(Text(text="Malformed function call: f("),), finish="error")
    choice = read(finishReason="SAFETY", finishMessage="Blocked.")
    assert choice == Choice(blocks=(Refusal(text="Blocked."),), finish="content_filter")


def test_a_blocked_prompt_is_a_refusal() -> None:
    body = {
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
        "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9},
    }
    found = CODEC.read_answer(msgspec.json.encode(body))
    (choice,) = found.choices
    assert choice.finish == "content_filter"
    (block,) = choice.blocks
    assert isinstance(block, Refusal)
    assert "PROHIBITED_CONTENT" in block.text
    assert found.usage == Usage(input=9)


def test_several_candidates() -> None:
    body = {
        "candidates": [
            {"content": {"parts": [{"text": "b"}]}, "finishReason": "MAX_TOKENS", "index": 1},
            {"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"},
        ],
        "createTime": "2026-01-02T03:04:05.678Z",
    }
    found = CODEC.read_answer(msgspec.json.encode(body))
    assert [(choice.blocks, choice.finish) for choice in found.choices] == [
        ((Text(text="a"),), "stop"),
        ((Text(text="b"),), "length"),
    ]
    assert found.created == 1767323045


def test_log_probabilities_both_ways() -> None:
    result = {
        "chosenCandidates": [
            {"token": "ü", "tokenId": 3, "logProbability": -0.5},
            {"token": "b", "logProbability": -1},
        ],
        "topCandidates": [
            {"candidates": [{"token": "ü", "logProbability": -0.5}, {"token": "u", "logProbability": -2}]}
        ],
    }
    choice = read({"text": "üb"}, logprobsResult=result)
    told = msgspec.json.decode(choice.logprobs)["content"]
    assert told[0]["bytes"] == [195, 188]
    assert [each["token"] for each in told[0]["top_logprobs"]] == ["ü", "u"]
    assert told[1] == {"token": "b", "logprob": -1, "bytes": [98], "top_logprobs": []}
    back = written(Text(text="üb"), logprobs=choice.logprobs)["logprobsResult"]
    assert [each["token"] for each in back["chosenCandidates"]] == ["ü", "b"]
    assert [len(each["candidates"]) for each in back["topCandidates"]] == [2, 0]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"candidates":[{"content":{"parts":[{"text":1}]}}]}',
        b'{"candidates":[{"content":{"parts":3}}]}',
        b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":[]}}]}}]}',
        b'{"candidates":{"content":1}}',
        b'{"error":{"code":400,"message":"no","status":"INVALID_ARGUMENT"}}',
        b'{"candidates":' + b"[" * 9000 + b"]" * 9000 + b"}",
    ],
)
def test_what_is_no_answer_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        CODEC.read_answer(body)


# ------------------------------------------------------------------ grounding


def test_grounding_becomes_citations_in_characters() -> None:
    found = CODEC.read_answer((GOLDEN / "grounded.json").read_bytes())
    text, beside = found.choices[0].blocks
    assert isinstance(text, Text)
    quoted = [(text.text[citation.start : citation.end], citation.url) for citation in text.citations]
    assert quoted == [
        ("Köln gewann.", "https://a.example/1"),
        ("Es war knapp.", "https://a.example/1"),
        ("Es war knapp.", "https://b.example/2"),
    ]
    assert text.citations[0].title == "a.example"
    assert isinstance(beside, Opaque)
    assert beside.kind == "groundingMetadata"
    assert found.usage == Usage(input=112, output=9, searches=2)


def test_searches_before_gemini_3_are_charged_by_the_prompt() -> None:
    body = (GOLDEN / "grounded.json").read_bytes().replace(b"gemini-3-flash-preview", b"gemini-2.5-flash")
    usage = CODEC.read_answer(body).usage
    assert usage is not None
    assert usage.searches == 1


def test_grounding_of_this_family_comes_back_whole() -> None:
    before = msgspec.json.decode((GOLDEN / "grounded.json").read_bytes())
    found = CODEC.write_answer(CODEC.read_answer(msgspec.json.encode(before)), ASKED)
    assert (
        msgspec.json.decode(found)["candidates"][0]["groundingMetadata"]
        == before["candidates"][0]["groundingMetadata"]
    )


def test_grounding_in_a_later_part() -> None:
    support = {
        "segment": {"partIndex": 2, "startIndex": 0, "endIndex": 1, "text": "a"},
        "groundingChunkIndices": [0, 7],
    }
    choice = read(
        {"text": "hm", "thought": True},
        {"text": "b a "},
        {"text": "a"},
        groundingMetadata={
            "groundingChunks": [{"maps": {"uri": "u", "title": "t"}}],
            "groundingSupports": [support],
        },
    )
    text = choice.blocks[1]
    assert isinstance(text, Text)
    assert text.citations == (Citation(url="u", title="t", start=4, end=5, format="gemini"),)


def test_grounding_without_places_and_plain_citations() -> None:
    choice = read(
        {"text": "abc"},
        groundingMetadata={"groundingChunks": [{"retrievedContext": {"uri": "u", "text": "quoted"}}]},
        citationMetadata={"citations": [{"startIndex": 1, "endIndex": 2, "uri": "v"}]},
    )
    text = choice.blocks[0]
    assert isinstance(text, Text)
    assert text.citations == (
        Citation(url="u", cited="quoted", format="gemini"),
        Citation(url="v", start=1, end=2, format="gemini"),
    )


def test_citations_of_a_text_that_is_closed_still_arrive() -> None:
    choice = read(
        {"text": "abc"},
        {"executableCode": {"language": "PYTHON", "code": "1"}},
        groundingMetadata={"groundingChunks": [{"web": {"uri": "u"}}]},
    )
    late = choice.blocks[2]
    assert isinstance(late, Text)
    assert late.citations == (Citation(url="u", format="gemini"),)


def test_citations_of_others_become_grounding_in_bytes() -> None:
    cited = (
        Citation(url="https://a.example", title="A", start=0, end=2, format="openai"),
        Citation(title="doc", cited="words", start=3, end=4, format="anthropic"),
        Citation(url="https://a.example", title="A", start=3, end=4),
    )
    grounding = written(Text(text="first"), Text(text="üb x", citations=cited))["groundingMetadata"]
    assert grounding["groundingChunks"] == [
        {"web": {"uri": "https://a.example", "title": "A"}},
        {"retrievedContext": {"title": "doc", "text": "words"}},
    ]
    assert grounding["groundingSupports"] == [
        {
            "segment": {"startIndex": 0, "endIndex": 3, "text": "üb", "partIndex": 1},
            "groundingChunkIndices": [0],
        },
        {
            "segment": {"startIndex": 4, "endIndex": 5, "text": "x", "partIndex": 1},
            "groundingChunkIndices": [1, 0],
        },
    ]


# ------------------------------------------------------------------ writing


def test_an_answer_of_another_provider() -> None:
    completion = Completion(
        id="r",
        model="claude",
        choices=(
            Choice(
                blocks=(Text(text="Hi"), ToolCall(id="t1", name="f", arguments='{"a": 1}')),
                finish="tool_calls",
            ),
        ),
        usage=Usage(input=5, cache_read=3, cache_write_5m=2, output=7, reasoning=4),
    )
    body = CODEC.write_answer(completion, ASKED)
    assert msgspec.json.decode(body) == {
        "candidates": [
            {
                "content": {
                    "parts": [{"text": "Hi"}, {"functionCall": {"id": "t1", "name": "f", "args": {"a": 1}}}],
                    "role": "model",
                },
                "finishReason": "STOP",
                "index": 0,
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 10,
            "candidatesTokenCount": 3,
            "thoughtsTokenCount": 4,
            "totalTokenCount": 17,
            "cachedContentTokenCount": 3,
        },
        "modelVersion": "claude",
        "responseId": "r",
    }
    told = types.GenerateContentResponse.model_validate_json(body)
    assert told.text == "Hi"
    assert told.function_calls is not None
    assert told.function_calls[0].args == {"a": 1}
    assert CODEC.read_answer(body).choices == completion.choices


def test_thoughts_are_shown_to_those_who_asked() -> None:
    thought = Thinking(text="hm", signature="sig", format="anthropic")
    assert parts(thought, Text(text="a")) == [{"text": "a"}]
    shown = parts(thought, Text(text="a"), asked=CURIOUS)
    assert shown[0]["text"] == "hm"
    assert shown[0]["thought"] is True
    assert CODEC.read_answer(
        CODEC.write_answer(Completion(choices=(Choice(blocks=(thought,)),)), CURIOUS)
    ).choices[0].blocks == (thought,)


def test_anothers_signature_survives_a_client_of_this_format() -> None:
    """What the client sends back in the next turn is the thinking its maker signed."""
    thoughts = (
        Thinking(text="hm", signature="c2ln", format="anthropic"),
        Thinking(redacted="b3BhcXVl", format="anthropic"),
        Thinking(text="s", summary=True, id="rs_1", redacted="enc", format="openai"),
    )
    body = CODEC.write_answer(Completion(choices=(Choice(blocks=thoughts),)), CURIOUS)
    told = types.GenerateContentResponse.model_validate_json(body)  # the signature must be base64 for the SDK
    assert told.candidates is not None
    sent = told.candidates[0].content
    assert sent is not None
    request = {"contents": [sent.model_dump(mode="json", by_alias=True, exclude_none=True)]}
    assert CODEC.read_request(msgspec.json.encode(request)).messages[0].blocks == thoughts


def test_arguments_that_are_no_object_are_told_as_gemini_tells_it() -> None:
    found = written(Text(text="a"), ToolCall(id="1", name="f", arguments='{"a":'), finish="tool_calls")
    assert found["content"]["parts"] == [{"text": "a"}]
    assert found["finishReason"] == "MALFORMED_FUNCTION_CALL"
    assert '{"a":' in found["finishMessage"]


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", "STOP"),
        ("length", "MAX_TOKENS"),
        ("content_filter", "SAFETY"),
        ("refusal", "SAFETY"),
        ("pause", "OTHER"),
        ("error", "OTHER"),
    ],
)
def test_finishes_written(finish: Any, reason: str) -> None:
    assert written(Text(text="a"), finish=finish)["finishReason"] == reason


def test_blocks_written() -> None:
    assert parts(
        Text(text=""),
        Refusal(text="no"),
        ToolCall(id="1", name="f", arguments=""),
        ToolCall(id="2", name="shell", arguments="ls", custom=True),
        Image(source=Source(kind="data", value="aGk=", media_type="image/png"), signature="aQ=="),
        Audio(source=Source(kind="data", value="aGk=", media_type="audio/wav"), transcript="hi"),
        Opaque(format="gemini", kind="executableCode", raw=Raw(b'{"executableCode":{"code":"1"}}')),
        Opaque(format="anthropic", kind="server_tool_use", raw=Raw(b"{}")),
    ) == [
        {"text": "no"},
        {"functionCall": {"id": "1", "name": "f", "args": {}}},
        {"functionCall": {"id": "2", "name": "shell", "args": {"input": "ls"}}},
        {"inlineData": {"mimeType": "image/png", "data": "aGk="}, "thoughtSignature": "aQ=="},
        {"inlineData": {"mimeType": "audio/wav", "data": "aGk="}},
        {"executableCode": {"code": "1"}},
    ]


# ------------------------------------------------------------------ usage


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        ({"promptTokenCount": 5, "candidatesTokenCount": 3, "totalTokenCount": 8}, Usage(input=5, output=3)),
        ({"promptTokenCount": 5, "totalTokenCount": 8}, Usage(input=5, output=3)),
        (
            {"promptTokenCount": 5, "thoughtsTokenCount": 3, "totalTokenCount": 8},
            Usage(input=5, output=3, reasoning=3),
        ),
        (
            {
                "promptTokenCount": 5,
                "candidatesTokenCount": 10,
                "thoughtsTokenCount": 4,
                "totalTokenCount": 19,
            },
            Usage(input=5, output=14, reasoning=4),
        ),
        (  # thoughts among the candidates' tokens
            {
                "promptTokenCount": 5,
                "candidatesTokenCount": 10,
                "thoughtsTokenCount": 4,
                "totalTokenCount": 15,
            },
            Usage(input=5, output=10, reasoning=4),
        ),
        (
            {
                "promptTokenCount": 5,
                "toolUsePromptTokenCount": 20,
                "candidatesTokenCount": 1,
                "totalTokenCount": 26,
            },
            Usage(input=25, output=1),
        ),
        (
            {
                "promptTokenCount": 100,
                "cachedContentTokenCount": 50,
                "promptTokensDetails": [
                    {"modality": "AUDIO", "tokenCount": 80},
                    {"modality": "TEXT", "tokenCount": 20},
                ],
                "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 50}],
                "candidatesTokenCount": 30,
                "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 25}],
            },
            Usage(input=20, cache_read=50, audio_input=30, output=5, audio_output=25),
        ),
        ({}, None),
        ([], None),
        ({"promptTokenCount": "many"}, None),
    ],
)
def test_usage_in_disjoint_classes(told: Any, usage: Usage | None) -> None:
    assert read_usage(Raw(msgspec.json.encode(told))) == usage


@pytest.mark.parametrize(
    "usage",
    [
        Usage(input=10, output=5),
        Usage(input=10, cache_read=4, output=9, reasoning=5),
        Usage(input=10, audio_input=7, output=3, audio_output=6),
        Usage(audio_output=6),
    ],
)
def test_usage_comes_back(usage: Usage) -> None:
    told = write_usage(usage)
    types.GenerateContentResponseUsageMetadata.model_validate(told)
    assert read_usage(Raw(msgspec.json.encode(told))) == usage
    assert told["totalTokenCount"] == usage.tokens()


def test_the_tier_vertex_names() -> None:
    assert read_tier(Raw(b'{"trafficType":"ON_DEMAND_PRIORITY"}')) == "priority"
    assert read_tier(Raw(b'{"trafficType":"PROVISIONED_THROUGHPUT"}')) is None
    assert read_tier(Raw()) is None
