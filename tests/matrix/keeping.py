"""Cells as golden files: what goes over both wires, without what is new every time.

TOLLWAY_GOLDEN=write writes the files anew in place of comparing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from scenarios import SYSTEM, Cell

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "matrix"

_SEALED = re.compile(r"(?:tollway-(?:call|reasoning)\.|tollway\.1\.|dHcxO)[A-Za-z0-9_=+/.-]+")
_TIME = re.compile(r'("(?:created|created_at|completed_at)": ?)\d+(?:\.\d+)?')
_NEW = re.compile(r"[0-9a-f]{20,}|tw[a-z]*_[A-Za-z0-9]{16,}")


def shown(whole: Cell, streamed: Cell) -> str:
    """Both forms of a cell as text: ``>`` what the provider was sent, ``<`` what the client got of the gateway. Ids are
    numbered in the order in which they come."""
    return "".join(
        f"{name}\n" + masked("".join(_lines(cell)))
        for name, cell in (("whole", whole), ("streamed", streamed))
    )


def _lines(cell: Cell) -> Iterator[str]:
    for exchange in cell.exchanges:
        yield f"  > {json.dumps(exchange.sent, ensure_ascii=False)}\n"
        if exchange.dropped:
            yield f"  dropped: {', '.join(exchange.dropped)}\n"
        yield from _received(exchange.raw)
    if cell.refused is not None:
        yield f"  status {cell.refused.status}\n"
        yield from _received(cell.refused.raw)


def _received(raw: bytes) -> Iterator[str]:
    for line in raw.decode().splitlines():
        if line:
            yield f"  < {line}\n"


def masked(text: str) -> str:
    text = text.replace(SYSTEM, "(the long system prompt)").replace(
        SYSTEM.strip(), "(the long system prompt)"
    )
    text = _TIME.sub(r"\g<1>0", _SEALED.sub("(sealed)", text))
    known: dict[str, str] = {}
    return _NEW.sub(lambda found: known.setdefault(found[0], f"<{len(known) + 1}>"), text)


def compare(name: str, text: str) -> None:
    path = FOLDER / f"{name}.txt"
    if os.environ.get("TOLLWAY_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    assert path.exists(), f"{path.name} is missing: TOLLWAY_GOLDEN=write writes it"
    assert text == path.read_text(encoding="utf-8")
