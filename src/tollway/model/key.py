"""Who may call: virtual keys with their terms, and the principal a request is served for."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from tollway.model.terms import Budget, RateLimit, Terms


class VirtualKey(Struct, frozen=True, kw_only=True):
    """A credential handed to a client. Only its SHA-256 is kept.

    ``hash`` is 64 hex digits, ``hint`` a piece of the key people recognise it by, ``models`` the allow-list
    (names or wildcards such as ``openai/*``; empty allows every model), times are Unix seconds.
    ``more`` holds the rest of its terms (deny-lists, routes, aliases, limits of some models); ``models``, ``budgets``
    and ``limits`` stay empty there, because they are the key's own fields. ``organization``, ``team``, ``project``,
    ``user`` and ``customer`` are ids. A ``service`` account's key belongs to its team and to nobody. After a rotation
    with grace ``former_hash`` is valid too until ``former_until``. ``created_by`` is the user who made it.
    ``owner`` says who may change it: the configuration file, or the database (API and CLI).
    """

    id: str
    name: str
    hash: str
    hint: str
    models: tuple[str, ...] = ()
    budgets: tuple[Budget, ...] = ()
    limits: RateLimit = RateLimit()
    more: Terms = Terms()
    organization: str | None = None
    team: str | None = None
    project: str | None = None
    user: str | None = None
    customer: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = {}
    created_at: float = 0.0
    expires_at: float | None = None
    blocked: bool = False
    revoked_at: float | None = None
    service: bool = False
    description: str = ""
    former_hash: str | None = None
    former_until: float | None = None
    created_by: str | None = None
    owner: Literal["file", "database"] = "database"


__all__ = ["ADMIN", "ANONYMOUS", "Budget", "Principal", "RateLimit", "VirtualKey"]


class Principal(Struct, frozen=True, kw_only=True):
    """On whose behalf a request runs. ``key`` is None for the administrator and for keyless loopback service."""

    kind: Literal["key", "admin", "anonymous"]
    key: VirtualKey | None = None


ADMIN = Principal(kind="admin")
ANONYMOUS = Principal(kind="anonymous")
