"""``GET /v1/models``: the models a key may use, in OpenAI's list shape."""

from __future__ import annotations

from typing import Any

import msgspec

from tollway.errors import ModelNotFound
from tollway.pipeline.authenticate import authenticate
from tollway.pipeline.client import Client, ModelRequest
from tollway.pipeline.services import Services
from tollway.pipeline.snapshot import Grant, Snapshot

_SERVED = frozenset(("chat", "completion", "embedding", "responses"))


async def list_models(request: ModelRequest, client: Client, app: Services) -> None:
    """The named models; without any, what the price book knows of the configured providers, as ``provider/model``."""
    snapshot = app.snapshot
    grant = authenticate(request, snapshot, app.wall_clock())
    rows = [_row(name, owner, snapshot) for name, owner in _visible(grant, snapshot)]
    _respond(client, request, {"object": "list", "data": rows})


async def show_model(request: ModelRequest, client: Client, app: Services) -> None:
    """One model; ``request.path`` is its name. Raises ModelNotFound, also for what the key may not use."""
    snapshot = app.snapshot
    grant = authenticate(request, snapshot, app.wall_clock())
    name = request.path.decode("utf-8", "replace")
    if not grant.allows(name):
        raise ModelNotFound(f"Model {name[:200]!r} does not exist here.", param="model")
    route = grant.route(name, snapshot)
    _respond(client, request, _row(name, route.targets[0].provider.name, snapshot))


def _visible(grant: Grant, snapshot: Snapshot) -> list[tuple[str, str]]:
    named = snapshot.named()
    if named:
        return [(name, route.targets[0].provider.name) for name, route in named.items() if grant.allows(name)]
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
