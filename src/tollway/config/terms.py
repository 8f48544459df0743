"""Reads what a level of the configuration file may grant: models, routes, budgets, limits. The admin API's reader of
the same is ``admin/terms.py``; both follow ``term_rules``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from tollway.config import reading, term_rules, units
from tollway.config.reading import Table
from tollway.config.report import Bad, Report
from tollway.config.term_rules import AMOUNT_MISSING, AMOUNTS, MOST_COUNT, RATES, AmountName, Wrong
from tollway.config.yaml_marks import Mapping, Node
from tollway.model.terms import Budget, OnOutgrown, OnTight, Outage, RateLimit, Terms

_LATEST = 253402300799.0
_OUTAGE: reading.Reader[Outage] = reading.choice("lease", "closed", "open")
_COUNT: reading.Reader[Literal["all", "input", "output"]] = reading.choice("all", "input", "output")
_ON_OUTGROWN: reading.Reader[OnOutgrown] = reading.choice("finish", "cut")
_FINISH: OnOutgrown = "finish"
_ON_TIGHT: reading.Reader[OnTight] = reading.choice("refuse", "clamp")
_LEASE: Outage = "lease"
_REFUSE: OnTight = "refuse"
_ALL: Literal["all"] = "all"
_NAMES = reading.many(reading.name, "models")


def read_terms(table: Table) -> Terms:
    """The terms among a table's settings. The table's owner finishes it."""
    plain, more = table.get("limits", read_limits, (RateLimit(), ()))
    return Terms(
        models=table.get("models", _NAMES, ()),
        denied_models=table.get("denied_models", reading.many(reading.name, "denied_models"), ()),
        routes=table.get("routes", reading.many(reading.name, "routes"), ()),
        denied_routes=table.get("denied_routes", reading.many(reading.name, "denied_routes"), ()),
        mcp_servers=table.get("mcp_servers", reading.many(reading.name, "mcp_servers"), ()),
        denied_mcp_servers=table.get(
            "denied_mcp_servers", reading.many(reading.name, "denied_mcp_servers"), ()
        ),
        aliases=table.get("aliases", _aliases, {}),
        budgets=table.get("budget", read_budgets, ()),
        limits=plain,
        more_limits=more,
    )


def read_budgets(node: Node, report: Report) -> tuple[Budget, ...]:
    """One budget or a list of them."""
    found = reading.many(_budget, "budget")(node, report)
    try:
        return term_rules.checked_budgets(found)
    except Wrong as wrong:
        raise Bad(str(wrong)) from None


def read_limits(node: Node, report: Report) -> tuple[RateLimit, tuple[RateLimit, ...]]:
    """One group of limits or a list of them: the one of every model, and the others."""
    found = reading.many(_limits, "limits")(node, report)
    try:
        return term_rules.parted_limits(found)
    except Wrong as wrong:
        raise Bad(str(wrong)) from None


def read_expiry(node: Node, _: Report) -> float:
    """An ISO date or time, UTC unless it says otherwise, to Unix seconds."""
    try:
        moment = datetime.fromisoformat(reading.text_of(node))
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        # ``30d`` would begin anew at every start of the server, so that it never ended.
        raise Bad(
            "expected a date such as 2027-01-31 or 2027-01-31T12:00:00Z (a file has no moment to count from)"
        ) from None
    if not 0 <= seconds <= _LATEST:
        raise Bad("a date lies in the years 1970 to 9999")
    return seconds


def read_metadata(node: Node, _: Report) -> dict[str, str]:
    if not isinstance(node, Mapping):
        raise Bad("expected names with their values")
    return {name: reading.text_of(value) for name, value in node.entries.items()}


def _budget(node: Node, report: Report) -> Budget:
    """``{usd: 10, per: month, strict: true}``, ``{tokens: 1000000}`` or ``10usd/month``."""
    if not isinstance(node, Mapping):
        try:
            return units.budget(reading.text_of(node))
        except ValueError as error:
            raise Bad(f"{error}, not {reading.told(node)}") from None
    table = Table(node, report, "budget")
    name, limit = _amount(table)
    raised_by, raised_until = table.get("raise", lambda inner, _: _increase(inner, report, name), (0, None))
    outage = table.get("outage", _OUTAGE, _LEASE)
    on_tight = table.get("on_tight", _ON_TIGHT, _REFUSE)
    found = Budget(
        limit=limit,
        unit=AMOUNTS[name],
        per=table.get("per", reading.period, "total"),
        strict=table.get("strict", reading.boolean, False),
        enforce=table.get("enforce", reading.boolean, True),
        soft=table.get("soft", _AMOUNT_READERS[name], None),
        alert_at=table.get("alert_at", reading.many(reading.integer(1, 100), "alert_at"), ()),
        models=table.get("models", _NAMES, ()),
        zone=table.get("zone", _zone, "UTC"),
        first_day=table.get("first_day", reading.integer(1, 28), 1),
        first_month=table.get("first_month", reading.integer(1, 12), 1),
        on_tight=on_tight,
        on_outgrown=table.get("on_outgrown", _ON_OUTGROWN, _FINISH),
        outage=outage,
        raised_by=raised_by,
        raised_until=raised_until,
    )
    table.finish()
    try:
        return term_rules.checked_budget(found)
    except Wrong as wrong:
        report.add(table.line, f"budget.{wrong.part}: {wrong}")
        return found


def _amount(table: Table) -> tuple[AmountName, int]:
    given: list[AmountName] = [name for name in AMOUNTS if table.has(name)]
    if not given:
        report_line = (
            f"budget.usd {AMOUNT_MISSING}" if table.place == "budget" else f"{table.place}: no amount"
        )
        table.report.add(table.line, report_line)
        return "usd", 0
    if len(given) > 1:
        table.report.add(table.line, f"budget: names {' and '.join(given)}; make a budget for each")
    return given[0], table.get(given[0], _AMOUNT_READERS[given[0]], 0)


def _increase(node: Node, report: Report, name: AmountName) -> tuple[int, float | None]:
    """``{usd: 5, until: 2027-01-31}``: more for a while, in the budget's own unit."""
    table = Table(node, report, "budget.raise")
    by = table.get(name, _AMOUNT_READERS[name], 0)
    until = table.get("until", read_expiry, None)
    if not table.has(name):
        report.add(table.line, f"budget.raise.{name} is missing: by how much?")
    if not table.has("until"):
        report.add(table.line, "budget.raise.until is missing: when does the increase end?")
    table.finish()
    return (by, until) if until is not None else (0, None)


def _limits(node: Node, report: Report) -> RateLimit:
    if not isinstance(node, Mapping):
        raise Bad("expected limits such as {rpm: 60, tpm: 100000}")
    table = Table(node, report, "limits")
    rates = {rate: table.get(rate, _count, None) for rate in RATES}
    found = RateLimit(
        **rates,
        count=table.get("count", _COUNT, _ALL),
        cached=table.get("cached", reading.boolean, True),
        models=table.get("models", _NAMES, ()),
        enforce=table.get("enforce", reading.boolean, True),
        outage=table.get("outage", _OUTAGE, _LEASE),
    )
    table.finish()
    return found


def _aliases(node: Node, report: Report) -> dict[str, str]:
    if not isinstance(node, Mapping):
        raise Bad("expected names, each with the model served instead")
    return {reading.checked_name(name): reading.name(value, report) for name, value in node.entries.items()}


def _zone(node: Node, _: Report) -> str:
    try:
        return term_rules.zone(reading.text_of(node).strip())
    except ValueError as error:
        raise Bad(f"{error}, not {reading.told(node)}") from None


def _dollars(node: Node, _: Report) -> int:
    try:
        return term_rules.dollars(reading.text_of(node))
    except ValueError as error:
        raise Bad(f"{error}, not {reading.told(node)}") from None


_count = reading.integer(1, MOST_COUNT)
_AMOUNT_READERS: dict[AmountName, reading.Reader[int]] = {
    "usd": _dollars,
    "tokens": _count,
    "requests": _count,
}
