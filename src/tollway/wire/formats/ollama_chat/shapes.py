"""Structs and tables of Ollama's chat API, and the small translations that requests, answers and streams share.

Source: Ollama's API reference and the types of its server and Python client.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Raw, Struct

from tollway.model.usage import Usage
from tollway.wire.conversation import Finish, ToolCall
from tollway.wire.decoding import given

FAMILY = "ollama"
CONTENT_TYPE = b"application/x-ndjson"

Wire = dict[str, Any]
"""A JSON object about to be encoded."""

encode = msgspec.json.Encoder().encode
decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode


class Function(Struct):
    """``arguments`` is an object; servers in front of Ollama have been seen to write it as a string."""

    name: str
    arguments: Raw = Raw()


class Call(Struct):
    """``id`` came with later versions. The ``index`` some versions write is 0 for every call: not read."""

    function: Function
    id: str = ""


class WireMessage(Struct):
    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class Answer(Struct):
    """A whole answer, or a line of a stream. ``error`` is a line that ends a stream, with nothing else in it."""

    message: WireMessage | None = None
    model: str = ""
    created_at: str = ""
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_duration: int | None = None
    eval_duration: int | None = None
    logprobs: Raw = Raw()
    error: str | None = None


_COUNTED = (
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
)


def read_usage(wire: Answer) -> tuple[Usage | None, Raw]:
    """The usage, and the answer's own fields of it. A prompt found whole in the cache is counted by nobody."""
    if wire.prompt_eval_count is None and wire.eval_count is None:
        return None, Raw()
    raw = {name: value for name in _COUNTED if (value := getattr(wire, name)) is not None}
    usage = Usage(input=max(wire.prompt_eval_count or 0, 0), output=max(wire.eval_count or 0, 0))
    return usage, Raw(encode(raw))


def write_usage(usage: Usage | None) -> Wire:
    """Cached and audio tokens are part of the two counts; durations are demanded by clients and not known here."""
    wire: Wire = dict.fromkeys(_COUNTED, 0)
    if usage is not None:
        wire["prompt_eval_count"] = usage.prompt_tokens()
        wire["eval_count"] = usage.output + usage.audio_output
    return wire


def read_finish(reason: str | None, calls: bool) -> Finish:
    """Ollama says ``stop`` for calls too."""
    if reason == "length":
        return "length"
    return "tool_calls" if calls else "stop"


def write_reason(finish: Finish) -> str:
    return "length" if finish == "length" else "stop"


def id_base(created_at: str) -> str:
    """What the made ids of an answer's calls begin with: the same for its whole form and its stream."""
    return "call_" + hashlib.sha256(created_at.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def read_call(call: Call, made: str) -> ToolCall:
    """``made`` is the id of a call that has none."""
    return ToolCall(
        id=call.id or made, name=call.function.name, arguments=_arguments(call.function.arguments)
    )


def _arguments(raw: Raw) -> str:
    if not given(raw):
        return "{}"
    text = bytes(raw).decode()
    if text.startswith('"'):
        inner: str = msgspec.json.decode(text, type=str)
        return inner or "{}"
    return text


def write_call(call: ToolCall) -> Wire:
    """Arguments have to be an object: free text and broken JSON become its ``input``."""
    encoded = ((call.arguments or "").strip() or "{}").encode()
    arguments: Raw | Wire = {"input": call.arguments}
    if not call.custom:
        try:
            decode_fields(encoded)
        except (msgspec.DecodeError, RecursionError):
            pass
        else:
            arguments = Raw(encoded)
    return {"id": call.id, "function": {"name": call.name, "arguments": arguments}}


def read_time(created_at: str) -> int:
    """Unix seconds; 0 where the time cannot be read."""
    try:
        return max(int(datetime.fromisoformat(created_at).timestamp()), 0)
    except (ValueError, OverflowError):
        return 0


LAST_SECOND = 253402300799
"""The end of the year 9999: no later time can be written."""


def write_time(created: int) -> str:
    return datetime.fromtimestamp(min(max(created, 0), LAST_SECOND), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
