"""``/v1/images/generations``, ``edits`` and ``variations``: one white point each, whole or in partial images."""

from __future__ import annotations

from typing import Any

import msgspec

from tollway.simulator.answer import Answer, Endpoint, Request, Stamp
from tollway.simulator.dialects.openai.errors import invalid
from tollway.simulator.dialects.openai.kept import form_of, missing, named
from tollway.simulator.dialects.openai.stream import error_event
from tollway.simulator.knobs import Knobs
from tollway.simulator.media import PNG
from tollway.simulator.reading import IMAGE_TOKENS, Body, Plain
from tollway.simulator.tally import billed, tally
from tollway.simulator.tokens import count
from tollway.simulator.track import Track, event

IMAGE_OUTPUT = 272
"""Tokens of an image that was made, where the knob names no others."""

DEFAULT_MODEL = "dall-e-2"

_json = msgspec.json.encode


def read_generation(request: Request) -> Plain:
    asked = named(request)
    if not asked.body.get("prompt"):
        raise missing("prompt")
    return asked


def read_form(request: Request) -> Plain:
    form = form_of(request)
    images = form.files("image", "image[]")
    if not images:
        raise missing("image")
    editing = request.path.endswith(b"edits")
    body: Body = {part.name: part.text for part in form.parts if part.filename is None}
    if editing and not body.get("prompt"):
        raise missing("prompt")
    body["images"] = len(images)
    for name in ("n", "partial_images"):
        if name in body:
            if not body[name].isdigit():
                raise invalid(f"Invalid type for '{name}': expected an integer.", name, "invalid_type")
            body[name] = int(body[name])
    body["stream"] = body.get("stream") == "true"
    return Plain(body.get("model") or DEFAULT_MODEL, body, request)


def answer(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    body = asked.body
    number = body.get("n") or 1
    if number not in range(1, 11):
        raise invalid("Invalid 'n': expected a value from 1 to 10.", "n", "integer_above_max_value")
    text = count(body.get("prompt") or "")
    seen = IMAGE_TOKENS * body.get("images", 0)
    made = (IMAGE_OUTPUT if knobs.tokens is None else knobs.tokens) * number
    ident = "img-" + stamp.serial
    if not model.startswith(("gpt-image", "chatgpt-image")):
        # Older models are paid by the picture and tell no usage.
        whole = {"created": stamp.created, "data": [_picture(body, model) for _ in range(number)]}
        return Answer(ident, [_json(whole)], units={"images": number})
    counts = tally(text + seen, made, 0, knobs)
    usage = None if knobs.no_usage else _json(_usage(counts.prompt, seen, made, knobs))
    if body.get("stream"):
        reply = _stream(ident, body, usage, made, stamp, knobs)
    else:
        whole = {"created": stamp.created, **_look(body), "data": [{"b64_json": PNG} for _ in range(number)]}
        if usage is not None:
            whole["usage"] = msgspec.Raw(usage)
        reply = Answer(ident, [_json(whole)], usage=usage)
    reply.units = {"images": number}
    return billed(reply, counts)


def _picture(body: Body, model: str) -> dict[str, Any]:
    revised = {"revised_prompt": body.get("prompt", "")} if model == "dall-e-3" else {}
    if body.get("response_format") == "b64_json":
        return {"b64_json": PNG, **revised}
    return {"url": "https://example.com/point.png", **revised}


def _look(body: Body) -> dict[str, Any]:
    def chosen(name: str, default: str) -> str:
        value = body.get(name)
        return default if value in (None, "auto") else str(value)

    return {
        "background": chosen("background", "opaque"),
        "output_format": chosen("output_format", "png"),
        "quality": chosen("quality", "low"),
        "size": chosen("size", "1024x1024"),
    }


def _usage(prompt: int, seen: int, made: int, knobs: Knobs) -> dict[str, Any] | None:
    if knobs.usage == "null":
        return None
    usage: dict[str, Any] = {"input_tokens": prompt, "output_tokens": made, "total_tokens": prompt + made}
    usage["input_tokens_details"] = {"text_tokens": max(prompt - seen, 0), "image_tokens": min(seen, prompt)}
    return usage


def _stream(ident: str, body: Body, usage: bytes | None, made: int, stamp: Stamp, knobs: Knobs) -> Answer:
    track = Track(ident, knobs)
    kind = "image_edit" if "images" in body else "image_generation"
    picture = {"b64_json": PNG, "created_at": stamp.created, **_look(body)}
    for place in range(body.get("partial_images") or 0):
        name = f"{kind}.partial_image"
        track.add(event({"type": name, **picture, "partial_image_index": place}, name))
    name = f"{kind}.completed"
    told = {} if usage is None else {"usage": msgspec.Raw(usage)}
    track.add(event({"type": name, **picture, **told}, name), made, usage)
    return track.answer(error_event(knobs))


GENERATIONS = Endpoint("images.generations", read_generation, answer)
EDITS = Endpoint("images.edits", read_form, answer)
VARIATIONS = Endpoint("images.variations", read_form, answer)
