"""What ``doctor`` asks of the database and the spool, beside a server that may be using both. Changes
nothing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tollway.cli.checks import Finding
from tollway.config.settings import Settings
from tollway.errors import StoreUnavailable
from tollway.model.event import UsageFilter
from tollway.storage.engine import Database
from tollway.storage.migrations import HEAD, version
from tollway.storage.repositories.events import Events
from tollway.storage.repositories.ledger import Ledger
from tollway.storage.segments import BEGINNING, Position, segment_numbers, segment_path, split

_CHUNK = 4 * 1024 * 1024
_COUNTED = 64 * _CHUNK
_BEHIND = 1000


def database(settings: Settings) -> list[Finding]:
    """Answers, takes writes, has this version's tables; how far the ledger is behind the spool."""
    if settings.database is None:
        return [
            Finding(
                check="database",
                state="ok",
                found="none: keys live in the file, nothing is recorded beyond this process",
            )
        ]
    opened = Database.open(settings.database, Path(settings.data_dir))
    if opened.missing():
        return [Finding(check="database", state="ok", found=f"{opened.name} will be made at the first start")]

    async def look() -> list[Finding]:
        try:
            found = await opened.read(version, deadline=3.0)
            await opened.write(lambda connection: None, deadline=6.0)
            if found is None:
                return [
                    Finding(check="database", state="ok", found=f"{opened.name} is empty and will be filled")
                ]
            return [_schema(opened.name, found), await _ledger(settings, opened), *await _newest(opened)]
        except StoreUnavailable as error:
            advice = (
                "check the file, its permissions, the disk, and who else has it open; "
                "of a server its address, user, password and disk"
            )
            return [Finding(check="database", state="fail", found=error.message, advice=advice)]
        finally:
            await opened.close()

    return asyncio.run(look())


def _schema(name: str, found: str) -> Finding:
    if found == HEAD:
        return Finding(check="database", state="ok", found=f"{name} answers, schema {found}")
    if found < HEAD:
        return Finding(
            check="database",
            state="warn",
            found=f"{name} has schema {found}, this release {HEAD}",
            advice="the next start upgrades it (`tollway migrate --plan` shows how); keep a copy before",
        )
    return Finding(
        check="database",
        state="warn",
        found=f"{name} has schema {found}, newer than this release's {HEAD}",
        advice="use the newer release again",
    )


async def _ledger(settings: Settings, opened: Database) -> Finding:
    """Counts the spooled events the ledger has not stored yet, without disturbing a server that owns the
    spool."""
    directory = Path(settings.data_dir) / "spool"
    try:
        name = (directory / "id").read_text().strip()
    except FileNotFoundError:
        return Finding(check="ledger", state="ok", found="no event was spooled yet")
    except OSError as error:
        return Finding(
            check="ledger",
            state="fail",
            found=f"the spool in {directory} cannot be read: {error.strerror}",
            advice="run doctor as the user the server runs as",
        )
    waiting = await asyncio.to_thread(_waiting, directory, await Ledger(opened).position(name))
    if (directory / "quarantine.ndjson").exists():
        return Finding(
            check="ledger",
            state="warn",
            found=f"{waiting} events wait; some records were put aside in {directory / 'quarantine.ndjson'}",
            advice="look at the file: each line says why the record could not be read",
        )
    if waiting > _BEHIND:
        return Finding(
            check="ledger",
            state="warn",
            found=f"{waiting} events wait in the spool for the database",
            advice="if no server runs, start one; else look for database errors in its log",
        )
    return Finding(check="ledger", state="ok", found=f"{waiting} events wait in the spool for the database")


def _waiting(directory: Path, position: Position) -> int:
    """Whole records behind a position; at most ``_COUNTED`` bytes are looked at."""
    count, seen = 0, 0
    for number in segment_numbers(directory):
        if number < position.segment:
            continue
        offset = position.offset if number == position.segment and position != BEGINNING else 0
        try:
            with segment_path(directory, number).open("rb") as file:
                while seen < _COUNTED:
                    file.seek(offset)
                    chunk = file.read(_CHUNK)
                    found = split(chunk, len(chunk))
                    count, seen, offset = count + len(found.records), seen + found.used, offset + found.used
                    if found.stopped or found.used == 0:
                        break
        except FileNotFoundError:
            continue  # the server took it meanwhile
    return count


async def _newest(opened: Database) -> list[Finding]:
    """Events from the future: the clock was ahead once, or is behind now."""
    ahead = datetime.now(UTC) + timedelta(minutes=5)
    late = await Events(opened).count(
        UsageFilter(since=ahead.isoformat(timespec="milliseconds").replace("+00:00", "Z"))
    )
    if not late:
        return []
    return [
        Finding(
            check="clock",
            state="warn",
            found=f"the ledger holds {late} events from the future",
            advice="set the clock (NTP); budgets count by time",
        )
    ]
