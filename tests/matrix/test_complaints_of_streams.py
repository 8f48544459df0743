"""Streams that other gateways garbled, played by a provider byte for byte; and how answers end that do not come."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import Iterator

import pytest
from asking import CALLED, Ask, Client
from asking_chat import Chat
from asking_gemini import Gemini
from asking_messages import Messages
from asking_responses import Responses
from scripted import USAGE, Scripted, chunks, fragment, playing
from stand import CLIENTS

from running import KEY, Gateway

BOTH = Ask(tools=("get_weather", "get_tide"))
_WEATHER, _TIDE = (json.dumps(CALLED[name]) for name in BOTH.tools)

SCRIPTS = {
    "interleaved": chunks(
        {"tool_calls": [fragment(0, "", "call_a", "get_weather")]},
        {"tool_calls": [fragment(1, "", "call_b", "get_tide")]},
        {"tool_calls": [fragment(0, _WEATHER[:9])]},
        {"tool_calls": [fragment(1, _TIDE[:5])]},
        {"tool_calls": [fragment(0, _WEATHER[9:])]},
        {"tool_calls": [fragment(1, _TIDE[5:])]},
    ),
    "one-chunk": chunks(
        {
            "tool_calls": [
                fragment(0, _WEATHER, "call_a", "get_weather"),
                fragment(1, _TIDE, "call_b", "get_tide"),
            ]
        }
    ),
    "all-zero": chunks(
        {"tool_calls": [fragment(0, _WEATHER, "call_a", "get_weather")]},
        {"tool_calls": [fragment(0, _TIDE, "call_b", "get_tide")]},
    ),
    "empty-arguments": chunks({"tool_calls": [fragment(0, "", "call_a", "get_tide")]}),
}


@pytest.fixture(scope="module")
def provider() -> Iterator[Scripted]:
    with playing(dict(SCRIPTS)) as running:
        yield running


@pytest.fixture(scope="module")
def clients(provider: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Client]]:
    config = {
        "providers": {
            "played": {"type": "openai-compatible", "base_url": f"http://127.0.0.1:{provider.port}/v1"},
        },
        "keys": [{"name": "streams", "key": KEY}],
    }
    gateway = Gateway(tmp_path_factory.mktemp("streams"), config)
    asyncio.run(gateway.start())
    origin = f"http://127.0.0.1:{gateway.port}"
    made: dict[str, Client] = {
        one.name: one for one in (Chat(origin), Responses(origin), Messages(origin), Gemini(origin))
    }
    try:
        yield made
    finally:
        for one in made.values():
            one.close()
        gateway.kill()


def calls(clients: dict[str, Client], client: str, script: str, ask: Ask = BOTH) -> list[tuple[str, object]]:
    speaks = clients[client]
    heard = speaks.send(f"played/{script}", ask, speaks.open(ask), True)
    if client != "gemini":  # Gemini's calls need no id
        assert len({call.id for call in heard.calls}) == len(heard.calls)
    return [(call.name, call.arguments) for call in heard.calls]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("script", ["interleaved", "one-chunk"])
def test_fragments_of_parallel_calls_find_their_call(
    clients: dict[str, Client], client: str, script: str
) -> None:
    """Only the first fragment has an id and a name; which call the others belong to the index alone says."""
    assert calls(clients, client, script) == list(CALLED.items())


@pytest.mark.parametrize("client", ["responses", "messages", "gemini"])
def test_calls_that_all_say_index_zero_stay_apart(clients: dict[str, Client], client: str) -> None:
    """Servers that count no further tell calls apart by their ids."""
    assert calls(clients, client, "all-zero") == list(CALLED.items())


@pytest.mark.parametrize("client", ["responses", "messages", "gemini"])
def test_a_streamed_call_without_a_word_of_arguments_is_an_empty_object(
    clients: dict[str, Client], client: str
) -> None:
    assert calls(clients, client, "empty-arguments") == [("get_tide", {})]


def test_calls_of_the_same_dialect_pass_byte_for_byte(clients: dict[str, Client]) -> None:
    """Ids, names and order are the provider's own where nothing is translated."""
    speaks = clients["chat"]
    for script in ("interleaved", "one-chunk"):
        speaks.send(f"played/{script}", Ask(), speaks.open(Ask()), True)
        said = SCRIPTS[script].partition(USAGE)[0]
        assert bytes(speaks.tap.body).startswith(said), "only the cost beside the usage is ours"


def test_tools_arrive_as_they_were_described(clients: dict[str, Client], provider: Scripted) -> None:
    """Names, descriptions and every word of the schemas, from each dialect."""
    told = {}
    for name, speaks in clients.items():
        speaks.send("played/interleaved", BOTH, speaks.open(BOTH), True)
        tools = provider.received[-1]["tools"]
        told[name] = [
            (tool["function"]["name"], tool["function"]["description"], tool["function"]["parameters"])
            for tool in tools
        ]
        assert provider.paths[-1] == "/v1/chat/completions"
    for name in ("responses", "messages", "gemini"):
        assert told[name] == told["chat"], name


def test_a_socket_for_responses_is_refused_at_once(clients: dict[str, Client]) -> None:
    """Codex tries a WebSocket without a model first and falls back to HTTP where that is refused: it must be, in HTTP,
    and not by silence."""
    port = int(re.search(r":(\d+)", str(clients["responses"].sdk.base_url))[1])  # type: ignore[attr-defined, index]
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=5) as wire:
        wire.sendall(
            b"GET /v1/responses HTTP/1.1\r\nhost: gateway\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"authorization: Bearer " + KEY.encode() + b"\r\n\r\n"
        )
        status = wire.recv(4096).split(b"\r\n")[0]
    assert re.fullmatch(rb"HTTP/1.1 4\d\d .*", status), status
    assert time.monotonic() - began < 2
