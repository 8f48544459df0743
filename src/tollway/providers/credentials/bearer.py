"""Credentials that are one fixed text: a bearer token, a header or a query parameter. Nothing here is fetched
or signed."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from tollway.errors import ConfigError
from tollway.model.secret import Secret
from tollway.providers.catalog import Auth

_PRINTABLE = re.compile(r"[\x21-\x7e]+")

AUTHORIZATION: Final = ("bearer", "aws", "google")
"""Schemes that stand in the ``authorization`` header."""


def header_of(auth: Auth) -> str:
    """The lower-case name of the header that carries the credential; empty where none does."""
    if auth.scheme in AUTHORIZATION:
        return "authorization"
    return auth.name.lower() if auth.scheme == "header" else ""


def credential_header(auth: Auth, key: Secret | None) -> list[tuple[bytes, bytes]]:
    """The header that proves who we are, if it is one."""
    name = header_of(auth)
    if key is None or not name:
        return []
    value = key.reveal().encode("ascii")
    return [(name.encode("ascii"), b"Bearer " + value if auth.scheme in AUTHORIZATION else value)]


def credential_query(auth: Auth, key: Secret | None) -> bytes:
    """``name=key`` for providers that want it in the query, else empty."""
    if key is None or auth.scheme != "query":
        return b""
    return f"{quote(auth.name, safe='')}={quote(key.reveal(), safe='')}".encode("ascii")


def check_key(provider: str, key: Secret) -> None:
    """ConfigError if a key could not travel in a header line: it never names the key itself."""
    if not _PRINTABLE.fullmatch(key.reveal()):
        raise ConfigError(
            [f"providers.{provider}.api_key holds a space, a line break or a character outside ASCII"]
        )
