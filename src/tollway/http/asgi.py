"""The ASGI door: the same hallway as a plain ASGI app, and everything beside it: listing, health, pass-through, /api.

Routes are matched by table and by default denied. Bodies are read to a cap with a deadline between reads; when the
client leaves, the task that serves it is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from tollway import __version__
from tollway.config.settings import ServerSettings
from tollway.errors import (
    BadRequest,
    GatewayError,
    HeadersTooLarge,
    MethodNotAllowed,
    NotFound,
    RequestTimeout,
    RequestTooLarge,
)
from tollway.http.doorway import BODY_RATE, Handler, RequestIds, refuse, walk
from tollway.http.endpoints import (
    MODEL_PATHS,
    SECRET_PATHS,
    SOCKET_PATHS,
    dialect_of,
    named_by_path,
    stored_response,
)
from tollway.http.incoming import HANGUP, AsgiIncoming, Operating
from tollway.http.listing import list_models, show_model
from tollway.http.operations import Found
from tollway.http.operations import find as find_operation
from tollway.pipeline.authenticate import ALL_CREDENTIAL_HEADERS
from tollway.pipeline.client import Client, ModelRequest
from tollway.pipeline.count_tokens import count_tokens
from tollway.pipeline.embed_content import embed_content
from tollway.pipeline.issue_secret import issue_secret
from tollway.pipeline.named_objects import owned
from tollway.pipeline.pass_through import pass_through
from tollway.pipeline.passed_objects import is_native
from tollway.pipeline.realtime import converse, plain_request
from tollway.pipeline.retrieve_response import cancel, input_items, remove, retrieve
from tollway.pipeline.serve import serve
from tollway.pipeline.services import Services

PIECE = 64 * 1024
"""Larger answers are handed to the server in pieces, so that it keeps no more than that for a slow client, who has
``write_timeout`` for each."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_SERVE: Handler = owned(serve)
_COUNT: Handler = owned(count_tokens)

_LIVE = frozenset((b"/health/liveliness", b"/health/liveness", b"/health"))
_READY = b"/health/readiness"
_MODEL_LISTS = frozenset((b"/v1/models", b"/models", b"/v1beta/models"))
_MODEL_PREFIXES = (b"/v1/models/", b"/models/", b"/v1beta/models/")
_STORED: dict[str, Handler] = {
    "retrieve": retrieve,
    "remove": remove,
    "cancel": cancel,
    "input_items": input_items,
}
_OWN = frozenset((b"v1", b"v1beta", b"api", b"ui", b"health", b"metrics", b"mcp", b"openai-internal"))


class Gateway:
    """The ASGI application. ``api`` makes the admin app when it is first asked for; ``status`` names degraded parts,
    ``process`` says which of the workers this is."""

    def __init__(
        self,
        app: Services,
        settings: ServerSettings,
        ids: RequestIds,
        *,
        api: Callable[[], App],
        status: Callable[[], dict[str, str]],
        process: Callable[[], dict[str, int]] = dict,
    ) -> None:
        self._app = app
        self._settings = settings
        self._ids = ids
        self._make_api = api
        self._api: App | None = None
        self._status = status
        self._process = process

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            await self._http(scope, receive, send)
        elif kind == "websocket":
            await self._websocket(scope, receive, send)
        elif kind == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        path = path.partition(b"?")[0]
        if path == b"/api" or path.startswith(b"/api/"):
            if self._api is None:
                self._api = self._make_api()
            await self._api(scope, receive, send)
            return
        client = AsgiClient(send, self._settings.write_timeout)
        loop = asyncio.get_running_loop()
        request, problem = self._request(scope, path)
        try:
            if problem is not None:
                raise problem
            handler = self._route(request)
        except GatewayError as error:
            refuse(error, request, client, self._app)
            await client.pump(None)
            return
        if handler is None:
            self._health(path, client, request)
            await client.pump(None)
            return
        if isinstance(handler, Operating) and handler.streams(request):
            hangup: list[Callable[[], object]] = (scope.get("extensions") or {}).get(HANGUP, [])
            worker = loop.create_task(self._work_on_stream(handler, request, receive, client, hangup))
        else:
            worker = loop.create_task(self._work(handler, request, receive, client))
        await client.pump(worker)

    def _request(self, scope: Scope, path: bytes) -> tuple[ModelRequest, GatewayError | None]:
        headers, repeated, problem = _headers(scope["headers"], self._settings.max_header)
        request = ModelRequest(
            endpoint="",
            headers=headers,
            body=b"",
            id=self._ids.next(),
            started=self._app.clock(),
            method=scope.get("method", "GET").encode("ascii", "replace"),
            path=path,
            query=scope.get("query_string", b""),
            repeated=repeated,
            header_list=list(scope["headers"]),
            dialect=dialect_of(path),
        )
        return request, problem

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A handshake: it becomes a session, or is answered in HTTP."""
        from tollway.http.sockets import AsgiSocket
        from tollway.providers.websocket import SocketClosed

        if (await receive())["type"] != "websocket.connect":
            return
        path: bytes = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0]
        request, problem = self._request(scope, path)
        socket = AsgiSocket(scope, receive, send, self._settings.max_message)
        answer = AsgiClient(socket.refusing, self._settings.write_timeout)

        async def handler(request: ModelRequest, client: Client, app: Services) -> None:
            if problem is not None:
                raise problem
            endpoint = SOCKET_PATHS.get(path)
            if endpoint is None:
                raise NotFound("There is no WebSocket here. Realtime sessions live at /v1/realtime.")
            request.endpoint = endpoint.name
            try:
                await converse(request, socket, app)
            except SocketClosed:
                answer.begun = True  # the client has left: nobody is to be answered
            finally:
                answer.begun = answer.begun or socket.accepted

        loop = asyncio.get_running_loop()
        try:
            await answer.pump(loop.create_task(walk(handler, request, answer, self._app)))
            if socket.accepted:
                async with asyncio.timeout(1.0):  # a client that does not read takes no close frame either
                    await socket.close(1011, "internal_error")  # does nothing to one that is closed
        except (SocketClosed, TimeoutError):
            return

    def _route(self, request: ModelRequest) -> Handler | None:
        """The handler of a path; None for health. Raises NotFound or MethodNotAllowed."""
        path, method = request.path, request.method
        endpoint = MODEL_PATHS.get(path)
        if endpoint is not None:
            _allow(method, b"POST")
            request.endpoint = endpoint.name
            request.dialect = endpoint.dialect
            return _COUNT if endpoint.counts else _SERVE
        named = named_by_path(path)
        if named is not None:
            _allow(method, b"POST")
            request.endpoint = named.endpoint.name
            request.model = unquote_to_bytes(named.model).decode("utf-8", "replace")
            request.stream = named.stream
            if named.endpoint.counts:
                return _COUNT
            return embed_content if request.endpoint == "embed_content" else _SERVE
        endpoint = SOCKET_PATHS.get(path)
        if endpoint is not None:
            _allow(method, b"GET")
            return plain_request
        endpoint = SECRET_PATHS.get(path)
        if endpoint is not None:
            _allow(method, b"POST")
            request.endpoint = endpoint.name
            return issue_secret
        if path in _LIVE or path == _READY:
            _allow(method, b"GET", b"HEAD")
            return None
        if path in _MODEL_LISTS:
            _allow(method, b"GET", b"HEAD")
            request.endpoint = "models"
            return list_models
        stored = stored_response(method, path)
        if stored is not None:
            _allow(method, *stored.methods)
            request.endpoint = "responses"
            request.path = unquote_to_bytes(stored.id)
            return _STORED[stored.does]
        for prefix in _MODEL_PREFIXES:
            if path.startswith(prefix):
                _allow(method, b"GET", b"HEAD")
                request.endpoint = "models"
                request.path = unquote_to_bytes(path[len(prefix) :])
                return show_model
        found = find_operation(method, path)
        if isinstance(found, tuple):
            _allow(method, *found)
        elif found is not None:
            return Operating(found)
        first, slash, _ = path.lstrip(b"/").partition(b"/")
        provider = self._app.snapshot.providers.get(first.decode("latin-1"))
        if slash and first not in _OWN and provider is not None:
            rest = path[path.index(first) + len(first) :]
            found = None if is_native(rest, provider) else find_operation(method, rest)
            if isinstance(found, Found) and found.operation.kind and provider.offers(found.operation.offer):
                # What the provider keeps for its clients has owners on this way too.
                return Operating(found, within=provider.name)
            request.endpoint = "passthrough"
            return pass_through
        raise NotFound(
            f"There is no {method.decode('ascii', 'replace')} {path[:200].decode('latin-1')!r} here. "
            "The OpenAI dialect lives under /v1, the admin API under /api."
        )

    async def _work(
        self, handler: Handler, request: ModelRequest, receive: Receive, client: AsgiClient
    ) -> None:
        """Read the body, then walk the hallway while watching for the client to leave."""
        try:
            request.body = await self._body(request, receive)
        except GatewayError as error:
            client.closing = True
            refuse(error, request, client, self._app)
            if not isinstance(error, RequestTimeout):
                await client.drain()  # only then: to receive is to invite a body that waits for 100 Continue
                await self._discard(receive)
            client.finish(b"")
            return
        except _ClientLeft:
            client.break_off()
            return
        task = asyncio.current_task()
        watcher = asyncio.get_running_loop().create_task(_watch(receive, task))
        try:
            await walk(handler, request, client, self._app)
        except asyncio.CancelledError:
            client.break_off()
            raise
        finally:
            watcher.cancel()

    async def _work_on_stream(
        self,
        handler: Operating,
        request: ModelRequest,
        receive: Receive,
        client: AsgiClient,
        hangup: list[Callable[[], object]],
    ) -> None:
        """Walk the hallway with a body that is read there. An answer that comes before its end ends the connection."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        watchers: list[asyncio.Task[None]] = []

        def ended() -> None:
            client.closing = False
            watchers.append(loop.create_task(_watch(receive, task)))

        client.closing = True
        if task is not None:
            hangup.append(task.cancel)
        try:
            try:
                handler.incoming = AsgiIncoming(request, receive, self._settings, ended)
            except GatewayError as error:
                refuse(error, request, client, self._app)
            else:
                await walk(handler, request, client, self._app)
        except asyncio.CancelledError:
            client.break_off()
            raise
        finally:
            hangup.clear()
            for watcher in watchers:
                watcher.cancel()
        if not client.over and not client.ended:
            await client.drain()
            await self._discard(receive)
            client.finish(b"")

    async def _body(self, request: ModelRequest, receive: Receive) -> bytes:
        headers = request.headers
        limit = self._settings.max_body
        length = headers.get(b"content-length", b"")
        if length and b"transfer-encoding" in headers:
            raise BadRequest("The request has both content-length and transfer-encoding. Send one.")
        too_large = RequestTooLarge(
            f"The request's body is larger than {limit} bytes, the most this gateway takes."
        )
        if length.isdigit() and int(length) > limit:
            raise too_large
        body: bytes | bytearray = b""
        clock = asyncio.get_running_loop().time
        patience = clock() + self._settings.body_timeout
        while True:
            silent = clock() + self._settings.body_timeout
            try:
                async with asyncio.timeout_at(min(silent, patience + len(body) / BODY_RATE)):
                    message = await receive()
            except TimeoutError:
                raise RequestTimeout("The request's body did not arrive in time.") from None
            if message["type"] == "http.disconnect":
                raise _ClientLeft
            part = message.get("body", b"")
            if len(body) + len(part) > limit:
                raise too_large
            if not body:
                body = part
            elif part:
                if isinstance(body, bytes):
                    body = bytearray(body)
                body += part
            if not message.get("more_body", False):
                return bytes(body)

    async def _discard(self, receive: Receive) -> None:
        """Drop for a while what a refused client still sends: a server that closed at once would reset the connection,
        and a client in the middle of a large body would never read why."""
        try:
            async with asyncio.timeout(self._settings.body_timeout):
                message: MutableMapping[str, Any] = {"more_body": True}
                while message.get("more_body", False):
                    message = await receive()
        except TimeoutError:
            return

    def _health(self, path: bytes, client: AsgiClient, request: ModelRequest) -> None:
        """Liveness touches nothing. Readiness names what is degraded and stays 200: traffic is served all the same."""
        value: dict[str, Any] = {"status": "alive"}
        if path == _READY:
            degraded = self._status()
            value = {
                "status": "degraded" if degraded else "ready",
                "version": __version__,
                "degraded": degraded,
                "process": self._process(),
            }
        headers = b"content-type: application/json\r\nx-tollway-request-id: " + request.id.encode() + b"\r\n"
        client.respond(200, headers, msgspec.json.encode(value))


class _ClientLeft(Exception):
    pass


async def _watch(receive: Receive, task: asyncio.Task[Any] | None) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            if task is not None:
                task.cancel()
            return


def _allow(method: bytes, *allowed: bytes) -> None:
    if method not in allowed:
        names = b", ".join(allowed).decode()
        raise MethodNotAllowed(f"This path takes {names}.", headers={"allow": names})


def _headers(
    pairs: list[tuple[bytes, bytes]], limit: int
) -> tuple[dict[bytes, bytes], bool, GatewayError | None]:
    headers: dict[bytes, bytes] = {}
    repeated = False
    problem: GatewayError | None = None
    size = 0
    for name, value in pairs:
        size += len(name) + len(value) + 4
        if name in headers:
            if name in ALL_CREDENTIAL_HEADERS and value != headers[name]:
                repeated = True
            elif name in (b"content-length", b"host", b"transfer-encoding"):
                problem = BadRequest(f"The request repeats its {name.decode()} header.")
        headers[name] = value
    if size > limit:
        problem = HeadersTooLarge(f"The request's headers are larger than {limit} bytes.")
    return headers, repeated, problem


class AsgiClient:
    """The hallway's ``Client`` over an ASGI ``send``: what is sent waits in a short queue that ``pump`` empties."""

    def __init__(self, send: Send, write_timeout: float) -> None:
        self.begun = False
        self.congested = False
        self.trailers = False
        self.closing = False
        self.over = False
        self.ended = False
        self._send = send
        self._timeout = write_timeout
        self._queue: list[MutableMapping[str, Any]] = []
        self._wake: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        self.begun = True
        lines = headers if status in (204, 304) else headers + b"content-length: %d\r\n" % len(body)
        self._put({"type": "http.response.start", "status": status, "headers": self._pairs(lines)})
        size = len(body)
        for at in range(0, size - PIECE, PIECE):
            self._put({"type": "http.response.body", "body": body[at : at + PIECE], "more_body": True})
        rest = body if size <= PIECE else body[(size - 1) // PIECE * PIECE :]
        self._put({"type": "http.response.body", "body": rest, "more_body": self.closing})

    def start(self, status: int, headers: bytes, data: bytes) -> None:
        self.begun = True
        self._put({"type": "http.response.start", "status": status, "headers": self._pairs(headers)})
        if data:
            self._put({"type": "http.response.body", "body": data, "more_body": True})

    def send(self, data: bytes) -> None:
        self._put({"type": "http.response.body", "body": data, "more_body": True})
        self.congested = True

    async def drain(self) -> None:
        if not self._queue:
            self.congested = False
            return
        self._drained = asyncio.get_running_loop().create_future()
        await self._drained

    def finish(self, data: bytes, trailers: bytes = b"") -> None:
        self._put({"type": "http.response.body", "body": data, "more_body": False})

    def break_off(self) -> None:
        self.ended = True
        self._queue.clear()
        self._notify()

    def _pairs(self, lines: bytes) -> list[tuple[bytes, bytes]]:
        pairs = [
            (name, value) for name, _, value in (line.partition(b": ") for line in lines.split(b"\r\n")[:-1])
        ]
        if self.closing:
            pairs.append((b"connection", b"close"))
        return pairs

    def _put(self, message: MutableMapping[str, Any]) -> None:
        if not message.get("more_body", True):
            self.over = True
        if not self.ended:
            self._queue.append(message)
            self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def flush(self) -> None:
        while self._queue:
            queue, self._queue = self._queue, []
            for message in queue:
                async with asyncio.timeout(self._timeout):
                    await self._send(message)
        self.congested = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    async def pump(self, worker: asyncio.Task[None] | None) -> None:
        """Send what the worker produces until it has ended. A client that stops reading cancels it after a while."""
        loop = asyncio.get_running_loop()
        if worker is not None:
            worker.add_done_callback(lambda _: self._notify())
        try:
            while True:
                if self._queue:
                    await self.flush()
                    continue
                if worker is None or worker.done():
                    break
                self._wake = loop.create_future()
                await self._wake
        except TimeoutError:
            self.break_off()
        finally:
            if worker is not None:
                worker.cancel()  # nothing to a worker that is done
                try:
                    await worker
                except asyncio.CancelledError:
                    pass
