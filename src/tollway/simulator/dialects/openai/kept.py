"""What OpenAI's stored things have in common: they are found, listed in pages, and deleted by id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec

from tollway.simulator.answer import Answer, Endpoint, Refusal, Request, Stamp
from tollway.simulator.dialects.openai.errors import invalid
from tollway.simulator.knobs import Knobs
from tollway.simulator.multipart import Form
from tollway.simulator.reading import Body, Plain, json_object
from tollway.simulator.shelf import Shelf

_json = msgspec.json.encode

Handler = Callable[[Plain, str, Knobs, Stamp], Answer]


def lookup(request: Request) -> Plain:
    """A request that names no model and has no body."""
    return Plain("", {}, request)


def optional(request: Request) -> Plain:
    """A request whose body, where there is one, is a JSON object."""
    return Plain("", json_object(request, invalid, empty=True), request)


def named(request: Request) -> Plain:
    """A request with a JSON object that names its model."""
    body = json_object(request, invalid)
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise missing("model")
    return Plain(model, body, request)


def missing(name: str) -> Refusal:
    return invalid(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")


def form_of(request: Request) -> Form:
    """The multipart body, which must be whole."""
    if request.form is None:
        raise invalid("The request body must be multipart/form-data.")
    if request.form.broken is not None:
        raise invalid(f"Could not parse multipart form: {request.form.broken}")
    return request.form


def param(asked: Plain, name: str = "id") -> str:
    return (asked.request.params or {})[name]


def query(asked: Plain, name: str, default: str = "") -> str:
    return parse_qs(asked.request.query.decode("latin-1")).get(name, [default])[-1]


def held(shelf: Shelf, kind: str, ident: str) -> Any:
    """The value, or a 404 in the vendor's words."""
    found = shelf.get(kind, ident)
    if found is None:
        raise Refusal(404, f"No {kind} found with id '{ident}'.", kind="invalid_request_error", param="id")
    return found


def shown(value: object, stamp: Stamp) -> Answer:
    return Answer("look-" + stamp.serial, [_json(value)])


def page(asked: Plain, values: list[Body], stamp: Stamp) -> Answer:
    """``values`` newest first; ``order``, ``limit``, ``after`` and ``before`` as documented."""
    if query(asked, "order", "desc") == "asc":
        values = values[::-1]
    ids = [one["id"] for one in values]
    after, before, limit = query(asked, "after"), query(asked, "before"), query(asked, "limit", "20")
    if after in ids:
        values = values[ids.index(after) + 1 :]
    elif before in ids:
        values = values[: ids.index(before)]
    if not limit.isdigit():
        raise invalid("Invalid 'limit': expected an integer.", "limit", "invalid_type")
    cut = values[: int(limit)]
    return shown(
        {
            "object": "list",
            "data": cut,
            "first_id": cut[0]["id"] if cut else None,
            "last_id": cut[-1]["id"] if cut else None,
            "has_more": len(cut) < len(values),
        },
        stamp,
    )


def gone(ident: str, kind: str, stamp: Stamp) -> Answer:
    return shown({"id": ident, "object": kind, "deleted": True}, stamp)


def looks(handler: Handler, read: Callable[[Request], Plain] = lookup) -> Endpoint[Plain]:
    """An operation that is not billed."""
    return Endpoint("store", read, handler, billed=False)
