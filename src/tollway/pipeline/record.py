"""Writing down what happened: one immutable event for each upstream attempt, durable before the answer ends.

Room in the spool is admitted before a provider is asked; so an attempt that was made can always be recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec.structs import replace

from tollway.model.event import NO_RAW_USAGE, Outcome, UsageEvent
from tollway.pipeline.grant import MEMO, Labels
from tollway.pipeline.meter import Metered
from tollway.pipeline.resolve import Call
from tollway.pipeline.snapshot import Target
from tollway.storage.entries import DIMENSIONS, Entry, canonical

_encode = msgspec.json.Encoder().encode
_decode_event = msgspec.json.Decoder(UsageEvent).decode


class Spool(Protocol):
    """The durable queue of events (``storage/spool.py``)."""

    def enter(self) -> None: ...
    def leave(self) -> None: ...
    def append(self, payload: bytes, meaning: object = None) -> None: ...
    def fits(self, payload: bytes) -> bool: ...


class Timestamps:
    """ISO 8601 times in UTC with milliseconds; the part down to the second is made once a second."""

    __slots__ = ("_format", "_moment", "_prefix", "_second", "_text")

    def __init__(self, format_second: Callable[[int], str]) -> None:
        self._format = format_second
        self._second = -1
        self._moment = -1
        self._prefix = ""
        self._text = ""

    def iso(self, now: float) -> str:
        moment = int(now * 1000)
        if moment != self._moment:
            self._moment = moment
            second = moment // 1000
            if second != self._second:
                self._second = second
                self._prefix = self._format(second)
            self._text = self._prefix + "." + str(1000 + moment % 1000)[1:] + "Z"
        return self._text


class Journal:
    """Opens attempts and appends their events. ``clock`` is monotonic, ``wall_clock`` Unix time, both in seconds.

    ``ledger`` says that a ledger reads the spool: then events are handed to it as it stores them.
    """

    __slots__ = ("_spool", "_stamps", "attempts", "clock", "ledger", "open", "wall_clock")

    def __init__(
        self,
        spool: Spool,
        stamps: Timestamps,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        ledger: bool = True,
    ) -> None:
        self.ledger = ledger
        self._spool = spool
        self._stamps = stamps
        self.clock = clock
        self.wall_clock = wall_clock
        self.attempts = 0
        self.open = 0

    def begin(self, call: Call, target: Target, number: int) -> Attempt:
        """Raises StoreUnavailable when the event could not be kept: then nothing may be sent."""
        self._spool.enter()
        self.attempts += 1
        self.open += 1
        return Attempt(self, call, target, number)

    def append(self, payload: bytes, entry: Entry | None) -> None:
        if self._spool.fits(payload):
            self._spool.append(payload, entry)
            return
        event = replace(_decode_event(payload), raw_usage=NO_RAW_USAGE)
        payload = _encode(event)
        if not self._spool.fits(payload):
            payload = _encode(_cut(event))
        self._spool.append(payload)

    def close(self) -> None:
        self.open -= 1
        self._spool.leave()

    def stamp(self) -> str:
        return self._stamps.iso(self.wall_clock())


def _cut(event: UsageEvent) -> UsageEvent:
    """An event that fits whatever names and errors it carries: nobody needs more than their beginning."""

    def short(text: str | None) -> str | None:
        return None if text is None else text[:200]

    return replace(
        event,
        raw_usage=NO_RAW_USAGE,
        tags=event.tags[:8],
        model=event.model[:200],
        upstream_model=event.upstream_model[:200],
        deployment=event.deployment[:200],
        error=short(event.error),
        key=short(event.key),
        organization=short(event.organization),
        team=short(event.team),
        project=short(event.project),
        user=short(event.user),
        customer=short(event.customer),
    )


class Attempt:
    """One try at one provider. ``finish`` writes its event, once; whatever comes after the first call is ignored."""

    __slots__ = ("_journal", "began", "call", "done", "first_token_at", "number", "sent_at", "target")

    def __init__(self, journal: Journal, call: Call, target: Target, number: int) -> None:
        self._journal = journal
        self.call = call
        self.target = target
        self.number = number
        self.began = self.sent_at = journal.clock()
        self.first_token_at = 0.0
        self.done = False

    @property
    def event_id(self) -> str:
        return f"ue_{self.call.request.id}_{self.number}"

    def finish(
        self,
        outcome: Outcome,
        status: int,
        metered: Metered,
        *,
        streamed: bool = False,
        overhead: float = 0.0,
        error: str | None = None,
    ) -> None:
        """``overhead`` is the time spent in the gateway itself, seconds."""
        if self.done:
            return
        self.done = True
        journal = self._journal
        call = self.call
        call.count(metered.cost, metered.usage)
        try:
            self._write(journal, outcome, status, metered, streamed, overhead, error)
        finally:
            journal.close()

    def _write(
        self,
        journal: Journal,
        outcome: Outcome,
        status: int,
        metered: Metered,
        streamed: bool,
        overhead: float,
        error: str | None,
    ) -> None:
        call = self.call
        request_id = call.request.id
        number = self.number
        labels = _labels(call, self.target)
        usage = metered.usage
        cost = metered.cost
        time = journal.stamp()
        latency = int((journal.clock() - self.began) * 1000)
        micros = int(overhead * 1e6 + 0.5)
        id = f"ue_{request_id}_{number}"
        # A UsageEvent's JSON, written by hand: fields at their defaults are left out as its encoder does.
        text = (
            f'{{"id":"{id}","request_id":"{request_id}","time":"{time}",{labels.json}"status":{status},'
            f'"outcome":"{outcome}","cost_nano_usd":{cost},"latency_ms":{latency},'
            f'"overhead_ms":{micros // 1000}.{str(1000 + micros % 1000)[1:]},'
        )
        if number != 1:
            text += f'"attempt":{number},'
        if streamed:
            text += '"streamed":true,'
        if metered.estimated:
            text += '"estimated":true,'
        if not metered.priced:
            text += '"priced":false,'
        if call.warnings:
            text += f'"warnings":{_encode(call.warnings).decode()},'
        if self.first_token_at:
            text += f'"first_token_ms":{int((self.first_token_at - self.began) * 1000)},'
        raw = bytes(metered.raw)
        if 10 in raw or 13 in raw:  # LF, CR; sinks write an event a line
            raw = msgspec.json.format(raw, indent=-1)
        payload = b'%b"usage":%b,"raw_usage":%b' % (text.encode(), _encode(usage), raw)
        if error:
            payload += b',"error":' + _encode(error[:500])
        payload += b"}"
        entry: Entry | None = None
        if journal.ledger:
            try:
                entry = Entry(id, time, labels.of, outcome, metered.priced, cost, usage, payload)
            except ValueError:
                entry = None  # beyond counting: the ledger puts the record aside and says so
        journal.append(payload, entry)


def _labels(call: Call, target: Target) -> Labels:
    """What every event of a key, an endpoint and a target has in common, made once."""
    known = call.grant.labels
    name = (target, call.endpoint, call.route.name)
    labels = known.get(name)
    if labels is None:
        if len(known) >= MEMO:
            known.clear()
        labels = known[name] = _make_labels(call, target)
    return labels


def _make_labels(call: Call, target: Target) -> Labels:
    grant = call.grant
    key = grant.key
    deployment = target.deployment
    of = (
        key.id if key else None,
        key.name if key else None,
        grant.organization,
        grant.team,
        grant.project,
        grant.user,
        grant.customer,
        canonical(grant.tags),
        call.endpoint,
        call.route.name,
        deployment.provider,
        deployment.upstream_model,
    )
    told = {name: value for name, value in zip(DIMENSIONS, of, strict=True) if value is not None}
    told["deployment"] = deployment.id
    fields: dict[str, object] = {**told}
    if grant.tags:
        fields["tags"] = grant.tags
    if deployment.price:
        fields["price_version"] = deployment.price.version
    return Labels(of, _encode(fields).decode()[1:-1] + ",")
