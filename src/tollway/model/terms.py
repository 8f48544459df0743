"""What any level may grant and forbid: budgets, limits, allow and deny lists. Counting is not here."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from tollway.model.money import Money

Period = str
"""``day``, ``week`` (from Monday), ``month`` (from the 1st), ``quarter``, ``year``, ``total``, or a number of days such
as ``30d``. In the budget's time zone."""

Outage = Literal["lease", "closed", "open"]
"""What a limit does while the counters shared between processes are away: spend what this process has leased and
refuse then, refuse at once, or go on uncounted (what was used is counted when they are back)."""

OnTight = Literal["refuse", "clamp"]
"""Where a budget affords less than the usual hold: refuse the request, or shorten ``max_tokens`` to what it affords."""


OnOutgrown = Literal["finish", "cut"]
"""What becomes of a stream that grows past what is left of a budget: it may finish, and the budget is overshot by the
rest of it; or it is cut, with an error event, and overshot by no more than one step of the hold."""


class Budget(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A ceiling on what is used within a period.

    ``limit`` counts ``unit``: nano-dollars, tokens or requests. ``strict`` holds a request's worst case, so it is never
    overshot. ``enforce`` false only watches (shadow mode). ``alert_at`` are percentages of the limit that are worth a
    warning; ``soft`` is an amount that is. ``models`` (names, wildcards, ``group:NAME``) narrows it to those models.
    ``zone`` is an IANA time zone; a month, quarter or year begins on day ``first_day``, a year in ``first_month``.
    ``raised_by`` is a temporary increase until ``raised_until`` (Unix seconds).
    """

    limit: Money
    per: Period = "total"
    strict: bool = False
    unit: Literal["nano_usd", "tokens", "requests"] = "nano_usd"
    enforce: bool = True
    soft: int | None = None
    alert_at: tuple[int, ...] = ()
    models: tuple[str, ...] = ()
    zone: str = "UTC"
    first_day: int = 1
    first_month: int = 1
    on_tight: OnTight = "refuse"
    on_outgrown: OnOutgrown = "finish"
    outage: Outage = "lease"
    raised_by: int = 0
    raised_until: float | None = None


class RateLimit(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Requests (``r``) and tokens (``t``) per second, minute, hour, day and week in sliding windows, and requests at
    the same time.

    ``count`` says which tokens: all, those of the input or of the output; ``cached`` false leaves out what the provider
    read from its cache. ``models`` narrows the limits to those models.
    """

    rpm: int | None = None
    tpm: int | None = None
    rpd: int | None = None
    tpd: int | None = None
    parallel: int | None = None
    rps: int | None = None
    rph: int | None = None
    rpw: int | None = None
    tps: int | None = None
    tph: int | None = None
    tpw: int | None = None
    count: Literal["all", "input", "output"] = "all"
    cached: bool = True
    models: tuple[str, ...] = ()
    enforce: bool = True
    outage: Outage = "lease"


class Terms(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything a level grants and forbids. An empty allow-list allows all; a deny-list wins over it.

    ``models`` are names, wildcards (``openai/*``) or access groups (``group:NAME``); ``routes`` are endpoints as events
    name them (``chat.completions``), wildcards or ``llm``, ``info``, ``management``. ``aliases`` maps a model's name to
    the one served instead. ``more_limits`` are limits of some models, or counted otherwise.
    """

    models: tuple[str, ...] = ()
    denied_models: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    denied_routes: tuple[str, ...] = ()
    mcp_servers: tuple[str, ...] = ()
    denied_mcp_servers: tuple[str, ...] = ()
    aliases: dict[str, str] = {}
    budgets: tuple[Budget, ...] = ()
    limits: RateLimit = RateLimit()
    more_limits: tuple[RateLimit, ...] = ()
