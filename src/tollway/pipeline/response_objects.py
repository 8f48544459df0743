"""Response objects and their events as JSON: what they say of themselves, and the few fields that are changed in them.

Values that are not changed keep every byte.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from tollway.model.stored_response import StoredResponse
from tollway.wire import sse

_encode = msgspec.json.Encoder().encode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_items = msgspec.json.Decoder(list[Raw]).decode


class Told(Struct):
    """What an event says besides its content."""

    type: str = ""
    sequence_number: int = -1
    response: Raw = Raw()


class _Named(Struct):
    id: str = ""
    status: str = ""


_decode_told = msgspec.json.Decoder(Told).decode
_decode_named = msgspec.json.Decoder(_Named).decode


def name_of(response: bytes | Raw) -> tuple[str, str]:
    """Id and status; empty where it is no response object."""
    try:
        found = _decode_named(response)
    except (msgspec.DecodeError, RecursionError):
        return "", ""
    return found.id, found.status


def changed(response: bytes | Raw, changes: Mapping[str, object]) -> bytes:
    """The object with top-level fields replaced; as it is where it is none."""
    try:
        fields = _decode_fields(response)
    except (msgspec.DecodeError, RecursionError):
        return bytes(response)
    fields.update((name, Raw(_encode(value))) for name, value in changes.items())
    return _encode(fields)


def failed(one: StoredResponse, code: str, message: str) -> StoredResponse:
    response = changed(one.response, {"status": "failed", "error": {"code": code, "message": message}})
    return replace(one, status="failed", response=response)


def told(event: bytes) -> Told:
    """Of one event of a stream."""
    data = sse.parse(event).data
    try:
        return Told() if data is None else _decode_told(data)
    except (msgspec.DecodeError, RecursionError):
        return Told()


def rewritten(block: bytes, changes: Mapping[str, object]) -> bytes:
    """Whole events with ``changes`` made to the response objects they carry."""
    out = []
    for event in sse.split(block):
        found = sse.parse(event)
        if found.data is not None and b'"response"' in found.data:
            try:
                fields = _decode_fields(found.data)
            except (msgspec.DecodeError, RecursionError):
                out.append(event)
                continue
            inner = fields.get("response")
            if inner is not None and bytes(inner)[:1] == b"{":
                fields["response"] = Raw(changed(inner, changes))
                name = b"event: " + found.name + b"\n" if found.name else b""
                event = name + b"data: " + _encode(fields) + b"\n\n"
        out.append(event)
    return b"".join(out)


def first_response(block: bytes) -> Raw:
    """The first response object in a block of events; empty without one."""
    for event in sse.split(block):
        found = told(event)
        if bytes(found.response):
            return found.response
    return Raw()


def last_response(block: bytes) -> Raw:
    """The response object that ends a stream; empty where it has not ended."""
    for event in reversed(sse.split(block)):
        found = told(event)
        if found.type in ("response.completed", "response.incomplete", "response.failed"):
            return found.response
    return Raw()


_ENDINGS = {"completed": "response.completed", "failed": "response.failed"}


def ending(events: bytes, response: bytes, status: str) -> bytes:
    """The event that closes ``events`` with a response as it is. What was cancelled is incomplete."""
    last = sse.split(events)[-1:] if events else []
    number = told(last[0]).sequence_number + 1 if last else 0
    return _event(_ENDINGS.get(status, "response.incomplete"), number, response)


def shortest(one: StoredResponse) -> bytes:
    """A response as a stream of two events: that it was begun, and all of it."""
    begun = changed(one.response, {"status": "in_progress", "output": [], "usage": None, "error": None})
    created = _event("response.created", 0, begun)
    return created + ending(created, one.response, one.status)


def _event(kind: str, number: int, response: bytes) -> bytes:
    data = _encode({"type": kind, "sequence_number": number, "response": Raw(response)})
    return b"event: " + kind.encode() + b"\ndata: " + data.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n\n"


def ended_by(events: bytes, response: bytes) -> bytes:
    """The events, the last of which now holds this response object."""
    *before, last = sse.split(events)
    found = told(last)
    return b"".join(before) + _event(found.type, found.sequence_number, response)


def after(block: bytes, number: int) -> bytes:
    """The events that are numbered higher."""
    if number < 0:
        return block
    return b"".join(event for event in sse.split(block) if told(event).sequence_number > number)


def input_of(one: StoredResponse) -> list[Raw]:
    """The items of a request's own input; a text is the message it stands for."""
    given = one.input
    if given[:1] == b'"':
        return [
            Raw(b'{"type":"message","role":"user","content":[{"type":"input_text","text":' + given + b"}]}")
        ]
    try:
        return _decode_items(given) if given else []
    except (msgspec.DecodeError, RecursionError):
        return []


def output_of(one: StoredResponse) -> list[Raw]:
    try:
        output = _decode_fields(one.response).get("output")
        return _decode_items(output) if output is not None else []
    except (msgspec.DecodeError, RecursionError):
        return []


def joined(chain: list[StoredResponse], given: bytes, *, sealed_only: bool) -> Raw:
    """The whole input of a request that goes on from a chain (the newest first): what was said in turn, then its own.

    ``sealed_only`` leaves out reasoning that only its maker could find by its id.
    """
    items: list[Raw] = []
    for one in reversed(chain):
        items += input_of(one)
        items += output_of(one)
    if sealed_only:
        items = [item for item in items if not _lost_reasoning(item)]
    if given and given != b"null":
        items += input_of(StoredResponse(id="", owner="", input=given))
    return Raw(_encode(items))


class _Item(Struct):
    type: str = ""
    encrypted_content: str | None = None


_decode_item = msgspec.json.Decoder(_Item).decode


def _lost_reasoning(item: Raw) -> bool:
    if b'"reasoning"' not in bytes(item):
        return False
    try:
        found = _decode_item(item)
    except (msgspec.DecodeError, RecursionError):
        return False
    return found.type == "reasoning" and not found.encrypted_content


_ECHOED = (
    "instructions", "max_output_tokens", "metadata", "parallel_tool_calls", "previous_response_id", "reasoning",
    "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user", "background",
)  # fmt: skip


def asked_by(one: StoredResponse) -> bytes:
    """The request that a response object repeats, as far as it does."""
    try:
        fields = _decode_fields(one.response)
    except (msgspec.DecodeError, RecursionError):
        fields = {}
    request = {name: fields[name] for name in _ECHOED if name in fields}
    if bytes(request.get("instructions", b"null"))[:1] != b'"':
        request.pop("instructions", None)
    request["model"] = fields.get("model", Raw(b'"unknown"'))
    request["input"] = Raw(b'""')
    return _encode(request)
