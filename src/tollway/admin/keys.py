"""Virtual keys: create, list, look at, change, block, revoke, rotate and transfer them. None is ever deleted: the
ledger refers to them. Keys that the configuration file declares are shown and not touched."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import UNSET, Meta, Struct
from msgspec.structs import asdict, replace

from tollway.admin import key_terms, labels
from tollway.admin.action import action
from tollway.admin.bulk import BulkAnswer, Step, in_bulk
from tollway.admin.context import Context
from tollway.admin.key_places import KeyPlace, begun_with, covers, levels_above, placed, refuse_wider
from tollway.admin.key_terms import PLACES, KeyPatch, KeyTransfer, NewKey, Rotation
from tollway.admin.key_view import KeyPage, KeyStatus, KeyView, MintedKey, status_of, view, views
from tollway.admin.paging import page
from tollway.admin.sight import Belonging
from tollway.admin.spend import Raise, ResetSpend, SpendReset, forgive, raised
from tollway.admin.tenants import to_the_end
from tollway.admin.terms import TermsBody, terms, words
from tollway.config.keys import key_hash, key_hint
from tollway.errors import Conflict, Forbidden, NotFound
from tollway.model.key import VirtualKey
from tollway.model.terms import Terms
from tollway.shared.claims import Groups, ceilings_of_key

if TYPE_CHECKING:
    from tollway.storage.repositories.keys import Keys

_KEEP = Rotation()


class KeyQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which keys to list: every given field must match. ``search`` looks into names, hint and description."""

    organization: str | None = None
    team: str | None = None
    project: str | None = None
    user: str | None = None
    customer: str | None = None
    tag: str | None = None
    service: bool | None = None
    status: KeyStatus | None = None
    owner: Literal["file", "database"] | None = None
    search: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    cursor: str | None = None


class KeyChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One update within a bulk request: an id or name and a merge patch."""

    id: str
    set: KeyPatch


class KeyBulk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Up to 1000 changes, done in this order."""

    create: tuple[NewKey, ...] = ()
    update: tuple[KeyChange, ...] = ()
    block: tuple[str, ...] = ()
    unblock: tuple[str, ...] = ()
    revoke: tuple[str, ...] = ()


@action(permission="keys.create", audit=True, route=("POST", "/keys"), status=201)
async def create(context: Context, body: NewKey) -> MintedKey:
    """Create a virtual key.

    The answer carries the secret in `key`, this once. The key works as soon as the answer arrives.
    """
    store = _store(context)
    now = context.clock()
    value = key_terms.key_value(body.key) if body.key is not None else key_terms.minted()
    made: list[VirtualKey] = []

    async def insert() -> None:
        society = await context.society()
        wanted = KeyPlace(service=body.service, **{each: getattr(body, each) for each in PLACES})
        place = placed(context, society, wanted, "keys.create")
        above = levels_above(society, place)
        given = [each for each in TermsBody.__struct_fields__ if getattr(body, each) is not UNSET]
        granted = begun_with(terms(body, Terms(), now), given, above)
        refuse_wider(context, "keys.create", granted, above)
        key = VirtualKey(
            id="key_" + secrets.token_hex(10),
            name=key_terms.name(body.name),
            hash=key_hash(value),
            hint=key_hint(value),
            **key_terms.parted(granted),
            **asdict(place),
            customer=labels.label(body.customer, "customer"),
            tags=words(body.tags, "tags"),
            description=labels.described(body.description),
            metadata=labels.metadata(body.metadata),
            created_at=now,
            created_by=context.actor.user.id if context.actor.user is not None else None,
            expires_at=labels.expiry(body.expires, now),
        )
        await _refuse_taken_name(context, store, key)
        if body.key is not None:
            await _refuse_taken_value(context, key, value)
        await store.add(key)
        await context.changed()
        made.append(key)

    await to_the_end(context, insert)
    return _with_secret(await view(context, made[0]), value)


@action(permission="keys.create", audit=True, route=("POST", "/keys/bulk"))
async def bulk(context: Context, body: KeyBulk) -> BulkAnswer:
    """Create, update, block, unblock and revoke many keys; each has its own result, and its own permission is asked.

    The result of a created key carries its secret in `key`, this once.
    """
    steps: list[Step] = [
        *(("create", partial(create, body=new)) for new in body.create),
        *(("update", partial(update, key=each.id, body=each.set)) for each in body.update),
        *(("block", partial(block, key=each)) for each in body.block),
        *(("unblock", partial(unblock, key=each)) for each in body.unblock),
        *(("revoke", partial(revoke, key=each)) for each in body.revoke),
    ]
    return await in_bulk(context, steps)


@action(permission="keys.read", audit=False, route=("GET", "/keys"))
async def list_(context: Context, query: KeyQuery) -> KeyPage:
    """List virtual keys, newest first, those of the configuration file included.

    Follow `next_cursor` for more: keys created meanwhile do not shift the pages.
    """
    now = context.clock()
    sight = context.sight("keys.read")
    found = [key for key in await _everything(context) if covers(sight, key) and _matches(key, query, now)]
    shown, cursor = page(found, query.limit, query.cursor)
    return KeyPage(data=tuple(await views(context, shown)), next_cursor=cursor)


@action(permission="keys.self", audit=False, route=("GET", "/keys/self"))
async def self_(context: Context) -> KeyView:
    """What a virtual key may do and has left, asked for with the key itself."""
    key = context.actor.principal.key
    if key is None:
        raise Forbidden("send a virtual key: this tells what the key itself may do")
    return await view(context, key)


@action(permission="keys.read", audit=False, route=("GET", "/keys/{key}"))
async def get(context: Context, key: str) -> KeyView:
    """Look at a virtual key, by id or name.

    Shows its terms, what it has spent and holds at this moment, and when its budget resets.
    """
    return await view(context, await _located(context, key, "keys.read"))


@action(permission="keys.update", audit=True, route=("PATCH", "/keys/{key}"))
async def update(context: Context, key: str, body: KeyPatch) -> KeyView:
    """Change a virtual key with a JSON merge patch.

    A field left out keeps its value, `null` clears it, `limits` and `metadata` merge, lists are replaced.
    What the key has spent stays counted. A revoked key can only be renamed, which frees its name.
    """
    society = await context.society()

    def change(found: VirtualKey) -> VirtualKey:
        changes = key_terms.patched(found, body, context.clock())
        moved = _moved(context, society, found, _places_of(body))
        if moved is not None:
            changes |= asdict(moved)
        if set(changes) - {"name"}:
            _refuse_revoked(found)
        if set(changes) - {"name", "description", "metadata"}:
            _refuse_given(context, "keys.update", found)
        new = replace(found, **changes)
        if set(changes) & {"models", "budgets", "limits", "more"}:
            above = levels_above(society, _place_of(new))
            refuse_wider(context, "keys.update", key_terms.terms_of(new), above)
        return new

    return await view(context, await _changed(context, key, "keys.update", change))


@action(permission="keys.transfer", audit=True, route=("POST", "/keys/{key}/transfer"))
async def transfer(context: Context, key: str, body: KeyTransfer) -> KeyView:
    """Move a virtual key to another organization, team, project or user. What it spent before stays theirs."""
    society = await context.society()

    def change(found: VirtualKey) -> VirtualKey:
        _refuse_revoked(found)
        moved = _moved(context, society, found, body)
        return found if moved is None else replace(found, **asdict(moved))

    return await view(context, await _changed(context, key, "keys.transfer", change))


@action(permission="keys.block", audit=True, route=("POST", "/keys/{key}/block"))
async def block(context: Context, key: str) -> KeyView:
    """Refuse a virtual key's requests until it is unblocked."""
    return await view(context, await _changed(context, key, "keys.block", partial(_blocked, blocked=True)))


@action(permission="keys.block", audit=True, route=("POST", "/keys/{key}/unblock"))
async def unblock(context: Context, key: str) -> KeyView:
    """Let a blocked virtual key work again."""

    def change(found: VirtualKey) -> VirtualKey:
        _refuse_given(context, "keys.block", found)
        return _blocked(found, blocked=False)

    return await view(context, await _changed(context, key, "keys.block", change))


@action(permission="keys.revoke", audit=True, route=("POST", "/keys/{key}/revoke"))
async def revoke(context: Context, key: str) -> KeyView:
    """End a virtual key for good. It stays visible, because the ledger refers to it."""

    def change(found: VirtualKey) -> VirtualKey:
        if found.revoked_at is not None:
            return found
        return replace(found, revoked_at=context.clock(), former_hash=None, former_until=None)

    return await view(context, await _changed(context, key, "keys.revoke", change))


@action(permission="keys.rotate", audit=True, route=("POST", "/keys/{key}/rotate"))
async def rotate(context: Context, key: str, body: Rotation = _KEEP) -> MintedKey:
    """Give a virtual key a new secret; the old one stops at once, or when its `grace` is over.

    Id, terms and spend stay. The answer carries the new secret in `key`: it is shown this once.
    """
    value = key_terms.key_value(body.key) if body.key is not None else key_terms.minted()
    until = key_terms.grace(body.grace, context.clock())

    def change(found: VirtualKey) -> VirtualKey:
        _refuse_revoked(found)
        former = found.hash if until is not None else None
        return replace(
            found, hash=key_hash(value), hint=key_hint(value), former_hash=former, former_until=until
        )

    chosen = value if body.key is not None else None
    rotated = await _changed(context, key, "keys.rotate", change, chosen)
    return _with_secret(await view(context, rotated), value)


@action(permission="keys.budget", audit=True, route=("POST", "/keys/{key}/reset_spend"))
async def reset_spend(context: Context, key: str, body: ResetSpend) -> SpendReset:
    """Forgive what a virtual key has spent in the current periods, by entries beside the ledger."""
    found = await _located(context, key, "keys.budget")
    groups = Groups((await context.society()).directory)
    return await forgive(context, ceilings_of_key(found, groups), body)


@action(permission="keys.budget", audit=True, route=("POST", "/keys/{key}/raise"))
async def raise_budget(context: Context, key: str, body: Raise) -> KeyView:
    """Raise a budget of a virtual key for a while."""

    def change(found: VirtualKey) -> VirtualKey:
        _refuse_revoked(found)
        return replace(found, budgets=raised(found.budgets, body, context.clock()))

    return await view(context, await _changed(context, key, "keys.budget", change))


def _store(context: Context) -> Keys:
    if context.keys is None:
        raise Conflict(
            "this gateway runs without a database: declare keys under keys: in the configuration file"
        )
    return context.keys


def _of_the_file(context: Context) -> list[VirtualKey]:
    every = context.snapshot().keys()
    return [key for key in every if key.owner == "file"]


async def _everything(context: Context) -> list[VirtualKey]:
    stored = await context.keys.all() if context.keys is not None else ()
    return [*_of_the_file(context), *stored]


async def _located(context: Context, key: str, permission: str) -> VirtualKey:
    """The key with that id or name; the file's first. Raises NotFound, which does not repeat ``key``:
    somebody may have pasted a secret."""
    sight = context.sight(permission)
    stored = await context.keys.called(key) if context.keys is not None else []
    declared = [one for one in _of_the_file(context) if key in (one.id, one.name)]
    found = [one for one in (*declared, *stored) if covers(sight, one)]
    exact = [one for one in found if one.id == key]
    if len(exact or found) > 1:
        raise Conflict(f"several keys have this name: use the id ({', '.join(one.id for one in found)})")
    if not found:
        raise NotFound(
            "no key has this id or name; GET /api/keys or `tollway keys list` lists them", param="key"
        )
    return (exact or found)[0]


async def _changed(
    context: Context,
    key: str,
    permission: str,
    change: Callable[[VirtualKey], VirtualKey],
    value: str | None = None,
) -> VirtualKey:
    """Read a key, change it, write it back, nobody in between. ``value``: a secret not to be taken yet."""
    made: list[VirtualKey] = []

    async def write() -> None:
        found = await _located(context, key, permission)
        if found.owner == "file":
            place = context.settings().source or "the configuration"
            raise Conflict(f"the key {found.name} is declared in {place}: change it there and reload")
        store = _store(context)
        new = change(found)
        made.append(new)
        if new == found:
            return
        if (new.name, new.organization) != (found.name, found.organization):
            await _refuse_taken_name(context, store, new)
        if value is not None:
            await _refuse_taken_value(context, new, value)
        await store.put(new, found)
        await context.changed()

    await to_the_end(context, write)
    return made[-1]


def _places_of(body: KeyPatch) -> KeyTransfer:
    return KeyTransfer(**{each: getattr(body, each) for each in KeyTransfer.__struct_fields__})


def _place_of(key: VirtualKey) -> KeyPlace:
    return KeyPlace(**{each: getattr(key, each) for each in KeyPlace.__struct_fields__})


def _moved(context: Context, society: Belonging, key: VirtualKey, to: KeyTransfer) -> KeyPlace | None:
    """Where the key belongs after a transfer; None where nothing is asked for. Both ends must be within reach."""
    given = {each: getattr(to, each) for each in KeyTransfer.__struct_fields__}
    given = {each: value for each, value in given.items() if value is not UNSET}
    if not given:
        return None
    if not covers(context.sight("keys.transfer"), key):
        raise NotFound("no key has this id or name that you may transfer", param="key")
    kept = {"user": None if given.get("service") else key.user, "service": key.service}
    if given.get("user") is not None:
        kept["service"] = False
    if not set(given) & {"organization", "team", "project"}:
        kept |= {"organization": key.organization, "team": key.team, "project": key.project}
    elif "team" not in given and "organization" not in given and given["project"] is None:
        kept |= {"organization": key.organization, "team": key.team}
    elif "organization" not in given and "project" not in given and given["team"] is None:
        kept |= {"organization": key.organization}
    return placed(context, society, KeyPlace(**{**kept, **given}), "keys.transfer")


async def _refuse_taken_name(context: Context, store: Keys, key: VirtualKey) -> None:
    """A name is taken within its organization only."""
    named = [each for each in _of_the_file(context) if each.name == key.name]
    named += [each for each in await store.called(key.name) if each.name == key.name]
    other = next(
        (each for each in named if each.organization == key.organization and each.id != key.id), None
    )
    if other is None:
        return
    if other.revoked_at is not None:
        raise Conflict(
            f"a revoked key is named {key.name}: rename that one to use the name again", param="name"
        )
    raise Conflict(f"a key named {key.name} exists already", param="name")


async def _refuse_taken_value(context: Context, key: VirtualKey, value: str) -> None:
    admin = context.settings().admin_key
    if admin is not None and admin.matches(value):
        raise Conflict("this value is the admin key: choose another", param="key")
    if any(key.hash in (each.hash, each.former_hash) for each in await _everything(context)):
        raise Conflict("this key value is or was in use: choose another", param="key")


def _refuse_revoked(key: VirtualKey) -> None:
    if key.revoked_at is not None:
        raise Conflict(f"the key {key.name} is revoked for good: create a new one")


def _refuse_given(context: Context, permission: str, key: VirtualKey) -> None:
    """Who reaches a key only because it is its own does not loosen what somebody else gave it. Raises Forbidden."""
    user = context.actor.user
    if user is None or key.created_by == user.id:
        return
    if not context.sight(permission).covers(key.organization, key.team):
        raise Forbidden(
            f"the key {key.name} was made for you: its terms are for whoever manages it to change"
        )


def _blocked(key: VirtualKey, blocked: bool) -> VirtualKey:
    _refuse_revoked(key)
    return replace(key, blocked=blocked)


def _with_secret(shown: KeyView, value: str) -> MintedKey:
    return MintedKey(key=value, **asdict(shown))


def _matches(key: VirtualKey, query: KeyQuery, now: float) -> bool:
    exact = (
        (query.organization, key.organization),
        (query.team, key.team),
        (query.project, key.project),
        (query.customer, key.customer),
        (query.service, key.service),
        (query.user, key.user),
        (query.owner, key.owner),
        (query.status, status_of(key, now)),
    )
    if any(wanted is not None and wanted != actual for wanted, actual in exact):
        return False
    if query.tag is not None and query.tag not in key.tags:
        return False
    if query.search is None:
        return True
    haystack = (key.id, key.name, key.hint, key.description, key.team or "", key.user or "")
    return any(query.search.casefold() in text.casefold() for text in haystack)
