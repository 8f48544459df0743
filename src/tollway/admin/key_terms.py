"""What a key may be given, read from a request and checked: its value, where it belongs, its terms."""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType, field
from msgspec.structs import replace

from tollway.admin import labels
from tollway.admin.labels import Expiry, Name
from tollway.admin.terms import TermsBody, terms, words
from tollway.admin.times import ahead
from tollway.errors import BadRequest
from tollway.model.key import VirtualKey
from tollway.model.terms import RateLimit, Terms

MINTED = "sk-tw-"
OF_USERS = "sk-tw-user-"
"""How users' tokens for the admin API begin; no key may."""

SHORTEST_KEY, LONGEST_KEY = 16, 512
_LONGEST_GRACE = 90 * 86400.0
_KEY_VALUE = re.compile(r"[!-~]+", re.ASCII)
_PATHS = ("self", "bulk")

KeyValue = Annotated[
    str,
    Meta(
        description="A key value of your own: 16 to 512 visible ASCII characters. Left out: one is made.",
        extra_json_schema={"minLength": 16, "maxLength": 512, "writeOnly": True},
    ),
]
PLACES = ("organization", "team", "project", "user")


class NewKey(TermsBody, frozen=True, kw_only=True):
    """A key to create. What is left out is not limited: no budget, every model, no expiry; or it is what the project,
    team or organization has under ``keys``. A ``service`` key belongs to its team and to no user."""

    name: Name
    key: KeyValue | None = None
    expires: Expiry | None = None
    organization: str | None = None
    team: str | None = None
    project: str | None = None
    user: str | None = None
    service: bool = False
    customer: str | None = None
    tags: tuple[str, ...] = ()
    description: str = ""
    metadata: dict[str, str] = field(default_factory=dict)


class KeyPatch(TermsBody, frozen=True, kw_only=True):
    """A JSON merge patch (RFC 7396): left out stays, ``null`` clears, objects merge, lists are replaced. A new
    organization, team, project or user is a transfer, and asks for that permission."""

    name: Name | UnsetType = UNSET
    expires: Expiry | UnsetType | None = UNSET
    organization: str | UnsetType | None = UNSET
    team: str | UnsetType | None = UNSET
    project: str | UnsetType | None = UNSET
    user: str | UnsetType | None = UNSET
    service: bool | UnsetType = UNSET
    customer: str | UnsetType | None = UNSET
    tags: tuple[str, ...] | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    metadata: dict[str, str | None] | UnsetType | None = UNSET


class KeyTransfer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the key goes. A team or project left out stays only if nothing above it changes; the user stays unless
    given, and ``null`` makes the key nobody's."""

    organization: str | UnsetType | None = UNSET
    team: str | UnsetType | None = UNSET
    project: str | UnsetType | None = UNSET
    user: str | UnsetType | None = UNSET
    service: bool | UnsetType = UNSET


class Rotation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``key``: the new value, where it is not to be made here. ``grace``: how long the old one works on (`24h`, 90 days
    at most); left out, it stops at once."""

    key: KeyValue | None = None
    grace: Expiry | None = None


def minted() -> str:
    """A new key: 256 random bits behind ``sk-tw-``."""
    return MINTED + secrets.token_urlsafe(32)


def key_value(value: str) -> str:
    """A key value somebody chose. Raises BadRequest, which never repeats the value."""
    if not SHORTEST_KEY <= len(value) <= LONGEST_KEY:
        raise BadRequest(f"key must have {SHORTEST_KEY} to {LONGEST_KEY} characters", param="key")
    if not _KEY_VALUE.fullmatch(value):
        raise BadRequest("key must consist of visible ASCII characters, without spaces", param="key")
    if value.startswith(OF_USERS):
        raise BadRequest(f"key must not begin with {OF_USERS}: users' tokens look like that", param="key")
    return value


def name(text: str) -> str:
    written = labels.name(text)
    if written.startswith(("key_", "sk-")):
        raise BadRequest("name must not begin with key_ or sk-: ids and secrets look like that", param="name")
    if written in _PATHS:
        raise BadRequest(
            f"name must not be {written}: the address /api/keys/{written} is taken", param="name"
        )
    return written


def grace(text: str | None, now: float) -> float | None:
    """When a rotated key's old value stops; None: at once."""
    if text is None:
        return None
    moment = ahead(text, now, param="grace")
    if not now < moment <= now + _LONGEST_GRACE:
        raise BadRequest("grace must lie ahead, by 90 days at most", param="grace")
    return moment


def terms_of(key: VirtualKey) -> Terms:
    """All of a key's terms in one."""
    return replace(key.more, models=key.models, budgets=key.budgets, limits=key.limits)


def parted(terms: Terms) -> dict[str, Any]:
    """A key's fields that hold these terms."""
    more = replace(terms, models=(), budgets=(), limits=RateLimit())
    return {"models": terms.models, "budgets": terms.budgets, "limits": terms.limits, "more": more}


def patched(key: VirtualKey, patch: KeyPatch, now: float) -> dict[str, object]:
    """The fields of ``key`` that ``patch`` sets but for its place, checked, ready for ``msgspec.structs.replace``."""
    granted = parted(terms(patch, terms_of(key), now))
    changes: dict[str, object] = {each: new for each, new in granted.items() if new != getattr(key, each)}
    if patch.name is not UNSET:
        changes["name"] = name(patch.name)
    if patch.expires is not UNSET:
        changes["expires_at"] = labels.expiry(patch.expires, now)
    if patch.customer is not UNSET:
        changes["customer"] = labels.label(patch.customer, "customer")
    if patch.tags is not UNSET:
        changes["tags"] = words(patch.tags or (), "tags")
    if patch.description is not UNSET:
        changes["description"] = labels.described(patch.description or "")
    if patch.metadata is not UNSET:
        merged = {**key.metadata, **patch.metadata} if patch.metadata is not None else {}
        changes["metadata"] = labels.metadata({k: value for k, value in merged.items() if value is not None})
    return changes
