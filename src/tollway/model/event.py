"""The ledger's entry: one immutable usage event for each upstream attempt."""

from __future__ import annotations

from typing import Literal

from msgspec import Raw, Struct, field

from tollway.model.money import Money
from tollway.model.usage import NOTHING, Usage

NO_RAW_USAGE = Raw(b"null")

Outcome = Literal["ok", "error", "cancelled", "cached", "blocked", "correction"]


class UsageEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an attempt consumed and cost. The field names are the public JSON of ``GET /api/events``.

    ``time`` is when the attempt ended, ISO 8601 in UTC with milliseconds. ``raw_usage`` is the provider's own
    usage object, verbatim. ``priced`` is false where no price is known: the cost is then unknown, not zero.
    ``estimated`` says that the provider reported no usage (a cancelled stream) and we counted. ``organization``,
    ``team``, ``project``, ``user`` and ``customer`` are ids. An event never changes: what was wrong about one is put
    right by another with the outcome ``correction``, whose cost and units are added to it and may be negative; it
    ``corrects`` the id it names, and ``note`` says why. ``warnings`` are thresholds of budgets the request crossed.
    """

    id: str
    request_id: str
    time: str
    key: str | None = None
    key_id: str | None = None
    organization: str | None = None
    team: str | None = None
    project: str | None = None
    user: str | None = None
    customer: str | None = None
    tags: tuple[str, ...] = ()
    endpoint: str
    model: str
    provider: str
    upstream_model: str
    deployment: str
    attempt: int = 1
    status: int
    outcome: Outcome
    streamed: bool = False
    estimated: bool = False
    usage: Usage = NOTHING
    cost_nano_usd: Money = 0
    priced: bool = True
    price_version: str = ""
    latency_ms: int = 0
    first_token_ms: int | None = None
    overhead_ms: float = 0.0
    raw_usage: Raw = field(default_factory=lambda: NO_RAW_USAGE)
    error: str | None = None
    corrects: str | None = None
    note: str | None = None
    warnings: tuple[str, ...] = ()


class UsageFilter(Struct, frozen=True, kw_only=True):
    """Which events to read: each given field must match. Times are ISO 8601; ``since`` is inclusive, ``until`` not.
    ``key`` is a name or an id."""

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
    request_id: str | None = None
    since: str | None = None
    until: str | None = None
