"""Damaged requests, answers and streams of the provider-side formats: refused in the one agreed way, never a crash."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tollway.errors import BadRequest
from tollway.wire import event_stream
from tollway.wire.codec import Codec, Profile, Unreadable
from tollway.wire.formats import bedrock_converse, cohere_chat, ollama_chat
from tollway.wire.sse import EventTooLarge

GOLDEN = Path(__file__).parents[2] / "golden"
CODECS = {
    "bedrock_converse": bedrock_converse.CODEC,
    "cohere_chat": cohere_chat.CODEC,
    "ollama_chat": ollama_chat.CODEC,
}
OTHERS: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 10**30, "", "x", "\ud7ff", "data:,", [], [None], [[]], ["x"], {}, {"x": 1},
    {"type": "text"}, {"text": None}, [{"type": "document", "document": {"data": "x"}}], {"type": "thinking"}, [{}],
)  # fmt: skip


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value: its holder and its key."""
    found = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(found):
        yield value, key
        yield from places(inner)


def damaged(body: bytes, dice: random.Random) -> bytes:
    value = json.loads(body)
    for _ in range(dice.randint(1, 3)):
        holder, key = dice.choice(list(places(value)))
        if dice.random() < 0.2:
            del holder[key]
        else:
            holder[key] = json.loads(json.dumps(dice.choice(OTHERS)))
        if not value:
            break
    return json.dumps(value).encode()


@pytest.mark.parametrize("name", CODECS)
def test_damaged_requests(name: str) -> None:
    codec: Codec = CODECS[name]
    body = (GOLDEN / name / "request.json").read_bytes()
    dice = random.Random(4)
    read = 0
    for _ in range(1200):
        try:
            asked = codec.read_request(damaged(body, dice))
            for model in ("anthropic.claude-x", "amazon.nova-x", "any"):
                json.loads(codec.write_request(asked, Profile(model=model)).body)
            read += 1
        except BadRequest:
            continue
    assert read > 50


@pytest.mark.parametrize("name", CODECS)
def test_damaged_answers(name: str) -> None:
    codec: Codec = CODECS[name]
    body = (GOLDEN / name / "answer.json").read_bytes()
    asked = codec.read_request((GOLDEN / name / "request.json").read_bytes())
    dice = random.Random(5)
    read = 0
    for _ in range(1200):
        try:
            answer = codec.read_answer(damaged(body, dice))
        except Unreadable:
            continue
        json.loads(codec.write_answer(answer, asked))
        read += 1
    assert read > 50


def pieces(name: str) -> list[tuple[bytes, bytes, bytes]]:
    """A golden stream's events: what stands before the JSON of each, the JSON, and what stands behind it."""
    if name == "ollama_chat":
        return [(b"", line, b"\n") for line in (GOLDEN / name / "stream.ndjson").read_bytes().splitlines()]
    if name == "cohere_chat":
        data = (GOLDEN / name / "stream.sse").read_bytes()
        lines = [line[6:] for line in data.splitlines() if line.startswith(b"data: {")]
        return [(b"data: ", line, b"\n\n") for line in lines]
    found = []
    for line in (GOLDEN / name / "stream.jsonl").read_bytes().splitlines():
        [(kind, payload)] = json.loads(line).items()
        found.append((kind.encode(), json.dumps(payload).encode(), b""))
    return found


@pytest.mark.parametrize("name", CODECS)
def test_damaged_streams(name: str) -> None:
    codec: Codec = CODECS[name]
    asked = codec.read_request((GOLDEN / name / "request.json").read_bytes())
    dice = random.Random(6)
    whole = pieces(name)
    read = 0
    for _ in range(600):
        hurt = dice.randrange(len(whole))
        data = b""
        for number, (head, body, tail) in enumerate(whole):
            if number == hurt:
                body = damaged(body, dice)
            if name == "bedrock_converse":
                data += event_stream.encode({":event-type": head.decode(), ":message-type": "event"}, body)
            else:
                data += head + body + tail
        reader = codec.stream_reader()
        try:
            events = [*reader.feed(data), *reader.finish()]
        except (Unreadable, EventTooLarge):
            continue
        codec.stream_writer(asked).write(events)
        read += 1
    assert read > 50
