"""Requests of the hand-built dialects, as plain JSON values; each dialect brings its own words for what is
wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from tollway.simulator.answer import Refusal, Request
from tollway.simulator.tokens import AUDIO_CHARACTERS, IMAGE_TOKENS, count

Body = dict[str, Any]


class Plain(Struct):
    """A request whose model is known and whose body is a JSON object. ``request`` brings the rest."""

    model: str
    body: Body
    request: Request


def json_object(request: Request, wrong: Callable[[str], Refusal], empty: bool = False) -> Body:
    """The body, or ``wrong(...)`` with what is wrong. ``empty``: no body is an empty object."""
    if not request.body:
        if empty:
            return {}
        raise wrong("The request body is empty; a JSON object was expected.")
    try:
        value = msgspec.json.decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise wrong(f"The request body is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise wrong("The request body must be a JSON object.")
    return value


def texts(value: Any, names: tuple[str, ...] = ("text",)) -> str:
    """Every text of a content that is a string, or a list of parts with a text under one of the names."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return next((one for name in names if isinstance(one := value.get(name), str)), "")
    if isinstance(value, list):
        return "".join(texts(one, names) for one in value)
    return ""


def whole(value: Any) -> int | None:
    """A JSON whole number, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def weight(value: Any) -> int:
    """Tokens of any JSON value: a string is text, anything else counts as its JSON."""
    if value is None or value in ("", [], {}):
        return 0
    if isinstance(value, str):
        return count(value)
    return -(-len(msgspec.json.encode(value)) // 4)


__all__ = ["AUDIO_CHARACTERS", "IMAGE_TOKENS", "Body", "Plain", "json_object", "texts", "weight", "whole"]
