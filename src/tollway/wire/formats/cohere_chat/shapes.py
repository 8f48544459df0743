"""Structs and tables of Cohere's chat API, version 2, and the small translations its parts share.

Source: Cohere's API reference and the types of its Python client.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
from msgspec import Raw, Struct

from tollway.model.usage import Usage
from tollway.wire.conversation import Citation, Finish, Thinking, ToolCall
from tollway.wire.decoding import given

FAMILY = "cohere"
PLAN = "tool_plan"
"""The id of the thought that holds a tool plan."""

Wire = dict[str, Any]
"""A JSON object about to be encoded."""

encode = msgspec.json.Encoder().encode
decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode

FINISHES: dict[str, Finish] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR_TOXIC": "content_filter",
    "ERROR": "error",
    "TIMEOUT": "error",
}
REASONS: dict[Finish, str] = {
    "stop": "COMPLETE",
    "length": "MAX_TOKENS",
    "tool_calls": "TOOL_CALL",
    "content_filter": "ERROR_TOXIC",
    "refusal": "COMPLETE",
    "pause": "COMPLETE",
    "error": "ERROR",
}


class Function(Struct):
    name: str = ""
    arguments: str | None = None


class Call(Struct):
    id: str = ""
    function: Function | None = None


class Content(Struct):
    """A piece of content, of whatever kind."""

    type: str = "text"
    text: str | None = None
    thinking: str | None = None


class _Origin(Struct):
    document: dict[str, Any] | None = None


class WireCitation(Struct):
    start: int | None = None
    end: int | None = None
    text: str | None = None
    sources: list[_Origin] | None = None
    content_index: int | None = None
    type: str | None = None


class _Tokens(Struct):
    input_tokens: float | None = None
    output_tokens: float | None = None
    search_units: float | None = None


class WireUsage(Struct):
    billed_units: _Tokens | None = None
    tokens: _Tokens | None = None
    cached_tokens: float | None = None


class Logprob(Struct):
    text: str = ""
    logprobs: list[float] | None = None


_citation = msgspec.json.Decoder(WireCitation)


def read_finish(reason: str) -> tuple[Finish, str | None]:
    """The finish and the stop sequence, which Cohere does not name."""
    return FINISHES.get(reason, "stop"), "" if reason == "STOP_SEQUENCE" else None


def write_reason(finish: Finish, sequence: str | None) -> str:
    return "STOP_SEQUENCE" if finish == "stop" and sequence is not None else REASONS[finish]


def _count(value: float | None) -> int:
    return int(value) if value is not None and math.isfinite(value) and value > 0 else 0


def read_usage(wire: WireUsage) -> Usage | None:
    """What is billed, where Cohere says so: ``tokens`` also counts its own template around the prompt."""
    billed = wire.billed_units
    counted = billed if billed and billed.input_tokens is not None else wire.tokens
    if counted is None and billed is None:
        return None
    read = _count(counted.input_tokens) if counted else 0
    cached = min(_count(wire.cached_tokens), read)
    return Usage(
        input=read - cached,
        cache_read=cached,
        output=_count(counted.output_tokens) if counted else 0,
        searches=_count(billed.search_units) if billed else 0,
    )


def write_usage(usage: Usage | None) -> Wire:
    usage = usage or Usage()
    counted: Wire = {
        "input_tokens": usage.prompt_tokens(),
        "output_tokens": usage.output + usage.audio_output,
    }
    billed = dict(counted)
    if usage.searches:
        billed["search_units"] = usage.searches
    wire: Wire = {"billed_units": billed, "tokens": counted}
    if usage.cache_read:
        wire["cached_tokens"] = usage.cache_read
    return wire


def read_citation(raw: Raw) -> tuple[WireCitation, Citation]:
    """Raises msgspec.DecodeError. Title, address and quoted text are those of the first source that is a document."""
    wire = _citation.decode(raw)
    document: dict[str, Any] = next((one.document for one in wire.sources or () if one.document), {})

    def word(*names: str) -> str | None:
        return next((document[name] for name in names if isinstance(document.get(name), str)), None)

    found = Citation(
        url=word("url"),
        title=word("title"),
        cited=word("snippet", "text"),
        start=wire.start,
        end=wire.end,
        format=FAMILY,
        raw=raw,
    )
    return wire, found


def write_citation(citation: Citation, text: str, index: int) -> Wire | Raw:
    """``text`` is the block that cites, ``index`` its place in the content."""
    if citation.format == FAMILY and bytes(citation.raw):
        return citation.raw
    document = {
        name: value
        for name, value in (("title", citation.title), ("url", citation.url), ("snippet", citation.cited))
        if value
    }
    source: Wire = {"type": "document", "document": document}
    identity = citation.file_id or citation.url or citation.title
    if identity:
        source["id"] = identity
    start, end = citation.start or 0, citation.end if citation.end is not None else len(text)
    return {
        "start": start,
        "end": end,
        "text": text[start:end],
        "sources": [source],
        "content_index": index,
        "type": "TEXT_CONTENT",
    }


def read_logprobs(items: list[Logprob]) -> Raw:
    """OpenAI's object. A chunk of several tokens is one entry, as probable as all of them together."""
    if not items:
        return Raw()
    content: list[Wire] = [
        {"token": item.text, "logprob": sum(item.logprobs or ()), "bytes": None, "top_logprobs": []}
        for item in items
    ]
    return Raw(encode({"content": content}))


class _Token(Struct):
    token: str = ""
    logprob: float = 0.0


class _OpenAI(Struct):
    content: list[_Token] | None = None


_tokens = msgspec.json.Decoder(_OpenAI)


def write_logprobs(raw: Raw) -> list[Wire]:
    """Token ids are Cohere's own and not known here."""
    if not given(raw):
        return []
    return [
        {"text": item.token, "token_ids": [], "logprobs": [item.logprob]}
        for item in _tokens.decode(raw).content or ()
    ]


def read_call(call: Call, made: str) -> ToolCall:
    function = call.function or Function()
    return ToolCall(id=call.id or made, name=function.name, arguments=function.arguments or "{}")


def write_call(call: ToolCall, arguments: str) -> Wire:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def is_plan(block: Thinking) -> bool:
    return block.id == PLAN and block.format == FAMILY
