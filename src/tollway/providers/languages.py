"""The wire formats conversations are held in: which path each has at a provider, and how its streams are asked for.

A format's own bytes are the codecs' business; nothing here reads a body.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from msgspec import Struct

from tollway.errors import BadRequest

EVENTS: Final = b"text/event-stream"
JSON: Final = b"application/json"


class Language(Struct, frozen=True, kw_only=True):
    """``whole`` and ``streamed`` are the paths for a whole answer and for a stream, with ``{model}`` where the model
    is part of the address; ``query`` belongs to the stream's. ``accept`` is what a request for a stream accepts,
    ``endpoint`` the catalogue's name for a path that has one, ``headers`` what the format demands of every
    request."""

    whole: str
    streamed: str = ""
    query: str = ""
    accept: bytes = EVENTS
    endpoint: str = ""
    headers: dict[str, str] = {}


LANGUAGES: Final[dict[str, Language]] = {
    "openai.chat": Language(whole="/chat/completions", endpoint="chat.completions"),
    "openai.responses": Language(whole="/responses", endpoint="responses"),
    "openai.completions": Language(whole="/completions", endpoint="completions"),
    "anthropic.messages": Language(
        whole="/messages", endpoint="messages", headers={"anthropic-version": "2023-06-01"}
    ),
    "gemini.generate": Language(
        whole="/{model}:generateContent", streamed="/{model}:streamGenerateContent", query="alt=sse"
    ),
    "bedrock.converse": Language(
        whole="/model/{model}/converse",
        streamed="/model/{model}/converse-stream",
        accept=b"application/vnd.amazon.eventstream",
    ),
    "cohere.chat": Language(whole="/chat"),
    "ollama.chat": Language(whole="/chat", accept=b"application/x-ndjson"),
}
"""Every format a provider may be spoken to in. The paths follow the part of the address its version stands in."""

BY_ENDPOINT: Final = {known.endpoint: name for name, known in LANGUAGES.items() if known.endpoint}
"""The format of each endpoint that is a conversation, the most capable of OpenAI's first."""

REMEMBERED: Final = 1024
"""Addresses kept for each way; past that they are made again (names come from clients)."""


class Way:
    """How one provider is spoken to in one format. ``lines`` are the header lines of every request."""

    __slots__ = ("_language", "_name", "_query", "_root", "_streamed", "_targets", "_whole", "lines")

    def __init__(
        self,
        name: str,
        root: str,
        query: bytes,
        lines: bytes,
        path: str | None = None,
        streamed: str | None = None,
    ) -> None:
        """``root`` is the path the format's own follows (``path`` and ``streamed``, where it has others here),
        ``query`` a credential that travels there."""
        self._name = name
        self._language = LANGUAGES[name]
        self._whole = path or self._language.whole
        self._streamed = streamed or self._language.streamed
        self._root = root
        self._query = query
        self._targets: dict[tuple[str, bool], bytes] = {}
        self.lines = lines + b"content-type: application/json\r\n"

    def accept(self, stream: bool) -> bytes:
        return self._language.accept if stream else JSON

    def target(self, model: str, stream: bool) -> bytes:
        """Path and query. BadRequest for a model's name that cannot be part of an address."""
        key = (model, stream)
        found = self._targets.get(key)
        if found is None:
            found = self._make(model, stream)
            if len(self._targets) >= REMEMBERED:
                self._targets.clear()
            self._targets[key] = found
        return found

    def _make(self, model: str, stream: bool) -> bytes:
        language = self._language
        path = (stream and self._streamed) or self._whole
        if "{model}" in path:
            path = path.replace("{model}", _address(self._name, model))
        queries = [language.query.encode("ascii")] if stream and language.query else []
        if self._query:
            queries.append(self._query)
        return (self._root + path).encode("ascii") + (b"?" + b"&".join(queries) if queries else b"")


def _address(language: str, model: str) -> str:
    """A model's name as segments of a path. Gemini's may be written with its collection (``models/…``)."""
    if not model or model in (".", "..") or not model.isprintable():
        raise BadRequest("The model's name at the provider cannot be part of an address.", param="model")
    if language != "gemini.generate":
        return quote(model, safe="@" if language == "anthropic.messages" else "")
    collection, slash, name = model.partition("/")
    if not slash or collection not in ("models", "tunedModels") or name in ("", ".", ".."):
        collection, name = "models", model
    return f"{collection}/{quote(name, safe='')}"
