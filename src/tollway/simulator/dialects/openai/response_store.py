"""Responses that were kept: ``GET``, ``DELETE``, ``cancel`` and ``input_items``."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import msgspec

from tollway.simulator.answer import Answer, Endpoint, Refusal, Request, Route, Stamp
from tollway.simulator.dialects.openai.errors import invalid
from tollway.simulator.dialects.openai.responses import Held
from tollway.simulator.knobs import Knobs
from tollway.simulator.reading import Plain
from tollway.simulator.track import SSE

_json = msgspec.json.encode


def lookup(request: Request) -> Plain:
    """A request that names no model."""
    return Plain("", {}, request)


def _held(asked: Plain, stamp: Stamp) -> Held:
    ident = (asked.request.params or {})["id"]
    found = stamp.shelf.get("response", ident)
    if found is None:
        raise Refusal(404, f"Response with id '{ident}' not found.", kind="invalid_request_error", param="id")
    held: Held = found
    return held


def _query(asked: Plain, name: str, default: str) -> str:
    return parse_qs(asked.request.query.decode("latin-1")).get(name, [default])[-1]


def _page(value: Any, stamp: Stamp) -> Answer:
    return Answer("look-" + stamp.serial, [_json(value)])


def get(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    held = _held(asked, stamp)
    if _query(asked, "stream", "false") != "true":
        return _page(held.shown(stamp.now), stamp)
    if not held.background or not held.events:
        raise invalid(
            "Only background responses that were created with 'stream' can be streamed again.", "stream"
        )
    after = _query(asked, "starting_after", "-1")
    first = int(after) + 1 if after.lstrip("-").isdigit() else 0
    return Answer("look-" + stamp.serial, held.events[first:], streamed=True, content_type=SSE)


def delete(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    ident = _held(asked, stamp).whole["id"]
    stamp.shelf.take("response", ident)
    return _page({"id": ident, "object": "response", "deleted": True}, stamp)


def cancel(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    held = _held(asked, stamp)
    if not held.background:
        raise invalid("Only background responses can be cancelled.")
    if stamp.now < held.ready:
        held.cancelled = True
    return _page(held.shown(stamp.now), stamp)


def input_items(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    held = _held(asked, stamp)
    serial = held.whole["id"].removeprefix("resp_")
    listed = [_item(item, f"{serial}{place:02x}") for place, item in enumerate(held.input)]
    if _query(asked, "order", "desc") == "desc":
        listed.reverse()
    limit, after = _query(asked, "limit", "20"), _query(asked, "after", "")
    ids = [item["id"] for item in listed]
    listed = listed[ids.index(after) + 1 :] if after in ids else listed
    shown = listed[: int(limit)] if limit.isdigit() else listed
    return _page(
        {
            "object": "list",
            "data": shown,
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
            "has_more": len(shown) < len(listed),
        },
        stamp,
    )


def _item(item: dict[str, Any], tail: str) -> dict[str, Any]:
    shown = {"type": "message", "id": "msg_" + tail, "status": "completed", **item}
    if isinstance(shown.get("content"), str):
        shown["content"] = [{"type": "input_text", "text": shown["content"]}]
    return shown


def _endpoint(answer: Any) -> Endpoint[Plain]:
    return Endpoint("responses.store", lookup, answer, billed=False)


ROUTES = (
    Route(b"GET", "/v1/responses/{id}", _endpoint(get)),
    Route(b"DELETE", "/v1/responses/{id}", _endpoint(delete)),
    Route(b"POST", "/v1/responses/{id}/cancel", _endpoint(cancel)),
    Route(b"GET", "/v1/responses/{id}/input_items", _endpoint(input_items)),
)
