"""Decoding a field with an error that names its path: what every reader of a request here does with a value."""

from __future__ import annotations

import re
from typing import Protocol, TypeVar

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest, InvalidJson

T = TypeVar("T", covariant=True)


class Decode(Protocol[T]):
    def __call__(self, raw: Raw, /) -> T: ...


fields_of = msgspec.json.Decoder(dict[str, Raw]).decode
items_of = msgspec.json.Decoder(list[Raw]).decode

_BRACE = ord("{")
_PLACE = re.compile(r"^(.*?)(?: - at `(?:key in )?\$(.*)`)?$", re.DOTALL)
_EXPECTED = re.compile(r"^Expected `([^`]*)`(?:, got `([^`]*)`)?")
_MISSING = re.compile(r"^Object missing required field `([^`]*)`")
_WORDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "object": "an object",
    "array": "an array",
    "null": "null",
}


def read(decode: Decode[T], raw: Raw, path: str) -> T:
    """``raw`` decoded. Raises BadRequest whose ``param`` is ``path`` and what is below it."""
    try:
        return decode(raw)
    except msgspec.ValidationError as error:
        raise _explained(error, path) from None
    except msgspec.DecodeError as error:
        raise InvalidJson(f"'{path}' is not valid JSON: {error}.") from None
    except RecursionError:
        raise InvalidJson(f"'{path}' is nested too deeply.") from None


def _explained(error: msgspec.ValidationError, path: str) -> BadRequest:
    match = _PLACE.match(str(error))
    words, below = (match[1], match[2] or "") if match else (str(error), "")
    below = re.sub(r"\[(\d+)\]", r".\1", below).replace("[...]", ".*").strip(".")
    param = f"{path}.{below}" if below and path else path or below
    if missing := _MISSING.match(words):
        param = f"{param}.{missing[1]}" if param else missing[1]
        return BadRequest(f"'{param}' is missing. It is required.", param=param)
    expected = _EXPECTED.match(words)
    if expected is None:
        return BadRequest(f"'{param}' cannot be read: {words}.", param=param)
    wanted = expected[1].removesuffix(" | null")
    got = f", not {_WORDS.get(expected[2], expected[2])}" if expected[2] else ""
    return BadRequest(f"'{param}' must be {_WORDS.get(wanted, wanted)}{got}.", param=param)


def each(raw: Raw, path: str) -> list[Raw]:
    """The items of a repeated field. Google's reader takes a single value for a list of one, so this does too."""
    return [raw] if memoryview(raw)[0] == _BRACE else read(items_of, raw, path)
