"""``GET /v1/models``: a family list. Any other model is served as well unless ``known_only`` is set."""

from __future__ import annotations

from urllib.parse import unquote

import msgspec

from tollway.simulator.answer import Answer, Refusal, Request
from tollway.simulator.knobs import Knobs

MODELS = (
    "gpt-5",
    "gpt-5-mini",
    "gpt-5-nano",
    "gpt-4.1",
    "gpt-4.1-mini",
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-3.5-turbo-instruct",
    "o3",
    "o4-mini",
    "text-embedding-3-small",
    "text-embedding-3-large",
)

CREATED = 1_735_689_600
"""The same date for every model: nothing hangs on it."""


def look(request: Request, knobs: Knobs) -> Answer | None:
    """The list, one model, or None for a path that is neither."""
    if request.path == b"/v1/models":
        listed = [_model(name) for name in MODELS]
        return Answer("models", [msgspec.json.encode({"object": "list", "data": listed})])
    if not request.path.startswith(b"/v1/models/"):
        return None
    name = unquote(request.path[len(b"/v1/models/") :].decode("latin-1"))
    if knobs.known_only and name not in MODELS:
        raise unknown(name)
    return Answer("models", [msgspec.json.encode(_model(name))])


def unknown(name: str) -> Refusal:
    return Refusal(
        404,
        f"The model `{name}` does not exist or you do not have access to it.",
        kind="invalid_request_error",
        code="model_not_found",
    )


def _model(name: str) -> dict[str, str | int]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "simulator"}
