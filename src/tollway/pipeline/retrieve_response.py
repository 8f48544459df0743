"""Responses after the answer: fetched, streamed again, deleted, cancelled, their input listed.

What is kept here is answered from here; what a provider keeps is asked of the one that made it, for its owner only.
"""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, quote, urlencode

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from tollway.errors import BadRequest, NotFound, UpstreamError
from tollway.model.stored_response import HERE, UNFINISHED, StoredResponse
from tollway.pipeline.authenticate import authenticate
from tollway.pipeline.background_responses import STREAM_HEAD
from tollway.pipeline.client import Client, ModelRequest
from tollway.pipeline.grant import Grant
from tollway.pipeline.input_items import listed
from tollway.pipeline.keep_response import NATIVE
from tollway.pipeline.response_objects import after, asked_by, changed, ended_by, joined, shortest
from tollway.pipeline.services import Services
from tollway.pipeline.stored_responses import missing
from tollway.wire import sse
from tollway.wire.codec import Unreadable
from tollway.wire.codecs import codec
from tollway.wire.unfold import unfold

MAX_WHOLE = 64 * 1024 * 1024
MAX_ERROR = 1024 * 1024
MOST_ITEMS = 100
LOOK = 0.3
"""Seconds between looks whether another process has ended a response."""

_PASSED = (
    "after",
    "include",
    "include[]",
    "include_obfuscation",
    "limit",
    "order",
    "starting_after",
    "stream",
)
_JSON = b"content-type: application/json\r\n"
_encode = msgspec.json.Encoder().encode


async def retrieve(request: ModelRequest, client: Client, app: Services) -> None:
    """``request.path`` is the response's id, here and below. Raises NotFound, BadRequest, StoreUnavailable,
    UpstreamError."""
    _, one = await _find(request, app)
    asked = _query(request)
    stream = asked.get("stream") == "true"
    if one.provider != HERE:
        await _relay(one, b"GET", "", request, client, app, stream=stream)
    elif stream:
        await _replay(
            await _ended(one, request, app), _number(asked, "starting_after", -1, 2**53), request, client, app
        )
    else:
        _answer(_as_it_is(one, app), request, client)


async def remove(request: ModelRequest, client: Client, app: Services) -> None:
    _, one = await _find(request, app)
    assert app.responses is not None
    if one.provider != HERE:
        await _relay(one, b"DELETE", "", request, client, app)
        await app.responses.remove(one.id)
        return
    running = app.background.get(one.id) if app.background is not None else None
    if running is not None and app.background is not None:
        await app.background.cancel(running)
    elif one.status in UNFINISHED and app.background is not None:
        await app.background.cancel_elsewhere(one.id)
    await app.responses.remove(one.id)
    _answer(_encode({"id": one.id, "object": "response", "deleted": True}), request, client)


async def cancel(request: ModelRequest, client: Client, app: Services) -> None:
    grant, one = await _find(request, app)
    if one.provider != HERE:
        await _relay(one, b"POST", "/cancel", request, client, app)
        return
    if not one.background:
        raise BadRequest(
            f"Response {one.id!r} was not made in the background, so there is nothing to cancel.",
            param="response_id",
        )
    running = app.background.get(one.id) if app.background is not None else None
    if running is not None and app.background is not None and app.responses is not None:
        await app.background.cancel(running)
        one = await app.responses.find(one.id, grant.principal)
    elif one.status in UNFINISHED and app.background is not None and app.responses is not None:
        await app.background.cancel_elsewhere(one.id)
        one = await app.responses.find(one.id, grant.principal)
    _answer(_as_it_is(one, app), request, client)


async def input_items(request: ModelRequest, client: Client, app: Services) -> None:
    """Everything the model was given as input, earlier responses it went on from included."""
    grant, one = await _find(request, app)
    if one.provider != HERE:
        await _relay(one, b"GET", "/input_items", request, client, app)
        return
    assert app.responses is not None
    earlier: list[StoredResponse] = []
    if one.previous is not None:
        try:
            earlier = await app.responses.chain(one.previous, grant.principal)
        except NotFound:
            earlier = []  # deleted since: what is left is this request's own
    asked = _query(request)
    order = asked.get("order", "desc")
    if order not in ("asc", "desc"):
        raise BadRequest("'order' must be 'asc' or 'desc'.", param="order")
    limit = _number(asked, "limit", 20, MOST_ITEMS)
    if limit < 1:
        raise BadRequest(f"'limit' must be between 1 and {MOST_ITEMS}.", param="limit")
    items = msgspec.json.decode(joined(earlier, one.input, sealed_only=False), type=list[Raw])
    _answer(listed(items, one.id, order, limit, asked.get("after")), request, client)


async def _find(request: ModelRequest, app: Services) -> tuple[Grant, StoredResponse]:
    grant = authenticate(request, app.snapshot, app.wall_clock())
    id = request.path.decode("utf-8", "replace")
    if app.responses is None:
        raise missing(id)
    return grant, await app.responses.find(id, grant.principal)


async def _ended(one: StoredResponse, request: ModelRequest, app: Services) -> StoredResponse:
    """Another process's events are read when it has written them: at the end."""
    running = app.background.get(one.id) if app.background is not None else None
    if running is not None or app.responses is None or app.responses.others is None:
        return one
    while one.status in UNFINISHED:
        await asyncio.sleep(LOOK)
        _, one = await _find(request, app)
    return one


def _as_it_is(one: StoredResponse, app: Services) -> bytes:
    running = app.background.get(one.id) if app.background is not None else None
    if running is not None and one.status in UNFINISHED:
        return changed(one.response, {"status": "in_progress"})
    return one.response


async def _replay(
    one: StoredResponse, number: int, request: ModelRequest, client: Client, app: Services
) -> None:
    """The events after ``number``: as they were sent, as they come, or as they would have been."""
    head = STREAM_HEAD + b"x-tollway-request-id: " + request.id.encode() + b"\r\n"
    running = app.background.get(one.id) if app.background is not None else None
    if running is not None and one.status in UNFINISHED:
        if not running.streamed:
            raise BadRequest(
                f"Response {one.id!r} was made without 'stream': fetch it without until it is complete.",
                param="stream",
            )
        client.start(200, head, b"")
        splitter = sse.Splitter()
        async for data in running.follow():
            new = after(splitter.feed(data), number)
            if new:
                client.send(new)
                if client.congested:
                    await client.drain()
        client.finish(b"")
        return
    client.start(200, head, after(one.events or _told_again(one), number))
    client.finish(b"")


def _told_again(one: StoredResponse) -> bytes:
    """The stream a whole answer would have been."""
    if one.status in ("completed", "incomplete"):
        try:
            conversation = codec(NATIVE).read_request(asked_by(one))
            answer = codec(NATIVE).read_answer(one.response)
        except (BadRequest, Unreadable):
            return shortest(one)  # a provider's own object, with something in it that only it knows
        return ended_by(codec(NATIVE).stream_writer(conversation).write(unfold(answer)), one.response)
    return shortest(one)


async def _relay(
    one: StoredResponse,
    method: bytes,
    below: str,
    request: ModelRequest,
    client: Client,
    app: Services,
    *,
    stream: bool = False,
) -> None:
    """Ask the provider that keeps it. Nothing of this costs."""
    provider = app.snapshot.providers.get(one.provider)
    if provider is None or NATIVE not in provider.languages:
        raise missing(one.id)  # no longer configured: nobody here can reach it
    usual = provider.converse(NATIVE, "", b"", stream=stream, clocks=provider.settings.clocks)
    path, _, own = usual.target.partition(b"?")
    asked = {name: values for name, values in _pairs(request).items() if name in _PASSED}
    queries = b"&".join(part for part in (urlencode(asked, doseq=True).encode(), own) if part)
    target = (
        path + b"/" + quote(one.id, safe="").encode() + below.encode() + (b"?" + queries if queries else b"")
    )
    answer = await app.upstream.send(
        replace(usual, method=method, target=target, headers=usual.headers.replace(_JSON, b"", 1), body=b"")
    )
    head = b"x-tollway-request-id: " + request.id.encode() + b"\r\n"
    try:
        if not 200 <= answer.status < 300:
            raise provider.error(answer.status, answer.headers, await answer.body(MAX_ERROR))
        if not answer.sse:
            client.respond(200, _JSON + head, await answer.body(MAX_WHOLE))
            return
        client.start(200, STREAM_HEAD + head, b"")
        while data := await answer.read():
            answer.progressed(app.clock())
            client.send(provider.redact(data) if b'"error"' in data else data)
            if client.congested:
                await client.drain()
        client.finish(b"")
    except UpstreamError:
        answer.abort()
        if not client.begun:
            raise
        client.break_off()
    except BaseException:
        answer.abort()
        raise


def _answer(body: bytes, request: ModelRequest, client: Client) -> None:
    client.respond(200, _JSON + b"x-tollway-request-id: " + request.id.encode() + b"\r\n", body)


def _pairs(request: ModelRequest) -> dict[str, list[str]]:
    return parse_qs(request.query.decode("latin-1"), keep_blank_values=True)


def _query(request: ModelRequest) -> dict[str, str]:
    return {name: values[-1] for name, values in _pairs(request).items()}


def _number(asked: dict[str, str], name: str, usual: int, most: int) -> int:
    given = asked.get(name)
    if given is None:
        return usual
    if not (given.isascii() and given.isdigit() and len(given) < 17 and int(given) <= most):
        raise BadRequest(f"{name!r} must be a number up to {most}.", param=name)
    return int(given)
