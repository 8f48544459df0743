"""The ``keys:`` section: virtual keys the file declares. Only their hashes leave this module."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import msgspec

from tollway.config import reading
from tollway.config.reading import Table
from tollway.config.report import Bad, Report, closest, shown
from tollway.config.terms import read_expiry, read_metadata, read_terms
from tollway.config.yaml_marks import Mapping, Node, Sequence
from tollway.model.key import RateLimit, VirtualKey
from tollway.model.secret import Secret


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
        for model in (*key.models, *key.more.denied_models):
            if not known_model(model, public):
                report.add(
                    item.line,
                    f"key {key.name}: models names {shown(model)}, which is not under models",
                    meant=closest(model, public),
                )
        found.append(key)
    return tuple(found)


def known_model(model: str, public: Collection[str]) -> bool:
    """Whether an allow- or deny-list may name it: a public name, ``provider/model``, a wildcard, an access group."""
    return "/" in model or "*" in model or model.startswith("group:") or model in public


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
    terms = read_terms(table)
    found = VirtualKey(
        id=f"key_{key_hash(f'file:{name}')[:20]}",
        name=name or "",
        hash=key_hash(value.reveal()) if value else "",
        hint=key_hint(value.reveal()) if value else "",
        models=terms.models,
        budgets=terms.budgets,
        limits=terms.limits,
        more=msgspec.structs.replace(terms, models=(), budgets=(), limits=RateLimit()),
        organization=table.get("organization", reading.label, None),
        team=table.get("team", reading.label, None),
        project=table.get("project", reading.label, None),
        user=table.get("user", reading.label, None),
        customer=table.get("customer", reading.label, None),
        tags=table.get("tags", reading.many(reading.label, "tags"), ()),
        metadata=table.get("metadata", read_metadata, {}),
        description=table.get("description", reading.label, ""),
        service=table.get("service", reading.boolean, False),
        expires_at=table.get("expires", read_expiry, None),
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
