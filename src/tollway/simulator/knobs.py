"""How the simulator is told to behave: one set of named knobs and the grammar that reads them.

The same names work as a suffix of the model (``gpt-4o+status=429+retry_after=2``), as ``x-mock-*`` headers,
as options of the command line and in ``PUT /defaults``. A name or value that is not understood is an error,
never ignored.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple
from urllib.parse import unquote

import msgspec
from msgspec import Struct

Framing = Literal["length", "chunked", "eof"]
Encoding = Literal["gzip", "deflate", "br", "zstd"]
Place = int | str
"""Where a stream stops: after a number of events, or a named place (``headers``, ``body``, ``chunk``)."""


class Knobs(Struct, frozen=True, kw_only=True):
    """Every knob with its neutral value. Durations in seconds, sizes in bytes; docs/guide/simulator.md lists
    them."""

    latency: tuple[float, float] = (0.0, 0.0)
    pace: float | None = None
    first_event: float = 0.0
    tokens: int | None = None
    events: int | None = None
    text: str | None = None
    echo: bool = False
    answer_model: str | None = None
    finish: str | None = None
    refusal: bool = False
    tool_calls: bool = True
    parallel: int = 1
    call: str | None = None
    arguments: str | None = None
    dimensions: int | None = None
    redacted: bool = False
    citations: bool = False
    job: float = 0.0
    known_only: bool = False

    status: int | None = None
    body: Literal["json", "html", "plain", "empty"] = "json"
    retry_after: str | None = None
    error_code: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    errors: float | None = None
    fail_first: int | None = None
    scope: str | None = None
    ratelimit: int | None = None

    stall: Place | None = None
    cut: Place | None = None
    reset: bool = False
    close: Literal["announce", "silent"] | None = None
    malformed: str | None = None
    size: int | None = None
    error_event: int | None = None

    no_usage: bool = False
    usage_every: bool = False
    usage: Literal["full", "bare", "null"] = "full"
    prompt_tokens: int | None = None
    cached: str | None = None
    cache_write: str | None = None
    cache_write_1h: str | None = None
    reasoning: int = 0
    audio_in: int = 0
    audio_out: int = 0

    no_done: bool = False
    crlf: bool = False
    comments: int = 0
    obfuscation: bool = False
    split: int | None = None
    encoding: Encoding | None = None
    framing: Framing | None = None


NEUTRAL = Knobs()

MALFORMED = (
    "status_line",
    "header_line",
    "header_nul",
    "header_huge",
    "informational",
    "two_lengths",
    "length_and_chunked",
    "length_long",
    "length_short",
    "chunk_size",
    "body_huge",
    "body_empty",
    "garbage",
    "json",
    "sse_json",
    "utf8",
    "content_type",
    "encoding",
    "encoding_cut",
)
"""What ``malformed`` may break, each once and nothing else."""


FINISHES = ("stop", "length", "tool_calls", "content_filter", "function_call", "pause")


class UnknownKnob(ValueError):
    """A knob's name or value is not part of the grammar; the message says what is."""


Value = object
Reader = Callable[[str], Value]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|)")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "": 1e-3}


def duration(text: str) -> float:
    """Seconds of ``20ms``, ``1.5s``, ``2m``, ``250us``; a bare number is milliseconds."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError("a duration such as 20ms, 1.5s or 2m")
    return float(found[1]) * _UNITS[found[2]]


def _span(text: str) -> tuple[float, float]:
    low, dots, high = text.partition("..")
    first = duration(low)
    last = duration(high) if dots else first
    if last < first:
        raise ValueError("a duration, or a range low..high")
    return first, last


def _whole(low: int, high: int) -> Reader:
    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,12}", text) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return read


def _share(text: str) -> float:
    percent = text.endswith("%")
    try:
        value = float(text.rstrip("%")) / (100 if percent else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError("a share from 0 to 1, or a percentage")
    return value


def _cached(text: str) -> str:
    if not re.fullmatch(r"\d{1,12}|\d{1,3}(\.\d+)?%", text):
        raise ValueError("a number of tokens, or a percentage of the prompt")
    return text


def _switch(text: str) -> bool:
    if text.lower() in ("", "1", "true", "on", "yes"):
        return True
    if text.lower() in ("0", "false", "off", "no"):
        return False
    raise ValueError("on or off")


def _one_of(*words: str) -> Reader:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError("one of " + ", ".join(words))
        return text

    return read


def _place(*names: str) -> Reader:
    def read(text: str) -> Place:
        if text in names:
            return text
        if re.fullmatch(r"\d{1,9}", text):
            return int(text)
        raise ValueError("a number of events, or " + ", ".join(names))

    return read


def _retry_after(text: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)?(s|ms|)|date:\d+", text):
        raise ValueError("seconds (2), milliseconds (1500ms) or a date so many seconds ahead (date:5)")
    return text


def _text(text: str) -> str:
    return text


def _object(text: str) -> str:
    try:
        msgspec.json.decode(text, type=dict)
    except msgspec.DecodeError as error:
        raise ValueError("a JSON object") from error
    return text


class Grammar(NamedTuple):
    """How a knob's value is read, what a bare name means (None: a value is needed) and one line for the
    reader."""

    read: Reader
    bare: str | None
    help: str


_MANY = _whole(0, 10_000_000)

GRAMMAR: Mapping[str, Grammar] = {
    "latency": Grammar(_span, None, "time to the first byte: 20ms, or a range 10ms..80ms"),
    "pace": Grammar(duration, None, "pause before every further event of a stream; 0 = one turn of the loop"),
    "first_event": Grammar(duration, None, "pause between the headers and a stream's first event"),
    "tokens": Grammar(_MANY, None, "size of the answer in tokens (4 characters each; default 32)"),
    "events": Grammar(_whole(1, 1_000_000), None, "number of content events the answer is streamed in"),
    "text": Grammar(_text, None, "the answer's text (percent-encoded in a suffix)"),
    "echo": Grammar(_switch, "on", "the answer repeats the last user message"),
    "answer_model": Grammar(_text, None, "the model name that the answer bears"),
    "finish": Grammar(_one_of(*FINISHES), None, "why the answer ends, in each dialect's own word"),
    "refusal": Grammar(_switch, "on", "the model refuses: refusal text in place of content"),
    "tool_calls": Grammar(_switch, "on", "off: answer with text even where tools are offered"),
    "call": Grammar(_text, None, "the tool to call; text where it is not offered"),
    "arguments": Grammar(
        _object, None, "the JSON object that tools are called with (percent-encoded in a suffix)"
    ),
    "parallel": Grammar(_whole(1, 128), None, "number of tool calls in one answer"),
    "dimensions": Grammar(_whole(1, 8192), None, "length of an embedding where the request names none"),
    "redacted": Grammar(_switch, "on", "thinking comes as an opaque block as well"),
    "citations": Grammar(_switch, "on", "the text cites a source"),
    "job": Grammar(duration, None, "time a batch, video or background answer takes until it is complete"),
    "known_only": Grammar(_switch, "on", "models that the list does not name answer 404"),
    "status": Grammar(_whole(200, 599), None, "answer with this status and an error body"),
    "body": Grammar(_one_of("json", "html", "plain", "empty"), None, "the error body's kind"),
    "retry_after": Grammar(_retry_after, None, "2 (seconds), 1500ms (retry-after-ms), date:5 (HTTP date)"),
    "error_code": Grammar(_text, None, "code of the error body"),
    "error_type": Grammar(_text, None, "type of the error body"),
    "error_message": Grammar(_text, None, "message of the error body (percent-encoded in a suffix)"),
    "errors": Grammar(_share, None, "share of requests the fault applies to (0.01 or 1%)"),
    "fail_first": Grammar(_MANY, None, "the fault applies to the first N requests only"),
    "scope": Grammar(_text, None, "what fail_first and errors count by (default: the model with its suffix)"),
    "ratelimit": Grammar(_MANY, None, "x-ratelimit-* headers with so many requests remaining"),
    "stall": Grammar(_place("headers", "body"), None, "hang after N events, before the headers, or mid-body"),
    "cut": Grammar(
        _place("headers", "body", "chunk"),
        None,
        "close after N events, before the headers, mid-body, mid-chunk",
    ),
    "reset": Grammar(_switch, "on", "cut with a TCP reset in place of an orderly end"),
    "close": Grammar(
        _one_of("announce", "silent"), "announce", "close the connection afterwards; silent: unannounced"
    ),
    "malformed": Grammar(_one_of(*MALFORMED), None, "break one thing: " + ", ".join(MALFORMED)),
    "size": Grammar(
        _whole(0, 1 << 30), None, "bytes of header_huge (default 128 KiB), body_huge (16 MiB), garbage (64)"
    ),
    "error_event": Grammar(_MANY, "2", "an error event after N events of a stream, which then ends"),
    "no_usage": Grammar(_switch, "on", "usage is never sent"),
    "usage_every": Grammar(_switch, "on", "running usage on every content event"),
    "usage": Grammar(_one_of("full", "bare", "null"), None, "usage with details, without, or null"),
    "prompt_tokens": Grammar(_MANY, None, "pins the prompt's tokens"),
    "cached": Grammar(_cached, None, "cached tokens of the prompt: a number or a percentage"),
    "cache_write": Grammar(_cached, None, "tokens of the prompt written to a cache for 5 minutes"),
    "cache_write_1h": Grammar(_cached, None, "tokens of the prompt written to a cache for an hour"),
    "reasoning": Grammar(_MANY, None, "reasoning tokens, a part of completion_tokens"),
    "audio_in": Grammar(_MANY, None, "audio tokens, a part of prompt_tokens"),
    "audio_out": Grammar(_MANY, None, "audio tokens, a part of completion_tokens"),
    "no_done": Grammar(_switch, "on", "the stream ends without [DONE]"),
    "crlf": Grammar(_switch, "on", "SSE lines end in CR LF"),
    "comments": Grammar(_whole(0, 1_000_000), "1", "an SSE comment before every N-th event"),
    "obfuscation": Grammar(_switch, "on", "obfuscation padding on content events"),
    "split": Grammar(_whole(1, 1 << 20), None, "write in pieces of so many bytes, one a turn of the loop"),
    "encoding": Grammar(_one_of("gzip", "deflate", "br", "zstd"), None, "content-encoding"),
    "framing": Grammar(_one_of("length", "chunked", "eof"), None, "how the body is delimited"),
}

FAULTS = ("status", "stall", "cut", "malformed", "error_event")
"""The knobs that ``errors`` and ``fail_first`` ration."""

STAGING = (
    "latency",
    "pace",
    "first_event",
    "stall",
    "cut",
    "close",
    "malformed",
    "error_event",
    "crlf",
    "comments",
    "split",
    "encoding",
    "framing",
    "ratelimit",
)
"""The knobs that act on bytes and clocks; the others act on what is said."""


def set_knobs(knobs: Knobs, settings: Iterable[tuple[str, str | None]]) -> Knobs:
    """The knobs with some set anew; a value of None is the bare name. Raises UnknownKnob."""
    changes: dict[str, Value] = {}
    for name, text in settings:
        name = name.strip().replace("-", "_").lower()
        grammar = GRAMMAR.get(name)
        if grammar is None:
            near = difflib.get_close_matches(name, GRAMMAR, 1)
            hint = f" Did you mean {near[0]!r}?" if near else " docs/guide/simulator.md lists the knobs."
            raise UnknownKnob(f"The simulator has no knob {name!r}.{hint}")
        given = grammar.bare if text is None else text
        if given is None:
            raise UnknownKnob(f"The knob {name!r} needs a value: {grammar.help}.")
        try:
            changes[name] = grammar.read(given)
        except ValueError as error:
            raise UnknownKnob(f"The knob {name!r} wants {error}, not {given!r}.") from error
    return msgspec.structs.replace(knobs, **changes) if changes else knobs


def suffix(model: str) -> tuple[str, list[tuple[str, str | None]]]:
    """``base+name=value+name`` taken apart. Values are percent-decoded; the base may itself hold no plus
    sign."""
    base, *parts = model.split("+")
    settings: list[tuple[str, str | None]] = []
    for part in parts:
        name, equals, value = part.partition("=")
        settings.append((name, unquote(value) if equals else None))
    return base, settings


def is_staged(knobs: Knobs) -> bool:
    """Whether any knob asks for more than the plain bytes at once."""
    return any(getattr(knobs, name) != getattr(NEUTRAL, name) for name in STAGING)


def has_fault(knobs: Knobs) -> bool:
    return any(getattr(knobs, name) is not None for name in FAULTS)


def without_fault(knobs: Knobs) -> Knobs:
    return msgspec.structs.replace(knobs, **dict.fromkeys(FAULTS))
