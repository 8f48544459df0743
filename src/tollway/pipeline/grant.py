"""What a principal may do, with every level it belongs to: the ceilings its requests reserve, the models and endpoints
it may name. Made of a key and the directory when the key is first seen; part of a snapshot and as immutable.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tollway.errors import ModelNotAllowed, RouteNotAllowed
from tollway.model.key import Principal, VirtualKey
from tollway.model.tenant import Directory, Membership, Tenant
from tollway.model.terms import Terms
from tollway.pipeline.habits import Habit, Habits
from tollway.shared.claims import (
    Ceiling,
    Groups,
    ceilings_of_customer,
    ceilings_of_key,
    ceilings_of_member,
    ceilings_of_tenant,
)
from tollway.shared.interface import Claim

if TYPE_CHECKING:
    from tollway.pipeline.snapshot import ServedRoute, Snapshot, Target

MOST_LISTS = 1 << 30
MEMO = 4096
"""Names remembered for each kind of memo; past that it starts again (names come from clients)."""

INFO = frozenset(("models", "api"))
"""Endpoints that tell and do not work: ``info`` in a list of routes. ``llm`` is all others."""


class Labels:
    """What the events of one grant at one target have in common: ``of`` as the ledger's dimensions, ``json`` as the
    event's fields."""

    __slots__ = ("json", "of")

    def __init__(self, of: tuple[str | None, ...], json: str) -> None:
        self.of = of
        self.json = json


class Ceilings:
    """The claims that apply to a request, and what is to be known of them all: whether money is among them
    (``priced``), a worst case to hold (``strict``), a stream to be cut that outgrows them (``cut``)."""

    __slots__ = ("claims", "cut", "priced", "strict")

    def __init__(self, claims: tuple[Claim, ...]) -> None:
        self.claims = claims
        self.priced = any(claim.unit == "nano_usd" for claim in claims)
        self.strict = any(claim.strict for claim in claims)
        self.cut = any(claim.cut for claim in claims)


class Society:
    """The directory of a snapshot, indexed."""

    def __init__(self, directory: Directory, habits: Habits) -> None:
        self.directory = directory
        self.habits = habits
        self.groups = Groups(directory)
        self._tenants: dict[tuple[str, str], Tenant] = {(one.level, one.id): one for one in directory.tenants}
        self._members: dict[tuple[str, str, str], Membership] = {
            (one.level, one.tenant, one.user): one for one in directory.memberships
        }
        self.default_customer = self._tenants.get(("customer", "default"))

    def tenant(self, level: str, id: str | None) -> Tenant | None:
        return None if id is None else self._tenants.get((level, id))

    def membership(self, tenant: Tenant, user: str) -> Membership | None:
        return self._members.get((tenant.level, tenant.id, user))


class Grant:
    """A principal with what it may do. ``within`` narrows it to an end user and tags that a request names."""

    __slots__ = (
        "_aliases",
        "_allowed",
        "_always",
        "_base",
        "_denied",
        "_endpoints",
        "_habits",
        "_narrowed",
        "_routes",
        "_scoped",
        "_society",
        "_taking",
        "blocked",
        "ceilings",
        "claims",
        "customer",
        "expires_at",
        "key",
        "labels",
        "organization",
        "principal",
        "project",
        "tags",
        "team",
        "user",
    )

    def __init__(
        self,
        principal: Principal,
        society: Society,
        base: Grant | None = None,
        customer: str | None = None,
        tags: tuple[str, ...] = (),
    ) -> None:
        """``base`` and what follows are for ``within``."""
        key = self.key = principal.key
        self.principal = principal
        self._society = society
        self._base: Grant = base or self
        self._routes: dict[str, ServedRoute] = {}
        self.labels: dict[tuple[Target, str, str], Labels] = {}
        self._narrowed: dict[tuple[str | None, tuple[str, ...]], Grant] = {}
        self._taking: dict[tuple[str, ...], Ceilings] = {}
        self._habits: dict[str, Habit] = {}
        self.organization: str | None = None
        self.team: str | None = None
        self.project: str | None = None
        self.user: str | None = None
        self.customer = customer
        self.tags = tags
        self.blocked: str | None = None
        self.expires_at: float | None = None
        self._aliases: dict[str, tuple[str, int, int]] = {}
        self._allowed: list[list[re.Pattern[str]]] = []
        self._denied: list[re.Pattern[str]] = []
        self._endpoints: list[tuple[list[re.Pattern[str]], list[re.Pattern[str]]]] = []
        ceilings: list[Ceiling] = []
        if base is not None:
            ceilings = self._narrow(base)
        elif key is not None:
            ceilings = self._belong(key, society)
        self._always = ceilings
        self.claims = tuple(one.claim for one in ceilings if not one.models)
        self.ceilings = Ceilings(self.claims)
        self._scoped = [(one, [_pattern(name) for name in one.models]) for one in ceilings if one.models]

    def _belong(self, key: VirtualKey, society: Society) -> list[Ceiling]:
        """Take on the terms of every level above the key, outermost first, and the key's own."""
        project = society.tenant("project", key.project)
        team = society.tenant("team", key.team or (project.team if project else None))
        organization = society.tenant(
            "organization",
            key.organization
            or (team.organization if team else None)
            or (project.organization if project else None),
        )
        user = None if key.service else society.tenant("user", key.user)
        self.organization = organization.id if organization else key.organization
        self.team = team.id if team else key.team
        self.project = key.project
        self.user = key.user
        self.customer = key.customer
        self.tags = key.tags
        self.expires_at = key.expires_at
        found: list[Ceiling] = []
        groups = society.groups
        for tenant in (organization, team, project, user):
            if tenant is not None:
                self._obey(tenant, tenant.terms)
                found += ceilings_of_tenant(tenant, groups)
        if key.user is not None and not key.service:
            for within in (organization, team):
                if within is not None:
                    membership = society.membership(within, key.user)
                    own = membership.terms if membership is not None else within.members
                    self._heed(own)
                    found += ceilings_of_member(within, key.user, membership, groups)
        above = len(self._allowed)
        self._heed(
            Terms(
                models=key.models,
                denied_models=key.more.denied_models,
                routes=key.more.routes,
                denied_routes=key.more.denied_routes,
            )
        )
        # A key's own aliases: an end user's or a tag's list, which comes after its own, does not trust them.
        for name, served in key.more.aliases.items():
            self._aliases[name] = (served, above, len(self._allowed))
        if key.blocked:
            self.blocked = "The key is blocked. Ask an administrator to unblock it."
        found += ceilings_of_key(key, groups)
        return found + self._company(self.customer, self.tags)

    def _company(self, customer: str | None, tags: Iterable[str]) -> list[Ceiling]:
        """Take on the terms of an end user and of tags."""
        society = self._society
        found: list[Ceiling] = []
        if customer is not None:
            declared = society.tenant("customer", customer)
            apart = ""
            if declared is not None and declared.organization not in (None, self.organization):
                # Another organization's: it is nobody's in particular here, is not charged and tells nothing of itself.
                declared, apart = None, f"{self.organization or ''}/"
            known = declared or society.default_customer
            if known is not None:
                self._obey(known, known.terms)
                found += ceilings_of_customer(
                    customer, declared, society.default_customer, society.groups, apart
                )
        for tag in tags:
            labelled = society.tenant("tag", tag)
            if labelled is not None:
                self._obey(labelled, labelled.terms)
                found += ceilings_of_tenant(labelled, society.groups)
        return found

    def _obey(self, tenant: Tenant, terms: Terms) -> None:
        if tenant.blocked and self.blocked is None:
            self.blocked = f"The {tenant.level} {tenant.name} is blocked. Ask an administrator to unblock it."
        if tenant.expires_at is not None and (self.expires_at is None or tenant.expires_at < self.expires_at):
            self.expires_at = tenant.expires_at
        self._heed(terms)

    def _heed(self, terms: Terms) -> None:
        groups = self._society.groups
        for name, served in terms.aliases.items():
            self._aliases[name] = (served, len(self._allowed), MOST_LISTS)
        if terms.models:
            self._allowed.append([_pattern(name) for name in groups.models(terms.models)])
        self._denied += [_pattern(name) for name in groups.models(terms.denied_models)]
        if terms.routes or terms.denied_routes:
            self._endpoints.append(
                ([_pattern(name) for name in terms.routes], [_pattern(name) for name in terms.denied_routes])
            )

    def within(self, customer: str | None, tags: tuple[str, ...] = ()) -> Grant:
        """The same grant for a request of this end user with these tags beside the key's. A key that belongs to a
        customer stays with it, whatever a request says."""
        base = self._base
        customer = self.customer if self.customer is not None else customer
        tags = tuple(dict.fromkeys((*self.tags, *tags))) if tags else self.tags
        if customer == base.customer and tags == base.tags:
            return base
        name = (customer, tags)
        found = base._narrowed.get(name)
        if found is None:
            if len(base._narrowed) >= MEMO:
                base._narrowed.clear()
            found = base._narrowed[name] = Grant(base.principal, base._society, base, customer, tags)
        return found

    def _narrow(self, base: Grant) -> list[Ceiling]:
        customer, tags = self.customer, self.tags
        self.organization = base.organization
        self.team = base.team
        self.project = base.project
        self.user = base.user
        self.blocked = base.blocked
        self.expires_at = base.expires_at
        self._aliases = dict(base._aliases)
        self._allowed = list(base._allowed)
        self._denied = list(base._denied)
        self._endpoints = list(base._endpoints)
        return base._always + self._company(
            customer if customer != base.customer else None, [tag for tag in tags if tag not in base.tags]
        )

    def allows(self, model: str) -> bool:
        """By this name. ``permits`` tells whether a deny-list has what it leads to under another."""
        for patterns in self._allowed:
            if not any(pattern.fullmatch(model) for pattern in patterns):
                return False
        return not self._denies(model)

    def permits(self, route: ServedRoute) -> bool:
        """What is denied is so under every name: a public one denies its targets' own, and the other way round."""
        return not self._denied or not any(self._denies(name) for name in route.known_as)

    def allows_all_of(self, provider: str) -> bool:
        """Whether there is no model of a provider's that this principal may not use."""
        if not self.allows(f"{provider}/*"):
            return False
        begins = re.escape(provider + "/")
        for pattern in self._denied:
            fixed = pattern.pattern.partition(".*")[0]
            if fixed.startswith(begins) or (fixed != pattern.pattern and begins.startswith(fixed)):
                return False
        return True

    def _denies(self, model: str) -> bool:
        return any(pattern.fullmatch(model) for pattern in self._denied)

    def _allows_alias(self, name: str, served: str, first: int, end: int) -> bool:
        """Lists of the level that has the alias, and of those within it, may mean either name. Those above it mean what
        is served: nobody gives himself a model by calling it another."""
        for at, patterns in enumerate(self._allowed):
            by_name = first <= at < end and any(pattern.fullmatch(name) for pattern in patterns)
            if not by_name and not any(pattern.fullmatch(served) for pattern in patterns):
                return False
        return not self._denies(served)

    def names_some_of(self, provider: str) -> bool:
        """Whether every allow-list there is has a model of this provider's, or a pattern of such, by its name."""
        return bool(self._allowed) and all(
            any(
                one.pattern.startswith(re.escape(provider + "/")) or one.pattern[:2] == ".*"
                for one in patterns
            )
            for patterns in self._allowed
        )

    def check_endpoint(self, endpoint: str) -> None:
        """Raises RouteNotAllowed."""
        for allowed, denied in self._endpoints:
            names = (endpoint, "info" if endpoint.partition(".")[0] in INFO else "llm")
            if (allowed and not _any(allowed, names)) or _any(denied, names):
                raise RouteNotAllowed(
                    f"This key may not use {endpoint}. Ask an administrator to allow that route."
                )

    @property
    def limits_endpoints(self) -> bool:
        return bool(self._endpoints)

    def taking(self, route: ServedRoute) -> Ceilings:
        """The ceilings a request meets that goes this way: those of some models by any name that leads there."""
        if not self._scoped:
            return self.ceilings
        found = self._taking.get(route.known_as)
        if found is None:
            claims = tuple(
                one.claim
                for one, patterns in self._scoped
                if any(p.fullmatch(name) for p in patterns for name in route.known_as)
            )
            found = Ceilings(claims + self.claims) if claims else self.ceilings
            if len(self._taking) >= MEMO:
                self._taking.clear()
            self._taking[route.known_as] = found
        return found

    def habit(self, model: str) -> Habit:
        """How requests of this key for a model usually are."""
        found = self._habits.get(model)
        if found is None:
            if len(self._habits) >= MEMO:
                self._habits.clear()
            key = self.key.id if self.key is not None else self.principal.kind
            found = self._habits[model] = self._society.habits.of_key(key, model)
        return found

    def route(self, model: str, snapshot: Snapshot) -> ServedRoute:
        """The route behind a name this principal may use. Raises ModelNotAllowed or ModelNotFound."""
        found = self._routes.get(model)
        if found is not None:
            return found
        alias = self._aliases.get(model)
        if not (self.allows(model) if alias is None else self._allows_alias(model, *alias)):
            raise self._not_allowed(model)
        found = snapshot.route(model if alias is None else alias[0], self)
        if not self.permits(found):
            raise self._not_allowed(model)
        if len(self._routes) >= MEMO:
            self._routes.clear()
        self._routes[model] = found
        return found

    def _not_allowed(self, model: str) -> ModelNotAllowed:
        return ModelNotAllowed(
            f"Key {self.key.name if self.key else ''} may not use model {model[:200]!r}. "
            "GET /v1/models lists what it may use.",
            param="model",
        )


def _any(patterns: list[re.Pattern[str]], names: tuple[str, ...]) -> bool:
    return any(pattern.fullmatch(name) for pattern in patterns for name in names)


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in name.split("*")), re.DOTALL)
