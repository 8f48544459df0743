"""Between dialects: how a target is spoken to, and how its answer comes back in the client's own words.

Where both sides speak the same format the client's bytes pass and nothing is translated; a reader of that format runs
beside them for usage and errors only. Otherwise a request goes through the hub once for each target, and what the
target cannot carry is named or refused.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace

from tollway.errors import BudgetExceeded, GatewayError, Unsupported, UpstreamError, UpstreamMalformed
from tollway.model.event import Outcome
from tollway.model.usage import Usage
from tollway.pipeline import meter
from tollway.pipeline.client import Client
from tollway.pipeline.grow import Growth, cut
from tollway.pipeline.meter import Metered
from tollway.pipeline.record import Attempt
from tollway.pipeline.reserve import input_tokens
from tollway.pipeline.resolve import Call, chat_body, upstream_body
from tollway.pipeline.services import Services
from tollway.pipeline.snapshot import Target
from tollway.providers.upstream import Answer
from tollway.shared.interface import Hold
from tollway.wire.codec import StreamReader, StreamWriter, Unreadable
from tollway.wire.codecs import SEALS, codec
from tollway.wire.conversation import (
    BlockDelta,
    Completion,
    End,
    Failed,
    Ping,
    Start,
    StreamEvent,
    Written,
)
from tollway.wire.conversation import Metered as UsageTold
from tollway.wire.sse import EventTooLarge
from tollway.wire.unfold import unfold

TAPPED = frozenset(("openai.chat", "openai.completions"))
"""Formats whose relay reads usage by its own tap, without a reader."""

MAX_WHOLE = 64 * 1024 * 1024
MAX_BEGINNING = 1024 * 1024

PASSED_ON: dict[str, tuple[bytes, ...]] = {
    "anthropic.messages": (b"anthropic-beta",),
    "openai.responses": (b"openai-beta",),
}
"""Headers of a client's that belong to its dialect and go upstream where that speaks the same."""


NAMED_AS_ASKED = frozenset(("anthropic.messages",))
"""Dialects whose clients hold an answer's model against the one they asked for. Claude Code sends an answer back
without its thinking where the two differ, and a provider may refuse a tool's result without the thinking before it."""


class Speech:
    """How a target is spoken to for one request: in which ``language`` (None: the endpoint's only one), with which
    ``body``; ``lost`` are the fields it does not carry, ``translated`` whether the hub stands between the sides."""

    __slots__ = ("body", "extra", "language", "lost", "read", "translated")

    def __init__(
        self,
        language: str | None,
        body: bytes,
        *,
        extra: bytes = b"",
        translated: bool = False,
        lost: tuple[str, ...] = (),
    ) -> None:
        self.language = language
        self.body = body
        self.extra = extra
        self.translated = translated
        self.lost = lost
        self.read = translated or (language is not None and language not in TAPPED)


def speak(call: Call, target: Target) -> Speech:
    """Raises Unsupported where this target cannot carry what is asked, BadRequest where the request itself is wrong."""
    provider = target.provider
    format = call.format
    if format is None:
        if not provider.offers(call.endpoint):
            raise Unsupported(
                f"Provider {provider.name} of model {call.route.name!r} does not serve {call.endpoint}.",
                param="model",
            )
        return Speech(None, upstream_body(call, target))
    languages = provider.languages_for(target.deployment.upstream_model)
    if format in languages and not _sealed(call):
        extra = b""
        for name in PASSED_ON.get(format, ()):
            value = call.request.headers.get(name)
            if value is not None:
                extra += name + b": " + value + b"\r\n"
        return Speech(format, upstream_body(call, target), extra=extra)
    if not languages:
        raise Unsupported(
            f"Provider {provider.name} of model {call.route.name!r} serves no conversations.", param="model"
        )
    language = languages[0]
    written = codec(language).write_request(
        call.conversation(), provider.profile(target.deployment.upstream_model)
    )
    lost = _lost(call, target, written)
    body = written.body
    if language == "openai.chat":
        body = chat_body(body, call, target)
    return Speech(language, provider.adapt(language, body), translated=True, lost=lost)


def _sealed(call: Call) -> bool:
    body = call.request.body
    return call.format not in TAPPED and any(seal in body for seal in SEALS)


def _lost(call: Call, target: Target, written: Written) -> tuple[str, ...]:
    if not written.lost:
        return ()
    policy = call.route.route.on_unsupported
    refused = [
        loss.field
        for loss in written.lost
        if (policy == "refuse" and loss.weight != "aside") or (policy is None and loss.weight == "meaning")
    ]
    if refused:
        names = ", ".join(dict.fromkeys(refused))
        raise Unsupported(
            f"Model {call.route.name!r} ({target.provider.name}) cannot take: {names}. Leave it out, choose another "
            "model, or set `on_unsupported: drop` on this one.",
            param=refused[0],
            details={"unsupported": list(dict.fromkeys(refused))},
        )
    return tuple(dict.fromkeys(loss.field for loss in written.lost))


class Begun:
    """A provider's answer as far as it was read: a ``completion``, or a stream's ``reader`` and first ``events``."""

    __slots__ = ("completion", "events", "reader", "speech")

    def __init__(
        self,
        speech: Speech,
        completion: Completion | None = None,
        reader: StreamReader | None = None,
        events: Sequence[StreamEvent] = (),
    ) -> None:
        self.speech = speech
        self.completion = completion
        self.reader = reader
        self.events = events


def read_whole(speech: Speech, target: Target, body: bytes) -> Begun:
    """Raises UpstreamMalformed where the client would get nothing out of it."""
    assert speech.language is not None
    try:
        return Begun(speech, codec(speech.language).read_answer(body))
    except Unreadable as error:
        if not speech.translated:
            return Begun(speech)  # the client may understand what we do not
        raise UpstreamMalformed(
            f"provider {target.provider.name} answered with something that is not {speech.language}: {error}",
            provider=target.provider.name,
        ) from error


async def read_beginning(
    speech: Speech, attempt: Attempt, answer: Answer, app: Services
) -> tuple[bytes, Begun]:
    """Read a stream up to its first content, so that an error in its place is still an ordinary error.

    Raises UpstreamError.
    """
    assert speech.language is not None
    provider = attempt.target.provider
    reader = codec(speech.language).stream_reader()
    events: list[StreamEvent] = []
    read = b""
    try:
        while True:
            data = await answer.read()
            read = read + data if read else data
            new = reader.feed(data) if data else reader.finish()
            events += new
            for event in new:
                if isinstance(event, Failed):
                    raise _failure(event, attempt, answer)
            if any(not isinstance(event, Start | Ping) for event in new) or len(read) > MAX_BEGINNING:
                break
            if not data:
                raise UpstreamMalformed(
                    f"provider {provider.name} ended its stream before the first event",
                    provider=provider.name,
                    retryable=True,
                )
    except (Unreadable, EventTooLarge) as error:
        raise UpstreamMalformed(
            f"provider {provider.name} sent a stream that cannot be read: {error}", provider=provider.name
        ) from error
    now = app.clock()
    attempt.first_token_at = now
    answer.progressed(now)
    return read, Begun(speech, reader=reader, events=events)


def _failure(event: Failed, attempt: Attempt, answer: Answer) -> UpstreamError:
    body = meter.encoded({"error": {"message": event.message, "type": event.kind, "code": event.code}})
    return attempt.target.provider.error(event.status, answer.headers, body)


def named(completion: Completion, call: Call, app: Services) -> Completion:
    """With what the provider's format does not say: id, model, time."""
    return replace(
        completion,
        id=call.answer_id or completion.id or call.request.id,
        model=_model(call, completion.model),
        created=completion.created or int(app.wall_clock()),
    )


def _model(call: Call, answered: str) -> str:
    if call.format in NAMED_AS_ASKED:
        return call.route.name
    return answered or call.route.name


def renamed_whole(call: Call, begun: Begun, body: bytes) -> bytes:
    """A relayed answer with the model's name as it was asked for, where the dialect's clients need that."""
    completion = begun.completion
    if call.format not in NAMED_AS_ASKED or completion is None or completion.model == call.route.name:
        return body
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    fields["model"] = msgspec.Raw(meter.encoded(call.route.name))
    return meter.encoded(fields)


def _renamed_beginning(call: Call, begun: Start, data: bytes) -> bytes:
    """The same of a stream's first event, before which nobody said anything."""
    if call.format not in NAMED_AS_ASKED or begun.model == call.route.name:
        return data
    told = re.compile(rb'("model"\s*:\s*)' + re.escape(meter.encoded(begun.model)))
    return told.sub(lambda found: found[1] + meter.encoded(call.route.name), data, count=1)


def count_whole(call: Call, attempt: Attempt, begun: Begun, body: bytes) -> Metered:
    completion = begun.completion
    if completion is not None and completion.usage is not None:
        return meter.counted(attempt.target, completion.usage, completion.raw_usage, completion.service_tier)
    return meter.estimated(attempt.target, input_tokens(call.request.body), max(len(body) - 300, 4) // 4)


def write_whole(call: Call, begun: Begun, found: Metered, app: Services) -> bytes:
    """A translated answer in the client's dialect."""
    assert begun.completion is not None and call.format is not None  # noqa: PT018
    completion = replace(named(begun.completion, call, app), cost=meter.usd(found))
    return codec(call.format).write_answer(completion, call.conversation())


class Interpreter:
    """The state of one stream on its way to the client: what to send for what came, and what it used."""

    __slots__ = (
        "_call",
        "_clock",
        "_only_begun",
        "_reader",
        "_target",
        "_translated",
        "_writer",
        "done",
        "failure",
        "said",
        "tier",
        "usage",
        "usage_raw",
    )  # fmt: skip

    def __init__(self, call: Call, target: Target, begun: Begun, app: Services) -> None:
        self._call = call
        self._target = target
        self._translated = begun.speech.translated
        self._reader = begun.reader
        self._clock = app.wall_clock
        self._writer: StreamWriter | None = None
        if self._translated:
            assert call.format is not None
            self._writer = codec(call.format).stream_writer(call.conversation())
        self.done = False
        self.failure: Failed | None = None
        self.usage: Usage | None = None
        self.usage_raw = meter.NO_RAW
        self.tier: str | None = None
        self.said = 0
        self._only_begun = True

    def begin(self, read: bytes, events: Sequence[StreamEvent]) -> bytes:
        return self._pass_on(events, read)

    def feed(self, data: bytes) -> bytes:
        """Raises Unreadable or EventTooLarge."""
        assert self._reader is not None
        return self._pass_on(self._reader.feed(data), data)

    def finish(self) -> bytes:
        if self._reader is None:
            return b""
        return self._pass_on(self._reader.finish(), b"")

    def broken(self, error: GatewayError) -> bytes:
        """What ends the client's stream when the provider broke off."""
        assert self._call.format is not None
        writer = self._writer
        if writer is None:
            writer = codec(self._call.format).stream_writer(self._call.conversation())
        failed = Failed(
            message=error.message, status=error.http_status, kind=error.kind, code=error.error_code
        )
        return writer.write([failed])

    def counted(self) -> Metered:
        usage = self.usage
        if usage is None:
            return meter.estimated(self._target, input_tokens(self._call.request.body), self.said // 4)
        if self._only_begun and (self.failure is not None or not self.done):
            # The beginning told the prompt; of the answer only what passed here is known.
            usage = replace(usage, output=max(usage.output, self.said // 4))
            return meter.counted(self._target, usage, self.usage_raw, self.tier, estimated=True)
        return meter.counted(self._target, usage, self.usage_raw, self.tier)

    def _pass_on(self, events: Sequence[StreamEvent], data: bytes) -> bytes:
        out: list[StreamEvent] = []
        for event in events:
            kind = type(event)
            if kind is BlockDelta:
                assert isinstance(event, BlockDelta)
                self.said += len(event.text or event.arguments or "")
            elif isinstance(event, UsageTold):
                self.usage, self.usage_raw = event.usage, event.raw
                self.tier = event.service_tier or self.tier
                self._only_begun = False
                if self._translated:
                    event = replace(event, cost=meter.usd(self.counted()))
            elif isinstance(event, Start):
                self.tier = event.service_tier or self.tier
                if event.usage is not None:
                    self.usage = event.usage
                if not self._translated:
                    data = _renamed_beginning(self._call, event, data)
                else:
                    event = replace(
                        event,
                        id=self._call.answer_id or event.id or self._call.request.id,
                        model=_model(self._call, event.model),
                        created=event.created or int(self._clock()),
                    )
            elif isinstance(event, Failed):
                self.failure = event
                self.done = True
            elif isinstance(event, End):
                self.done = True
            out.append(event)
        if self._writer is None:
            return data
        return self._writer.write(out) if out else b""


async def relay_events(
    call: Call,
    attempt: Attempt,
    answer: Answer,
    begun: Begun,
    first: bytes,
    head: bytes,
    hold: Hold | None,
    client: Client,
    app: Services,
) -> None:
    """Stream an answer that is read by events: translated, or relayed as it came. ``head`` are the header lines."""
    target = attempt.target
    interpreter = Interpreter(call, target, begun, app)
    overhead = attempt.sent_at - call.request.started
    out = b""
    growth = Growth(call, hold, target) if hold is not None else None
    outgrown = False
    unreadable: ValueError | None = None
    clock = app.clock
    room = app.contents.limit if app.contents is not None and app.contents.wants(False) else 0
    kept = bytearray()

    def settle(outcome: Outcome, status: int, error: str | None = None) -> Metered:
        found = interpreter.counted()
        attempt.finish(outcome, status, found, streamed=True, overhead=overhead, error=error)
        if hold is not None:
            call.settle(hold)
        return found

    def deliver(data: bytes) -> bool:
        nonlocal out, unreadable, outgrown
        try:
            out = interpreter.feed(data)
        except (Unreadable, EventTooLarge) as error:
            unreadable = error
            return False
        if len(kept) < room:
            kept.extend(out)
        if growth is not None and not interpreter.done:
            growth.seen += len(data)
            if growth.seen >= growth.look and not growth.grow(interpreter.said // 4):
                outgrown = True
                return False
        if out and not interpreter.done:
            answer.progressed(clock())
            client.send(out)
            out = b""
            return not client.congested
        return not interpreter.done

    try:
        out = interpreter.begin(first, begun.events)
        ended = interpreter.done
        client.start(answer.status, head, b"" if ended else out)
        if not ended:
            out = b""
            while not await answer.flow(deliver):
                if unreadable is not None:
                    raise unreadable
                if interpreter.done:
                    break
                if outgrown:
                    raise cut()
                await client.drain()
            else:
                out = interpreter.finish()
    except BudgetExceeded as error:
        answer.abort()
        settle("error", error.http_status, error.message)
        client.finish(out + interpreter.broken(error))
        return
    except (UpstreamError, Unreadable, EventTooLarge) as error:
        if not isinstance(error, UpstreamError):
            answer.abort()
            error = UpstreamMalformed(
                f"provider {target.provider.name} sent a stream that cannot be read",
                provider=target.provider.name,
            )
        settle("error", error.http_status, error.message)
        client.finish(interpreter.broken(error))
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
    failure = interpreter.failure
    if failure is not None:
        settle("error", failure.status, failure.message)
    else:
        call.learn(target, settle("ok", answer.status).usage)
    client.finish(out)
    if room and app.contents is not None:
        app.contents.offer(attempt.event_id, call.request.body, bytes(kept + out))


def stream_of(completion: Completion, begun: Begun) -> Begun:
    """A whole answer where a stream was asked for, as the stream it would have been."""
    return Begun(begun.speech, events=unfold(completion))


def dialect_lines(call: Call, lines: bytes, hold: Hold | None, app: Services) -> bytes:
    """The gateway's headers and those the client's own dialect has beside: Anthropic's request id and limits."""
    if call.format != "anthropic.messages":
        return lines
    lines += b"request-id: " + call.request.id.encode() + b"\r\n"
    if hold is None:
        return lines
    for line in hold.ratelimit_headers().decode().split("\r\n")[:-1]:
        name, _, value = line.partition(": ")
        what, unit = name.removeprefix("x-ratelimit-").rsplit("-", 1)
        if what == "reset":
            at = datetime.fromtimestamp(app.wall_clock() + int(value.removesuffix("s")), UTC)
            value = at.strftime("%Y-%m-%dT%H:%M:%SZ")
        lines += f"anthropic-ratelimit-{unit}-{what}: {value}\r\n".encode()
    return lines
