from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tollway.config.settings import SpoolSettings
from tollway.model.event import UsageEvent
from tollway.model.usage import Usage
from tollway.storage.engine import Database
from tollway.storage.spool import Spool

SEGMENT = 80 * 1024


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    settings = SpoolSettings(segment_bytes=SEGMENT, max_bytes=100 * SEGMENT, fsync=0.05)
    opened = Spool(tmp_path / "spool", settings)
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """Empty and migrated, of either kind."""
    if request.param == "postgres":
        opened = Database.open(request.getfixturevalue("postgres_database"), tmp_path)
    else:
        opened = Database.open("sqlite:///ledger.db", tmp_path)
        await opened.migrate()
    yield opened
    await opened.close()


@pytest.fixture
def event() -> Callable[..., bytes]:
    def make(number: int, **changes: object) -> bytes:
        made = UsageEvent(
            id=f"ue_{number:06d}",
            request_id=f"req_{number:06d}",
            time=f"2026-11-{10 + number % 3}T10:00:00.{number % 1000:03d}Z",
            key=f"key {number % 4}",
            key_id=f"key_{number % 4}",
            endpoint="chat.completions",
            model="fast",
            provider="openai",
            upstream_model="gpt-5-mini",
            deployment="openai/gpt-5-mini",
            status=200,
            outcome="ok",
            usage=Usage(input=42, output=31),
            cost_nano_usd=100 + number,
            raw_usage=msgspec.Raw(b'{"prompt_tokens":42,\n"completion_tokens":31}'),
        )
        return msgspec.json.encode(msgspec.structs.replace(made, **changes))

    return make


@pytest.fixture
def put(spool: Spool) -> Callable[..., None]:
    def append(*records: bytes) -> None:
        for record in records:
            spool.enter()
            spool.append(record)
            spool.leave()

    return append
