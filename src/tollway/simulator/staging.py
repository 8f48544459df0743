"""From an answer to the bytes and pauses of the wire: heads, framing, encodings, pacing and where it all
breaks off.

Pure: it plans a list of steps and knows neither sockets nor clocks; connection.py plays them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from http import HTTPStatus
from typing import Literal

import brotli
import zstandard
from msgspec import Struct

from tollway.simulator.answer import Answer, Request
from tollway.simulator.faults import break_body, break_head
from tollway.simulator.knobs import Knobs

End = Literal["keep", "close", "reset", "hang"]

TURN = -1.0
"""A delay that means: in the next turn of the event loop, so that the bytes leave on their own."""

Step = tuple[float, bytes, int]
"""Seconds to wait first (0 with the step before, TURN), bytes to write, SSE events finished by them."""


class Plan(Struct):
    """``whole`` is False where the knobs break the answer: such an exchange is never complete."""

    steps: list[Step]
    end: End
    whole: bool = True


STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus
}

LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def head(answer: Answer, headers: bytes) -> tuple[bytes, bytes]:
    """Everything before the headers of framing and connection, save the request id that stands in between."""
    line = STATUS_LINES.get(answer.status) or b"HTTP/1.1 %d Unknown\r\n" % answer.status
    before = b"%bcontent-type: %b\r\nx-request-id: " % (line, answer.content_type)
    return before, b"\r\n%b%b" % (headers, answer.headers)


def plain(answer: Answer, headers: bytes) -> tuple[bytes, bytes]:
    """The usual case in one go: HTTP/1.1, kept alive, one body or one burst of events; around the request
    id."""
    before, after = head(answer, headers)
    if not answer.streamed:
        body = answer.pieces[0]
        return before, b"%bcontent-length: %d\r\n\r\n%b" % (after, len(body), body)
    chunks = b"".join([b"%x\r\n%b\r\n" % (len(event), event) for event in answer.pieces])
    return before, b"%btransfer-encoding: chunked\r\n\r\n%b0\r\n\r\n" % (after, chunks)


def plan(
    answer: Answer, knobs: Knobs, request: Request, request_id: bytes, headers: bytes, latency: float
) -> Plan:
    """The general case; ``latency`` is the one drawn for this request, in seconds."""
    framing = knobs.framing or ("chunked" if answer.streamed else "length")
    if knobs.malformed in ("chunk_size", "length_and_chunked") or knobs.cut == "chunk":
        framing = "chunked"
    if knobs.malformed in ("two_lengths", "length_long", "length_short"):
        framing = "length"
    if request.http10 and framing == "chunked":
        framing = "eof"
    pieces = _sse(answer, knobs) if answer.streamed and answer.shape == "sse" else answer.pieces
    pieces = break_body(pieces, answer.shape if answer.streamed else None, knobs.malformed, knobs.size)
    encoding = knobs.encoding or ("gzip" if knobs.malformed == "encoding_cut" else None)
    last = b""
    if encoding is not None:
        pieces, last = _encoded(pieces, encoding)
    if knobs.malformed == "encoding_cut":
        pieces, last = [piece[: len(piece) // 2] for piece in pieces], b""
    closing = not request.keep_alive or framing == "eof" or knobs.close == "announce"
    top = _top(answer, knobs, request_id, headers, encoding, closing, request)
    length = sum(map(len, pieces)) + len(last)
    match framing:
        case "chunked":
            top += b"transfer-encoding: chunked\r\n\r\n"
            body = [chunk(piece) for piece in pieces if piece]
            tail = (chunk(last) if last else b"") + LAST_CHUNK
        case "length":
            top += b"content-length: %d\r\n\r\n" % length
            body, tail = pieces, last
        case _:
            top += b"\r\n"
            body, tail = pieces, last
    top, body = break_head(top, body, length, knobs.malformed, knobs.size)
    end: End = "close" if closing or knobs.close or knobs.malformed in ("length_long", "garbage") else "keep"
    made = _paced(top, body, tail, answer.streamed, knobs, latency)
    whole = knobs.malformed is None
    place = knobs.stall if knobs.stall is not None else knobs.cut
    if place is not None:
        made = _broken_off(made, place, answer.streamed)
        whole = False
        end = "hang" if knobs.stall is not None else "reset" if knobs.reset else "close"
    elif knobs.error_event is not None:
        whole = False
    if knobs.split is not None:
        made = _split(made, knobs.split)
    elif knobs.pace is None:
        made = _joined(made)
    return Plan(made, end, whole)


def _top(
    answer: Answer,
    knobs: Knobs,
    request_id: bytes,
    headers: bytes,
    encoding: str | None,
    closing: bool,
    request: Request,
) -> bytes:
    before, after = head(answer, headers)
    top = before + request_id + after
    if encoding is not None:
        top += b"content-encoding: %b\r\n" % encoding.encode()
    if closing:
        top += b"connection: close\r\n"
    elif request.http10:
        top += b"connection: keep-alive\r\n"
    return top


def _sse(answer: Answer, knobs: Knobs) -> list[bytes]:
    """Comments ride with the event they precede, so that numbers of events stay true."""
    pieces = answer.pieces
    if knobs.comments:
        pieces = [
            b": ping\n\n" + event if place % knobs.comments == 0 else event
            for place, event in enumerate(pieces)
        ]
    if knobs.crlf:
        pieces = [event.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for event in pieces]
    return pieces


def _encoded(pieces: list[bytes], encoding: str) -> tuple[list[bytes], bytes]:
    """Each piece compressed and flushed, so that it can be read on its own; then what ends the whole."""
    feed, flush, finish = COMPRESSORS[encoding]()
    return [feed(piece) + flush() for piece in pieces], finish()


Compressor = tuple[Callable[[bytes], bytes], Callable[[], bytes], Callable[[], bytes]]


def _zlib(window: int) -> Compressor:
    made = zlib.compressobj(6, zlib.DEFLATED, window)
    return made.compress, lambda: made.flush(zlib.Z_SYNC_FLUSH), made.flush


def _brotli() -> Compressor:
    made = brotli.Compressor(quality=4)
    return made.process, made.flush, made.finish


def _zstd() -> Compressor:
    made = zstandard.ZstdCompressor().compressobj()
    return made.compress, lambda: made.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK), made.flush


COMPRESSORS: dict[str, Callable[[], Compressor]] = {
    "gzip": lambda: _zlib(31),
    "deflate": lambda: _zlib(15),
    "br": _brotli,
    "zstd": _zstd,
}


def _paced(
    top: bytes, body: list[bytes], tail: bytes, streamed: bool, knobs: Knobs, latency: float
) -> list[Step]:
    if not streamed:
        return [(latency, top, 0), *((0.0, part, 0) for part in body), (0.0, tail, 0)]
    pause = 0.0 if knobs.pace is None else knobs.pace or TURN
    steps: list[Step] = [(latency, top, 0)]
    steps += [(pause if place else knobs.first_event, part, 1) for place, part in enumerate(body)]
    steps.append((0.0, tail, 0))
    return steps


def _broken_off(steps: list[Step], place: int | str, streamed: bool) -> list[Step]:
    """``steps`` are a head, the body's parts and a tail; what is left ends at the place."""
    latency = steps[0][0]
    if place == "headers":
        # The wait stays, so that both knobs may be used together.
        return [(latency, b"", 0)]
    body = steps[1:-1]
    if streamed:
        if isinstance(place, int):
            return steps[: 1 + place] if place < len(body) else steps[:-1]
        kept = steps[: 1 + len(body) // 2]
        if place == "chunk" and len(body) > len(body) // 2:
            delay, data, _ = body[len(body) // 2]
            kept.append((delay, data[: len(data) // 2], 0))
        return kept
    if place == 0:
        return steps[:1]
    data = b"".join(part for _, part, _ in body)
    return [steps[0], (0.0, data[: len(data) // 2], 0)]


def _joined(steps: list[Step]) -> list[Step]:
    """Steps without a pause before them become one write with the step before."""
    joined: list[Step] = []
    run: list[bytes] = []
    events, delay = 0, steps[0][0]
    for place, (wait, data, number) in enumerate(steps):
        if place and wait != 0.0:
            joined.append((delay, b"".join(run), events))
            run, events, delay = [], 0, wait
        run.append(data)
        events += number
    joined.append((delay, b"".join(run), events))
    return joined


def _split(steps: list[Step], size: int) -> list[Step]:
    pieces: list[Step] = []
    for delay, data, events in _joined(steps):
        for at in range(0, max(len(data), 1), size):
            last = at + size >= len(data)
            wait = TURN if at or (delay == 0.0 and pieces) else delay
            pieces.append((wait, data[at : at + size], events if last else 0))
    return pieces
