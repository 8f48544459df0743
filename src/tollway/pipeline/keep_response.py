"""What the Responses API asks of a gateway beside an answer: go on from an earlier response, keep this one, work at it
in the background.

Answers that were translated are kept here; of one that the provider keeps only its owner is. The answer never waits
for the database, except where it goes on from a response that is not at hand any more.
"""

from __future__ import annotations

import logging

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.model.stored_response import HERE, UNFINISHED, StoredResponse
from tollway.pipeline.background_responses import Run, Running
from tollway.pipeline.client import Client
from tollway.pipeline.dispatch import Reply
from tollway.pipeline.resolve import Call
from tollway.pipeline.response_objects import (
    changed,
    first_response,
    joined,
    last_response,
    name_of,
    rewritten,
)
from tollway.pipeline.services import Services
from tollway.pipeline.snapshot import ServedRoute
from tollway.pipeline.stored_responses import StoredResponses, owner_of
from tollway.wire import body
from tollway.wire.sse import EventTooLarge, Splitter

log = logging.getLogger("tollway.responses")

NATIVE = "openai.responses"

MAX_EVENTS = 8 * 1024 * 1024
"""Of a stream that is kept as it was sent; a longer one is told again from its end."""

MAX_SEARCHED = 64 * 1024
"""Of a provider's stream, in which its response's id must come."""


async def attend(call: Call, client: Client, app: Services, run: Run) -> Keeper | None:
    """None: the request was answered, and the work at it runs on. Raises BadRequest, PreviousResponseNotFound,
    RateLimitExceeded, StoreUnavailable."""
    fields = call.fields
    previous = body.text(fields, "previous_response_id")
    background = body.flag(fields, "background")
    wanted = bytes(fields.get("store", b"")) != b"false"
    responses = app.responses
    if responses is None:
        if previous is not None or background:
            name = "previous_response_id" if previous is not None else "background"
            raise BadRequest(
                f"{name!r} needs a gateway that keeps responses, and this one does not: it has no database, or "
                "logs.responses is off. Send the whole conversation as 'input'.",
                param=name,
            )
        return Keeper(call, client, app, None, b"")
    if background:
        if not wanted:
            raise BadRequest(
                "'background' needs 'store': what is not kept cannot be fetched.", param="background"
            )
        assert app.background is not None
        await app.background.begin(call, client, app, run)
        return None
    given = bytes(fields.get("input", b""))
    changes: dict[str, object] = {}
    parent: str | None = None
    if previous is not None and await _go_on(call, previous, responses):
        changes["previous_response_id"] = parent = previous
    native = any(NATIVE in target.provider.languages for target in call.route.targets)
    if isinstance(client, Running):
        # Kept here alone: the provider's own copy would have an id that its owner never learns, to delete it by.
        wanted = True
        fields["store"] = Raw(b"false")
    if wanted and not native:
        fields.pop("store", None)  # whoever is translated to has nothing to keep
    fields.pop("background", None)
    keeper = Keeper(call, client, app, responses if wanted else None, given, parent, changes)
    if wanted:
        call.answer_id = "resp_" + call.request.id.removeprefix("req_")
    return keeper


async def _go_on(call: Call, previous: str, responses: StoredResponses) -> bool:
    """Put the earlier conversation in front of the input; False where the provider that keeps it does that."""
    chain = await responses.chain(previous, call.grant.principal)
    newest = chain[0]
    if newest.provider != HERE:
        _pin(call, newest)
        return False
    if newest.status in UNFINISHED:
        raise BadRequest(f"Response {previous!r} is still being worked at.", param="previous_response_id")
    native = any(
        NATIVE in target.provider.languages_for(target.deployment.upstream_model)
        for target in call.route.targets
    )
    fields = call.fields
    del fields["previous_response_id"]
    fields["input"] = joined(
        [one for one in chain if one.provider == HERE], bytes(fields.get("input", b"")), sealed_only=native
    )
    call.request.body = body.encode(fields)  # what is held, judged and counted is the whole conversation
    return True


def _pin(call: Call, one: StoredResponse) -> None:
    """Only who keeps a response can go on from it."""
    targets = [target for target in call.route.targets if target.provider.name == one.provider]
    targets.sort(key=lambda target: target.deployment.id != one.deployment)
    if not targets:
        raise BadRequest(
            f"The previous response is kept by provider {one.provider}, which does not serve model "
            f"{call.route.name!r}. Name a model of that provider, or send the whole conversation as 'input'.",
            param="previous_response_id",
        )
    call.route = ServedRoute(call.route.route, (targets[0],))


class Keeper:
    """Stands between the hallway and the client of one request: what passes is kept, once it is whole."""

    def __init__(
        self,
        call: Call,
        client: Client,
        app: Services,
        responses: StoredResponses | None,
        given: bytes,
        parent: str | None = None,
        changes: dict[str, object] | None = None,
    ) -> None:
        self._call = call
        self._client = client
        self._responses = responses
        self._wall_clock = app.wall_clock
        self._given = given
        self._parent = parent
        self._changes = changes or {}
        self._splitter: Splitter | None = None
        self._events = bytearray()
        self._overflown = False
        self._native = False
        self._learnt = False
        self._deployment = ""
        self._provider = ""

    def of(self, reply: Reply) -> Client:
        """The client to hand this answer to."""
        target = reply.attempt.target
        self._provider = target.provider.name
        self._deployment = target.deployment.id
        self._native = reply.begun is None or not reply.begun.speech.translated
        client = self._client
        if isinstance(client, Running):
            # What runs here is kept here, whoever made it.
            self._native = False
            self._changes |= {"id": client.id, "background": True, "store": True}
        if self._responses is None and not self._changes:
            return client
        if self._changes:
            self._splitter = Splitter()
        return self

    # The hallway's Client.

    @property
    def begun(self) -> bool:
        return self._client.begun

    @property
    def congested(self) -> bool:
        return self._client.congested

    @property
    def trailers(self) -> bool:
        return self._client.trailers

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        if status == 200 and self._changes:
            body = changed(body, self._changes)
        self._client.respond(status, headers, body)
        if status == 200:
            self._keep(body)

    def start(self, status: int, headers: bytes, data: bytes) -> None:
        self._client.start(status, headers, self._passed(data))

    def send(self, data: bytes) -> None:
        out = self._passed(data)
        if out:
            self._client.send(out)

    async def drain(self) -> None:
        await self._client.drain()

    def finish(self, data: bytes, trailers: bytes = b"") -> None:
        out = self._passed(data)
        if self._splitter is not None:
            rest = self._splitter.rest()
            if rest:
                out += rewritten(rest, self._changes)
        self._client.finish(out, trailers)
        if self._responses is None or self._native:
            return
        # The writer of this dialect ends with one event that holds everything.
        response = last_response(out) or last_response(bytes(self._events))
        if bytes(response):
            self._keep(bytes(response), b"" if self._overflown else bytes(self._events))

    def break_off(self) -> None:
        self._client.break_off()

    def _passed(self, data: bytes) -> bytes:
        if self._splitter is not None and data:
            try:
                data = rewritten(self._splitter.feed(data), self._changes)
            except EventTooLarge:
                log.warning("response of request %s has an event too large to be kept", self._call.request.id)
                data = self._splitter.rest() + data
                self._splitter, self._responses = None, None
        if self._responses is not None and not self._learnt:
            self._gather(data)
        return data

    def _gather(self, data: bytes) -> None:
        events = self._events
        if self._native:
            # The provider has it from its first event on, whatever becomes of this connection.
            events += data
            found = first_response(bytes(events)) if b"\n\n" in events or b"\r\n\r\n" in events else Raw()
            if bytes(found):
                self._keep(bytes(found))
            self._learnt = bool(bytes(found)) or len(events) > MAX_SEARCHED
            if self._learnt:
                events.clear()
        elif not self._overflown:
            events += data
            if len(events) > MAX_EVENTS:
                self._overflown = True
                events.clear()

    def _keep(self, response: bytes, events: bytes = b"") -> None:
        if self._responses is None:
            return
        id, status = name_of(response)
        if not id:
            return
        grant = self._call.grant
        one = StoredResponse(
            id=id,
            owner=owner_of(grant.principal),
            team=grant.key.team if grant.key is not None else None,
            provider=self._provider if self._native else HERE,
            deployment=self._deployment,
            model=self._call.route.name,
            status="completed" if self._native else status,
            background=isinstance(self._client, Running),
            created=self._wall_clock(),
        )
        if not self._native:
            one = msgspec.structs.replace(
                one, previous=self._parent, input=self._given, response=response, events=events
            )
        self._responses.keep(one)
