"""The story of what providers keep for clients: files, uploads, batches, videos, tunings, stores, assistants, threads.

An object lives at the provider that made it and answers to its owner only. What a request names in its path or anywhere
in its body must be the caller's. Lists are ours: a provider's would show everybody's.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from msgspec import Raw
from msgspec.structs import replace

from tollway.errors import (
    BadRequest,
    ModelNotAllowed,
    ModelNotFound,
    NotFound,
    StoreUnavailable,
)
from tollway.model.artifact import LOCAL, Artifact
from tollway.model.operation import Operation
from tollway.pipeline import local_objects, settle_batch
from tollway.pipeline.appraise import Wish
from tollway.pipeline.authenticate import authenticate
from tollway.pipeline.client import Client, ModelRequest
from tollway.pipeline.forward import Task, json_fields, passed_query, serve_task
from tollway.pipeline.grant import Grant
from tollway.pipeline.holdings import Holdings, check_use, only
from tollway.pipeline.list_objects import MAX_SHOWN, artifact_of, byproducts, list_objects
from tollway.pipeline.ownership import KINDS, Place, owner_of, references, shown
from tollway.pipeline.resolve import Call
from tollway.pipeline.services import Services
from tollway.pipeline.snapshot import ServedRoute, Target
from tollway.pipeline.upload import HeldForm, Incoming, Upload
from tollway.pipeline.wish import of_fields, of_form
from tollway.providers.forwarding import forwarded, segment
from tollway.providers.provider import EVENTS, Provider
from tollway.providers.request import Content, UpstreamRequest
from tollway.shared.interface import Amounts
from tollway.wire import body as json_body

log = logging.getLogger("tollway.objects")

PASSED_HEADERS = (b"openai-beta", b"idempotency-key", b"range")


async def attend(
    request: ModelRequest,
    client: Client,
    app: Services,
    *,
    operation: Operation,
    holdings: Holdings,
    ids: tuple[str, ...] = (),
    incoming: Incoming | None = None,
    within: str | None = None,
) -> None:
    """``ids`` are those of the path, in its order; ``incoming`` the body where it is a form; ``within`` the provider
    whose own path was asked, by its own names of models. Raises GatewayError until something was said to the client."""
    request.endpoint = operation.endpoint
    grant = authenticate(request, app.snapshot, app.wall_clock())
    if within is not None and not grant.allows_all_of(within):
        raise ModelNotAllowed(f"What a provider keeps is for keys that may use all of it: {within}/*.")
    if operation.does == "list":
        await _counted(grant, app, holdings)
        await list_objects(request, grant, client, app, operation, holdings)
        return
    place = await holdings.registry.find(ids[0], grant.principal) if ids else None
    if place is not None and place.artifact is not None and place.artifact.kind != operation.kind:
        raise NotFound(f"There is no {operation.kind} with the id {ids[0][:200]!r}.", param="id")
    if place is not None and place.provider == LOCAL:
        await _counted(grant, app, holdings)
        await local_objects.attend(request, place, client, app, operation, holdings)
        return
    if incoming is not None:
        await _with_form(request, incoming, place, ids, grant, client, app, operation, holdings, within)
        return
    fields, inner = await _fields(request, grant, operation, holdings)
    places = [await holdings.registry.find(id, grant.principal) for id in references(request.body)]
    if (
        operation.endpoint == "batches"
        and operation.does == "make"
        and any(one.provider == LOCAL for one in places)
    ):
        await _counted(grant, app, holdings)
        await local_objects.make_batch(request, fields, places, grant, client, app, holdings)
        return
    route = _route(request, fields, place, places, grant, app, operation, holdings, within)
    errand = _Errand(request, grant, route, app, operation, holdings, place, ids, inner)
    errand.source = next(
        (one.artifact for one in places if one.artifact is not None and one.artifact.model), None
    )
    await errand.run(fields, client)


async def _fields(
    request: ModelRequest, grant: Grant, operation: Operation, holdings: Holdings
) -> tuple[json_body.Fields, json_body.Fields]:
    """The body's top level, as the client wrote it and with the ids as the provider knows them."""
    if operation.body == "none" or (not request.body.strip() and operation.method != "POST"):
        return {}, {}
    if not request.body.strip():
        request.body = b"{}"
    fields = json_fields(request)
    inner = holdings.registry.inward(request.body, grant.principal)
    return fields, fields if inner is request.body else json_body.parse(inner)


async def _counted(grant: Grant, app: Services, holdings: Holdings) -> None:
    """Requests that no provider sees count in the key's request limits all the same."""
    claims = holdings.light(grant, app.snapshot)
    if claims:
        (await app.counters.reserve(claims, Amounts())).settle(nano_usd=0, tokens=0)


async def _with_form(
    request: ModelRequest, incoming: Incoming, place: Place | None, ids: tuple[str, ...], grant: Grant,
    client: Client, app: Services, operation: Operation, holdings: Holdings, within: str | None,
) -> None:  # fmt: skip
    held = frozenset(("model",)) if operation.model else frozenset()
    form = HeldForm(incoming, request.headers.get(b"content-type", b""), holdings.folder, held)
    try:
        # What decides where it goes; nothing does where the path names the object.
        deciding = () if place is not None else ("purpose",) if operation.kind == "file" else held
        fields = await form.until(deciding)
        if operation.kind == "file" and operation.does == "make" and fields.get("purpose") == "batch":
            await local_objects.take_batch_file(
                request, form, grant, client, app, operation, holdings, within
            )
            return
        view = {name: json_body.raw(fields[name]) for name in held if name in fields}
        route = _route(request, view, place, [], grant, app, operation, holdings, within)
        errand = _Errand(request, grant, route, app, operation, holdings, place, ids, {})
        await errand.run(view, client, form)
    finally:
        form.close()


def _route(
    request: ModelRequest, fields: json_body.Fields, place: Place | None, places: list[Place], grant: Grant,
    app: Services, operation: Operation, holdings: Holdings, within: str | None,
) -> ServedRoute:  # fmt: skip
    """Where the request goes: to the provider that has what it names, else to the one that is asked for, else to the
    only one there is. A model it names is looked up there."""
    snapshot = app.snapshot
    names = {one.provider for one in (place, *places) if one is not None}
    if len(names) > 1:
        raise BadRequest("The request names objects that live at different providers.")
    name = next(iter(names), None)
    if name == LOCAL:
        raise BadRequest("This gateway keeps that file for batches; a provider cannot use it.")
    asked = within or _question(request, "provider")
    if asked is not None and name is not None and asked != name:
        raise BadRequest(f"What the request names lives at provider {name}.")
    model = json_body.text(fields, "model") if operation.model and "model" in fields else None
    if within is not None:
        model = f"{within}/{model}" if model else None
    else:
        model = model or _question(request, "model")
    if (
        model is None
        and operation.usual
        and name is None
        and asked is None
        and operation.usual in snapshot.named()
    ):
        model = operation.usual
    if model is None and place is not None and place.artifact is not None and place.artifact.model:
        made = _made_by(place.artifact, app)
        if made is not None:
            return made
    if model is not None:
        route = grant.route(model, snapshot)
        wanted = name or asked
        for index, target in enumerate(route.targets):
            if target.provider.offers(operation.offer) and wanted in (None, target.provider.name):
                return only(route, index)
        where = f"provider {wanted}" if wanted else "a provider of its"
        raise BadRequest(f"Model {model!r} has no {operation.endpoint} at {where}.", param="model")
    provider = _provider(name or asked, grant, app, operation)
    check_use(grant, provider.name, snapshot)
    if operation.usual and operation.does == "make" and grant.allows(f"{provider.name}/{operation.usual}"):
        return grant.route(f"{provider.name}/{operation.usual}", snapshot)
    if operation.model and operation.does == "make" and operation.usual:
        raise BadRequest("The request names no model, and this key may not use the usual one.", param="model")
    return holdings.whole(provider, snapshot)


def _made_by(artifact: Artifact, app: Services) -> ServedRoute | None:
    """The deployment that made an object, where it is still configured: what is done with the object is charged by its
    price."""
    try:
        route = app.snapshot.route(artifact.model, app.snapshot.admin)
    except ModelNotFound:
        return None
    for index, target in enumerate(route.targets):
        if target.deployment.id == artifact.deployment and target.provider.name == artifact.provider:
            return only(route, index)
    return None


def _provider(name: str | None, grant: Grant, app: Services, operation: Operation) -> Provider:
    providers = app.snapshot.providers
    if name is not None:
        provider = providers.get(name)
        if provider is None or not provider.offers(operation.offer):
            raise BadRequest(f"There is no provider {name[:100]!r} here that has {operation.endpoint}.")
        return provider
    offering = [one for one in providers.values() if one.offers(operation.offer)]
    if len(offering) == 1:
        return offering[0]
    if not offering:
        raise BadRequest(f"No provider that is configured here has {operation.endpoint}.")
    listed = ", ".join(one.name for one in offering)
    raise BadRequest(
        f"Several providers have {operation.endpoint}: {listed}. Say which by ?provider= or ?model=."
    )


def _question(request: ModelRequest, name: str) -> str | None:
    """What ``?name=`` or the header ``x-tollway-name`` says."""
    header = request.headers.get(b"x-tollway-" + name.encode())
    if header is not None:
        return header.decode("latin-1")
    found = parse_qs(request.query.decode("latin-1")).get(name)
    return found[0] if found else None


class _Errand:
    """One operation at one provider."""

    def __init__(
        self, request: ModelRequest, grant: Grant, route: ServedRoute, app: Services, operation: Operation,
        holdings: Holdings, place: Place | None, ids: tuple[str, ...], inner: json_body.Fields,
    ) -> None:  # fmt: skip
        self.request = request
        self.grant = grant
        self.route = route
        self.app = app
        self.operation = operation
        self.holdings = holdings
        self.registry = holdings.registry
        self.source: Artifact | None = None
        self.place = place
        self.ids = ids
        self.inner = inner

    async def run(self, fields: json_body.Fields, client: Client, form: HeldForm | None = None) -> None:
        operation = self.operation
        below = await self._below()
        stream = bool(fields) and json_body.flag(fields, "stream")
        call = Call(self.request, fields, self.grant, self.route, stream, True, None, 1)
        sent: list[Upload] = []

        def write(target: Target) -> UpstreamRequest:
            content: Content | None = None
            kind: bytes | None = None
            body = b""
            if form is not None:
                exchange = {"model": target.deployment.upstream_model} if "model" in form.form.fields else {}
                sent.append(Upload(form, exchange if operation.model else {}))
                content, kind = sent[-1], form.content_type
            elif operation.body != "none" and operation.method == "POST":
                view = dict(self.inner)
                if operation.model and "model" in view and target.deployment.upstream_model:
                    view["model"] = target.model_raw
                body, kind = json_body.encode(view), b"application/json"
            return forwarded(
                target.provider, operation.offer, method=operation.method.encode(), below=below,
                query=passed_query(self.request.query), kind=kind, body=body, content=content,
                accept=EVENTS if stream else b"*/*", extra=_extra(self.request),
                clocks=target.deployment.clocks,
            )  # fmt: skip

        claims = self.holdings.light(self.grant, self.app.snapshot)
        if self._spends():
            claims = self.grant.taking(self._charged()).claims
        task = Task(
            call, operation, write, wish=self._wish(fields, form), claims=claims, holds=self._holds(),
            again=lambda: not any(one.begun for one in sent), adopt=self._adopt,
        )  # fmt: skip
        await serve_task(task, client, self.app)

    def _spends(self) -> bool:
        return self.operation.paid or self._is_batch()

    def _charged(self) -> ServedRoute:
        """Whose limits are met: a batch runs the model its file was made for."""
        made = _made_by(self.source, self.app) if self._is_batch() and self.source is not None else None
        return made or self.route

    def _is_batch(self) -> bool:
        return self.operation.kind == "batch" and self.operation.does == "make"

    def _wish(self, fields: json_body.Fields, form: HeldForm | None) -> Callable[[], Wish] | None:
        """A batch is paid when it is over; without a database nobody would notice that, and so its price is unknown."""
        endpoint = self.operation.endpoint
        if self._is_batch() and self.source is None:
            return lambda: Wish(endpoint=endpoint)
        if not self.operation.paid:
            return None
        if form is not None:
            return lambda: of_form(endpoint, form)
        wish = of_fields(endpoint, fields)
        return lambda: wish

    def _holds(self) -> Wish | None:
        """What a batch will cost, by the size of its file: an empty budget begins none."""
        if not self._is_batch() or self.source is None:
            return None
        size = bytes(shown(self.source.shown).get("bytes", b""))
        return Wish(endpoint="chat.completions", text=int(size) if size.isdigit() else 0)

    async def _below(self) -> str:
        """The path at the provider, with its own names of what the caller owns."""
        below = self.operation.below
        if not self.ids:
            return below
        names = [self.place.id if self.place is not None else self.ids[0]]
        for id in self.ids[1:]:
            # Of what lies below an object only what is an object itself has an owner of its own.
            known = id.partition("-")[0].partition("_")[0] in KINDS
            names.append((await self.registry.find(id, self.grant.principal)).id if known else id)
        return below.format(*(segment(name) for name in names))

    def _adopt(self, target: Target) -> Callable[[bytes], Awaitable[bytes]]:
        async def adopt(body: bytes) -> bytes:
            found = shown(body)
            await self._remember(found, body, target)
            return self.registry.outward(body, target.provider.name, self.grant.principal)

        return adopt

    async def _remember(self, found: dict[str, Raw], body: bytes, target: Target) -> None:
        operation = self.operation
        known = self.place.artifact if self.place is not None else None
        if operation.does == "remove":
            if self.place is not None and bytes(found.get("deleted", b"true")) == b"true":
                try:
                    await self.registry.forget(self.ids[0])
                except (
                    StoreUnavailable
                ) as error:  # it is gone all the same; what is left of it leads to a 404
                    log.warning("%s is removed but still known: %s", self.ids[0], error)
            return
        owner = known.owner if known is not None else owner_of(self.grant.principal)
        key = self.grant.key
        team = known.team if known is not None else key.team if key is not None else None
        kept: list[Artifact] = []
        if operation.does == "make":
            made = artifact_of(
                operation.kind, found, body, target.provider.name, owner, team, self.app.wall_clock()
            )
            if made is not None:
                source = self.source
                model, deployment = "", ""
                if target.deployment.upstream_model:
                    model, deployment = self.route.name, target.deployment.id
                elif source is not None:
                    model, deployment = source.model, source.deployment
                kept.append(
                    replace(
                        made, model=model, deployment=deployment, settled=not (self._is_batch() and model)
                    )
                )
        elif operation.does in ("show", "change") and known is not None and body[:MAX_SHOWN] != known.shown:
            kept.append(replace(known, shown=body[:MAX_SHOWN] if len(body) <= MAX_SHOWN else known.shown))
        if kept:
            await self.registry.keep(kept)
        await self.registry.add(byproducts(found, target.provider.name, owner, team, self.app.wall_clock()))
        if known is not None and known.kind == "batch" and not known.settled:
            await settle_batch.settle(replace(known, shown=body), self.app, self.holdings)


def _extra(request: ModelRequest) -> bytes:
    lines = b""
    for name in PASSED_HEADERS:
        value = request.headers.get(name)
        if value is not None and value.isascii() and b"\r" not in value and b"\n" not in value:
            lines += name + b": " + value + b"\r\n"
    return lines
