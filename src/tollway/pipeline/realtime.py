"""The story of a realtime session: a client's WebSocket relayed to a provider's, both ways, message for message.

Until the provider's socket stands a refusal is an ordinary HTTP answer. Afterwards it is an ``error`` event and a close
code: 1008 budget or key, 1013 rate limit or ledger, 1009 too large, 1001 a clock of ours, 1011 a provider that broke
off; a side's own close code is passed on to the other (``session.py``).
"""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import TypeAlias
from urllib.parse import quote, unquote_to_bytes, urlencode

from tollway.errors import (
    AmbiguousCredentials,
    BadRequest,
    GatewayError,
    InvalidKey,
    ModelNotAllowed,
    NoHealthyDeployment,
    UnpricedModel,
    UpgradeRequired,
    UpstreamError,
)
from tollway.pipeline import meter
from tollway.pipeline.authenticate import authenticate, credential
from tollway.pipeline.client import Client, ModelRequest
from tollway.pipeline.client_secrets import PREFIX, Bound
from tollway.pipeline.record import Attempt
from tollway.pipeline.resolve import Call
from tollway.pipeline.services import Services
from tollway.pipeline.session import Caller, ClientSocket, Session, grant_of
from tollway.pipeline.session_account import SessionAccount
from tollway.pipeline.session_models import SessionModels
from tollway.pipeline.snapshot import ServedRoute, Snapshot, Target
from tollway.providers.websocket import HandshakeRefused, UpstreamSocket, open_socket
from tollway.routing import STRATEGIES

ENDPOINT = "realtime"
SUBPROTOCOL = "realtime"
KEY_PROTOCOL = "openai-insecure-api-key."
BETA_PROTOCOL = "openai-beta.realtime-v1"

_PASSED = (b"openai-beta", b"openai-safety-identifier")
"""Headers of the handshake that mean something to the provider; no other one is passed on."""

Opened: TypeAlias = tuple[Target, UpstreamSocket]


async def plain_request(request: ModelRequest, client: Client, app: Services) -> None:
    """A request to the socket's path that offers no upgrade."""
    raise UpgradeRequired(
        "This path speaks WebSocket: connect with wss:// (or ws://) and GET.",
        headers={"upgrade": "websocket", "sec-websocket-version": "13"},
    )


async def converse(request: ModelRequest, socket: ClientSocket, app: Services) -> None:
    """Serve one session to its end. Raises GatewayError while it can still be answered in HTTP."""
    snapshot = app.snapshot
    caller = await identify(request, socket.protocols, app)
    route, transcribes = _resolve(request, caller, snapshot)
    call = Call(request, {}, caller.grant, route, True, False, None, 1)
    account = SessionAccount(call, app)
    loop = asyncio.get_running_loop()
    # The client has nothing to say before it is accepted: what comes is that it has left.
    first = loop.create_task(socket.receive())
    opening = loop.create_task(_open(call, caller, account, transcribes, socket, app))
    opened: Opened | None = None
    try:
        opened = await _unless_left(opening, first)
    finally:
        if opened is None:
            account.end("cancelled", 499, "the client left before the socket stood")
            first.cancel()
            first.add_done_callback(_seen)
    if opened is None:
        return
    target, upstream = opened
    models = SessionModels(caller.grant, snapshot, route, target, transcribes=transcribes)
    await Session(call, caller, models, account, socket, upstream, app).run(first)


async def _unless_left(opening: asyncio.Task[Opened], first: asyncio.Task[str | bytes]) -> Opened | None:
    """What was opened; None where the client left before. A cancellation leaves nothing open."""
    try:
        await asyncio.wait((first, opening), return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        opening.cancel()
        await asyncio.wait((opening,))
        if not opening.cancelled() and opening.exception() is None:
            opening.result()[1].abort()
        raise
    if not opening.done():
        opening.cancel()
        await asyncio.wait((opening,))
        if opening.cancelled():
            return None
    return opening.result()


def _seen(first: asyncio.Task[str | bytes]) -> None:
    """Whatever it was, nobody waits for it any more."""
    if not first.cancelled():
        first.exception()


async def identify(request: ModelRequest, protocols: list[str], app: Services) -> Caller:
    """Whose session it is: by a header, ``?key=``, or the subprotocol in which a browser hides its key.

    Raises as ``authenticate``; a client secret that is unknown or has expired is an InvalidKey.
    """
    snapshot = app.snapshot
    now = app.wall_clock()
    for token in {one.removeprefix(KEY_PROTOCOL) for one in protocols if one.startswith(KEY_PROTOCOL)}:
        value = b"Bearer " + token.encode("latin-1", "replace")
        if request.headers.get(b"authorization", value) != value:
            raise AmbiguousCredentials("The request carries two different credentials. Send one.")
        request.headers = {**request.headers, b"authorization": value}
    given = credential(request.headers, request.query)
    if given is None or not given.startswith(PREFIX):
        grant = authenticate(request, snapshot, now)
        return Caller(grant, sha256(given).digest() if given is not None else None, None)
    if request.repeated:
        raise AmbiguousCredentials("The request carries a credential header twice. Send it once.")
    bound = await app.client_secrets.fetch(given, now)
    if bound is None:
        raise InvalidKey("The client secret is not known here or has expired. Ask for a new one.")
    return Caller(grant_of(bound.key, snapshot, now), bound.key, bound)


def _query(request: ModelRequest) -> dict[str, str]:
    """The query's parameters; a plus sign is one, since a model's name may hold it and never holds a space."""
    found: dict[str, str] = {}
    for part in request.query.split(b"&"):
        name, _, value = part.partition(b"=")
        key = unquote_to_bytes(name).decode("utf-8", "replace")
        if key in found and key in ("model", "deployment", "intent"):
            raise BadRequest(f"The query gives {key!r} more than once. Give it once.", param=key)
        found[key] = unquote_to_bytes(value).decode("utf-8", "replace")
    return found


def _resolve(request: ModelRequest, caller: Caller, snapshot: Snapshot) -> tuple[ServedRoute, bool]:
    """The route, and whether the session is one that only transcribes."""
    query = _query(request)
    if "call_id" in query:
        raise BadRequest("Calls are not served here: name a model instead of a call_id.", param="call_id")
    intent = query.get("intent", "")
    if intent not in ("", "transcription"):
        raise BadRequest("'intent' may only be 'transcription'.", param="intent")
    model = query.get("model", "")
    deployment = query.get("deployment", "")  # as Azure's clients call it
    if model and deployment not in ("", model):
        raise BadRequest("'model' and 'deployment' name two models. Give one.", param="deployment")
    model = model or deployment
    bound = caller.bound
    if bound is not None:
        if model and model not in (bound.model, bound.upstream_model):
            raise ModelNotAllowed(
                f"This client secret was made for model {bound.model!r}. Ask for another one.", param="model"
            )
        if intent and not bound.transcribes:
            raise BadRequest("This client secret was not made for transcription.", param="intent")
        return caller.grant.route(bound.model, snapshot), bound.transcribes
    if not model:
        raise BadRequest(
            "The request names no model. Connect with ?model=…; GET /v1/models lists the names.",
            param="model",
        )
    route = caller.grant.route(model, snapshot)
    refuse_unpriced(route)
    return route, intent == "transcription"


def refuse_unpriced(route: ServedRoute) -> None:
    """Raises UnpricedModel."""
    if route.route.unpriced == "refuse" and any(t.deployment.price is None for t in route.targets):
        raise UnpricedModel(
            f"Model {route.name!r} has no known price and unpriced requests are refused here. "
            "Give it a price in the configuration (models: … price: {input: …, output: …}).",
            param="model",
        )


def in_order(route: ServedRoute, endpoint: str, app: Services) -> list[int]:
    """The targets that offer an endpoint, in the route's order. Raises BadRequest when none does."""
    targets = route.targets
    order = STRATEGIES[route.route.strategy]([t.deployment.weight for t in targets], app.jitter)
    found = [index for index in order if targets[index].provider.offers(endpoint)]
    if not found:
        names = ", ".join(dict.fromkeys(target.provider.name for target in targets))
        raise BadRequest(
            f"Provider {names} of model {route.name!r} does not serve {endpoint}.", param="model"
        )
    return found


async def _open(
    call: Call,
    caller: Caller,
    account: SessionAccount,
    transcribes: bool,
    socket: ClientSocket,
    app: Services,
) -> Opened:
    """Hold, connect to the first target that answers, and accept the client."""
    order = in_order(call.route, ENDPOINT, app)
    bound = caller.bound
    if bound is not None:
        order = [index for index in order if _is_bound(call.route.targets[index], bound)]
    await account.open()
    failure: GatewayError = NoHealthyDeployment(f"No deployment of model {call.route.name!r} can serve this.")
    for index in order:
        target = call.route.targets[index]
        attempt = account.attempt(target)
        try:
            upstream = await _connect(call, target, bound, transcribes, socket, app)
        except UpstreamError as error:
            failure = error
            attempt.finish("error", error.http_status, meter.nothing(target), error=error.message)
            if not error.fallback:
                break
            continue
        except BaseException as error:
            left = isinstance(error, asyncio.CancelledError)
            attempt.finish("cancelled" if left else "error", 499 if left else 500, meter.nothing(target))
            raise
        account.connected(attempt)
        try:
            await _accept(call, attempt, index, account, socket)
        except BaseException:
            upstream.abort()
            raise
        return target, upstream
    raise failure


async def _connect(
    call: Call,
    target: Target,
    bound: Bound | None,
    transcribes: bool,
    socket: ClientSocket,
    app: Services,
) -> UpstreamSocket:
    request = target.provider.request(ENDPOINT, b"", clocks=target.deployment.clocks)
    headers = call.request.headers
    passed = [(name.decode(), headers[name].decode("latin-1")) for name in _PASSED if name in headers]
    if BETA_PROTOCOL in socket.protocols and b"openai-beta" not in headers:
        passed.append(("openai-beta", "realtime=v1"))
    asked = {"intent": "transcription"} if transcribes else {"model": target.deployment.upstream_model}
    try:
        return await open_socket(
            app.upstream,
            request,
            query=urlencode(asked, quote_via=quote),
            headers=passed,
            secret=bound.secret if bound is not None else None,
            max_message=app.snapshot.settings.server.max_message,
        )
    except HandshakeRefused as refused:
        raise target.provider.error(refused.status, refused.headers, refused.body) from None


async def _accept(
    call: Call, attempt: Attempt, index: int, account: SessionAccount, socket: ClientSocket
) -> None:
    lines = f"x-tollway-request-id: {call.request.id}\r\nx-tollway-attempts: {attempt.number}\r\n".encode()
    # Browsers want one of the subprotocols they offered; the one with the key is not repeated.
    chosen = SUBPROTOCOL if SUBPROTOCOL in socket.protocols else None
    await socket.accept(chosen, call.route.naming[index] + lines + account.ratelimit_headers())


def _is_bound(target: Target, bound: Bound) -> bool:
    return target.provider.name == bound.provider and target.deployment.upstream_model == bound.upstream_model
