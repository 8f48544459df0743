"""Runs the batches this gateway keeps itself: each line through the hallway on behalf of the batch's owner, so that
budgets, limits and allow-lists hold. Results are appended line by line; after a restart a batch goes on behind them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from tollway.errors import StoreUnavailable
from tollway.model.artifact import LOCAL, Artifact

log = logging.getLogger("tollway.batches")

CONCURRENCY = 8
"""Lines of a batch that are under way at the same time."""

BATCHES = 4
"""Batches that are worked at at the same time; the others wait their turn, oldest first."""

LOOK = 5.0
TELL = 1.0
"""Seconds between two looks for work, and between two notes of how far a batch is."""

TRIES = 12
AGAIN = frozenset((429, 500, 502, 503, 504, 529))
LONGEST_WAIT = 60.0

_encode = msgspec.json.Encoder().encode


class Served(Struct, frozen=True):
    """What came of a line: ``body`` is JSON; ``retry_after`` seconds, where the refusal said so."""

    status: int
    request_id: str
    body: bytes
    retry_after: float | None = None


class Line(Struct):
    custom_id: str
    url: str
    body: dict[str, Raw]


class State(Struct, kw_only=True):
    """The runner's own note on a batch (``pipeline/local_objects.py`` writes the first)."""

    input: str
    output: str
    errors: str
    cancelled: bool = False


def has_files(batch: Artifact, folder: Path) -> bool:
    """Whether what the batch is to work at lies in this folder."""
    return (folder / msgspec.json.decode(batch.state, type=State).input).exists()


class Keeper(Protocol):
    """Where artifacts are kept."""

    async def artifact(self, id: str) -> Artifact | None: ...

    async def keep(self, artifacts: Iterable[Artifact]) -> None: ...


Unsettled = Callable[[], Awaitable[list[Artifact]]]
Serve = Callable[[str, str, bytes], Awaitable[Served]]
"""(owner, url, body) to what the owner would have been answered."""

_line = msgspec.json.Decoder(Line).decode


class RunBatches:
    """``folder`` holds the files by id, ``wall_clock`` gives Unix seconds. ``run`` works until it is cancelled."""

    def __init__(
        self,
        keeper: Keeper,
        unsettled: Unsettled,
        folder: Path,
        serve: Serve,
        wall_clock: Callable[[], float],
    ) -> None:
        self._keeper = keeper
        self._unsettled = unsettled
        self._folder = folder
        self._serve = serve
        self._wall_clock = wall_clock
        self._running: dict[str, asyncio.Task[None]] = {}
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        try:
            while True:
                self._woken.clear()
                try:
                    await self._begin()
                except StoreUnavailable as error:
                    log.warning("batches wait for the database: %s", error)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK):
                        await self._woken.wait()
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _begin(self) -> None:
        for artifact in await self._unsettled():
            if len(self._running) >= BATCHES:
                return
            if artifact.id not in self._running:
                task = asyncio.get_running_loop().create_task(self._batch(artifact.id))
                self._running[artifact.id] = task
                task.add_done_callback(partial(self._ended, artifact.id))

    def _ended(self, id: str, task: asyncio.Task[None]) -> None:
        self._running.pop(id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("batch %s broke off and is tried again", id, exc_info=error)
        self.wake()

    async def _batch(self, id: str) -> None:
        batch = await self._keeper.artifact(id)
        if batch is None or batch.settled:
            return
        run = _Run(batch, self._folder)
        try:
            total = await asyncio.to_thread(run.open)
        except OSError as error:
            await self._finish(run, "failed", f"The batch's files cannot be read: {error.strerror or error}.")
            return
        told = run.told
        if told["status"] == "validating":
            told["status"] = "in_progress"
            told["in_progress_at"] = int(self._wall_clock())
        told["request_counts"]["total"] = total
        await self._tell(run)
        telling = asyncio.get_running_loop().create_task(self._keep_telling(run))
        try:
            await self._lines(run)
        finally:
            telling.cancel()
            await asyncio.wait((telling,))
            run.close()
        if run.cancelled:
            await self._finish(run, "cancelled")
        elif run.expired:
            await self._finish(run, "expired")
        else:
            await self._finish(run, "completed")

    async def _lines(self, run: _Run) -> None:
        room = asyncio.Semaphore(CONCURRENCY)
        lines: set[asyncio.Task[None]] = set()
        failures: list[BaseException] = []

        def done(task: asyncio.Task[None]) -> None:
            room.release()
            lines.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                failures.append(error)

        try:
            with (self._folder / run.state.input).open("rb") as file:
                for raw in file:
                    if not raw.strip():
                        continue
                    await room.acquire()
                    if await self._stop(run) or failures:
                        room.release()
                        break
                    line = _line(raw)
                    if line.custom_id in run.done:
                        room.release()
                        continue
                    task = asyncio.get_running_loop().create_task(self._one(run, line))
                    lines.add(task)
                    task.add_done_callback(done)
            while lines:
                await asyncio.wait(lines)
        finally:
            for task in lines:
                task.cancel()
        if failures:
            raise failures[0]

    async def _stop(self, run: _Run) -> bool:
        if self._wall_clock() >= run.told["expires_at"]:
            run.expired = True
        latest = await self._keeper.artifact(run.batch.id)
        if latest is not None and msgspec.json.decode(latest.state, type=State).cancelled:
            run.cancelled = True
        return run.expired or run.cancelled

    async def _one(self, run: _Run, line: Line) -> None:
        body = {name: value for name, value in line.body.items() if name not in ("stream", "stream_options")}
        encoded = _encode(body)
        wait = 0.5
        for number in range(1, TRIES + 1):
            served = await self._serve(run.batch.owner, line.url, encoded)
            if served.status not in AGAIN or number == TRIES:
                break
            if await self._stop(run):
                return
            pause = wait if served.retry_after is None else max(served.retry_after, 0.05)
            await asyncio.sleep(min(pause, LONGEST_WAIT))
            wait = min(wait * 2, LONGEST_WAIT)
        run.write(line.custom_id, served)

    async def _keep_telling(self, run: _Run) -> None:
        while True:
            await asyncio.sleep(TELL)
            if run.changed:
                await self._tell(run)

    async def _tell(self, run: _Run) -> None:
        """Note how far the batch is, and what was asked of it meanwhile."""
        run.changed = False
        latest = await self._keeper.artifact(run.batch.id) or run.batch
        told = msgspec.json.decode(latest.shown)
        for name in ("status", "in_progress_at", "request_counts"):
            if name != "status" or told["status"] not in ("cancelling",):
                told[name] = run.told[name]
        await self._keeper.keep([replace(latest, shown=_encode(told))])

    async def _finish(self, run: _Run, status: str, problem: str | None = None) -> None:
        now = self._wall_clock()
        latest = await self._keeper.artifact(run.batch.id) or run.batch
        told = msgspec.json.decode(latest.shown) | {"request_counts": run.told["request_counts"]}
        told |= {"status": status, f"{status}_at": int(now)}
        if status == "completed":
            told["finalizing_at"] = int(now)
        if problem is not None:
            told["errors"] = {"object": "list", "data": [{"code": "internal", "message": problem}]}
        made = []
        for name, id, kind in (
            ("output_file_id", run.state.output, "output"),
            ("error_file_id", run.state.errors, "errors"),
        ):
            size = await asyncio.to_thread(run.complete, id)
            if not size:
                continue
            told[name] = id
            shown = {
                "id": id,
                "object": "file",
                "bytes": size,
                "created_at": int(now),
                "filename": f"{run.batch.id}_{kind}.jsonl",
                "purpose": "batch_output",
                "status": "processed",
                "expires_at": None,
                "status_details": None,
            }
            made.append(
                Artifact(
                    id=id,
                    kind="file",
                    provider=LOCAL,
                    owner=run.batch.owner,
                    team=run.batch.team,
                    purpose="batch_output",
                    created=now,
                    shown=_encode(shown),
                )
            )
        await self._keeper.keep([*made, replace(latest, settled=True, shown=_encode(told))])


class _Run:
    """A batch being worked at: its result files, and which lines they have already."""

    def __init__(self, batch: Artifact, folder: Path) -> None:
        self.batch = batch
        self.told: dict[str, Any] = msgspec.json.decode(batch.shown)
        self.state = msgspec.json.decode(batch.state, type=State)
        self.done: set[str] = set()
        self.cancelled = False
        self.expired = False
        self.changed = False
        self._folder = folder
        self._files: dict[str, IO[bytes]] = {}

    def open(self) -> int:
        """Read what is there already; returns the number of lines. Raises OSError."""
        counts = self.told["request_counts"]
        for id, name in ((self.state.output, "completed"), (self.state.errors, "failed")):
            path = self._part(id)
            known = 0
            whole = 0
            if path.exists():
                with path.open("rb") as file:
                    for raw in file:
                        if not raw.endswith(b"\n"):
                            break  # torn when we were stopped: the line is run again
                        self.done.add(msgspec.json.decode(raw)["custom_id"])
                        known += 1
                        whole += len(raw)
                os.truncate(path, whole)
            counts[name] = known
            self._files[id] = path.open("ab")
        with (self._folder / self.state.input).open("rb") as file:
            return sum(1 for raw in file if raw.strip())

    def write(self, custom_id: str, served: Served) -> None:
        """Append a result; it is in the file before the next line's is."""
        good = 200 <= served.status < 300
        body = served.body if served.body.strip() else b"null"
        result = {
            "id": f"batch_{served.request_id}",
            "custom_id": custom_id,
            "response": {"status_code": served.status, "request_id": served.request_id, "body": Raw(body)},
            "error": None,
        }
        file = self._files[self.state.output if good else self.state.errors]
        file.write(msgspec.json.format(_encode(result), indent=-1) + b"\n")
        file.flush()
        self.told["request_counts"]["completed" if good else "failed"] += 1
        self.changed = True

    def complete(self, id: str) -> int:
        """Give a result file its name; returns its size, 0 for one that is empty and goes."""
        path = self._part(id)
        final = self._folder / id
        if path.exists():
            with path.open("rb") as file:
                os.fsync(file.fileno())
            if path.stat().st_size:
                path.replace(final)
            else:
                path.unlink()
        return final.stat().st_size if final.exists() else 0

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _part(self, id: str) -> Path:
        return self._folder / f"{id}.part"
