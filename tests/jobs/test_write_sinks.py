from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from tollway.config.settings import SinkSettings
from tollway.jobs.write_ledger import LedgerWriter
from tollway.jobs.write_sinks import SinkWriter
from tollway.sinks import open_sinks
from tollway.sinks.file import FileSink
from tollway.storage.engine import Database
from tollway.storage.repositories.events import Events
from tollway.storage.spool import Spool


class Slow:
    """A sink that takes nothing until it is let."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.let = asyncio.Event()

    async def write(self, batch: Sequence[bytes]) -> None:
        await self.let.wait()
        self.taken += batch

    async def close(self) -> None:
        return None


def ids(path: Path) -> list[str]:
    return [msgspec.json.decode(line)["id"] for line in path.read_bytes().splitlines()]


async def test_without_a_database_the_sinks_are_the_ledger(spool: Spool, put, event, tmp_path: Path) -> None:
    settings = (SinkSettings(type="file", path="a.ndjson"), SinkSettings(type="file", path="b/b.ndjson"))
    writer = SinkWriter(spool, open_sinks(settings, tmp_path), holds=True)
    put(*(event(n) for n in range(700)))
    assert await writer.drain(5)
    expected = [f"ue_{n:06d}" for n in range(700)]
    assert ids(tmp_path / "a.ndjson") == expected
    assert ids(tmp_path / "b" / "b.ndjson") == expected
    put(event(700))
    following = SinkWriter(spool, open_sinks(settings, tmp_path), holds=True)
    assert await following.drain(5)
    assert ids(tmp_path / "a.ndjson") == [*expected, "ue_000700"]
    assert spool.overrun == 0


async def test_what_the_sinks_have_not_taken_is_held(spool: Spool, put, event) -> None:
    slow = Slow()
    writer = SinkWriter(spool, [slow], holds=True)
    put(*(event(n) for n in range(2000)))
    assert not await writer.drain(0.1)
    slow.let.set()
    assert await writer.drain(5)
    assert len(slow.taken) == 2000
    assert spool.overrun == 0


async def test_a_slow_sink_does_not_stop_the_ledger(spool: Spool, database: Database, put, event) -> None:
    slow = Slow()
    sinks = SinkWriter(spool, [slow], holds=False)
    ledger = LedgerWriter(spool, database)
    stuck = asyncio.create_task(sinks.drain(10))
    put(*(event(n) for n in range(2000)))
    assert await ledger.drain(5)
    assert await Events(database).count() == 2000
    assert spool.overrun > 0
    slow.let.set()
    assert await stuck
    assert await sinks.drain(5)
    assert 256 < len(slow.taken) < 2000
    assert slow.taken[-1] == event(1999)


async def test_a_sink_that_failed_is_tried_again_and_the_others_not(
    spool: Spool, put, event, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.ndjson", tmp_path / "bad" / "bad.ndjson"
    (tmp_path / "bad").write_text("in the way")
    writer = SinkWriter(spool, [FileSink(good), FileSink(bad)], holds=True)
    put(event(1), event(2))
    assert not await writer.drain(0.3)
    assert "log sinks" in (writer.degraded or "")
    assert ids(good) == ["ue_000001", "ue_000002"]
    os.remove(tmp_path / "bad")
    assert await writer.drain(5)
    assert writer.degraded is None
    assert ids(bad) == ids(good) == ["ue_000001", "ue_000002"]


@pytest.mark.parametrize("content", [b"", b"rubbish", b"[99,0]"])
async def test_a_position_that_is_none_begins_anew(spool: Spool, put, event, tmp_path: Path, content) -> None:
    (spool.directory / "sinks.position").write_bytes(content)
    put(event(1))
    writer = SinkWriter(spool, [FileSink(tmp_path / "out.ndjson")], holds=True)
    assert await writer.drain(5)
    assert ids(tmp_path / "out.ndjson") == ["ue_000001"]
