"""The two ends of a request as the hallway sees them: what was asked, and the client that waits for the answer.

The doors (``http/lane.py``, ``http/asgi.py``) implement ``Client``; nothing here knows how.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Caller:
    """What ``authenticate`` found for one head, kept by the door while the same head repeats on a connection.

    ``found`` is a ``Grant`` of the snapshot ``of``; it says nothing about any other snapshot.
    """

    __slots__ = ("found", "of")

    def __init__(self) -> None:
        self.of: object = None
        self.found: object = None


class ModelRequest:
    """One request at the door: ``endpoint`` from the table of endpoints, ``headers`` with lower-case names,
    ``body`` whole, ``id`` the request id, ``started`` on the monotonic clock.

    ``dialect`` decides how refusals are written. ``model`` and ``stream`` are set where the path says them and not the
    body. ``repeated`` says that a credential header came twice with different values. ``path`` and ``method`` matter to
    pass-through only: the path behind ``/{provider}``, still percent-encoded.
    """

    __slots__ = (
        "body",
        "caller",
        "dialect",
        "endpoint",
        "header_list",
        "headers",
        "id",
        "method",
        "model",
        "path",
        "query",
        "repeated",
        "started",
        "stream",
    )

    def __init__(
        self,
        *,
        endpoint: str,
        headers: Mapping[bytes, bytes],
        body: bytes,
        id: str,
        started: float,
        method: bytes = b"POST",
        path: bytes = b"",
        query: bytes = b"",
        repeated: bool = False,
        header_list: list[tuple[bytes, bytes]] | None = None,
        caller: Caller | None = None,
        dialect: str = "openai",
        model: str | None = None,
        stream: bool | None = None,
    ) -> None:
        self.caller = caller
        self.endpoint = endpoint
        self.headers = headers
        self.body = body
        self.id = id
        self.started = started
        self.method = method
        self.path = path
        self.query = query
        self.repeated = repeated
        self.header_list = header_list or []
        self.dialect = dialect
        self.model = model
        self.stream = stream


class Client(Protocol):
    """The waiting client. Header blocks are whole lines (``name: value\\r\\n`` …) without framing headers.

    When the client leaves, the door cancels the task that serves it: no method here needs to say so.
    """

    @property
    def begun(self) -> bool:
        """Whether a status line has been sent: after that an error can only end the stream."""

    @property
    def congested(self) -> bool:
        """Whether what was sent waits for a slow reader: then ``drain`` before sending more."""

    @property
    def trailers(self) -> bool:
        """Whether the client takes trailers (``TE: trailers``) and the door can send them."""

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """A whole answer at once."""

    def start(self, status: int, headers: bytes, data: bytes) -> None:
        """Begin a streamed answer, with its first bytes."""

    def send(self, data: bytes) -> None: ...

    async def drain(self) -> None:
        """Wait until the client has taken most of what was sent; past the write deadline it is cut off."""

    def finish(self, data: bytes, trailers: bytes = b"") -> None:
        """The last bytes of a streamed answer."""

    def break_off(self) -> None:
        """Close the connection: the answer cannot be completed and must not look complete."""
