"""The simulator's own contract: what a dialect is given and what it hands back. No sockets and no clocks
here.

A dialect says what is answered; staging.py says how the bytes go out, so every dialect has every fault for
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct

from tollway.simulator.knobs import Knobs


class Request(Struct, gc=False):
    """One HTTP request. Header names are lower case; of repeated headers the last one counts."""

    method: bytes
    path: bytes
    query: bytes
    headers: dict[bytes, bytes]
    body: bytes
    keep_alive: bool
    http10: bool = False


class Refusal(Exception):
    """An answer that is an error, in neutral words; each dialect gives it its own body."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str | None = None,
        code: str | None = None,
        param: str | None = None,
        headers: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = headers


class Stamp(Struct, gc=False):
    """What makes one answer unlike another: a serial of 24 hexadecimal digits and a time in Unix seconds.

    Every id of an answer holds the serial unabridged: memory.py finds and replaces it there.
    """

    serial: str
    created: int


class Answer(Struct, gc=False):
    """What a dialect answers. ``pieces`` are whole SSE events of a stream, or the one body.

    ``event_tokens`` says how many completion tokens each event finished (empty where not streamed) and
    ``usage_at`` which event carries ``usage``, so that a broken stream is billed for what it wrote.
    """

    id: str
    pieces: list[bytes]
    status: int = 200
    streamed: bool = False
    content_type: bytes = b"application/json"
    headers: bytes = b""
    usage: bytes | None = None
    usage_at: int = 0
    event_tokens: Sequence[int] = ()
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0


class Asked(Protocol):
    """A request as a dialect read it; the engine only wants to know the model."""

    @property
    def model(self) -> str: ...


R = TypeVar("R", bound=Asked)


class Endpoint(Struct, Generic[R], frozen=True):
    """One operation. ``read`` and ``answer`` raise Refusal; ``answer`` gets the model without its suffix."""

    name: str
    read: Callable[[Request], R]
    answer: Callable[[R, str, Knobs, Stamp], Answer]


class Dialect(Struct, frozen=True, kw_only=True):
    """One provider's tongue. ``endpoints`` by path under POST, ``look`` answers its GET paths or returns
    None."""

    name: str
    endpoints: dict[bytes, Endpoint[Any]]
    look: Callable[[Request, Knobs], Answer | None]
    owns: Callable[[bytes], bool]
    error: Callable[[Refusal], bytes]
    headers: bytes
    credential: Callable[[Request], str | None]
    models: tuple[str, ...]
    unknown: Callable[[str], Refusal]
