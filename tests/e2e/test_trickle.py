"""Answers that take minutes: twenty translated streams at once, four events a second on each. Every event arrives as it
was said and when it was said, nothing is cut, and memory does not grow with what has passed."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from running import KEY, Gateway
from tollway.model.usage import Usage
from tollway.wire.codecs import codec
from tollway.wire.conversation import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Conversation,
    End,
    Finished,
    Metered,
    Start,
    StreamEvent,
    Text,
)

EVERY = 0.25
MB = 1024 * 1024

PROVIDERS = {
    "chat": ("openai-compatible", "openai.chat", "/v1"),
    "resp": ("openai", "openai.responses", "/v1"),
    "anthropic": ("anthropic", "anthropic.messages", ""),
    "gemini": ("gemini", "gemini.generate", ""),
    "bedrock": ("bedrock", "bedrock.converse", ""),
    "cohere": ("cohere", "cohere.chat", ""),
    "ollama": ("ollama", "ollama.chat", ""),
}
"""Type, wire format, and what stands before the format's path."""

_MESSAGES = [{"role": "user", "content": "Tell me all of it."}]
CLIENTS = {
    "openai.chat": ("/v1/chat/completions", {"messages": _MESSAGES, "stream": True}),
    "openai.responses": ("/v1/responses", {"input": "Tell me all of it.", "stream": True, "store": False}),
    "anthropic.messages": ("/v1/messages", {"messages": _MESSAGES, "stream": True, "max_tokens": 9000}),
    "gemini.generate": (
        "/v1beta/models/{model}:streamGenerateContent?alt=sse",
        {"contents": [{"role": "user", "parts": [{"text": "Tell me all of it."}]}]},
    ),
}

PAIRS = [
    (dialect, name)
    for dialect in CLIENTS
    for name in [name for name, entry in PROVIDERS.items() if entry[1] != dialect][:5]
]


class Storyteller:
    """A provider of every format: says the time, again and again."""

    def __init__(self, events: int) -> None:
        self.events = events
        self.said: dict[str, list[str]] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head.lower())
                await reader.readexactly(int(length[1]) if length else 0)
                name = head.split(b" ")[1].split(b"/")[1].decode()
                await self._tell(PROVIDERS[name][1], writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _tell(self, format: str, writer: asyncio.StreamWriter) -> None:
        speaks = codec(format)
        asked = Conversation(model="m", stream=True, include_usage=True, format=format)
        told = speaks.stream_writer(asked)
        kind = b"application/vnd.amazon.eventstream" if format == "bedrock.converse" else speaks.content_type

        def say(*events: StreamEvent) -> None:
            data = told.write(events)
            if data:
                writer.write(b"%x\r\n%b\r\n" % (len(data), data))

        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n" % kind)
        say(Start(id="a1", model="m", created=1), BlockStart(index=0, block=Text(text="")))
        due = time.monotonic()
        for number in range(self.events):
            due += EVERY
            await asyncio.sleep(due - time.monotonic())
            say(BlockDelta(index=0, text=f"<{number}:{time.monotonic_ns()}>"))
            await writer.drain()
        usage = Usage(input=5, output=self.events)
        say(BlockStop(index=0), Finished(finish="stop"), Metered(usage=usage), End())
        writer.write(b"0\r\n\r\n")
        await writer.drain()


@dataclass
class Heard:
    """What one client heard: the numbers in their order, the longest an event was under way, how many events came
    together with one before them, and whether the stream ended as one does."""

    numbers: list[int] = field(default_factory=list)
    delay: float = 0.0
    together: int = 0
    ended: bool = False


@asynccontextmanager
async def telling(events: int) -> AsyncIterator[int]:
    server = await asyncio.start_server(Storyteller(events).serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def listen(port: int, dialect: str, provider: str) -> Heard:
    path, body = CLIENTS[dialect]
    model = f"{provider}/m"
    sent = json.dumps(body if "{model}" in path else {"model": model, **body}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"POST {path.format(model=model)} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(sent)}\r\n\r\n".encode()
        + sent
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), (dialect, provider, head, await reader.read(2000))
    reads = codec(dialect).stream_reader()
    heard = Heard()
    while size := int(await reader.readuntil(b"\r\n"), 16):
        data = (await reader.readexactly(size + 2))[:-2]
        now = time.monotonic_ns()
        new = reads.feed(data)
        stamps = [
            found
            for one in new
            if isinstance(one, BlockDelta) and one.text
            for found in re.findall(r"<(\d+):(\d+)>", one.text)
        ]
        for number, said in stamps:
            heard.numbers.append(int(number))
            heard.delay = max(heard.delay, (now - int(said)) / 1e9)
        heard.together += max(0, len(stamps) - 1)
        heard.ended = heard.ended or any(isinstance(one, End) for one in new)
    heard.ended = heard.ended or any(isinstance(one, End) for one in reads.finish())
    writer.close()
    return heard


def resident(pid: int) -> int:
    """Bytes of a process and those it started."""
    status = Path(f"/proc/{pid}/status").read_text()
    own = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(resident(int(child)) for child in children)


@pytest.mark.parametrize(
    ("seconds", "settled"), [(10, 3), pytest.param(300, 30, marks=pytest.mark.slow)], ids=["short", "minutes"]
)
async def test_twenty_translated_streams_trickle(tmp_path: Path, seconds: int, settled: int) -> None:
    events = int(seconds / EVERY)
    assert len(PAIRS) == 20
    async with telling(events) as port:
        providers = {}
        for name, (kind, format, base) in PROVIDERS.items():
            entry: dict[str, object] = {
                "type": kind, "base_url": f"http://127.0.0.1:{port}/{name}{base}", "api_key": "sk-x",
            }  # fmt: skip
            if kind in ("openai", "ollama"):
                entry["languages"] = [format]
            providers[name] = entry
        config = {"database": "none", "providers": providers, "keys": [{"name": "trickle", "key": KEY}]}
        gateway = Gateway(tmp_path, config)
        await gateway.start()
        try:
            assert gateway.process is not None
            listening = [asyncio.create_task(listen(gateway.port, dialect, name)) for dialect, name in PAIRS]
            await asyncio.sleep(settled)
            early = resident(gateway.process.pid)
            most = early
            while not all(one.done() for one in listening):
                await asyncio.sleep(0.5)
                most = max(most, resident(gateway.process.pid))
            late = resident(gateway.process.pid)
            heard = dict(zip(PAIRS, await asyncio.gather(*listening), strict=True))
        finally:
            await gateway.stop()
    delay = max(one.delay for one in heard.values())
    print(
        f"\n{len(PAIRS)} streams x {events} events: RSS {early / MB:.1f} MB after {settled} s, {late / MB:.1f} at the "
        f"end, {most / MB:.1f} at most; longest delay {delay * 1000:.0f} ms"
    )
    for pair, one in heard.items():
        assert one.numbers == list(range(events)), pair
        assert one.ended, pair
        assert one.together == 0, (pair, one.together, "events came together")
    assert delay < 0.2
    assert most - early < 4 * MB
