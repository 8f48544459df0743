"""The corrections of counters, read. They are made where something is forgiven: ``spend.py``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from tollway.admin.action import action
from tollway.admin.context import Context
from tollway.admin.spend import SpendReset, shown
from tollway.errors import Conflict


class AdjustmentQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``counter`` as counters are named: `team:search:usd:month`."""

    counter: str = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


@action(permission="adjustments.read", audit=False, route=("GET", "/adjustments"))
async def list_(context: Context, query: AdjustmentQuery) -> SpendReset:
    """Read the corrections of a counter, newest first; without one, those of all."""
    if context.adjustments is None:
        raise Conflict("this gateway runs without a database and keeps no corrections")
    found = await context.adjustments.of([query.counter] if query.counter else None, query.limit)
    return SpendReset(data=tuple(shown(each) for each in found))
