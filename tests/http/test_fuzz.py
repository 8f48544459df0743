"""The doors under requests nobody planned: cut at every byte, mutated, mixed, made up. Whatever comes, each connection
gets well-formed answers or an end, and the server goes on. Bounded by count, the same in every run.
"""

from __future__ import annotations

import json
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from doors import SECRETS, Door, Ended, chat, chunked, get, post
from tollway.errors import BadRequest, GatewayError
from tollway.http.endpoints import Endpoint
from tollway.http.lane import parse_head
from tollway.pipeline.authenticate import ALL_CREDENTIAL_HEADERS, credential

CONTENT = json.dumps(chat()).encode()
VALID = {
    "lane": post(chat()),
    "stream": post(chat(stream=True)),
    "chunked": post(chunked(CONTENT, 20), "Transfer-Encoding: chunked"),
    "listing": get("/v1/models"),
    "http 1.0": post(chat(), version="1.0"),
    "refused": post(b'{"model": "nothing"}'),
    "unknown": get("/nowhere"),
}
ENDPOINT = Endpoint("chat.completions")


def conversation(door: Door, pieces: list[bytes], wanted: int = -1, pause: float = 0) -> list[int]:
    """Send the pieces, ``pause`` seconds apart so that they arrive as such, and read what comes back: the statuses of
    ``wanted`` answers, or of all until the connection ends."""
    statuses: list[int] = []
    with door.wire(15) as wire:
        for piece in pieces:
            if piece and not wire.send(piece):
                break
            if pause:
                time.sleep(pause)
        try:
            while len(statuses) != wanted:
                answer = wire.answer()
                assert 100 <= answer.status < 600
                assert answer.status != 500, answer.raw
                assert not any(secret.encode() in answer.raw for secret in SECRETS)
                statuses.append(answer.status)
        except Ended:
            pass
    return statuses


def closing(data: bytes) -> bytes:
    """Behind whatever was sent: a request that, if it is read as one, ends the connection."""
    return data + b"\r\n\r\n\r\n" + get("/health/liveness", "Connection: close", key="")


@pytest.mark.parametrize("name", VALID)
def test_split_at_every_byte(door: Door, name: str) -> None:
    """Two packets, cut anywhere: the answer is always that of the whole."""
    whole = VALID[name]
    expected = conversation(door, [whole], 1)
    places = range(1, len(whole))

    def split(at: int) -> list[int]:
        return conversation(door, [whole[:at], whole[at:]], 1, pause=0.002)

    with ThreadPoolExecutor(8) as pool:
        for at, statuses in zip(places, pool.map(split, places), strict=True):
            assert statuses == expected, at


def test_random_splits_of_pipelined_requests(door: Door) -> None:
    rng = random.Random(7)
    names = [name for name in VALID if name != "http 1.0"]
    expected = {name: conversation(door, [VALID[name]], 1)[0] for name in names}
    for _ in range(40):
        chosen = rng.choices(names, k=rng.randint(2, 6))
        data = b"".join(VALID[name] for name in chosen)
        cuts = sorted(rng.sample(range(len(data)), rng.randint(1, 12)))
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        assert conversation(door, pieces, len(chosen)) == [expected[name] for name in chosen], (chosen, cuts)


def mutated(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out))
        kind = rng.randrange(6)
        if kind == 0:
            out[at] = rng.randrange(256)
        elif kind == 1:
            out[at:at] = rng.choice(
                (b"\r\n", b"\n", b"\x00", b" ", b":", b"\xff", b"\r\n\r\n", b"%", b"{", b'"')
            )
        elif kind == 2:
            del out[at : at + rng.randint(1, 8)]
        elif kind == 3:
            other = rng.choice(list(VALID.values()))
            out[at:at] = other[: rng.randrange(len(other))]
        elif kind == 4:
            line = rng.choice(
                (
                    b"content-length: 5",
                    b"transfer-encoding: chunked",
                    b"host: b",
                    b"expect: 100-continue",
                    b"connection: close",
                    b"upgrade: h2c",
                    b"x-api-key: other",
                    b"content-length: -1",
                )
            )
            head = out.find(b"\r\n") + 2
            out[head:head] = line + b"\r\n"
        else:
            out = bytearray(
                re.sub(rb"\d+", lambda _: str(rng.choice((0, 1, 10**9, 99999))).encode(), bytes(out), count=2)
            )
        if not out:
            break
    return bytes(out)


def storm(door: Door, seed: int, count: int) -> None:
    rng = random.Random(seed)
    cases = []
    for _ in range(count):
        data = mutated(rng, rng.choice(list(VALID.values())))
        cut = rng.randrange(len(data) + 1)
        cases.append([data[:cut], data[cut:]])

    def one(pieces: list[bytes]) -> None:
        with door.wire(15) as wire:
            for piece in pieces:
                if piece:
                    wire.send(piece)
            wire.socket.settimeout(
                0.05
            )  # most are answered at once; what waits for more bytes is left behind
            try:
                while True:
                    answer = wire.answer()
                    assert answer.status != 500, (pieces, answer.raw)
                    assert not any(secret.encode() in answer.raw for secret in SECRETS), pieces
            except (Ended, TimeoutError):
                return

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, cases))
    door.goes_on()
    assert "Traceback" not in door.log
    assert "failed inside the gateway" not in door.log


def test_mutations(door: Door) -> None:
    storm(door, 11, 500)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_many_mutations(door: Door, seed: int) -> None:
    storm(door, 1000 + seed, 4000)


def test_garbage(door: Door) -> None:
    rng = random.Random(3)

    def one(data: bytes) -> None:
        statuses = conversation(door, [closing(data)])
        assert statuses, data
        assert statuses[-1] in (200, 400, 431), data

    cases = [rng.randbytes(rng.randint(1, 2000)) for _ in range(150)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, cases))
    door.goes_on()


# Heads, in process: Hypothesis looks for one that is read in two ways.

TOKENS = st.text(alphabet="abcdefghij-XYZ019_", min_size=1, max_size=12)
NAMES = st.one_of(
    TOKENS,
    st.sampled_from(
        ["Content-Length", "content-length", "Host", "Connection", "TE", "Authorization", "x-api-key"]
    ),
)
VALUES = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
    st.sampled_from(["0", "5", "00", "close", "trailers", "Bearer a", "Bearer b"]),
)


@settings(max_examples=300)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
@example([("content-length", "5"), ("Content-Length", "5")])
@example([("Authorization", "Bearer a"), ("authorization", "Bearer b")])
@example([("connection", "keep-alive"), ("Connection", "close")])
def test_a_head_is_read_in_one_way(pairs: list[tuple[str, str]]) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in pairs)
    head = f"POST /v1/chat/completions HTTP/1.1\r\n{lines}\r\n".encode()
    lower = [(name.lower().encode(), value.strip().encode()) for name, value in pairs]
    names = [name for name, _ in lower]
    try:
        parsed = parse_head(head, ENDPOINT)
    except (httptools.HttpParserError, BadRequest):
        lengths = [value for name, value in lower if name == b"content-length"]
        assert names.count(b"host") > 1 or lengths, "an honest head was refused"
        return
    assert set(parsed.headers) == set(names)
    for name in set(names) - {b"connection", b"te"}:
        assert parsed.headers[name] == [value for other, value in lower if other == name][-1]
    values = {name: {value for other, value in lower if other == name} for name in ALL_CREDENTIAL_HEADERS}
    assert parsed.repeated == any(len(found) > 1 for found in values.values())
    said = b" ".join(value for name, value in lower if name == b"connection").lower()
    assert parsed.keep_alive == (b"close" not in said)
    length = parsed.headers.get(b"content-length")
    if length is not None:
        assert parsed.before + length + parsed.after == head
        assert parsed.before.lower().endswith((b"content-length:", b" ", b"\t"))
        assert names.count(b"content-length") == 1


@settings(max_examples=300)
@given(st.binary(max_size=120))
@example(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")
@example(b"a: b\n\nGET / HTTP/1.1\r\n")
def test_any_bytes_for_headers_are_read_or_refused(junk: bytes) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" + junk + b"\r\n\r\n"
    head = head[: head.index(b"\r\n\r\n") + 4]
    try:
        parsed = parse_head(head, ENDPOINT)
    except (httptools.HttpParserError, BadRequest):
        return
    assert b"\n" not in b"".join(parsed.headers) + b"".join(parsed.headers.values())
    assert b"\0" not in b"".join(parsed.headers.values())
    assert not (b"content-length" in parsed.headers and b"transfer-encoding" in parsed.headers)


HEADERS = st.dictionaries(
    st.sampled_from(sorted(ALL_CREDENTIAL_HEADERS)),
    st.one_of(st.binary(max_size=12), st.sampled_from([b"Bearer k", b"bearer k", b"k", b"Bearer ", b""])),
    max_size=4,
)


@settings(max_examples=300)
@given(
    HEADERS,
    st.one_of(st.binary(max_size=30), st.sampled_from([b"key=k", b"key=k&key=l", b"key=%6b", b"key="])),
)
def test_any_credentials_are_read_or_refused(headers: dict[bytes, bytes], query: bytes) -> None:
    try:
        found = credential(headers, query)
    except GatewayError as error:
        status = error.http_status
        assert status in (400, 401)
        return
    assert found is None or isinstance(found, bytes)
    if found is None:
        assert not headers
