"""What of a conversation is counted: nothing a model reads is left out, and documented counts come out to the token."""

from __future__ import annotations

import base64
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace
from tiktoken import Encoding

from tollway.tokens.contents import Contents, GivenUp, of_conversation, of_text, text_size, tokens_in
from tollway.tokens.family import Family, family
from tollway.tokens.vocabulary import PIECE, count_piece, load
from tollway.wire.conversation import (
    Audio,
    Block,
    Conversation,
    Document,
    Image,
    Message,
    Opaque,
    Refusal,
    ResponseFormat,
    ServerTool,
    Source,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Video,
)

from .conversations import JARGON, WEATHER

GPT = family("gpt-4o")


@pytest.fixture(scope="module")
def encodings() -> dict[str, Encoding]:
    return {name: load(name) for name in ("o200k_base", "cl100k_base")}


def tokens(encodings: dict[str, Encoding], conversation: Conversation, of: Family) -> tuple[int, bool]:
    contents = of_conversation(conversation, of)
    encoding = encodings[of.vocabulary]
    counted, certain = tokens_in(contents, lambda piece: count_piece(encoding, piece), lambda: True)
    return contents.fixed + counted, certain and contents.certain


@pytest.mark.parametrize(
    ("model", "expected"), [("gpt-4o", 124), ("gpt-4o-mini", 124), ("gpt-4", 129), ("gpt-3.5-turbo", 129)]
)
def test_messages_count_as_openai_reported(encodings: dict[str, Encoding], model: str, expected: int) -> None:
    assert tokens(encodings, JARGON, family(model)) == (expected, True)


@pytest.mark.parametrize(
    ("model", "expected"), [("gpt-4o", 101), ("gpt-4o-mini", 101), ("gpt-4", 105), ("gpt-3.5-turbo", 105)]
)
def test_tools_count_as_openai_reported(encodings: dict[str, Encoding], model: str, expected: int) -> None:
    counted, certain = tokens(encodings, WEATHER, family(model))
    assert counted == expected
    assert not certain  # the rule is OpenAI's, but it says that it may change


def size_of(*blocks: Block, of: Family = GPT, **fields: Any) -> Contents:
    return of_conversation(
        Conversation(model="m", messages=(Message(role="user", blocks=blocks),), **fields), of
    )


EMPTY = size_of()


@pytest.mark.parametrize(
    ("block", "texts"),
    [
        (Text(text="one"), ["one"]),
        (Refusal(text="no"), ["no"]),
        (Thinking(text="hm", redacted="xyz", signature="never sent to a tokenizer"), ["hm", "xyz"]),
        (ToolCall(id="1", name="f", arguments='{"a":1}'), ["f", '{"a":1}']),
        (ToolResult(call_id="1", content=(Text(text="r1"), Text(text="r2"))), ["r1", "r2"]),
        (Document(text="body", title="t", context="c"), ["t", "c", "body"]),
        (Audio(source=Source(kind="file", value="f"), transcript="said"), ["said"]),
    ],
)
def test_every_text_is_counted(block: Block, texts: list[str]) -> None:
    contents = size_of(block)
    assert contents.texts == texts
    assert contents.bytes == sum(map(len, texts))


def wav(seconds: int) -> str:
    head = b"RIFF" + bytes(4) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 24_000, 48_000, 2, 16)
    return base64.b64encode(head + bytes(48_000 * seconds - len(head))).decode()


@pytest.mark.parametrize(
    ("block", "of", "fixed"),
    [
        (Image(source=Source(kind="url", value="https://x/y.png")), GPT, 765),
        (Image(source=Source(kind="url", value="https://x/y.png"), detail="low"), GPT, 85),
        (Image(source=Source(kind="data", value="R0lGODlhgAKAAgAAAA==")), GPT, 85 + 4 * 170),
        (Audio(source=Source(kind="data", value=wav(3), media_type="audio/wav")), family("gemini-2.5"), 3 * 32),
        (Audio(source=Source(kind="data", value="A" * 64_000, media_type="audio/mpeg")), family("gemini"), 3 * 32),
        (Audio(source=Source(kind="file", value="f")), family("gemini"), 60 * 32),
        (Video(source=Source(kind="data", value="A" * 666_668)), family("gemini"), 3 * 263),
        (Document(source=Source(kind="data", value="J" * 200_000, media_type="application/pdf")), family("gemini"),
         3 * 258),
        (Document(source=Source(kind="url", value="https://x/y.pdf")), family("gemini"), 5 * 258),
        (Document(source=Source(kind="data", value="A" * 4_664, media_type="text/plain")), GPT, 1_000),
        (ToolCall(id="1", name="f"), GPT, 8),
    ],
)  # fmt: skip
def test_media_cost_what_their_size_says(block: Block, of: Family, fixed: int) -> None:
    contents = size_of(block, of=of)
    assert contents.fixed - size_of(of=of).fixed == fixed
    assert not contents.certain
    assert "data" not in " ".join(contents.texts)


def test_opaque_blocks_server_tools_and_answer_formats_count_as_json() -> None:
    raw = Raw(b'{"type":"web_search_call","query":"x"}')
    contents = size_of(
        Opaque(format="responses", kind="web_search_call", raw=raw),
        tools=(ServerTool(kind="web_search", format="responses", raw=raw),),
        response_format=ResponseFormat(kind="json_schema", schema=Raw(b'{"type":"object"}')),
    )
    assert [bytes(item) for item in contents.json] == [bytes(raw), bytes(raw), b'{"type":"object"}']
    assert contents.bytes == 2 * len(bytes(raw)) + 17
    assert not contents.certain


def test_each_tool_result_is_a_message_of_its_own() -> None:
    result = ToolResult(call_id="1", content=(Text(text="r"),))
    assert size_of(result).fixed == EMPTY.fixed
    assert size_of(result, result).fixed == EMPTY.fixed + GPT.message
    assert size_of(result, result, Text(text="and?")).fixed == EMPTY.fixed + 2 * GPT.message


def test_custom_tools_count_as_text_and_other_families_take_json() -> None:
    custom = Tool(name="run", description="d", custom=True, grammar=Raw(b'{"syntax":"lark"}'))
    assert size_of(tools=(custom,)).texts == ["run", "d"]
    assert [bytes(raw) for raw in size_of(tools=(custom,)).json] == [b'{"syntax":"lark"}']
    of = family("claude")
    contents = size_of(tools=WEATHER.tools, of=of)
    assert not contents.outlines
    assert contents.fixed == size_of(of=of).fixed + of.tools + of.tool


def outlined(schema: bytes) -> int:
    contents = size_of(tools=(Tool(name="f", schema=Raw(schema)),))
    return tokens_in(contents, lambda piece: piece.count(" ") + bool(piece), lambda: True)[0]


def test_nested_properties_are_counted_wherever_they_hide() -> None:
    flat = outlined(b'{"type":"object","properties":{"a":{"type":"string"}}}')
    inner = b'{"type":"object","properties":{"b":{"type":"string"}}}'
    for outer in (
        b'{"properties":{"a":%s}}',
        b'{"properties":{"a":{"type":"array","items":%s}}}',
        b'{"properties":{"a":{"anyOf":[{"type":"null"},%s]}}}',
        b'{"properties":{"a":{"$ref":"#/$defs/x"}},"$defs":{"x":%s}}',
        b'{"properties":{"a":{"additionalProperties":%s}}}',
    ):
        assert outlined(outer % inner) > flat, outer


@pytest.mark.parametrize(
    "schema",
    [b"{}", b"[]", b"null", b"true", b'"x"', b'{"properties":[]}', b'{"properties":{"a":7,"b":null,"c":{"enum":5}}}',
     b'{"properties":{"a":{"type":["string","null"],"description":9,"enum":[1,null,{"x":1}]}}}', b"not json",
     b"[" * 100_000],
)  # fmt: skip
def test_any_schema_is_counted(schema: bytes) -> None:
    assert outlined(schema) >= 1


def test_sizes_are_exact_for_short_texts_and_close_for_long_ones() -> None:
    assert text_size("abc") == 3
    assert text_size("漢\ud800é") == 3 + 3 + 2
    for text in ("漢" * 200_000, "a漢 é" * 100_000, "plain, then " * 20_000 + "漢字" * 60_000):
        assert text_size(text) == pytest.approx(len(text.encode()), rel=0.1)


def test_counting_stops_between_pieces_when_nobody_wants_it() -> None:
    contents = of_text("word " * PIECE)
    asked: list[int] = []

    def wanted() -> bool:
        return len(asked) < 2

    with pytest.raises(GivenUp):
        tokens_in(contents, lambda piece: asked.append(len(piece)) or 1, wanted)
    assert len(asked) == 2
    assert max(asked) <= PIECE


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(max_size=40), max_size=6), named=st.booleans())
def test_a_conversation_is_the_sum_of_its_parts(
    encodings: dict[str, Encoding], texts: list[str], named: bool
) -> None:
    messages = tuple(
        Message(role="user", blocks=(Text(text=text),), name="n" if named else None) for text in texts
    )
    expected = 3 + sum(
        3 + 1 + (1 + 1 if named else 0) + len(encodings["o200k_base"].encode_ordinary(text)) for text in texts
    )
    assert tokens(encodings, Conversation(model="m", messages=messages), GPT) == (expected, True)


def test_what_the_answer_may_be_is_not_counted() -> None:
    settled = replace(JARGON, max_tokens=5, stop=("a", "b"), user="someone", metadata={"k": "v" * 999})
    assert msgspec.structs.asdict(of_conversation(settled, GPT)) == msgspec.structs.asdict(
        of_conversation(JARGON, GPT)
    )
