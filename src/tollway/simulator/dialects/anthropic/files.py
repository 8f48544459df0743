"""``/v1/files`` in Anthropic's shape, and what of a message names a file: the one must have been uploaded."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import msgspec
from msgspec import Struct

from tollway.simulator.answer import Answer, Endpoint, Refusal, Request, Route, Stamp
from tollway.simulator.dialects.anthropic.errors import invalid
from tollway.simulator.knobs import Knobs
from tollway.simulator.reading import Body, Plain
from tollway.simulator.shelf import Shelf

KIND = "anthropic.file"
_json = msgspec.json.encode


class File(Struct):
    """``content`` is None where the file was too large to keep."""

    shown: Body
    content: bytes | None


def _read(request: Request) -> Plain:
    return Plain("", {}, request)


def _upload(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    form = asked.request.form
    if form is None or form.broken is not None:
        raise invalid("The request body must be multipart/form-data.")
    file = form.file("file")
    if file is None:
        raise invalid("file: Field required")
    shown: Body = {
        "type": "file",
        "id": f"file_011{stamp.serial}",
        "filename": file.filename or "upload",
        "mime_type": file.content_type,
        "size_bytes": file.size,
        "created_at": "2030-01-01T00:00:00Z",
        "downloadable": True,
    }
    stamp.shelf.put(KIND, shown["id"], File(shown, file.content))
    return _shown(shown, stamp)


def _list(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    files = [one.shown for one in stamp.shelf.all(KIND)]
    limit = int(parse_qs(asked.request.query.decode("latin-1")).get("limit", ["20"])[-1])
    cut = files[:limit]
    return _shown(
        {
            "data": cut,
            "first_id": cut[0]["id"] if cut else None,
            "last_id": cut[-1]["id"] if cut else None,
            "has_more": len(cut) < len(files),
        },
        stamp,
    )


def _get(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    return _shown(held(stamp.shelf, _id(asked)).shown, stamp)


def _content(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    file = held(stamp.shelf, _id(asked))
    return Answer("look-" + stamp.serial, [file.content or b""], content_type=b"application/octet-stream")


def _delete(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    held(stamp.shelf, _id(asked))
    stamp.shelf.take(KIND, _id(asked))
    return _shown({"id": _id(asked), "type": "file_deleted"}, stamp)


def held(shelf: Shelf, ident: str) -> File:
    found = shelf.get(KIND, ident)
    if not isinstance(found, File):
        raise Refusal(404, f"File not found: {ident}")
    return found


def _id(asked: Plain) -> str:
    return (asked.request.params or {})["id"]


def _shown(value: Any, stamp: Stamp) -> Answer:
    return Answer("look-" + stamp.serial, [_json(value)])


def _looks(handler: Any) -> Endpoint[Plain]:
    return Endpoint("store", _read, handler, billed=False)


FILES = (
    Route(b"POST", "/v1/files", _looks(_upload)),
    Route(b"GET", "/v1/files", _looks(_list)),
    Route(b"GET", "/v1/files/{id}", _looks(_get)),
    Route(b"GET", "/v1/files/{id}/content", _looks(_content)),
    Route(b"DELETE", "/v1/files/{id}", _looks(_delete)),
)
