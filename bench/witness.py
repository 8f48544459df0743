"""Looks at one answer and one stream of a subject before it is measured: a subject that answers wrongly, or
holds a stream back until it is over, must not be compared by its speed."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping

import msgspec
from msgspec import Struct, json

CHAT = "/v1/chat/completions"


class Wrong(RuntimeError):
    """The subject does not do what is to be measured; the text says what it did."""


class Message(Struct):
    content: str | None = None


class Choice(Struct):
    message: Message | None = None
    delta: Message | None = None


class Chunk(Struct):
    choices: list[Choice] = []
    usage: dict[str, object] | None = None


class Delta(Struct):
    text: str | None = None


class Event(Struct):
    type: str
    delta: Delta | None = None


class Seen(Struct, frozen=True):
    """``text`` and ``usage`` as the client got them; a stream's ``events`` with the end marker."""

    text: str
    usage: tuple[object, object]
    events: int


def answer(port: int, model: str, headers: Mapping[str, str]) -> Seen:
    """One plain completion. Raises Wrong."""
    connection, response = _send(port, model, headers, stream=False)
    body = response.read()
    connection.close()
    try:
        chunk = json.decode(body, type=Chunk)
    except msgspec.DecodeError as error:
        raise Wrong(f"not a chat completion ({error}): {body[:300]!r}") from error
    text = "".join(c.message.content or "" for c in chunk.choices if c.message)
    return Seen(text, _usage(chunk), 0)


def stream(port: int, model: str, headers: Mapping[str, str]) -> Seen:
    """One paced stream. Raises Wrong also when the first event comes only after half of the whole time."""
    began = time.perf_counter()
    connection, response = _send(port, model, headers, stream=True)
    text, events, first, done = "", 0, 0.0, False
    usage: tuple[object, object] = (None, None)
    for line in response:
        if not line.startswith(b"data:"):
            continue
        first = first or time.perf_counter() - began
        events += 1
        data = line[5:].strip()
        if data == b"[DONE]":
            done = True
            continue
        chunk = json.decode(data, type=Chunk)
        text += "".join(c.delta.content or "" for c in chunk.choices if c.delta)
        if chunk.usage:
            usage = _usage(chunk)
    whole = time.perf_counter() - began
    connection.close()
    if not done:
        raise Wrong(f"the stream ended without [DONE] after {events} events")
    if first > whole / 2:
        raise Wrong(f"the first event came after {first:.3f} of {whole:.3f} s: the stream was held back")
    return Seen(text, usage, events)


def translation(port: int, model: str, headers: Mapping[str, str]) -> None:
    """One plain completion of a provider that speaks another format. Raises Wrong."""
    seen = answer(port, model, headers)
    if not seen.text or None in seen.usage:
        raise Wrong(f"a translated answer without text or usage: {seen}")


def translated_stream(port: int, model: str, headers: Mapping[str, str]) -> None:
    """One stream in Anthropic's events of a provider that speaks OpenAI's chat must say what the chat says. Raises
    Wrong."""
    wanted = stream(port, model, headers).text
    connection, response = _send(port, model, headers, stream=True, path="/v1/messages")
    lines = [line[5:].strip() for line in response if line.startswith(b"data:")]
    connection.close()
    events = [json.decode(line, type=Event) for line in lines]
    text = "".join(event.delta.text or "" for event in events if event.delta)
    if text != wanted or not events or events[-1].type != "message_stop":
        raise Wrong(f"the stream said {text!r} in {len(events)} events, not {wanted!r}")


def _usage(chunk: Chunk) -> tuple[object, object]:
    usage = chunk.usage or {}
    return usage.get("prompt_tokens"), usage.get("completion_tokens")


def _send(
    port: int, model: str, headers: Mapping[str, str], *, stream: bool, path: str = CHAT
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    body: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": "Say something."}]}
    if path != CHAT:
        body |= {"stream": stream, "max_tokens": 256}
    elif stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", path, json.encode(body), {"content-type": "application/json", **headers})
    response = connection.getresponse()
    if response.status != 200:
        raise Wrong(f"status {response.status}: {response.read()[:300]!r}")
    return connection, response
