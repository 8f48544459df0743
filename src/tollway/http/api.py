"""The native admin API under ``/api``: one route for each admin action, made from the action's declaration.

Whoever passes the door is the administrator, a user or a virtual key; what each may do, the actions decide.
Imported at the first such request.
"""

from __future__ import annotations

import difflib
import logging
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response
from msgspec import Struct
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tollway.admin import tokens
from tollway.admin.action import Action, File
from tollway.admin.actions import ACTIONS
from tollway.admin.context import Actor, Context
from tollway.errors import (
    BadRequest,
    Forbidden,
    GatewayError,
    InternalError,
    InvalidJson,
    InvalidKey,
    MethodNotAllowed,
    NotFound,
    RequestTooLarge,
    UnsupportedMedia,
)
from tollway.http.api_document import PREFIX, document
from tollway.http.api_reference import reference_page
from tollway.model.key import Principal
from tollway.pipeline.authenticate import credential
from tollway.wire.formats.openai_errors import error_body

S = TypeVar("S", bound=Struct)

BODY_LIMIT = 1024 * 1024
OPEN_TO_KEYS = (PREFIX + "/keys/self", PREFIX + "/usage", PREFIX + "/events")
"""What a virtual key may ask of itself."""

_ACTOR = "tollway.actor"

_log = logging.getLogger(__name__)


def create_api(
    context: Context,
    authorize: Callable[[list[tuple[bytes, bytes]]], Principal],
    request_id: Callable[[], str] = lambda: secrets.token_hex(16),
) -> ASGIApp:
    """The API as an ASGI app that takes whole paths (``/api/keys``).

    ``authorize`` turns request headers into a principal or raises a GatewayError. Users come with tokens of their own;
    a virtual key is let in to see itself, nobody else at all. ``request_id`` makes ``x-tollway-request-id``.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    for action in ACTIONS:
        app.add_api_route(
            PREFIX + action.path, _endpoint(action, context), methods=[action.method], name=action.name
        )
    described = document(ACTIONS)

    async def openapi(request: Request) -> Response:
        return _json(described)

    async def docs(request: Request) -> Response:
        # Nothing on the page may load or run: what it describes is text, and stays text.
        policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
        page = reference_page(described)
        return Response(page, media_type="text/html", headers={"content-security-policy": policy})

    app.add_api_route(PREFIX + "/openapi.json", openapi, methods=["GET"], name="openapi")
    app.add_api_route(PREFIX + "/docs", docs, methods=["GET"], name="docs")
    app.add_exception_handler(GatewayError, _refused)
    app.add_exception_handler(HTTPException, _unrouted)
    return _Door(app, context, authorize, request_id)


class _Door:
    """Stands before every route: gives the request its id, and knows who asks."""

    def __init__(
        self,
        app: ASGIApp,
        context: Context,
        authorize: Callable[[list[tuple[bytes, bytes]]], Principal],
        request_id: Callable[[], str],
    ) -> None:
        self.app = app
        self._context = context
        self._authorize = authorize
        self._request_id = request_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        request_id = self._request_id()

        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-tollway-request-id"] = request_id
                headers["cache-control"] = "no-store"
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        try:
            actor = await self._actor(list(scope["headers"]), request_id)
            _refuse_others(actor, scope["path"])
        except GatewayError as error:
            await _answer(error)(scope, receive, stamped)
            return
        await self.app({**scope, _ACTOR: actor}, receive, stamped)

    async def _actor(self, headers: list[tuple[bytes, bytes]], request_id: str) -> Actor:
        """A user by the token it sends; everybody else as requests for models know them."""
        sent = credential(dict(headers))
        if sent is not None and sent.startswith(tokens.PREFIX.encode()):
            return await tokens.holder(self._context, sent, "api", request_id)
        return Actor(principal=self._authorize(headers), via="api", request_id=request_id)


def _refuse_others(actor: Actor, path: str) -> None:
    if actor.user is not None or actor.principal.kind == "admin":
        return
    if actor.principal.kind == "key":
        if path not in OPEN_TO_KEYS:
            raise Forbidden(
                "virtual keys call models and see themselves; the rest takes the admin key or a user's token"
            )
        return
    raise InvalidKey(
        "the admin API takes the admin key or a user's token: send it as Authorization: Bearer …"
    )


def _endpoint(action: Action[..., Struct], context: Context) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        actor: Actor = request.scope[_ACTOR]
        try:
            arguments: dict[str, Struct | str] = dict(_path(request.path_params))
            query = _query(request)
            format = _format(query, action.formats)
            if action.query is not None:
                arguments["query"] = _converted(query, action.query)
            elif query:
                raise BadRequest(f"unknown query parameter {min(query)}", param=min(query))
            if action.body is not None:
                arguments["body"] = await _body(request, action.body)
            if format in action.files:
                return _sent(await action.file(format, context.acting(actor), **arguments))
            result = await action(context.acting(actor), **arguments)
            if format == "csv" and action.csv is not None:
                return Response(action.csv(result), media_type="text/csv")
            return _json(result, action.status)
        except (GatewayError, ClientDisconnect):
            raise
        except Exception:  # noqa: BLE001  the boundary: told to the log, under the id the client is given
            _log.exception("%s failed in request %s", action.name, actor.request_id)
            raise InternalError(f"{action.name} failed; the log has it under this request's id") from None

    return endpoint


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _path(parameters: Mapping[str, str]) -> Mapping[str, str]:
    for text in parameters.values():
        if not text.isprintable():
            raise NotFound("the address has characters that no name has")
    return parameters


def _query(request: Request) -> dict[str, str]:
    """Query parameters; one that is repeated becomes a comma-separated list."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if not (name + value).isprintable():
            raise BadRequest("a query parameter has unprintable characters")
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _format(query: dict[str, str], formats: tuple[str, ...]) -> str:
    if not formats:
        return "json"
    wanted = query.pop("format", "json")
    if wanted not in formats:
        raise BadRequest(f"format must be {', '.join(formats[:-1])} or {formats[-1]}", param="format")
    return wanted


def _sent(file: File) -> Response:
    """A file in pieces, deleted when it was sent or the client went away."""
    return _TakenFile(file.path, media_type=file.media_type, filename=file.name)


class _TakenFile(FileResponse):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            os.unlink(self.path)


def _converted(given: dict[str, str], into: type[S]) -> S:
    lists = {field.name for field in msgspec.structs.fields(into) if field.default == ()}
    values = {
        name: [part for part in value.split(",") if part] if name in lists else value
        for name, value in given.items()
    }
    try:
        return msgspec.convert(values, into, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error, into) from None


async def _body(request: Request, into: type[S]) -> S:
    """The JSON body, checked. No body at all counts as ``{}``."""
    sent = bytearray()
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > BODY_LIMIT:
        raise RequestTooLarge(f"the body is larger than {BODY_LIMIT} bytes")
    try:
        async for piece in request.stream():
            sent += piece
            if len(sent) > BODY_LIMIT:
                raise RequestTooLarge(f"the body is larger than {BODY_LIMIT} bytes")
    except ClientDisconnect:
        raise BadRequest("the body broke off") from None
    media = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if sent and media != "application/json" and not media.endswith("+json"):
        raise UnsupportedMedia("the body must be JSON: send content-type: application/json")
    try:
        return msgspec.json.decode(bytes(sent) or b"{}", type=into)
    except msgspec.ValidationError as error:
        raise _invalid(error, into) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidJson(f"the body is not valid JSON: {error}") from None


def _invalid(error: msgspec.ValidationError, into: type[Struct]) -> BadRequest:
    """A refusal in the field's own name (``limits.rpm``), with a suggestion where a name is misspelt."""
    text, _, place = str(error).partition(" - at `")
    param = place.rstrip("`").removeprefix("$").removeprefix(".")
    if "unknown field `" in text:
        name = text.partition("unknown field `")[2].partition("`")[0]
        param = f"{param}.{name}" if param else name
        close = difflib.get_close_matches(name, into.__struct_fields__, 1)
        return BadRequest(
            f"unknown field {param}" + (f": did you mean {close[0]}?" if close else ""), param=param
        )
    if "missing required field `" in text:
        name = text.partition("missing required field `")[2].partition("`")[0]
        param = f"{param}.{name}" if param else name
        return BadRequest(f"{param} is missing", param=param)
    reason = text[:1].lower() + text[1:].replace("`", "")
    return BadRequest(f"{param}: {reason}" if param else f"the body is wrong: {reason}", param=param or None)


def _answer(error: GatewayError) -> Response:
    headers = dict(error.headers)
    if error.http_status == 401:
        headers.setdefault("www-authenticate", 'Bearer realm="tollway"')
    return Response(error_body(error), error.http_status, headers, "application/json")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    return _answer(error)


async def _unrouted(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return _answer(
            MethodNotAllowed(
                f"{request.method} is not offered here; {allowed} is", headers={"allow": allowed}
            )
        )
    return _answer(NotFound(f"the admin API has no such path; {PREFIX}/docs lists them"))
