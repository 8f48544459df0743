"""``/model/{id}/converse`` whole and ``/model/{id}/converse-stream`` in binary events."""

from __future__ import annotations

from typing import Any

import msgspec

from tollway.simulator.answer import Answer, Endpoint, Stamp
from tollway.simulator.dialects.bedrock.errors import exception, request_id
from tollway.simulator.dialects.bedrock.frames import CONTENT_TYPE, event
from tollway.simulator.dialects.bedrock.requests import prompt_tokens, read, thinks, wish
from tollway.simulator.knobs import Knobs
from tollway.simulator.reading import Body, Plain
from tollway.simulator.speech import Speech, seal, speak
from tollway.simulator.tally import Tally, billed, tally
from tollway.simulator.tokens import count, pieces
from tollway.simulator.track import Track

STOPS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "stop_sequence": "stop_sequence",
    "content_filter": "content_filtered",
    "refusal": "guardrail_intervened",
    "pause": "end_turn",
}

_json = msgspec.json.encode


def _said(asked: Plain, model: str, knobs: Knobs) -> tuple[Speech, Tally]:
    if not thinks(asked.body) and knobs.reasoning:
        knobs = msgspec.structs.replace(knobs, reasoning=0)
    said = speak(wish(asked.body, model), knobs)
    return said, tally(prompt_tokens(asked.body), said.tokens + said.reasoning, said.reasoning, knobs)


def _content(said: Speech, body: Body, knobs: Knobs, serial: str) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if said.thinking:
        thought = {"text": said.thinking, "signature": seal(said.thinking)}
        content.append({"reasoningContent": {"reasoningText": thought}})
    if knobs.redacted and thinks(body):
        content.append({"reasoningContent": {"redactedContent": seal("redacted")}})
    if said.text and knobs.citations and not said.refused:
        cited = {"content": [{"text": said.text}], "citations": [CITATION]}
        content.append({"citationsContent": cited})
    elif said.text:
        content.append({"text": said.text})
    for place, call in enumerate(said.calls):
        ident = f"tooluse_{serial}{place:02x}"
        content.append({"toolUse": {"toolUseId": ident, "name": call.name, "input": call.arguments}})
    return content


CITATION: dict[str, Any] = {
    "title": "Document",
    "sourceContent": [{"text": "the old cat"}],
    "location": {"documentChar": {"documentIndex": 0, "start": 0, "end": 11}},
}


def _input(arguments: str) -> Any:
    """A call that was cut at the limit has no input that could be shown."""
    try:
        return msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return {}


def converse(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    said, counts = _said(asked, model, knobs)
    content = _content(said, asked.body, knobs, stamp.serial)
    for block in content:
        if "toolUse" in block:
            block["toolUse"]["input"] = _input(block["toolUse"]["input"])
    whole: dict[str, Any] = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": STOPS[said.finish],
        "metrics": {"latencyMs": 1},
    }
    usage = None if knobs.no_usage else _json(usage_of(counts, knobs))
    if usage is not None:
        whole["usage"] = msgspec.Raw(usage)
    ident = "converse-" + stamp.serial
    return billed(Answer(ident, [_json(whole)], usage=usage, headers=request_id(stamp.serial)), counts)


def usage_of(counts: Tally, knobs: Knobs) -> dict[str, Any] | None:
    """Input excludes what a cache read or wrote; the total does not."""
    if knobs.usage == "null":
        return None
    usage: dict[str, Any] = {
        "inputTokens": counts.fresh + counts.audio_in,
        "outputTokens": counts.output,
        "totalTokens": counts.total,
    }
    if knobs.usage == "full":
        written = {"5m": counts.write_5m, "1h": counts.write_1h}
        usage["cacheReadInputTokens"] = counts.read
        usage["cacheWriteInputTokens"] = counts.write_5m + counts.write_1h
        if any(written.values()):
            usage["cacheDetails"] = [{"ttl": ttl, "inputTokens": n} for ttl, n in written.items() if n]
    return usage


def stream(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    said, counts = _said(asked, model, knobs)
    track = Track("converse-" + stamp.serial, knobs)
    padded = "abcdefghijkl" if knobs.obfuscation else None

    def add(kind: str, tokens: int = 0, told: bytes | None = None, **payload: Any) -> None:
        track.add(event(kind, payload if padded is None else {**payload, "p": padded}), tokens, told)

    def delta(place: int, tokens: int, value: dict[str, Any]) -> None:
        add("contentBlockDelta", tokens, contentBlockIndex=place, delta=value)

    add("messageStart", role="assistant")
    for place, block in enumerate(_content(said, asked.body, knobs, stamp.serial)):
        ((kind, value),) = block.items()
        if kind == "text":
            for piece in pieces(value, knobs.events):
                delta(place, count(piece), {"text": piece})
        elif kind == "citationsContent":
            for piece in pieces(value["content"][0]["text"], knobs.events):
                delta(place, count(piece), {"text": piece})
            delta(place, 0, {"citation": CITATION})
        elif kind == "reasoningContent" and "redactedContent" in value:
            delta(place, 0, {"reasoningContent": value})
        elif kind == "reasoningContent":
            thought = value["reasoningText"]
            for piece in pieces(thought["text"], knobs.events):
                delta(place, count(piece), {"reasoningContent": {"text": piece}})
            delta(place, 0, {"reasoningContent": {"signature": thought["signature"]}})
        else:
            start = {"toolUseId": value["toolUseId"], "name": value["name"]}
            add("contentBlockStart", count(value["name"]), contentBlockIndex=place, start={"toolUse": start})
            for piece in pieces(value["input"], knobs.events):
                delta(place, count(piece), {"toolUse": {"input": piece}})
        add("contentBlockStop", contentBlockIndex=place)
    if not knobs.no_done:
        add("messageStop", stopReason=STOPS[said.finish])
    if not knobs.no_usage:
        usage = _json(usage_of(counts, knobs))
        add("metadata", told=usage, usage=msgspec.Raw(usage), metrics={"latencyMs": 1})
    return billed(
        track.answer(
            exception(knobs),
            shape="frames",
            content_type=CONTENT_TYPE,
            headers=request_id(stamp.serial),
            unseen=counts.audio_out,
        ),
        counts,
    )


CONVERSE = Endpoint("converse", read, converse)
CONVERSE_STREAM = Endpoint("converse", read, stream)
