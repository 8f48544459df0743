"""``GET /v1/models``: the models a key may use, in the shape of the client's dialect."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Raw

from tollway.errors import ModelNotAllowed, ModelNotFound
from tollway.pipeline.authenticate import authenticate
from tollway.pipeline.client import Client, ModelRequest
from tollway.pipeline.grant import Grant
from tollway.pipeline.services import Services
from tollway.pipeline.snapshot import Snapshot

_SERVED = frozenset(("chat", "completion", "embedding", "responses"))


async def list_models(request: ModelRequest, client: Client, app: Services) -> None:
    """The named models; without any, what the price book knows of the configured providers, as ``provider/model``."""
    snapshot = app.snapshot
    grant = authenticate(request, snapshot, app.wall_clock())
    visible = _visible(grant, snapshot)
    if _speaks_gemini(request):
        from tollway.wire.formats.gemini_generate import write_models

        _respond(client, request, Raw(write_models([name for name, _ in visible])))
        return
    if b"anthropic-version" in request.headers:
        models = [_anthropic(name, snapshot) for name, _ in visible]
        ends = {
            "first_id": models[0]["id"] if models else None,
            "last_id": models[-1]["id"] if models else None,
        }
        _respond(client, request, {"data": models, "has_more": False, **ends})
        return
    rows = [_row(name, owner, snapshot) for name, owner in visible]
    _respond(client, request, {"object": "list", "data": rows})


async def show_model(request: ModelRequest, client: Client, app: Services) -> None:
    """One model; ``request.path`` is its name. Raises ModelNotFound, also for what the key may not use."""
    snapshot = app.snapshot
    grant = authenticate(request, snapshot, app.wall_clock())
    name = request.path.decode("utf-8", "replace")
    if not grant.allows(name):
        raise ModelNotFound(f"Model {name[:200]!r} does not exist here.", param="model")
    try:
        route = grant.route(name, snapshot)
    except ModelNotAllowed:  # denied under another of its names
        raise ModelNotFound(f"Model {name[:200]!r} does not exist here.", param="model") from None
    if _speaks_gemini(request):
        from tollway.wire.formats.gemini_generate import write_model

        _respond(client, request, Raw(write_model(name)))
    elif b"anthropic-version" in request.headers:
        _respond(client, request, _anthropic(name, snapshot))
    else:
        _respond(client, request, _row(name, route.targets[0].provider.name, snapshot))


def _speaks_gemini(request: ModelRequest) -> bool:
    """``/v1beta`` is Gemini's; its SDK also asks ``/v1``, and is known there by its header."""
    return request.dialect == "gemini" or b"x-goog-api-key" in request.headers


def _anthropic(name: str, snapshot: Snapshot) -> dict[str, Any]:
    created = datetime.fromtimestamp(snapshot.started, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": "model", "id": name, "display_name": name, "created_at": created}


def _visible(grant: Grant, snapshot: Snapshot) -> list[tuple[str, str]]:
    named = snapshot.named()
    if named:
        return [
            (name, route.targets[0].provider.name)
            for name, route in named.items()
            if grant.allows(name) and grant.permits(route)
        ]
    found = []
    for provider in snapshot.providers.values():
        for facts in snapshot.prices.models(provider.entry.price_sheet):
            name = f"{provider.name}/{facts.model}"
            if facts.mode in _SERVED and grant.allows(name):
                found.append((name, provider.name))
    return found


def _row(name: str, owner: str, snapshot: Snapshot) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": snapshot.started, "owned_by": owner}


def _respond(client: Client, request: ModelRequest, value: object) -> None:
    headers = b"content-type: application/json\r\nx-tollway-request-id: " + request.id.encode() + b"\r\n"
    client.respond(200, headers, msgspec.json.encode(value))
