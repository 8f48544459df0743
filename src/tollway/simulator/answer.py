"""The simulator's own contract: what a dialect is given and what it hands back. No sockets and no clocks
here.

A dialect says what is answered; staging.py says how the bytes go out, so every dialect has every fault for
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, Protocol, TypeVar

from msgspec import Struct

from tollway.simulator.knobs import Knobs
from tollway.simulator.multipart import Form
from tollway.simulator.shelf import Shelf


class Request(Struct, gc=False):
    """One HTTP request. Header names are lower case; of repeated headers the last one counts.

    ``params`` are the named parts of a path that a route matched, percent-decoded. ``form`` is a multipart body,
    which is read as it arrives: ``body`` is then empty.
    """

    method: bytes
    path: bytes
    query: bytes
    headers: dict[bytes, bytes]
    body: bytes
    keep_alive: bool
    http10: bool = False
    params: dict[str, str] | None = None
    form: Form | None = None


class Refusal(Exception):
    """An answer that is an error, in neutral words; each dialect gives it its own body.

    ``serial`` is set by the engine before a dialect is asked for the body.
    """

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
        self.serial = ""


class Stamp(Struct, gc=False):
    """What makes one answer unlike another: a serial of 24 hexadecimal digits and a time in Unix seconds.

    Every id of an answer holds the serial unabridged: memory.py finds and replaces it there. ``shelf`` is what
    clients left with this simulator; ``now`` is ``created`` with its fraction.
    """

    serial: str
    created: int
    shelf: Shelf
    now: float


Shape = Literal["sse", "lines", "frames", "array"]
"""A stream's shape: server-sent events, lines of JSON, binary frames, or the elements of one JSON array."""


class Answer(Struct, gc=False):
    """What a dialect answers. ``pieces`` are whole events of a stream, or the one body.

    ``event_tokens`` says how many completion tokens each event finished (empty where not streamed) and
    ``usage_at`` which event carries ``usage``, so that a broken stream is billed for what it wrote.
    ``prompt_tokens`` counts the whole prompt, of which ``cached_tokens`` were read from a cache. ``units`` are
    rarer counts: ``cache_write_5m``, ``cache_write_1h`` and ``audio_input`` are parts of the prompt,
    ``audio_output`` of the completion; any other (images, seconds, searches) stands for itself. ``model`` is
    whom to bill where the request did not say.
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
    shape: Shape = "sse"
    units: dict[str, int] | None = None
    model: str = ""


class Asked(Protocol):
    """A request as a dialect read it; the engine only wants to know the model."""

    @property
    def model(self) -> str: ...


R = TypeVar("R", bound=Asked)


class Endpoint(Struct, Generic[R], frozen=True):
    """One operation. ``read`` and ``answer`` raise Refusal; ``answer`` gets the model without its suffix.

    ``billed`` is False for lookups. ``repeatable`` says that an equal body always gets an equal answer, whatever
    the headers and the path: only such answers are remembered.
    """

    name: str
    read: Callable[[Request], R]
    answer: Callable[[R, str, Knobs, Stamp], Answer]
    billed: bool = True
    repeatable: bool = False


class Route(Struct, frozen=True):
    """``pattern`` is a path whose ``{name}`` stands for one segment, ``{name...}`` for any number of them."""

    method: bytes
    pattern: str
    endpoint: Endpoint[Any]


class Keys(Struct, frozen=True):
    """What a client must present: ``required`` (None: any key), and the pair of AWS keys that signs requests."""

    required: str | None
    aws: tuple[str, str]


class Dialect(Struct, frozen=True, kw_only=True):
    """One provider's tongue. ``endpoints`` by path under POST, ``routes`` for what a whole path cannot say,
    ``look`` answers GET paths or returns None.

    ``owns`` says whether a path that nobody answers is this dialect's to refuse. ``admit`` (None: only a
    required key is asked for) raises the Refusal of a request without credentials. ``ratelimit`` is a template
    of headers with ``%(left)d``; ``error_headers`` are sent along with an error.
    """

    name: str
    base: str
    endpoints: dict[bytes, Endpoint[Any]]
    look: Callable[[Request, Knobs], Answer | None]
    owns: Callable[[Request], bool]
    error: Callable[[Refusal], bytes]
    headers: bytes
    credential: Callable[[Request], str | None]
    models: tuple[str, ...]
    unknown: Callable[[str], Refusal]
    routes: tuple[Route, ...] = ()
    admit: Callable[[Request, Keys], None] | None = None
    ratelimit: bytes = b""
    error_headers: Callable[[Refusal], bytes] | None = None


def nothing(request: Request, knobs: Knobs) -> Answer | None:
    """A ``look`` of a dialect whose lookups are all routes."""
    return None
