"""The table of model endpoints: which path leads to which endpoint of the hallway, in which dialect.

Default deny: what is not in a table is not served. Whoever adds a row here says so in docs/guide.
"""

from __future__ import annotations

import re

from msgspec import Struct

from tollway.errors import NotFound


class Endpoint(Struct, frozen=True):
    """``name`` is the hallway's, ``dialect`` decides the shape of errors. ``counts``: the request is not served, its
    tokens are counted."""

    name: str
    dialect: str = "openai"
    counts: bool = False


_ROWS = {
    "/chat/completions": Endpoint("chat.completions"),
    "/completions": Endpoint("completions"),
    "/embeddings": Endpoint("embeddings"),
    "/responses": Endpoint("responses"),
    "/messages": Endpoint("messages", "anthropic"),
    "/messages/count_tokens": Endpoint("messages", "anthropic", counts=True),
}

MODEL_PATHS: dict[bytes, Endpoint] = {
    prefix + path.encode(): endpoint for path, endpoint in _ROWS.items() for prefix in (b"/v1", b"")
} | {b"/v2/chat": Endpoint("chat", "cohere")}
"""Served at ``/v1/…`` and, as OpenAI-compatible servers commonly do, without the prefix."""

LANE_LINES: dict[bytes, Endpoint] = {
    b"POST " + path: endpoint for path, endpoint in MODEL_PATHS.items() if not endpoint.counts
} | {b"POST /v1/messages?beta=true": MODEL_PATHS[b"/v1/messages"]}
"""Request lines (without the version) that the fast lane serves straight from the parser."""


_SOCKET = Endpoint("realtime")
SOCKET_PATHS: dict[bytes, Endpoint] = dict.fromkeys(
    (b"/v1/realtime", b"/realtime", b"/openai/v1/realtime", b"/openai/realtime"), _SOCKET
)
"""Where a GET may become a WebSocket, Azure's addresses included. Elsewhere the offer is ignored and the request
answered in HTTP."""

SECRET_PATHS: dict[bytes, Endpoint] = {
    prefix + b"/realtime/" + name.encode(): Endpoint("realtime." + name)
    for name in ("client_secrets", "sessions", "transcription_sessions")
    for prefix in (b"/v1", b"")
}
"""Where a client secret for a realtime session is made."""


class Named(Struct, frozen=True):
    """An endpoint whose path names the model, and whether it asks for a stream (None: the body says)."""

    endpoint: Endpoint
    model: bytes
    stream: bool | None = None


_GENERATE = Endpoint("generate_content", "gemini")
_EMBED = Endpoint("embed_content", "gemini")
_GEMINI = re.compile(rb"/v1(?:beta|alpha|beta1)?/(?:models/)?(?P<model>.+):(?P<method>[A-Za-z]+)")
_GEMINI_METHODS: dict[bytes, tuple[Endpoint, bool]] = {
    b"generateContent": (_GENERATE, False),
    b"streamGenerateContent": (_GENERATE, True),
    b"countTokens": (Endpoint("generate_content", "gemini", counts=True), False),
    b"embedContent": (_EMBED, False),
    b"batchEmbedContents": (_EMBED, False),
}
_AZURE = re.compile(rb"/openai/deployments/(?P<model>[^/]+)(?P<path>/.+)")


def named_by_path(path: bytes) -> Named | None:
    """What a path that names its model asks for: Gemini's ``…/models/{model}:method`` and Azure's
    ``/openai/deployments/{name}/…``; the name is still percent-encoded. Raises NotFound for another method."""
    found = _GEMINI.fullmatch(path)
    if found is not None:
        known = _GEMINI_METHODS.get(found["method"])
        if known is None:
            names = ", ".join(name.decode() for name in _GEMINI_METHODS)
            raise NotFound(f"There is no method of that name here. Models have {names}.")
        return Named(known[0], found["model"], known[1])
    found = _AZURE.fullmatch(path)
    if found is not None:
        endpoint = MODEL_PATHS.get(found["path"])
        if endpoint is not None and endpoint.dialect == "openai":
            return Named(endpoint, found["model"])
    return None


class StoredResponse(Struct, frozen=True):
    """A path of a response that was made before: what it ``does``, the methods it takes, the id still encoded."""

    does: str
    methods: tuple[bytes, ...]
    id: bytes


_STORED_RESPONSE = re.compile(rb"(?:/v1)?/responses/(?P<id>[^/]+)(?P<below>/cancel|/input_items)?")
_NO_ID = frozenset((b"input_tokens", b"compact"))
"""What stands in the place of an id and is none."""


def stored_response(method: bytes, path: bytes) -> StoredResponse | None:
    found = _STORED_RESPONSE.fullmatch(path)
    if found is None or found["id"] in _NO_ID:
        return None
    if found["below"] == b"/cancel":
        return StoredResponse("cancel", (b"POST",), found["id"])
    if found["below"] == b"/input_items":
        return StoredResponse("input_items", (b"GET",), found["id"])
    return StoredResponse("remove" if method == b"DELETE" else "retrieve", (b"GET", b"DELETE"), found["id"])


def dialect_of(path: bytes) -> str:
    """The dialect a path is written in, also where nothing is served there: it decides how the refusal looks."""
    if path.startswith((b"/v1beta", b"/v1alpha")) or _GEMINI.fullmatch(path):
        return "gemini"
    if path.startswith((b"/v1/messages", b"/messages")):
        return "anthropic"
    return "openai"
