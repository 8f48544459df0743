"""The story of a request. Each line is a stage in a file of its own, in walking order."""

from __future__ import annotations

from tollway.pipeline.authenticate import admit, authenticate
from tollway.pipeline.client import Client, ModelRequest
from tollway.pipeline.dispatch import dispatch
from tollway.pipeline.keep_response import Keeper, attend
from tollway.pipeline.relay import relay
from tollway.pipeline.reserve import reserve, reserve_now
from tollway.pipeline.resolve import resolve
from tollway.pipeline.services import Services


async def serve(request: ModelRequest, client: Client, app: Services) -> None:
    """Serve one model request to its last byte. Raises GatewayError when nothing has been said to the client yet.

    Every attempt writes its event before the answer ends (``dispatch`` and ``relay``); the hold is let go here on
    every way out, cancellation included.
    """
    snapshot = app.snapshot
    grant = authenticate(request, snapshot, app.wall_clock())
    call = resolve(request, grant, snapshot)
    if call.grant is not grant:  # the body names an end user
        grant = call.grant
        admit(grant, app.wall_clock())
    ceilings = grant.taking(call.route)
    keeper: Keeper | None = None
    if call.format == "openai.responses":
        keeper = await attend(call, client, app, serve)
        if keeper is None:
            return
    if not ceilings.claims:
        reply = await dispatch(call, app)
        if keeper is not None:
            client = keeper.of(reply)
        stream = relay(call, reply, None, client, app)
        if stream is not None:
            await stream
        return
    hold = reserve_now(call, ceilings, app.counters)
    if hold is None:
        hold = await reserve(call, ceilings, app.counters)
    try:
        reply = await dispatch(call, app)
        if keeper is not None:
            client = keeper.of(reply)
        stream = relay(call, reply, hold, client, app)
        if stream is not None:
            await stream
    finally:
        # Does nothing once settled. Failed and cancelled attempts cost what their events say.
        call.settle(hold)
