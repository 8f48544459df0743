"""What organizations, teams, projects, users, customers and tags have in common: found, made, changed, blocked, deleted
and shown in one way. The actions themselves are in one file a noun."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field
from msgspec.structs import replace

from tollway.admin.context import Context
from tollway.admin.labels import Expiry, Name, described, expiry, label, metadata, name
from tollway.admin.paging import page
from tollway.admin.sight import Belonging, Sight
from tollway.admin.spend import Raise, ResetSpend, SpendReset, forgive, raised
from tollway.admin.tenant_view import TenantPage, TenantStatus, TenantView, status_of, view, views
from tollway.admin.terms import TermsBody, terms
from tollway.errors import BadRequest, Conflict, Forbidden, NotFound
from tollway.model.key import VirtualKey
from tollway.model.slug import FREE, ID, LONGEST_ID, tenant_id
from tollway.model.tenant import Level, Membership, Tenant
from tollway.model.terms import Terms
from tollway.shared.claims import Groups, ceilings_of_tenant
from tollway.storage.repositories.generation import Stale

_TRIES = 5

OwnId = Annotated[
    str,
    Meta(
        description="An id of your own; left out, one is made of the name. It stands in events and never changes."
    ),
]


class NewTenant(TermsBody, frozen=True, kw_only=True):
    """What is left out is not limited: no budget, every model, no expiry."""

    name: Name
    id: OwnId | None = None
    description: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    expires: Expiry | None = None


class TenantPatch(TermsBody, frozen=True, kw_only=True):
    """A JSON merge patch (RFC 7396): left out stays, ``null`` clears, objects merge, lists are replaced."""

    name: Name | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    metadata: dict[str, str | None] | UnsetType | None = UNSET
    expires: Expiry | UnsetType | None = UNSET


class TenantQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every given field must match. ``search`` looks into id, name, description and email."""

    organization: str | None = None
    team: str | None = None
    status: TenantStatus | None = None
    owner: Literal["file", "database"] | None = None
    search: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    cursor: str | None = None


class Deletion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``cascade``: also end what hangs on it. Keys are revoked, the rest is deleted."""

    cascade: bool = False


class Deleted(Struct, frozen=True, kw_only=True):
    """What is gone, and how much went with it."""

    id: str
    deleted: bool
    revoked_keys: int


# Finding


def visible(society: Belonging, sight: Sight, tenant: Tenant, *, reading: bool = True) -> bool:
    return any(sight.covers(*place) for place in society.places(tenant, reading=reading))


async def located(
    context: Context,
    level: Level,
    text: str,
    permission: str,
    param: str | None = None,
    society: Belonging | None = None,
) -> Tenant:
    """The tenant with that id, or the one that the actor sees by that name. What it does not see looks unknown."""
    society = society or await context.society()
    sight = context.sight(permission)
    reading = permission.endswith(".read")
    found = society.tenants.get((level, text))
    if found is None or not visible(society, sight, found, reading=reading):
        named = [
            one
            for one in society.directory.tenants
            if one.level == level and one.name == text and visible(society, sight, one, reading=reading)
        ]
        if len(named) > 1:
            raise Conflict(
                f"several have this name: use the id ({', '.join(sorted(one.id for one in named))})"
            )
        found = named[0] if named else None
    if found is None:
        raise NotFound(f"no {level} has this id or name", param=param or level)
    return found


async def list_(context: Context, level: Level, query: TenantQuery) -> TenantPage:
    society = await context.society()
    sight = context.sight(f"{level}s.read")
    now = context.clock()
    found = [
        one
        for one in society.directory.tenants
        if one.level == level and visible(society, sight, one) and _matches(society, one, query, now)
    ]
    shown, cursor = page(found, query.limit, query.cursor)
    return TenantPage(data=tuple(await views(context, shown, society)), next_cursor=cursor)


async def get(context: Context, level: Level, text: str) -> TenantView:
    return await view(context, await located(context, level, text, f"{level}s.read"))


# Changing


async def create(
    context: Context,
    level: Level,
    body: NewTenant,
    *,
    organization: str | None = None,
    team: str | None = None,
    more: dict[str, object] | None = None,
    members: Callable[[Tenant], tuple[Membership, ...]] = lambda tenant: (),
) -> TenantView:
    """Make one. ``organization`` and ``team`` as the request names them; ``more`` are further fields of the tenant."""
    made: list[Tenant] = []

    async def write() -> None:
        store = context.stored_tenants()
        society = await context.society()
        sight = context.sight(f"{level}s.create")
        home, above = await _above(context, society, level, organization, team)
        if not sight.everywhere and not (home is not None and sight.covers(home, above)):
            # Nobody's organization: only whoever reaches everywhere may make that.
            raise BadRequest(f"{_where(level)} is missing: say whose it is", param=_where(level))
        now = context.clock()
        title = name(body.name)
        id = (
            _own_id(level, body.id, home, sight)
            if body.id is not None
            else _free_id(society, level, title, home)
        )
        _refuse_taken(society, level, id, title, home, new=True)
        tenant = Tenant(
            level=level,
            id=id,
            name=title,
            organization=home,
            team=above,
            terms=terms(body, Terms(), now),
            metadata=metadata(body.metadata),
            description=described(body.description),
            created_at=now,
            expires_at=expiry(body.expires, now),
        )
        tenant = replace(tenant, **_inner(body, None, now), **(more or {}))
        made.append(tenant)
        await store.add(tenant, members(tenant))
        await context.changed()

    await to_the_end(context, write)
    return await view(context, made[0])


async def update(
    context: Context,
    level: Level,
    text: str,
    body: TenantPatch,
    more: Callable[[Tenant, Belonging], dict[str, object]] = lambda tenant, society: {},
) -> TenantView:
    """Lay a merge patch over one. ``more`` gives the changes that the common patch does not know."""
    now = context.clock()

    def change(found: Tenant, society: Belonging) -> Tenant:
        changes: dict[str, object] = {"terms": terms(body, found.terms, now), **_inner(body, found, now)}
        if body.name is not UNSET:
            changes["name"] = name(body.name)
        if body.description is not UNSET:
            changes["description"] = described(body.description or "")
        if body.expires is not UNSET:
            changes["expires_at"] = expiry(body.expires, now)
        if body.metadata is not UNSET:
            merged = {**found.metadata, **body.metadata} if body.metadata is not None else {}
            changes["metadata"] = metadata({k: value for k, value in merged.items() if value is not None})
        new = replace(found, **changes)
        return replace(new, **more(new, society))

    return await view(context, await changed(context, level, text, f"{level}s.update", change))


async def changed(
    context: Context, level: Level, text: str, permission: str, change: Callable[[Tenant, Belonging], Tenant]
) -> Tenant:
    """Read one, change it, write it back, nobody in between. Raises Conflict for what the file declares."""
    made: list[Tenant] = []

    async def write() -> None:
        society = await context.society()
        found = await located(context, level, text, permission, society=society)
        refuse_untouchable(context, found)
        new = change(found, society)
        made.append(new)
        if new == found:
            return
        if new.name != found.name:
            _refuse_taken(society, level, new.id, new.name, new.organization, new=False)
        await context.stored_tenants().put(new, found)
        await context.changed()

    await to_the_end(context, write)
    return made[-1]


async def block(context: Context, level: Level, text: str, blocked: bool) -> TenantView:
    def change(found: Tenant, _: Belonging) -> Tenant:
        return replace(found, blocked=blocked)

    return await view(context, await changed(context, level, text, f"{level}s.block", change))


async def reset_spend(context: Context, level: Level, text: str, body: ResetSpend) -> SpendReset:
    """Also of what the file declares: what is spent is no part of the file."""
    society = await context.society()
    found = await located(context, level, text, f"{level}s.budget", society=society)
    return await forgive(context, ceilings_of_tenant(found, Groups(society.directory)), body)


async def raise_budget(context: Context, level: Level, text: str, body: Raise) -> TenantView:
    now = context.clock()

    def change(found: Tenant, _: Belonging) -> Tenant:
        return replace(found, terms=replace(found.terms, budgets=raised(found.terms.budgets, body, now)))

    return await view(context, await changed(context, level, text, f"{level}s.budget", change))


async def delete(context: Context, level: Level, text: str, query: Deletion) -> Deleted:
    """Refused while something hangs on it, unless that is to go too."""
    done: list[Deleted] = []

    async def write() -> None:
        society = await context.society()
        found = await located(context, level, text, f"{level}s.delete", society=society)
        refuse_untouchable(context, found)
        inner = [one for one in society.directory.tenants if _hangs(one, found)]
        stored = await context.keys.all() if context.keys is not None else []
        served = context.snapshot().keys()
        declared = [key for key in served if key.owner == "file"]
        levels = {(found.level, found.id), *((one.level, one.id) for one in inner)}
        keys = [key for key in (*stored, *declared) if key.revoked_at is None and _of(key, levels)]
        if (inner or keys) and not query.cascade:
            raise Conflict(
                f"{len(keys)} keys and {len(inner)} others hang on the {level} {found.name}: "
                "delete them first, or all together with cascade=true"
            )
        hanging: list[Tenant | VirtualKey] = [*inner, *keys]
        for one in hanging:
            if one.owner == "file":
                raise Conflict(
                    f"{one.name}, which hangs on it, is declared in {_file(context)}: change it there"
                )
        now = context.clock()
        for key in keys:
            assert context.keys is not None
            await context.keys.put(replace(key, revoked_at=now))
        await context.stored_tenants().remove(tuple(sorted(levels)))
        await context.changed()
        done.append(Deleted(id=found.id, deleted=True, revoked_keys=len(keys)))

    await to_the_end(context, write)
    return done[0]


async def to_the_end(context: Context, write: Callable[[], Awaitable[None]]) -> None:
    """Run a write under the lock, and finish it even if the caller goes away: nothing must be half changed, in the
    database and not yet in what is served."""

    async def locked() -> None:
        async with context.writing:
            for left in range(_TRIES, 0, -1):
                try:
                    await write()
                except Stale:  # another process was at it: once more, with what it wrote
                    if left == 1:
                        raise
                else:
                    break

    await asyncio.shield(asyncio.create_task(locked()))


def refuse_untouchable(context: Context, found: Tenant) -> None:
    """Raises Conflict for what the file declares, Forbidden for an owner that somebody less would change."""
    if found.owner == "file":
        raise Conflict(
            f"the {found.level} {found.name} is declared in {_file(context)}: change it there and reload"
        )
    if found.role == "owner" and not context.actor.may("users.grant"):
        raise Forbidden("an owner is changed by owners only")


def _inner(body: TermsBody, old: Tenant | None, now: float) -> dict[str, object]:
    """``members`` and ``keys`` of a body that has them, laid over what was there."""
    found: dict[str, object] = {}
    for part in ("members", "keys"):
        given: TermsBody | UnsetType | None = getattr(body, part, UNSET)
        if given is None:
            found[part] = Terms()
        elif given is not UNSET:
            found[part] = terms(given, getattr(old, part) if old is not None else Terms(), now, part + ".")
    return found


# Inside


async def _above(
    context: Context, society: Belonging, level: Level, organization: str | None, team: str | None
) -> tuple[str | None, str | None]:
    """(organization, team) that a new tenant belongs to, by id; unknown where the actor could not make one there."""
    permission = f"{level}s.create"
    above = None
    if team is not None:
        above = await _parent(context, society, "team", team, permission)
    home = None
    if organization is not None:
        home = await _parent(context, society, "organization", organization, permission)
    if above is not None:
        if home is not None and above.organization != home.id:
            raise BadRequest("the team belongs to another organization", param="organization")
        return above.organization, above.id
    if home is None and level not in ("organization", "tag"):
        # Whoever reaches one organization only need not name it.
        reachable = context.sight(permission)
        if not reachable.everywhere and len(reachable.organizations) == 1 and not reachable.teams:
            return next(iter(reachable.organizations)), None
        if level == "project" and not reachable.organizations and len(reachable.teams) == 1:
            only = society.tenants.get(("team", next(iter(reachable.teams))))
            return (only.organization, only.id) if only is not None else (None, None)
    return (home.id if home is not None else None), None


async def _parent(context: Context, society: Belonging, level: Level, text: str, permission: str) -> Tenant:
    sight = context.sight(permission)
    found = [
        one
        for one in society.directory.tenants
        if one.level == level and text in (one.id, one.name) and visible(society, sight, one)
    ]
    exact = [one for one in found if one.id == text]
    if exact:
        return exact[0]
    if len(found) > 1:
        raise Conflict(f"several {level}s have this name: use the id", param=level)
    if not found:
        raise NotFound(f"no {level} has this id or name", param=level)
    return found[0]


def _where(level: Level) -> str:
    return "team" if level == "project" else "organization"


def _own_id(level: Level, given: str, home: str | None, sight: Sight) -> str:
    id = label(given, "id") if level in FREE else given.strip()
    if id is None or (level not in FREE and not ID.fullmatch(id)):
        raise BadRequest(f"id must have 1 to {LONGEST_ID} letters, digits or . _ @ : + -", param="id")
    if level in FREE and set(id) & set("/?#%"):
        raise BadRequest("id must not have / ? # or %: it stands in addresses", param="id")
    if not sight.everywhere and not id.startswith(f"{home}."):
        # Ids are unique over the whole gateway; otherwise this would tell which ones others have.
        raise BadRequest(f"id must begin with {home}. within this organization", param="id")
    return id


def _free_id(society: Belonging, level: Level, title: str, home: str | None) -> str:
    wanted = id = tenant_id(level, title, home)
    titles = {(one.level, one.name, one.organization) for one in society.directory.tenants}
    while (level, id) in society.tenants and level not in FREE and (level, title, home) not in titles:
        id = f"{wanted}-{secrets.token_hex(3)}"
    return id


def _refuse_taken(
    society: Belonging, level: Level, id: str, title: str, home: str | None, *, new: bool
) -> None:
    for one in society.directory.tenants:
        if one.level == level and one.name == title and one.organization == home and (new or one.id != id):
            raise Conflict(f"a {level} named {title} exists already", param="name")
    if new and (level, id) in society.tenants:
        raise Conflict(f"a {level} with the id {id} exists already", param="id")


def _matches(society: Belonging, tenant: Tenant, query: TenantQuery, now: float) -> bool:
    if query.owner not in (None, tenant.owner) or query.status not in (None, status_of(tenant, now)):
        return False
    if query.organization is not None or query.team is not None:
        places = list(society.places(tenant, reading=True))
        if query.organization is not None and all(place[0] != query.organization for place in places):
            return False
        if query.team is not None and all(place[1] != query.team for place in places):
            return False
    if query.search is None:
        return True
    wanted = query.search.casefold()
    texts = (tenant.id, tenant.name, tenant.description, tenant.email or "")
    return any(wanted in text.casefold() for text in texts)


def _hangs(one: Tenant, on: Tenant) -> bool:
    if on.level == "organization":
        return one.organization == on.id
    return on.level == "team" and one.team == on.id


def _of(key: VirtualKey, levels: set[tuple[Level, str]]) -> bool:
    places: tuple[tuple[Level, str | None], ...] = (
        ("organization", key.organization), ("team", key.team), ("project", key.project), ("user", key.user),
    )  # fmt: skip
    return any((level, id) in levels for level, id in places if id is not None)


def _file(context: Context) -> str:
    return context.settings().source or "the configuration"
