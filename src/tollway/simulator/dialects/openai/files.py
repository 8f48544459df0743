"""``/v1/files`` and ``/v1/uploads``: what is uploaded is counted and hashed as it comes; only small files are
kept."""

from __future__ import annotations

import hashlib
from typing import Any

from msgspec import Struct

from tollway.simulator.answer import Answer, Request, Route, Stamp
from tollway.simulator.dialects.openai.errors import invalid
from tollway.simulator.dialects.openai.kept import (
    form_of,
    gone,
    held,
    looks,
    missing,
    optional,
    page,
    param,
    query,
    shown,
)
from tollway.simulator.knobs import Knobs
from tollway.simulator.multipart import KEPT
from tollway.simulator.reading import Body, Plain
from tollway.simulator.shelf import Shelf

EXPIRES = 3600


class File(Struct):
    """``content`` is None where the file was too large to keep; ``digest`` is its SHA-256."""

    shown: Body
    content: bytes | None
    digest: str


def put_file(
    shelf: Shelf,
    serial: str,
    created: int,
    name: str,
    purpose: str,
    content: bytes | None,
    size: int,
    digest: str,
) -> File:
    """A file on the shelf; also for what the simulator writes itself."""
    told: Body = {
        "id": f"file-{serial}",
        "object": "file",
        "bytes": size,
        "created_at": created,
        "filename": name,
        "purpose": purpose,
        "status": "processed",
        "expires_at": None,
        "status_details": None,
        "sha256": digest,
    }
    file = File(told, content, digest)
    shelf.put("file", told["id"], file)
    return file


def written(shelf: Shelf, serial: str, created: int, name: str, purpose: str, content: bytes) -> File:
    digest = hashlib.sha256(content).hexdigest()
    return put_file(shelf, serial, created, name, purpose, content, len(content), digest)


def read_form(request: Request) -> Plain:
    form_of(request)
    return Plain("", {}, request)


def upload(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    form = form_of(asked.request)
    file, purpose = form.file("file"), form.field("purpose")
    if file is None:
        raise missing("file")
    if not purpose:
        raise missing("purpose")
    name = file.filename or "upload"
    made = put_file(
        stamp.shelf, stamp.serial, stamp.created, name, purpose, file.content, file.size, file.digest
    )
    return shown(made.shown, stamp)


def listed(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    purpose = query(asked, "purpose")
    values = [one.shown for one in stamp.shelf.all("file") if purpose in ("", one.shown["purpose"])]
    return page(asked, values, stamp)


def get(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    return shown(held(stamp.shelf, "file", param(asked)).shown, stamp)


def content(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    file = held(stamp.shelf, "file", param(asked))
    if file.content is None:
        raise invalid(
            f"The simulator keeps no file above {KEPT} bytes; the SHA-256 of this one is {file.digest}."
        )
    return Answer("look-" + stamp.serial, [file.content], content_type=b"application/octet-stream")


def delete(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    held(stamp.shelf, "file", param(asked))
    stamp.shelf.take("file", param(asked))
    return gone(param(asked), "file", stamp)


class Upload(Struct):
    shown: Body
    parts: dict[str, Any]


def begin(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    for name in ("bytes", "filename", "mime_type", "purpose"):
        if not asked.body.get(name):
            raise missing(name)
    told = {
        "id": "upload_" + stamp.serial,
        "object": "upload",
        "bytes": asked.body["bytes"],
        "created_at": stamp.created,
        "expires_at": stamp.created + EXPIRES,
        "filename": asked.body["filename"],
        "purpose": asked.body["purpose"],
        "status": "pending",
        "file": None,
    }
    stamp.shelf.put("upload", told["id"], Upload(told, {}))
    return shown(told, stamp)


def _pending(asked: Plain, stamp: Stamp) -> Upload:
    found: Upload = held(stamp.shelf, "upload", param(asked))
    if found.shown["status"] != "pending":
        raise invalid(f"The upload is already {found.shown['status']}.")
    return found


def add_part(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    found = _pending(asked, stamp)
    data = form_of(asked.request).file("data")
    if data is None:
        raise missing("data")
    ident = "part_" + stamp.serial
    found.parts[ident] = data
    told = {"id": ident, "object": "upload.part", "created_at": stamp.created, "upload_id": param(asked)}
    return shown(told, stamp)


def complete(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    found = _pending(asked, stamp)
    wanted = asked.body.get("part_ids") or []
    if not wanted or any(one not in found.parts for one in wanted):
        raise invalid("Invalid 'part_ids': every part must belong to this upload.", "part_ids")
    parts = [found.parts[one] for one in wanted]
    size = sum(part.size for part in parts)
    if size != found.shown["bytes"]:
        raise invalid(f"The parts hold {size} bytes; the upload was announced with {found.shown['bytes']}.")
    whole = None
    digest = ""
    if size <= KEPT:
        whole = b"".join(part.content for part in parts)
        digest = hashlib.sha256(whole).hexdigest()
    name, purpose = found.shown["filename"], found.shown["purpose"]
    file = put_file(stamp.shelf, stamp.serial, stamp.created, name, purpose, whole, size, digest)
    found.shown |= {"status": "completed", "file": file.shown}
    return shown(found.shown, stamp)


def cancel(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    found = _pending(asked, stamp)
    found.shown["status"] = "cancelled"
    return shown(found.shown, stamp)


ROUTES = (
    Route(b"POST", "/v1/files", looks(upload, read_form)),
    Route(b"GET", "/v1/files", looks(listed)),
    Route(b"GET", "/v1/files/{id}", looks(get)),
    Route(b"GET", "/v1/files/{id}/content", looks(content)),
    Route(b"DELETE", "/v1/files/{id}", looks(delete)),
    Route(b"POST", "/v1/uploads", looks(begin, optional)),
    Route(b"POST", "/v1/uploads/{id}/parts", looks(add_part, read_form)),
    Route(b"POST", "/v1/uploads/{id}/complete", looks(complete, optional)),
    Route(b"POST", "/v1/uploads/{id}/cancel", looks(cancel, optional)),
)
