"""What the played model says, in no dialect's words: thinking, then text, a refusal or tool calls.

The same wish with the same knobs gets the same speech. OpenAI's chat has a faster one of its own.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import Struct

from tollway.simulator.answer import Refusal
from tollway.simulator.instances import instance
from tollway.simulator.knobs import Knobs
from tollway.simulator.tokens import TOKEN, count, prose, start_of

DEFAULT_TOKENS = 32
DEFAULT_THINKING = 16

NO = "I cannot help with that."

SEALED = b"the simulator's own seal"


class Tool(Struct):
    """``schema`` of the arguments; None where the tool takes free text."""

    name: str
    schema: Any = None
    free: bool = False


class Wish(Struct, kw_only=True):
    """What a request asks for. ``limit`` is in tokens and includes thinking. ``schema``: the text is JSON that
    fits it. ``last`` is the last user's text. ``tools`` are those to call now, empty where text is wanted."""

    model: str
    last: str = ""
    tools: list[Tool] = []
    parallel: bool = True
    limit: int | None = None
    stop: list[str] = []
    schema: Any = None
    seed: int | None = None
    thinks: bool = False


class Call(Struct):
    """``arguments`` is their JSON, or the free text of a custom tool."""

    tool: Tool
    arguments: str

    @property
    def name(self) -> str:
        return self.tool.name


class Speech(Struct):
    """``finish``: stop, length, tool_calls, content_filter, function_call, pause, stop_sequence or refusal.
    ``tokens`` counts text, names and arguments; ``reasoning`` the thinking, seen or not."""

    finish: str
    tokens: int
    reasoning: int = 0
    thinking: str = ""
    text: str | None = None
    calls: list[Call] = []
    stopped_at: str | None = None
    refused: bool = False


def speak(wish: Wish, knobs: Knobs) -> Speech:
    """Raises a 400 Refusal where a schema cannot be met."""
    try:
        return _speak(wish, knobs)
    except ValueError as error:
        raise Refusal(400, f"Invalid schema: {error}.") from error


def _speak(wish: Wish, knobs: Knobs) -> Speech:
    reasoning = knobs.reasoning or (DEFAULT_THINKING if wish.thinks else 0)
    room = wish.limit
    if room is not None:
        reasoning = min(reasoning, room)
        room -= reasoning
    if knobs.refusal:
        said = Speech("refusal", count(NO), text=NO, refused=True)
    elif tools := to_call(wish.tools, knobs):
        said = _calls(tools, knobs.parallel if wish.parallel else 1, room, knobs.arguments)
    else:
        said = _text(wish, knobs, room)
    said.reasoning = reasoning
    if wish.thinks:
        said.thinking = prose(reasoning, start_of("thinking", wish.model))
    if knobs.finish is not None:
        said.finish = knobs.finish
    return said


def _text(wish: Wish, knobs: Knobs, room: int | None) -> Speech:
    if wish.schema is not None:
        text = msgspec.json.encode(instance(wish.schema)).decode()
    elif knobs.text is not None:
        text = knobs.text
    elif knobs.echo:
        text = wish.last
    else:
        wanted = knobs.tokens if knobs.tokens is not None else knobs.events or DEFAULT_TOKENS
        text = prose(wanted, start_of(wish.model, wish.seed, 0))
    finish, mark = "stop", None
    found = min(((at, one) for one in wish.stop if one and (at := text.find(one)) >= 0), default=None)
    if found is not None:
        text, finish, mark = text[: found[0]], "stop_sequence", found[1]
    if room is not None and count(text) > room:
        text, finish, mark = text[: room * TOKEN], "length", None
    return Speech(finish, count(text), text=text, stopped_at=mark)


class Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)


def to_call(offered: list[T], knobs: Knobs) -> list[T]:
    """Of the tools that may be called those that the knobs let be called; empty where text is wanted."""
    if not knobs.tool_calls:
        return []
    return offered if knobs.call is None else [tool for tool in offered if tool.name == knobs.call]


def _calls(tools: list[Tool], number: int, room: int | None, given: str | None) -> Speech:
    calls: list[Call] = []
    finish = "tool_calls"
    for place in range(number):
        tool = tools[place % len(tools)]
        if tool.free:
            arguments = "the old cat"
        elif given is not None:
            arguments = given
        else:
            arguments = msgspec.json.encode(instance(tool.schema or {"type": "object"})).decode()
        if room is not None:
            room = max(0, room - count(tool.name))
            if count(arguments) > room:
                arguments, finish = arguments[: room * TOKEN], "length"
            room -= count(arguments)
        calls.append(Call(tool, arguments))
        if finish == "length":
            break
    return Speech(finish, sum(count(call.name) + count(call.arguments) for call in calls), calls=calls)


def seal(*texts: str) -> str:
    """A signature over texts: base64, the same for the same texts, unknown to who never got it."""
    return b64encode(hmac.digest(SEALED, "\0".join(texts).encode(), "sha256")).decode()


def is_sealed(signature: object, *texts: str) -> bool:
    return isinstance(signature, str) and hmac.compare_digest(signature.encode(), seal(*texts).encode())
