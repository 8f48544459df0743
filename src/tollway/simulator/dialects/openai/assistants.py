"""``/v1/assistants`` and ``/v1/threads``, as much as a gateway passes through: assistants, messages, runs with
usage."""

from __future__ import annotations

from typing import Any

import msgspec

from tollway.simulator.answer import Answer, Endpoint, Route, Stamp
from tollway.simulator.dialects.openai.errors import invalid
from tollway.simulator.dialects.openai.kept import (
    gone,
    held,
    looks,
    missing,
    named,
    optional,
    page,
    param,
    shown,
)
from tollway.simulator.knobs import NEUTRAL, Knobs, UnknownKnob, set_knobs, suffix
from tollway.simulator.reading import Body, Plain, texts
from tollway.simulator.speech import Wish, speak
from tollway.simulator.tally import billed, tally
from tollway.simulator.tokens import MESSAGE_OVERHEAD, REPLY_OVERHEAD, count, pieces
from tollway.simulator.track import Track, event

_json = msgspec.json.encode


def create_assistant(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    body = asked.body
    # The model keeps its knobs: they are for its runs.
    told = {
        "id": "asst_" + stamp.serial,
        "object": "assistant",
        "created_at": stamp.created,
        "name": body.get("name"),
        "description": body.get("description"),
        "model": asked.model,
        "instructions": body.get("instructions"),
        "tools": body.get("tools") or [],
        "metadata": body.get("metadata") or {},
        "temperature": body.get("temperature", 1.0),
        "top_p": body.get("top_p", 1.0),
        "response_format": body.get("response_format") or "auto",
    }
    stamp.shelf.put("assistant", told["id"], told)
    return shown(told, stamp)


def create_thread(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    return shown(_told(_thread(asked.body, stamp)), stamp)


def _thread(body: Body, stamp: Stamp) -> Body:
    thread: Body = {
        "id": "thread_" + stamp.serial,
        "object": "thread",
        "created_at": stamp.created,
        "metadata": body.get("metadata") or {},
        "tool_resources": body.get("tool_resources") or {},
        "messages": [],
    }
    for message in body.get("messages") or ():
        _say(thread, message.get("role") or "user", texts(message.get("content")), stamp)
    stamp.shelf.put("thread", thread["id"], thread)
    return thread


def _told(thread: Body) -> Body:
    return {name: value for name, value in thread.items() if name != "messages"}


def _say(
    thread: Body, role: str, text: str, stamp: Stamp, run: str | None = None, by: str | None = None
) -> Body:
    message = {
        "id": f"msg_{stamp.serial}{len(thread['messages']):02x}",
        "object": "thread.message",
        "created_at": stamp.created,
        "thread_id": thread["id"],
        "status": "completed",
        "completed_at": stamp.created,
        "incomplete_at": None,
        "incomplete_details": None,
        "role": role,
        "content": [{"type": "text", "text": {"value": text, "annotations": []}}],
        "assistant_id": by,
        "run_id": run,
        "attachments": [],
        "metadata": {},
    }
    thread["messages"].append(message)
    return message


def add_message(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    thread = held(stamp.shelf, "thread", param(asked))
    if not asked.body.get("content"):
        raise missing("content")
    return shown(_say(thread, asked.body.get("role") or "user", texts(asked.body["content"]), stamp), stamp)


def list_messages(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    return page(asked, held(stamp.shelf, "thread", param(asked))["messages"][::-1], stamp)


def run(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    return _run(asked, held(stamp.shelf, "thread", param(asked)), knobs, stamp)


def thread_and_run(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    return _run(asked, _thread(asked.body.get("thread") or {}, stamp), knobs, stamp)


def _run(asked: Plain, thread: Body, knobs: Knobs, stamp: Stamp) -> Answer:
    """The run is over when it is answered; it obeys the knobs of the assistant's model."""
    body = asked.body
    if not body.get("assistant_id"):
        raise missing("assistant_id")
    assistant = held(stamp.shelf, "assistant", body["assistant_id"])
    model, settings = suffix(body.get("model") or assistant["model"])
    if settings:
        try:
            knobs = set_knobs(NEUTRAL, settings)
        except UnknownKnob as error:
            raise invalid(str(error), "model", "unknown_knob") from error
    users = [_text(one) for one in thread["messages"] if one["role"] == "user"]
    said = speak(Wish(model=model, last=users[-1] if users else ""), knobs)
    instructions = body.get("instructions") or assistant["instructions"] or ""
    prompt = REPLY_OVERHEAD + count(instructions)
    prompt += sum(MESSAGE_OVERHEAD + count(_text(one)) for one in thread["messages"])
    counts = tally(prompt, said.tokens + said.reasoning, said.reasoning, knobs)
    told: Body = {
        "id": "run_" + stamp.serial,
        "object": "thread.run",
        "created_at": stamp.created,
        "thread_id": thread["id"],
        "assistant_id": assistant["id"],
        "status": "completed",
        "started_at": stamp.created,
        "completed_at": stamp.created,
        "model": model,
        "instructions": instructions,
        "tools": assistant["tools"],
        "metadata": body.get("metadata") or {},
        "parallel_tool_calls": True,
        "tool_choice": body.get("tool_choice") or "auto",
        "response_format": "auto",
        "truncation_strategy": {"type": "auto", "last_messages": None},
    }
    usage = None
    if not knobs.no_usage:
        plain = {
            "prompt_tokens": counts.prompt,
            "completion_tokens": counts.output,
            "total_tokens": counts.total,
        }
        usage = _json(None if knobs.usage == "null" else plain)
        told["usage"] = msgspec.Raw(usage)
    message = _say(thread, "assistant", said.text or "", stamp, told["id"], assistant["id"])
    stamp.shelf.put("run", told["id"], told)
    if body.get("stream"):
        made = _stream(told, message, said.text or "", usage, knobs)
    else:
        made = Answer(told["id"], [_json(told)], usage=usage)
    made.model = model
    return billed(made, counts)


def _text(message: Body) -> str:
    value: str = message["content"][0]["text"]["value"]
    return value


def _stream(told: Body, message: Body, text: str, usage: bytes | None, knobs: Knobs) -> Answer:
    track = Track(told["id"], knobs)

    def add(kind: str, value: Any, number: int = 0, carried: bytes | None = None) -> None:
        track.add(event(value, kind), number, carried)

    opened = {**told, "status": "queued", "usage": None, "completed_at": None}
    add("thread.run.created", opened)
    add("thread.run.in_progress", {**opened, "status": "in_progress"})
    add("thread.message.created", {**message, "status": "in_progress", "content": [], "completed_at": None})
    for piece in pieces(text, knobs.events):
        delta = {"content": [{"index": 0, "type": "text", "text": {"value": piece, "annotations": []}}]}
        value = {"id": message["id"], "object": "thread.message.delta", "delta": delta}
        add("thread.message.delta", value, count(piece))
    add("thread.message.completed", message)
    add("thread.run.completed", told, carried=usage)
    if not knobs.no_done:
        track.add(b"event: done\ndata: [DONE]\n\n")
    broken = {
        "message": knobs.error_message or "Simulated error in the middle of a stream.",
        "code": "server_error",
    }
    return track.answer(event({"error": broken}, "error"))


def get_run(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    return shown(held(stamp.shelf, "run", param(asked, "run")), stamp)


def _crud(kind: str, path: str, tell: Any) -> tuple[Route, ...]:
    def get(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
        return shown(tell(held(stamp.shelf, kind, param(asked))), stamp)

    def change(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
        value = held(stamp.shelf, kind, param(asked))
        value.update({name: new for name, new in asked.body.items() if name in value and name != "id"})
        return shown(tell(value), stamp)

    def delete(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
        held(stamp.shelf, kind, param(asked))
        stamp.shelf.take(kind, param(asked))
        return gone(param(asked), f"{kind}.deleted", stamp)

    return (
        Route(b"GET", path + "/{id}", looks(get)),
        Route(b"POST", path + "/{id}", looks(change, optional)),
        Route(b"DELETE", path + "/{id}", looks(delete)),
    )


def list_assistants(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    return page(asked, list(stamp.shelf.all("assistant")), stamp)


def unchanged(value: Body) -> Body:
    return value


ROUTES = (
    Route(b"POST", "/v1/assistants", looks(create_assistant, named)),
    Route(b"GET", "/v1/assistants", looks(list_assistants)),
    *_crud("assistant", "/v1/assistants", unchanged),
    Route(b"POST", "/v1/threads", looks(create_thread, optional)),
    Route(b"POST", "/v1/threads/runs", Endpoint("threads.runs", optional, thread_and_run)),
    *_crud("thread", "/v1/threads", _told),
    Route(b"POST", "/v1/threads/{id}/messages", looks(add_message, optional)),
    Route(b"GET", "/v1/threads/{id}/messages", looks(list_messages)),
    Route(b"POST", "/v1/threads/{id}/runs", Endpoint("threads.runs", optional, run)),
    Route(b"GET", "/v1/threads/{id}/runs/{run}", looks(get_run)),
)
