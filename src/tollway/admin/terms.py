"""What a request may grant a key, a team or any other level: budgets, limits, models, routes, read and laid over what
was there. Names, bounds and words are those of the configuration file (``config/term_rules.py``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType, field
from msgspec.structs import replace

from tollway.admin.times import ahead, iso_or_none
from tollway.config import term_rules, units
from tollway.config.term_rules import AMOUNTS, RATES, AmountName, BudgetUnit, Wrong
from tollway.errors import BadRequest
from tollway.model.money import NANO, Money
from tollway.model.terms import Budget, OnOutgrown, OnTight, Outage, RateLimit, Terms

T = TypeVar("T")

_COUNT = term_rules.MOST_COUNT
Usd = Annotated[int | float | str, Meta(description="US dollars, as a number or a decimal string.")]
Count = Annotated[int, Meta(extra_json_schema={"minimum": 1, "maximum": _COUNT})]
Percent = Annotated[int, Meta(extra_json_schema={"minimum": 1, "maximum": 100})]
Period = Annotated[
    str,
    Meta(
        description="`day`, `week`, `month`, `quarter`, `year`, `total`, or a number of days such as `30d`.",
        extra_json_schema={"pattern": "^(day|week|month|quarter|year|total|[1-9][0-9]{0,3}d)$"},
    ),
]
Patterns = Annotated[
    tuple[str, ...],
    Meta(
        description="Model names, `provider/model`, wildcards such as `openai/*`, access groups as `group:NAME`. "
        "Empty: every model."
    ),
]
Denied = Annotated[tuple[str, ...], Meta(description="Like an allow-list, and stronger than one.")]
Routes = Annotated[
    tuple[str, ...],
    Meta(description="Endpoints such as `chat.completions`, wildcards, `llm`, `info` or `management`."),
]
ShortBudget = Annotated[
    str, Meta(description="A budget in short: `10usd/month`, `1000000tokens/day`, `500requests`, `100usd`.")
]


class RaiseTerms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A temporary increase in the budget's own unit. ``until``: a span from now (`3d`) or an ISO 8601 time."""

    usd: Usd | None = None
    tokens: Count | None = None
    requests: Count | None = None
    until: str


class BudgetTerms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ceiling on spend (``usd``), tokens or requests. In an update a field left out keeps its value and ``null``
    takes the default."""

    usd: Usd | UnsetType = UNSET
    tokens: Count | UnsetType = UNSET
    requests: Count | UnsetType = UNSET
    per: Period | UnsetType | None = UNSET
    strict: bool | UnsetType | None = UNSET
    enforce: bool | UnsetType | None = UNSET
    soft: Usd | UnsetType | None = UNSET
    alert_at: tuple[Percent, ...] | UnsetType | None = UNSET
    models: Patterns | UnsetType | None = UNSET
    zone: str | UnsetType | None = UNSET
    first_day: int | UnsetType | None = UNSET
    first_month: int | UnsetType | None = UNSET
    on_tight: OnTight | UnsetType | None = UNSET
    on_outgrown: OnOutgrown | UnsetType | None = UNSET
    outage: Outage | UnsetType | None = UNSET
    increase: RaiseTerms | UnsetType | None = field(default=UNSET, name="raise")


class LimitTerms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests (`r`) and tokens (`t`) per second, minute, hour, day and week, requests at once. ``null`` lifts a
    limit. ``models`` narrows it to those models."""

    rps: Count | UnsetType | None = UNSET
    rpm: Count | UnsetType | None = UNSET
    rph: Count | UnsetType | None = UNSET
    rpd: Count | UnsetType | None = UNSET
    rpw: Count | UnsetType | None = UNSET
    tps: Count | UnsetType | None = UNSET
    tpm: Count | UnsetType | None = UNSET
    tph: Count | UnsetType | None = UNSET
    tpd: Count | UnsetType | None = UNSET
    tpw: Count | UnsetType | None = UNSET
    parallel: Count | UnsetType | None = UNSET
    count: Literal["all", "input", "output"] | UnsetType | None = UNSET
    cached: bool | UnsetType | None = UNSET
    models: Patterns | UnsetType | None = UNSET
    enforce: bool | UnsetType | None = UNSET
    outage: Outage | UnsetType | None = UNSET


BudgetsGiven = BudgetTerms | tuple[BudgetTerms | ShortBudget, ...] | ShortBudget | UnsetType | None
LimitsGiven = LimitTerms | tuple[LimitTerms, ...] | UnsetType | None


class TermsBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a level grants and forbids. In an update, left out stays, ``null`` clears, ``limits`` and ``aliases`` merge,
    lists are replaced."""

    models: Patterns | UnsetType | None = UNSET
    denied_models: Denied | UnsetType | None = UNSET
    routes: Routes | UnsetType | None = UNSET
    denied_routes: Denied | UnsetType | None = UNSET
    mcp_servers: tuple[str, ...] | UnsetType | None = UNSET
    denied_mcp_servers: Denied | UnsetType | None = UNSET
    aliases: dict[str, str | None] | UnsetType | None = UNSET
    budget: BudgetsGiven = UNSET
    limits: LimitsGiven = UNSET


LISTS = ("models", "denied_models", "routes", "denied_routes", "mcp_servers", "denied_mcp_servers")


def terms(body: TermsBody, old: Terms, now: float, place: str = "") -> Terms:
    """``old`` with what ``body`` gives. Raises BadRequest; ``place`` begins the names of parameters (``members.``)."""
    changes: dict[str, object] = {}
    for name in LISTS:
        given: tuple[str, ...] | UnsetType | None = getattr(body, name)
        if given is not UNSET:
            changes[name] = words(given or (), place + name)
    if body.aliases is not UNSET:
        merged = {**old.aliases, **body.aliases} if body.aliases is not None else {}
        kept = {name: model for name, model in merged.items() if model is not None}
        words(tuple(kept), place + "aliases")
        changes["aliases"] = {name: words((model,), place + "aliases")[0] for name, model in kept.items()}
    if body.budget is not UNSET:
        changes["budgets"] = budgets(body.budget, old.budgets, now, place + "budget")
    if body.limits is not UNSET:
        plain, more = limits(body.limits, (old.limits, old.more_limits), place + "limits")
        changes |= {"limits": plain, "more_limits": more}
    return replace(old, **changes)


def words(texts: tuple[str, ...], param: str) -> tuple[str, ...]:
    """Names: each stripped, not empty, named once, in the order given."""
    if len(texts) > term_rules.MOST_ENTRIES:
        raise BadRequest(f"{param} has more than {term_rules.MOST_ENTRIES} entries", param=param)
    for position, text in enumerate(texts):
        if not 1 <= len(text.strip()) <= 256 or not text.strip().isprintable():
            raise BadRequest(f"{param}[{position}] must have 1 to 256 printable characters", param=param)
    return tuple(dict.fromkeys(text.strip() for text in texts))


def budgets(
    given: BudgetsGiven, old: tuple[Budget, ...], now: float, param: str = "budget"
) -> tuple[Budget, ...]:
    """One budget, several, or none. An object is laid over a single budget, all else replaces them."""
    if given is None or given is UNSET:
        return ()
    if isinstance(given, str):
        return (_short(given, param),)
    if isinstance(given, BudgetTerms):
        return (budget(given, old[0] if len(old) == 1 else None, now, param),)
    made = tuple(
        _short(each, f"{param}[{position}]")
        if isinstance(each, str)
        else budget(each, None, now, f"{param}[{position}]")
        for position, each in enumerate(given)
    )
    try:
        return term_rules.checked_budgets(made)
    except Wrong as wrong:
        raise BadRequest(f"{param}: {wrong}", param=param) from None


def budget(given: BudgetTerms, old: Budget | None, now: float, param: str = "budget") -> Budget:
    """A budget from its terms, laid over ``old`` where there is one."""
    base = old or Budget(limit=0)
    unit, limit = _limit(given, old, param)
    if unit != base.unit:
        base = replace(base, soft=None, raised_by=0, raised_until=None)
    amount_name = term_rules.AMOUNT_NAMES[unit]
    soft = base.soft
    if given.soft is None:
        soft = None
    elif given.soft is not UNSET:
        soft = amount(amount_name, given.soft, f"{param}.soft")
    raised_by, raised_until = base.raised_by, base.raised_until
    if given.increase is None:
        raised_by, raised_until = 0, None
    elif given.increase is not UNSET:
        raised_by, raised_until = increase(given.increase, unit, now, f"{param}.raise")
    made = Budget(
        limit=limit,
        unit=unit,
        per=kept(given.per, base.per, "total"),
        strict=kept(given.strict, base.strict, False),
        enforce=kept(given.enforce, base.enforce, True),
        soft=soft,
        alert_at=tuple(sorted(set(kept(given.alert_at, base.alert_at, ())))),
        models=words(kept(given.models, base.models, ()), f"{param}.models"),
        zone=kept(given.zone, base.zone, "UTC"),
        first_day=kept(given.first_day, base.first_day, 1),
        first_month=kept(given.first_month, base.first_month, 1),
        on_tight=kept(given.on_tight, base.on_tight, "refuse"),
        on_outgrown=kept(given.on_outgrown, base.on_outgrown, "finish"),
        outage=kept(given.outage, base.outage, "lease"),
        raised_by=raised_by,
        raised_until=raised_until,
    )
    _said(param, "per", lambda: units.period(made.per))
    _said(param, "zone", lambda: term_rules.zone(made.zone))
    try:
        return term_rules.checked_budget(made)
    except Wrong as wrong:
        raise BadRequest(f"{param}.{wrong.part}: {wrong}", param=f"{param}.{wrong.part}") from None


def increase(given: RaiseTerms, unit: BudgetUnit, now: float, param: str) -> tuple[int, float]:
    """(by how much, until when) of a temporary increase, in ``unit``."""
    name = term_rules.AMOUNT_NAMES[unit]
    by: int | float | str | None = getattr(given, name)
    if by is None or sum(getattr(given, each) is not None for each in AMOUNTS) != 1:
        raise BadRequest(f"{param}.{name} is missing: by how much?", param=f"{param}.{name}")
    until = ahead(given.until, now, param=f"{param}.until")
    if until <= now:
        raise BadRequest(f"{param}.until lies in the past", param=f"{param}.until")
    return amount(name, by, f"{param}.{name}"), until


def limits(
    given: LimitsGiven, old: tuple[RateLimit, tuple[RateLimit, ...]], param: str = "limits"
) -> tuple[RateLimit, tuple[RateLimit, ...]]:
    """The plain limits and the others. An object is laid over the plain ones, a list replaces all."""
    if given is None or given is UNSET:
        return RateLimit(), ()
    if isinstance(given, LimitTerms) and given.models:
        given = (given,)
    if isinstance(given, LimitTerms):
        made = [_limits(given, old[0], param), *old[1]]
    else:
        made = [_limits(each, RateLimit(), f"{param}[{at}]") for at, each in enumerate(given)]
    try:
        return term_rules.parted_limits(made)
    except Wrong as wrong:
        raise BadRequest(f"{param}: {wrong}", param=param) from None


def _limits(given: LimitTerms, old: RateLimit, param: str) -> RateLimit:
    rates: dict[str, int | None] = {}
    for rate in RATES:
        value: int | None = kept(getattr(given, rate), getattr(old, rate), None)
        if value is not None:
            _said(param, rate, lambda value=value: term_rules.count(value))  # type: ignore[misc]
        rates[rate] = value
    return RateLimit(
        **rates,
        count=kept(given.count, old.count, "all"),
        cached=kept(given.cached, old.cached, True),
        models=words(kept(given.models, old.models, ()), f"{param}.models"),
        enforce=kept(given.enforce, old.enforce, True),
        outage=kept(given.outage, old.outage, "lease"),
    )


def kept(given: T | UnsetType | None, old: T, default: T) -> T:
    """A field of a merge patch: left out stays, null takes the default."""
    if isinstance(given, UnsetType):
        return old
    return default if given is None else given


def amount(name: AmountName, given: int | float | str, param: str) -> int:
    """An amount in the unit that ``name`` (``usd``, ``tokens``, ``requests``) stands for."""
    try:
        if name == "usd":
            return term_rules.dollars(str(given))
        if not isinstance(given, int) or isinstance(given, bool):
            raise ValueError(f"expected a whole number from 1 to {_COUNT}")
        return term_rules.count(given)
    except ValueError as error:
        raise BadRequest(f"{param}: {error}", param=param) from None


def _limit(given: BudgetTerms, old: Budget | None, param: str) -> tuple[BudgetUnit, int]:
    named: list[AmountName] = [name for name in AMOUNTS if getattr(given, name) is not UNSET]
    if len(named) > 1:
        raise BadRequest(f"{param}: names {' and '.join(named)}; make a budget for each", param=param)
    if named:
        return AMOUNTS[named[0]], amount(named[0], getattr(given, named[0]), f"{param}.{named[0]}")
    if old is None:
        raise BadRequest(f"{param}.usd {term_rules.AMOUNT_MISSING}", param=f"{param}.usd")
    return old.unit, old.limit


def _short(text: str, param: str) -> Budget:
    try:
        found = units.budget(text)
        if found.limit > (term_rules.MOST_NANO if found.unit == "nano_usd" else _COUNT):
            raise ValueError(f"is more than {term_rules.MOST_NANO // NANO} US dollars")
    except ValueError as error:
        raise BadRequest(f"{param}: {error}", param=param) from None
    return found


def _said(param: str, part: str, check: Callable[[], object]) -> None:
    try:
        check()
    except ValueError as error:
        raise BadRequest(f"{param}.{part}: {error}", param=f"{param}.{part}") from None


class BudgetShown(Struct, frozen=True, kw_only=True):
    """A budget. ``usd`` is for people (null where tokens or requests are counted), ``limit`` exact, in ``unit``."""

    usd: float | None
    unit: BudgetUnit
    limit: int
    per: str
    strict: bool
    enforce: bool
    soft: int | None
    alert_at: tuple[int, ...]
    models: tuple[str, ...]
    zone: str
    first_day: int
    first_month: int
    on_tight: OnTight
    on_outgrown: OnOutgrown
    outage: Outage
    raised_by: int
    raised_until: str | None


class TermsShown(Struct, frozen=True, kw_only=True):
    """What a level grants and forbids. Empty allow-lists allow all."""

    models: tuple[str, ...]
    denied_models: tuple[str, ...]
    routes: tuple[str, ...]
    denied_routes: tuple[str, ...]
    mcp_servers: tuple[str, ...]
    denied_mcp_servers: tuple[str, ...]
    aliases: dict[str, str]
    budgets: tuple[BudgetShown, ...]
    limits: RateLimit
    more_limits: tuple[RateLimit, ...]


def shown_budget(budget: Budget) -> dict[str, Any]:
    """The fields of ``BudgetShown``."""
    money: Money | None = budget.limit if budget.unit == "nano_usd" else None
    names = [name for name in BudgetShown.__struct_fields__ if name not in ("usd", "raised_until")]
    fields: dict[str, Any] = {name: getattr(budget, name) for name in names}
    fields["usd"] = money / NANO if money is not None else None
    fields["raised_until"] = iso_or_none(budget.raised_until)
    return fields


def shown_terms(terms: Terms) -> TermsShown:
    made = tuple(BudgetShown(**shown_budget(each)) for each in terms.budgets)
    return TermsShown(
        **{name: getattr(terms, name) for name in LISTS},
        aliases=terms.aliases,
        budgets=made,
        limits=terms.limits,
        more_limits=terms.more_limits,
    )
