"""``POST /v1/messages``: a message whole, or as its events from message_start to message_stop; and
``/v1/messages/count_tokens``."""

from __future__ import annotations

from typing import Any

import msgspec

from tollway.simulator.answer import Answer, Endpoint, Stamp
from tollway.simulator.dialects.anthropic.errors import error_event
from tollway.simulator.dialects.anthropic.requests import blocks, read, read_count, thinking_on
from tollway.simulator.knobs import Knobs
from tollway.simulator.reading import IMAGE_TOKENS, Body, Plain, texts, weight
from tollway.simulator.speech import Speech, Tool, Wish, seal, speak
from tollway.simulator.tally import Tally, billed, tally
from tollway.simulator.tokens import MESSAGE_OVERHEAD, REPLY_OVERHEAD, count, pieces
from tollway.simulator.track import Track, event

STOPS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "stop_sequence": "stop_sequence",
    "content_filter": "refusal",
    "refusal": "refusal",
    "pause": "pause_turn",
}

_json = msgspec.json.encode


def answer(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    body = asked.body
    said = speak(_wish(body, model), knobs if thinking_on(body) else _unthinking(knobs))
    counts = tally(prompt_tokens(body), said.tokens + said.reasoning, said.reasoning, knobs)
    message = {
        "id": "msg_" + stamp.serial,
        "type": "message",
        "role": "assistant",
        "model": knobs.answer_model or model,
    }
    content = _content(said, body, knobs, stamp.serial)
    streamed = bool(body.get("stream"))
    made = (_stream if streamed else _whole)(message, content, said, counts, knobs)
    made.headers += b"request-id: req_%b\r\n" % stamp.serial.encode()
    return billed(made, counts)


def _unthinking(knobs: Knobs) -> Knobs:
    return msgspec.structs.replace(knobs, reasoning=0) if knobs.reasoning else knobs


def count_tokens(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    tokens = prompt_tokens(asked.body) if knobs.prompt_tokens is None else knobs.prompt_tokens
    ident = stamp.serial
    made = Answer("count-" + ident, [_json({"input_tokens": tokens})])
    made.headers = b"request-id: req_%b\r\n" % ident.encode()
    return made


def _wish(body: Body, model: str) -> Wish:
    choice = body.get("tool_choice") or {}
    kind = choice.get("type", "auto")
    offered = [
        Tool(tool["name"], tool.get("input_schema"))
        for tool in body.get("tools") or ()
        if tool.get("type", "custom") == "custom"
    ]
    turns = [one for one in body["messages"] if one["role"] != "system"]
    last = blocks(turns[-1]["content"]) if turns else []
    answered = any(block["type"] == "tool_result" for block in last)
    if kind == "none" or (answered and kind == "auto"):
        offered = []
    elif kind == "tool":
        offered = [tool for tool in offered if tool.name == choice.get("name")]
    said = [one for one in body["messages"] if one["role"] == "user"]
    form = (body.get("output_config") or {}).get("format") or body.get("output_format") or {}
    return Wish(
        model=model,
        last=texts(said[-1]["content"]) if said else "",
        tools=offered,
        parallel=not choice.get("disable_parallel_tool_use"),
        limit=body["max_tokens"],
        stop=body.get("stop_sequences") or [],
        schema=form.get("schema") if form.get("type") == "json_schema" else None,
        thinks=thinking_on(body),
    )


def prompt_tokens(body: Body) -> int:
    tokens = REPLY_OVERHEAD + count(texts(body.get("system")))
    for message in body["messages"]:
        tokens += MESSAGE_OVERHEAD + _weight(message["content"])
    return tokens + weight(body.get("tools"))


def _weight(content: Any) -> int:
    if isinstance(content, str):
        return count(content)
    tokens = 0
    for block in content or ():
        match block.get("type"):
            case "text":
                tokens += count(block["text"])
            case "image":
                tokens += IMAGE_TOKENS
            case "document":
                source = block["source"]
                plain = source.get("type") == "text"
                tokens += count(source.get("data", "")) if plain else IMAGE_TOKENS
            case "tool_use":
                tokens += count(block["name"]) + weight(block["input"])
            case "tool_result":
                tokens += _weight(block.get("content"))
            case "thinking" | "redacted_thinking":
                # Thinking of earlier turns is not counted again.
                continue
            case _:
                tokens += weight(block)
    return tokens


def _content(said: Speech, body: Body, knobs: Knobs, serial: str) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if said.thinking:
        content.append({"type": "thinking", "thinking": said.thinking, "signature": seal(said.thinking)})
    if knobs.redacted and thinking_on(body):
        content.append({"type": "redacted_thinking", "data": seal("redacted")})
    if said.text and said.refused is False:
        block: dict[str, Any] = {"type": "text", "text": said.text}
        cited = _citation(body, knobs)
        if cited is not None:
            block["citations"] = [cited]
        content.append(block)
    elif said.text:
        content.append({"type": "text", "text": said.text})
    for place, call in enumerate(said.calls):
        ident = f"toolu_{serial}{place:02x}"
        content.append({"type": "tool_use", "id": ident, "name": call.name, "input": call.arguments})
    return content


def _citation(body: Body, knobs: Knobs) -> dict[str, Any] | None:
    documents = [
        block
        for message in body["messages"]
        for block in blocks(message["content"])
        if block["type"] == "document"
    ]
    wanted = [
        (place, one)
        for place, one in enumerate(documents)
        if knobs.citations or (one.get("citations") or {}).get("enabled")
    ]
    if not wanted and not knobs.citations:
        return None
    place, document = wanted[0] if wanted else (0, {})
    source = document.get("source") or {}
    text = source.get("data", "") if source.get("type") == "text" else "the old cat"
    return {
        "type": "char_location",
        "cited_text": text[:20],
        "document_index": place,
        "document_title": document.get("title"),
        "start_char_index": 0,
        "end_char_index": len(text[:20]),
        "file_id": None,
    }


def _input(arguments: str) -> Any:
    """A call that was cut at the limit has no input that could be shown."""
    try:
        return msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return {}


def _whole(
    message: dict[str, Any], content: list[dict[str, Any]], said: Speech, counts: Tally, knobs: Knobs
) -> Answer:
    shown = [
        {**block, "input": _input(block["input"])} if block["type"] == "tool_use" else block
        for block in content
    ]
    whole = {
        **message,
        "content": shown,
        "stop_reason": STOPS[said.finish],
        "stop_sequence": said.stopped_at,
        **_details(said),
    }
    usage = None if knobs.no_usage else _json(usage_of(counts, knobs))
    if usage is not None:
        whole["usage"] = msgspec.Raw(usage)
    return Answer(message["id"], [_json(whole)], usage=usage)


def _details(said: Speech) -> dict[str, Any]:
    if STOPS[said.finish] != "refusal":
        return {}
    return {"stop_details": {"type": "refusal", "category": None, "explanation": None}}


def usage_of(counts: Tally, knobs: Knobs, output: int | None = None) -> dict[str, Any] | None:
    """``output`` in place of the whole: what message_start tells. Input excludes what a cache read or wrote."""
    if knobs.usage == "null":
        return None
    fresh = counts.fresh + counts.audio_in
    said = counts.output if output is None else output
    if knobs.usage == "bare":
        return {"input_tokens": fresh, "output_tokens": said}
    usage: dict[str, Any] = {
        "input_tokens": fresh,
        "cache_creation_input_tokens": counts.write_5m + counts.write_1h,
        "cache_read_input_tokens": counts.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": counts.write_5m,
            "ephemeral_1h_input_tokens": counts.write_1h,
        },
        "output_tokens": said,
        "service_tier": "standard",
    }
    if counts.reasoning and output is None:
        usage["output_tokens_details"] = {"thinking_tokens": counts.reasoning}
    return usage


def _stream(
    message: dict[str, Any], content: list[dict[str, Any]], said: Speech, counts: Tally, knobs: Knobs
) -> Answer:
    track = Track(message["id"], knobs)
    opened = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
    if not knobs.no_usage:
        opened["usage"] = usage_of(counts, knobs, output=1 if counts.output else 0)
    track.add(_event("message_start", message=opened))
    for index, block in enumerate(content):
        _block(track, index, block, knobs.events)
        if index == 0:
            track.events.insert(2, _event("ping"))
            track.tokens.insert(2, 0)
    delta = {"stop_reason": STOPS[said.finish], "stop_sequence": said.stopped_at, **_details(said)}
    if knobs.no_usage:
        track.add(_event("message_delta", delta=delta))
    else:
        final = usage_of(counts, knobs)
        for name in ("cache_creation", "service_tier"):
            if final is not None:
                final.pop(name, None)
        usage = _json(final)
        track.add(_event("message_delta", delta=delta, usage=msgspec.Raw(usage)), usage=usage)
    if not knobs.no_done:
        track.add(_event("message_stop"))
    # Audio is no part of this dialect's answers; where a knob adds some, it is billed with the first event.
    return track.answer(error_event(knobs), unseen=counts.audio_out)


def _event(kind: str, **fields: Any) -> bytes:
    return event({"type": kind, **fields}, kind)


EMPTY: dict[str, dict[str, Any]] = {
    "text": {"text": ""},
    "thinking": {"thinking": "", "signature": ""},
    "tool_use": {"input": {}},
}
"""What a block says when it starts."""


def _block(track: Track, index: int, block: dict[str, Any], parts: int | None) -> None:
    def delta(kind: str, tokens: int = 0, **fields: Any) -> None:
        track.add(
            _event("content_block_delta", index=index, delta={"type": kind, **fields}),
            tokens,
        )

    kind = block["type"]
    start = {**block, **EMPTY.get(kind, {})}
    if "citations" in start:
        start["citations"] = []
    opened = count(block["name"]) if kind == "tool_use" else 0
    track.add(_event("content_block_start", index=index, content_block=start), opened)
    if kind == "text":
        for piece in pieces(block["text"], parts):
            delta("text_delta", count(piece), text=piece)
        for cited in block.get("citations", ()):
            delta("citations_delta", citation=cited)
    elif kind == "thinking":
        for piece in pieces(block["thinking"], parts):
            delta("thinking_delta", count(piece), thinking=piece)
        delta("signature_delta", signature=block["signature"])
    elif kind == "tool_use":
        delta("input_json_delta", partial_json="")
        for piece in pieces(block["input"], parts):
            delta("input_json_delta", count(piece), partial_json=piece)
    track.add(_event("content_block_stop", index=index))


MESSAGES = Endpoint("messages", read, answer)
COUNT_TOKENS = Endpoint("messages.count_tokens", read_count, count_tokens)
