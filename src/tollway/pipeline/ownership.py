"""Who made what, and where it lives: the way from a client's id to the provider that knows it.

Two kinds. ``Remembered`` keeps a row for each object in the database, the ones in use at hand in memory. ``Sealed``
needs none: the id a client gets names provider and owner, signed. To whom an object does not belong it does not exist:
an unknown id and another's are refused in the same words.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec
from msgspec import Raw, Struct

from tollway.errors import BadRequest, InvalidJson, NotFound, StoreUnavailable
from tollway.model.artifact import Artifact, Query
from tollway.model.key import Principal
from tollway.pipeline.client_secrets import ClientSecrets

log = logging.getLogger("tollway.objects")

AT_HAND = 20_000
"""Objects kept in memory, the latest used."""

UNSAVED = 10_000

KINDS = {
    "file": "file",
    "batch": "batch",
    "video": "video",
    "upload": "upload",
    "vs": "vector_store",
    "asst": "assistant",
    "thread": "thread",
    "ftjob": "fine_tuning.job",
}
"""What an id begins with, and what it then is the id of."""

NAMING = frozenset(
    (
        "file_id",
        "file_ids",
        "input_file_id",
        "training_file",
        "validation_file",
        "vector_store_id",
        "vector_store_ids",
        "assistant_id",
        "thread_id",
    )
)
"""Fields that hold ids, whatever those look like."""

# Long, and with a digit in it: ``file_search`` and ``batch_output`` are words.
_ID = re.compile(rf"({'|'.join(KINDS)})[-_](?=[A-Za-z._-]*[0-9])[A-Za-z0-9][A-Za-z0-9._-]{{11,400}}")
_ANY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,400}")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def owner_of(principal: Principal) -> str:
    return principal.kind if principal.key is None else principal.key.id


def missing(id: str) -> NotFound:
    """The same for what does not exist and for what is another's."""
    return NotFound(f"There is no object with the id {id[:200]!r}.", param="id")


class Place(Struct, frozen=True):
    """Where an object lives: the configured provider and its name there. ``artifact`` None: nothing is kept of it."""

    provider: str
    id: str
    artifact: Artifact | None = None


class Page(Struct, frozen=True):
    """Objects of one kind, in the order that was asked for; ``more`` follow."""

    artifacts: list[Artifact]
    more: bool


class Shelf(Protocol):
    """The table of objects (``storage/repositories/objects.py``). Everything raises StoreUnavailable."""

    async def find(self, id: str) -> Artifact | None: ...

    async def put(self, artifacts: list[Artifact]) -> set[str]:
        """Add or replace. Another owner's row is left as it is; the ids of such are returned."""

    async def remove(self, id: str) -> None: ...

    async def page(self, query: Query) -> tuple[list[Artifact], bool]: ...

    async def unsettled(self, kind: str, local: bool) -> list[Artifact]: ...

    async def purge(self, now: float, most: int) -> int: ...


class Registry(Protocol):
    async def find(self, id: str, principal: Principal) -> Place:
        """Raises NotFound, also for another's; StoreUnavailable."""

    async def knows(self, id: str) -> bool:
        """Whether it is somebody's. Raises StoreUnavailable."""

    async def keep(self, artifacts: Iterable[Artifact]) -> None:
        """Remember; what the database does not take now it gets later."""

    async def add(self, artifacts: Iterable[Artifact]) -> None:
        """``keep`` those that are not known yet."""

    async def forget(self, id: str) -> None: ...

    async def page(self, query: Query) -> Page:
        """Raises BadRequest where nothing is kept, StoreUnavailable."""

    def inward(self, body: bytes, principal: Principal) -> bytes:
        """A JSON body with the ids as the provider knows them. Raises NotFound."""

    def outward(self, body: bytes, provider: str, principal: Principal) -> bytes:
        """A JSON answer with the ids as the client is to know them."""


def references(body: bytes) -> list[str]:
    """Every id a JSON body names anywhere, escaped spellings included. Raises InvalidJson."""
    if not body.strip():
        return []
    try:
        value = _decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidJson("The request body is not valid JSON.") from None
    found: dict[str, None] = {}
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            if _ID.fullmatch(one):
                found[one] = None
        elif isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, dict):
            waiting.extend(one.values())
            for name in NAMING & one.keys():
                named = one[name] if isinstance(one[name], list) else [one[name]]
                found.update((id, None) for id in named if isinstance(id, str) and id)
    return list(found)


class Remembered:
    """Objects by rows of the database. What could not be written yet is kept at hand until ``flush`` writes it."""

    def __init__(self, shelf: Shelf, changed: Callable[[str], None] = lambda _: None) -> None:
        """``changed`` is called with the id of every object that was written or forgotten: other processes hold it as
        it was (``stale``)."""
        self._shelf = shelf
        self._changed = changed
        self._known: OrderedDict[str, Artifact] = OrderedDict()
        self._unsaved: dict[str, Artifact] = {}
        self.tickets = ClientSecrets()
        """For uploads that go on at an address without a key."""

    async def find(self, id: str, principal: Principal) -> Place:
        artifact = await self.artifact(id)
        if artifact is None or (principal.kind != "admin" and artifact.owner != owner_of(principal)):
            raise missing(id)
        return Place(artifact.provider, artifact.id, artifact)

    async def knows(self, id: str) -> bool:
        return await self.artifact(id) is not None

    async def artifact(self, id: str) -> Artifact | None:
        """Whoever's it is."""
        known = self._unsaved.get(id) or self._known.get(id)
        if known is not None:
            if id in self._known:
                self._known.move_to_end(id)
            return known
        if not _ANY.fullmatch(id):
            return None
        found = await self._shelf.find(id)
        if found is not None:
            self._remember(found)
        return found

    async def keep(self, artifacts: Iterable[Artifact]) -> None:
        made = list(artifacts)
        for one in made:
            if len(self._unsaved) >= UNSAVED:
                log.error("too many objects wait for the database; %s will not be found again", one.id)
                continue
            self._unsaved[one.id] = one
        try:
            await self.flush()
        except StoreUnavailable as error:
            log.warning("%d objects wait for the database: %s", len(self._unsaved), error)

    async def add(self, artifacts: Iterable[Artifact]) -> None:
        try:
            new = [one for one in artifacts if await self.artifact(one.id) is None]
        except StoreUnavailable as error:
            log.warning("byproducts of an object are not noted: %s", error)
            return
        if new:
            await self.keep(new)

    async def flush(self) -> None:
        """Raises StoreUnavailable."""
        if not self._unsaved:
            return
        batch = list(self._unsaved.values())
        taken = await self._shelf.put(batch)
        for one in batch:
            if self._unsaved.get(one.id) is one:
                del self._unsaved[one.id]
            if one.id in taken:
                log.error(
                    "provider %s gave the id %s, which is another owner's already", one.provider, one.id
                )
            else:
                self._remember(one)
                self._changed(one.id)

    async def forget(self, id: str) -> None:
        self._unsaved.pop(id, None)
        self._known.pop(id, None)
        await self._shelf.remove(id)
        self._changed(id)

    def stale(self, id: str = "") -> None:
        """Another process changed it; without an id, any may have been changed."""
        if id:
            self._known.pop(id, None)
        else:
            self._known.clear()

    async def page(self, query: Query) -> Page:
        artifacts, more = await self._shelf.page(query)
        return Page([self._unsaved.get(one.id) or self._known.get(one.id) or one for one in artifacts], more)

    def inward(self, body: bytes, principal: Principal) -> bytes:
        return body

    def outward(self, body: bytes, provider: str, principal: Principal) -> bytes:
        return body

    def _remember(self, artifact: Artifact) -> None:
        known = self._known
        known[artifact.id] = artifact
        known.move_to_end(artifact.id)
        while len(known) > AT_HAND:
            known.popitem(last=False)


_SEAL = "tw1-"
_SEALED = re.compile(rf"({'|'.join(KINDS)})([-_]){_SEAL}([A-Za-z0-9_-]{{20,600}})")
_MAC = 12


class Sealed:
    """Objects by ids that say where they are: ``file-tw1-…`` holds provider, name there and a signature over both and
    the owner. ``secret`` must be the same in every process that is to know them."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hashlib.sha256(b"tollway object ids\0" + secret).digest()

    async def find(self, id: str, principal: Principal) -> Place:
        return self._open(id, principal)

    async def knows(self, id: str) -> bool:
        return _SEALED.fullmatch(id) is not None

    async def keep(self, artifacts: Iterable[Artifact]) -> None:
        """Nothing is kept: the ids themselves say it."""

    async def add(self, artifacts: Iterable[Artifact]) -> None:
        """Nothing is kept."""

    async def forget(self, id: str) -> None:
        """Nothing was kept."""

    async def page(self, query: Query) -> Page:
        raise BadRequest(
            "Without a database nothing is known of what was made, so there is no list. Keep the ids, or use one."
        )

    def seal(self, id: str, provider: str, principal: Principal) -> str:
        mark = _ID.fullmatch(id)
        if mark is None:
            return id
        place = f"{provider}\0{id}"
        payload = self._mac(place, owner_of(principal)) + place.encode()
        return f"{mark[1]}{id[len(mark[1])]}{_SEAL}{base64.urlsafe_b64encode(payload).decode().rstrip('=')}"

    def _open(self, id: str, principal: Principal) -> Place:
        sealed = _SEALED.fullmatch(id)
        if sealed is None:
            raise missing(id)
        try:
            payload = base64.urlsafe_b64decode(sealed[3] + "=" * (-len(sealed[3]) % 4))
            place = payload[_MAC:].decode()
        except (binascii.Error, UnicodeDecodeError):
            raise missing(id) from None
        provider, _, inner = place.partition("\0")
        mark = _ID.fullmatch(inner)
        ours = hmac.compare_digest(payload[:_MAC], self._mac(place, owner_of(principal)))
        if mark is None or mark[1] != sealed[1] or not (ours or principal.kind == "admin"):
            raise missing(id)
        return Place(provider, inner)

    def _mac(self, place: str, owner: str) -> bytes:
        return hmac.digest(self._secret, f"{owner}\0{place}".encode(), "sha256")[:_MAC]

    def inward(self, body: bytes, principal: Principal) -> bytes:
        return _replaced(body, lambda id: self._open(id, principal).id)

    def outward(self, body: bytes, provider: str, principal: Principal) -> bytes:
        return _replaced(body, lambda id: self.seal(id, provider, principal))


# A string, and the colon behind it where it is the name of a field.
_STRING = re.compile(rb'("(?:[^"\\]|\\.)*")(\s*:)?')
_decode_string = msgspec.json.Decoder(str).decode


def _replaced(body: bytes, change: Callable[[str], str]) -> bytes:
    """``body`` with every string that is an id replaced; all other bytes stay as they are."""

    def one(found: re.Match[bytes]) -> bytes:
        raw = found[1]
        if found[2] is not None:
            return found[0]
        if len(raw) > 700 or (b"-" not in raw and b"_" not in raw and b"\\" not in raw):
            return raw
        try:
            value = _decode_string(raw)
        except msgspec.DecodeError:
            return raw
        return _encode(change(value)) if _ID.fullmatch(value) else raw

    return _STRING.sub(one, body)


def shown(body: bytes) -> dict[str, Raw]:
    """The top level of an object's JSON; empty where it is none."""
    try:
        return msgspec.json.decode(body, type=dict[str, Raw])
    except (msgspec.DecodeError, RecursionError):
        return {}
