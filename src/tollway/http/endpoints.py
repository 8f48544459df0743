"""The table of model endpoints: which path leads to which endpoint of the hallway, in which dialect.

Default deny: what is not in a table is not served. Whoever adds a row here says so in docs/guide.
"""

from __future__ import annotations

from msgspec import Struct


class Endpoint(Struct, frozen=True):
    """``name`` is the hallway's, ``dialect`` decides the shape of errors."""

    name: str
    dialect: str = "openai"


_ROWS = {
    "/chat/completions": Endpoint("chat.completions"),
    "/completions": Endpoint("completions"),
    "/embeddings": Endpoint("embeddings"),
}

MODEL_PATHS: dict[bytes, Endpoint] = {
    prefix + path.encode(): endpoint for path, endpoint in _ROWS.items() for prefix in (b"/v1", b"")
}
"""Served at ``/v1/…`` and, as OpenAI-compatible servers commonly do, without the prefix."""

LANE_LINES: dict[bytes, Endpoint] = {b"POST " + path: endpoint for path, endpoint in MODEL_PATHS.items()}
"""Request lines (without the version) that the fast lane serves straight from the parser."""
