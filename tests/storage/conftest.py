from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tollway.config.settings import SpoolSettings
from tollway.model.event import UsageEvent
from tollway.model.usage import Usage
from tollway.storage.engine import Database
from tollway.storage.repositories.ledger import Ledger, read_entry
from tollway.storage.segments import Position
from tollway.storage.spool import Spool
from tollway.storage.sqlite import SqliteDatabase

MakeSpool = Callable[..., Spool]
Store = Callable[..., "object"]


@pytest.fixture
def make_spool(tmp_path: Path) -> Iterator[MakeSpool]:
    """Opens spools that are closed at the end. Small segments: 80 KiB, at most ten."""
    opened: list[Spool] = []

    def make(directory: Path = tmp_path / "spool", segments: int = 10, size: int = 80 * 1024) -> Spool:
        settings = SpoolSettings(segment_bytes=size, max_bytes=segments * size, fsync=0.05)
        spool = Spool(directory, settings)
        opened.append(spool)
        return spool

    yield make
    for spool in opened:
        if spool._fd >= 0:
            spool.close()


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of one megabyte, or of as many as the test says."""
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={getattr(request, 'param', 1)}m", "tmpfs", mount],
        capture_output=True,
    )
    if done.returncode != 0:
        pytest.skip("mounting a small file system is not allowed here")
    yield mount
    subprocess.run(["umount", "-l", mount], check=True)


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    opened = Database.open("sqlite:///ledger.db", tmp_path)
    assert isinstance(opened, SqliteDatabase)
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """Empty and migrated, of either kind: what is tested on it holds for both."""
    if request.param == "postgres":
        opened = Database.open(request.getfixturevalue("postgres_database"), tmp_path)
    else:
        opened = Database.open("sqlite:///ledger.db", tmp_path)
        await opened.migrate()
    yield opened
    await opened.close()


def usage_event(number: int, **changes: object) -> UsageEvent:
    event = UsageEvent(
        id=f"ue_req_{number:06d}_1",
        request_id=f"req_{number:06d}",
        time="2026-11-20T10:00:00.000Z",
        key="ci",
        key_id="key_1",
        team="core",
        endpoint="chat.completions",
        model="fast",
        provider="openai",
        upstream_model="gpt-5-mini",
        deployment="openai/gpt-5-mini",
        status=200,
        outcome="ok",
        usage=Usage(input=42, output=31),
        cost_nano_usd=100,
        raw_usage=msgspec.Raw(b'{"prompt_tokens":42,\n"completion_tokens":31}'),
    )
    return msgspec.structs.replace(event, **changes)


@pytest.fixture
def make_event() -> Callable[..., UsageEvent]:
    return usage_event


@pytest.fixture
def store(database: Database) -> Callable[..., object]:
    """Stores events through the ledger, in batches, as the writer does."""
    place = [Position(0, 0)]

    async def put(*stored: UsageEvent) -> None:
        ledger = Ledger(database)
        for at in range(0, len(stored), 256):
            entries = [read_entry(msgspec.json.encode(event)) for event in stored[at : at + 256]]
            after = Position(1, place[0].offset + 100)
            await ledger.append(entries, "spool", place[0], after)
            place[0] = after

    return put
