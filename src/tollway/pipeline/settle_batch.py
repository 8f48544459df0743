"""What a provider's batch cost, written down once it is over: its lines ran out of our sight, and only their sum is
told. Its event's id follows from the batch's, so however often the end is noticed the ledger has it once.
"""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from tollway.errors import ModelNotFound
from tollway.model.artifact import Artifact
from tollway.model.usage import NOTHING
from tollway.pipeline import meter
from tollway.pipeline.client import ModelRequest
from tollway.pipeline.grant import Grant
from tollway.pipeline.holdings import Holdings, only
from tollway.pipeline.meter import Metered
from tollway.pipeline.resolve import Call
from tollway.pipeline.services import Services
from tollway.pipeline.snapshot import ServedRoute, Snapshot
from tollway.shared.interface import Amounts
from tollway.shared.measures import UNBOUNDED

OVER = frozenset(("completed", "failed", "expired", "cancelled"))


class _Counts(msgspec.Struct):
    completed: int = 0


class _Batch(msgspec.Struct):
    status: str = ""
    usage: Raw = Raw()
    request_counts: _Counts | None = None


_decode = msgspec.json.Decoder(_Batch).decode


def grant_of(owner: str, snapshot: Snapshot) -> Grant | None:
    """On whose behalf a thing of this owner is worked at; None for a key that is no more."""
    if owner == "admin":
        return snapshot.admin
    if owner == "anonymous":
        return None if snapshot.settings.require_key else snapshot.anonymous
    keys = snapshot.keys()
    key = next((key for key in keys if key.id == owner and key.revoked_at is None), None)
    return snapshot.grant(bytes.fromhex(key.hash)) if key is not None else None


async def settle(batch: Artifact, app: Services, holdings: Holdings) -> None:
    """Write the batch's event and count what it cost on its owner's budgets, if it is over and that was not done."""
    try:
        told = _decode(batch.shown)
    except (msgspec.DecodeError, RecursionError):
        return
    if told.status not in OVER or batch.settled or batch.id in holdings.settling:
        return
    holdings.settling.add(batch.id)
    try:
        snapshot = app.snapshot
        route = _route(batch, snapshot, holdings)
        if route is None:
            return
        grant = grant_of(batch.owner, snapshot) or snapshot.anonymous
        digest = hashlib.sha256(f"{batch.provider}\0{batch.id}".encode()).hexdigest()
        request = ModelRequest(
            endpoint="batches", headers={}, body=b"", id=f"req_{digest[:24]}", started=app.clock()
        )
        call = Call(request, {}, grant, route, False, True, None, 1)
        target = route.targets[0]
        found = (
            meter.metered(target, told.usage, "batch") if bytes(told.usage) not in (b"", b"null") else None
        )
        if found is None:
            used = told.request_counts is None or told.request_counts.completed > 0
            found = Metered(usage=NOTHING, cost=0, priced=not used, estimated=False)
        # It ran: what it took is counted where it was held, however much is left there. Windows are for what is asked
        # for now, and one batch is one request.
        claims = tuple(
            replace(claim, limit=UNBOUNDED, enforce=False)
            for claim in grant.taking(route).claims
            if claim.per and claim.unit != "requests"
        )
        hold = await app.counters.reserve(claims, Amounts()) if claims else None
        attempt = app.journal.begin(call, target, 1)
        attempt.finish("ok" if told.status != "failed" else "error", 200, found)
        if hold is not None:
            call.settle(hold)
        await holdings.registry.keep([replace(batch, settled=True)])
    finally:
        holdings.settling.discard(batch.id)


def _route(batch: Artifact, snapshot: Snapshot, holdings: Holdings) -> ServedRoute | None:
    """The deployment the batch ran at, as it is configured now; the provider as such where that is gone."""
    if batch.model:
        try:
            route = snapshot.route(batch.model, snapshot.admin)
        except ModelNotFound:
            route = None
        for index, target in enumerate(route.targets if route is not None else ()):
            if route is not None and target.deployment.id == batch.deployment:
                return only(route, index)
    provider = snapshot.providers.get(batch.provider)
    return holdings.whole(provider, snapshot) if provider is not None else None
