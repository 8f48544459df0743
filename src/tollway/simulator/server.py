"""The simulator itself: who answers which path, what is billed, and who went away before the end."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from tollway.simulator import control
from tollway.simulator.answer import Answer, Asked, Dialect, Endpoint, Keys, R, Refusal, Request, Stamp
from tollway.simulator.behaviour import PREFIX, Behaviour, failure
from tollway.simulator.bill import Bill, Line
from tollway.simulator.connection import Connection
from tollway.simulator.dialects import DIALECTS
from tollway.simulator.knobs import NEUTRAL, Knobs
from tollway.simulator.memory import Memory, Rendered
from tollway.simulator.multipart import Form
from tollway.simulator.routes import Routes
from tollway.simulator.shelf import Shelf
from tollway.simulator.staging import End, Step, plain, plan
from tollway.simulator.tally import billed

if TYPE_CHECKING:
    from tollway.simulator.dialects.openai.realtime_parts import Served
    from tollway.simulator.websocket import WebSocket

ABORTED_KEPT = 10_000

RECORDED_BODY = 1024 * 1024
"""Requests with larger bodies are not remembered."""

SERVER = b"server: tollway-simulator\r\n"

AWS_KEYS = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
"""The pair of AWS's own documentation."""


class Aborted(Struct, frozen=True):
    """A request whose client went away: ``mid-request``, ``before-headers``, ``mid-body`` or
    ``mid-stream``."""

    phase: str
    id: str
    model: str
    endpoint: str
    events: int
    request_id: str | None


class Exchange(Struct, gc=False):
    """One request being answered. ``events`` and ``written`` say how far it got; the rest is what it will
    be."""

    id: str
    answer: Answer
    steps: list[Step]
    end: End
    whole: bool
    endpoint: str
    model: str
    request_id: str | None
    events: int = 0
    written: bool = False


def _plain(
    answer: Answer, wire: tuple[bytes, bytes], serial: str, endpoint: str, model: str, sent: bytes | None
) -> Exchange:
    before, after = wire
    events = len(answer.pieces) if answer.streamed else 0
    request_id = b"req_" + serial.encode() if sent is None else sent
    steps: list[Step] = [(0.0, before + request_id + after, events)]
    told = None if sent is None else sent.decode("latin-1")
    return Exchange(answer.id, answer, steps, "keep", True, endpoint, model, told)


def _again(found: Rendered, serial: str, endpoint: str, sent: bytes | None) -> Exchange:
    fresh = serial.encode()
    request_id = b"req_" + fresh if sent is None else sent
    steps: list[Step] = [(0.0, found.before + request_id + fresh.join(found.rest), found.events)]
    told = None if sent is None else sent.decode("latin-1")
    answer = found.answer
    return Exchange(answer.id[:-24] + serial, answer, steps, "keep", True, endpoint, found.model, told)


def _without_files(request: Request, form: Form) -> Request:
    """The request as it is remembered: of files only what was counted."""
    parts = [
        part if part.filename is None else msgspec.structs.replace(part, content=None) for part in form.parts
    ]
    return msgspec.structs.replace(request, form=Form(parts, form.broken))


def _is_usual(request: Request) -> bool:
    """Whether nothing about the request itself, its body aside, can change the answer."""
    if not request.keep_alive or request.http10:
        return False
    for name in request.headers:  # noqa: SIM110 - every request comes here, and a generator costs three loops
        if name.startswith(PREFIX):
            return False
    return True


class Simulator:
    """A provider on a socket of its own. ``start`` and ``stop`` belong to the running loop's thread.

    ``aborted`` holds the latest departures, ``aborted_total`` counts all of them, ``open`` the exchanges in
    progress and ``received`` the latest requests as they arrived (``record`` of them).
    """

    def __init__(
        self,
        defaults: Knobs = NEUTRAL,
        *,
        require_key: str | None = None,
        bill_entries: int = 200_000,
        record: int = 64,
        seed: int = 0,
        aws_keys: tuple[str, str] = AWS_KEYS,
        dialects: tuple[Dialect, ...] = DIALECTS,
    ) -> None:
        self.behaviour = Behaviour(defaults)
        self.bill = Bill(bill_entries)
        self.aborted: deque[Aborted] = deque(maxlen=ABORTED_KEPT)
        self.aborted_total = 0
        self.open = 0
        self.requests = 0
        self.received: deque[Request] = deque(maxlen=record)
        self.connections: set[Connection] = set()
        self.host = ""
        self.port = 0
        self._dialects = dialects
        self._endpoints: dict[bytes, tuple[Dialect, Endpoint[Any]]] = {
            path: (dialect, endpoint) for dialect in dialects for path, endpoint in dialect.endpoints.items()
        }
        self._routes = Routes(dialects)
        self._memories = {endpoint.name: Memory() for _, endpoint in self._endpoints.values()}
        self.behaviour.on_change = self._forget
        self._headers = {dialect.name: SERVER + dialect.headers for dialect in dialects}
        self._require_key = require_key
        self._keys = Keys(require_key, aws_keys)
        self.shelf = Shelf()
        self._random = random.Random(seed)  # noqa: S311 - the same seed must give the same delays
        # Serials of one simulator follow one another; the start keeps those of two apart.
        self._serial = random.SystemRandom().getrandbits(60) << 36
        self._server: asyncio.Server | None = None
        self._all_gone = asyncio.Event()

    @property
    def url(self) -> str:
        """The base address of the OpenAI dialect: ``http://host:port/v1``."""
        return f"{self.origin}/v1"

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one. Raises OSError where the address cannot be had."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self, loop), host, port, backlog=2048, reuse_address=True
        )
        self.host = host
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the socket and every connection at once; what was under way is not counted as aborted."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        self._all_gone.clear()
        if not self.connections:
            self._all_gone.set()
        for connection in list(self.connections):
            connection.abort()
        await server.wait_closed()
        # Each connection is told of its end in a turn of the loop of its own.
        await self._all_gone.wait()

    # What connections ask.

    def exchange(self, request: Request) -> Exchange:
        """The whole answer to a request, planned: it can break, but not fail."""
        self.requests += 1
        if len(request.body) <= RECORDED_BODY and not request.path.startswith(control.PATHS):
            self.received.append(request if request.form is None else _without_files(request, request.form))
        found = self._endpoints.get(request.path)
        if found is None or request.method != b"POST":
            found = self._routes.find(request)
            if found is None:
                return self._elsewhere(request)
        dialect, endpoint = found
        return self._called(request, dialect, endpoint)

    def _called(self, request: Request, dialect: Dialect, endpoint: Endpoint[R]) -> Exchange:
        self.open += 1
        self._serial += 1
        now = time.time()
        serial, created = f"{self._serial:024x}", int(now)
        model, knobs, staged, usual = "", self.behaviour.defaults, True, False
        try:
            self._authenticate(request, dialect)
            if endpoint.repeatable and _is_usual(request):
                found = self._memories[endpoint.name].get(request.body, created)
                if found is not None:
                    return _again(found, serial, endpoint.name, request.headers.get(b"x-request-id"))
                usual = True
            asked = endpoint.read(request)
            model = asked.model
            model, knobs, staged = self.behaviour.of(model, request.headers)
            self._fail(knobs, model if endpoint.billed else dialect.models[0], dialect)
            answer = endpoint.answer(asked, model, knobs, Stamp(serial, created, self.shelf, now))
            if knobs.status is not None:
                answer.status = knobs.status
        except Refusal as refusal:
            answer = self._error(refusal, dialect, knobs, serial)
            usual = False
        except (AttributeError, KeyError, TypeError) as error:
            # The hand-built dialects check what their vendors name; of the rest the shape is taken on trust.
            message = f"The request has not the documented shape ({type(error).__name__}: {error})."
            answer = self._error(Refusal(400, message, kind="invalid_request_error"), dialect, knobs, serial)
            usual = False
        if staged or not usual or knobs.errors is not None or knobs.fail_first is not None:
            name = endpoint.name if endpoint.billed else ""
            return self._staged(request, dialect, answer, knobs, staged, serial, name, model or answer.model)
        wire = plain(answer, self._headers[dialect.name])
        self._memories[endpoint.name].put(request.body, serial, created, model, answer, wire)
        request_id = request.headers.get(b"x-request-id")
        return _plain(answer, wire, serial, endpoint.name, model, request_id)

    def _authenticate(self, request: Request, dialect: Dialect) -> None:
        if dialect.admit is not None:
            dialect.admit(request, self._keys)
            return
        if self._require_key is None:
            return
        key = dialect.credential(request)
        if key is None:
            raise Refusal(401, "You didn't provide an API key.", code="invalid_api_key")
        if key != self._require_key:
            raise Refusal(401, f"Incorrect API key provided: {key[:3]}***{key[-4:]}.", code="invalid_api_key")

    def _forget(self) -> None:
        for memory in self._memories.values():
            memory.clear()

    def _fail(self, knobs: Knobs, model: str, dialect: Dialect) -> None:
        if knobs.status is not None and knobs.status >= 400:
            raise failure(knobs, knobs.status, time.time())
        if knobs.known_only and model not in dialect.models:
            raise dialect.unknown(model)

    def _error(self, refusal: Refusal, dialect: Dialect, knobs: Knobs, serial: str) -> Answer:
        refusal.serial = serial
        body, content_type = dialect.error(refusal), b"application/json"
        # Only errors that were asked for change their body; one that the request earned must say why.
        if refusal.status == knobs.status and knobs.body != "json":
            body, content_type = control.error_page(refusal.status, refusal.message, knobs.body)
        more = b"" if dialect.error_headers is None else dialect.error_headers(refusal)
        return Answer(
            "err-" + serial,
            [body],
            status=refusal.status,
            content_type=content_type,
            headers=refusal.headers + more,
        )

    def _elsewhere(self, request: Request) -> Exchange:
        """Lists, lookups, the simulator's own pages, and everything that is not there."""
        self.open += 1
        self._serial += 1
        serial = f"{self._serial:024x}"
        own = control.answer(self, request)
        if own is not None:
            return self._staged(request, None, own, NEUTRAL, False, serial)
        # The first dialect is the broadest: those behind it are asked before.
        dialect = next((one for one in reversed(self._dialects) if one.owns(request)), self._dialects[0])
        knobs, staged = NEUTRAL, False
        try:
            self._authenticate(request, dialect)
            _, knobs, staged = self.behaviour.of("", request.headers)
            self._fail(knobs, dialect.models[0], dialect)
            look = dialect.look(request, knobs) if request.method in (b"GET", b"HEAD") else None
            answer = look or self._missing(request)
        except Refusal as refusal:
            answer = self._error(refusal, dialect, knobs, serial)
        if request.method == b"HEAD":
            answer.pieces = [b""]
        return self._staged(request, dialect, answer, knobs, staged, serial)

    def _missing(self, request: Request) -> Answer:
        method, path = request.method.decode("latin-1"), request.path.decode("latin-1")
        if request.path in self._endpoints or self._routes.knows(request.path):
            raise Refusal(405, f"Not allowed to {method} on {path}.", kind="invalid_request_error")
        raise Refusal(404, f"Invalid URL ({method} {path})", kind="invalid_request_error")

    def _staged(
        self,
        request: Request,
        dialect: Dialect | None,
        answer: Answer,
        knobs: Knobs,
        staged: bool,
        serial: str,
        endpoint: str = "",
        model: str = "",
    ) -> Exchange:
        """``endpoint`` is empty where the exchange is not billed."""
        sent = request.headers.get(b"x-request-id")
        headers = SERVER if dialect is None else self._headers[dialect.name]
        if knobs.ratelimit is not None and dialect is not None and dialect.ratelimit:
            headers += dialect.ratelimit % {b"left": knobs.ratelimit}
        if not staged and request.keep_alive and not request.http10:
            return _plain(answer, plain(answer, headers), serial, endpoint, model, sent)
        request_id = b"req_" + serial.encode() if sent is None else sent
        low, high = knobs.latency
        latency = low if low == high else self._random.uniform(low, high)
        made = plan(answer, knobs, request, request_id, headers, latency)
        told = None if sent is None else sent.decode("latin-1")
        return Exchange(answer.id, answer, made.steps, made.end, made.whole, endpoint, model, told)

    def disconnected(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._all_gone.set()

    def done(self, exchange: Exchange) -> None:
        """The plan was played to its end and the client was there."""
        self.open -= 1
        if exchange.endpoint:
            self._enter(exchange, exchange.whole)

    def gone(self, exchange: Exchange) -> None:
        """The client left first."""
        self.open -= 1
        if not exchange.endpoint:
            return
        if self._server is not None:
            phase = "before-headers"
            if exchange.written:
                phase = "mid-stream" if exchange.answer.streamed else "mid-body"
            self._left(phase, exchange)
        self._enter(exchange, False)

    def gone_while_reading(self) -> None:
        if self._server is not None:
            self.aborted_total += 1
            self.aborted.append(Aborted("mid-request", "", "", "", 0, None))

    def _left(self, phase: str, exchange: Exchange) -> None:
        self.aborted_total += 1
        self.aborted.append(
            Aborted(
                phase,
                exchange.id,
                exchange.model,
                exchange.endpoint,
                exchange.events,
                exchange.request_id,
            )
        )

    def _enter(self, exchange: Exchange, complete: bool) -> None:
        """The bill's line: everything where it went well, otherwise what was written."""
        answer = exchange.answer
        usage, prompt, cached = answer.usage, answer.prompt_tokens, answer.cached_tokens
        completion, reasoning = answer.completion_tokens, answer.reasoning_tokens
        units = answer.units
        if not complete:
            if not exchange.written:
                usage, prompt, cached, completion, reasoning = None, 0, 0, 0, 0
                units = None
            elif answer.streamed:
                completion = sum(answer.event_tokens[: exchange.events])
                reasoning = min(reasoning, completion)
                if exchange.events <= answer.usage_at:
                    usage = None
            else:
                usage = None
        self.bill.add(
            Line(
                self.bill.next_number(),
                exchange.id,
                exchange.model,
                exchange.endpoint,
                answer.status,
                answer.streamed,
                complete,
                exchange.events,
                usage,
                prompt,
                cached,
                completion,
                reasoning,
                exchange.request_id,
                units,
            )
        )

    def socket(self, request: Request, transport: asyncio.Transport) -> WebSocket | None:
        """The WebSocket that answers this request for one, or None where it is answered as plain HTTP: another
        path, a key that is wrong, a fault that comes before the upgrade."""
        if request.path != b"/v1/realtime" or request.method != b"GET":
            return None
        # The library comes with the first socket: who needs none starts without it.
        from tollway.simulator.dialects.openai import realtime
        from tollway.simulator.websocket import WebSocket

        dialect = self._dialects[0]
        named = realtime.model_of(request)
        try:
            self._authenticate(request, dialect)
            model, knobs, _ = self.behaviour.of(named, request.headers)
            self._fail(knobs, model, dialect)
        except Refusal:
            return None
        if not named or knobs.cut == "headers":
            return None
        self.requests += 1
        self.received.append(request)
        request_id = request.headers.get(b"x-request-id")
        told = None if request_id is None else request_id.decode("latin-1")
        session = realtime.Session(
            model,
            knobs,
            self._next_serial,
            realtime.is_beta(request),
            int(time.time()),
            lambda served: self._enter_spoken(served, model, told),
        )
        return WebSocket(request, transport, asyncio.get_running_loop(), session, realtime.SUBPROTOCOLS)

    def _next_serial(self) -> str:
        self._serial += 1
        return f"{self._serial:024x}"

    def _enter_spoken(self, served: Served, model: str, request_id: str | None) -> None:
        """A response over a WebSocket is a line of its own."""
        answer = billed(Answer(served.id, []), served.counts)
        self.bill.add(
            Line(
                self.bill.next_number(),
                served.id,
                model,
                "realtime",
                200,
                True,
                served.complete,
                served.events,
                served.usage,
                answer.prompt_tokens,
                answer.cached_tokens,
                answer.completion_tokens,
                answer.reasoning_tokens,
                request_id,
                answer.units,
            )
        )

    def phases(self) -> Counter[str]:
        return Counter(one.phase for one in self.aborted)

    def refusal(self, status: int, message: str) -> bytes:
        """Raw bytes for what never was a request; the connection closes behind them."""
        body = self._dialects[0].error(
            Refusal(status, message, kind="invalid_request_error", code="bad_http")
        )
        return (
            b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\n"
            b"%bconnection: close\r\ncontent-length: %d\r\n\r\n%b"
        ) % (status, HTTPStatus(status).phrase.encode(), SERVER, len(body), body)


__all__ = ["Aborted", "Asked", "Exchange", "Simulator"]
