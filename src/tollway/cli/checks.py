"""What ``doctor`` looks at on this machine: files, disk, database, spool, clock, prices, descriptors. Changes
nothing."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Literal

from msgspec import Struct

from tollway.config.settings import Settings
from tollway.pricing.book import PriceBook
from tollway.providers.catalog import Catalog

State = Literal["ok", "warn", "fail"]

_MIB = 1024 * 1024
_ROOM = 1024 * _MIB
_OLD_BOOK = 90
_DESCRIPTORS_BESIDE = 256


class Finding(Struct, frozen=True, kw_only=True):
    """What one check found, and what to do about it (empty where nothing is to be done)."""

    check: str
    state: State
    found: str
    advice: str = ""


def data_directory(settings: Settings) -> Finding:
    """Writable, or makeable, with room for the spool."""
    directory = Path(settings.data_dir)
    place = directory
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"x")
        free = shutil.disk_usage(place).free
    except OSError as error:
        reason = error.strerror or "not usable"
        return Finding(
            check="data directory",
            state="fail",
            found=f"{place} is not writable: {reason}",
            advice="make it writable, or name another one with TOLLWAY_DATA_DIR",
        )
    found = f"{directory} {'is writable' if place == directory else 'will be made'}, {_size(free)} free"
    if free < 2 * settings.spool.segment_bytes:
        return Finding(
            check="data directory",
            state="fail",
            found=found,
            advice="free some room: without two spool segments requests are refused",
        )
    if free < min(_ROOM, settings.spool.max_bytes):
        return Finding(
            check="data directory", state="warn", found=found, advice="free some room on this disk"
        )
    return Finding(check="data directory", state="ok", found=found)


def named_files(settings: Settings) -> list[Finding]:
    """Certificates and authorities the configuration names, where they cannot be read."""
    named = [("server.tls_cert", settings.server.tls_cert), ("server.tls_key", settings.server.tls_key)]
    named += [(f"providers.{each.name}.ca_file", each.ca_file) for each in settings.providers]
    findings = []
    for setting, path in named:
        if path is not None and not os.access(path, os.R_OK):
            findings.append(
                Finding(
                    check="files",
                    state="fail",
                    found=f"{setting}: {path} cannot be read",
                    advice="correct the path or the file's permissions",
                )
            )
    return findings


def clock(book: PriceBook) -> Finding:
    """Not before this release was made; budgets and certificates depend on it."""
    now = datetime.now(UTC)
    made = _book_day(book)
    shown = now.strftime("%Y-%m-%d %H:%M:%S UTC")
    if now.date() < made - timedelta(days=1) or now.year > made.year + 20:
        return Finding(
            check="clock",
            state="fail",
            found=f"it is {shown}, but this release was made on {made}",
            advice="set the clock (NTP); budgets and certificates depend on it",
        )
    return Finding(check="clock", state="ok", found=shown)


def prices(settings: Settings, book: PriceBook, catalog: Catalog) -> list[Finding]:
    """How old the book is, and which configured targets have no price."""
    from tollway.cli.config import priced

    days = (datetime.now(UTC).date() - _book_day(book)).days
    findings = [Finding(check="price book", state="ok", found=f"{book.version}, {max(days, 0)} days old")]
    if days > _OLD_BOOK:
        advice = "a newer release has newer prices; or set your own beside the targets"
        findings = [
            Finding(check="price book", state="warn", found=f"{book.version}, {days} days old", advice=advice)
        ]
    sheets = {each.name: catalog[each.type].price_sheet for each in settings.providers}
    targets = {target.model: target for model in settings.models for target in model.targets}
    unknown = [
        name
        for name, target in targets.items()
        if priced(target, sheets[name.partition("/")[0]], book) == "unknown"
    ]
    if unknown:
        some = ", ".join(unknown[:3]) + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else "")
        findings.append(
            Finding(
                check="prices",
                state="warn",
                found=f"{len(unknown)} of {len(targets)} targets are unpriced: {some}",
                advice="give them a price: in the configuration, or their cost stays unknown",
            )
        )
    elif targets:
        findings.append(Finding(check="prices", state="ok", found=f"all {len(targets)} targets have a price"))
    return findings


def descriptors(settings: Settings) -> Finding:
    """Every connection takes a file descriptor, those of clients and those to providers."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Finding(check="file descriptors", state="ok", found="unlimited")
    wanted = settings.server.max_connections * 2 + _DESCRIPTORS_BESIDE
    serves = max(0, (soft - _DESCRIPTORS_BESIDE) // 2)
    if serves >= settings.server.max_connections * 0.9:
        return Finding(check="file descriptors", state="ok", found=f"at most {soft}")
    return Finding(
        check="file descriptors",
        state="fail" if serves < 16 else "warn",
        found=f"at most {soft}: enough for about {serves} requests at once, max_connections says "
        f"{settings.server.max_connections}",
        advice=f"raise the limit (ulimit -n {wanted}), or lower server.max_connections",
    )


def credentials(settings: Settings, environ: Mapping[str, str]) -> list[Finding]:
    """Providers and clients: is there anybody to ask, and anybody who may?"""
    findings = []
    if not settings.providers:
        findings.append(
            Finding(
                check="providers",
                state="warn",
                found="none is configured and no known key is in the environment",
                advice="set a key such as OPENAI_API_KEY, or write providers: into tollway.yaml",
            )
        )
    keyless = environ.get("TOLLWAY_ADMIN_KEY") is None and settings.admin_key is None
    if keyless and not (Path(settings.data_dir) / "admin_key.sha256").exists():
        findings.append(
            Finding(check="admin key", state="ok", found="one is made and printed at the first start")
        )
    return findings


def _book_day(book: PriceBook) -> date:
    try:
        return date.fromisoformat(book.version[:10])
    except ValueError:
        return datetime.fromtimestamp(time.time(), UTC).date()


def _size(amount: int) -> str:
    return f"{amount / 1024**3:.1f} GiB" if amount >= 1024**3 else f"{amount / _MIB:.0f} MiB"
