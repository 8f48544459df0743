"""What an admin action works with, and on whose behalf it runs. Built by the roof; knows no transport."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol

from msgspec import Struct

from tollway.admin.permissions import OF_KEYS
from tollway.admin.sight import EVERYWHERE, Belonging, Sight, sight
from tollway.config.settings import Settings
from tollway.errors import Conflict, Forbidden
from tollway.model.deployment import Route
from tollway.model.key import ADMIN, ANONYMOUS, Principal, VirtualKey
from tollway.model.role import Assignment
from tollway.model.tenant import Directory, Tenant, joined
from tollway.shared.claims import Ceiling
from tollway.shared.interface import Claim, Counters

if TYPE_CHECKING:
    from tollway.storage.repositories.adjustments import Adjustments
    from tollway.storage.repositories.admin_tokens import AdminTokens
    from tollway.storage.repositories.events import Events
    from tollway.storage.repositories.keys import Keys
    from tollway.storage.repositories.tenants import Tenants

Door = Literal["api", "cli", "ui", "dialect", "none"]


class View(Protocol):
    """The configuration being served at this moment. A new one replaces it; it never changes itself."""

    @property
    def generation(self) -> int:
        """Grows with each replacement."""

    def keys(self) -> Iterable[VirtualKey]:
        """At least every key the file declares; others are passed over."""

    def routes(self) -> Iterable[Route]: ...


class Actor(Struct, frozen=True, kw_only=True):
    """Who asks for an action, through which door, in which request: the administrator, a user with the roles in
    ``assignments``, or a virtual key."""

    principal: Principal
    via: Door
    request_id: str | None = None
    user: Tenant | None = None
    assignments: tuple[Assignment, ...] = ()

    @property
    def name(self) -> str:
        """As the audit shows it: ``admin``, ``user ada``, ``key ci`` or ``anonymous``."""
        if self.user is not None:
            return f"user {self.user.id}"
        key = self.principal.key
        return f"key {key.name}" if key is not None else self.principal.kind

    def sight(self, permission: str) -> Sight | None:
        """How far the permission reaches for this actor; None: not at all. The administrator is an owner."""
        if self.principal.kind == "admin":
            return sight(permission, (_OWNER,), None)
        key = self.principal.key
        if key is not None:
            return Sight(key=key.id) if permission in OF_KEYS else None
        return sight(permission, self.assignments, self.user.id if self.user is not None else None)

    def may(self, permission: str) -> bool:
        """Whether the permission reaches anything at all."""
        return self.sight(permission) is not None


_OWNER = Assignment(role="owner", scope=EVERYWHERE)
NOBODY = Actor(principal=ANONYMOUS, via="none")
COMMAND_LINE = Actor(principal=ADMIN, via="cli")
"""The command line opens the database file itself: whoever can do that is the administrator."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """Everything actions use. Without an actor (``acting``) every action is refused.

    ``keys`` and ``events`` are None without a database. ``changed`` makes the served configuration follow
    the database at once, ``reload`` reads the configuration file again (it returns what waits for the next
    start, or raises ConfigError, and then the old one stays), ``flush`` brings the ledger up to date with every
    answered request, ``status`` names the degraded parts with the reason, ``clock`` gives Unix seconds.
    """

    keys: Keys | None
    events: Events | None
    tenants: Tenants | None = None
    adjustments: Adjustments | None = None
    tokens: AdminTokens | None = None
    snapshot: Callable[[], View]
    counters: Counters
    claims: Callable[[VirtualKey], tuple[Claim, ...]]
    changed: Callable[[], Awaitable[None]]
    reload: Callable[[], Awaitable[list[str]]]
    settings: Callable[[], Settings]
    flush: Callable[[], Awaitable[None]]
    status: Callable[[], dict[str, str]]
    watched: Callable[[tuple[Ceiling, ...]], tuple[Claim, ...]] = lambda ceilings: tuple(
        ceiling.claim for ceiling in ceilings
    )
    """The claims of ceilings, for counters that must know what they count."""

    reset: Callable[[Claim, int], Awaitable[None]] | None = None
    """Makes a budget's counter have spent an amount, for every process; None: the counters are this process's own."""

    clock: Callable[[], float] = time.time
    actor: Actor = NOBODY
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while an action reads a key, changes it and writes it back, so that no change swallows another."""

    def acting(self, actor: Actor) -> Context:
        """The same context on behalf of ``actor``."""
        return replace(self, actor=actor)

    def sight(self, permission: str) -> Sight:
        """How far the actor sees. Raises Forbidden where it may not at all."""
        found = self.actor.sight(permission)
        if found is None:
            raise Forbidden(f"{self.actor.name} has no permission {permission}")
        return found

    async def society(self) -> Belonging:
        """Everybody there is at this moment, of the file and of the database."""
        stored = await self.tenants.directory() if self.tenants is not None else Directory()
        return Belonging(joined(self.settings().directory, stored))

    async def counted(self, claim: Claim, spent: int) -> None:
        """From now on the budget has spent so much in its current period."""
        if self.reset is not None:
            await self.reset(claim, spent)
        else:
            self.counters.seed(claim, spent)

    def stored_tenants(self) -> Tenants:
        """Raises Conflict without a database."""
        if self.tenants is None:
            raise Conflict("this gateway runs without a database: declare this in the configuration file")
        return self.tenants
