"""The story of a request to a model that is no conversation: images, audio, moderations, rankings, searches, pages.

Bodies in JSON are read whole and may be tried again elsewhere; forms go on while they come, and are tried again only
while nothing of them was sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from urllib.parse import parse_qsl, urlencode

from msgspec.structs import replace

from tollway.errors import (
    BadRequest,
    GatewayError,
    NoHealthyDeployment,
    UnpricedModel,
    UpstreamError,
)
from tollway.model.deployment import Retry
from tollway.model.operation import Operation
from tollway.pipeline import retrying
from tollway.pipeline.appraise import Wish, expected, worst
from tollway.pipeline.authenticate import admit, authenticate
from tollway.pipeline.client import Client, ModelRequest
from tollway.pipeline.dispatch import MAX_ATTEMPTS
from tollway.pipeline.grant import Grant
from tollway.pipeline.hand_over import Adopt, Errand, hand_over
from tollway.pipeline.holdings import Holdings
from tollway.pipeline.named_objects import check, may_name, read
from tollway.pipeline.reserve import MOST
from tollway.pipeline.resolve import Call, for_end_user
from tollway.pipeline.services import Services
from tollway.pipeline.snapshot import ServedRoute, Snapshot, Target
from tollway.pipeline.upload import HeldForm, Incoming, Upload
from tollway.pipeline.wish import of_fields, of_form
from tollway.providers.forwarding import forwarded
from tollway.providers.provider import EVENTS
from tollway.providers.request import UpstreamRequest
from tollway.routing import STRATEGIES
from tollway.shared.interface import Amounts, Claim
from tollway.wire import body as json_body

MODEL = frozenset(("model",))

OWN_QUESTIONS = frozenset(("model", "provider", "key"))
"""What a query asks of us and not of the provider."""


class Task:
    """A request understood. ``write`` makes the provider's request of it, ``again`` says whether that can be made
    another time, ``wish`` what it will cost (None: nothing). ``claims`` are the ceilings that apply (the key's all,
    unless told), ``holds`` is what to hold on them where that is not the wish."""

    def __init__(
        self,
        call: Call,
        operation: Operation,
        write: Callable[[Target], UpstreamRequest],
        *,
        wish: Callable[[], Wish] | None,
        claims: tuple[Claim, ...] | None = None,
        holds: Wish | None = None,
        again: Callable[[], bool] = lambda: True,
        adopt: Callable[[Target], Adopt] | None = None,
    ) -> None:
        self.call = call
        self.operation = operation
        self.write = write
        self.wish = wish
        self.claims = call.grant.taking(call.route).claims if claims is None else claims
        self.holds = holds
        self.again = again
        self.adopt = adopt


async def forward(
    request: ModelRequest,
    client: Client,
    app: Services,
    *,
    operation: Operation,
    holdings: Holdings,
    incoming: Incoming | None = None,
) -> None:
    """``incoming`` is the body where it is a form; else ``request.body`` is whole. Raises GatewayError until something
    was said to the client."""
    request.endpoint = operation.endpoint
    grant = authenticate(request, app.snapshot, app.wall_clock())
    if incoming is None:
        await _own(request, grant, app, operation, holdings)
        task = json_task(request, grant, app.snapshot, operation)
        if task.call.grant is not grant:  # the body names an end user
            admit(task.call.grant, app.wall_clock())
        await serve_task(task, client, app)
        return
    form = HeldForm(incoming, request.headers.get(b"content-type", b""), holdings.folder, MODEL)
    try:
        await form.until(MODEL)
        await serve_task(form_task(request, form, grant, app.snapshot, operation), client, app)
    finally:
        form.close()


async def _own(
    request: ModelRequest, grant: Grant, app: Services, operation: Operation, holdings: Holdings
) -> None:
    """A body may name the caller's objects only. Raises NotFound."""
    if not may_name(request):
        return
    names = await read(request.body)
    if names:
        asked = request.model or json_body.text(json_fields(request), "model")
        route = find_route(asked, operation, grant, app.snapshot)
        providers = [target.provider for target in route.targets]
        request.body = await check(request.body, names, grant.principal, holdings.registry, providers)


def json_task(request: ModelRequest, grant: Grant, snapshot: Snapshot, operation: Operation) -> Task:
    """Raises InvalidJson, BadRequest, ModelNotFound, ModelNotAllowed."""
    fields = json_fields(request)
    grant = for_end_user(fields, grant)
    asked = request.model or json_body.text(fields, "model")
    route = find_route(asked, operation, grant, snapshot)
    named = asked is not None and operation.model
    fields.pop("model", None)
    stream = json_body.flag(fields, "stream") or bytes(fields.get("stream_format", b"")) == b'"sse"'
    call = Call(request, fields, grant, route, stream, True, None, 1)
    wish = of_fields(operation.endpoint, fields)

    def write(target: Target) -> UpstreamRequest:
        sent = {"model": target.model_raw, **fields} if named else dict(fields)
        if target.provider.has_quirks:
            sent = target.provider.rewrite(sent, operation.offer)
        return forwarded(
            target.provider,
            operation.offer,
            query=passed_query(request.query),
            kind=b"application/json",
            body=json_body.encode(sent),
            accept=EVENTS if stream else b"*/*",
            clocks=target.deployment.clocks,
        )

    return Task(call, operation, write, wish=lambda: wish)


def form_task(
    request: ModelRequest, form: HeldForm, grant: Grant, snapshot: Snapshot, operation: Operation
) -> Task:
    """For a form that has been read until its model is known, or to its end without one."""
    fields = form.form.fields
    asked = request.model or fields.get("model")
    route = find_route(asked, operation, grant, snapshot)
    call = Call(request, {}, grant, route, fields.get("stream") == "true", True, None, 1)
    sent: list[Upload] = []

    def write(target: Target) -> UpstreamRequest:
        exchange = {"model": target.deployment.upstream_model} if "model" in fields else {}
        sent.append(Upload(form, exchange))
        return forwarded(
            target.provider,
            operation.offer,
            query=passed_query(request.query),
            kind=form.content_type,
            content=sent[-1],
            accept=b"*/*",
            clocks=target.deployment.clocks,
        )

    return Task(
        call,
        operation,
        write,
        wish=lambda: of_form(operation.endpoint, form),
        again=lambda: not any(one.begun for one in sent),
    )


def json_fields(request: ModelRequest) -> json_body.Fields:
    """The body's top level. Raises InvalidJson, BadRequest, UnsupportedMedia."""
    kind = request.headers.get(b"content-type")
    if kind is not None and b"json" not in kind.lower():
        raise json_body.unsupported(kind)
    fields = json_body.parse(request.body)
    json_body.refuse_duplicate(request.body, fields, "model")
    return fields


def find_route(asked: str | None, operation: Operation, grant: Grant, snapshot: Snapshot) -> ServedRoute:
    """Where a model is served. Without one it is the one the API documents as usual, at the provider that has it."""
    if asked:
        return grant.route(asked, snapshot)
    usual = operation.usual
    if usual and usual in snapshot.named() and grant.allows(usual):
        return grant.route(usual, snapshot)
    offering = [
        provider
        for provider in snapshot.providers.values()
        if usual and provider.offers(operation.offer) and grant.allows(f"{provider.name}/{usual}")
    ]
    listing = [one for one in offering if snapshot.prices.model(one.entry.price_sheet, usual) is not None]
    for found in (listing, offering):
        if len(found) == 1:
            return grant.route(f"{found[0].name}/{usual}", snapshot)
    raise BadRequest(
        "The request names no model. Set 'model'; GET /v1/models lists the names.", param="model"
    )


def passed_query(query: bytes) -> bytes:
    """The query without what was asked of us, the credential above all."""
    if not query:
        return b""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    return urlencode([(name, value) for name, value in pairs if name not in OWN_QUESTIONS]).encode()


async def serve_task(task: Task, client: Client, app: Services) -> None:
    """Hold, send, hand on, settle."""
    call = task.call
    check_priced(task)
    claims = task.claims
    hold = await app.counters.reserve(claims, _taking(task, app.snapshot)) if claims else None
    try:
        failure: GatewayError | None = None
        route = call.route
        retry = route.route.retry
        number = 0
        for index, turn in _turns(route, retry, app):
            target = route.targets[index]
            if isinstance(failure, UpstreamError):
                if turn == 0 and not failure.fallback:
                    break
                if turn > 0:
                    pause = retrying.wait(failure, retry, turn - 1, app.jitter)
                    if pause is None:
                        continue
                    await asyncio.sleep(pause)
            if not target.provider.offers(task.operation.offer):
                failure = failure or BadRequest(
                    f"Provider {target.provider.name} of model {route.name!r} does not serve "
                    f"{task.operation.endpoint}.",
                    param="model",
                )
                continue
            number += 1
            adopt = task.adopt(target) if task.adopt is not None else None
            errand = Errand(call, task.write(target), task.wish, hold, route.naming[index], adopt)
            if number > 1:
                errand.request = _shortened(errand.request, call, app)
            attempt = app.journal.begin(call, target, number)
            try:
                await hand_over(errand, attempt, client, app)
                return
            except UpstreamError as error:
                failure = error
                error.headers.setdefault("x-tollway-attempts", str(number))
                if number >= MAX_ATTEMPTS or not task.again():
                    break
        raise failure or NoHealthyDeployment(f"No deployment of {route.name!r} can serve this request.")
    finally:
        if hold is not None:
            call.settle(hold)


def _turns(route: ServedRoute, retry: Retry, app: Services) -> Iterator[tuple[int, int]]:
    """(target, try) in the order of the route's strategy."""
    order = [0]
    if len(route.targets) > 1:
        order = STRATEGIES[route.route.strategy]([t.deployment.weight for t in route.targets], app.jitter)
    return ((index, turn) for index in order for turn in range(retry.attempts))


def check_priced(task: Task) -> None:
    """Raises UnpricedModel where that is wanted and nothing is known of the price."""
    route = task.call.route
    if task.operation.paid and route.route.unpriced == "refuse":
        for target in route.targets:
            if target.deployment.price is None:
                raise UnpricedModel(
                    f"{route.name!r} has no known price for {task.operation.endpoint} and unpriced requests are "
                    "refused here. Give it a price in the configuration (models: … price: …).",
                    param="model",
                )


def _taking(task: Task, snapshot: Snapshot) -> Amounts:
    """What to hold."""
    wish = task.holds or (task.wish() if task.wish is not None else None)
    if wish is None:
        return Amounts()
    tokens = nano_usd = most = 0
    for target in task.call.route.targets:
        held, amount = expected(wish, target, snapshot)
        tokens, nano_usd = max(tokens, held), max(nano_usd, amount)
        if any(claim.strict for claim in task.claims):
            most = max(most, worst(wish, target, snapshot), amount)
    return Amounts(
        tokens=min(tokens, MOST),
        input_tokens=min(tokens, MOST),
        nano_usd=min(nano_usd, MOST),
        worst_nano_usd=min(most, MOST),
    )


def _shortened(request: UpstreamRequest, call: Call, app: Services) -> UpstreamRequest:
    """The total clock runs over all tries of a request: give this one what is left of it."""
    left = request.clocks.total - (app.clock() - call.request.started)
    return replace(request, clocks=replace(request.clocks, total=max(left, 0.001)))
