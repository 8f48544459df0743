"""One exchange with a provider whose answer is not a conversation: sent, handed on whole or as it comes, appraised and
written down. Retries and the choice of a provider are the caller's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
from msgspec import Raw

from tollway.errors import GatewayError, UpstreamError, UpstreamMalformed
from tollway.model.event import Outcome
from tollway.model.usage import NOTHING
from tollway.pipeline import meter
from tollway.pipeline.appraise import Wish, appraise
from tollway.pipeline.client import Client
from tollway.pipeline.dispatch import MAX_ERROR, Reply
from tollway.pipeline.meter import Metered
from tollway.pipeline.record import Attempt
from tollway.pipeline.relay import head
from tollway.pipeline.resolve import Call
from tollway.pipeline.services import Services
from tollway.providers.request import NotSent, UpstreamRequest
from tollway.providers.upstream import Answer
from tollway.shared.interface import Hold
from tollway.wire import sse
from tollway.wire.formats import openai_stream
from tollway.wire.formats.openai_errors import error_event

MAX_WHOLE = 64 * 1024 * 1024
"""JSON and text are read whole for what they say of their cost; longer ones are refused."""

_TEXTS = (b"json", b"text/plain", b"subrip", b"vtt")
_PASSED = (
    b"content-disposition",
    b"content-range",
    b"accept-ranges",
    b"openai-processing-ms",
    b"openai-version",
)

Adopt = Callable[[bytes], Awaitable[bytes]]
"""What becomes of a whole JSON answer before the client has it: the body to send."""


class Errand:
    """What is to be done: the call, the request, how it is appraised once it was sent (None: it costs nothing), what
    the client is to know of its way."""

    __slots__ = ("adopt", "call", "hold", "naming", "request", "wish")

    def __init__(
        self,
        call: Call,
        request: UpstreamRequest,
        wish: Callable[[], Wish] | None,
        hold: Hold | None,
        naming: bytes,
        adopt: Adopt | None = None,
    ) -> None:
        self.call = call
        self.request = request
        self.wish = wish
        self.hold = hold
        self.naming = naming
        self.adopt = adopt


async def hand_over(errand: Errand, attempt: Attempt, client: Client, app: Services) -> None:
    """Raises what the provider refused, GatewayError of the request's own body, until something was said to the client.
    Whatever happens the attempt has its event."""
    answer: Answer | None = None
    try:
        attempt.sent_at = app.clock()
        answer = await app.upstream.send(errand.request)
        if not 200 <= answer.status < 300:
            raise attempt.target.provider.error(answer.status, answer.headers, await answer.body(MAX_ERROR))
        if answer.sse:
            await _events(errand, attempt, answer, client, app)
        elif _readable(answer):
            await _whole(errand, attempt, answer, client, app)
        else:
            await _bytes(errand, attempt, answer, client, app)
    except UpstreamError as error:
        if answer is not None:
            answer.abort()
        begun = answer is not None and answer.status < 300
        attempt.finish(
            "error", error.http_status, _guess(errand, attempt, app) if begun else meter.nothing(attempt.target),
            error=error.message,
        )  # fmt: skip
        if client.begun:
            client.break_off()
            return
        raise
    except asyncio.CancelledError as cancelled:
        if answer is not None:
            answer.abort()
        # What a provider has not been sent whole it did not begin to work at.
        sent = not isinstance(cancelled, NotSent) and getattr(errand.request.content, "ended", True)
        counted = _guess(errand, attempt, app) if sent else meter.nothing(attempt.target)
        attempt.finish("cancelled", 499, counted, error="the client left")
        raise
    except GatewayError as error:
        if answer is not None:
            answer.abort()
        attempt.finish("error", error.http_status, meter.nothing(attempt.target), error=error.message)
        raise
    except BaseException:
        if answer is not None:
            answer.abort()
        attempt.finish("error", 500, meter.nothing(attempt.target), error="internal error")
        raise


def free(attempt: Attempt) -> Metered:
    """Nothing to pay, and known to be so."""
    return Metered(usage=NOTHING, cost=0, priced=True, estimated=False)


def _guess(errand: Errand, attempt: Attempt, app: Services) -> Metered:
    return _appraise(errand, attempt, b"", None, app) if errand.wish is not None else free(attempt)


def _appraise(errand: Errand, attempt: Attempt, body: bytes, usage: Raw | None, app: Services) -> Metered:
    if errand.wish is None:
        return free(attempt)
    return appraise(errand.wish(), attempt.target, app.snapshot, body, usage)


def _settle(
    errand: Errand, attempt: Attempt, answer: Answer, found: Metered, *, streamed: bool, overhead: float,
    failure: str | None = None,
) -> None:  # fmt: skip
    outcome: Outcome = "ok" if failure is None else "error"
    status = answer.status if failure is None else 502
    attempt.finish(outcome, status, found, streamed=streamed, overhead=overhead, error=failure)
    if errand.hold is not None:
        errand.call.settle(errand.hold)


def _head(errand: Errand, attempt: Attempt, answer: Answer, overhead: float, found: Metered | None) -> bytes:
    lines = b"content-type: " + answer.headers.get(b"content-type", b"application/octet-stream") + b"\r\n"
    for name in _PASSED:
        if name in answer.headers:
            lines += name + b": " + answer.headers[name] + b"\r\n"
    reply = Reply(answer, attempt, errand.naming, b"", found is None)
    return lines + head(errand.call, reply, errand.hold, overhead, found)


def _readable(answer: Answer) -> bool:
    """Whether the answer is of a kind that may say what it cost."""
    kind = answer.headers.get(b"content-type", b"").lower()
    if b"jsonl" in kind or b"ndjson" in kind:
        return False
    return any(text in kind for text in _TEXTS) or answer.status == 204


async def _whole(errand: Errand, attempt: Attempt, answer: Answer, client: Client, app: Services) -> None:
    body = await answer.body(MAX_WHOLE)
    answered = app.clock()
    found = _appraise(errand, attempt, body, None, app)
    if errand.adopt is not None:
        body = await errand.adopt(body)
    overhead = (attempt.sent_at - errand.call.request.started) + (app.clock() - answered)
    _settle(errand, attempt, answer, found, streamed=False, overhead=overhead)
    client.respond(answer.status, _head(errand, attempt, answer, overhead, found), body)
    if app.contents is not None and app.contents.wants(False):
        app.contents.offer(attempt.event_id, errand.call.request.body, body)


async def _bytes(errand: Errand, attempt: Attempt, answer: Answer, client: Client, app: Services) -> None:
    """Sound, pictures, files: passed on as they come and never looked at."""
    overhead = attempt.sent_at - errand.call.request.started
    first = await answer.read()
    found = _appraise(errand, attempt, b"", None, app)
    client.start(answer.status, _head(errand, attempt, answer, overhead, found), first)
    attempt.first_token_at = app.clock()
    while data := await answer.read():
        answer.progressed(app.clock())
        client.send(data)
        if client.congested:
            await client.drain()
    _settle(errand, attempt, answer, found, streamed=True, overhead=overhead)
    client.finish(b"")


class _Reported(msgspec.Struct):
    """Where an event says what was used: its own usage, or that of the object it tells of."""

    usage: Raw = Raw()
    response: Raw = Raw()


_decode_reported = msgspec.json.Decoder(_Reported).decode


class _Tap:
    """Reads the usage out of events that pass."""

    def __init__(self) -> None:
        self.usage: Raw | None = None
        self.failure: str | None = None
        self._splitter: sse.Splitter | None = sse.Splitter()

    def feed(self, data: bytes) -> None:
        if self._splitter is None:
            return
        try:
            block = self._splitter.feed(data)
        except sse.EventTooLarge:
            self._splitter = None
            return
        if b'"usage"' not in block and b'"error"' not in block:
            return
        for part in sse.split(block):
            said = sse.parse(part).data
            if said is None:
                continue
            try:
                usage = _decode_reported(said).usage
            except (msgspec.DecodeError, RecursionError):
                continue
            if bytes(usage) not in (b"", b"null"):
                self.usage = usage
            if b'"error"' in said and openai_stream.first_error(part) is not None:
                self.failure = "the provider ended its stream with an error"


async def _events(errand: Errand, attempt: Attempt, answer: Answer, client: Client, app: Services) -> None:
    """Events byte for byte; an error in place of the first one is still an ordinary refusal."""
    provider = attempt.target.provider
    first = await answer.read()
    if not first:
        raise UpstreamMalformed(
            f"provider {provider.name} ended its stream before the first event", provider=provider.name
        )
    while b'"error"' in first and not openai_stream.has_event(first) and len(first) < MAX_ERROR:
        more = await answer.read()
        if not more:
            break
        first += more
    error = openai_stream.first_error(first) if b'"error"' in first else None
    if error is not None:
        raise provider.error(openai_stream.error_status(error), answer.headers, error)
    attempt.first_token_at = app.clock()
    answer.progressed(attempt.first_token_at)
    overhead = attempt.sent_at - errand.call.request.started
    tap = _Tap()
    client.start(
        answer.status, b"cache-control: no-cache\r\n" + _head(errand, attempt, answer, overhead, None), first
    )
    tap.feed(first)
    failure: str | None = None
    last = b""
    try:
        while data := await answer.read():
            answer.progressed(app.clock())
            tap.feed(data)
            client.send(provider.redact(data) if b'"error"' in data else data)
            if client.congested:
                await client.drain()
    except UpstreamError as broken:
        answer.abort()
        failure = broken.message
        last = error_event(broken)
    except asyncio.CancelledError:
        answer.abort()
        attempt.finish(
            "cancelled", 499, _appraise(errand, attempt, b"", tap.usage, app), streamed=True,
            error="the client left in the middle of the stream",
        )  # fmt: skip
        raise
    found = _appraise(errand, attempt, b"", tap.usage, app)
    _settle(errand, attempt, answer, found, streamed=True, overhead=overhead, failure=failure or tap.failure)
    client.finish(last)
