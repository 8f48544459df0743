"""Responses that are worked at while nobody waits: a bounded set of tasks of this process, each on behalf of its key.

The work is an ordinary walk through the hallway, with its holds and its events, whose answer is kept instead of sent.
It ends with the process: a response that was being worked at has failed after a restart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from msgspec.structs import replace

from tollway.errors import GatewayError, RateLimitExceeded, UpstreamError
from tollway.model.stored_response import UNFINISHED, StoredResponse
from tollway.pipeline.client import Client, ModelRequest
from tollway.pipeline.resolve import Call
from tollway.pipeline.response_objects import changed, ending, failed, last_response, rewritten
from tollway.pipeline.services import Services
from tollway.pipeline.stored_responses import StoredResponses, owner_of
from tollway.shared.interface import Lease, Lock
from tollway.wire import body
from tollway.wire.codecs import codec
from tollway.wire.conversation import Completion, Failed, Start

log = logging.getLogger("tollway.responses")

MOST = 256
MOST_OF_A_KEY = 64

WORKS = 30.0
"""Seconds for which others take a response for being worked at after the last sign of it."""

GLANCE = 0.02
"""Seconds a request waits to see whether its work is refused at once: a budget, a limit, a field that is wrong."""

STREAM_HEAD = (
    b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
)

Run = Callable[[ModelRequest, Client, Services], Awaitable[None]]


def name_of(id: str) -> str:
    """Of the lock that is held while a response is worked at."""
    return f"response:{id}"


class Running:
    """The client of a response in the background: it never leaves and takes everything at once."""

    def __init__(self, id: str, owner: str, streamed: bool) -> None:
        self.id = id
        self.owner = owner
        self.streamed = streamed
        self.begun = False
        self.congested = False
        self.trailers = False
        self.cancelled = False
        self.ended = False
        self.refusal: GatewayError | None = None
        self.task: asyncio.Task[None] | None = None
        self.events = bytearray()
        self._news: asyncio.Future[None] | None = None

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        self.begun = True

    def start(self, status: int, headers: bytes, data: bytes) -> None:
        self.begun = True
        self.send(data)

    def send(self, data: bytes) -> None:
        self.events += data
        self._tell()

    async def drain(self) -> None:
        """Nobody is slow."""

    def finish(self, data: bytes, trailers: bytes = b"") -> None:
        self.send(data)

    def break_off(self) -> None:
        self.end()

    def end(self) -> None:
        self.ended = True
        self._tell()

    async def follow(self) -> AsyncIterator[bytes]:
        """Its events from the first on, until it has ended."""
        at = 0
        while True:
            if at < len(self.events):
                new = bytes(self.events[at:])
                at += len(new)
                yield new
            elif self.ended:
                return
            else:
                if self._news is None:
                    self._news = asyncio.get_running_loop().create_future()
                await asyncio.shield(self._news)  # several may follow, and each may leave

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
        self._news = None


class Background:
    """``close`` ends what still runs. With a ``lock`` other processes can tell what is worked at here; ``run`` keeps
    that up until it is cancelled."""

    def __init__(self, responses: StoredResponses, lock: Lock | None = None) -> None:
        self._responses = responses
        self._running: dict[str, Running] = {}
        self._lock = lock
        self._leases: dict[str, Lease] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(WORKS / 3)
            for id in tuple(self._running):
                lease = self._leases.get(id)
                if lease is None or not await lease.renew():
                    await self._claim(id)

    async def _claim(self, id: str) -> None:
        if self._lock is None:
            return
        lease = await self._lock.acquire(name_of(id), WORKS)
        if lease is not None:
            self._leases[id] = lease

    def get(self, id: str) -> Running | None:
        return self._running.get(id)

    async def begin(self, call: Call, client: Client, app: Services, run: Run) -> None:
        """Answer with the queued response, or with its events as they come."""
        owner = owner_of(call.grant.principal)
        of_owner = sum(1 for one in self._running.values() if one.owner == owner)
        if len(self._running) >= MOST or of_owner >= MOST_OF_A_KEY:
            raise RateLimitExceeded(
                f"{of_owner} responses of this key ({len(self._running)} in all) are being worked at in the "
                f"background; {MOST_OF_A_KEY} of a key and {MOST} in all may be.",
                headers={"retry-after": "5"},
            )
        request = call.request
        id = "resp_" + request.id.removeprefix("req_")
        row = self._queued(id, owner, call, app)
        fields = {name: value for name, value in call.fields.items() if name not in ("background", "store")}
        again = ModelRequest(
            endpoint=request.endpoint,
            headers=request.headers,
            body=body.encode(fields),
            id=request.id,
            started=request.started,
            repeated=request.repeated,
            dialect=request.dialect,
            model=request.model,
        )
        running = Running(id, owner, call.stream)
        self._running[id] = running
        self._responses.running.add(id)
        await self._claim(id)
        task = running.task = asyncio.get_running_loop().create_task(
            self._work(running, row, again, call, app, run)
        )
        await asyncio.wait({task}, timeout=GLANCE)
        refusal = running.refusal
        if refusal is not None and task.done() and not isinstance(refusal, UpstreamError):
            await self._responses.remove(id)
            raise refusal
        if self._responses.others is not None:
            await self._responses.flush()  # the next question may reach another process
        headers = b"x-tollway-request-id: " + request.id.encode() + b"\r\n"
        if call.stream:
            client.start(200, STREAM_HEAD + headers, b"")
            async for data in running.follow():
                client.send(data)
                if client.congested:
                    await client.drain()
            client.finish(b"")
            return
        client.respond(200, b"content-type: application/json\r\n" + headers, row.response)

    async def _leave(self, id: str, lease: Lease) -> None:
        """Others are told only when they can read how it ended."""
        await self._responses.flush()
        await lease.release()
        if self._responses.others is not None:
            self._responses.others.tell("response", id)

    def _queued(self, id: str, owner: str, call: Call, app: Services) -> StoredResponse:
        conversation = call.conversation()  # raises what is wrong with it
        now = app.wall_clock()
        previous = conversation.previous_response_id
        written = codec("openai.responses").write_answer(
            Completion(id=id, model=call.route.name, created=int(now), choices=()), conversation
        )
        changes = {"status": "queued", "background": True, "usage": None, "previous_response_id": previous}
        return StoredResponse(
            id=id,
            owner=owner,
            team=call.grant.key.team if call.grant.key is not None else None,
            model=call.route.name,
            status="queued",
            background=True,
            previous=previous,
            created=now,
            input=bytes(call.fields.get("input", b"")),
            response=changed(written, changes),
        )

    async def _work(
        self,
        running: Running,
        row: StoredResponse,
        request: ModelRequest,
        call: Call,
        app: Services,
        run: Run,
    ) -> None:
        self._responses.keep(row)
        try:
            await run(request, running, app)
            ended = self._responses.at_hand(row.id)
            if ended is None or ended.status in UNFINISHED:
                self._fail(running, row, call, "server_error", "The answer could not be kept.")
        except GatewayError as error:
            running.refusal = error
            self._fail(running, row, call, error.error_code, error.message)
        except asyncio.CancelledError:
            if running.cancelled:
                response = changed(row.response, {"status": "cancelled"})
                self._conclude(running, replace(row, status="cancelled", response=response))
            else:
                self._fail(running, row, call, "server_error", "The gateway was stopped.")
        except Exception:
            log.exception("background request %s failed inside the gateway", request.id)
            self._fail(running, row, call, "server_error", "The gateway failed on this request.")
        finally:
            del self._running[row.id]
            self._responses.running.discard(row.id)
            running.end()
            if (lease := self._leases.pop(row.id, None)) is not None:
                leaving = asyncio.get_running_loop().create_task(self._leave(row.id, lease))
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)

    def _fail(self, running: Running, row: StoredResponse, call: Call, code: str, message: str) -> None:
        if running.streamed and not running.events:
            writer = codec("openai.responses").stream_writer(call.conversation())
            start = Start(id=row.id, model=row.model, created=int(row.created))
            written = writer.write([start, Failed(message=message, code=code)])
            running.send(rewritten(written, {"background": True}))
        self._conclude(running, failed(row, code, message))

    def _conclude(self, running: Running, one: StoredResponse) -> None:
        """Keep it as it ended, and end its stream where nobody has."""
        if running.events and not bytes(last_response(bytes(running.events))):
            running.send(ending(bytes(running.events), one.response, one.status))
        self._responses.keep(replace(one, events=bytes(running.events)))

    async def cancel_elsewhere(self, id: str) -> bool:
        """Ask whoever works at it to stop; True when it has ended since, False when nobody heard."""
        others = self._responses.others
        if others is None:
            return False
        others.tell("cancel", id)
        for _ in range(25):
            await asyncio.sleep(0.2)
            if not await others.works(id):
                return True
        return False

    async def cancel(self, running: Running) -> None:
        running.cancelled = True
        task = running.task
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=5.0)

    async def close(self) -> None:
        tasks = [one.task for one in self._running.values() if one.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5.0)
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=5.0)
