"""The table of everything beside conversations: which method and path are which operation. What is not here is not
served. Paths stand below ``/v1`` and, as OpenAI-compatible servers commonly have it, without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from tollway.model.operation import Body, Does, Operation

PATHS: dict[bytes, Operation] = {
    b"/images/generations": Operation(
        endpoint="images.generations", offer="images.generations", model=True, usual="dall-e-2"
    ),
    b"/images/edits": Operation(
        endpoint="images.edits", offer="images.edits", body="either", model=True, usual="dall-e-2"
    ),
    b"/images/variations": Operation(
        endpoint="images.variations", offer="images.variations", body="form", model=True, usual="dall-e-2"
    ),
    b"/audio/speech": Operation(endpoint="audio.speech", offer="audio.speech", model=True),
    b"/audio/transcriptions": Operation(
        endpoint="audio.transcriptions", offer="audio.transcriptions", body="form", model=True
    ),
    b"/audio/translations": Operation(
        endpoint="audio.translations", offer="audio.translations", body="form", model=True
    ),
    b"/moderations": Operation(
        endpoint="moderations", offer="moderations", model=True, usual="omni-moderation-latest"
    ),
    b"/rerank": Operation(endpoint="rerank", offer="rerank", model=True),
    b"/search": Operation(endpoint="search", offer="search", usual="search"),
    b"/ocr": Operation(endpoint="ocr", offer="ocr", model=True),
}
"""Requests to a model (``/search`` to a provider), whose bodies say which."""

OTHER_PATHS = {b"/v2/rerank": PATHS[b"/rerank"], b"/v1/v2/rerank": PATHS[b"/rerank"]}
"""Cohere's client puts its own version before the path."""


class _Family(Struct, frozen=True):
    """Objects of one kind: ``rows`` are (method, path below, what is done, kind of body, endpoint or empty, paid)."""

    path: str
    kind: str
    offer: str
    rows: tuple[tuple[str, str, Does, Body, str, bool], ...]
    model: bool = False
    usual: str = ""


_MAKE: tuple[str, str, Does, Body, str, bool] = ("POST", "", "make", "json", "", False)
_LIST: tuple[str, str, Does, Body, str, bool] = ("GET", "", "list", "none", "", False)
_SHOW: tuple[str, str, Does, Body, str, bool] = ("GET", "/{}", "show", "none", "", False)
_CHANGE: tuple[str, str, Does, Body, str, bool] = ("POST", "/{}", "change", "json", "", False)
_REMOVE: tuple[str, str, Does, Body, str, bool] = ("DELETE", "/{}", "remove", "none", "", False)

FAMILIES = (
    _Family("/files", "file", "files", (
        ("POST", "", "make", "form", "", False), _LIST, _SHOW, _REMOVE,
        ("GET", "/{}/content", "fetch", "none", "", False),
    )),
    _Family("/uploads", "upload", "uploads", (
        _MAKE,
        ("POST", "/{}/parts", "run", "form", "", False),
        ("POST", "/{}/complete", "change", "json", "", False),
        ("POST", "/{}/cancel", "change", "json", "", False),
    )),
    _Family("/batches", "batch", "batches", (
        _MAKE, _LIST, _SHOW, ("POST", "/{}/cancel", "change", "json", "", False),
    )),
    _Family("/fine_tuning/jobs", "fine_tuning.job", "fine_tuning.jobs", (
        ("POST", "", "make", "json", "", True), _LIST, _SHOW,
        ("POST", "/{}/cancel", "change", "json", "", False),
        ("POST", "/{}/pause", "change", "json", "", False),
        ("POST", "/{}/resume", "change", "json", "", False),
        ("GET", "/{}/events", "run", "none", "", False),
        ("GET", "/{}/checkpoints", "run", "none", "", False),
    ), model=True),
    _Family("/videos", "video", "videos", (
        ("POST", "", "make", "either", "", True), _LIST, _SHOW, _REMOVE,
        ("GET", "/{}/content", "fetch", "none", "", False),
        ("POST", "/{}/remix", "make", "json", "videos", True),
    ), model=True, usual="sora-2"),
    _Family("/vector_stores", "vector_store", "vector_stores", (
        _MAKE, _LIST, _SHOW, _CHANGE, _REMOVE,
        ("POST", "/{}/search", "run", "json", "vector_stores.search", True),
        ("POST", "/{}/files", "run", "json", "", False),
        ("GET", "/{}/files", "run", "none", "", False),
        ("GET", "/{}/files/{}", "run", "none", "", False),
        ("POST", "/{}/files/{}", "run", "json", "", False),
        ("DELETE", "/{}/files/{}", "run", "none", "", False),
        ("GET", "/{}/files/{}/content", "run", "none", "", False),
        ("POST", "/{}/file_batches", "run", "json", "", False),
        ("GET", "/{}/file_batches/{}", "run", "none", "", False),
        ("GET", "/{}/file_batches/{}/files", "run", "none", "", False),
        ("POST", "/{}/file_batches/{}/cancel", "run", "json", "", False),
    )),
    _Family("/assistants", "assistant", "assistants", (_MAKE, _LIST, _SHOW, _CHANGE, _REMOVE), model=True),
    _Family("/threads", "thread", "threads", (
        _MAKE, _SHOW, _CHANGE, _REMOVE,
        ("POST", "/{}/messages", "run", "json", "", False),
        ("GET", "/{}/messages", "run", "none", "", False),
        ("GET", "/{}/messages/{}", "run", "none", "", False),
        ("POST", "/{}/messages/{}", "run", "json", "", False),
        ("DELETE", "/{}/messages/{}", "run", "none", "", False),
        ("POST", "/{}/runs", "run", "json", "threads.runs", True),
        ("GET", "/{}/runs", "run", "none", "", False),
        ("GET", "/{}/runs/{}", "run", "none", "", False),
        ("POST", "/{}/runs/{}", "run", "json", "", False),
        ("POST", "/{}/runs/{}/cancel", "run", "json", "", False),
        ("POST", "/{}/runs/{}/submit_tool_outputs", "run", "json", "threads.runs", True),
        ("GET", "/{}/runs/{}/steps", "run", "none", "", False),
        ("GET", "/{}/runs/{}/steps/{}", "run", "none", "", False),
    ), model=True),
)  # fmt: skip


class Found(Struct, frozen=True):
    """An operation and what its path names: ids, or (in Azure's paths) a model; both decoded."""

    operation: Operation
    ids: tuple[str, ...] = ()
    model: str | None = None


def _rows() -> Iterator[tuple[bytes, tuple[re.Pattern[bytes], Operation]]]:
    for family in FAMILIES:
        for method, below, does, body, endpoint, paid in family.rows:
            pattern = re.compile((re.escape(family.path) + below.replace("{}", "([^/]+)")).encode())
            yield (
                family.path.split("/")[1].encode(),
                (
                    pattern,
                    Operation(
                        endpoint=endpoint or family.offer, offer=family.offer, method=method, below=below, body=body,
                        kind=family.kind, does=does, model=family.model,
                        usual=family.usual if does == "make" and not below else "", paid=paid,
                    ),
                ),
            )  # fmt: skip


def _by_first() -> dict[bytes, list[tuple[re.Pattern[bytes], Operation]]]:
    table: dict[bytes, list[tuple[re.Pattern[bytes], Operation]]] = {}
    for first, row in _rows():
        table.setdefault(first, []).append(row)
    return table


_OBJECTS = _by_first()
_AZURE = re.compile(rb"/openai/deployments/(?P<model>[^/]+)(?P<path>/.+)")


def find(method: bytes, path: bytes) -> Found | tuple[bytes, ...] | None:
    """The operation of a path; the methods that are served there, where this one is not; None where there is none."""
    rest = path.removeprefix(b"/v1")
    model: str | None = None
    named = _AZURE.fullmatch(path)
    if named is not None:
        rest, model = named["path"], unquote_to_bytes(named["model"]).decode("utf-8", "replace")
    known = PATHS.get(rest) or OTHER_PATHS.get(path)
    if known is not None:
        return Found(known, model=model) if method == b"POST" else (b"POST",)
    if model is not None:
        return None
    allowed: list[bytes] = []
    for pattern, operation in _OBJECTS.get(rest[1:].partition(b"/")[0], ()):
        found = pattern.fullmatch(rest)
        if found is None:
            continue
        if operation.method.encode() == method:
            return Found(
                operation, tuple(unquote_to_bytes(one).decode("utf-8", "replace") for one in found.groups())
            )
        allowed.append(operation.method.encode())
    return tuple(allowed) or None
