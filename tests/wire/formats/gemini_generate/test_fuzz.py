"""Golden bodies with one value exchanged for another: read, or refused in the words that are promised."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.wire.accumulate import Broken, accumulate

from tollway.errors import BadRequest
from tollway.wire.codec import Profile, Unreadable
from tollway.wire.formats.gemini_generate import CODEC, count_request, read_embed
from tollway.wire.formats.gemini_generate.write_stream import array_writer

GOLDEN = Path(__file__).parents[3] / "golden" / "gemini_generate"
ODD = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        1.5,
        2**70,
        "",
        "x",
        "\x00",
        "ü" * 50,
        [],
        {},
        [[]],
        [{}],
        {"": None},
        {"text": 1},
        [None],
        "call_1",
    ]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


def exchanged(name: str, draw: st.DataObject) -> bytes:
    body = msgspec.json.decode((GOLDEN / name).read_bytes())
    for _ in range(draw.draw(st.integers(1, 3))):
        path = draw.draw(st.sampled_from(places(body)))
        inner = body
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = copy.deepcopy(draw.draw(ODD))
    return _encode(body)


def _encode(body: Any) -> bytes:
    return json.dumps(body).encode()  # numbers beyond 64 bits too


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_requests(draw: st.DataObject) -> None:
    body = exchanged("request.json", draw)
    for model in ("gemini-3-pro", "gemini-2.5-pro"):
        try:
            found = CODEC.read_request(body)
            written = CODEC.write_request(found, Profile(model=model))
        except BadRequest:
            continue
        assert CODEC.read_request(written.body).messages
    for call in (count_request, read_embed):
        try:
            call(body)
        except BadRequest:
            pass


@given(st.data(), st.sampled_from(["answer.json", "grounded.json"]))
@settings(max_examples=300, deadline=None)
def test_answers(draw: st.DataObject, name: str) -> None:
    body = exchanged(name, draw)
    asked = CODEC.read_request((GOLDEN / "request.json").read_bytes())
    try:
        found = CODEC.read_answer(body)
    except Unreadable:
        pass
    else:
        msgspec.json.decode(CODEC.write_answer(found, asked))
    reader = CODEC.stream_reader()
    try:
        events = reader.feed(b"data: " + body + b"\n\n") + reader.finish()
    except Unreadable:
        return
    try:
        accumulate(events)
    except Broken:
        pass
    msgspec.json.decode(array_writer(asked).write(events))


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_bytes(data: bytes) -> None:
    for read in (CODEC.read_request, count_request, read_embed):
        try:
            read(data)
        except BadRequest:
            pass
    try:
        CODEC.read_answer(data)
    except Unreadable:
        pass
    reader = CODEC.stream_reader()
    try:
        reader.feed(data)
    except Unreadable:
        return
    assert reader.finish()
