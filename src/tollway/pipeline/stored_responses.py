"""Responses that can be asked for again: at hand in memory first, written to the database after the answer.

To whom a response does not belong it does not exist: an unknown id and another's are refused in the same words.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec.structs import replace

from tollway.errors import BadRequest, NotFound, PreviousResponseNotFound, StoreUnavailable
from tollway.model.key import Principal
from tollway.model.stored_response import HERE, UNFINISHED, StoredResponse
from tollway.pipeline.response_objects import failed

log = logging.getLogger("tollway.responses")

AT_HAND_BYTES = 64 * 1024 * 1024
"""Of the responses in memory, the latest used stay."""

WAITING_BYTES = 128 * 1024 * 1024
"""Of what waits for the database; past that responses are not kept, and that is logged."""

REMOVED = 10_000
"""Ids of which it is remembered that they were deleted; none is ever given twice."""

MAX_BYTES = 16 * 1024 * 1024
"""Of one response with its input; longer ones are answered and not kept."""

MAX_CHAIN = 500
MAX_CHAIN_BYTES = 32 * 1024 * 1024

BATCH_BYTES = 16 * 1024 * 1024
BATCH = 100
EVERY = 0.25
LAG = (0.05, 0.1, 0.2, 0.4)
"""Seconds between looks for a response that is not in the table yet: longer together than a process keeps it back."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,400}|resp_[A-Za-z0-9._:-]{1,400}")


class Shelf(Protocol):
    """The table of responses (``storage/repositories/responses.py``). Everything raises StoreUnavailable."""

    async def put(self, batch: Sequence[StoredResponse]) -> None: ...

    async def find(self, id: str) -> StoredResponse | None: ...

    async def chain(self, id: str, most: int, most_bytes: int) -> list[StoredResponse]: ...

    async def remove(self, id: str) -> None: ...

    async def unfinished(self, before: float) -> list[StoredResponse]: ...


def owner_of(principal: Principal) -> str:
    return principal.kind if principal.key is None else principal.key.id


def missing(id: str) -> NotFound:
    """The same for what does not exist and for what is another's."""
    return NotFound(f"Response with id {id[:200]!r} not found.", param="response_id")


def missing_previous(id: str) -> NotFound:
    return PreviousResponseNotFound(
        f"Previous response with id {id[:200]!r} not found.", param="previous_response_id"
    )


class Others(Protocol):
    """The other processes that serve from the same table."""

    async def works(self, id: str) -> bool:
        """Whether one of them works at this response, or that cannot be told now."""

    def tell(self, what: str, id: str) -> None:
        """``response``: it changed, what you know of it is old. ``cancel``: stop working at it."""


class StoredResponses:
    """``retention`` in seconds. ``keep`` never waits; ``run`` writes until it is cancelled. ``others`` None: no other
    process serves from this table."""

    def __init__(
        self,
        shelf: Shelf,
        retention: float,
        wall_clock: Callable[[], float],
        others: Others | None = None,
    ) -> None:
        self.others = others
        self.retention = retention
        self.dropped = 0
        self.running: set[str] = set()
        self._shelf = shelf
        self._wall_clock = wall_clock
        self._started = wall_clock()
        self._known: OrderedDict[str, StoredResponse] = OrderedDict()
        self._known_bytes = 0
        self._waiting: dict[str, StoredResponse] = {}
        self._waiting_bytes = 0
        self._gone: OrderedDict[str, None] = OrderedDict()

    def keep(self, one: StoredResponse) -> bool:
        """False: there is no room for it, it was deleted, or its id is another's."""
        if one.id in self._gone:
            return False
        now = self._wall_clock()
        one = replace(one, created=one.created or now, expires=now + self.retention)
        before = self._waiting.get(one.id)
        known = self.at_hand(one.id)
        if known is not None and known.owner != one.owner:
            log.error("provider %s gave the id %s, which is another owner's already", one.provider, one.id)
            return False
        waiting = self._waiting_bytes + one.size - (before.size if before else 0)
        if one.size > MAX_BYTES or waiting > WAITING_BYTES:
            self.dropped += 1
            why = "it is too large" if one.size > MAX_BYTES else "too much waits for the database"
            log.warning("response %s is not kept: %s", one.id, why)
            return False
        if before is not None:
            del self._waiting[one.id]
        self._waiting[one.id] = one
        self._waiting_bytes = waiting
        self._remember(one)
        return True

    def at_hand(self, id: str) -> StoredResponse | None:
        return self._waiting.get(id) or self._known.get(id)

    async def find(self, id: str, principal: Principal) -> StoredResponse:
        """Raises NotFound, also for another's; StoreUnavailable."""
        one = await self._get(id) if _ID.fullmatch(id) else None
        if one is None or not self._belongs(one, principal):
            raise missing(id)
        return await self._settled(one)

    async def chain(self, id: str, principal: Principal) -> list[StoredResponse]:
        """The response and those it goes on from, the newest first; alone where a provider keeps it.

        Raises PreviousResponseNotFound also for another's, BadRequest past the bounds, StoreUnavailable.
        """
        found: list[StoredResponse] = []
        size = 0
        at: str | None = id
        stored: list[StoredResponse] = []
        while at is not None:
            one = self.at_hand(at)
            if one is None and not stored and _ID.fullmatch(at):
                # What is older than a response in the database is there too: one look fetches the rest.
                stored = (await self._shelf.chain(at, MAX_CHAIN, MAX_CHAIN_BYTES))[::-1]
            if stored and stored[-1].id == at:
                one = one or stored[-1]
                stored.pop()
            if one is None and self.others is not None:
                one = await self._find(at)
            if one is None or not self._belongs(one, principal):
                raise missing_previous(at if not found else id)
            found.append(await self._settled(one))
            size += len(one.input) + len(one.response)
            if len(found) > MAX_CHAIN or size > MAX_CHAIN_BYTES:
                raise BadRequest(
                    f"The conversation behind {id!r} is longer than this gateway puts together ({MAX_CHAIN} "
                    f"responses, {MAX_CHAIN_BYTES >> 20} MiB). Start a new one with a summary of it.",
                    param="previous_response_id",
                )
            at = one.previous if one.provider == HERE else None
        return found

    async def remove(self, id: str) -> None:
        """Raises StoreUnavailable, and then it is still there."""
        # Out of the queue first: what is written while the row is deleted would come after it. And no look that was
        # under way brings it back.
        self._gone[id] = None
        while len(self._gone) > REMOVED:
            self._gone.popitem(last=False)
        waiting = self._waiting.pop(id, None)
        if waiting is not None:
            self._waiting_bytes -= waiting.size
        try:
            await self._shelf.remove(id)
        except StoreUnavailable:
            self._gone.pop(id, None)
            if waiting is not None and id not in self._waiting:
                self._waiting[id] = waiting
                self._waiting_bytes += waiting.size
            raise
        self._forget(id)
        if self.others is not None:
            self.others.tell("response", id)

    def stale(self, id: str) -> None:
        """Another process changed it."""
        if id not in self._waiting:
            self._forget(id)

    async def run(self) -> None:
        """What an earlier process was still working at has failed; from then on write what comes."""
        while True:
            try:
                for one in await self._shelf.unfinished(self._started):
                    if one.id not in self.running:
                        settled = await self._settled(one)
                        if settled is not one:
                            self.keep(settled)
                break
            except StoreUnavailable as error:
                log.warning("unfinished responses were not looked for: %s", error)
                await asyncio.sleep(1.0)
        while True:
            await asyncio.sleep(EVERY)
            await self.flush()

    async def flush(self) -> None:
        while self._waiting:
            batch: list[StoredResponse] = []
            size = 0
            for one in self._waiting.values():
                batch.append(one)
                size += one.size
                if size > BATCH_BYTES or len(batch) >= BATCH:
                    break
            try:
                await self._shelf.put(batch)
            except StoreUnavailable as error:
                log.warning("%d responses wait for the database: %s", len(self._waiting), error)
                return
            for one in batch:
                if self._waiting.get(one.id) is one:
                    del self._waiting[one.id]
                    self._waiting_bytes -= one.size

    async def _get(self, id: str) -> StoredResponse | None:
        one = self.at_hand(id)
        if one is not None and (self.others is None or id in self.running or one.status not in UNFINISHED):
            if id in self._known:
                self._known.move_to_end(id)
            return one
        one = await self._find(id)
        if id in self._gone:
            return None
        if one is not None and id not in self._waiting:
            self._remember(one)
        return one

    async def _find(self, id: str) -> StoredResponse | None:
        """From the table. What another process answered a moment ago is on its way there: it is looked for again."""
        one = await self._shelf.find(id)
        for wait in LAG if self.others is not None else ():
            if one is not None:
                break
            await asyncio.sleep(wait)
            one = await self._shelf.find(id)
        return one

    def _belongs(self, one: StoredResponse, principal: Principal) -> bool:
        ours = principal.kind == "admin" or one.owner == owner_of(principal)
        return ours and one.expires > self._wall_clock()

    async def _settled(self, one: StoredResponse) -> StoredResponse:
        """One whose work nobody does any more has failed."""
        if one.status not in UNFINISHED or one.id in self.running:
            return one
        if self.others is not None and await self.others.works(one.id):
            return one
        return failed(one, "server_error", "The gateway was stopped while it worked at this response.")

    def _remember(self, one: StoredResponse) -> None:
        self._forget(one.id)
        self._known[one.id] = one
        self._known_bytes += one.size
        while self._known_bytes > AT_HAND_BYTES:
            _, oldest = self._known.popitem(last=False)
            self._known_bytes -= oldest.size

    def _forget(self, id: str) -> None:
        known = self._known.pop(id, None)
        if known is not None:
            self._known_bytes -= known.size
