"""Typed decoding of requests and answers, whose failures name the place in the JSON.

A request that does not fit is the client's fault (BadRequest with ``param``, a dotted path such as
``messages.2.content.0``); an answer that does not is Unreadable. Which fields there are is the formats' business.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest, InvalidJson
from tollway.wire.codec import Unreadable

T = TypeVar("T")

_EXPECTED = re.compile(r"Expected `([^`]+)`(?:, got `([^`]+)`)?")
_MISSING = re.compile(r"missing required field `([^`]+)`")
_INDEX = re.compile(r"\[(\d+)\]")
_WORDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
NULLS = (b"", b"null")
"""What a Raw field holds that was left out or is null."""


def decode(decoder: msgspec.json.Decoder[T], raw: bytes | Raw, path: str) -> T:
    """One value of a request. ``path`` is where it stands, empty for the whole body."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise refused(str(error), path) from None
    except msgspec.DecodeError:
        raise InvalidJson("The request body is not valid JSON.") from None
    except RecursionError:
        raise InvalidJson("The request body is nested too deeply.") from None


def refused(reason: str, path: str) -> BadRequest:
    """A BadRequest out of msgspec's words: what stands where it should not, and what belongs there."""
    said, _, at = reason.partition(" - at `$")
    place = _INDEX.sub(r".\1", at.rstrip("`")).replace("[...]", ".*").lstrip(".")
    param = ".".join(part for part in (path, place) if part)
    missing = _MISSING.search(said)
    if missing:
        param = ".".join(part for part in (param, missing[1]) if part)
        return BadRequest(f"'{param}' is missing. It is required.", param=param)
    shown = f"'{param}'" if param else "The request body"
    found = _EXPECTED.match(said)
    if not found:
        return BadRequest(f"{shown} is not accepted: {said}.", param=param or None)
    wanted = " or ".join(_WORDS.get(word.strip(), word.strip()) for word in found[1].split("|"))
    got = f", not {_WORDS.get(found[2], found[2])}" if found[2] else ""
    return BadRequest(f"{shown} must be {wanted}{got}.", param=param or None)


def answer(decoder: msgspec.json.Decoder[T], raw: bytes | Raw, what: str) -> T:
    """One value of a provider's answer. Raises Unreadable, which names ``what`` and never quotes the answer."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise Unreadable(f"{what} does not fit its format: {error}") from None
    except (msgspec.DecodeError, RecursionError):
        raise Unreadable(f"{what} is not readable JSON") from None


def given(raw: Raw) -> bool:
    """Whether an optional Raw field holds anything."""
    return bytes(raw) not in NULLS
