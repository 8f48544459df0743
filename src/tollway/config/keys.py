"""The ``keys:`` section: virtual keys the file declares. Only their hashes leave this module."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import UTC, datetime

from tollway.config import reading, units
from tollway.config.reading import Table
from tollway.config.report import Bad, Report, closest, shown
from tollway.config.yaml_marks import Mapping, Node, Sequence
from tollway.model.key import Budget, RateLimit, VirtualKey
from tollway.model.secret import Secret

_MOST = 1_000_000_000_000
_LATEST = 253402300799.0


def read_keys(
    node: Node, report: Report, admin_key: Secret | None, public: Collection[str]
) -> tuple[VirtualKey, ...]:
    """Every well-formed key; names and values must be unique, and none may be the administrator's.

    ``public`` are the names under ``models:``, to tell an allow-list's typing errors.
    """
    if not isinstance(node, Sequence):
        report.add(node.line, "keys must be a list, each item `- {name: …, key: …}`")
        return ()
    found: list[VirtualKey] = []
    names: dict[str, int] = {}
    hashes: dict[str, str] = {}
    for item in node.items:
        key = _key(item, report)
        if key is None:
            continue
        if key.name in names:
            report.add(
                item.line, f"keys: the name {key.name} is used twice (first on line {names[key.name]})"
            )
        elif key.hash in hashes:
            report.add(item.line, f"key {key.name}: has the same value as key {hashes[key.hash]}")
        names.setdefault(key.name, item.line)
        hashes.setdefault(key.hash, key.name)
        if admin_key is not None and key.hash == key_hash(admin_key.reveal()):
            report.add(item.line, f"key {key.name}: has the same value as the admin key")
        for model in key.models:
            if "/" not in model and "*" not in model and model not in public:
                report.add(
                    item.line,
                    f"key {key.name}: models names {shown(model)}, which is not under models",
                    meant=closest(model, public),
                )
        found.append(key)
    return tuple(found)


def key_hash(value: str) -> str:
    """SHA-256 in hex: how keys are kept and looked up. Keys are random, so no slow hash is needed."""
    return hashlib.sha256(value.encode()).hexdigest()


def key_hint(value: str) -> str:
    """What people recognise a key by: ``sk-tw-…abcd``. Short keys show less, so that a hint never gives one
    away."""
    if len(value) < 16:
        return "…"
    front = "sk-tw-" if value.startswith("sk-tw-") else "sk-" if value.startswith("sk-") else ""
    return f"{front}…{value[-4:]}"


def _key(node: Node, report: Report) -> VirtualKey | None:
    if not isinstance(node, Mapping):
        report.add(node.line, "keys: expected an item such as {name: ci, key: ${CI_KEY}}")
        return None
    name = Table(node, report, "key").get("name", _name, None)
    table = Table(node, report, f"key {name}" if name else "a key")
    for needed in ("name", "key"):
        if not table.has(needed):
            report.add(table.line, f"{table.place}: {needed} is missing")
    value = table.get("key", reading.secret, None)
    found = VirtualKey(
        id=f"key_{key_hash(f'file:{name}')[:20]}",
        name=name or "",
        hash=key_hash(value.reveal()) if value else "",
        hint=key_hint(value.reveal()) if value else "",
        models=table.get("models", reading.many(reading.name, "models"), ()),
        budgets=table.get("budget", _budgets, ()),
        limits=table.get("limits", _limits, RateLimit()),
        team=table.get("team", reading.label, None),
        user=table.get("user", reading.label, None),
        customer=table.get("customer", reading.label, None),
        tags=table.get("tags", reading.many(reading.label, "tags"), ()),
        metadata=table.get("metadata", _metadata, {}),
        expires_at=table.get("expires", _expires, None),
        blocked=table.get("blocked", reading.boolean, False),
        owner="file",
    )
    table.finish()
    return found if name and value else None


def _name(node: Node, report: Report) -> str:
    """A key's name stands in addresses of the admin API beside ids, so it must not look like one."""
    found = reading.label(node, report)
    if len(found) > 100 or set(found) & set("/?#%"):
        raise Bad("expected 1 to 100 characters without / ? # or %, because the name stands in addresses")
    if found.startswith(("key_", "sk-")):
        raise Bad("must not begin with key_ or sk-: ids and secrets look like that")
    return found


def _budgets(node: Node, report: Report) -> tuple[Budget, ...]:
    found = reading.many(_budget, "budget")(node, report)
    if len({budget.per for budget in found}) < len(found):
        raise Bad("names the same period twice")
    return found


def _budget(node: Node, report: Report) -> Budget:
    """``{usd: 10, per: month, strict: true}`` or ``10usd/month``."""
    if not isinstance(node, Mapping):
        try:
            return units.budget(reading.text_of(node))
        except ValueError as error:
            raise Bad(f"{error}, not {reading.told(node)}") from None
    table = Table(node, report, "budget")
    if not table.has("usd"):
        report.add(table.line, "budget.usd is missing: how many dollars?")
    found = Budget(
        limit=table.get("usd", reading.dollars, 0),
        per=table.get("per", reading.period, "total"),
        strict=table.get("strict", reading.boolean, False),
    )
    table.finish()
    return found


def _limits(node: Node, report: Report) -> RateLimit:
    table = Table(node, report, "limits")
    count = reading.integer(1, _MOST)
    found = RateLimit(
        rpm=table.get("rpm", count, None),
        tpm=table.get("tpm", count, None),
        rpd=table.get("rpd", count, None),
        tpd=table.get("tpd", count, None),
        parallel=table.get("parallel", count, None),
    )
    table.finish()
    return found


def _metadata(node: Node, _: Report) -> dict[str, str]:
    if not isinstance(node, Mapping):
        raise Bad("expected names with their values")
    return {name: reading.text_of(value) for name, value in node.entries.items()}


def _expires(node: Node, _: Report) -> float:
    """An ISO date or time, UTC unless it says otherwise, to Unix seconds."""
    try:
        moment = datetime.fromisoformat(reading.text_of(node))
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        # ``30d`` would begin anew at every start of the server, so that the key never expired.
        raise Bad(
            "expected a date such as 2027-01-31 or 2027-01-31T12:00:00Z (a file has no moment to count from)"
        ) from None
    if not 0 <= seconds <= _LATEST:
        raise Bad("a date lies in the years 1970 to 9999")
    return seconds
