"""The load generator: its own process, raw protocols on uvloop, one JSON object on stdout.

``closed``: C connections, each sends the next request when its answer is complete. ``sse``: S streams open at
once, counted event by event. ``abort``: clients that vanish at a random phase of a request. It counts what it
receives and judges nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from array import array
from collections import Counter
from typing import cast

import httptools
import uvloop

PROMPT = (
    "Reply with the names of the seven bridges and the year each of them was built, in one table. " * 11
)[:1024]


MESSAGES = "/v1/messages"


def build_request(arguments: argparse.Namespace, *, stream: bool) -> bytes:
    """One chat completion (or, by its path, one of Anthropic's messages) with a prompt of 1 KB, ready for the wire."""
    body: dict[str, object] = {
        "model": arguments.model,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": arguments.max_tokens,
    }
    if stream:
        body["stream"] = True
        if arguments.path != MESSAGES:
            body["stream_options"] = {"include_usage": True}
    payload = json.dumps(body, separators=(",", ":")).encode()
    lines = [
        f"POST {arguments.path} HTTP/1.1",
        f"host: 127.0.0.1:{arguments.port}",
        "content-type: application/json",
        "accept: */*",
        "user-agent: tollway-bench",
        *arguments.header,
        f"content-length: {len(payload)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + payload


class Tally:
    """What all connections saw. Times in seconds."""

    def __init__(self) -> None:
        self.ok = 0
        self.events = 0
        self.content_bytes = 0
        self.received = 0
        self.complete_streams = 0
        self.events_per_stream: Counter[int] = Counter()
        self.statuses: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self.latencies = array("d")
        self.first_events = array("d")
        self.gaps = array("d")
        self.sample = b""

    def report(self, seconds: float) -> dict[str, object]:
        return {
            "seconds": round(seconds, 4),
            "ok": self.ok,
            "rps": round(self.ok / seconds, 1) if seconds else 0.0,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "errors": dict(self.errors),
            "bytes": self.received,
            "latency_ms": percentiles(self.latencies),
            "first_event_ms": percentiles(self.first_events),
            "gap_ms": percentiles(self.gaps),
            "events": self.events,
            "streams_complete": self.complete_streams,
            "events_per_stream": {str(n): count for n, count in sorted(self.events_per_stream.items())},
            "sample": self.sample[:300].decode("utf-8", "replace"),
        }


def percentiles(values: array[float]) -> dict[str, float]:
    """p50, p90, p99 and the maximum in milliseconds; empty without values."""
    if not values:
        return {}
    ordered = sorted(values)
    last = len(ordered) - 1
    found = {f"p{p}": ordered[round(last * p / 100)] for p in (50, 90, 99)} | {"max": ordered[-1]}
    return {name: round(value * 1000, 4) for name, value in found.items()}


class Client(asyncio.Protocol):
    """One connection to the subject. ``exchange`` sends a request and returns when its answer is complete."""

    def __init__(self, tally: Tally, end: bytes) -> None:
        self.tally = tally
        self.end = end
        self.transport: asyncio.Transport | None = None
        self.parser = httptools.HttpResponseParser(self)
        self.done: asyncio.Future[bool] | None = None
        self.lost = asyncio.get_running_loop().create_future()
        self.sent = self.last = 0.0
        self.counting = False
        self.pending = b""
        self.events = 0
        self.cut_after = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class does not derive from it

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if not self.lost.done():
            self.lost.set_result(None)
        if self.done is not None and not self.done.done():
            self.done.set_result(False)

    async def exchange(self, request: bytes, *, stream: bool) -> bool:
        """True when a whole answer arrived, whatever its status."""
        if self.transport is None:
            return False
        self.counting, self.pending, self.events = stream, b"", 0
        self.done = asyncio.get_running_loop().create_future()
        self.sent = self.last = (
            time.perf_counter()
        )  # before the write: on one core the other side may run first
        self.transport.write(request)
        return await self.done

    def data_received(self, data: bytes) -> None:
        self.tally.received += len(data)
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        if not self.counting:
            if not self.tally.sample:
                self.tally.sample = body
            return
        pending = self.pending + body
        if b"\r" in pending:
            pending = pending.replace(b"\r\n", b"\n")
        count = pending.count(b"\n\n")
        if not count:
            self.pending = pending
            return
        now = time.perf_counter()
        if self.events == 0:
            self.tally.first_events.append(now - self.sent)
        else:
            self.tally.gaps.append(now - self.last)
        self.last = now
        self.events += count
        end = pending.rindex(b"\n\n") + 2
        # What is kept is the last whole event and the beginning of the next: enough to see the end marker.
        self.pending = pending[end:] if self.end not in pending else self.end
        if self.cut_after and self.events >= self.cut_after and self.transport is not None:
            self.transport.abort()

    def on_message_complete(self) -> None:
        status = self.parser.get_status_code()
        tally = self.tally
        tally.statuses[status] += 1
        now = time.perf_counter()
        tally.latencies.append(now - self.sent)
        if status == 200:
            tally.ok += 1
        if self.counting:
            tally.events += self.events
            tally.events_per_stream[self.events] += 1
            tally.complete_streams += self.pending == self.end
        again = self.parser.should_keep_alive()
        self.parser = httptools.HttpResponseParser(self)
        if not again and self.transport is not None:
            self.transport.close()
            self.transport = None
        if self.done is not None and not self.done.done():
            self.done.set_result(True)


async def connect(arguments: argparse.Namespace, tally: Tally) -> Client | None:
    end = b"event: message_stop" if arguments.path == MESSAGES else b"data: [DONE]"
    try:
        _, client = await asyncio.get_running_loop().create_connection(
            lambda: Client(tally, end), "127.0.0.1", arguments.port
        )
    except OSError as error:
        tally.errors[f"connect: {error.strerror or error}"] += 1
        return None
    return client


class Plan:
    """When to stop: after ``requests`` in all, or ``seconds``; whichever is given and comes first."""

    def __init__(self, requests: int, seconds: float) -> None:
        self.left = requests if requests else sys.maxsize
        self.end = time.perf_counter() + seconds if seconds else float("inf")

    def take(self) -> bool:
        if self.left <= 0 or time.perf_counter() >= self.end:
            return False
        self.left -= 1
        return True


async def repeat(
    arguments: argparse.Namespace, request: bytes, plan: Plan, tally: Tally, *, stream: bool
) -> None:
    """One connection's life: opened again when the other side closes it; ends after ten failures in a row."""
    client: Client | None = None
    failures = 0
    while failures < 10 and plan.take():
        if client is None or client.transport is None:
            client = await connect(arguments, tally)
        if client is not None and await client.exchange(request, stream=stream):
            failures = 0
        else:
            failures += 1
            tally.errors["closed before the answer was complete"] += client is not None
    if client is not None and client.transport is not None:
        client.transport.abort()


async def closed(arguments: argparse.Namespace, tally: Tally) -> None:
    request = build_request(arguments, stream=False)
    plan = Plan(arguments.requests, arguments.seconds)
    await asyncio.gather(
        *(repeat(arguments, request, plan, tally, stream=False) for _ in range(arguments.connections))
    )


async def sse(arguments: argparse.Namespace, tally: Tally) -> None:
    """``requests`` counts streams here; they open spread over a pace, so that ticks do not come in step."""
    request = build_request(arguments, stream=True)
    plan = Plan(arguments.requests or arguments.connections, arguments.seconds)

    async def late(number: int) -> None:
        await asyncio.sleep(arguments.spread * number / arguments.connections)
        await repeat(arguments, request, plan, tally, stream=True)

    await asyncio.gather(*(late(number) for number in range(arguments.connections)))


async def abort(arguments: argparse.Namespace, tally: Tally) -> None:
    """``requests`` clients that vanish: after connecting, in the middle of the request, while the answer is
    awaited, or after some events of the stream. The phases are drawn with a fixed seed."""
    request = build_request(arguments, stream=True)
    draw = random.Random(7)
    plan = Plan(arguments.requests, arguments.seconds)
    phases: Counter[str] = Counter()

    async def vanish() -> None:
        failures = 0
        while failures < 10 and plan.take():
            client = await connect(arguments, tally)
            if client is None or client.transport is None:
                failures += 1
                continue
            failures = 0
            phase = draw.choices(("connected", "request", "waiting", "streaming"), (1, 2, 3, 6))[0]
            phases[phase] += 1
            if phase == "request":
                client.transport.write(request[: draw.randrange(20, len(request) - 1)])
                await asyncio.sleep(draw.random() * 0.002)
            elif phase == "waiting":
                client.transport.write(request)
                await asyncio.sleep(draw.random() * 0.002)
            elif phase == "streaming":
                client.cut_after = draw.randrange(1, 12)
                try:
                    await asyncio.wait_for(client.exchange(request, stream=True), 15)
                except TimeoutError:
                    tally.errors["no event within 15 s"] += 1
            if client.transport is not None:
                client.transport.abort()
            await client.lost

    await asyncio.gather(*(vanish() for _ in range(arguments.connections)))
    tally.ok = sum(phases.values())
    tally.sample = json.dumps(phases).encode()


MODES = {"closed": closed, "sse": sse, "abort": abort}


async def run(arguments: argparse.Namespace) -> dict[str, object]:
    tally = Tally()
    began = time.perf_counter()
    try:
        async with asyncio.timeout(arguments.limit):
            await MODES[arguments.mode](arguments, tally)
    except TimeoutError:
        tally.errors["the run reached its limit"] += 1
    return tally.report(time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=sorted(MODES))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/v1/chat/completions")
    parser.add_argument("--model", required=True)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--header", action="append", default=[], help="'name: value', may be repeated")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--requests", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--spread", type=float, default=0.05, help="sse: seconds over which streams open")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds after which the run is cut off")
    print(json.dumps(uvloop.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
