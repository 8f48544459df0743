"""Fourth stage: get an answer begun. Tries targets in the route's order and each as often as its retry rule allows,
and returns after the first event of a stream or the last byte of a whole answer: until then nothing has been said to
the client, so any failure may still become another try. It reads how errors ask to be met, never who sent them.
"""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from tollway.errors import (
    GatewayError,
    NoHealthyDeployment,
    Unsupported,
    UpstreamError,
    UpstreamMalformed,
    UpstreamTimeout,
)
from tollway.model.clocks import Clocks
from tollway.pipeline import meter
from tollway.pipeline.record import Attempt
from tollway.pipeline.reserve import input_tokens
from tollway.pipeline.resolve import Call
from tollway.pipeline.retrying import wait
from tollway.pipeline.services import Services
from tollway.pipeline.snapshot import Target
from tollway.pipeline.translate import Begun, Speech, read_beginning, read_whole, speak
from tollway.providers.provider import EVENTS
from tollway.providers.request import NotSent
from tollway.providers.upstream import Answer
from tollway.routing import STRATEGIES
from tollway.wire.formats import openai_stream

MAX_ATTEMPTS = 10
"""Tries of one request over all its targets, whatever the configuration adds up to."""

FULL = (429, 503, 529)
"""Statuses by which a provider says that it takes no more for now."""

MAX_WHOLE = 64 * 1024 * 1024
MAX_ERROR = 1024 * 1024


class Reply:
    """An answer begun. ``body`` is whole, or of a ``stream`` what has been read so far. ``begun`` holds what a codec
    made of it, where one reads it."""

    __slots__ = ("answer", "attempt", "begun", "body", "naming", "stream")

    def __init__(
        self,
        answer: Answer,
        attempt: Attempt,
        naming: bytes,
        body: bytes,
        stream: bool,
        begun: Begun | None = None,
    ) -> None:
        self.begun = begun
        self.answer = answer
        self.attempt = attempt
        self.naming = naming
        self.body = body
        self.stream = stream


async def dispatch(call: Call, app: Services) -> Reply:
    """Raises the last target's UpstreamError, Unsupported when no target can take the request, StoreUnavailable."""
    route = call.route
    targets = route.targets
    if len(targets) == 1:
        order = [0]
    else:
        order = _roomy(
            STRATEGIES[route.route.strategy]([t.deployment.weight for t in targets], app.jitter),
            targets,
            app.clock(),
        )
    retry = route.route.retry
    number = 0
    failure: GatewayError | None = None
    for index in order:
        target = targets[index]
        try:
            speech = speak(call, target)
        except Unsupported as error:
            failure = failure or error
            continue
        clocks = target.deployment.clocks
        for turn in range(retry.attempts):
            number += 1
            if number > 1:
                clocks = _remaining(target.deployment.clocks, call, app)
            attempt = app.journal.begin(call, target, number)
            try:
                return await _attempt(call, attempt, speech, clocks, route.naming[index], app)
            except UpstreamError as error:
                failure = error
                if error.retry_after is not None and error.http_status in FULL:
                    _pass_over(target, error.retry_after, app)
                pause = wait(error, retry, turn, app.jitter) if number < MAX_ATTEMPTS else None
                if pause is None:
                    break
                await asyncio.sleep(pause)
        if isinstance(failure, UpstreamError) and (number >= MAX_ATTEMPTS or not failure.fallback):
            break
    if failure is None:
        raise NoHealthyDeployment(f"No deployment of model {route.name!r} can serve this request.")
    failure.headers.setdefault("x-tollway-attempts", str(number))
    raise failure


def _roomy(order: list[int], targets: tuple[Target, ...], now: float) -> list[int]:
    """The same order, with those last whose provider takes no requests at the moment."""
    full = [at for at in order if targets[at].headroom.exhausted(now) > 0]
    if not full or len(full) == len(order):
        return order
    return [at for at in order if at not in full] + full


def _pass_over(target: Target, seconds: float, app: Services) -> None:
    if target.headroom.refused(seconds, app.clock()) and app.full is not None:
        app.full(target.deployment.id, seconds)


async def _attempt(
    call: Call, attempt: Attempt, speech: Speech, clocks: Clocks, naming: bytes, app: Services
) -> Reply:
    """One try. Whatever happens, the attempt is either returned open or has its event written."""
    target = attempt.target
    answer: Answer | None = None
    if speech.read:
        assert speech.language is not None
        upstream_request = target.provider.converse(
            speech.language,
            target.deployment.upstream_model,
            speech.body,
            stream=call.stream,
            extra=speech.extra,
            clocks=clocks,
        )
    else:
        accept = EVENTS if call.stream else b"application/json"
        upstream_request = target.provider.request(call.endpoint, speech.body, accept=accept, clocks=clocks)
    try:
        attempt.sent_at = app.clock()
        answer = await app.upstream.send(upstream_request)
        target.headroom.heard(answer.headers, attempt.sent_at)
        if answer.status >= 400 or answer.status < 200 or 300 <= answer.status < 400:
            text = await answer.body(MAX_ERROR)
            raise target.provider.error(answer.status, answer.headers, text)
        if speech.read and call.stream and not _is_json(answer):
            first, begun = await read_beginning(speech, attempt, answer, app)
            return Reply(answer, attempt, naming, first, True, begun)
        if answer.sse:
            first = await _first_event(answer, attempt, app)
            return Reply(answer, attempt, naming, first, True)
        arrived = answer.whole(MAX_WHOLE)
        whole = arrived if arrived is not None else await answer.body(MAX_WHOLE)
        _check_json(target, answer, whole)
        if speech.read:
            return Reply(answer, attempt, naming, whole, False, read_whole(speech, target, whole))
        return Reply(answer, attempt, naming, whole, False)
    except UpstreamError as error:
        if answer is not None:
            answer.abort()
        nothing = meter.nothing(target)
        if (
            answer is not None
            and isinstance(error, UpstreamMalformed | UpstreamTimeout)
            and answer.status < 300
        ):
            # It had begun to answer: what it read is billed, so it is counted, and marked as our count.
            nothing = meter.estimated(target, input_tokens(call.request.body), 0)
        attempt.finish("error", error.http_status, nothing, streamed=call.stream, error=error.message)
        raise
    except asyncio.CancelledError as cancelled:
        if answer is not None:
            answer.abort()
        # The client left. Where the provider has the request it may bill what it read.
        counted = meter.nothing(target)
        if not isinstance(cancelled, NotSent):
            counted = meter.estimated(target, input_tokens(call.request.body), 0)
        attempt.finish(
            "cancelled", 499, counted, streamed=call.stream, error="the client left before the answer began"
        )
        raise
    except BaseException:
        if answer is not None:
            answer.abort()
        attempt.finish("error", 500, meter.nothing(target), error="internal error")
        raise


async def _first_event(answer: Answer, attempt: Attempt, app: Services) -> bytes:
    """Read until an event with data is whole, so that an error in its place is still an ordinary error."""
    read = b""
    while True:
        data = await answer.read()
        if not data:
            raise UpstreamMalformed(
                f"provider {answer.request.provider} ended its stream before the first event",
                provider=answer.request.provider,
                retryable=True,
            )
        read = read + data if read else data
        if openai_stream.has_event(read) and _ends_event(read):
            break
        if len(read) > MAX_ERROR:
            break
    now = app.clock()
    attempt.first_token_at = now
    answer.progressed(now)
    if b'"error"' in read:
        error = openai_stream.first_error(read)
        if error is not None:
            raise attempt.target.provider.error(openai_stream.error_status(error), answer.headers, error)
    return read


def _is_json(answer: Answer) -> bool:
    """Whether a whole answer came where a stream was asked for."""
    kind = answer.headers.get(b"content-type", b"")
    return b"json" in kind and b"ndjson" not in kind and b"stream" not in kind


def _ends_event(read: bytes) -> bool:
    """Whether a blank line follows the first data line (CRLF streams included)."""
    at = read.find(b"data")
    return read.find(b"\n\n", at) >= 0 or read.find(b"\n\r\n", at) >= 0 or read.find(b"\r\r", at) >= 0


def _check_json(target: Target, answer: Answer, whole: bytes) -> None:
    """A whole answer must at least look like the JSON it stands for: a proxy's HTML page with status 200 does not."""
    if whole[:1] not in (b"{", b"[") and whole.lstrip()[:1] not in (b"{", b"["):
        raise UpstreamMalformed(
            f"provider {target.provider.name} answered with something that is not JSON",
            provider=target.provider.name,
        )


def _remaining(clocks: Clocks, call: Call, app: Services) -> Clocks:
    """The total clock runs over all tries of a request: give this one what is left of it."""
    left = clocks.total - (app.clock() - call.request.started)
    return replace(clocks, total=max(left, 0.001))
