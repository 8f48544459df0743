"""Requests whose body goes on while it comes: the body as an ASGI server gives it, bounded and in time, and the handler
that takes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tollway.config.settings import ServerSettings
from tollway.errors import BadRequest, RequestTimeout, RequestTooLarge
from tollway.http.doorway import BODY_RATE
from tollway.http.operations import Found
from tollway.pipeline.client import Client, ModelRequest
from tollway.pipeline.forward import forward
from tollway.pipeline.objects import attend
from tollway.pipeline.services import Services

HANGUP = "tollway.hangup"
"""Name of an ASGI extension: a list of what to call when the client's connection is lost, whoever reads from it."""


class AsgiIncoming:
    """``receive`` as the hallway's ``Incoming``. ``ended`` is called once the last byte was read. Raises BadRequest and
    RequestTooLarge for a length that will not do."""

    def __init__(
        self,
        request: ModelRequest,
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        settings: ServerSettings,
        ended: Callable[[], None],
    ) -> None:
        length = request.headers.get(b"content-length", b"")
        if length and b"transfer-encoding" in request.headers:
            raise BadRequest("The request has both content-length and transfer-encoding. Send one.")
        self.length = int(length) if length.isdigit() else None
        self.done = False
        self._limit = settings.max_upload
        self._timeout = settings.body_timeout
        self._receive = receive
        self._ended = ended
        self._size = 0
        self._waited = 0.0
        self._clock = asyncio.get_running_loop().time
        if self.length is not None and self.length > self._limit:
            raise self._too_large()

    async def read(self) -> bytes:
        """The next piece. CancelledError once the client has left. Time counts only while we wait for the client."""
        while not self.done:
            begun = self._clock()
            patience = self._timeout + self._size / BODY_RATE - self._waited
            try:
                async with asyncio.timeout(max(min(self._timeout, patience), 0.0)):
                    message = await self._receive()
            except TimeoutError:
                raise RequestTimeout("The request's body did not arrive in time.") from None
            self._waited += self._clock() - begun
            if message["type"] == "http.disconnect":
                raise asyncio.CancelledError
            if not message.get("more_body", False):
                self.done = True
                self._ended()
            data: bytes = message.get("body", b"")
            self._size += len(data)
            if self._size > self._limit:
                raise self._too_large()
            if data:
                return data
        return b""

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"The upload is larger than {self._limit} bytes, the most this gateway takes.")


class Operating:
    """The handler of one operation, ``within`` one provider where its own path was asked. ``incoming`` is set by the
    door where ``streams`` says so."""

    def __init__(self, found: Found, within: str | None = None) -> None:
        self.found = found
        self.within = within
        self.incoming: AsgiIncoming | None = None

    def streams(self, request: ModelRequest) -> bool:
        """Whether the body goes on while it comes."""
        body = self.found.operation.body
        if body == "form":
            return True
        return body == "either" and b"multipart/" in request.headers.get(b"content-type", b"").lower()

    async def __call__(self, request: ModelRequest, client: Client, app: Services) -> None:
        operation = self.found.operation
        if self.found.model is not None:
            request.model = self.found.model
        if operation.kind:
            await attend(
                request,
                client,
                app,
                operation=operation,
                holdings=app.holdings,
                ids=self.found.ids,
                incoming=self.incoming,
                within=self.within,
            )
        else:
            await forward(
                request, client, app, operation=operation, holdings=app.holdings, incoming=self.incoming
            )
