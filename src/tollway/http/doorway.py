"""What every door does around the hallway: request ids, turning refusals into answers, and the one catch-all."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable

from tollway.errors import BadRequest, GatewayError, InternalError
from tollway.http.errors import refusal
from tollway.pipeline.client import Client, ModelRequest
from tollway.pipeline.services import Services

log = logging.getLogger("tollway.http")

BODY_RATE = 500
"""Bytes a second a body must bring on average once ``body_timeout`` has passed: a trickle keeps no connection."""

Handler = Callable[[ModelRequest, Client, Services], Awaitable[None]]


def not_http(error: Exception) -> BadRequest:
    """What a parser refused. It says why in fixed words, none of them the client's."""
    reason = "" if error.__context__ is not None else str(error)
    return BadRequest(f"The request is not valid HTTP{': ' + reason if reason else ''}.")


class RequestIds:
    """Unguessable ids that sort by time: 44 bits of milliseconds, then 52 random bits drawn in blocks.

    In order of time they fall beside one another in the ledger's indexes, which makes storing them cheap.
    """

    __slots__ = ("_at", "_block", "_moment", "_prefix")

    def __init__(self) -> None:
        self._block = ""
        self._at = 0
        self._moment = -1
        self._prefix = ""

    def next(self) -> str:
        at = self._at
        if at + 13 > len(self._block):
            self._block = os.urandom(13 * 256).hex()
            at = 0
        self._at = at + 13
        moment = int(time.time() * 1000)
        if moment != self._moment:
            self._moment = moment
            self._prefix = f"req_{moment:011x}"
        return self._prefix + self._block[at : at + 13]


async def walk(
    handler: Handler,
    request: ModelRequest,
    client: Client,
    app: Services,
    done: Callable[[], None] | None = None,
) -> None:
    """Run a request through the hallway. Whatever happens the client gets an answer, or its connection is closed;
    ``done`` is called after it."""
    try:
        await handler(request, client, app)
    except GatewayError as error:
        refuse(error, request, client, app)
    except Exception:
        log.exception("request %s failed inside the gateway", request.id)
        refuse(
            InternalError("The gateway failed on this request. Its log has the reason."), request, client, app
        )
    finally:
        if done is not None:
            done()


def refuse(error: GatewayError, request: ModelRequest, client: Client, app: Services) -> None:
    app.tally.refuse(error.error_code)
    if client.begun:
        client.break_off()
        return
    status, headers, body = refusal(
        error, request.id, request.dialect, budget_status=app.snapshot.settings.budget_status
    )
    client.respond(status, headers, body)
    if app.contents is not None and app.contents.wants(True):
        app.contents.offer(
            f"ue_{request.id}_{error.headers.get('x-tollway-attempts', '0')}", request.body, body
        )
