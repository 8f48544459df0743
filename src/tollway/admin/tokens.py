"""Users' tokens for the admin API: made once, shown once, kept as a hash, and no stronger than their user is at the
moment they are used."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from tollway.admin.action import action
from tollway.admin.context import Actor, Context, Door
from tollway.admin.key_terms import OF_USERS
from tollway.admin.labels import Expiry, Name, name
from tollway.admin.tenants import located
from tollway.admin.times import ahead, iso
from tollway.errors import BadRequest, Conflict, InvalidKey, KeyBlocked, KeyExpired, NotFound
from tollway.model.key import ANONYMOUS
from tollway.storage.repositories.admin_tokens import AdminToken

if TYPE_CHECKING:
    from tollway.storage.repositories.admin_tokens import AdminTokens

PREFIX = OF_USERS
_LONGEST = 366 * 86400.0
_UNKNOWN = "The token is not known here. Check it, or make a new one."


class NewToken(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token to create: it lives for 90 days unless ``expires`` says otherwise, and for a year at most."""

    name: Name
    expires: Annotated[Expiry, Meta(description="A span from now or a future time; a year at most.")] = "90d"


class TokenView(Struct, frozen=True, kw_only=True):
    """A token without its secret."""

    id: str
    user: str
    name: str
    hint: str
    created_at: str
    expires_at: str


class MintedToken(TokenView, frozen=True, kw_only=True):
    """A token together with its secret ``token``, which is shown this once and not kept."""

    token: str


class TokenList(Struct, frozen=True, kw_only=True):
    """A user's tokens, oldest first."""

    data: tuple[TokenView, ...]


class TokenDeleted(Struct, frozen=True, kw_only=True):
    """The token that ended."""

    id: str
    deleted: bool


@action(permission="tokens.create", audit=True, route=("POST", "/users/{user}/tokens"), status=201)
async def create(context: Context, user: str, body: NewToken) -> MintedToken:
    """Create a token for the admin API that has the user's own roles.

    The answer carries the secret in `token`, this once.
    """
    found = await located(context, "user", user, "tokens.create")
    store = _store(context)
    now = context.clock()
    end = ahead(body.expires, now, param="expires")
    if not now < end <= now + _LONGEST:
        raise BadRequest("expires must lie ahead, by a year at most", param="expires")
    secret = PREFIX + secrets.token_urlsafe(32)
    token = AdminToken(
        id="tok_" + secrets.token_hex(10),
        user=found.id,
        name=name(body.name),
        hash=_hash(secret),
        hint=f"{PREFIX}…{secret[-4:]}",
        created_at=now,
        expires_at=end,
    )
    await store.add(token)
    return MintedToken(token=secret, **_fields(token))


@action(permission="tokens.read", audit=False, route=("GET", "/users/{user}/tokens"))
async def list_(context: Context, user: str) -> TokenList:
    """List a user's tokens, without secrets."""
    found = await located(context, "user", user, "tokens.read")
    return TokenList(
        data=tuple(TokenView(**_fields(each)) for each in await _store(context).of_user(found.id))
    )


@action(permission="tokens.delete", audit=True, route=("DELETE", "/users/{user}/tokens/{token}"))
async def delete(context: Context, user: str, token: str) -> TokenDeleted:
    """End a user's token at once."""
    found = await located(context, "user", user, "tokens.delete")
    if not await _store(context).remove(found.id, token):
        raise NotFound("the user has no token with this id", param="token")
    return TokenDeleted(id=token, deleted=True)


async def holder(context: Context, secret: bytes, via: Door, request_id: str | None) -> Actor:
    """Who presents this token, with the roles it has now. Raises InvalidKey, KeyExpired or KeyBlocked."""
    token = (
        None if context.tokens is None else await context.tokens.by_hash(hashlib.sha256(secret).hexdigest())
    )
    if token is None:
        raise InvalidKey(_UNKNOWN)
    society = await context.society()
    user = society.tenants.get(("user", token.user))
    if user is None:
        raise InvalidKey(_UNKNOWN)
    now = context.clock()
    if now >= token.expires_at or (user.expires_at is not None and now >= user.expires_at):
        raise KeyExpired("The token has expired. Make a new one.")
    if user.blocked:
        raise KeyBlocked("The user is blocked. Ask an administrator to unblock it.")
    return Actor(
        principal=ANONYMOUS, via=via, request_id=request_id, user=user, assignments=society.assignments(user)
    )


def _store(context: Context) -> AdminTokens:
    if context.tokens is None:
        raise Conflict("this gateway runs without a database and keeps no tokens")
    return context.tokens


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _fields(token: AdminToken) -> dict[str, str]:
    return {
        "id": token.id,
        "user": token.user,
        "name": token.name,
        "hint": token.hint,
        "created_at": iso(token.created_at),
        "expires_at": iso(token.expires_at),
    }
