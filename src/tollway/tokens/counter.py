"""Counts the tokens of conversations and texts in a process beside this one, and answers in time whatever happens.

A count that is late, finds the queue full or fails becomes an estimate from size, and says so. Nothing here raises.
"""

from __future__ import annotations

import asyncio
import weakref
from math import ceil
from pathlib import Path
from typing import Literal, TypeAlias

from msgspec import Struct

from tollway.tokens.contents import Contents, of_conversation, of_text
from tollway.tokens.family import Family, estimate, family
from tollway.tokens.vocabulary import FOLDER
from tollway.tokens.worker import Job, Worker
from tollway.wire.conversation import Conversation

Basis: TypeAlias = Literal["", "rules", "factor", "bytes"]


class Count(Struct, frozen=True):
    """``tokens`` of a request or text. ``exact``: the provider should report this very number.

    ``estimated_by`` is empty then, else the weakest thing it rests on: ``rules`` for overheads, tools, images or a
    text cut within a word; ``factor`` for another family's vocabulary; ``bytes`` for the size alone.
    """

    tokens: int
    exact: bool
    estimated_by: Basis = ""


class Tally(Struct):
    """How counts went so far: ``counted`` with a tokenizer; from size because they were ``late``, ``refused`` by a
    full queue (or after closing) or ``failed``; ``cancelled`` by their caller."""

    counted: int = 0
    late: int = 0
    refused: int = 0
    failed: int = 0
    cancelled: int = 0


class Counter:
    """One of these in a process. ``deadline`` in seconds, ``limit`` counts may wait behind the one being made."""

    def __init__(self, *, deadline: float = 0.25, limit: int = 64, folder: Path = FOLDER) -> None:
        self.tally = Tally()
        self._deadline = deadline
        self._worker = Worker(limit, folder)
        # Also at the interpreter's exit: the process must not stay behind.
        self._close = weakref.finalize(self, self._worker.close)

    async def load(self, *models: str) -> bool:
        """Load these models' vocabularies now, and say whether all are there. The first count loads by itself, but it
        is late."""
        ready = True
        for vocabulary in {family(model).vocabulary for model in models}:
            job = Job(vocabulary, Contents())
            ready = self._worker.submit(job) and await job.outcome is not None and ready
        return ready

    async def count_conversation(
        self, conversation: Conversation, model: str, *, deadline: float | None = None
    ) -> Count:
        """Input tokens of a request to ``model``, which need not be the name in it. ``deadline`` in seconds replaces
        the counter's."""
        of = family(model)
        return await self._count(of_conversation(conversation, of), of, deadline)

    async def count_text(self, text: str, model: str, *, deadline: float | None = None) -> Count:
        """Tokens of one text, nothing around it."""
        return await self._count(of_text(text), family(model), deadline)

    def estimate_now(self, text_bytes: int, model: str) -> int:
        """Tokens of that many bytes of text, by size alone; no tokenizer, no waiting."""
        return estimate(text_bytes, family(model))

    def close(self) -> None:
        """End thread and process; waits for what they are at, some 20 ms (or half a second while it loads). Counts
        after this are estimates."""
        self._close()

    async def _count(self, contents: Contents, of: Family, deadline: float | None) -> Count:
        outcome: tuple[int, bool] | None
        if not contents.bytes:
            outcome = 0, True
        else:
            outcome = await self._beside(contents, of, self._deadline if deadline is None else deadline)
        if outcome is None:
            return Count(contents.fixed + estimate(contents.bytes, of), exact=False, estimated_by="bytes")
        self.tally.counted += 1
        tokens = contents.fixed + ceil(outcome[0] * of.factor)
        if not of.own:
            return Count(tokens, exact=False, estimated_by="factor")
        if not (contents.certain and outcome[1]):
            return Count(tokens, exact=False, estimated_by="rules")
        return Count(tokens, exact=True)

    async def _beside(self, contents: Contents, of: Family, deadline: float) -> tuple[int, bool] | None:
        job = Job(of.vocabulary, contents)
        if not self._worker.submit(job):
            self.tally.refused += 1
            return None
        try:
            async with asyncio.timeout(deadline):
                outcome = await job.outcome
        except TimeoutError:
            self.tally.late += 1
            return None
        except asyncio.CancelledError:
            self.tally.cancelled += 1
            raise
        finally:
            job.abandon()
        if outcome is None:
            self.tally.failed += 1
        return outcome
