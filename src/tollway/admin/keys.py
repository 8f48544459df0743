"""Virtual keys: create, list, look at, change, block, revoke and rotate them. None is ever deleted: the
ledger refers to them. Keys that the configuration file declares are shown and not touched."""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from tollway.admin import key_terms as terms
from tollway.admin.action import action
from tollway.admin.context import Context
from tollway.admin.key_terms import KeyPatch, NewKey, Rotation
from tollway.admin.key_view import KeyPage, KeyStatus, KeyView, MintedKey, status_of, view, views
from tollway.config.keys import key_hash, key_hint
from tollway.errors import BadRequest, Conflict, NotFound
from tollway.model.key import RateLimit, VirtualKey

if TYPE_CHECKING:
    from tollway.storage.repositories.keys import Keys

_KEEP = Rotation()


class KeyQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which keys to list: every given field must match. ``search`` looks into name, hint, team and user."""

    team: str | None = None
    user: str | None = None
    tag: str | None = None
    status: KeyStatus | None = None
    owner: Literal["file", "database"] | None = None
    search: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    cursor: str | None = None


@action(permission="keys.create", audit=True, route=("POST", "/keys"), status=201)
async def create(context: Context, body: NewKey) -> MintedKey:
    """Create a virtual key.

    The answer carries the secret in `key`, this once. The key works as soon as the answer arrives.
    """
    store = _store(context)
    now = context.clock()
    value = terms.key_value(body.key) if body.key is not None else terms.minted()
    key = VirtualKey(
        id="key_" + secrets.token_hex(10),
        name=terms.name(body.name),
        hash=key_hash(value),
        hint=key_hint(value),
        models=terms.words(body.models, "models"),
        budgets=terms.budgets(body.budget),
        limits=terms.limits(body.limits, RateLimit()),
        team=terms.label(body.team, "team"),
        user=terms.label(body.user, "user"),
        customer=terms.label(body.customer, "customer"),
        tags=terms.words(body.tags, "tags"),
        metadata=terms.metadata(body.metadata),
        created_at=now,
        expires_at=terms.expiry(body.expires, now),
    )

    async def insert() -> None:
        await _refuse_taken_name(context, store, key)
        if body.key is not None:
            await _refuse_taken_value(context, store, key, value)
        await store.add(key)
        await context.changed()

    await _to_the_end(context, insert)
    return _with_secret(await view(context, key), value)


@action(permission="keys.read", audit=False, route=("GET", "/keys"))
async def list_(context: Context, query: KeyQuery) -> KeyPage:
    """List virtual keys, newest first, those of the configuration file included.

    Follow `next_cursor` for more: keys created meanwhile do not shift the pages.
    """
    now = context.clock()
    found = [key for key in await _everything(context) if _matches(key, query, now)]
    found.sort(key=_newest_first)
    if query.cursor is not None:
        after = _position(query.cursor)
        found = [key for key in found if _newest_first(key) > after]
    page = found[: query.limit]
    more = len(found) > len(page)
    return KeyPage(data=tuple(await views(context, page)), next_cursor=_cursor(page[-1]) if more else None)


@action(permission="keys.read", audit=False, route=("GET", "/keys/{key}"))
async def get(context: Context, key: str) -> KeyView:
    """Look at a virtual key, by id or name.

    Shows its terms, what it has spent and holds at this moment, and when its budget resets.
    """
    return await view(context, await _located(context, key))


@action(permission="keys.update", audit=True, route=("PATCH", "/keys/{key}"))
async def update(context: Context, key: str, body: KeyPatch) -> KeyView:
    """Change a virtual key with a JSON merge patch.

    A field left out keeps its value, `null` clears it, `limits` and `metadata` merge, lists are replaced.
    What the key has spent stays counted. A revoked key can only be renamed, which frees its name.
    """

    def change(found: VirtualKey) -> VirtualKey:
        changes = terms.patched(found, body, context.clock())
        if set(changes) - {"name"}:
            _refuse_revoked(found)
        return msgspec.structs.replace(found, **changes)

    return await view(context, await _changed(context, key, change))


@action(permission="keys.block", audit=True, route=("POST", "/keys/{key}/block"))
async def block(context: Context, key: str) -> KeyView:
    """Refuse a virtual key's requests until it is unblocked."""
    return await view(context, await _changed(context, key, lambda found: _blocked(found, True)))


@action(permission="keys.block", audit=True, route=("POST", "/keys/{key}/unblock"))
async def unblock(context: Context, key: str) -> KeyView:
    """Let a blocked virtual key work again."""
    return await view(context, await _changed(context, key, lambda found: _blocked(found, False)))


@action(permission="keys.revoke", audit=True, route=("POST", "/keys/{key}/revoke"))
async def revoke(context: Context, key: str) -> KeyView:
    """End a virtual key for good. It stays visible, because the ledger refers to it."""

    def change(found: VirtualKey) -> VirtualKey:
        if found.revoked_at is not None:
            return found
        return msgspec.structs.replace(found, revoked_at=context.clock())

    return await view(context, await _changed(context, key, change))


@action(permission="keys.rotate", audit=True, route=("POST", "/keys/{key}/rotate"))
async def rotate(context: Context, key: str, body: Rotation = _KEEP) -> MintedKey:
    """Give a virtual key a new secret; the old one stops at once.

    Id, terms and spend stay. The answer carries the new secret in `key`: it is shown this once.
    """
    value = terms.key_value(body.key) if body.key is not None else terms.minted()

    def change(found: VirtualKey) -> VirtualKey:
        _refuse_revoked(found)
        return msgspec.structs.replace(found, hash=key_hash(value), hint=key_hint(value))

    chosen = value if body.key is not None else None
    return _with_secret(await view(context, await _changed(context, key, change, chosen)), value)


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


async def _located(context: Context, key: str) -> VirtualKey:
    """The key with that id or name; the file's first. Raises NotFound, which does not repeat ``key``:
    somebody may have pasted a secret."""
    for declared in _of_the_file(context):
        if key in (declared.id, declared.name):
            return declared
    found = await context.keys.find(key) if context.keys is not None else None
    if found is None:
        raise NotFound(
            "no key has this id or name; GET /api/keys or `tollway keys list` lists them", param="key"
        )
    return found


async def _changed(
    context: Context, key: str, change: Callable[[VirtualKey], VirtualKey], value: str | None = None
) -> VirtualKey:
    """Read a key, change it, write it back, nobody in between. ``value``: a secret not to be taken yet."""
    made: list[VirtualKey] = []

    async def write() -> None:
        found = await _located(context, key)
        if found.owner == "file":
            place = context.settings().source or "the configuration"
            raise Conflict(f"the key {found.name} is declared in {place}: change it there and reload")
        store = _store(context)
        new = change(found)
        made.append(new)
        if new == found:
            return
        if new.name != found.name:
            await _refuse_taken_name(context, store, new)
        if value is not None:
            await _refuse_taken_value(context, store, new, value)
        await store.put(new)
        await context.changed()

    await _to_the_end(context, write)
    return made[0]


async def _to_the_end(context: Context, write: Callable[[], Awaitable[None]]) -> None:
    """Run a write under the lock, and finish it even if the caller goes away: a key must not be half changed,
    in the database and not yet in what is served."""

    async def locked() -> None:
        async with context.writing:
            await write()

    await asyncio.shield(asyncio.create_task(locked()))


async def _refuse_taken_name(context: Context, store: Keys, key: VirtualKey) -> None:
    other = next((each for each in _of_the_file(context) if each.name == key.name), None)
    other = other or await store.find(key.name)
    if other is None or other.id == key.id:
        return
    if other.revoked_at is not None:
        raise Conflict(
            f"a revoked key is named {key.name}: rename that one to use the name again", param="name"
        )
    raise Conflict(f"a key named {key.name} exists already", param="name")


async def _refuse_taken_value(context: Context, store: Keys, key: VirtualKey, value: str) -> None:
    admin = context.settings().admin_key
    if admin is not None and admin.matches(value):
        raise Conflict("this value is the admin key: choose another", param="key")
    if any(each.hash == key.hash for each in await _everything(context)):
        raise Conflict("this key value is or was in use: choose another", param="key")


def _refuse_revoked(key: VirtualKey) -> None:
    if key.revoked_at is not None:
        raise Conflict(f"the key {key.name} is revoked for good: create a new one")


def _blocked(key: VirtualKey, blocked: bool) -> VirtualKey:
    _refuse_revoked(key)
    return msgspec.structs.replace(key, blocked=blocked)


def _with_secret(shown: KeyView, value: str) -> MintedKey:
    return MintedKey(key=value, **msgspec.structs.asdict(shown))


def _matches(key: VirtualKey, query: KeyQuery, now: float) -> bool:
    exact = (
        (query.team, key.team),
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
    haystack = (key.id, key.name, key.hint, key.team or "", key.user or "")
    return any(query.search.casefold() in text.casefold() for text in haystack)


def _newest_first(key: VirtualKey) -> tuple[float, str]:
    return (-key.created_at, key.id)


def _cursor(key: VirtualKey) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(_newest_first(key))).decode().rstrip("=")


def _position(cursor: str) -> tuple[float, str]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(text, type=tuple[float, str])
    except (binascii.Error, ValueError):
        raise BadRequest("cursor is not one that this list gave out", param="cursor") from None
