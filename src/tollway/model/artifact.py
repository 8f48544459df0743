"""A thing that a provider (or this gateway) keeps for a client: a file, a batch, a video, a vector store, …"""

from __future__ import annotations

from msgspec import Struct

LOCAL = ""
"""The provider of what this gateway keeps itself."""


class Artifact(Struct, frozen=True, kw_only=True):
    """``id`` is what clients call it and, at ``provider``, its name. ``owner`` is a key's id, ``admin`` or
    ``anonymous``; only the owner and the administrator ever learn that it exists.

    ``model`` is the public name it was made for and ``deployment`` where that was served (empty without one).
    ``created`` and ``expires`` are Unix seconds. ``shown`` is its JSON as last seen, ``purpose`` a file's.
    ``settled`` false: what it costs is not known yet. ``state`` is the gateway's own note on what it works at.
    """

    id: str
    kind: str
    provider: str
    owner: str
    team: str | None = None
    model: str = ""
    deployment: str = ""
    purpose: str = ""
    created: float = 0.0
    expires: float | None = None
    settled: bool = True
    shown: bytes = b"{}"
    state: bytes = b""


class Query(Struct, frozen=True, kw_only=True):
    """Which artifacts to list. ``owner`` None: everybody's. ``after`` is the id of the last one seen."""

    kind: str
    owner: str | None
    limit: int = 20
    after: str | None = None
    ascending: bool = False
    purpose: str = ""
