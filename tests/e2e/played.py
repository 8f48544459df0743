"""A gateway whose models are the same played model behind every kind of provider, for agents to work with. Asserts
nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from served import Served, served_with

from running import simulator

SAID = "That is all."
"""What the played model says once its tool was answered."""

UPSTREAMS = ("chat", "responses", "anthropic", "gemini")


def providers(origin: str) -> dict[str, object]:
    """One provider for each of ``UPSTREAMS``, which is spoken to in that format alone."""
    key = "sk-of-the-simulator"
    return {
        "chat": {
            "type": "openai-compatible",
            "base_url": origin + "/v1",
            "api_key": key,
            "languages": ["openai.chat"],
        },
        "responses": {
            "type": "openai",
            "base_url": origin + "/v1",
            "api_key": key,
            "languages": ["openai.responses"],
        },
        "anthropic": {"type": "anthropic", "base_url": origin, "api_key": key},
        "gemini": {"type": "gemini", "base_url": origin, "api_key": key},
    }


def player(tool: str = "", arguments: Mapping[str, object] | None = None, **knobs: object) -> str:
    """A model of the simulator that calls the tool first and, once it is answered, says ``SAID``."""
    told = {"text": SAID, **knobs}
    if tool:
        told["call"] = tool
    if arguments is not None:
        told["arguments"] = json.dumps(arguments)
    return "m" + "".join(f"+{name}={quote(str(value), safe='')}" for name, value in told.items())


@contextmanager
def played_gateway(directory: Path, players: Mapping[str, str]) -> Iterator[Served]:
    """A gateway whose model ``name-upstream`` is the player of that name behind that provider."""
    with simulator() as upstream:
        models = {
            f"{name}-{kind}": f"{kind}/{model}" for name, model in players.items() for kind in UPSTREAMS
        }
        config = {"providers": providers(upstream.url.removesuffix("/v1")), "models": models}
        with served_with(directory, upstream, config) as running:
            yield running
