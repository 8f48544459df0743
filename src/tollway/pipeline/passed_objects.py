"""What a provider keeps under its own paths, where those are not OpenAI's: files, batches and caches, with owners like
any other object.

What is listed here is watched over: made for its caller, found by its owner only, listed from what is known. What is
neither that nor a request to a model might lead to anybody's, and is for the administrator or for a provider that is
configured to let it through.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Literal
from urllib.parse import parse_qs, parse_qsl, unquote_to_bytes, urlencode, urlsplit

import msgspec
from msgspec import Raw, Struct

from tollway.errors import BadRequest, ModelNotAllowed
from tollway.model.artifact import Artifact, Query
from tollway.model.secret import Secret
from tollway.pipeline.authenticate import ALL_CREDENTIAL_HEADERS, credential
from tollway.pipeline.authenticate import admit as check
from tollway.pipeline.client import ModelRequest
from tollway.pipeline.client_secrets import LONGEST, Bound
from tollway.pipeline.grant import Grant
from tollway.pipeline.list_objects import MAX_PAGE, MAX_SHOWN, string
from tollway.pipeline.named_objects import native_key
from tollway.pipeline.ownership import Registry, Remembered, missing, owner_of, shown
from tollway.pipeline.snapshot import Snapshot
from tollway.providers.provider import Provider

Does = Literal["make", "list", "item", "remove"]

MODEL_PATH = re.compile(
    rb"(/openai)?(/v\d+\w*)?/(chat/completions|completions|embeddings|responses|messages(/count_tokens)?|moderations"
    rb"|rerank|images/generations|audio/speech|fim/completions|chat|embed|ocr|search|responses/input_tokens|tokenize"
    rb"|detokenize|(publishers/[\w.-]+/)?models/[^/:]+:(generateContent|streamGenerateContent|countTokens|embedContent"
    rb"|batchEmbedContents|predict|rawPredict|streamRawPredict))"
    rb"|(/v1(beta1?)?/projects/[^/]+/locations/[^/]+)/(publishers/[\w.-]+/)models/[^/:]+:(generateContent"
    rb"|streamGenerateContent|countTokens|embedContent|predict|rawPredict|streamRawPredict)"
    rb"|/model/[^/]+/(converse|converse-stream|invoke|invoke-with-response-stream|count-tokens)"
    rb"|/api/(chat|generate|embed|embeddings|show|tags|version)"
    rb"|/openai/deployments/[^/]+/(chat/completions|completions|embeddings)"
)
"""Requests in which a model is all that is asked for."""

READING_PATH = re.compile(
    rb"(/openai)?(/v\d+\w*)?/models(/[^/]+){0,2}|/api/(tags|version|ps)|/(health|version|info)"
)
"""What says the same to everybody."""


class Family(Struct, frozen=True):
    """Objects of one kind in the ``language`` of their provider. ``paths`` lead to all of them, below each stands one.
    The answer to ``make`` holds the object under ``wrap``, if that is not empty, and its name as ``field``."""

    kind: str
    language: str
    paths: re.Pattern[bytes]
    below: re.Pattern[bytes]
    name: str
    field: str = "id"
    wrap: str = ""


def _family(
    kind: str, language: str, path: str, name: str, below: str, field: str = "id", wrap: str = ""
) -> Family:
    paths = re.compile(f"{path}/?".encode())
    return Family(kind, language, paths, re.compile(f"{path}/([^/:]+)({below})?".encode()), name, field, wrap)


_VERSION = "(?:/v1(?:beta|alpha)?)?"
FAMILIES = (
    _family("anthropic.file", "anthropic.messages", "(?:/v1)?/files", "files", "/content"),
    _family("anthropic.batch", "anthropic.messages", "(?:/v1)?/messages/batches", "batches", "/results|/cancel"),
    _family(
        "gemini.file", "gemini.generate", f"(?:/upload|/download)?{_VERSION}/files", "files", ":download", "name",
        "file",
    ),
    _family("gemini.cache", "gemini.generate", f"{_VERSION}/cachedContents", "cachedContents", "", "name"),
)  # fmt: skip


class Passage(Struct, frozen=True):
    """What a request does to objects of a ``family``; ``key`` is the registry's name for the one it is about."""

    family: Family
    does: Does
    key: str = ""


def passage(request: ModelRequest, path: bytes, provider: Provider) -> Passage | None:
    """``path`` is what follows the provider's name, still encoded."""
    plain = unquote_to_bytes(path)
    for family in FAMILIES:
        if family.language not in provider.languages:
            continue
        if family.paths.fullmatch(plain):
            return Passage(family, "make" if request.method == b"POST" else "list")
        found = family.below.fullmatch(plain)
        if found is not None:
            does: Does = "remove" if request.method == b"DELETE" else "item"
            return Passage(family, does, _key(family, provider.name, found[1].decode("utf-8", "replace")))
    return None


def is_native(path: bytes, provider: Provider) -> bool:
    """Whether a path that OpenAI has too is the provider's own here: Google's files lie at ``/v1/files`` as well."""
    plain = unquote_to_bytes(path)
    return any(
        family.field == "name"
        and family.language in provider.languages
        and (family.paths.fullmatch(plain) or family.below.fullmatch(plain))
        for family in FAMILIES
    )


def _key(family: Family, provider: str, name: str) -> str:
    if family.field == "id":
        return name
    return native_key(provider, family.name, name.rpartition("/")[2])


async def admit(
    request: ModelRequest,
    path: bytes,
    found: Passage | None,
    provider: Provider,
    grant: Grant,
    registry: Registry,
) -> Artifact | None:
    """The object a request is about, if it is a known one. Raises NotFound for another's, ModelNotAllowed where nobody
    knows whose a path leads to, BadRequest, StoreUnavailable."""
    free = provider.settings.unknown_objects == "pass" or grant.principal.kind == "admin"
    if found is None:
        to_model = request.method == b"POST" and MODEL_PATH.fullmatch(path)
        if free or to_model or (request.method in _READS and READING_PATH.fullmatch(path)):
            return None
        raise ModelNotAllowed(
            f"Whose objects this path of {provider.name} leads to is not known here, so it is for the administrator. "
            f"Where all keys may share what the provider keeps, set `unknown_objects: pass` at {provider.name}."
        )
    if not isinstance(registry, Remembered):
        if free:
            return None
        raise BadRequest(
            "Without a database nobody can say whose the objects of a provider are, so these paths are for the "
            f"administrator. Use one, or set `unknown_objects: pass` at {provider.name}."
        )
    if not found.key:
        return None
    artifact = await registry.artifact(found.key)
    principal = grant.principal
    if artifact is None and free:
        return None
    if (
        artifact is None
        or artifact.kind != found.family.kind
        or artifact.provider != provider.name
        or (artifact.owner != owner_of(principal) and principal.kind != "admin")
    ):
        raise missing(found.key.rpartition(":")[2])
    return artifact


_READS = frozenset((b"GET", b"HEAD"))


async def listed(
    request: ModelRequest, found: Passage, provider: Provider, grant: Grant, registry: Registry
) -> bytes | None:
    """The caller's own objects in the words of the provider. None: ask it, for all of them are meant."""
    if grant.principal.kind == "admin" or provider.settings.unknown_objects == "pass":
        return None
    asked = {name: values[-1] for name, values in parse_qs(request.query.decode("latin-1")).items()}
    limit = asked.get("limit", asked.get("pageSize", "20"))
    if not limit.isdecimal() or not 1 <= int(limit[:9]) <= 10_000:
        raise BadRequest("The limit of a list must be a number from 1 to 10000.", param="limit")
    after = asked.get("after_id", asked.get("pageToken")) or None
    family = found.family
    page = await registry.page(
        Query(
            kind=family.kind,
            owner=owner_of(grant.principal),
            limit=min(int(limit[:9]), MAX_PAGE),
            after=_key(family, provider.name, after) if after else None,
        )
    )
    data = [Raw(one.shown) for one in page.artifacts if one.provider == provider.name]
    ids = [one.id for one in page.artifacts]
    if family.field == "id":
        value: dict[str, object] = {
            "data": data,
            "first_id": ids[0] if ids else None,
            "last_id": ids[-1] if ids else None,
            "has_more": page.more,
        }
    else:
        value = {family.name: data} if data else {}
        if page.more:
            value["nextPageToken"] = ids[-1].rpartition(":")[2]
    return msgspec.json.encode(value)


async def settle(
    found: Passage, known: Artifact | None, provider: Provider, grant: Grant, registry: Registry, body: bytes,
    now: float,
) -> None:  # fmt: skip
    """After the provider did it: remember what was made, forget what is gone, keep what is newly told."""
    if not isinstance(registry, Remembered):
        return
    if found.does == "remove":
        if known is not None:
            await registry.forget(known.id)
        return
    told = shown(body)
    if found.family.wrap and found.family.wrap in told:
        body = bytes(told[found.family.wrap])
        told = shown(body)
    name = string(told, found.family.field)
    if not name:
        return
    key = _key(found.family, provider.name, name)
    kept = body if len(body) <= MAX_SHOWN else b"{}"
    if known is not None:
        if known.id == key and known.shown != kept:
            await registry.keep([msgspec.structs.replace(known, shown=kept)])
        return
    if found.does == "make":
        principal = grant.principal
        made = Artifact(
            id=key, kind=found.family.kind, provider=provider.name, owner=owner_of(principal),
            team=principal.key.team if principal.key is not None else None, created=now, shown=kept,
        )  # fmt: skip
        await registry.keep([made])


async def ticketed(
    request: ModelRequest, provider: str, snapshot: Snapshot, registry: Registry, now: float
) -> Grant | None:
    """Whose upload goes on: clients of Google's send no key to the address they were told, only what it holds. The
    ticket goes no further. None where there is none. Raises KeyBlocked, KeyExpired."""
    if _TICKET not in request.query or not isinstance(registry, Remembered):
        return None
    if any(name in request.headers for name in ALL_CREDENTIAL_HEADERS):
        return None
    pairs = parse_qsl(request.query.decode("latin-1"), keep_blank_values=True)
    token = next((value for name, value in pairs if name == TICKET), "")
    bound = await registry.tickets.fetch(token.encode("latin-1", "replace"), now)
    if bound is None or bound.provider != provider or bound.key is None or b"/upload/" not in request.path:
        return None
    grant = snapshot.grant(bound.key)
    if grant is not None:
        check(grant, now)
        request.query = urlencode([(name, value) for name, value in pairs if name != TICKET]).encode()
    return grant


TICKET = "upload_ticket"
_TICKET = TICKET.encode() + b"="


def led_here(
    address: bytes,
    request: ModelRequest,
    provider: Provider,
    snapshot: Snapshot,
    registry: Registry,
    now: float,
) -> bytes:
    """The address here of one at which an upload goes on: the provider's would lead past this gateway."""
    settings = snapshot.settings.server
    scheme = "https" if settings.tls_cert else "http"
    base = settings.public_url or f"{scheme}://{request.headers.get(b'host', b'localhost').decode('latin-1')}"
    parts = urlsplit(address.decode("latin-1"))
    query = [parts.query] if parts.query else []
    token = credential(request.headers, request.query)
    if token is not None and isinstance(registry, Remembered):
        bound = Bound(
            key=sha256(token).digest(), model="", provider=provider.name, upstream_model="", secret=Secret(""),
            transcribes=False, expires_at=now + LONGEST,
        )  # fmt: skip
        ticket = registry.tickets.issue(bound, now)
        registry.tickets.share_soon(ticket, bound, now)
        query.append(f"{TICKET}={ticket}")
    return f"{base.rstrip('/')}/{provider.name}{parts.path}?{'&'.join(query)}".encode("latin-1")
