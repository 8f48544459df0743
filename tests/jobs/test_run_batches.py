from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from tollway.errors import StoreUnavailable
from tollway.jobs.mind_objects import STEP, MindObjects
from tollway.jobs.run_batches import CONCURRENCY, TRIES, RunBatches, Served, State
from tollway.model.artifact import LOCAL, Artifact

OK = Served(200, "req_1", b'{"answer": 1}')


class Keeper:
    """What the hallway's registry and its table are to the jobs."""

    def __init__(self) -> None:
        self.known: dict[str, Artifact] = {}

    async def artifact(self, id: str) -> Artifact | None:
        return self.known.get(id)

    async def keep(self, artifacts: Iterable[Artifact]) -> None:
        self.known.update((one.id, one) for one in artifacts)

    async def unsettled(self) -> list[Artifact]:
        return [one for one in self.known.values() if one.kind == "batch" and not one.settled]

    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.known["batch_1"].shown)
        return found


class Hallway:
    """Answers by line; ``answers`` are taken in order before ``usual``."""

    def __init__(self, usual: Served = OK) -> None:
        self.usual = usual
        self.answers: dict[str, list[Served]] = {}
        self.asked: list[str] = []
        self.at_once = 0
        self.most = 0
        self.close_at = 0
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, owner: str, url: str, body: bytes) -> Served:
        assert (owner, url) == ("key_a", "/v1/chat/completions")
        said = json.loads(body)["n"]
        self.asked.append(said)
        if len(self.asked) == self.close_at:
            self.open.clear()
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await asyncio.sleep(0)
            await self.open.wait()
        finally:
            self.at_once -= 1
        waiting = self.answers.get(said)
        return waiting.pop(0) if waiting else self.usual


def batch(folder: Path, count: int, **told: object) -> Keeper:
    shown = {
        "id": "batch_1", "object": "batch", "status": "validating", "expires_at": int(time.time()) + 60,
        "in_progress_at": None, "request_counts": {"total": 0, "completed": 0, "failed": 0}, **told,
    }  # fmt: skip
    line = '{{"custom_id": "c{0}", "url": "/v1/chat/completions", "body": {{"n": "{0}", "stream": true}}}}\n'
    (folder / "in").write_text("".join(line.format(n) for n in range(count)))
    keeper = Keeper()
    state = State(input="in", output="out", errors="err")
    keeper.known["batch_1"] = Artifact(
        id="batch_1", kind="batch", provider=LOCAL, owner="key_a", team="t", settled=False,
        shown=msgspec.json.encode(shown), state=msgspec.json.encode(state),
    )  # fmt: skip
    return keeper


@asynccontextmanager
async def running(keeper: Keeper, folder: Path, serve: Hallway) -> AsyncIterator[RunBatches]:
    job = RunBatches(keeper, keeper.unsettled, folder, serve, time.time)
    task = asyncio.ensure_future(job.run())
    try:
        yield job
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def over(keeper: Keeper) -> Callable[[], bool]:
    return lambda: keeper.known["batch_1"].settled


def results(folder: Path, name: str) -> list[Any]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


async def test_every_line_once_and_a_bounded_number_at_a_time(tmp_path: Path) -> None:
    keeper, serve = batch(tmp_path, 50), Hallway()
    serve.answers["7"] = [Served(402, "req_7", b'{"error": {}}')]
    async with running(keeper, tmp_path, serve):
        await until(over(keeper))
    assert sorted(serve.asked, key=int) == [str(n) for n in range(50)]
    assert serve.most == CONCURRENCY
    told = keeper.told()
    assert told["status"] == "completed"
    assert told["request_counts"] == {"total": 50, "completed": 49, "failed": 1}
    assert (told["output_file_id"], told["error_file_id"]) == ("out", "err")
    assert [one["custom_id"] for one in results(tmp_path, "err")] == ["c7"]
    assert results(tmp_path, "out")[0]["response"]["body"] == {"answer": 1}
    output = keeper.known["out"]
    assert (output.owner, output.team, output.kind, output.provider) == ("key_a", "t", "file", LOCAL)
    assert not list(tmp_path.glob("*.part"))


async def test_goes_on_behind_what_was_done_a_torn_line_aside(tmp_path: Path) -> None:
    keeper, serve = batch(tmp_path, 5), Hallway()
    (tmp_path / "out.part").write_text('{"custom_id": "c0"}\n{"custom_id": "c1"}\n{"custom_id": "c2", "resp')
    (tmp_path / "err.part").write_text('{"custom_id": "c3"}\n')
    async with running(keeper, tmp_path, serve):
        await until(over(keeper))
    assert sorted(serve.asked) == ["2", "4"]
    assert keeper.told()["request_counts"] == {"total": 5, "completed": 4, "failed": 1}
    assert sorted(one["custom_id"] for one in results(tmp_path, "out")) == ["c0", "c1", "c2", "c4"]


async def test_a_stop_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    keeper, serve = batch(tmp_path, 30), Hallway()
    serve.close_at = 12
    async with running(keeper, tmp_path, serve):
        await until(lambda: serve.at_once == CONCURRENCY and not serve.open.is_set())
    assert not keeper.known["batch_1"].settled
    again = Hallway()
    async with running(keeper, tmp_path, again):
        await until(over(keeper))
    assert len(again.asked) < 30
    assert sorted(one["custom_id"] for one in results(tmp_path, "out")) == sorted(f"c{n}" for n in range(30))


async def test_a_limit_is_waited_for(tmp_path: Path) -> None:
    keeper, serve = batch(tmp_path, 2), Hallway()
    serve.answers["1"] = [Served(429, "r", b"{}", 0.05), Served(503, "r", b"{}", 0.05), OK]
    async with running(keeper, tmp_path, serve):
        await until(over(keeper))
    assert serve.asked.count("1") == 3
    assert keeper.told()["request_counts"] == {"total": 2, "completed": 2, "failed": 0}


async def test_a_limit_that_never_ends_does(tmp_path: Path) -> None:
    keeper, serve = batch(tmp_path, 1), Hallway(Served(429, "r", b"{}", 0.0))
    async with running(keeper, tmp_path, serve):
        await until(over(keeper))
    assert len(serve.asked) == TRIES
    assert keeper.told()["request_counts"] == {"total": 1, "completed": 0, "failed": 1}


async def test_cancelled(tmp_path: Path) -> None:
    keeper, serve = batch(tmp_path, 100), Hallway()
    serve.open.clear()
    async with running(keeper, tmp_path, serve) as job:
        await until(lambda: len(serve.asked) == CONCURRENCY)
        known = keeper.known["batch_1"]
        state = State(input="in", output="out", errors="err", cancelled=True)
        await keeper.keep([msgspec.structs.replace(known, state=msgspec.json.encode(state))])
        job.wake()
        serve.open.set()
        await until(over(keeper))
    told = keeper.told()
    assert told["status"] == "cancelled"
    assert told["request_counts"]["completed"] == CONCURRENCY == len(results(tmp_path, "out"))


async def test_expired(tmp_path: Path) -> None:
    keeper, serve = batch(tmp_path, 3, expires_at=1), Hallway()
    async with running(keeper, tmp_path, serve):
        await until(over(keeper))
    assert keeper.told()["status"] == "expired"
    assert serve.asked == []


async def test_without_its_file(tmp_path: Path) -> None:
    keeper, serve = batch(tmp_path, 3), Hallway()
    (tmp_path / "in").unlink()
    async with running(keeper, tmp_path, serve):
        await until(over(keeper))
    assert keeper.told()["status"] == "failed"
    assert "cannot be read" in keeper.told()["errors"]["data"][0]["message"]


async def test_the_database_may_be_away(tmp_path: Path) -> None:
    keeper, serve = batch(tmp_path, 1), Hallway()
    away = [True]

    async def unsettled() -> list[Artifact]:
        if away[0]:
            raise StoreUnavailable("away")
        return await keeper.unsettled()

    job = RunBatches(keeper, unsettled, tmp_path, serve, time.time)
    task = asyncio.ensure_future(job.run())
    await asyncio.sleep(0.05)
    away[0] = False
    job.wake()
    await until(over(keeper))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_minding_asks_after_what_is_not_settled() -> None:
    class Rows:
        async def unsettled(self, kind: str, local: bool) -> list[Artifact]:
            assert (kind, local) == ("batch", False)
            return [Artifact(id=f"batch_{n}", kind="batch", provider="p", owner="o") for n in range(3)]

        async def purge(self, now: float, most: int) -> int:
            return most - 1

        async def flush(self) -> None: ...

    asked: list[str] = []

    async def ask(one: Artifact) -> None:
        asked.append(one.id)

    job = MindObjects(Rows(), Rows(), ask, time.time)
    await job.settle()
    assert asked == ["batch_0", "batch_1", "batch_2"]
    assert await job.purge() == STEP - 1
