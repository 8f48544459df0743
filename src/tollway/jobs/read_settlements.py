"""What requests had settled according to their events in a spool: for counters that have to make up for a process that
died before it could report. Reads only."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from tollway.model.usage import NOTHING, Usage
from tollway.shared.claims import Ceiling
from tollway.shared.interface import Claim, Settlement
from tollway.storage.segments import Position
from tollway.storage.spool import Spool


class _Event(Struct):
    time: str
    model: str
    cost_nano_usd: int = 0
    usage: Usage = NOTHING
    key_id: str | None = None
    organization: str | None = None
    team: str | None = None
    project: str | None = None
    user: str | None = None
    customer: str | None = None
    tags: list[str] = []


BATCH = 256

_decode = msgspec.json.Decoder(_Event).decode
_Kind = tuple[str, ...]


def settlements(
    spool: Spool, after: Position, until: Position, ceilings: Iterable[Ceiling]
) -> list[Settlement]:
    """One for each event between two positions that any of ``ceilings`` counts. Raises OSError."""
    kinds: dict[_Kind, dict[tuple[str, ...], list[Ceiling]]] = {}
    for ceiling in ceilings:
        if ceiling.of:
            names = tuple(name for name, _ in ceiling.of)
            values = tuple(value for _, value in ceiling.of)
            kinds.setdefault(names, {}).setdefault(values, []).append(ceiling)
    found: list[Settlement] = []
    position, most = after, BATCH
    while position < until:
        records, behind = spool.read(position, max_records=most)
        if not records:
            break
        if behind > until:
            # What was written since is no part of it: the last steps are shorter.
            if most == 1:
                break
            most //= 2
            continue
        position = behind
        for record in records:
            try:
                event = _decode(record)
            except msgspec.MsgspecError:
                continue  # no event: the ledger puts it aside
            claims = tuple(_claims(event, kinds))
            if claims:
                found.append(_settlement(event, claims))
    return found


def _claims(event: _Event, kinds: dict[_Kind, dict[tuple[str, ...], list[Ceiling]]]) -> Iterable[Claim]:
    for names, by_value in kinds.items():
        if names == ("tags",):
            of: list[tuple[str, ...]] = [(tag,) for tag in set(event.tags)]
        else:
            of = [tuple(getattr(event, name) or "" for name in names)]
        for values in of:
            for ceiling in by_value.get(values, ()):
                if not ceiling.models or any(_named(event.model, pattern) for pattern in ceiling.models):
                    yield ceiling.claim


def _named(model: str, pattern: str) -> bool:
    """``*`` in a pattern stands for anything."""
    first, *rest = pattern.split("*")
    if not rest:
        return model == pattern
    if not model.startswith(first):
        return False
    at = len(first)
    *between, last = rest
    for part in between:
        at = model.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return model.endswith(last) and len(model) - len(last) >= at


def _settlement(event: _Event, claims: tuple[Claim, ...]) -> Settlement:
    read = event.usage.prompt_tokens()
    written = event.usage.output + event.usage.audio_output
    at = datetime.fromisoformat(event.time.replace("Z", "+00:00")).astimezone(UTC).timestamp()
    return Settlement(
        claims=claims,
        at=at,
        nano_usd=event.cost_nano_usd,
        tokens=read + written,
        input_tokens=read,
        cached_tokens=event.usage.cache_read,
    )
