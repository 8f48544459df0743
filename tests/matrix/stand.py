"""What a cell of the matrix stands between: the gateway, the providers behind it and the bill they write."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec
from asking import Ask, Client, Heard
from asking_chat import Chat
from asking_gemini import Gemini
from asking_messages import Messages
from asking_responses import Responses

from running import KEY, Gateway
from tollway.simulator.bill import Entry
from tollway.simulator.server import Simulator

CLIENTS = ("chat", "responses", "messages", "gemini")


@dataclass(frozen=True)
class Upstream:
    """A provider of the simulator's. ``models`` are the ones that some scenario needs in place of ``model``;
    ``tells`` the classes of tokens its format has a place for."""

    name: str
    format: str
    entry: dict[str, object]
    model: str
    models: dict[str, str]
    tells: frozenset[str]

    def named(self, scenario: str, **knobs: object) -> str:
        """The model as a client asks for it, with the simulator's knobs."""
        base = self.models.get(scenario, self.model)
        return f"{self.name}/{base}" + "".join(
            f"+{name}={quote(str(value))}" for name, value in knobs.items()
        )


def _upstream(
    name: str, format: str, kind: str, base: str, model: str, *tells: str, **models: str
) -> Upstream:
    entry: dict[str, object] = {"type": kind, "base_url": base, "api_key": "sk-of-the-simulator"}
    if kind in ("openai", "ollama"):
        entry["languages"] = [format]
    return Upstream(name, format, entry, model, models, frozenset(("input", "output", *tells)))


_OPENAI = ("cache_read", "reasoning")
_CLAUDE = ("cache_read", "cache_write_5m", "cache_write_1h")
_SIGNS = (
    "gemini-3-pro-preview"  # a call of this one comes back with its signature, or the provider refuses it
)
_BEDROCK = "anthropic.claude-sonnet-4-5-20250929-v1:0"

UPSTREAMS = {
    made.name: made
    for made in (
        _upstream(
            "chat", "openai.chat", "openai-compatible", "/v1", "gpt-4.1", *_OPENAI, thinking="gpt-5-mini"
        ),
        _upstream("resp", "openai.responses", "openai", "/v1", "gpt-4.1", *_OPENAI, thinking="gpt-5-mini"),
        _upstream(
            "anthropic", "anthropic.messages", "anthropic", "", "claude-sonnet-4-5", *_CLAUDE, "reasoning"
        ),
        _upstream(
            "gemini",
            "gemini.generate",
            "gemini",
            "",
            "gemini-2.5-flash",
            *_OPENAI,
            tools=_SIGNS,
            parallel=_SIGNS,
        ),
        _upstream("bedrock", "bedrock.converse", "bedrock", "", _BEDROCK, *_CLAUDE),
        _upstream(
            "cohere",
            "cohere.chat",
            "cohere",
            "",
            "command-a-03-2025",
            "cache_read",
            thinking="command-a-reasoning-08-2025",
            image="command-a-vision-07-2025",
        ),
        _upstream("ollama", "ollama.chat", "ollama", "", "qwen3:8b"),
    )
}


def configuration(port: int) -> dict[str, object]:
    origin = f"http://127.0.0.1:{port}"
    providers = {
        one.name: {**one.entry, "base_url": origin + str(one.entry["base_url"])} for one in UPSTREAMS.values()
    }
    return {"require_key": True, "providers": providers, "keys": [{"name": "matrix", "key": KEY}]}


class Exchange(msgspec.Struct):
    """One request as it was served: what the provider was sent, what the client heard, byte for byte and in its own
    words, and the line of the bill."""

    sent: Any
    heard: Heard
    raw: bytes
    dropped: list[str]
    billed: Entry


class Stand:
    def __init__(self, served: Gateway, simulator: Simulator) -> None:
        self.gateway = served
        self.simulator = simulator
        origin = f"http://127.0.0.1:{served.port}"
        self.clients: dict[str, Client] = {
            made.name: made for made in (Chat(origin), Responses(origin), Messages(origin), Gemini(origin))
        }

    def close(self) -> None:
        for client in self.clients.values():
            client.close()

    @property
    def billed(self) -> int:
        """The number of the bill's last line."""
        lines = self.simulator.bill.lines
        return lines[-1].number if lines else 0

    def lines_since(self, number: int, count: int) -> list[Entry]:
        """``count`` lines of the bill; the last is written a moment after the client has its answer."""
        deadline = time.monotonic() + 5
        while len(lines := self.simulator.bill.entries(number)) < count and time.monotonic() < deadline:
            time.sleep(0.002)
        assert len(lines) == count, f"{len(lines)} exchanges were billed, not {count}"
        return lines

    def ask(
        self, client: str, model: str, ask: Ask, stream: bool, turns: list[Any] | None = None
    ) -> Exchange:
        """One request. What the SDK raises is raised on."""
        before = self.billed
        speaks = self.clients[client]
        heard = speaks.send(model, ask, speaks.open(ask) if turns is None else turns, stream)
        billed = self.lines_since(before, 1)[0]
        sent = msgspec.json.decode(self.simulator.received[-1].body)
        head = speaks.tap.headers.get("x-tollway-dropped", "")
        return Exchange(sent, heard, bytes(speaks.tap.body), head.split(",") if head else [], billed)

    def events(self) -> list[Any]:
        return asyncio.run(self.gateway.events())
