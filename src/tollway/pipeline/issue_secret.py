"""Making a client secret: the provider is asked for one of its own, and the client gets one of ours in its place.

The session in the request is held to the key's models like any other; what the provider answers besides its secret goes
back as it came.
"""

from __future__ import annotations

import asyncio
from hashlib import sha256

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest, GatewayError, NoHealthyDeployment, UpstreamError, UpstreamMalformed
from tollway.model.secret import Secret
from tollway.model.usage import NOTHING
from tollway.pipeline import meter
from tollway.pipeline.authenticate import authenticate, credential
from tollway.pipeline.client import Client, ModelRequest
from tollway.pipeline.client_secrets import LONGEST, Bound
from tollway.pipeline.realtime import in_order, refuse_unpriced
from tollway.pipeline.resolve import Call
from tollway.pipeline.services import Services
from tollway.pipeline.session_models import SessionModels
from tollway.pipeline.snapshot import Target
from tollway.providers.upstream import Answer
from tollway.shared.interface import Amounts
from tollway.wire import body
from tollway.wire.formats.openai_realtime import transcription_model

CLIENT_SECRETS = "realtime.client_secrets"
SESSIONS = "realtime.sessions"
TRANSCRIPTION_SESSIONS = "realtime.transcription_sessions"

MAX_ANSWER = 1024 * 1024
SHORTEST = 60.0
"""Seconds a secret lives whose end the provider does not say."""

_decode_float = msgspec.json.Decoder(float, strict=False).decode


async def issue_secret(request: ModelRequest, client: Client, app: Services) -> None:
    """Serve a request for a client secret. Raises GatewayError."""
    snapshot = app.snapshot
    grant = authenticate(request, snapshot, app.wall_clock())
    token = credential(request.headers, request.query)
    fields = body.parse(request.body)
    session = _session(request.endpoint, fields)
    model, transcribes = _model(request.endpoint, session)
    route = grant.route(model, snapshot)
    refuse_unpriced(route)
    call = Call(request, fields, grant, route, False, False, None, 1)
    hold = await app.counters.reserve(grant.claims, Amounts()) if grant.claims else None
    try:
        failure: GatewayError = NoHealthyDeployment(f"No deployment of model {route.name!r} can serve this.")
        for number, index in enumerate(in_order(route, request.endpoint, app), start=1):
            target = route.targets[index]
            told = SessionModels(grant, snapshot, route, target, transcribes=transcribes).rewrite(session)
            try:
                answer = await _ask(call, target, number, _body(request.endpoint, fields, told), app)
            except UpstreamError as error:
                failure = error
                if not error.fallback:
                    break
                continue
            bound = Bound(
                key=sha256(token).digest() if token is not None and grant is not snapshot.anonymous else None,
                model=route.name,
                provider=target.provider.name,
                upstream_model=target.deployment.upstream_model,
                secret=Secret(""),
                transcribes=transcribes,
                expires_at=0.0,
            )
            own = f"x-tollway-request-id: {request.id}\r\nx-tollway-attempts: {number}\r\n".encode()
            lines = b"content-type: application/json\r\ncache-control: no-store\r\n" + own
            client.respond(200, lines + route.naming[index], await _exchanged(answer, bound, app))
            return
        raise failure
    finally:
        if hold is not None:
            hold.settle(nano_usd=0, tokens=0)


def _session(endpoint: str, fields: body.Fields) -> body.Fields:
    if endpoint != CLIENT_SECRETS:
        return fields
    session = body.mapping(fields, "session")
    if session is None:
        raise BadRequest("The request has no 'session'. Send one with its type and model.", param="session")
    return session


def _body(endpoint: str, fields: body.Fields, session: body.Fields) -> bytes:
    if endpoint != CLIENT_SECRETS:
        return body.encode(session)
    return body.encode({**fields, "session": Raw(body.encode(session))})


def _model(endpoint: str, session: body.Fields) -> tuple[str, bool]:
    """The model the session is for, and whether all it does is transcribe."""
    transcribes = endpoint == TRANSCRIPTION_SESSIONS or body.text(session, "type") == "transcription"
    model = transcription_model(Raw(body.encode(session))) if transcribes else body.text(session, "model")
    if not model:
        place = "its transcription's 'model'" if transcribes else "the session's 'model'"
        raise BadRequest(
            f"The request names no model. Set {place}; GET /v1/models lists the names.", param="model"
        )
    return model, transcribes


async def _ask(call: Call, target: Target, number: int, told: bytes, app: Services) -> body.Fields:
    """What the provider answered. The attempt costs nothing and is written down all the same."""
    provider = target.provider
    attempt = app.journal.begin(call, target, number)
    found = meter.Metered(usage=NOTHING, cost=0, priced=True, estimated=False)
    answer: Answer | None = None
    try:
        answer = await app.upstream.send(
            provider.request(call.endpoint, told, clocks=target.deployment.clocks)
        )
        whole = await answer.body(MAX_ANSWER)
        if not 200 <= answer.status < 300:
            raise provider.error(answer.status, answer.headers, whole)
        try:
            fields = body.parse(whole)
            _value(fields)
        except BadRequest:
            raise UpstreamMalformed(
                f"provider {provider.name} answered without a client secret", provider=provider.name
            ) from None
    except BaseException as error:
        if answer is not None:
            answer.abort()
        if isinstance(error, UpstreamError):
            attempt.finish("error", error.http_status, found, error=error.message)
        elif isinstance(error, asyncio.CancelledError):
            attempt.finish("cancelled", 499, found, error="the client left")
        else:
            attempt.finish("error", 500, found, error="internal error")
        raise
    attempt.finish("ok", answer.status, found)
    return fields


def _value(fields: body.Fields) -> str:
    """The provider's secret: at the top, or in ``client_secret`` as the older paths have it."""
    inner = body.mapping(fields, "client_secret") if "client_secret" in fields else fields
    value = body.text(inner or {}, "value")
    if not value or not value.isascii() or not value.isprintable():
        raise BadRequest("no secret")
    return value


async def _exchanged(fields: body.Fields, bound: Bound, app: Services) -> bytes:
    """The provider's answer with our secret, which ends no later than the provider's."""
    now = app.wall_clock()
    inner = body.mapping(fields, "client_secret") if "client_secret" in fields else fields
    assert inner is not None
    try:
        ends = _decode_float(inner["expires_at"])
    except (KeyError, msgspec.DecodeError):
        ends = now + SHORTEST
    ends = min(ends, now + LONGEST)
    bound = msgspec.structs.replace(bound, secret=Secret(_value(fields)), expires_at=ends)
    token = app.client_secrets.issue(bound, now)
    await app.client_secrets.share(token, bound, now)
    told = {
        **inner,
        "value": body.raw(token),
        "expires_at": body.raw(int(ends)),
    }
    return body.encode({**fields, "client_secret": Raw(body.encode(told))} if inner is not fields else told)
