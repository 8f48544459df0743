"""What an admin action works with, and on whose behalf it runs. Built by the roof; knows no transport."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol

from msgspec import Struct

from tollway.config.settings import Settings
from tollway.model.deployment import Route
from tollway.model.key import ADMIN, ANONYMOUS, Principal, VirtualKey
from tollway.shared.interface import Claim, Counters

if TYPE_CHECKING:
    from tollway.storage.repositories.events import Events
    from tollway.storage.repositories.keys import Keys

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
    """Who asks for an action, through which door, in which request."""

    principal: Principal
    via: Door
    request_id: str | None = None

    @property
    def name(self) -> str:
        """As the audit shows it: ``admin``, ``key ci`` or ``anonymous``."""
        key = self.principal.key
        return f"key {key.name}" if key is not None else self.principal.kind

    def may(self, permission: str) -> bool:
        """All for the administrator, nothing for others: virtual keys call models, they manage nothing."""
        return bool(permission) and self.principal.kind == "admin"


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
    snapshot: Callable[[], View]
    counters: Counters
    claims: Callable[[VirtualKey], tuple[Claim, ...]]
    changed: Callable[[], Awaitable[None]]
    reload: Callable[[], Awaitable[list[str]]]
    settings: Callable[[], Settings]
    flush: Callable[[], Awaitable[None]]
    status: Callable[[], dict[str, str]]
    clock: Callable[[], float] = time.time
    actor: Actor = NOBODY
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while an action reads a key, changes it and writes it back, so that no change swallows another."""

    def acting(self, actor: Actor) -> Context:
        """The same context on behalf of ``actor``."""
        return replace(self, actor=actor)
