"""From the terms of every level a request belongs to, to the claims it reserves. Counting is done elsewhere.

A counter is named ``<level>:<id>:<what>``. What a claim counts can be read from the ledger too: ``Ceiling.of`` says
which events are its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from tollway.model.key import VirtualKey
from tollway.model.tenant import Directory, Membership, Tenant
from tollway.model.terms import Budget, RateLimit, Terms
from tollway.shared.interface import Claim, Unit

_WINDOWS: tuple[tuple[str, Unit, int], ...] = (
    ("rps", "requests", 1),
    ("rpm", "requests", 60),
    ("rph", "requests", 3600),
    ("rpd", "requests", 86400),
    ("rpw", "requests", 604800),
    ("tps", "tokens", 1),
    ("tpm", "tokens", 60),
    ("tph", "tokens", 3600),
    ("tpd", "tokens", 86400),
    ("tpw", "tokens", 604800),
)
_UNIT_WORDS = {"nano_usd": "usd", "tokens": "tokens", "requests": "requests"}


class Ceiling(Struct, frozen=True, kw_only=True):
    """A claim, the ``models`` it is narrowed to (names and wildcards; empty: all), and the dimensions of the events it
    counts, such as ``(("team", "search"), ("user", "u1"))``."""

    claim: Claim
    models: tuple[str, ...] = ()
    of: tuple[tuple[str, str], ...] = ()


def claims_of(key: VirtualKey) -> tuple[Claim, ...]:
    """Every ceiling a key itself has. Cheap ones first, so that a refusal touches little."""
    return tuple(ceiling.claim for ceiling in ceilings_of_key(key))


def ceilings_of_key(key: VirtualKey, groups: Groups | None = None) -> tuple[Ceiling, ...]:
    terms = Terms(budgets=key.budgets, limits=key.limits, more_limits=key.more.more_limits)
    of = (("key_id", key.id),)
    return _ceilings(f"key:{key.id}:", f"key {key.name}", terms, of, key.created_at, groups)


def ceilings_of_tenant(tenant: Tenant, groups: Groups | None = None) -> tuple[Ceiling, ...]:
    level = tenant.level
    dimension = "tags" if level == "tag" else level
    of: tuple[tuple[str, str], ...] = ((dimension, tenant.id),)
    if level == "customer" and tenant.organization is not None:
        of += (("organization", tenant.organization),)  # others may send the same id
    return _ceilings(
        f"{level}:{tenant.id}:",
        f"{level} {tenant.name}",
        tenant.terms,
        of,
        tenant.created_at,
        groups,
    )


def ceilings_of_member(
    tenant: Tenant, user: str, membership: Membership | None, groups: Groups | None = None
) -> tuple[Ceiling, ...]:
    """A member's own ceilings within a team or organization; where the membership sets none, those every member has."""
    own = membership.terms if membership is not None else Terms()
    usual = tenant.members
    terms = Terms(
        budgets=own.budgets or usual.budgets,
        limits=own.limits if own.limits != RateLimit() else usual.limits,
        more_limits=own.more_limits or usual.more_limits,
    )
    return _ceilings(
        f"member:{tenant.level}/{tenant.id}/{user}:",
        f"member {user} of {tenant.level} {tenant.name}",
        terms,
        ((tenant.level, tenant.id), ("user", user)),
        membership.created_at if membership is not None else tenant.created_at,
        groups,
    )


def ceilings_of_customer(
    customer: str,
    tenant: Tenant | None,
    default: Tenant | None,
    groups: Groups | None = None,
    apart: str = "",
) -> tuple[Ceiling, ...]:
    """An end user's: declared, or nobody's in particular, with the terms of the customer named ``default``. ``apart``
    begins the id in counters where the id is declared and somebody else is meant."""
    found = tenant or default
    if found is None:
        return ()
    return _ceilings(
        f"customer:{apart}{customer}:", f"customer {customer}", found.terms, (("customer", customer),),
        found.created_at, groups,
    )  # fmt: skip


class Groups:
    """Access groups by name, so that ``group:NAME`` in a list of models can be replaced by what it stands for."""

    def __init__(self, directory: Directory) -> None:
        self._models = {group.name: group.models for group in directory.groups}
        self._models.update({group.id: group.models for group in directory.groups})

    def models(self, names: Iterable[str]) -> tuple[str, ...]:
        """A group nobody declared stands for nothing."""
        found: list[str] = []
        for name in names:
            if name.startswith("group:"):
                found += self._models.get(name[6:], ())
            else:
                found.append(name)
        return tuple(found)


def every_ceiling(
    keys: Iterable[VirtualKey], directory: Directory, customers: Iterable[str] = ()
) -> Iterator[Ceiling]:
    """What has to be counted over the whole installation: for seeding counters, and for forgetting others. Members are
    those with a membership or a key; ``customers`` are end users that were seen, declared or not."""
    groups = Groups(directory)
    tenants = {(tenant.level, tenant.id): tenant for tenant in directory.tenants}
    members: dict[tuple[str, str, str], Membership | None] = {
        (one.level, one.tenant, one.user): one for one in directory.memberships
    }
    for key in keys:
        yield from ceilings_of_key(key, groups)
        if key.user is not None and not key.service:
            for level, id in (("team", key.team), ("organization", key.organization)):
                if id is not None:
                    members.setdefault((level, id, key.user), None)
    for tenant in directory.tenants:
        yield from ceilings_of_tenant(tenant, groups)
    default = tenants.get(("customer", "default"))
    if default is not None:
        for customer in customers:
            if ("customer", customer) not in tenants:
                yield from ceilings_of_customer(customer, None, default, groups)
    for (level, id, user), membership in members.items():
        within = tenants.get((level, id))  # type: ignore[arg-type]
        if within is not None:
            yield from ceilings_of_member(within, user, membership, groups)


def _ceilings(
    prefix: str,
    subject: str,
    terms: Terms,
    of: tuple[tuple[str, str], ...],
    anchor: float,
    groups: Groups | None,
) -> tuple[Ceiling, ...]:
    found: list[Ceiling] = []
    for limits in (terms.limits, *terms.more_limits):
        models = groups.models(limits.models) if groups is not None else limits.models
        if limits.models and not models:
            continue
        found += [
            Ceiling(claim=claim, models=models, of=of) for claim in _limit_claims(prefix, subject, limits)
        ]
    found.sort(key=lambda one: (one.claim.unit != "parallel", one.claim.unit != "requests"))
    for budget in terms.budgets:
        models = groups.models(budget.models) if groups is not None else budget.models
        if budget.models and not models:
            continue
        found.append(Ceiling(claim=_budget_claim(prefix, subject, budget, anchor), models=models, of=of))
    return tuple(found)


def _limit_claims(prefix: str, subject: str, limits: RateLimit) -> list[Claim]:
    of_models = "@" + ",".join(limits.models) if limits.models else ""
    label_models = f" of {', '.join(limits.models)}" if limits.models else ""
    claims = []
    if limits.parallel is not None:
        claims.append(
            Claim(
                counter=f"{prefix}parallel{of_models}",
                unit="parallel",
                limit=limits.parallel,
                label="parallel" + label_models,
                subject=subject,
                enforce=limits.enforce,
                outage=limits.outage,
            )
        )
    for name, unit, seconds in _WINDOWS:
        limit: int | None = getattr(limits, name)
        if limit is None:
            continue
        how = ""
        label = name
        if unit == "tokens":
            if limits.count != "all":
                how += "." + limits.count
                label = f"{limits.count} {name}"
            if not limits.cached:
                how += ".uncached"
        claims.append(
            Claim(
                counter=f"{prefix}{name}{how}{of_models}",
                unit=unit,
                limit=limit,
                label=label + label_models,
                subject=subject,
                seconds=seconds,
                count=limits.count if unit == "tokens" else "all",
                cached=limits.cached or unit != "tokens",
                enforce=limits.enforce,
                outage=limits.outage,
            )
        )
    return claims


def _budget_claim(prefix: str, subject: str, budget: Budget, anchor: float) -> Claim:
    kind = _UNIT_WORDS[budget.unit]
    where = "@" + ",".join(budget.models) if budget.models else ""
    when = "" if budget.zone == "UTC" else "~" + budget.zone
    if budget.first_day != 1 or budget.first_month != 1:
        when += f"~{budget.first_month}-{budget.first_day}"
    label = f"budget per {budget.per}" if budget.per != "total" else "total budget"
    if budget.unit != "nano_usd":
        label = f"{kind} {label}"
    if budget.models:
        label += f" of {', '.join(budget.models)}"
    alerts = {budget.limit * percent // 100 for percent in budget.alert_at}
    if budget.soft is not None:
        alerts.add(budget.soft)
    return Claim(
        counter=f"{prefix}{kind}:{budget.per}{when}{where}",
        unit=budget.unit,
        limit=budget.limit,
        label=label,
        subject=subject,
        per=budget.per,
        anchor=anchor,
        strict=budget.strict,
        zone=budget.zone,
        first_day=budget.first_day,
        first_month=budget.first_month,
        enforce=budget.enforce,
        alerts=tuple(sorted(alerts)),
        clamp=budget.on_tight == "clamp",
        cut=budget.on_outgrown == "cut",
        raised_by=budget.raised_by,
        raised_until=budget.raised_until or 0.0,
        outage=budget.outage,
    )
