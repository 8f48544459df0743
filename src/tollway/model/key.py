"""Who may call: virtual keys with their budgets and limits, and the principal a request is served for."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from tollway.model.money import Money

Period = str
"""``day``, ``week`` (from Monday), ``month`` (from the 1st), ``total``, or a number of days such as ``30d``. UTC."""


class Budget(Struct, frozen=True, kw_only=True):
    """A ceiling on spend within a period. ``strict`` holds a request's worst case, so it is never overshot."""

    limit: Money
    per: Period = "total"
    strict: bool = False


class RateLimit(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Requests and tokens per minute and per day (sliding windows), and requests at the same time."""

    rpm: int | None = None
    tpm: int | None = None
    rpd: int | None = None
    tpd: int | None = None
    parallel: int | None = None


class VirtualKey(Struct, frozen=True, kw_only=True):
    """A credential handed to a client. Only its SHA-256 is kept.

    ``hash`` is 64 hex digits, ``hint`` a piece of the key people recognise it by, ``models`` the allow-list
    (names or wildcards such as ``openai/*``; empty allows every model), times are Unix seconds.
    ``owner`` says who may change it: the configuration file, or the database (API and CLI).
    """

    id: str
    name: str
    hash: str
    hint: str
    models: tuple[str, ...] = ()
    budgets: tuple[Budget, ...] = ()
    limits: RateLimit = RateLimit()
    team: str | None = None
    user: str | None = None
    customer: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = {}
    created_at: float = 0.0
    expires_at: float | None = None
    blocked: bool = False
    revoked_at: float | None = None
    owner: Literal["file", "database"] = "database"


class Principal(Struct, frozen=True, kw_only=True):
    """On whose behalf a request runs. ``key`` is None for the administrator and for keyless loopback service."""

    kind: Literal["key", "admin", "anonymous"]
    key: VirtualKey | None = None


ADMIN = Principal(kind="admin")
ANONYMOUS = Principal(kind="anonymous")
