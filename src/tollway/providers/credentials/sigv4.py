"""AWS Signature Version 4 for requests with a whole body: pure functions of the request, the keys and the time.

Source: AWS General Reference, "Signing AWS API requests". The rules of S3 are left out: elsewhere a path is encoded
once more than it is on the wire.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from time import gmtime, strftime
from typing import Final
from urllib.parse import quote

from tollway.model.secret import Secret

ALGORITHM: Final = "AWS4-HMAC-SHA256"

_SIGNED: Final = ("host", "content-type")
"""Headers that are signed besides Amazon's own: what a proxy on the way may change is left out."""

OWN: Final = (b"authorization", b"x-amz-date", b"x-amz-security-token", b"x-amz-content-sha256")
"""Headers that belong to a signature; a client's never stand beside ours."""


class Signer:
    """Signs for one service in one region with one pair of keys, and a session token where the keys are temporary."""

    __slots__ = ("_access_key_id", "_day", "_region", "_secret", "_service", "_signing_key", "_token")

    def __init__(
        self,
        access_key_id: Secret,
        secret_access_key: Secret,
        session_token: Secret | None,
        *,
        region: str,
        service: str,
    ) -> None:
        self._access_key_id = access_key_id.reveal()
        self._secret = secret_access_key
        self._token = session_token
        self._region = region
        self._service = service
        self._day = ""
        self._signing_key = b""

    def lines(self, method: bytes, target: bytes, headers: bytes, body: bytes, now: float) -> bytes:
        """The header lines that sign a request. ``headers`` are its whole lines, ``now`` is Unix time."""
        stamp = strftime("%Y%m%dT%H%M%SZ", gmtime(now))
        added = b"x-amz-date: %b\r\n" % stamp.encode("ascii")
        if self._token is not None:
            added += b"x-amz-security-token: %b\r\n" % self._token.reveal().encode("ascii")
        signed = signed_headers(added + headers)
        names = ";".join(signed)
        scope = f"{stamp[:8]}/{self._region}/{self._service}/aws4_request"
        asked = canonical_request(method, target, signed, body)
        to_sign = f"{ALGORITHM}\n{stamp}\n{scope}\n{sha256(asked.encode('latin-1')).hexdigest()}"
        signature = hmac.digest(self._key(stamp[:8]), to_sign.encode("ascii"), "sha256").hex()
        credential = f"{self._access_key_id}/{scope}"
        line = f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
        return b"authorization: %b\r\n%b" % (line.encode("ascii"), added)

    def _key(self, day: str) -> bytes:
        """The key of a day, derived once."""
        if day != self._day:
            key = b"AWS4" + self._secret.reveal().encode("ascii")
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode("ascii"), "sha256")
            self._signing_key, self._day = key, day
        return self._signing_key


def signed_headers(lines: bytes) -> dict[str, str]:
    """The headers a signature covers, by lower-case name in order; of a repeated one the values joined."""
    found: dict[str, list[str]] = {}
    for line in lines.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        name = name.lower()
        if name in _SIGNED or name.startswith(("x-amz-", "x-amzn-")):
            found.setdefault(name, []).append(" ".join(value.split()))
    return {name: ",".join(found[name]) for name in sorted(found)}


def canonical_request(method: bytes, target: bytes, signed: dict[str, str], body: bytes) -> str:
    """``target`` is path and query as they go over the wire."""
    path, _, query = target.decode("ascii").partition("?")
    return "\n".join(
        (
            method.decode("ascii"),
            quote(path, safe="/~"),
            _canonical_query(query),
            "".join(f"{name}:{value}\n" for name, value in signed.items()),
            ";".join(signed),
            sha256(body).hexdigest(),
        )
    )


def _canonical_query(query: str) -> str:
    pairs = sorted(
        (name, value) for name, _, value in (part.partition("=") for part in query.split("&") if part)
    )
    return "&".join(f"{name}={value}" for name, value in pairs)
