"""``GET /v1/models`` in Anthropic's shape, paged by ``limit``, ``after_id`` and ``before_id``."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from tollway.simulator.answer import Answer, Refusal, Request
from tollway.simulator.dialects.anthropic.errors import invalid
from tollway.simulator.knobs import Knobs

MODELS = (
    "claude-opus-4-5",
    "claude-sonnet-4-5",
    "claude-haiku-4-5",
    "claude-opus-4-1",
    "claude-3-5-haiku-latest",
)

_json = msgspec.json.encode


def look(request: Request, knobs: Knobs) -> Answer | None:
    if request.path == b"/v1/models":
        return Answer("models", [_json(_page(parse_qs(request.query.decode("latin-1"))))])
    if not request.path.startswith(b"/v1/models/"):
        return None
    name = unquote(request.path[len(b"/v1/models/") :].decode("latin-1"))
    if knobs.known_only and name not in MODELS:
        raise unknown(name)
    return Answer("models", [_json(_model(name))])


def _page(asked: dict[str, list[str]]) -> dict[str, Any]:
    names = list(MODELS)
    limit = asked.get("limit", ["20"])[-1]
    if not limit.isdigit() or not 1 <= int(limit) <= 1000:
        raise invalid("limit: Input should be from 1 to 1000")
    for side in ("after_id", "before_id"):
        mark = asked.get(side, [None])[-1]
        if mark is None:
            continue
        if mark not in names:
            raise invalid(f"{side}: no such model")
        at = names.index(mark)
        names = names[at + 1 :] if side == "after_id" else names[:at]
    shown = names[: int(limit)]
    return {
        "data": [_model(name) for name in shown],
        "has_more": len(shown) < len(names),
        "first_id": shown[0] if shown else None,
        "last_id": shown[-1] if shown else None,
    }


def _model(name: str) -> dict[str, Any]:
    shown = name.replace("-", " ").title()
    return {
        "type": "model",
        "id": name,
        "display_name": shown,
        "created_at": "2025-01-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
    }


def unknown(name: str) -> Refusal:
    return Refusal(404, f"model: {name}")
