"""Objects that a conversation names: what is not the caller's does not exist for it.

A request is looked at where it holds a word that such a name stands beside; any other goes by at the price of two
searches. Of the body only what providers read as a name counts: what a tool takes or answers is the client's own
affair, and so is what an earlier answer cited.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import unquote, urlsplit

import msgspec

from tollway.errors import BadRequest, InvalidJson, NotFound
from tollway.model.artifact import LOCAL
from tollway.model.key import Principal
from tollway.pipeline.authenticate import authenticate
from tollway.pipeline.client import Client, ModelRequest
from tollway.pipeline.ownership import Place, Registry, missing
from tollway.pipeline.services import Services
from tollway.providers.provider import Provider
from tollway.wire import body as json_body

Handler = Callable[[ModelRequest, Client, Services], Awaitable[None]]

NAMING = frozenset(
    (
        "file_id", "file_ids", "fileId", "fileIds", "input_file_id", "input_file_ids", "vector_store_id",
        "vector_store_ids", "fileUri", "file_uri", "fileSearchStoreNames", "file_search_store_names", "cachedContent",
        "cached_content",
    )
)  # fmt: skip
"""Fields whose value is an object's name, or a list of such."""

_OPAQUE = frozenset(
    (
        "parameters", "parametersJsonSchema", "parameters_json_schema", "input_schema", "input_examples", "schema",
        "json_schema", "responseSchema", "response_schema", "responseJsonSchema", "args", "arguments", "metadata",
        "labels", "data", "annotations", "citations",
    )
)  # fmt: skip
"""What is the client's own, whatever it looks like, and what an answer cited."""

_CALLS = frozenset(("tool_use", "server_tool_use", "mcp_tool_use"))
_TOLD = frozenset(
    (
        "container_file_citation", "file_citation", "file_search_call", "code_execution_output",
        "bash_code_execution_output",
    )
)  # fmt: skip
"""Blocks of an earlier answer that tell of files and ask for none."""

_FIELD = b'"file'
"""How the fields begin that name a file, and the types of tools that search them."""
_ESCAPED = b"\\u00"
"""A letter that is escaped may be one of theirs."""
_CACHED = b'"cached'
_LETTER = re.compile(rb"\\u00[2-7]")
_LOOSE = 1024 * 1024
"""Bodies above this size are read in a thread."""

_NATIVE = re.compile(r"(?:.*/)?(files|cachedContents|fileSearchStores)/([^/?#:]+)")


class _Object(list[tuple[str, object]]):
    """A JSON object with every pair it has: of a name that stands there twice, providers may take either."""


def may_name(request: ModelRequest, *, cached: bool = False) -> bool:
    """Whether the body is worth reading. False is certain; ``cached``: of Gemini's words too."""
    body = request.body
    if body.find(_FIELD) >= 0:
        return True
    # One byte is found ten times as fast as two.
    if body.find(b"\\") >= 0 and body.find(_ESCAPED) >= 0 and _LETTER.search(body) is not None:
        return True
    return (cached or request.dialect == "gemini") and body.find(_CACHED) >= 0


def named(body: bytes) -> list[str]:
    """Every object the body names, as it names it. Raises InvalidJson."""
    try:
        value = json.loads(body.decode(), object_pairs_hook=_Object, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        raise InvalidJson("The request body is not valid JSON.") from None
    found: dict[str, None] = {}
    waiting: list[object] = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, _Object):
            kinds = {value for name, value in one if name == "type" and isinstance(value, str)}
            if kinds & _TOLD:
                continue
            for name, value in one:
                if name in NAMING:
                    found.update((id, None) for id in _strings(value))
                elif name in _OPAQUE or (name == "input" and kinds & _CALLS):
                    continue
                elif name in ("functionResponse", "function_response") and isinstance(value, _Object):
                    waiting += [inner for inner_name, inner in value if inner_name != "response"]
                else:
                    waiting.append(value)
        elif type(one) is list:
            waiting += one
    return list(found)


def _strings(value: object) -> Iterable[str]:
    values = value if type(value) is list else [value]
    return [one for one in values if isinstance(one, str) and one]


def key_of(name: str, provider: Provider) -> str | None:
    """What an object is called in the registry, if a provider keeps it: a name as it is, Gemini's with its provider,
    for clients choose those themselves. None for an address elsewhere."""
    parts = urlsplit(name)
    host = (parts.hostname or "").lower()
    if parts.scheme and "/" in name:
        own = host in ("", provider.origin.host.lower()) or "generativelanguage" in host
        if not own or parts.scheme.lower() not in ("http", "https"):
            return None
    found = _NATIVE.fullmatch(unquote(parts.path if parts.scheme else name))
    if found is not None:
        return native_key(provider.name, found[1], found[2])
    return name


def native_key(provider: str, family: str, name: str) -> str:
    return f"{provider}:{family}:{name}"


async def check(
    body: bytes, names: Iterable[str], principal: Principal, registry: Registry, providers: Iterable[Provider]
) -> bytes:
    """The body with the names as the provider knows them. Raises NotFound for what is another's or, unless every
    provider it may go to is configured otherwise, unknown."""
    candidates = list({provider.name: provider for provider in providers}.values())
    unknown_pass = all(provider.settings.unknown_objects == "pass" for provider in candidates)
    for name in names:
        place = await find(name, principal, registry, candidates, unknown_pass=unknown_pass)
        if place is None:
            continue
        if place.provider == LOCAL:
            raise BadRequest("This gateway keeps that file for batches; a provider cannot use it.")
        if place.provider not in {provider.name for provider in candidates}:
            raise BadRequest(
                f"{name[:100]!r} lives at provider {place.provider}, which does not serve this model."
            )
        if place.artifact is None and place.id != name:
            body = _exchanged(body, name, place.id)
    return body


async def find(
    name: str, principal: Principal, registry: Registry, providers: Iterable[Provider], *, unknown_pass: bool
) -> Place | None:
    """Where an object lives; None where nobody here knows it and it may go on. Raises NotFound, StoreUnavailable."""
    keys = {key_of(name, provider): None for provider in providers}
    keys.pop(None, None)
    if not keys:
        return None  # an address elsewhere
    another = False
    for key in keys:
        assert key is not None
        try:
            return await registry.find(key, principal)
        except NotFound:
            another = another or await registry.knows(key)
    if not another and (unknown_pass or principal.kind == "admin"):
        return None
    raise missing(name)


def _exchanged(body: bytes, name: str, inner: str) -> bytes:
    told = msgspec.json.encode(name)
    if told not in body:
        raise BadRequest("An object's id stands in the body with escaped letters. Write it plainly.")
    return body.replace(told, msgspec.json.encode(inner))


def owned(handler: Handler) -> Handler:
    """``handler`` for requests whose bodies name the caller's objects only."""

    def checked(request: ModelRequest, client: Client, app: Services) -> Awaitable[None]:
        if may_name(request):
            return _check_first(handler, request, client, app)
        return handler(request, client, app)

    return checked


async def _check_first(handler: Handler, request: ModelRequest, client: Client, app: Services) -> None:
    snapshot = app.snapshot
    grant = authenticate(request, snapshot, app.wall_clock())
    names = await read(request.body)
    if names:
        model = request.model or json_body.text(json_body.parse(request.body), "model")
        if model:  # without one the hallway refuses it
            targets = grant.route(model, snapshot).targets
            request.body = await check(
                request.body, names, grant.principal, app.holdings.registry, [one.provider for one in targets]
            )
    await handler(request, client, app)


async def read(body: bytes) -> list[str]:
    return named(body) if len(body) < _LOOSE else await asyncio.to_thread(named, body)
