"""The README's benchmark table is the one that the kept results give, and every figure of it is explained."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.results import LATEST, Entry, Machine, Results, median  # noqa: E402

from bench import table  # noqa: E402

README = ROOT / "README.md"


def entry(name: str, **figures: float) -> Entry:
    return Entry(name=name, label=name, version="9.9", repetitions=[dict(figures)], median=dict(figures))


def results(*entries: Entry) -> Results:
    machine = Machine(processor="Some CPU", cores=2, memory_gb=4, kernel="6", python="3.11", node="v20.1")
    return Results(taken="2026-01-02 03:04 UTC", quick=False, machine=machine, subjects=list(entries))


def test_the_readme_shows_the_kept_results() -> None:
    if table.BEGIN not in README.read_text(encoding="utf-8"):
        pytest.skip("the README has no benchmark table")
    shown = README.read_text(encoding="utf-8").partition(table.BEGIN)[2].partition(table.END)[0].strip()
    if not shown and not LATEST.exists():
        pytest.skip("nothing has been measured yet")
    assert shown == table.current()


def test_figures_are_given_as_multiples_of_the_relay() -> None:
    block = table.render(
        results(
            entry("relay", request_us=20.0, cold_ms=50.4),
            entry("litellm", request_us=4000.0),
            entry("tollway", request_us=50.0, cold_ms=700.0),
        )
    )
    lines = block.splitlines()
    assert lines[0] == "| | Tollway: key, budget, limits, ledger | bare relay | LiteLLM 9.9 |"
    assert lines[2] == "| CPU per request | 50 µs (2.5×) | 20 µs | 4,000 µs (200×) |"
    assert lines[3] == "| cold start to first answer | 700 ms | 50 ms |  |"
    assert "Some CPU, 2 cores" in block


def test_the_block_goes_between_the_markers_and_nowhere_else() -> None:
    page = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    new = table.insert(page, "| new |")
    assert new == f"before\n{table.BEGIN}\n| new |\n{table.END}\nafter\n"
    assert table.insert(new, "| new |") == new
    with pytest.raises(table.NoMarkers):
        table.insert("no markers\n", "| new |")


def test_medians_skip_what_a_repetition_did_not_measure() -> None:
    assert median([{"a": 1.0, "held": 500}, {"a": 3.0}, {"a": 2.0, "held": None}]) == {"a": 2.0, "held": 500}
