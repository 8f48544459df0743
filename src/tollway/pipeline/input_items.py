"""Input items as the API lists them: each with an id, messages with a type and their content in parts; paged."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode

_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
}


def listed(items: Sequence[Raw], response_id: str, order: str, limit: int, after: str | None) -> bytes:
    """A page of the items, which are given in the order of the conversation. Raises BadRequest for an ``after`` that is
    none of them."""
    core = response_id.removeprefix("resp_")
    named = [_named(item, core, number) for number, item in enumerate(items)]
    if order == "desc":
        named.reverse()
    begin = 0
    if after is not None:
        ids = [id for id, _ in named]
        if after not in ids:
            raise BadRequest("'after' is not the id of an item of this response.", param="after")
        begin = ids.index(after) + 1
    page = named[begin : begin + limit]
    return _encode(
        {
            "object": "list",
            "data": [item for _, item in page],
            "first_id": page[0][0] if page else None,
            "last_id": page[-1][0] if page else None,
            "has_more": len(named) > begin + limit,
        }
    )


def _named(item: Raw, core: str, number: int) -> tuple[str, Raw]:
    try:
        fields = _decode(item)
    except (msgspec.DecodeError, RecursionError):
        return f"item_{core}_{number}", item
    kind = _text(fields.get("type")) or "message"
    if "type" not in fields:
        fields["type"] = Raw(b'"message"')
    if kind == "message":
        content = fields.get("content")
        if content is not None and bytes(content)[:1] == b'"':
            part = b"output_text" if _text(fields.get("role")) == "assistant" else b"input_text"
            rest = b',"annotations":[]' if part == b"output_text" else b""
            fields["content"] = Raw(b'[{"type":"' + part + b'","text":' + bytes(content) + rest + b"}]")
        fields.setdefault("status", Raw(b'"completed"'))
    id = _text(fields.get("id"))
    if not id:
        id = f"{_PREFIXES.get(kind, 'item')}_{core}_in_{number}"
        fields["id"] = Raw(_encode(id))
    return id, Raw(_encode(fields))


def _text(raw: Raw | None) -> str:
    if raw is None or bytes(raw)[:1] != b'"':
        return ""
    return _decode_text(raw)
