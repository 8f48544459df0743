"""What is known of objects: read out of their JSON, listed to their owner, brought up to date at their provider."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from tollway.errors import BadRequest, UpstreamError
from tollway.model.artifact import Artifact, Query
from tollway.model.operation import Operation
from tollway.pipeline import settle_batch
from tollway.pipeline.client import Client, ModelRequest
from tollway.pipeline.grant import Grant
from tollway.pipeline.holdings import Holdings
from tollway.pipeline.local_objects import respond
from tollway.pipeline.ownership import owner_of, shown
from tollway.pipeline.services import Services
from tollway.providers.forwarding import forwarded, segment
from tollway.wire import body as json_body

MAX_PAGE = 100
FRESHENED = 8
"""Objects of a list that are asked for at the same time."""

MAX_SHOWN = 64 * 1024

FINAL = frozenset(
    (
        b'"completed"',
        b'"failed"',
        b'"cancelled"',
        b'"canceled"',
        b'"expired"',
        b'"succeeded"',
        b'"processed"',
        b"",
    )
)
"""An object whose status is one of these does not change by itself; one without a status neither."""


def artifact_of(
    kind: str, found: dict[str, Raw], body: bytes, provider: str, owner: str, team: str | None, now: float
) -> Artifact | None:
    """An object out of its JSON; None where it has no id."""
    id = string(found, "id")
    if not id:
        return None
    return Artifact(
        id=id,
        kind=kind,
        provider=provider,
        owner=owner,
        team=team,
        purpose=string(found, "purpose"),
        created=_time(found, "created_at") or now,
        expires=_time(found, "expires_at") if kind in ("file", "upload") else None,
        shown=body if len(body) <= MAX_SHOWN else b"{}",
    )


def byproducts(
    found: dict[str, Raw], provider: str, owner: str, team: str | None, now: float
) -> list[Artifact]:
    """The files that an object says were made of it: a batch's results, an upload's file, a tuning's metrics."""
    ids = [string(found, name) for name in ("output_file_id", "error_file_id")]
    results = found.get("result_files")
    if results is not None and bytes(results)[:1] == b"[":
        try:
            ids += msgspec.json.decode(results, type=list[str])
        except msgspec.DecodeError:
            ids += []
    made = [
        Artifact(
            id=id, kind="file", provider=provider, owner=owner, team=team, purpose="batch_output", created=now,
            shown=b"{}",
        )
        for id in ids
        if id
    ]  # fmt: skip
    file = found.get("file")
    if file is not None and bytes(file)[:1] == b"{":
        whole = artifact_of("file", shown(bytes(file)), bytes(file), provider, owner, team, now)
        made += [whole] if whole is not None else []
    return made


def string(found: dict[str, Raw], name: str) -> str:
    raw = found.get(name)
    return (json_body.text(found, name) or "") if raw is not None and bytes(raw)[:1] == b'"' else ""


def _time(found: dict[str, Raw], name: str) -> float | None:
    raw = bytes(found.get(name, b""))
    return float(raw) if raw.isdigit() and len(raw) < 12 else None


async def list_objects(
    request: ModelRequest,
    grant: Grant,
    client: Client,
    app: Services,
    operation: Operation,
    holdings: Holdings,
) -> None:
    """The caller's own objects, by what is known of them; those that still change are asked for again."""
    asked = {name: values[-1] for name, values in parse_qs(request.query.decode("latin-1")).items()}
    limit = asked.get("limit", "20")
    if not limit.isdecimal() or not 1 <= int(limit[:9]) <= 10_000:
        raise BadRequest("'limit' must be a number from 1 to 10000.", param="limit")
    page = await holdings.registry.page(
        Query(
            kind=operation.kind,
            owner=None if grant.principal.kind == "admin" else owner_of(grant.principal),
            limit=min(int(limit[:9]), MAX_PAGE),
            after=asked.get("after"),
            ascending=asked.get("order") == "asc",
            purpose=asked.get("purpose", ""),
        )
    )
    room = asyncio.Semaphore(FRESHENED)

    async def fresh(artifact: Artifact) -> bytes:
        async with room:
            return await freshen(artifact, app, holdings)

    data = [Raw(body) for body in await asyncio.gather(*(fresh(one) for one in page.artifacts))]
    ids = [one.id for one in page.artifacts]
    value = {
        "object": "list",
        "data": data,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
        "has_more": page.more,
    }
    respond(client, request, value)


async def freshen(artifact: Artifact, app: Services, holdings: Holdings) -> bytes:
    """An object's JSON: as last seen where it is final (or its provider does not answer), else asked for anew. Asking
    is free and leaves no event."""
    found = shown(artifact.shown)
    provider = app.snapshot.providers.get(artifact.provider)
    offer = OFFERS.get(artifact.kind)
    final = bytes(found.get("status", b"")) in FINAL and bool(found)
    if (final and artifact.settled) or provider is None or offer is None or not provider.offers(offer):
        return artifact.shown if found else msgspec.json.encode({"id": artifact.id, "object": artifact.kind})
    request = forwarded(
        provider, offer, method=b"GET", below=f"/{segment(artifact.id)}", accept=b"application/json",
        clocks=provider.settings.clocks,
    )  # fmt: skip
    try:
        answer = await app.upstream.send(request)
        body = await answer.body(MAX_SHOWN)
    except UpstreamError:
        return artifact.shown
    found = shown(body)
    if answer.status != 200 or string(found, "id") != artifact.id:
        return artifact.shown if shown(artifact.shown) else msgspec.json.encode({"id": artifact.id})
    changed = replace(artifact, shown=body)
    if body != artifact.shown:
        await holdings.registry.keep([changed])
    await holdings.registry.add(
        byproducts(found, artifact.provider, artifact.owner, artifact.team, app.wall_clock())
    )
    if artifact.kind == "batch" and not artifact.settled:
        await settle_batch.settle(changed, app, holdings)
    return body


OFFERS = {
    "file": "files",
    "batch": "batches",
    "video": "videos",
    "upload": "uploads",
    "vector_store": "vector_stores",
    "assistant": "assistants",
    "thread": "threads",
    "fine_tuning.job": "fine_tuning.jobs",
}
"""The endpoint of the catalogue at which each kind is made."""
