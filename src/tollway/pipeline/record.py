"""Writing down what happened: one immutable event for each upstream attempt, durable before the answer ends.

Room in the spool is admitted before a provider is asked; so an attempt that was made can always be recorded.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec.structs import replace

from tollway.model.event import NO_RAW_USAGE, Outcome, UsageEvent
from tollway.pipeline.meter import Metered
from tollway.pipeline.resolve import Call
from tollway.pipeline.snapshot import Target

log = logging.getLogger("tollway.record")

_encode = msgspec.json.Encoder().encode


class Spool(Protocol):
    """The durable queue of events (``storage/spool.py``)."""

    def enter(self) -> None: ...
    def leave(self) -> None: ...
    def append(self, payload: bytes) -> None: ...
    def fits(self, payload: bytes) -> bool: ...


class Timestamps:
    """ISO 8601 times in UTC with milliseconds; the part down to the second is made once a second."""

    __slots__ = ("_format", "_prefix", "_second")

    def __init__(self, format_second: Callable[[int], str]) -> None:
        self._format = format_second
        self._second = -1
        self._prefix = ""

    def iso(self, now: float) -> str:
        second = math.floor(now)
        if second != self._second:
            self._second = second
            self._prefix = self._format(second)
        return f"{self._prefix}.{int((now - second) * 1000):03d}Z"


class Journal:
    """Opens attempts and appends their events. ``clock`` is monotonic, ``wall_clock`` Unix time, both in seconds."""

    __slots__ = ("_spool", "_stamps", "attempts", "clock", "open", "wall_clock")

    def __init__(
        self,
        spool: Spool,
        stamps: Timestamps,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
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

    def append(self, event: UsageEvent) -> None:
        payload = _encode(event)
        if not self._spool.fits(payload):
            payload = _encode(replace(event, raw_usage=NO_RAW_USAGE))
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
        team=short(event.team),
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
        now = journal.clock()
        call = self.call
        key = call.grant.key
        usage = metered.usage
        call.spent += metered.cost
        call.tokens += usage.tokens()
        deployment = self.target.deployment
        request_id = call.request.id
        event = UsageEvent(
            id=f"ue_{request_id}_{self.number}",
            request_id=request_id,
            time=journal.stamp(),
            key=key.name if key else None,
            key_id=key.id if key else None,
            team=key.team if key else None,
            user=key.user if key else None,
            customer=key.customer if key else None,
            tags=key.tags if key else (),
            endpoint=call.endpoint,
            model=call.route.name,
            provider=deployment.provider,
            upstream_model=deployment.upstream_model,
            deployment=deployment.id,
            attempt=self.number,
            status=status,
            outcome=outcome,
            streamed=streamed,
            estimated=metered.estimated,
            usage=usage,
            cost_nano_usd=metered.cost,
            priced=metered.priced,
            price_version=deployment.price.version if deployment.price else "",
            latency_ms=int((now - self.began) * 1000),
            first_token_ms=int((self.first_token_at - self.began) * 1000) if self.first_token_at else None,
            overhead_ms=round(overhead * 1000, 3),
            raw_usage=metered.raw,
            error=error[:500] if error else None,
        )
        try:
            journal.append(event)
        finally:
            journal.close()
