"""Which credential a provider's settings ask for, and whether they hold together. Fixed keys are ``bearer.py``'s."""

from __future__ import annotations

from typing import Protocol

from tollway.config.settings import ProviderSettings
from tollway.errors import ConfigError
from tollway.providers.catalog import Auth, CatalogEntry
from tollway.providers.credentials.bearer import check_key, header_of
from tollway.providers.credentials.google import ServiceAccount
from tollway.providers.credentials.sigv4 import Signer
from tollway.providers.request import header_line


class Proof(Protocol):
    """A credential that is made anew: for every request, or before the last one runs out. Never waits."""

    def lines(self, method: bytes, target: bytes, headers: bytes, body: bytes, now: float) -> bytes:
        """Header lines to add to a request of which all the rest is given. ``now`` is Unix time."""


def service_account_of(settings: ProviderSettings) -> ServiceAccount | None:
    """ConfigError says what is wrong with the key file."""
    if settings.credentials is None:
        return None
    try:
        return ServiceAccount.parse(settings.credentials)
    except ValueError as error:
        raise ConfigError([f"providers.{settings.name}.credentials: {error}"]) from None


def signer_of(auth: Auth, settings: ProviderSettings, region: str) -> Signer | None:
    if auth.scheme != "aws" or settings.access_key_id is None or settings.secret_access_key is None:
        return None
    return Signer(
        settings.access_key_id,
        settings.secret_access_key,
        settings.session_token,
        region=region,
        service=auth.name,
    )


# Written by us or by the connection: a configured one would break the framing or the connection pool.
_RESERVED = frozenset(("host", "content-length", "transfer-encoding", "connection", "accept",
                       "accept-encoding", "content-type", "upgrade", "te", "trailer", "expect"))  # fmt: skip


def check_credentials(entry: CatalogEntry, settings: ProviderSettings, auths: tuple[Auth, ...]) -> None:
    """ConfigError with all that is wrong: what could not be a header, what is missing, and what does not belong."""
    where = f"providers.{settings.name}"
    problems: list[str] = []
    for name, secret in settings.headers.items():
        try:
            header_line(name.encode("ascii"), secret.reveal().encode("latin-1"))
        except ValueError:  # UnicodeEncodeError is one
            problems.append(f"{where}.headers: {name!r} has a name or a value that cannot be a header")
        if name.lower() in _RESERVED:
            problems.append(f"{where}.headers: {name!r} is written by the gateway itself; leave it out")
    schemes = {auth.scheme for auth in auths}
    given: list[str] = ["api_key"] if settings.api_key else []
    for kind, scheme, secrets in (
        (
            "access_key_id",
            "aws",
            (settings.access_key_id, settings.secret_access_key, settings.session_token),
        ),
        ("credentials", "google", (settings.credentials,)),
    ):
        if not any(secrets):
            continue
        given.append(kind)
        if scheme not in schemes:
            problems.append(f"{where}.{kind}: type {entry.name} takes an api_key")
    if len(given) > 1:
        problems.append(f"{where}: give {' or '.join(given)}, not both")
    if "access_key_id" in given and not (settings.access_key_id and settings.secret_access_key):
        problems.append(f"{where}: access_key_id and secret_access_key belong together")
    configured = {name.lower() for name in settings.headers}
    needed = [auth for auth in auths if auth.scheme != "none" and header_of(auth) not in configured]
    if settings.api_key:
        check_key(settings.name, settings.api_key)
    elif not given and needed and not entry.key_optional:
        usual = f" (usually ${{{entry.env[0]}}})" if entry.env else ""
        other = {"aws": "access_key_id and secret_access_key", "google": "credentials"}.get(needed[0].scheme)
        problems.append(f"{where}.api_key is missing{usual}" + (f"; or give {other}" if other else ""))
    if problems:
        raise ConfigError(problems)
