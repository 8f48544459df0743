"""How bytes go out: pauses, framings, encodings, pieces, and every way to break off."""

import asyncio
import gzip
import json
import time
import zlib

import brotli
import pytest
import zstandard


async def test_latency_and_pace_are_kept(ask, chat):
    begin = time.monotonic()
    await ask(chat("m+latency=60ms"))
    assert 0.055 < time.monotonic() - begin < 0.5
    begin = time.monotonic()
    reply = await ask(chat("m+pace=10ms+events=8", stream=True))
    # Role, eight pieces, the finish and [DONE]: ten pauses.
    assert len(reply.data) == 11
    assert 0.09 < time.monotonic() - begin < 0.6


async def test_a_pace_below_the_clocks_grain_holds_on_average(ask, chat):
    begin = time.monotonic()
    await ask(chat("m+pace=500us+tokens=200", stream=True))
    assert 0.09 < time.monotonic() - begin < 0.5


async def test_paced_events_arrive_one_by_one(connect, chat, post):
    reader, writer = await connect()
    writer.write(post(chat("m+pace=20ms+first_event=20ms+events=2", stream=True)))
    reads = []
    while not reads or b"[DONE]" not in reads[-1]:
        reads.append(await reader.read(65536))
    assert [read.count(b"data: ") for read in reads] == [0, 1, 1, 1, 1, 1]


async def test_a_range_of_latency_is_kept(ask, chat):
    took = []
    for _ in range(8):
        begin = time.monotonic()
        await ask(chat("m+latency=10ms..60ms"))
        took.append(time.monotonic() - begin)
    assert min(took) > 0.008
    assert max(took) < 0.3
    assert max(took) - min(took) > 0.005


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("framing", ["length", "chunked", "eof"])
async def test_framings(ask, chat, framing, streamed):
    plain = await ask(chat("m+answer_model=x", stream=streamed))
    reply = await ask(chat(f"m+answer_model=x+framing={framing}", stream=streamed))
    assert ("content-length" in reply.headers) == (framing == "length")
    assert ("transfer-encoding" in reply.headers) == (framing == "chunked")
    assert (reply.headers.get("connection") == "close") == (framing == "eof")
    assert len(reply.body) == len(plain.body)


DECODERS = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "br": brotli.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("encoding", list(DECODERS))
async def test_encodings(ask, chat, encoding, streamed):
    reply = await ask(chat(f"m+encoding={encoding}", stream=streamed))
    assert reply.headers["content-encoding"] == encoding
    reply.body = DECODERS[encoding](reply.body)
    if streamed:
        assert reply.data[-1] == "[DONE]"
        assert len(reply.text) == 128
    else:
        assert reply.json()["usage"]["completion_tokens"] == 32


async def test_encoded_events_can_be_read_one_by_one(connect, chat, post):
    reader, writer = await connect()
    writer.write(post(chat("m+encoding=gzip+stall=2", stream=True)))
    await reader.readuntil(b"\r\n\r\n")
    unzip, text = zlib.decompressobj(31), b""
    for _ in range(2):
        size = int(await reader.readuntil(b"\r\n"), 16)
        text += unzip.decompress((await reader.readexactly(size + 2))[:-2])
    assert text.count(b"data: ") == 2
    assert text.endswith(b"\n\n")


async def test_split_writes_carry_the_same_bytes(ask, chat):
    for streamed in (False, True):
        whole = await ask(chat("m+tokens=3", stream=streamed))
        split = await ask(chat("m+tokens=3+split=7", stream=streamed))
        assert len(split.raw) == len(whole.raw)
        assert split.headers.keys() == whole.headers.keys()


async def test_sse_variants(ask, chat):
    crlf = await ask(chat("m+crlf", stream=True))
    assert crlf.body.count(b"\r\n\r\n") == crlf.body.count(b"\n") / 2 == len(crlf.data)
    pings = await ask(chat("m+comments=3", stream=True))
    assert pings.body.count(b": ping\n\n") == -(-len(pings.data) // 3)
    assert (await ask(chat("m+no_done", stream=True))).data[-1] != "[DONE]"


async def test_ratelimit_headers(ask, chat):
    reply = await ask(chat("m+ratelimit=7"))
    assert reply.headers["x-ratelimit-remaining-requests"] == "7"
    assert {name for name in reply.headers if name.startswith("x-ratelimit-")} == {
        f"x-ratelimit-{what}-{unit}"
        for what in ("limit", "remaining", "reset")
        for unit in ("requests", "tokens")
    }


async def _all(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.read(), 2)


@pytest.mark.parametrize(
    ("knob", "streamed", "events", "ends"),
    [
        ("cut=headers", False, None, None),
        ("cut=headers", True, None, None),
        ("cut=0", True, 0, b"\r\n\r\n"),
        ("cut=3", True, 3, b"\n\n\r\n"),
        ("cut=99", True, 35, b"[DONE]\n\n\r\n"),
        ("cut=body", True, 17, b"\n\n\r\n"),
        ("cut=3+framing=eof", True, 3, b"\n\n"),
        ("cut=3+framing=length", True, 3, b"\n\n"),
    ],
)
async def test_cuts(simulator, connect, chat, post, until, knob, streamed, events, ends):
    reader, writer = await connect()
    writer.write(post(chat(f"m+{knob}", stream=streamed)))
    raw = await _all(reader)
    if events is None:
        assert raw == b""
    else:
        assert raw.endswith(ends)
        assert raw.count(b"data: ") == events
    await until(lambda: simulator.open == 0)
    assert simulator.aborted_total == 0
    (entry,) = simulator.bill.entries()
    assert entry.complete is False
    assert entry.usage is None
    assert entry.events == (events or 0)
    assert entry.completion_tokens == min(32, max(0, (events or 0) - 1))


async def test_cut_within_a_chunk_and_within_a_body(connect, chat, post):
    reader, writer = await connect()
    writer.write(post(chat("m+cut=chunk", stream=True)))
    head, _, rest = (await _all(reader)).rpartition(b"\r\ndata: ")
    assert 0 < len(b"data: " + rest) < int(head.rpartition(b"\r\n")[2], 16)
    reader, writer = await connect()
    writer.write(post(chat("m+cut=chunk")))
    head, _, body = (await _all(reader)).partition(b"\r\n\r\n")
    line, _, data = body.partition(b"\r\n")
    assert b"chunked" in head
    assert 0 < len(data) < int(line, 16)
    reader, writer = await connect()
    writer.write(post(chat("m+cut=body")))
    head, _, body = (await _all(reader)).partition(b"\r\n\r\n")
    assert len(body) == int(head.rpartition(b"content-length: ")[2]) // 2


async def test_a_reset_is_a_reset(connect, chat, post):
    reader, writer = await connect()
    writer.write(post(chat("m+cut=2+reset", stream=True)))
    with pytest.raises(ConnectionResetError):
        await _all(reader)


@pytest.mark.parametrize(
    ("knob", "streamed", "events"),
    [("stall=headers", True, None), ("stall=4", True, 4), ("stall=0", True, 0), ("stall=body", False, 0)],
)
async def test_stalls_hold_until_the_client_leaves(
    simulator, connect, chat, post, until, knob, streamed, events
):
    reader, writer = await connect()
    writer.write(post(chat(f"m+{knob}", stream=streamed)))
    await until(lambda: simulator.open == 1)
    raw = b""
    try:
        while not reader.at_eof():
            raw += await asyncio.wait_for(reader.read(65536), 0.05)
    except TimeoutError:
        pass
    assert not reader.at_eof()
    assert raw.count(b"data: ") == (events or 0)
    assert (raw == b"") == (events is None)
    writer.close()
    await until(lambda: simulator.open == 0)
    phase = "before-headers" if events is None else "mid-stream" if streamed else "mid-body"
    assert [gone.phase for gone in simulator.aborted] == [phase]


@pytest.mark.parametrize("knob", ["close=announce", "close=silent", "close"])
async def test_closing_after_the_answer(simulator, connect, chat, post, read, knob):
    reader, writer = await connect()
    writer.write(post(chat(f"m+{knob}")))
    reply = await read(reader)
    assert ("connection" in reply.headers) == (knob != "close=silent")
    assert await _all(reader) == b""
    assert simulator.bill.entries()[0].complete is True


async def test_an_error_event_ends_the_stream(simulator, ask, chat):
    options = {"include_usage": True}
    reply = await ask(chat("m+error_event=4", stream=True, stream_options=options))
    assert len(reply.data) == 5
    assert json.loads(reply.data[-1])["error"]["type"] == "server_error"
    (entry,) = simulator.bill.entries()
    assert (entry.complete, entry.usage, entry.events, entry.completion_tokens) == (False, None, 5, 3)
