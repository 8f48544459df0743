"""``POST /v1/responses``: a response whole, streamed or in the background, and what is kept of it afterwards."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from tollway.simulator.answer import Answer, Endpoint, Stamp
from tollway.simulator.dialects.openai.response_events import Events, error_event, output
from tollway.simulator.dialects.openai.response_requests import history, prompt_tokens, read, wish
from tollway.simulator.knobs import Knobs
from tollway.simulator.reading import Body, Plain
from tollway.simulator.speech import Speech, speak
from tollway.simulator.tally import Tally, billed, tally
from tollway.simulator.track import Track

_json = msgspec.json.encode


class Held(Struct):
    """A response on the shelf. ``ready`` is when a background one is complete (Unix seconds); ``events`` are
    those of its stream."""

    whole: Body
    input: list[Body]
    history: list[Body]
    ready: float
    background: bool = False
    cancelled: bool = False
    events: list[bytes] = []

    def shown(self, now: float) -> Body:
        """The response as it stands at that time."""
        if self.cancelled:
            return {**self.whole, "status": "cancelled", "output": [], "usage": None}
        if now < self.ready:
            return {**self.whole, "status": "in_progress", "output": [], "usage": None}
        return self.whole


def answer(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    body = asked.body
    conversation = history(body, stamp.shelf)
    said = speak(wish(body, conversation, model), knobs)
    counts = tally(prompt_tokens(body, conversation), said.tokens + said.reasoning, said.reasoning, knobs)
    ident = "resp_" + stamp.serial
    made = output(said, body, knobs, stamp.serial)
    whole = _frame(body, ident, knobs.answer_model or model, stamp, knobs)
    usage = None if knobs.no_usage else _json(usage_of(counts, knobs))
    whole |= {"output": made, "usage": None if usage is None else msgspec.Raw(usage), **_ending(said)}
    background = bool(body.get("background"))
    held = Held(whole, body["input"], [*conversation, *made], stamp.now + knobs.job, background)
    if not background:
        held.ready = stamp.now
    if body.get("store") is not False:
        stamp.shelf.put("response", ident, held)
    if body.get("stream"):
        reply = _stream(body, whole, said, counts, knobs, usage)
        held.events = reply.pieces
    elif background:
        # It will say all of this, so it is billed now, although usage is not told yet.
        queued = {**whole, "status": "queued", "output": [], "usage": None, "incomplete_details": None}
        reply = Answer(ident, [_json(queued)])
    else:
        reply = Answer(ident, [_json(whole)], usage=usage)
    if knobs.citations:
        reply.units = {"searches": 1}
    return billed(reply, counts)


def _frame(body: Body, ident: str, model: str, stamp: Stamp, knobs: Knobs) -> Body:
    """Everything of a response that the request decides."""
    reasoning = body.get("reasoning") or {}
    return {
        "id": ident,
        "object": "response",
        "created_at": stamp.created,
        "status": "in_progress",
        "background": bool(body.get("background")),
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "model": model,
        "output": [],
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": body["service_tier"]
        if body.get("service_tier") in ("flex", "priority")
        else "default",
        "store": body.get("store") is not False,
        "temperature": body.get("temperature", 1.0),
        "text": {"format": {"type": "text"}, "verbosity": "medium", **(body.get("text") or {})},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "top_logprobs": body.get("top_logprobs") or 0,
        "top_p": body.get("top_p", 1.0),
        "truncation": body.get("truncation") or "disabled",
        "usage": None,
        "user": body.get("user"),
        "metadata": body.get("metadata") or {},
    }


def _ending(said: Speech) -> dict[str, Any]:
    reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(said.finish)
    if reason is None:
        return {"status": "completed"}
    return {"status": "incomplete", "incomplete_details": {"reason": reason}}


def usage_of(counts: Tally, knobs: Knobs) -> dict[str, Any] | None:
    if knobs.usage == "null":
        return None
    usage: dict[str, Any] = {
        "input_tokens": counts.prompt,
        "output_tokens": counts.output,
        "total_tokens": counts.total,
    }
    if knobs.usage == "full":
        written = counts.write_5m + counts.write_1h
        usage["input_tokens_details"] = {"cached_tokens": counts.read, "cache_write_tokens": written}
        usage["output_tokens_details"] = {"reasoning_tokens": counts.reasoning}
    return usage


def _stream(
    body: Body, whole: Body, said: Speech, counts: Tally, knobs: Knobs, usage: bytes | None
) -> Answer:
    options = body.get("stream_options") or {}
    padded = knobs.obfuscation and options.get("include_obfuscation") is not False
    track = Track(whole["id"], knobs)
    events = Events(track, knobs, padded)
    opened = {**whole, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    events.add("response.created", response=opened)
    if body.get("background"):
        events.add("response.queued", response={**opened, "status": "queued"})
    events.add("response.in_progress", response=opened)
    for place, item in enumerate(whole["output"]):
        events.item(place, item)
    if not knobs.no_done:
        events.add(f"response.{whole['status']}", usage=usage, response=whole)
    number = min(knobs.error_event or 0, events.number)
    return track.answer(error_event(knobs, number), unseen=counts.reasoning + counts.audio_out)


def count_tokens(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    conversation = history(asked.body, stamp.shelf)
    tokens = prompt_tokens(asked.body, conversation) if knobs.prompt_tokens is None else knobs.prompt_tokens
    shown = {"object": "response.input_tokens", "input_tokens": tokens}
    return Answer("count-" + stamp.serial, [_json(shown)])


RESPONSES = Endpoint("responses", read, answer)
INPUT_TOKENS = Endpoint("responses.input_tokens", read, count_tokens)
