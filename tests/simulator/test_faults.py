"""Malformed answers: each must be wrong in exactly the way it is named for."""

import asyncio
import json
import re

import httptools
import pytest

from tollway.simulator.knobs import MALFORMED


class Parsed:
    """What an HTTP parser makes of the bytes: complete answers, interim ones apart, or an error."""

    def __init__(self, raw: bytes) -> None:
        self.complete = 0
        self.interim = 0
        self.body = b""
        self.error: str | None = None
        self._parser = httptools.HttpResponseParser(self)
        try:
            self._parser.feed_data(raw)
        except httptools.HttpParserError as error:
            self.error = str(error)

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            self.interim += 1
        else:
            self.complete += 1


@pytest.fixture
def fetch(connect, chat, post):
    async def get(knobs: str, streamed: bool = False) -> bytes:
        reader, writer = await connect()
        writer.write(post(chat(f"m+{knobs}", stream=streamed)))
        raw = b""
        try:
            while True:
                data = await asyncio.wait_for(reader.read(1 << 20), 0.06)
                if not data:
                    return raw
                raw += data
        except TimeoutError:
            return raw

    return get


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "kind",
    [
        "status_line",
        "header_line",
        "header_nul",
        "two_lengths",
        "length_and_chunked",
        "chunk_size",
        "garbage",
    ],
)
async def test_what_no_http_client_may_accept(fetch, kind, streamed):
    raw = await fetch(f"malformed={kind}", streamed)
    assert raw
    if kind == "two_lengths":
        assert len(set(re.findall(rb"content-length: (\d+)", raw))) == 2
    elif kind == "length_and_chunked":
        assert b"content-length: " in raw
        assert b"transfer-encoding: chunked" in raw
    else:
        assert Parsed(raw).error is not None


async def test_lengths_that_lie(fetch):
    raw = await fetch("malformed=length_long")
    head, _, body = raw.partition(b"\r\n\r\n")
    assert int(re.search(rb"content-length: (\d+)", head)[1]) == len(body) + 64
    raw = await fetch("malformed=length_short")
    head, _, body = raw.partition(b"\r\n\r\n")
    assert int(re.search(rb"content-length: (\d+)", head)[1]) == len(body) // 2


async def test_interim_answers_before_the_final_one(fetch):
    parsed = Parsed(await fetch("malformed=informational"))
    assert (parsed.interim, parsed.complete, parsed.error) == (100, 1, None)
    assert json.loads(parsed.body)["object"] == "chat.completion"


async def test_huge_heads_and_bodies(fetch):
    head = (await fetch("malformed=header_huge")).partition(b"\r\n\r\n")[0]
    assert len(head) > 128 * 1024
    assert len((await fetch("malformed=header_huge+size=50")).partition(b"\r\n\r\n")[0]) < 400
    parsed = Parsed(await fetch("malformed=body_huge+size=300000"))
    assert len(parsed.body) > 300_000
    assert json.loads(parsed.body)["object"] == "chat.completion"
    parsed = Parsed(await fetch("malformed=body_huge+size=300000", True))
    lines = [line for line in parsed.body.split(b"\n") if len(line) > 300_000]
    assert len(lines) == 1
    assert json.loads(lines[0].removeprefix(b"data: "))["object"] == "chat.completion.chunk"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kind", ["json", "sse_json", "utf8"])
async def test_valid_http_around_broken_content(fetch, kind, streamed):
    parsed = Parsed(await fetch(f"malformed={kind}", streamed))
    assert (parsed.complete, parsed.error) == (1, None)
    values = parsed.body.split(b"\n\n")[:-2] if streamed else [parsed.body]
    broken = 0
    for value in values:
        try:
            json.loads(value.removeprefix(b"data: "))
        except ValueError:
            broken += 1
    assert broken == 1


async def test_bodies_that_are_not_what_the_head_says(fetch):
    raw = await fetch("malformed=content_type")
    assert b"content-type: text/html\r\n" in raw
    assert json.loads(Parsed(raw).body)["object"] == "chat.completion"
    raw = await fetch("malformed=encoding")
    assert b"content-encoding: gzip\r\n" in raw
    assert Parsed(raw).body.startswith(b"{")
    raw = await fetch("malformed=encoding_cut")
    assert Parsed(raw).complete == 1
    assert Parsed(raw).body.startswith(b"\x1f\x8b")
    assert Parsed(await fetch("malformed=body_empty")).body == b""
    assert Parsed(await fetch("malformed=body_empty", True)).body == b""


@pytest.mark.parametrize("kind", MALFORMED)
async def test_a_malformed_answer_is_never_billed_as_complete(simulator, fetch, kind):
    await fetch(f"malformed={kind}+size=100")
    (entry,) = simulator.bill.entries()
    assert entry.complete is False
