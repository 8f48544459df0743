"""``GET /v1beta/models``: a family list, paged by ``pageSize`` and ``pageToken``."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from tollway.simulator.answer import Answer, Refusal, Request
from tollway.simulator.dialects.gemini.errors import invalid
from tollway.simulator.knobs import Knobs

MODELS = (
    "gemini-3-pro-preview",
    "gemini-2.5-pro",
    "gemini-2.5-flash",
    "gemini-2.5-flash-lite",
    "gemini-2.0-flash",
    "gemini-embedding-001",
)

LIST = b"/v1beta/models"

_json = msgspec.json.encode


def look(request: Request, knobs: Knobs) -> Answer | None:
    path = request.path.replace(b"/v1/", b"/v1beta/", 1)
    if path == LIST:
        return Answer("models", [_json(_page(parse_qs(request.query.decode("latin-1"))))])
    if not path.startswith(LIST + b"/") or b":" in path:
        return None
    name = unquote(path[len(LIST) + 1 :].decode("latin-1"))
    if knobs.known_only and name not in MODELS:
        raise unknown(name)
    return Answer("models", [_json(_model(name))])


def _page(asked: dict[str, list[str]]) -> dict[str, Any]:
    size, token = asked.get("pageSize", ["50"])[-1], asked.get("pageToken", ["0"])[-1]
    if not size.isdigit() or not token.isdigit():
        raise invalid("Invalid page size or page token.")
    at = int(token)
    shown = MODELS[at : at + (int(size) or 50)]
    page: dict[str, Any] = {"models": [_model(name) for name in shown]}
    if at + len(shown) < len(MODELS):
        page["nextPageToken"] = str(at + len(shown))
    return page


def _model(name: str) -> dict[str, Any]:
    embeds = "embedding" in name
    methods = ["embedContent"] if embeds else ["generateContent", "countTokens"]
    return {
        "name": "models/" + name,
        "baseModelId": name,
        "version": "001",
        "displayName": name.replace("-", " ").title(),
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": methods,
    }


def unknown(name: str) -> Refusal:
    return Refusal(
        404,
        f"models/{name} is not found for API version v1beta, or is not supported for generateContent. Call "
        "ListModels to see the list of available models and their supported methods.",
    )
