"""``/upload/v1beta/files`` (whole, or begun and gone on with), ``/v1beta/files`` and ``/v1beta/cachedContents``."""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from urllib.parse import parse_qs

import msgspec
from msgspec import Struct

from tollway.simulator.answer import Answer, Endpoint, Refusal, Request, Route, Stamp
from tollway.simulator.dialects.gemini.errors import invalid
from tollway.simulator.knobs import Knobs
from tollway.simulator.reading import Body, Plain
from tollway.simulator.shelf import Shelf

KIND = "gemini.file"
BEGUN = "gemini.upload"
CACHE = "gemini.cache"
HOST = "https://generativelanguage.googleapis.com"
_json = msgspec.json.encode


class File(Struct):
    shown: Body
    content: bytes


class Begun(Struct):
    """An upload on its way."""

    told: Body
    kind: str
    content: bytearray


def _read(request: Request) -> Plain:
    return Plain("", {}, request)


def _upload(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    """The protocol ``resumable`` in its steps, and ``raw``."""
    request = asked.request
    upload = parse_qs(request.query.decode("latin-1")).get("upload_id", [""])[-1]
    command = request.headers.get(b"x-goog-upload-command", b"").decode()
    if upload:
        begun = stamp.shelf.get(BEGUN, upload)
        if not isinstance(begun, Begun):
            raise Refusal(404, "The upload is not known.")
        offset = request.headers.get(b"x-goog-upload-offset", b"0").decode()
        if offset != str(len(begun.content)):
            raise invalid(f"The upload stands at {len(begun.content)}, not at {offset}.")
        begun.content += request.body
        if "finalize" not in command:
            return _shown({}, stamp, b"x-goog-upload-status: active\r\n")
        stamp.shelf.take(BEGUN, upload)
        file = _keep(begun.told, begun.kind, bytes(begun.content), stamp)
        return _shown({"file": file}, stamp, b"x-goog-upload-status: final\r\n")
    if command == "start":
        told = msgspec.json.decode(request.body or b"{}").get("file") or {}
        _refuse_known(told.get("name"), stamp)
        kind = request.headers.get(b"x-goog-upload-header-content-type", b"application/octet-stream").decode()
        stamp.shelf.put(BEGUN, stamp.serial, Begun(told, kind, bytearray()))
        own = request.headers.get(b"host", b"localhost").decode("latin-1")
        address = f"http://{own}/upload/v1beta/files?upload_id={stamp.serial}&upload_protocol=resumable"
        line = f"x-goog-upload-url: {address}\r\nx-goog-upload-status: active\r\n".encode()
        return _shown({}, stamp, line)
    kind = request.headers.get(b"content-type", b"application/octet-stream").decode()
    return _shown({"file": _keep({}, kind, request.body, stamp)}, stamp)


def _refuse_known(name: str | None, stamp: Stamp) -> None:
    if name is not None and stamp.shelf.get(KIND, name) is not None:
        raise Refusal(409, f"The file {name} exists already.")


def _keep(told: Body, kind: str, content: bytes, stamp: Stamp) -> Body:
    name = told.get("name") or f"files/s{stamp.serial[-11:]}"
    _refuse_known(name, stamp)
    shown: Body = {
        "name": name,
        "displayName": told.get("displayName", ""),
        "mimeType": told.get("mimeType") or kind,
        "sizeBytes": str(len(content)),
        "createTime": "2030-01-01T00:00:00Z",
        "updateTime": "2030-01-01T00:00:00Z",
        "expirationTime": "2030-01-03T00:00:00Z",
        "sha256Hash": base64.b64encode(hashlib.sha256(content).hexdigest().encode()).decode(),
        "uri": f"{HOST}/v1beta/{name}",
        "state": "ACTIVE",
        "source": "UPLOADED",
    }
    stamp.shelf.put(KIND, name, File(shown, content))
    return shown


def _cache(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    told = msgspec.json.decode(asked.request.body)
    shown = {
        "name": f"cachedContents/{stamp.serial}",
        "model": told.get("model", ""),
        "displayName": told.get("displayName", ""),
        "usageMetadata": {"totalTokenCount": len(asked.request.body) // 4},
        "createTime": "2030-01-01T00:00:00Z",
        "updateTime": "2030-01-01T00:00:00Z",
        "expireTime": "2030-01-01T01:00:00Z",
    }
    stamp.shelf.put(CACHE, shown["name"], File(shown, b""))
    return _shown(shown, stamp)


def _list(kind: str, field: str) -> Endpoint[Plain]:
    def listed(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
        return _shown({field: [one.shown for one in stamp.shelf.all(kind)]}, stamp)

    return _looks(listed)


def _get(kind: str, family: str) -> Endpoint[Plain]:
    def got(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
        return _shown(_held(stamp.shelf, kind, _name(asked, family)).shown, stamp)

    return _looks(got)


def _delete(kind: str, family: str) -> Endpoint[Plain]:
    def deleted(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
        _held(stamp.shelf, kind, _name(asked, family))
        stamp.shelf.take(kind, _name(asked, family))
        return _shown({}, stamp)

    return _looks(deleted)


def _download(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    content = _held(stamp.shelf, KIND, _name(asked, "files")).content
    return Answer("look-" + stamp.serial, [content], content_type=b"application/octet-stream")


def _held(shelf: Shelf, kind: str, name: str) -> File:
    found = shelf.get(kind, name)
    if not isinstance(found, File):
        raise Refusal(403, f"You do not have permission to access {name} or it may not exist.")
    return found


def _name(asked: Plain, family: str) -> str:
    return f"{family}/{(asked.request.params or {})['id']}"


def _shown(value: Any, stamp: Stamp, headers: bytes = b"") -> Answer:
    return Answer("look-" + stamp.serial, [_json(value)], headers=headers)


def _looks(handler: Any) -> Endpoint[Plain]:
    return Endpoint("store", _read, handler, billed=False)


_OPERATIONS = (
    (b"POST", "/upload/{version}/files", _looks(_upload)),
    (b"GET", "/{version}/files", _list(KIND, "files")),
    (b"GET", "/{version}/files/{{id}}:download", _looks(_download)),
    (b"GET", "/download/{version}/files/{{id}}:download", _looks(_download)),
    (b"GET", "/{version}/files/{{id}}", _get(KIND, "files")),
    (b"DELETE", "/{version}/files/{{id}}", _delete(KIND, "files")),
    (b"POST", "/{version}/cachedContents", _looks(_cache)),
    (b"GET", "/{version}/cachedContents", _list(CACHE, "cachedContents")),
    (b"GET", "/{version}/cachedContents/{{id}}", _get(CACHE, "cachedContents")),
    (b"DELETE", "/{version}/cachedContents/{{id}}", _delete(CACHE, "cachedContents")),
)

FILES = tuple(
    Route(method, path.format(version=version), endpoint)
    for version in ("v1beta", "v1")
    for method, path, endpoint in _OPERATIONS
)
