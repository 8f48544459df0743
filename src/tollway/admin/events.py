"""The ledger read event by event: one for each upstream attempt, newest first. Sums are in ``usage.py``."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from tollway.admin.action import action
from tollway.admin.context import Context
from tollway.admin.region import region_of
from tollway.admin.times import ago, is_span, iso
from tollway.errors import Conflict
from tollway.model.event import NO_RAW_USAGE, Outcome, UsageEvent, UsageFilter
from tollway.model.usage import Usage

if TYPE_CHECKING:
    from tollway.storage.repositories.events import Events

_log = logging.getLogger(__name__)

FLUSH_DEADLINE = 2.0
"""Seconds a read waits for the ledger to catch up: a slow database must not hang the reader."""


Since = Annotated[str, Meta(description="ISO 8601, or a span back from now such as `7d`. Inclusive.")]
Until = Annotated[str, Meta(description="ISO 8601, or a span back from now such as `1d`. Exclusive.")]


class Units(Usage, frozen=True, kw_only=True, omit_defaults=False):
    """What was consumed, in disjoint classes, save that `reasoning` is a part of `output`."""


class Event(UsageEvent, frozen=True, kw_only=True, omit_defaults=False):
    """What one upstream attempt consumed and cost.

    ``time`` is its end. ``raw_usage`` is the provider's own usage object, verbatim. ``estimated``: the
    provider reported no usage and the gateway counted. ``priced`` false: the cost is unknown, not zero.
    """

    # The ledger leaves out what is default; whoever reads it over HTTP finds every field.
    usage: Units = Units()
    # The same field again: a default that is made, since a schema cannot show one of this type.
    raw_usage: Raw = msgspec.field(default_factory=lambda: NO_RAW_USAGE)


shown = msgspec.json.Decoder(Event).decode
"""An event as it is kept, in today's shape."""


class EventQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events to read: every given field must match. ``key`` is an id or a name."""

    organization: str | None = None
    team: str | None = None
    project: str | None = None
    user: str | None = None
    customer: str | None = None
    tag: str | None = None
    key: str | None = None
    endpoint: str | None = None
    model: str | None = None
    provider: str | None = None
    upstream_model: str | None = None
    outcome: Outcome | None = None
    since: Since | None = None
    until: Until | None = None
    request_id: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    cursor: str | None = None


class EventPage(Struct, frozen=True, kw_only=True):
    """Events, newest first. ``next_cursor`` asks for the next page; null on the last."""

    data: tuple[Event, ...]
    next_cursor: str | None


@action(permission="events.read", audit=False, route=("GET", "/events"))
async def list_(context: Context, query: EventQuery) -> EventPage:
    """Read usage events: what each upstream attempt consumed and cost.

    Every request answered before is included. `input` excludes cached tokens, `reasoning` is a part of
    `output`, the other classes are disjoint. Where `priced` is false the cost is unknown, not zero.
    """
    ledger = ledger_of(context)
    now = context.clock()
    same = [name for name in UsageFilter.__struct_fields__ if name not in ("since", "until")]
    wanted = UsageFilter(
        **{name: getattr(query, name) for name in same},
        since=moment(query.since, now),
        until=moment(query.until, now),
    )
    region = region_of(context.sight("events.read"))
    await caught_up(context)
    page = await ledger.page(wanted, query.limit, query.cursor, region)
    # Read and written again, not passed on: an event of an older version is then shown in today's shape.
    return EventPage(data=tuple(shown(each) for each in page.events), next_cursor=page.next_cursor)


def ledger_of(context: Context) -> Events:
    """Raises Conflict without a database: there is no ledger to read then."""
    if context.events is None:
        raise Conflict("this gateway runs without a database and keeps no ledger: set database: to have one")
    return context.events


def moment(text: str | None, now: float) -> str | None:
    """A span back from now becomes a time; a time is left for the ledger to read."""
    return text if text is None or not is_span(text) else iso(ago(text, now, param="since"))


async def caught_up(context: Context) -> None:
    """Wait until the ledger holds every answered request, but not for ever: then what it has is read."""
    try:
        async with asyncio.timeout(FLUSH_DEADLINE):
            await context.flush()
    except TimeoutError:
        _log.warning("the ledger did not catch up within %s s: the newest events are missing", FLUSH_DEADLINE)
