"""Lists in pages, newest first. A cursor holds the place of the last object shown, so that what is made meanwhile does
not shift the pages."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Protocol, TypeVar

import msgspec

from tollway.errors import BadRequest


class Dated(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def created_at(self) -> float: ...


One = TypeVar("One", bound=Dated)


def page(found: Iterable[One], limit: int, cursor: str | None) -> tuple[list[One], str | None]:
    """(one page, the cursor of the next or None). Raises BadRequest for a cursor that is none."""
    ordered = sorted(found, key=newest_first)
    if cursor is not None:
        after = _position(cursor)
        ordered = [one for one in ordered if newest_first(one) > after]
    shown = ordered[:limit]
    return shown, _cursor(shown[-1]) if len(ordered) > len(shown) else None


def newest_first(one: Dated) -> tuple[float, str]:
    return (-one.created_at, one.id)


def _cursor(one: Dated) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(newest_first(one))).decode().rstrip("=")


def _position(cursor: str) -> tuple[float, str]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(text, type=tuple[float, str])
    except (binascii.Error, ValueError):
        raise BadRequest("cursor is not one that this list gave out", param="cursor") from None
