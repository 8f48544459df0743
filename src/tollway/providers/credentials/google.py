"""Google service accounts: each proves itself with a token it has signed for itself, so nothing is fetched.

Source: AIP-4111, "Self-signed JWT with service accounts".
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct

from tollway.model.secret import Secret

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
LIFETIME: Final = 3600
"""Seconds a token is good for, the most that Google accepts."""

EARLY: Final = 300
"""Seconds before its end at which a token is replaced, for requests on their way and clocks that differ."""


class _KeyFile(Struct):
    """The file Google hands out for a service account's key, as far as it matters here."""

    type: str
    client_email: str
    private_key: str
    private_key_id: str
    project_id: str = ""


class ServiceAccount:
    """Signs as one service account. ``project`` is the one it belongs to, empty where the file does not say."""

    __slots__ = ("_email", "_key_id", "_line", "_sign", "_until", "project")

    def __init__(self, email: str, key_id: str, project: str, sign: Callable[[bytes], bytes]) -> None:
        """``sign`` makes an RS256 signature."""
        self._email = email
        self._key_id = key_id
        self._sign = sign
        self._line = b""
        self._until = 0.0
        self.project = project

    @classmethod
    def parse(cls, file: Secret) -> ServiceAccount:
        """From the text of a key file. ValueError says what is wrong with it and shows nothing of it."""
        try:
            found = msgspec.json.decode(file.reveal(), type=_KeyFile)
        except msgspec.DecodeError:  # ValidationError is one; its text may name values
            raise ValueError(
                "it is not the JSON key file of a service account (type, client_email, private_key, private_key_id)"
            ) from None
        if found.type != "service_account":
            raise ValueError("only keys of service accounts are supported: its type must be service_account")
        return cls(found.client_email, found.private_key_id, found.project_id, _signing(found.private_key))

    def lines(self, method: bytes, target: bytes, headers: bytes, body: bytes, now: float) -> bytes:
        """The header line that proves who asks. The request itself is not part of it; ``now`` is Unix time."""
        if not now < self._until:
            self._line = b"authorization: Bearer %b\r\n" % self._token(int(now))
            self._until = now + LIFETIME - EARLY
        return self._line

    def _token(self, now: int) -> bytes:
        head = {"typ": "JWT", "alg": "RS256", "kid": self._key_id}
        claims = {
            "iss": self._email,
            "sub": self._email,
            "iat": now,
            "exp": now + LIFETIME,
            "scope": SCOPE,
        }
        signed = _base64(msgspec.json.encode(head)) + b"." + _base64(msgspec.json.encode(claims))
        return signed + b"." + _base64(self._sign(signed))


def _base64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def _signing(pem: str) -> Callable[[bytes], bytes]:
    # Loading OpenSSL's bindings takes tens of milliseconds: only who has such a key pays them.
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError):
        raise ValueError("its private_key is not a PEM encoded private key") from None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("its private_key is not an RSA key")
    return lambda data: key.sign(data, PKCS1v15(), SHA256())
