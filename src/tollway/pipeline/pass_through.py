"""The hallway's side door: a client's own request to a provider's own API. Authenticated, allowed by the key's list,
held and recorded like any other; the bytes are not looked at beyond the model asked for, the objects named and the
usage answered.
"""

from __future__ import annotations

import asyncio
import re

from msgspec import Raw

from tollway.errors import ModelNotAllowed, NotFound, UnpricedModel, UpstreamError
from tollway.model.artifact import Artifact
from tollway.model.deployment import Deployment, Route
from tollway.pipeline import meter, named_objects, passed_objects
from tollway.pipeline.authenticate import admit, authenticate
from tollway.pipeline.client import Client, ModelRequest
from tollway.pipeline.grant import Grant
from tollway.pipeline.meter import Metered
from tollway.pipeline.passed_objects import Passage
from tollway.pipeline.record import Attempt
from tollway.pipeline.reserve import input_tokens, reserve
from tollway.pipeline.resolve import Call, for_end_user
from tollway.pipeline.services import Services
from tollway.pipeline.snapshot import ServedRoute, Snapshot, Target
from tollway.providers.provider import Provider
from tollway.providers.request import NotSent, UpstreamRequest
from tollway.providers.upstream import Answer
from tollway.shared.interface import Hold
from tollway.wire import body as json_body
from tollway.wire.formats.openai_stream import StreamTap
from tollway.wire.formats.openai_usage import read_answer
from tollway.wire.sse import EventTooLarge

_KEPT_OUT = frozenset(
    (
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-connection", b"te", b"trailer",
        b"transfer-encoding", b"upgrade", b"content-length", b"content-encoding", b"date", b"server", b"set-cookie",
        b"alt-svc", b"strict-transport-security",
    )
)  # fmt: skip
_UNMETERED = re.compile(rb"(?:^|/)realtime/(?:client_secrets|sessions|transcription_sessions|calls)")
"""What would give a client the provider's own credential, or a session past this gateway."""

_FREE_METHODS = frozenset((b"GET", b"HEAD", b"DELETE", b"OPTIONS"))
_MODEL_PATH = re.compile(
    rb"(/v\d+\w*)?/(chat/completions|completions|embeddings|responses|messages(/count_tokens)?|moderations|rerank"
    rb"|images/generations|audio/speech)"
)
"""Where the model in the body is all that a request touches; elsewhere files, jobs or deployments are at stake."""

_GOES_ON = b"x-goog-upload-url"
"""Where an upload goes on that was begun: an address of the provider's, which knows no keys of ours."""

MAX_WHOLE = 8 * 1024 * 1024
"""JSON answers up to this size are read whole for their usage; larger ones pass as they come, unpriced."""


async def pass_through(request: ModelRequest, client: Client, app: Services) -> None:
    """``request.path`` is ``/{provider}/…``. Raises GatewayError until the first byte of an answer has been sent."""
    snapshot = app.snapshot
    name, _, rest = request.path.lstrip(b"/").partition(b"/")
    registry = app.holdings.registry
    now = app.wall_clock()
    grant = await passed_objects.ticketed(request, name.decode("latin-1"), snapshot, registry, now)
    grant = grant or authenticate(request, snapshot, now)
    provider = snapshot.providers.get(name.decode("latin-1"))
    if _UNMETERED.search(rest):
        raise NotFound(
            "Sessions are not handed to the provider itself, where nobody would meter them. Use /v1/realtime here."
        )
    if provider is None:
        raise NotFound(
            f"No path {request.path[:200].decode('latin-1')!r} here, and no provider of that name."
        )
    call = _call(request, b"/" + rest, grant, provider, snapshot)
    if call.grant is not grant:  # the body names an end user
        grant = call.grant
        admit(grant, now)
    if (
        call.route.route.unpriced == "refuse"
        and call.route.route.targets[0].price is None
        and _billable(request)
    ):
        raise UnpricedModel(
            "Unpriced requests are refused here, and the price of this one is not known.", param="model"
        )
    upstream_request = _upstream(call, b"/" + rest, provider)
    objects = passed_objects.passage(request, b"/" + rest, provider)
    known = await passed_objects.admit(request, b"/" + rest, objects, provider, grant, registry)
    if objects is not None and objects.does == "list":
        told = await passed_objects.listed(request, objects, provider, grant, registry)
        if told is not None:
            request_id = request.id.encode()
            lines = b"content-type: application/json\r\nx-tollway-request-id: %b\r\n" % request_id
            client.respond(200, lines, told)
            return
    _check_kind(request, b"/" + rest, objects, grant)
    if call.fields and named_objects.may_name(request, cached=True):
        names = await named_objects.read(request.body)
        body = await named_objects.check(request.body, names, grant.principal, registry, [provider])
        if body is not request.body:
            request.body = body
            call.fields = json_body.parse(body)
            upstream_request = _upstream(call, b"/" + rest, provider)
    watched = _Watched(objects, known, call, app, provider)
    ceilings = grant.taking(call.route)
    hold = await reserve(call, ceilings, app.counters) if ceilings.claims else None
    try:
        attempt = app.journal.begin(call, call.route.targets[0], 1)
        answer: Answer | None = None
        try:
            answer = await app.upstream.send(upstream_request)
            await _relay(call, attempt, answer, hold, client, app, watched)
        except UpstreamError as error:
            if answer is not None:
                answer.abort()
            attempt.finish("error", error.http_status, meter.nothing(attempt.target), error=error.message)
            if client.begun:
                client.break_off()
                return
            raise
        except asyncio.CancelledError as cancelled:
            if answer is not None:
                answer.abort()
            counted = meter.nothing(attempt.target)
            if not isinstance(cancelled, NotSent):
                counted = meter.estimated(attempt.target, input_tokens(request.body), 0)
            attempt.finish("cancelled", 499, counted, error="the client left")
            raise
        except BaseException:
            if answer is not None:
                answer.abort()
            attempt.finish("error", 500, meter.nothing(attempt.target), error="internal error")
            raise
    finally:
        if hold is not None:
            call.settle(hold)


def _check_kind(request: ModelRequest, path: bytes, objects: Passage | None, grant: Grant) -> None:
    """A body that is not called JSON is not looked at, and a provider may read it as such all the same. What names no
    objects is let through: forms, and the bytes of an upload. Raises UnsupportedMedia."""
    kind = request.headers.get(b"content-type", b"").lower()
    if not request.body or grant.principal.kind == "admin" or b"json" in kind:
        return
    files = (
        objects.family.name == "files"
        if objects is not None
        else not passed_objects.MODEL_PATH.fullmatch(path)
    )
    if files and (kind.startswith(b"multipart/form-data") or path.startswith(b"/upload/")):
        return
    raise json_body.unsupported(kind)


def _upstream(call: Call, path: bytes, provider: Provider) -> UpstreamRequest:
    request = call.request
    return provider.passthrough(
        request.method, path, request.query, request.header_list, _judged(request, call),
        clocks=provider.settings.clocks,
    )  # fmt: skip


def _billable(request: ModelRequest) -> bool:
    return request.method not in _FREE_METHODS


def _judged(request: ModelRequest, call: Call) -> bytes:
    """The body as it came. One too large to be searched for a second ``model`` goes on as it was read."""
    if call.fields and len(request.body) > json_body.CHECK_DUPLICATES_BELOW:
        return json_body.encode(call.fields)
    return request.body


def _call(request: ModelRequest, path: bytes, grant: Grant, provider: Provider, snapshot: Snapshot) -> Call:
    """What is asked for, as far as it shows: a JSON body's model is held to the key's list; without one, or where
    more than a model is touched, the key must be allowed everything of the provider."""
    fields: json_body.Fields = {}
    model: str | None = None
    json = b"json" in request.headers.get(b"content-type", b"").lower()
    if (
        request.body and json and not path.startswith(b"/upload/")
    ):  # Google's clients call any bytes JSON there
        fields = json_body.parse(request.body)
        json_body.refuse_duplicate(request.body, fields, "model")
        model = json_body.text(fields, "model")
        if request.method == b"POST":
            grant = for_end_user(fields, grant)
    everything = grant.allows_all_of(provider.name)
    if model and (everything or (request.method == b"POST" and _MODEL_PATH.fullmatch(path))):
        route = grant.route(f"{provider.name}/{model}", snapshot)
    elif everything:
        deployment = Deployment(id=provider.name, provider=provider.name, upstream_model="")
        unpriced = provider.settings.unpriced or snapshot.settings.unpriced
        free = Route(name="", targets=(deployment,), unpriced=unpriced)
        route = ServedRoute(free, (Target(deployment, provider, None),))
    else:
        raise ModelNotAllowed(
            "This key may use single models only. Anything of a provider but a request to a model needs "
            f"{provider.name}/* on its list."
        )
    stream = bool(fields) and bytes(fields.get("stream", Raw(b"false"))) == b"true"
    return Call(request, fields, grant, route, stream, True, None, 1)


class _Watched:
    """The objects a request is about, if any, on the way of its answer."""

    __slots__ = ("_app", "_call", "_known", "_objects", "_provider")

    def __init__(
        self, objects: Passage | None, known: Artifact | None, call: Call, app: Services, provider: Provider
    ) -> None:
        self._objects = objects
        self._known = known
        self._call = call
        self._app = app
        self._provider = provider

    def redirect(self, answer: Answer) -> None:
        address = answer.headers.get(_GOES_ON)
        if address is not None:
            app = self._app
            answer.headers[_GOES_ON] = passed_objects.led_here(
                address,
                self._call.request,
                self._provider,
                app.snapshot,
                app.holdings.registry,
                app.wall_clock(),
            )

    async def done(self, body: bytes) -> None:
        if self._objects is not None:
            await passed_objects.settle(
                self._objects, self._known, self._provider, self._call.grant, self._app.holdings.registry, body,
                self._app.wall_clock(),
            )  # fmt: skip


async def _relay(
    call: Call,
    attempt: Attempt,
    answer: Answer,
    hold: Hold | None,
    client: Client,
    app: Services,
    watched: _Watched,
) -> None:
    watched.redirect(answer)
    headers = b"".join(
        name + b": " + value + b"\r\n" for name, value in answer.headers.items() if name not in _KEPT_OUT
    )
    headers += b"x-tollway-request-id: " + call.request.id.encode() + b"\r\n" + call.route.naming[0]
    content_type = answer.headers.get(b"content-type", b"").lower()
    length = answer.headers.get(b"content-length", b"")
    outcome = answer.status if answer.status >= 400 else 0

    def finish(found: Metered, *, streamed: bool) -> None:
        attempt.finish(
            "error" if outcome else "ok",
            answer.status,
            found,
            streamed=streamed,
            overhead=attempt.sent_at - call.request.started,
            error=f"the provider answered with status {outcome}" if outcome else None,
        )
        if hold is not None:
            call.settle(hold)

    whole = not answer.sse and (b"json" in content_type or answer.complete)
    if whole and (not length.isdigit() or int(length) <= MAX_WHOLE):
        body = await answer.body(64 * 1024 * 1024)
        if outcome:
            body = attempt.target.provider.redact(body)
        reported = read_answer(body) if not outcome else None
        found = None
        if reported is not None:
            found = meter.metered(attempt.target, reported.usage, reported.service_tier)
        if found is None:
            found = meter.nothing(attempt.target) if outcome else _unmetered(call, attempt)
        if not outcome:
            await watched.done(body)
        finish(found, streamed=False)
        cost = meter.usd(found)
        headers += b"x-tollway-cost-usd: " + (cost.encode() if cost is not None else b"unpriced") + b"\r\n"
        client.respond(answer.status, headers, body)
        return
    if not outcome:
        await watched.done(b"")
    tap = StreamTap(hide_usage=False) if answer.sse else None
    client.start(answer.status, headers, b"")
    while data := await answer.read():
        if attempt.first_token_at == 0:
            attempt.first_token_at = app.clock()
        answer.progressed(app.clock())
        if tap is not None:
            try:
                tap.feed(data)
            except EventTooLarge:
                tap = None
            if tap is not None and tap.failure:
                data = attempt.target.provider.redact(data)
        client.send(data)
        if client.congested:
            await client.drain()
    found = meter.metered(attempt.target, tap.usage) if tap is not None and tap.usage is not None else None
    finish(found or _unmetered(call, attempt), streamed=True)
    client.finish(b"")


def _unmetered(call: Call, attempt: Attempt) -> Metered:
    """No usage was answered: nothing to pay for reading and deleting, otherwise a price we do not know."""
    found = meter.nothing(attempt.target)
    if not _billable(call.request):
        return meter.Metered(usage=found.usage, cost=0, priced=True, estimated=False)
    return meter.Metered(usage=found.usage, cost=0, priced=False, estimated=False)
