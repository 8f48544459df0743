"""Fifth stage: hand the answer on, byte for byte, and write down what it took before its last byte leaves.

After the first byte there is no second try: a provider that breaks off ends the client's stream with an error event.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import Any

from msgspec import Raw

from tollway.errors import BudgetExceeded, UpstreamError, UpstreamMalformed
from tollway.model.event import Outcome
from tollway.pipeline import meter
from tollway.pipeline.client import Client
from tollway.pipeline.dispatch import Reply
from tollway.pipeline.grow import Growth, cut
from tollway.pipeline.meter import Metered
from tollway.pipeline.reserve import input_tokens
from tollway.pipeline.resolve import Call
from tollway.pipeline.services import Services
from tollway.pipeline.snapshot import Target
from tollway.pipeline.translate import (
    Begun,
    Speech,
    count_whole,
    dialect_lines,
    named,
    relay_events,
    renamed_whole,
    stream_of,
    write_whole,
)
from tollway.shared.interface import Hold
from tollway.wire.codecs import codec
from tollway.wire.formats.openai_errors import error_event
from tollway.wire.formats.openai_stream import DONE, StreamTap
from tollway.wire.formats.openai_usage import read_answer, read_tier
from tollway.wire.sse import EventTooLarge

_STREAM_HEAD = (
    b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
)
_COST_TRAILER = b"trailer: x-tollway-cost-usd\r\n"


def relay(
    call: Call, reply: Reply, hold: Hold | None, client: Client, app: Services
) -> Coroutine[Any, Any, None] | None:
    """Hand a whole answer on at once; a stream is begun by awaiting what this returns, and ends with it."""
    begun = reply.begun
    if begun is not None:
        return _relay_read(call, reply, begun, hold, client, app)
    if reply.stream:
        return _relay_stream(call, reply, hold, client, app)
    _relay_whole(call, reply, hold, client, app)
    return None


def _relay_whole(call: Call, reply: Reply, hold: Hold | None, client: Client, app: Services) -> None:
    attempt = reply.attempt
    body = reply.body
    answered = app.clock()
    reported = read_answer(body)
    found = None
    if reported is not None:
        found = meter.metered(attempt.target, reported.usage, reported.service_tier)
    if found is None:
        found = meter.estimated(attempt.target, input_tokens(call.request.body), _written(call, body))
    # Ours is the time before the request went out and after the answer was in; hand-over to the socket is not seen.
    overhead = (attempt.sent_at - call.request.started) + (app.clock() - answered)
    attempt.finish("ok", reply.answer.status, found, overhead=overhead)
    if hold is not None:
        call.settle(hold)
    call.learn(attempt.target, found.usage)
    content_type = reply.answer.headers.get(b"content-type", b"application/json")
    client.respond(
        reply.answer.status,
        b"content-type: " + content_type + b"\r\n" + head(call, reply, hold, overhead, found),
        body,
    )
    if app.contents is not None and app.contents.wants(False):
        app.contents.offer(attempt.event_id, call.request.body, body)


def _relay_read(
    call: Call, reply: Reply, begun: Begun, hold: Hold | None, client: Client, app: Services
) -> Coroutine[Any, Any, None] | None:
    """An answer that a codec reads: of another dialect, or of one whose usage has no tap of its own."""
    attempt = reply.attempt
    speech = begun.speech
    overhead = attempt.sent_at - call.request.started
    streams = reply.stream
    completion = begun.completion
    if not streams and call.stream and speech.translated and completion is not None:
        begun = stream_of(named(completion, call, app), begun)
        streams = True
    if streams:
        lines = _stream_lines(call, reply, speech) + head(call, reply, hold, overhead, None)
        return relay_events(
            call, attempt, reply.answer, begun, reply.body if reply.stream else b"",
            dialect_lines(call, lines, hold, app), hold, client, app,
        )  # fmt: skip
    answered = app.clock()
    found = count_whole(call, attempt, begun, reply.body)
    body = (
        write_whole(call, begun, found, app) if speech.translated else renamed_whole(call, begun, reply.body)
    )
    overhead += app.clock() - answered
    attempt.finish("ok", reply.answer.status, found, overhead=overhead)
    if hold is not None:
        call.settle(hold)
    call.learn(attempt.target, found.usage)
    content_type = b"application/json"
    if not speech.translated:
        content_type = reply.answer.headers.get(b"content-type", content_type)
    lines = (
        b"content-type: "
        + content_type
        + b"\r\n"
        + head(call, reply, hold, overhead, found)
        + _dropped(speech)
    )
    client.respond(reply.answer.status, dialect_lines(call, lines, hold, app), body)
    if app.contents is not None and app.contents.wants(False):
        app.contents.offer(attempt.event_id, call.request.body, body)
    return None


def _stream_lines(call: Call, reply: Reply, speech: Speech) -> bytes:
    assert call.format is not None
    kind = codec(call.format).content_type
    if not speech.translated:
        kind = reply.answer.headers.get(b"content-type", kind)
    return b"content-type: %b\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n" % kind + _dropped(
        speech
    )


def _dropped(speech: Speech) -> bytes:
    """The fields a target did not get. Names may come from the client's body: they are kept to what a header takes."""
    if not speech.lost:
        return b""
    names = ",".join(re.sub(r"[^A-Za-z0-9_.\[\]-]", "?", name)[:100] for name in speech.lost[:40])
    return b"x-tollway-dropped: " + names.encode() + b"\r\n"


def head(call: Call, reply: Reply, hold: Hold | None, overhead: float, found: Metered | None) -> bytes:
    """The gateway's own response headers, as whole lines."""
    hundredths = int(overhead * 100_000 + 0.5)
    cost = ""
    if found is not None:
        cost = f"x-tollway-cost-usd: {meter.usd(found) or 'unpriced'}\r\n"
    lines = (
        f"x-tollway-request-id: {call.request.id}\r\nx-tollway-attempts: {reply.attempt.number}\r\n"
        f"x-tollway-cache: off\r\nx-tollway-overhead-ms: {hundredths // 100}."
        f"{str(100 + hundredths % 100)[1:]}\r\n{cost}"
    )
    own = reply.naming + lines.encode()
    if hold is None:
        return own
    own += hold.ratelimit_headers()
    return own + warning_lines(call) if call.warnings else own


def warning_lines(call: Call) -> bytes:
    """A line for each threshold the request crossed. Names in it may be anybody's: they are kept to what a header
    takes."""
    return b"".join(
        b"x-tollway-warning: " + re.sub(r"[^ -~]", "?", words)[:300].encode() + b"\r\n"
        for words in call.warnings[:8]
    )


def _written(call: Call, body: bytes) -> int:
    """Output tokens by size, for an answer without usage."""
    return 0 if call.endpoint == "embeddings" else max(len(body) - 300, 4) // 4


async def _relay_stream(call: Call, reply: Reply, hold: Hold | None, client: Client, app: Services) -> None:
    attempt = reply.attempt
    answer = reply.answer
    target = attempt.target
    tier = _stream_tier(reply.body)

    injected = not call.asked_usage and target.provider.stream_usage == "ask"
    tap = StreamTap(
        hide_usage=injected,
        cost_of=_Cost(target, tier).usd if call.asked_usage else None,
        clean=target.provider.redact,
    )
    overhead = attempt.sent_at - call.request.started

    def settle(outcome: Outcome, status: int, error: str | None = None) -> Metered:
        found = meter.metered(target, tap.usage, tier) if tap.usage is not None else None
        if found is None:
            found = meter.estimated(target, input_tokens(call.request.body), tap.estimated_output())
        attempt.finish(
            outcome,
            status,
            found,
            streamed=True,
            overhead=overhead,
            error=error,
        )
        if hold is not None:
            call.settle(hold)
        return found

    out = b""
    too_large: EventTooLarge | None = None
    growth = Growth(call, hold, target) if hold is not None else None
    outgrown = False
    clock = app.clock

    def deliver(data: bytes) -> bool:
        """Pass a read on to the client; False when the stream has ended or the client must be waited for."""
        nonlocal out, too_large, outgrown
        try:
            out = tap.feed(data)
        except EventTooLarge as error:
            too_large = error
            return False
        if len(kept) < room:
            kept.extend(out)
        if tap.done:
            return False
        if growth is not None:
            growth.seen += len(data)
            if growth.seen >= growth.look and not growth.grow(tap.estimated_output()):
                outgrown = True
                return False
        if out:
            answer.progressed(clock())
            client.send(out)
            out = b""
            return not client.congested
        return True

    kept = bytearray()
    room = app.contents.limit if app.contents is not None and app.contents.wants(False) else 0
    try:
        out = tap.feed(reply.body)
        lines = _STREAM_HEAD + head(call, reply, hold, overhead, None)
        if client.trailers:
            lines += _COST_TRAILER
        ended_at_once = tap.done
        if ended_at_once:
            client.start(answer.status, lines, b"")
        else:
            client.start(answer.status, lines, out)
            out = b""
            while not await answer.flow(deliver):
                if too_large is not None:
                    raise too_large
                if tap.done:
                    break
                if outgrown:
                    raise cut()
                await client.drain()
            else:
                out = tap.finish()
    except BudgetExceeded as error:
        answer.abort()
        settle("error", error.http_status, error.message)
        client.finish(out + error_event(error) + DONE)
        return
    except (UpstreamError, EventTooLarge) as error:
        if isinstance(error, EventTooLarge):
            answer.abort()
            error = UpstreamMalformed(
                f"provider {target.provider.name} sent an event that is too large",
                provider=target.provider.name,
            )
        settle("error", error.http_status, error.message)
        client.finish(error_event(error) + DONE)
        return
    except asyncio.CancelledError:
        answer.abort()
        settle("cancelled", 499, "the client left in the middle of the stream")
        raise
    except BaseException:
        answer.abort()
        settle("error", 500, "internal error")
        raise
    answer.let_go(app.clock())
    found = settle("error" if tap.failure else "ok", 502 if tap.failure else answer.status, tap.failure)
    if not tap.failure:
        call.learn(target, found.usage)
    trailers = b""
    if client.trailers:
        cost = meter.usd(found)
        trailers = b"x-tollway-cost-usd: " + (cost.encode() if cost is not None else b"unpriced") + b"\r\n"
    client.finish(out, trailers)
    if room and app.contents is not None:
        app.contents.offer(attempt.event_id, call.request.body, reply.body + kept)


class _Cost:
    """What a usage object costs. Not a closure: the tap would hold the stream that holds the tap, until the garbage
    collector comes by."""

    __slots__ = ("target", "tier")

    def __init__(self, target: Target, tier: str | None) -> None:
        self.target = target
        self.tier = tier

    def usd(self, raw: Raw) -> str | None:
        found = meter.metered(self.target, raw, self.tier)
        return meter.usd(found) if found is not None else None


def _stream_tier(first: bytes) -> str | None:
    """The service tier a stream names in its first event."""
    if b'"service_tier"' not in first:
        return None
    at = first.find(b"{")
    end = first.find(b"\n", at)
    return read_tier(first[at : end if end > 0 else None])
