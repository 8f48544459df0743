"""Amazon's event stream: frames read as botocore writes and reads them, damage refused, any split the same."""

from __future__ import annotations

import struct
from binascii import crc32

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given, settings
from hypothesis import strategies as st

from tollway.wire import event_stream
from tollway.wire.codec import Unreadable
from tollway.wire.event_stream import Frame, FrameReader
from tollway.wire.sse import EventTooLarge

HEADERS = st.dictionaries(
    st.text("abc:-", min_size=1, max_size=10), st.text(min_size=1, max_size=20), max_size=4
)


@settings(max_examples=60, deadline=None)
@given(HEADERS, st.binary(max_size=200))
def test_botocore_reads_what_is_written(headers: dict[str, str], payload: bytes) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(event_stream.encode(headers, payload))
    [message] = list(buffer)
    assert message.headers == headers
    assert message.payload == payload


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(HEADERS, st.binary(max_size=60)), max_size=4), st.data())
def test_any_split_gives_the_same_frames(
    written: list[tuple[dict[str, str], bytes]], data: st.DataObject
) -> None:
    whole = b"".join(event_stream.encode(headers, payload) for headers, payload in written)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    reader = FrameReader()
    frames: list[Frame] = []
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        frames += reader.feed(whole[start:end])
    assert frames == [Frame(dict(headers), payload) for headers, payload in written]
    assert reader.rest == 0


def _frame(headers: bytes, payload: bytes) -> bytes:
    lengths = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    frame = lengths + struct.pack("!I", crc32(lengths)) + headers + payload
    return frame + struct.pack("!I", crc32(frame))


def test_every_type_of_header_is_read_as_botocore_reads_it() -> None:
    headers = b"".join(
        bytes((1,)) + name + bytes((kind,)) + value
        for name, kind, value in (
            (b"t", 0, b""),
            (b"f", 1, b""),
            (b"b", 2, b"\xff"),
            (b"s", 3, b"\x01\x00"),
            (b"i", 4, b"\x00\x00\x01\x00"),
            (b"l", 5, b"\x00" * 7 + b"\x05"),
            (b"y", 6, b"\x00\x02\x01\x02"),
            (b"x", 7, b"\x00\x02\xc3\xa9"),
            (b"d", 8, b"\x00" * 7 + b"\x09"),
            (b"u", 9, bytes(range(16))),
        )
    )
    frame = _frame(headers, b"{}")
    buffer = EventStreamBuffer()
    buffer.add_data(frame)
    [expected] = list(buffer)
    [found] = FrameReader().feed(frame)
    assert found.headers == expected.headers
    assert found.headers["x"] == "é"
    assert found.text("i") == ""


@pytest.mark.parametrize("place", range(40))
def test_one_flipped_bit_is_refused(place: int) -> None:
    frame = bytearray(event_stream.encode({":event-type": "x"}, b'{"a":1}'))
    place %= len(frame)
    frame[place] ^= 1
    with pytest.raises((Unreadable, EventTooLarge)):
        FrameReader().feed(bytes(frame))


def test_a_frame_beyond_the_bound_is_refused_before_it_is_held() -> None:
    frame = event_stream.encode({}, b"x" * 2000)
    with pytest.raises(EventTooLarge):
        FrameReader(limit=1000).feed(frame[:12])


def test_headers_that_lie_about_their_length_are_refused() -> None:
    for headers in (b"\x01a\x07\x00\x09abc", b"\x01a\x0b", b"\x05a", b"\x01a\x04\x00", b"\x01\xff\x00"):
        with pytest.raises(Unreadable):
            FrameReader().feed(_frame(headers, b""))
    lengths = struct.pack("!II", 16, 40)
    with pytest.raises(Unreadable):
        FrameReader().feed(lengths + struct.pack("!I", crc32(lengths)))


def test_a_large_frame_in_small_pieces_is_joined_once() -> None:
    frame = event_stream.encode({"a": "b"}, b"x" * 1_000_000)
    reader = FrameReader()
    frames: list[Frame] = []
    for start in range(0, len(frame), 1000):
        frames += reader.feed(frame[start : start + 1000])
    assert [len(found.payload) for found in frames] == [1_000_000]
