from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tollway.jobs.remember import Remember
from tollway.model.key import VirtualKey
from tollway.model.tenant import Directory, Tenant
from tollway.model.terms import Budget, Terms
from tollway.shared.claims import Ceiling, every_ceiling
from tollway.shared.memory import MemoryCounters
from tollway.storage.spool import Spool

NOW = 1_794_312_000.0  # 2026-11-10T12:00Z, the days of the events
USD = 1_000_000_000
KEY = VirtualKey(
    id="key_1",
    name="key 1",
    hash="ab" * 32,
    hint="sk-…1",
    budgets=(Budget(limit=5 * USD, per="total"), Budget(limit=USD, per="month")),
)
TEAM = Tenant(level="team", id="search", name="Search", terms=Terms(budgets=(Budget(limit=USD, per="day"),)))
DIRECTORY = Directory(tenants=(TEAM,))


def ceilings() -> list[Ceiling]:
    return list(every_ceiling([KEY], DIRECTORY))


def spend(counters: MemoryCounters, amount: int) -> None:
    for ceiling in ceilings():
        counters.seed(ceiling.claim, amount)


async def test_what_was_kept_comes_back(tmp_path: Path, spool: Spool) -> None:
    remember = Remember(tmp_path, spool)
    assert remember.known() is None
    await remember.keep([KEY], DIRECTORY)
    found = Remember(tmp_path, spool).known()
    assert found is not None
    assert found.keys == (KEY,)
    assert found.directory == DIRECTORY
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("known*")} == {
        "known.msgpack": 0o600
    }


async def test_budgets_go_on_with_what_the_spool_holds_since(
    tmp_path: Path, spool: Spool, put: Callable[..., None], event: Callable[..., bytes]
) -> None:
    counters = MemoryCounters(lambda: NOW)
    spend(counters, 700)
    put(event(0, key_id="key_1", team="search", cost_nano_usd=700, time="2026-11-10T10:00:00.000Z"))
    remember = Remember(tmp_path, spool)
    await remember.keep_spent(ceilings(), counters.standing, NOW)
    put(event(1, key_id="key_1", team="search", cost_nano_usd=40, time="2026-11-10T10:00:01.000Z"))
    put(event(2, key_id="key_2", team="search", cost_nano_usd=5, time="2026-11-10T10:00:02.000Z"))
    found = await Remember(tmp_path, spool).spent(ceilings(), NOW)
    by_counter = {name.rpartition(":")[0]: amount for name, amount in found.items()}
    assert set(found.values()) == {740, 745}
    assert {name.split(":")[0] for name in by_counter} == {"key", "team"}


async def test_another_period_begins_empty(
    tmp_path: Path, spool: Spool, put: Callable[..., None], event: Callable[..., bytes]
) -> None:
    counters = MemoryCounters(lambda: NOW)
    spend(counters, 700)
    put(event(0, time="2026-11-10T10:00:00.000Z"))
    await Remember(tmp_path, spool).keep_spent(ceilings(), counters.standing, NOW)
    later = await Remember(tmp_path, spool).spent(ceilings(), NOW + 40 * 86400)
    assert sorted(later.values()) == [0, 0, 700], "only the budget that lasts for ever has spent anything"


async def test_nothing_is_written_while_nothing_is_spent(
    tmp_path: Path, spool: Spool, put: Callable[..., None], event: Callable[..., bytes]
) -> None:
    counters = MemoryCounters(lambda: NOW)
    put(event(0))
    remember = Remember(tmp_path, spool)
    await remember.keep_spent([], counters.standing, NOW)
    assert not (tmp_path / "spent.msgpack").exists(), "counters that are not right yet are not kept"
    await remember.keep_spent(ceilings(), counters.standing, NOW)
    (tmp_path / "spent.msgpack").unlink()
    await remember.keep_spent(ceilings(), counters.standing, NOW)
    assert not (tmp_path / "spent.msgpack").exists()
    put(event(1))
    await remember.keep_spent(ceilings(), counters.standing, NOW)
    assert (tmp_path / "spent.msgpack").exists()


@pytest.mark.parametrize("content", [b"", b"\x81\xa4keys\x01", b"no msgpack at all"])
async def test_files_of_no_use_are_passed_over(tmp_path: Path, spool: Spool, content: bytes) -> None:
    (tmp_path / "known.msgpack").write_bytes(content)
    (tmp_path / "spent.msgpack").write_bytes(content)
    remember = Remember(tmp_path, spool)
    assert remember.known() is None
    assert set((await remember.spent(ceilings(), NOW)).values()) == {0}


async def test_a_disk_that_takes_nothing_stops_nobody(tmp_path: Path, spool: Spool) -> None:
    remember = Remember(tmp_path / "not there", spool)
    await remember.keep([KEY], DIRECTORY)
    assert remember.known() is None


async def test_what_another_spool_held_does_not_count(
    tmp_path: Path, spool: Spool, put: Callable[..., None], event: Callable[..., bytes]
) -> None:
    """A data directory whose spool was made anew: positions of the old one mean nothing in it."""
    counters = MemoryCounters(lambda: NOW)
    spend(counters, 700)
    put(event(0))
    await Remember(tmp_path, spool).keep_spent(ceilings(), counters.standing, NOW)
    kept = (tmp_path / "spent.msgpack").read_bytes()
    (tmp_path / "spent.msgpack").write_bytes(kept.replace(spool.id.encode(), b"0" * len(spool.id)))
    assert 700 not in (await Remember(tmp_path, spool).spent(ceilings(), NOW)).values()
