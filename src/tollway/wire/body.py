"""Request bodies as views: the top level of a JSON object parsed, its values left as the bytes they came in.

What is judged is what is sent: bodies go upstream re-encoded from this view, so a key given twice cannot mean one
thing to us and another to the provider. Values keep every byte.
"""

from __future__ import annotations

import json

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest, InvalidJson, UnsupportedMedia

Fields = dict[str, Raw]

_decoder = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode
_decode_any = msgspec.json.Decoder().decode
_decode_string = msgspec.json.Decoder(str).decode
_decode_int = msgspec.json.Decoder(int).decode

MAX_COUNT = 2**53
"""What every JSON reader keeps exactly; no count of anything is larger."""

CHECK_DUPLICATES_BELOW = 256 * 1024
"""Bodies larger than this are not searched for a repeated key; the last one counts, as in most parsers."""


def parse(body: bytes) -> Fields:
    """A JSON object's top level. Raises InvalidJson with what is wrong and where."""
    if not body:
        raise InvalidJson("The request body is empty. Send a JSON object.")
    if 0 in body:  # as a number: looking for bytes with ``in`` raises and clears an error first
        raise InvalidJson("The request body contains a NUL byte. Send UTF-8 encoded JSON.")
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise InvalidJson(f"The request body is not valid UTF-8 at byte {error.start}.") from None
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError:
        raise InvalidJson('The request body must be a JSON object, such as {"model": …}.') from None
    except msgspec.DecodeError as error:
        raise InvalidJson(f"The request body is not valid JSON: {_reason(error)}.") from None
    except RecursionError:
        raise InvalidJson("The request body is nested too deeply.") from None


def _reason(error: msgspec.DecodeError) -> str:
    words = str(error).removeprefix("JSON is malformed: ")
    return "it ends too early" if words == "Input data was truncated" else words


def encode(fields: Fields) -> bytes:
    return _encode(fields)


def refuse_duplicate(body: bytes, fields: Fields, name: str) -> None:
    """Raise BadRequest when the top level of ``body`` gives ``name`` twice (escaped spellings included).

    ``fields`` is what ``parse`` made of it. Where it accounts for every byte, nothing was given twice.
    """
    size = 4 * len(fields) + 1
    for key, value in fields.items():
        size += len(key) + len(bytes(value))
    if size == len(body):
        return
    quoted = b'"' + name.encode() + b'"'
    if (body.find(quoted, body.find(quoted) + 1) < 0 and body.find(b"\\u00") < 0) or len(
        body
    ) > CHECK_DUPLICATES_BELOW:
        return

    depth_first: list[list[str]] = []

    def pairs(found: list[tuple[str, object]]) -> None:
        depth_first.append([key for key, _ in found])

    try:
        json.loads(body, object_pairs_hook=pairs, parse_int=str, parse_float=str)
    except RecursionError:
        raise InvalidJson("The request body is nested too deeply.") from None
    except ValueError:
        return
    if depth_first and depth_first[-1].count(name) > 1:
        raise BadRequest(f"The request gives '{name}' more than once. Give it once.", param=name)


def text(fields: Fields, name: str) -> str | None:
    """A string field; None when absent or null. Raises BadRequest for another type."""
    raw = fields.get(name)
    if raw is None:
        return None
    value = bytes(raw)
    if value == b"null":
        return None
    try:
        return _decode_string(value)
    except msgspec.DecodeError:
        raise BadRequest(f"'{name}' must be a string, not {kind(raw)}.", param=name) from None


def peek_text(value: Raw) -> str | None:
    """A value where it is a string; None for anything else, which is for others to judge."""
    try:
        return _decode_string(bytes(value))
    except msgspec.DecodeError:
        return None


def peek_mapping(value: Raw) -> Fields | None:
    """A value's fields where it is an object; None for anything else."""
    try:
        return _decoder.decode(bytes(value))
    except (msgspec.DecodeError, RecursionError):
        return None


def flag(fields: Fields, name: str) -> bool:
    """A boolean field; False when absent or null."""
    raw = fields.get(name)
    if raw is None:
        return False
    value = bytes(raw)
    if value == b"true":
        return True
    if value in (b"false", b"null"):
        return False
    raise BadRequest(f"'{name}' must be true or false, not {kind(raw)}.", param=name)


def count(fields: Fields, name: str) -> int | None:
    """A non-negative integer field; None when absent or null."""
    raw = fields.get(name)
    if raw is None:
        return None
    value = bytes(raw)
    if value == b"null":
        return None
    try:
        number = _decode_int(value)
    except msgspec.DecodeError:
        raise BadRequest(f"'{name}' must be an integer, not {kind(raw)}.", param=name) from None
    if number < 0:
        raise BadRequest(f"'{name}' must not be negative.", param=name)
    if number > MAX_COUNT:
        raise BadRequest(f"'{name}' is too large.", param=name)
    return number


def mapping(fields: Fields, name: str) -> Fields | None:
    """An object field as a view of its own; None when absent or null."""
    raw = fields.get(name)
    if raw is None:
        return None
    value = bytes(raw)
    if value == b"null":
        return None
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, RecursionError):
        raise BadRequest(f"'{name}' must be an object, not {kind(raw)}.", param=name) from None


_KINDS = {
    ord("{"): "an object",
    ord("["): "an array",
    ord('"'): "a string",
    ord("t"): "a boolean",
    ord("f"): "a boolean",
    ord("n"): "null",
}


def kind(raw: Raw) -> str:
    """What a value is, for a message: by its first byte."""
    value = memoryview(raw)
    return _KINDS.get(value[0], "a number") if len(value) else "nothing"


def raw(value: object) -> Raw:
    """A value of ours as a view's field."""
    return Raw(_encode(value))


def unsupported(content_type: bytes) -> UnsupportedMedia:
    shown = content_type[:80].decode("latin-1")
    return UnsupportedMedia(f"Content type {shown!r} is not served here. Send application/json.")
