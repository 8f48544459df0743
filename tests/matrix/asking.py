"""What clients of every dialect ask and hear, in words that are no dialect's; and a tap on the bytes an SDK reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx
import httpx2

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

TOOLS: dict[str, dict[str, Any]] = {
    "get_weather": {
        "description": "The weather of a city.",
        "schema": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "enum": ["Oslo", "Lima"]},
                "days": {"type": "integer", "minimum": 3},
            },
            "required": ["city", "days"],
        },
    },
    "get_tide": {
        "description": "The tide of a harbour.",
        "schema": {
            "type": "object",
            "properties": {"harbour": {"type": "string", "enum": ["Brest"]}},
            "required": ["harbour"],
        },
    },
}
CALLED: dict[str, dict[str, Any]] = {
    "get_weather": {"city": "Oslo", "days": 7},
    "get_tide": {"harbour": "Brest"},
}
"""What the simulator calls them with."""

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Oslo", "Lima"]},
        "harbours": {"type": "array", "items": {"type": "string", "enum": ["Brest"]}, "minItems": 1},
    },
    "required": ["city", "harbours"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Ask:
    """``cached``: the system prompt ends in a cache marker where the dialect has one."""

    text: str = "When does the tide turn?"
    system: str | None = None
    cached: bool = False
    image: bool = False
    tools: tuple[str, ...] = ()
    thinking: bool = False
    schema: bool = False
    limit: int = 2048
    stop: str | None = None


@dataclass(frozen=True)
class Call:
    id: str
    name: str
    arguments: Any


@dataclass
class Heard:
    """A final message. ``usage`` is in the dialect's own classes, ``finish`` one of stop, length, tool_calls,
    content_filter; ``turn`` is what the client appends to its history."""

    text: str
    thinking: str
    calls: list[Call]
    finish: str
    usage: dict[str, int]
    turn: list[Any] = field(default_factory=list)

    def meaning(self) -> tuple[object, ...]:
        """All of it but the ids, which are new every time."""
        calls = [(one.name, one.arguments) for one in self.calls]
        return self.text, self.thinking, calls, self.finish, self.usage


class Tap:
    """The last answer's status, headers and bytes."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()

    def begin(self, status: int, headers: dict[str, str]) -> None:
        self.status, self.headers, self.body = status, headers, bytearray()


class _Read(httpx.SyncByteStream):
    def __init__(self, inner: httpx.SyncByteStream, tap: Tap) -> None:
        self._inner = inner
        self._tap = tap

    def __iter__(self) -> Iterator[bytes]:
        for data in self._inner:
            self._tap.body += data
            yield data

    def close(self) -> None:
        self._inner.close()


class _Read2(httpx2.SyncByteStream):
    def __init__(self, inner: httpx2.SyncByteStream, tap: Tap) -> None:
        self._inner = inner
        self._tap = tap

    def __iter__(self) -> Iterator[bytes]:
        for data in self._inner:
            self._tap.body += data
            yield data

    def close(self) -> None:
        self._inner.close()


class _Transport(httpx.HTTPTransport):
    def __init__(self, tap: Tap) -> None:
        super().__init__()
        self._tap = tap

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        self._tap.begin(answer.status_code, dict(answer.headers))
        assert isinstance(answer.stream, httpx.SyncByteStream)
        answer.stream = _Read(answer.stream, self._tap)
        return answer


class _Transport2(httpx2.HTTPTransport):
    def __init__(self, tap: Tap) -> None:
        super().__init__()
        self._tap = tap

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = super().handle_request(request)
        self._tap.begin(answer.status_code, dict(answer.headers))
        assert isinstance(answer.stream, httpx2.SyncByteStream)
        answer.stream = _Read2(answer.stream, self._tap)
        return answer


def tapped(tap: Tap) -> httpx.Client:
    return httpx.Client(transport=_Transport(tap), timeout=20)


def tapped2(tap: Tap) -> httpx2.Client:
    return httpx2.Client(transport=_Transport2(tap), timeout=20)


class Client(Protocol):
    """One dialect, spoken by its official SDK without retries."""

    name: str
    tap: Tap

    def open(self, ask: Ask) -> list[Any]:
        """The history a conversation begins with."""

    def send(self, model: str, ask: Ask, turns: list[Any], stream: bool) -> Heard: ...

    def results(self, heard: Heard, given: dict[str, str]) -> list[Any]:
        """The turn that gives tools' results back, by tool name."""

    def usage(self, billed: dict[str, int]) -> dict[str, int]:
        """The bill's disjoint classes as this dialect counts them."""

    def refusal(self, error: Exception) -> tuple[int, str, str]:
        """Status, class name and message of what the SDK raised."""

    def close(self) -> None: ...
