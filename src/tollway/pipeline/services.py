"""What the stages need, built by the roof (``app.py``) and handed along. No module reaches for any of it otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from tollway.pipeline.client_secrets import ClientSecrets
from tollway.pipeline.holdings import Holdings
from tollway.pipeline.record import Journal
from tollway.pipeline.snapshot import Snapshot
from tollway.providers.upstream import Upstream
from tollway.shared.interface import Counters

if TYPE_CHECKING:  # the tokenizer is imported with the first count, the store of responses where there is one
    from tollway.pipeline.background_responses import Background
    from tollway.pipeline.stored_responses import StoredResponses
    from tollway.tokens.counter import Counter


class Contents(Protocol):
    """Keeps request and answer texts where the configuration asks for it. Dropped, and counted, under pressure."""

    limit: int
    """Bytes kept of each side."""

    def wants(self, failed: bool) -> bool: ...

    def offer(self, event_id: str, request: bytes, answer: bytes) -> None: ...


class Tally:
    """Counts of this process, for status pages: requests by how they ended."""

    def __init__(self) -> None:
        self.requests = 0
        self.refused: dict[str, int] = {}

    def refuse(self, code: str) -> None:
        self.refused[code] = self.refused.get(code, 0) + 1


class Services:
    """``snapshot`` is the one thing that is swapped while the process runs. ``full`` tells other processes of a
    deployment (by id) that takes no requests for so many seconds."""

    def __init__(
        self,
        *,
        snapshot: Snapshot,
        counters: Counters,
        upstream: Upstream,
        journal: Journal,
        contents: Contents | None,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        jitter: Callable[[], float],
        tokens: Callable[[], Counter],
        holdings: Holdings,
        tally: Tally | None = None,
        responses: StoredResponses | None = None,
        background: Background | None = None,
        full: Callable[[str, float], None] | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.counters = counters
        self.upstream = upstream
        self.journal = journal
        self.contents = contents
        self.clock = clock
        self.wall_clock = wall_clock
        self.jitter = jitter
        self.tokens = tokens
        self.holdings = holdings
        self.tally = tally or Tally()
        self.responses = responses
        self.background = background
        self.full = full
        self.client_secrets = ClientSecrets()
