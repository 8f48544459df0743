"""The clocks of a provider, a model or a target: each one falls back to the next wider setting."""

from __future__ import annotations

from tollway.config import reading
from tollway.config.reading import Table
from tollway.model.clocks import Clocks


def clocks_of(table: Table, base: Clocks | None, fallback: Clocks) -> Clocks | None:
    """``timeouts: {connect, first_byte, first_token, idle, total}``, or ``timeout: 30s`` for the total alone.

    What is not given comes from ``base``, else from ``fallback``. Returns ``base`` where nothing is given.
    """
    both = table.has("timeout") and table.has("timeouts")
    if both:
        table.report.add(
            table.line_of("timeout"), f"{table.name_of('timeout')}: give timeout or timeouts, not both"
        )
    total = table.get("timeout", reading.duration, None)
    node = table.node("timeouts")
    if total is None and node is None:
        return base
    start = base or fallback
    if node is None or both:
        return Clocks(
            connect=start.connect,
            first_byte=start.first_byte,
            first_token=start.first_token,
            idle=start.idle,
            total=total or start.total,
        )
    given = Table(node, table.report, table.name_of("timeouts"))
    found = Clocks(
        connect=given.get("connect", reading.duration, start.connect),
        first_byte=given.get("first_byte", reading.duration, start.first_byte),
        first_token=given.get("first_token", reading.duration, start.first_token),
        idle=given.get("idle", reading.duration, start.idle),
        total=given.get("total", reading.duration, start.total),
    )
    given.finish()
    return found
