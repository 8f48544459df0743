"""A batch's line through the hallway: the same handlers as at the doors, on behalf of whoever made the batch."""

from __future__ import annotations

from contextlib import suppress

from tollway.errors import GatewayError, InvalidKey, NotFound
from tollway.http.doorway import Handler, RequestIds, walk
from tollway.http.endpoints import MODEL_PATHS
from tollway.http.errors import refusal
from tollway.http.incoming import Operating
from tollway.http.operations import Found, find
from tollway.jobs.run_batches import Served
from tollway.pipeline.client import Caller, ModelRequest
from tollway.pipeline.collect import Collected
from tollway.pipeline.serve import serve
from tollway.pipeline.services import Services
from tollway.pipeline.settle_batch import grant_of


async def serve_line(app: Services, ids: RequestIds, owner: str, url: str, body: bytes) -> Served:
    """What ``owner`` would have been answered; a refusal is an answer too."""
    request = ModelRequest(
        endpoint="",
        headers={b"content-type": b"application/json"},
        body=body,
        id=ids.next(),
        started=app.clock(),
    )
    snapshot = app.snapshot
    grant = grant_of(owner, snapshot)
    handler = _handler(url.encode(), request)
    if grant is None or handler is None:
        problem: GatewayError = NotFound(f"There is no {url!r} here.")
        if grant is None:
            problem = InvalidKey("The key that made the batch is not known here any more.")
        status, _, refused = refusal(problem, request.id)
        return Served(status, request.id, refused)
    request.caller = Caller()
    request.caller.of, request.caller.found = snapshot, grant
    client = Collected()
    await walk(handler, request, client, app)
    if not client.status:
        problem = NotFound("The answer broke off.")
        _, _, refused = refusal(problem, request.id)
        return Served(502, request.id, refused)
    after: float | None = None
    with suppress(ValueError):
        after = float(client.headers.get("retry-after", ""))
    return Served(client.status, request.id, bytes(client.body), after)


def _handler(path: bytes, request: ModelRequest) -> Handler | None:
    endpoint = MODEL_PATHS.get(path)
    if endpoint is not None:
        request.endpoint = endpoint.name
        request.dialect = endpoint.dialect
        return serve
    found = find(b"POST", path)
    if isinstance(found, Found) and not found.operation.kind and found.operation.body == "json":
        return Operating(found)
    return None
