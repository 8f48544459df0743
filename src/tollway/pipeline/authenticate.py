"""First stage: whose request is this? One credential, looked up by its digest in memory. Never waits."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from urllib.parse import parse_qsl

from tollway.errors import (
    AmbiguousCredentials,
    BadRequest,
    InvalidKey,
    KeyBlocked,
    KeyExpired,
    StoreUnavailable,
)
from tollway.pipeline.client import ModelRequest
from tollway.pipeline.grant import Grant
from tollway.pipeline.snapshot import Snapshot

CREDENTIAL_HEADERS = (
    b"x-api-key",
    b"api-key",
    b"x-goog-api-key",
    b"x-litellm-api-key",
    b"x-portkey-api-key",
)
CUSTOMER_HEADERS = (b"x-tollway-customer", b"x-litellm-customer-id", b"x-litellm-end-user-id")
TAG_HEADERS = (b"x-tollway-tags", b"x-litellm-tags")
MOST_TAGS = 20
LONGEST_LABEL = 200

ALL_CREDENTIAL_HEADERS = frozenset((b"authorization", *CREDENTIAL_HEADERS))


def credential(headers: Mapping[bytes, bytes], query: bytes = b"") -> bytes | None:
    """The one credential a request carries; None without. Raises AmbiguousCredentials for two different ones."""
    found: bytes | None = None
    value = headers.get(b"authorization")
    if value is not None:
        if value[:7].lower() != b"bearer ":
            raise InvalidKey("The Authorization header must be 'Bearer' followed by a key.")
        found = value[7:].strip()
    for name in CREDENTIAL_HEADERS:
        if name in headers:
            value = headers[name].strip()
            if value[:7].lower() == b"bearer ":
                value = value[7:].strip()
            if found is not None and found != value:
                raise AmbiguousCredentials("The request carries two different credentials. Send one.")
            found = value
    if b"key=" in query:
        for name_text, text in parse_qsl(query.decode("latin-1")):
            if name_text == "key":
                value = text.encode("latin-1", "replace")
                if found is not None and found != value:
                    raise AmbiguousCredentials("The request carries two different credentials. Send one.")
                found = value
    return found


def authenticate(request: ModelRequest, snapshot: Snapshot, now: float) -> Grant:
    """The grant a request runs under. ``now`` is Unix time.

    Raises InvalidKey, KeyExpired, KeyBlocked, AmbiguousCredentials, or StoreUnavailable while the keys are not read
    yet, RouteNotAllowed, BadRequest for labels that cannot be read. Never tells an unknown key from a revoked one.
    """
    caller = request.caller
    if caller is not None and caller.of is snapshot and isinstance(caller.found, Grant):
        grant = caller.found
    else:
        grant = _lookup(request, snapshot)
        company = _company(request.headers)
        if company is not None:
            grant = grant.within(*company)
        if grant.limits_endpoints:
            grant.check_endpoint(request.endpoint)
        if caller is not None:
            caller.of, caller.found = snapshot, grant
    admit(grant, now)
    return grant


def admit(grant: Grant, now: float) -> None:
    """Raises KeyBlocked, or KeyExpired."""
    if grant.blocked is not None:
        raise KeyBlocked(grant.blocked)
    if grant.expires_at is not None and now >= grant.expires_at:
        raise KeyExpired("The key has expired. Ask an administrator for a new one.")


def _company(headers: Mapping[bytes, bytes]) -> tuple[str | None, tuple[str, ...]] | None:
    """The end user and the tags that headers name. Raises BadRequest."""
    customer: str | None = None
    tags: list[str] = []
    for name in CUSTOMER_HEADERS:
        if name in headers and customer is None:
            customer = _label(headers[name], name)
    for name in TAG_HEADERS:
        if name in headers:
            tags += [_label(part, name) for part in headers[name].split(b",") if part.strip()]
    if customer is None and not tags:
        return None
    if len(tags) > MOST_TAGS:
        raise BadRequest(f"The request carries {len(tags)} tags. At most {MOST_TAGS} are taken.")
    return customer, tuple(tags)


def _label(value: bytes, header: bytes) -> str:
    try:
        text = value.strip().decode()
    except UnicodeDecodeError:
        text = ""
    if not text or len(text) > LONGEST_LABEL or not text.isprintable():
        raise BadRequest(
            f"The header {header.decode()} must have 1 to {LONGEST_LABEL} printable characters a name, in UTF-8."
        )
    return text


def _lookup(request: ModelRequest, snapshot: Snapshot) -> Grant:
    if request.repeated:
        raise AmbiguousCredentials("The request carries a credential header twice. Send it once.")
    token = credential(request.headers, request.query)
    if token is None:
        if not snapshot.settings.require_key:
            return snapshot.anonymous
        raise InvalidKey("No key was given. Send 'Authorization: Bearer sk-tw-…'.")
    grant = snapshot.grant(sha256(token).digest())
    if grant is not None:
        return grant
    if not snapshot.settings.require_key:
        return snapshot.anonymous
    if not snapshot.complete:
        raise StoreUnavailable(
            "The key cannot be checked: the database with the keys has not been reached yet. Retry in a moment.",
            headers={"retry-after": "1"},
        )
    raise InvalidKey("The key is not known here. Check it, or ask an administrator for a new one.")
