"""Cohere's error object, which is a message and an id, and what it refuses to read."""

from __future__ import annotations

import msgspec

from tollway.simulator.answer import Refusal, Request
from tollway.simulator.knobs import Knobs
from tollway.simulator.reading import Plain, json_object
from tollway.simulator.track import event


def error_body(refusal: Refusal) -> bytes:
    return msgspec.json.encode({"id": refusal.serial, "message": refusal.message})


def invalid(message: str) -> Refusal:
    return Refusal(400, message)


def unknown(name: str) -> Refusal:
    return Refusal(
        404, f"model '{name}' not found, make sure the correct model ID was used and that you have access."
    )


def error_event(knobs: Knobs) -> bytes:
    said = knobs.error_message or "Simulated error in the middle of a stream."
    return event({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": said}}, "message-end")


def opened(request: Request, fields: frozenset[str], needed: tuple[str, ...]) -> Plain:
    """The body with no field that is not known and every one that is needed."""
    body = json_object(request, lambda said: invalid(f"invalid json syntax: {said}"))
    for name in body:
        if name not in fields:
            raise invalid(f"unknown field: parameter '{name}' is not a valid field")
    for name in needed:
        if not body.get(name):
            raise invalid(f"invalid request: {name} is required")
    if not isinstance(body["model"], str):
        raise invalid("invalid type: parameter 'model' is of type object but should be of type string.")
    return Plain(body["model"], body, request)
