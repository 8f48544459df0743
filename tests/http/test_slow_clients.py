"""Clients that trickle or never read: cut off by a deadline, and what they cost meanwhile is bounded."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from doors import CHAT, Door, Ended, Wire, chat, eventually, get, open_doors, post

HEAD = BODY = 0.5
WRITE = 0.6
KEEP = 0.7
LATE = 1.0
"""What the timer (two looks a second) and a busy machine may add."""

MB = 1_000_000


@pytest.fixture(scope="module")
def hasty() -> Iterator[dict[str, Door]]:
    """Both doors with short deadlines."""
    with open_doors(
        max_body="32MiB",
        header_timeout=f"{HEAD}s",
        body_timeout=f"{BODY}s",
        write_timeout=f"{WRITE}s",
        keep_alive=f"{KEEP}s",
    ) as opened:
        yield opened


@pytest.fixture
def lane(hasty: dict[str, Door]) -> Door:
    return hasty["lane"]


def trickle(wire: Wire, data: bytes, seconds: float, pause: float = 0.1) -> float:
    """A byte at a time until the server closes; the seconds that took. Fails the test when it does not."""
    started = time.monotonic()
    wire.socket.settimeout(pause)
    for at in range(len(data)):
        wire.send(data[at : at + 1])
        try:
            wire._more()
        except TimeoutError:
            pass
        except Ended:
            return time.monotonic() - started
        assert time.monotonic() - started < seconds, "still served"
    raise AssertionError("everything was taken")


def deaf(door: Door) -> Wire:
    """A connection whose client takes next to nothing: the smallest receive buffer there is."""
    wire = Wire.__new__(Wire)
    wire.socket = socket.socket()
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wire.socket.settimeout(10)
    wire.socket.connect(("127.0.0.1", door.port))
    wire.seen = wire._buffer = b""
    return wire


def gone(wire: Wire) -> bool:
    """Whether the server has cut the connection, seen without reading from it."""
    try:
        return wire.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0 or _state(wire) not in (
            "01",
            "08",
        )
    except OSError:
        return True


def _state(wire: Wire) -> str:
    """The kernel's view of the server's end of the connection: 01 established, absent when it is no more."""
    ours = wire.socket.getsockname()[1]
    server = wire.socket.getpeername()[1]
    with open("/proc/net/tcp") as table:
        for line in table.readlines()[1:]:
            _, local, remote, state, *_ = line.split()
            if local.endswith(f":{server:04X}") and remote.endswith(f":{ours:04X}"):
                return state
    return ""


@pytest.mark.parametrize("behind", [b"", post(chat()), get("/v1/models")], ids=["first", "post", "get"])
def test_a_head_that_trickles(lane: Door, behind: bytes) -> None:
    """Each head alike: the first, and those that follow a request of either kind in the same packet."""
    with lane.wire() as wire:
        first = post(chat())
        wire.send(behind + first[:10])
        if behind:
            assert wire.answer().status == 200
        assert trickle(wire, first[10:], HEAD + LATE) > HEAD - 0.1
        if wire._buffer:
            answer = wire.answer()
            assert (answer.status, answer.code) == (408, "request_timeout")
    lane.goes_on()


def test_a_silent_head_is_told_why(lane: Door) -> None:
    for data in (post(chat())[:40], get("/v1/models") + b"GET /v1/mod"):
        with lane.wire() as wire:
            wire.send(data)
            answer = wire.answer()
            if answer.status == 200:
                answer = wire.answer()
            assert (answer.status, answer.code) == (408, "request_timeout")
            assert "headers did not arrive in time" in answer.json()["error"]["message"]
            assert wire.ends() == b""


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("name", ["lane", "asgi"])
def test_a_body_that_stops(hasty: dict[str, Door], name: str, framing: str) -> None:
    lines = ("Transfer-Encoding: chunked",) if framing == "chunked" else ("Content-Length: 1000",)
    with hasty[name].wire() as wire:
        started = time.monotonic()
        wire.send(post(b"3e8\r\n{" if framing == "chunked" else b"{", *lines))
        answer = wire.answer()
        assert (answer.status, answer.code) == (408, "request_timeout")
        assert "body did not arrive in time" in answer.json()["error"]["message"]
        assert BODY - 0.1 < time.monotonic() - started < BODY + LATE
        assert wire.ends() == b""
    hasty[name].goes_on()


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("name", ["lane", "asgi"])
def test_a_body_that_trickles(hasty: dict[str, Door], name: str, framing: str) -> None:
    """Never silent for long, and still cut off: a body has to come at a rate."""
    if framing == "chunked":
        head, data = post(b"", "Transfer-Encoding: chunked"), b"1\r\nx\r\n" * 100
    else:
        head, data = post(b"", "Content-Length: 10000"), b"x" * 600
    with hasty[name].wire() as wire:
        wire.send(head)
        assert trickle(wire, data, BODY + 0.2 + LATE) > BODY - 0.1
        assert b"HTTP/1.1 408" in wire.seen
    hasty[name].goes_on()


def test_a_body_nobody_reads_any_more(lane: Door) -> None:
    """Refused before its body is in, the client goes on with it, a byte at a time: that has an end too."""
    with lane.wire() as wire:
        wire.send(post(b"", "Content-Length: 1000", path="/nowhere"))
        assert wire.answer().status == 404
        assert trickle(wire, b"x" * 900, BODY + LATE) > BODY - 0.1


def test_a_slow_but_steady_body_is_served(hasty: dict[str, Door]) -> None:
    """Longer than body_timeout in all, at a rate that nobody need be ashamed of."""
    data = post(chat(text="x" * 20_000))
    for door in hasty.values():
        with door.wire() as wire:
            for at in range(0, len(data), 2000):
                wire.send(data[at : at + 2000])
                time.sleep(0.1)  # the pace of the client under test
            assert wire.answer().status == 200


def test_idle_connections_are_closed(lane: Door) -> None:
    wires = [lane.wire() for _ in range(3)]
    for wire, data in zip(wires, (b"", post(chat()), get("/v1/models")), strict=True):
        if data:
            wire.send(data)
            wire.answer()
    started = time.monotonic()
    for wire in wires:
        with wire:
            assert wire.ends() == b""
            assert KEEP - 0.2 < time.monotonic() - started < KEEP + LATE


def test_a_client_that_never_reads_a_stream(lane: Door) -> None:
    """The provider is slowed down to it, then let go; the event says what had been written."""
    before = lane.memory
    wire = deaf(lane)
    wire.send(post(chat("mock/gpt-4o-mini+events=200000+tokens=200000", stream=True)))
    request_id = wire.head()[1]["x-tollway-request-id"]
    started = time.monotonic()
    peak = 0
    while not gone(wire):
        peak = max(peak, lane.memory - before)
        assert time.monotonic() - started < WRITE + 3, "still held"
        time.sleep(0.05)
    assert peak < 16 * MB, "the stream (40 MB) piled up"
    assert lane.event(request_id)["outcome"] == "cancelled"
    wire.socket.close()
    lane.goes_on()


@pytest.mark.parametrize("lines", [(), ("Connection: close",)], ids=["kept", "closing"])
@pytest.mark.parametrize("path", [CHAT, CHAT + "?x=1"], ids=["lane", "visitor"])
def test_a_client_that_never_reads_a_large_answer(lane: Door, path: str, lines: tuple[str, ...]) -> None:
    text = "x" * (20 * MB)
    wire = deaf(lane)
    wire.send(post(chat("mock/gpt-4o-mini+echo", text), *lines, path=path))
    wire.head()
    started = time.monotonic()
    while not gone(wire):
        assert time.monotonic() - started < 2 * WRITE + 2 * LATE, "still held"
        time.sleep(0.05)
    assert time.monotonic() - started > WRITE - 0.2
    wire.socket.close()
    lane.goes_on()


def test_a_slow_reader_gets_the_whole_of_a_large_answer(hasty: dict[str, Door]) -> None:
    """It takes much longer than write_timeout, and there is always something taken."""
    data = post(chat("mock/gpt-4o-mini+echo", "x" * (12 * MB)))
    for door in hasty.values():
        with door.wire() as wire:
            wire.send(data)
            _, headers, _ = wire.head()
            left = int(headers["content-length"]) - len(wire._buffer)
            started = time.monotonic()
            while left:
                part = wire.socket.recv(32_768)
                assert part, f"{door.name}: cut off with {left} bytes to go"
                left -= len(part)
                if time.monotonic() - started < 2.5 * WRITE:
                    time.sleep(0.005)  # the pace of the client under test
            assert time.monotonic() - started > 2 * WRITE


def test_answers_do_not_pile_up_for_a_client_that_only_sends(lane: Door) -> None:
    """Pipelining without reading: another large answer is not made before the first is taken."""
    wire = deaf(lane)
    data = post(chat("mock/gpt-4o+echo", "x" * 4 * MB))
    wire.socket.settimeout(0.3)
    with contextlib.suppress(TimeoutError):
        for _ in range(10):
            if not wire.send(data):
                break
    eventually(lambda: gone(wire), WRITE + 4)
    wire.socket.close()
    lane.goes_on()
    assert 1 <= lane.log.count('"upstream_model":"gpt-4o+echo"') <= 3, "answers nobody took were paid for"


def test_many_slow_clients_take_no_worker(lane: Door) -> None:
    """Three hundred half requests of every kind; the next one is served as fast as ever."""
    wires = [lane.wire() for _ in range(300)]
    halves = [
        post(chat())[:30],
        post(chat())[:-5],
        get("/v1/models") + b"GET",
        post(b"5\r\nh", "Transfer-Encoding: chunked"),
    ]
    for at, wire in enumerate(wires):
        wire.send(halves[at % len(halves)])
    started = time.monotonic()
    lane.goes_on()
    assert time.monotonic() - started < 0.5
    for wire in wires:
        wire.socket.close()
