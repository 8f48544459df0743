"""Carries the last full run into the README, between its two markers. Measures nothing."""

from __future__ import annotations

import sys

from msgspec import json

from bench import results
from bench.cold import OUT as COLD
from bench.cold import ColdResults
from bench.results import Entry, Results
from bench.soak import OUT as SOAK
from bench.soak import Soak
from bench.subjects import ROOT

README = ROOT / "README.md"
BEGIN, END = "<!-- bench:start -->", "<!-- bench:end -->"
COLUMNS = ("tollway", "tollway-levels", "tollway-redis", "tollway-plain", "relay", "portkey", "litellm")
HEADS = {
    "tollway": "Tollway: key, budget, limits, ledger",
    "tollway-levels": "4 budgets, 6 limits",
    "tollway-redis": "the same over Redis",
    "tollway-plain": "Tollway, no key",
    "relay": "bare relay",
    "portkey": "Portkey {version}",
    "litellm": "LiteLLM {version}",
}
# Label, name in the results, digits, unit, whether the ratio to the relay follows.
ROWS = (
    ("CPU per request", "request_us", 0, "µs", True),
    ("CPU per event, 100 streams", "event_us_at_100", 1, "µs", True),
    ("CPU per event, 400 streams", "event_us_at_400", 1, "µs", True),
    ("CPU per translated request (chat to Anthropic)", "translated_us", 0, "µs", False),
    ("CPU per translated event (chat to Anthropic's client)", "translated_event_us", 1, "µs", False),
    ("requests/s, 64 connections", "rps_at_64", 0, "", False),
    ("p99 latency, 64 connections", "p99_ms_at_64", 1, "ms", False),
    ("first event of a stream, p50", "first_event_ms", 2, "ms", False),
    ("streams held, one event a second", "streams_held", 0, "", False),
    ("cold start to first answer", "cold_ms", 0, "ms", False),
    ("memory idle", "idle_rss_mb", 0, "MB", False),
    ("memory after load", "steady_rss_mb", 0, "MB", False),
)


class NoMarkers(ValueError):
    """The README has no place for the table."""


def render(found: Results, cold: ColdResults | None = None, soak: Soak | None = None) -> str:
    """The Markdown between the markers."""
    entries = {entry.name: entry for entry in found.subjects}
    columns = [entries[name] for name in COLUMNS if name in entries]
    relay = found.of("relay")
    lines = [
        "| | " + " | ".join(HEADS[e.name].format(version=e.version) for e in columns) + " |",
        "|---|" + "--:|" * len(columns),
    ]
    for label, name, digits, unit, ratio in ROWS:
        cells = [_cell(entry, name, digits, unit, relay.get(name) if ratio else None) for entry in columns]
        if any(cells):
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    at = found.machine
    versions = f"Python {at.python}" + (f", Node {at.node.lstrip('v')}" if at.node else "")
    lines += [
        "",
        f"{found.taken}, {at.processor}, {at.cores} cores (one for the gateway, one for mock and load), "
        f"{versions}; 1 KB prompts, medians of {len(columns[0].repetitions)} interleaved runs. "
        "In brackets: times the bare relay. `make bench-peers` measures it again; "
        "[how](docs/reference/benchmarks.md).",
    ]
    if cold is not None:
        own = next((one for one in cold.starts if one.subject == "tollway"), None)
        if own is not None:
            lines.append(
                f"Cold start, median of {len(own.new_ms)}: {own.medians[0]:.0f} ms with a new data "
                f"directory, {own.medians[1]:.0f} ms with an existing one."
            )
    if soak is not None and not soak.failures:
        lines.append(
            f"After {soak.requests:,} requests and {soak.aborted:,} clients that vanished: "
            f"{soak.recovered.rss / 1e6:.0f} MB (warm: {soak.steady.rss / 1e6:.0f} MB), nothing held."
        )
    return "\n".join(lines)


def _cell(entry: Entry, name: str, digits: int, unit: str, base: float | None) -> str:
    value = entry.median.get(name)
    if value is None:
        return ""
    text = f"{value:,.{digits}f}" + (f" {unit}" if unit else "")
    if base and entry.name != "relay":
        text += f" ({value / base:.1f}×)" if value < 20 * base else f" ({value / base:,.0f}×)"
    return text


def insert(page: str, block: str) -> str:
    """The page with the block between the markers. Raises NoMarkers."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise NoMarkers(f"put {BEGIN} and {END} where the table belongs")
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def current() -> str:
    """The block of the results on disk."""
    cold = json.decode(COLD.read_bytes(), type=ColdResults) if COLD.exists() else None
    soak = json.decode(SOAK.read_bytes(), type=Soak) if SOAK.exists() else None
    return render(results.read(), cold, soak)


def main() -> int:
    try:
        if results.read().quick:
            print(
                "The last run was a quick one; only a full `make bench-peers` goes into the README.",
                file=sys.stderr,
            )
            return 1
        README.write_text(insert(README.read_text(encoding="utf-8"), current()), encoding="utf-8")
    except (FileNotFoundError, NoMarkers) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
