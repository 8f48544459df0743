"""Runs the real command with an empty home, and fills a ledger to look at."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from tollway.cli import cli
from tollway.model.event import UsageEvent
from tollway.storage.engine import Database
from tollway.storage.repositories.ledger import Ledger, read_entry
from tollway.storage.segments import BEGINNING, Position

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TOLLWAY_DATA_DIR": str(home / "data"),
    }


@pytest.fixture
def tollway(home: Path, environment: dict[str, str]) -> Run:
    """``tollway("keys", "list", NAME="value")``: arguments, and variables besides the barest."""

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tollway", *arguments],
            env={**environment, **environ},
            cwd=home / "work",
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    return run


@pytest.fixture
def inside(home: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same within this process, which is faster."""
    monkeypatch.chdir(home / "work")
    for name in os.environ:
        if name not in environment and ("TOLLWAY" in name or name.endswith("_KEY")):
            monkeypatch.delenv(name)

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        done = CliRunner(env={**environment, **environ}).invoke(cli, arguments)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture
def record(home: Path) -> Callable[[Sequence[UsageEvent]], None]:
    """Stores events as the server's follower would."""

    def run(events: Sequence[UsageEvent]) -> None:
        async def store() -> None:
            database = Database.open("sqlite:///tollway.db", home / "data")
            try:
                await database.migrate()
                entries = [read_entry(msgspec.json.encode(event)) for event in events]
                await Ledger(database).append(entries, "test", BEGINNING, Position(1, 1))
            finally:
                await database.close()

        asyncio.run(store())

    return run
