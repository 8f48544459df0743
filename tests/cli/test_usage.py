from __future__ import annotations

import csv
import io
import json
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow.parquet
import pytest

from tollway.cli.output import dollars
from tollway.cli.usage import _bar
from tollway.model.event import UsageEvent
from tollway.model.usage import Usage

Run = Callable[..., subprocess.CompletedProcess[str]]
DAY = 86400


def event(
    n: int, *, ago: float, key: str, team: str | None, model: str, cost: int, priced: bool = True
) -> UsageEvent:
    return UsageEvent(
        id=f"ue_{n}",
        request_id=f"r{n}",
        time=time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - ago)),
        key=key,
        key_id=f"key_{key}",
        team=team,
        endpoint="chat.completions",
        model=model,
        provider="openai",
        upstream_model=model,
        deployment=f"openai/{model}",
        status=200 if n else 500,
        outcome="ok" if n else "error",
        usage=Usage(input=100, cache_read=20, output=7),
        cost_nano_usd=cost,
        priced=priced,
    )


EVENTS = [
    event(0, ago=60, key="ci", team="core", model="fast", cost=0),
    event(1, ago=60, key="ci", team="core", model="fast", cost=1_500_000_000),
    event(2, ago=2 * DAY, key="web", team=None, model="smart", cost=6_000_000_000),
    event(3, ago=2 * DAY, key="web", team=None, model="own", cost=0, priced=False),
    event(4, ago=40 * DAY, key="web", team=None, model="smart", cost=50_000_000_000),
]


def test_the_table_by_key(tollway: Run, record: Callable[[list[UsageEvent]], None]) -> None:
    record(EVENTS)
    done = tollway("usage")
    assert done.returncode == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[1][:6] == ["web", "2", "0", "240", "14", "6.00"]
    assert lines[2][:6] == ["ci", "2", "1", "240", "14", "1.50"]
    assert lines[3][:6] == ["total", "4", "1", "480", "28", "7.50"]
    assert len(lines[1][6]) == 24
    assert len(lines[2][6]) == 6, "a quarter of the longest bar"
    assert "missing from these sums: 1 requests" in done.stderr


@pytest.mark.parametrize(
    ("by", "names"),
    [("team", {None, "core"}), ("model", {"fast", "smart", "own"}), ("provider", {"openai"})],
)
def test_other_groups(
    inside: Run, record: Callable[[list[UsageEvent]], None], by: str, names: set[str]
) -> None:
    record(EVENTS)
    data = json.loads(inside("usage", "--by", by, "--json").stdout)
    assert {row[by] for row in data["data"]} == names
    assert (
        data["total"]["cost_nano_usd"] == sum(row["cost_nano_usd"] for row in data["data"]) == 7_500_000_000
    )


def test_days_in_order_and_a_longer_span(inside: Run, record: Callable[[list[UsageEvent]], None]) -> None:
    record(EVENTS)
    days = [line.split()[0] for line in inside("usage", "--by", "day", "--since", "60d").stdout.splitlines()]
    assert len(days) == 5
    assert days[1:4] == sorted(days[1:4])
    assert inside("usage", "--since", "soon").returncode == 2


def test_nothing_to_show(inside: Run, record: Callable[[list[UsageEvent]], None]) -> None:
    without = inside("usage")
    assert without.returncode == 1
    record([])
    assert inside("usage").stdout == "Nothing was recorded since 7d.\n"


def test_only_what_is_asked_for(inside: Run, record: Callable[[list[UsageEvent]], None]) -> None:
    record(EVENTS)
    data = json.loads(inside("usage", "--only", "team=core", "--only", "model=fast", "--json").stdout)
    assert [row["key"] for row in data["data"]] == ["ci"]
    data = json.loads(inside("usage", "--by", "hour", "--since", "3d", "--limit", "1", "--json").stdout)
    assert (len(data["data"]), data["groups"]) == (1, 2)
    assert inside("usage", "--only", "colour=red").returncode == 2
    assert inside("usage", "--by", "day", "--tz", "Mars/Base").returncode == 2


def test_files(inside: Run, record: Callable[[list[UsageEvent]], None], tmp_path: Path) -> None:
    record(EVENTS)
    lines = inside("usage", "--by", "model", "--format", "csv").stdout.splitlines()
    assert lines[0].startswith("model,requests,")
    assert len(lines) == 4
    focus = inside("usage", "--format", "focus", "--since", "60d").stdout
    costs = [float(line["BilledCost"]) for line in csv.DictReader(io.StringIO(focus))]
    assert sum(costs) == 57.5
    for format in ("parquet", "focus-parquet"):
        path = tmp_path / f"usage.{format}"
        done = inside("usage", "--format", format, "-o", str(path))
        assert (done.returncode, done.stdout) == (0, "")
        assert pyarrow.parquet.read_table(path).num_rows == 2 + (format != "parquet")


def test_roll_ups_are_verified_and_made_anew(
    inside: Run, record: Callable[[list[UsageEvent]], None], tmp_path: Path
) -> None:
    record(EVENTS)
    assert inside("usage", "--verify").stdout == "The roll-ups say what the events say.\n"
    (path,) = tmp_path.rglob("*.db")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE rollups_hourly SET cost_nano_usd = cost_nano_usd + 1 WHERE model = 'own'")
    done = inside("usage", "--verify")
    assert done.returncode == 1
    assert "model own, provider openai, upstream_model own: cost_nano_usd is 1 in the roll-ups" in done.stdout
    assert "--rebuild" in done.stderr
    done = inside("usage", "--rebuild")
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        ["The roll-ups of 3 days were made anew.", "The roll-ups say what the events say."],
    )
    assert json.loads(inside("usage", "--verify", "--json").stdout)["differences"] == []


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "0.00"),
        (24_900, "0.0000249"),
        (1_500_000, "0.0015"),
        (500_000_000, "0.50"),
        (1_234_567_890_000, "1,234.57"),
    ],
)
def test_dollars(nano: int, text: str) -> None:
    assert dollars(nano) == text


def test_bars_are_in_proportion() -> None:
    assert _bar(0, 100) == ""
    assert _bar(1, 10**9) == "▏"
    assert _bar(50, 100) == "█" * 12
    assert _bar(100, 100) == "█" * 24
