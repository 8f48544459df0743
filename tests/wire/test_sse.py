from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollway.wire import sse
from tollway.wire.sse import Event, EventTooLarge, Splitter

LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
CONTENT = st.binary(max_size=12).map(lambda value: value.replace(b"\r", b"").replace(b"\n", b""))


@st.composite
def streams(draw: st.DrawFn, ends: st.SearchStrategy[bytes] = LINE_ENDS) -> tuple[bytes, list[Event]]:
    """A stream of whole events, and what it says."""
    end = draw(ends)
    wire = draw(st.sampled_from([b"", sse.BOM]))
    said = []
    for _ in range(draw(st.integers(0, 5))):
        data: list[bytes] = []
        name = b""
        lines = draw(st.lists(st.tuples(st.sampled_from("dnci"), CONTENT), min_size=1, max_size=4))
        for kind, content in lines:
            if kind == "d":
                data.append(content)
                wire += b"data: " + content + end
            elif kind == "n":
                name = content
                wire += b"event: " + content + end
            elif kind == "c":
                wire += b":" + content + end
            else:
                wire += b"id: " + content + end
        wire += end
        said.append(Event(b"\n".join(data) if data else None, name))
    return wire, said


def events(pieces: list[bytes]) -> list[Event]:
    splitter = Splitter()
    blocks = [splitter.feed(piece) for piece in pieces]
    blocks.append(splitter.rest())
    return [sse.parse(part) for block in blocks for part in sse.split(block)]


@given(streams())
@settings(max_examples=150, deadline=None)
def test_split_in_two_at_every_byte(stream: tuple[bytes, list[Event]]) -> None:
    wire, said = stream
    for cut in range(len(wire) + 1):
        assert events([wire[:cut], wire[cut:]]) == said, cut


@given(streams(), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_small_pieces(stream: tuple[bytes, list[Event]], size: int) -> None:
    wire, said = stream
    assert events([wire[i : i + size] for i in range(0, len(wire), size)]) == said


@given(
    st.lists(st.sampled_from([b"\n", b"\r", b"data", b":", b" ", b"x", b"\xef\xbb\xbf", b"\0"]), max_size=30)
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_the_same_events_however_they_arrive(words: list[bytes]) -> None:
    wire = b"".join(words)
    assert events([bytes([byte]) for byte in wire]) == events([wire])


@given(streams(st.sampled_from([b"\n", b"\r\n"])))
@settings(max_examples=100, deadline=None)
def test_a_whole_event_is_never_held_back(stream: tuple[bytes, list[Event]]) -> None:
    wire, _ = stream
    splitter = Splitter()
    assert splitter.feed(wire) == wire.removeprefix(sse.BOM)
    assert splitter.rest() == b""


def test_a_return_at_the_very_end_waits_for_what_follows() -> None:
    splitter = Splitter()
    assert splitter.feed(b"data: a\r\n\r") == b""
    assert splitter.feed(b"\ndata: b") == b"data: a\r\n\r\n"
    assert splitter.rest() == b"data: b"


@pytest.mark.parametrize(
    ("block", "event"),
    [
        (b"data: a\n\n", Event(b"a", b"")),
        (b"data:a\r\n\r\n", Event(b"a", b"")),
        (b"data:  two spaces\n\n", Event(b" two spaces", b"")),
        (b"data: a\ndata: b\ndata:\n\n", Event(b"a\nb\n", b"")),
        (b"data: a\rdata: b\r\r", Event(b"a\nb", b"")),
        (b"data\n\n", Event(b"", b"")),
        (b": ping\n\n", Event(None, b"")),
        (b"event: error\ndata: {}\n\n", Event(b"{}", b"error")),
        (b"id: 7\nretry: 10\nnonsense\n\n", Event(None, b"")),
        (b"data: a: b\n\n", Event(b"a: b", b"")),
    ],
)
def test_fields(block: bytes, event: Event) -> None:
    assert sse.parse(block) == event


@given(st.binary(max_size=60).map(lambda value: value.replace(b"\r", b"")))
def test_what_is_encoded_is_parsed(data: bytes) -> None:
    block = sse.encode(data)
    assert sse.split(block) == [block]
    assert sse.parse(block) == Event(data, b"")


def test_split_keeps_each_event_with_its_own_ending() -> None:
    assert sse.split(b"data: a\n\n: ping\n\n\n\ndata: b\n\n") == [
        b"data: a\n\n",
        b": ping\n\n",
        b"data: b\n\n",
    ]
    assert sse.split(b"data: a\r\n\r\ndata: b\n\ndata: c") == [b"data: a\r\n\r\n", b"data: b\n\n", b"data: c"]


@pytest.mark.parametrize("size", [1, 100, 1001])
def test_an_event_without_end_is_bounded(size: int) -> None:
    splitter = Splitter(limit=1000)
    for _ in range(1000 // size):
        assert splitter.feed(b"x" * size) == b""
    assert len(splitter.rest()) <= 1000
    with pytest.raises(EventTooLarge):
        splitter.feed(b"x" * size)


def test_events_that_end_are_not_counted_together() -> None:
    splitter = Splitter(limit=100)
    for _ in range(50):
        assert splitter.feed(b"data: " + b"x" * 60) == b""
        assert splitter.feed(b"\n\ndata: y") == b"data: " + b"x" * 60 + b"\n\n"
        assert splitter.feed(b"\n\n") == b"data: y\n\n"


def test_a_large_event_in_small_pieces_takes_time_in_proportion() -> None:
    """An image in one event: searched once, not once for each of its 16,000 pieces."""

    def seconds(pieces: int) -> float:
        splitter = Splitter()
        begun = time.process_time()
        for _ in range(pieces):
            splitter.feed(b"x" * 512)
        assert len(splitter.feed(b"\n\n")) == pieces * 512 + 2
        return time.process_time() - begun

    seconds(10)
    assert seconds(16_000) < 0.5
