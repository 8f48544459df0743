"""Short-lived secrets for browsers: ours, each standing for one of the provider's and for the key it is charged to.

They live in this process's memory, bounded, until they expire, and where several processes serve also in a vault that
these share: sealed with the secret itself, which only its holder has. Only their digests are kept.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections import OrderedDict
from hashlib import sha256, shake_256
from typing import Protocol

import msgspec
from msgspec import Struct

from tollway.errors import RateLimitExceeded
from tollway.model.secret import Secret

PREFIX = b"ek_tw_"
"""What one begins with; OpenAI's begin with ``ek_``, and clients look for that."""

OF_A_KEY = 1_000
"""Unexpired secrets of one key; a further one ends its oldest."""

IN_ALL = 50_000

LONGEST = 7_200.0
"""Seconds one lives at most, whatever the provider says (OpenAI's own bound)."""


class Bound(Struct, frozen=True, kw_only=True):
    """What a secret stands for. ``key`` is the digest of the key it is charged to (None: nobody's, where keys are not
    required), ``model`` the name that was asked for, ``provider`` and ``upstream_model`` where ``secret`` is good.
    ``transcribes``: for a session that only transcribes. ``expires_at`` is Unix seconds."""

    key: bytes | None
    model: str
    provider: str
    upstream_model: str
    secret: Secret
    transcribes: bool
    expires_at: float


class Vault(Protocol):
    """Keeps small values for all processes until they end."""

    async def put(self, name: str, value: bytes, seconds: float) -> bool:
        """False: it could not be kept."""

    async def get(self, name: str) -> bytes | None:
        """None also when it cannot be asked."""


class _Sealed(Struct, array_like=True):
    key: bytes | None
    model: str
    provider: str
    upstream_model: str
    secret: str
    transcribes: bool
    expires_at: float


_decode = msgspec.msgpack.Decoder(_Sealed).decode
_MAC = 32


class ClientSecrets:
    """The secrets of one process, and with a ``vault`` those of all."""

    def __init__(self, vault: Vault | None = None) -> None:
        self.vault = vault
        self._sharing: set[asyncio.Task[None]] = set()
        self._bound: OrderedDict[bytes, Bound] = OrderedDict()
        self._of_key: dict[bytes | None, OrderedDict[bytes, None]] = {}
        self._next_sweep = 0.0

    def __len__(self) -> int:
        return len(self._bound)

    def issue(self, bound: Bound, now: float) -> str:
        """A new secret for ``bound``. ``now`` is Unix seconds. Raises RateLimitExceeded when there are too many."""
        if now >= self._next_sweep or len(self._bound) >= IN_ALL:
            self._sweep(now)
        own = self._of_key.get(bound.key) or OrderedDict()
        if len(own) >= OF_A_KEY:
            self._drop(next(iter(own)))
        elif len(self._bound) >= IN_ALL:
            raise RateLimitExceeded(
                "Too many client secrets are waiting to be used. Try again when some have expired.",
                headers={"retry-after": "60"},
            )
        token = PREFIX.decode() + secrets.token_urlsafe(32)
        digest = sha256(token.encode()).digest()
        self._bound[digest] = bound
        self._of_key.setdefault(bound.key, own)[digest] = None
        return token

    def find(self, token: bytes, now: float) -> Bound | None:
        """None for one that is unknown or has expired. It may be used again until it expires."""
        bound = self._bound.get(sha256(token).digest())
        return bound if bound is not None and now < bound.expires_at else None

    async def share(self, token: str, bound: Bound, now: float) -> None:
        """Let the other processes find what was issued here."""
        if self.vault is not None:
            await self.vault.put(_name(token.encode()), _seal(token.encode(), bound), bound.expires_at - now)

    def share_soon(self, token: str, bound: Bound, now: float) -> None:
        """``share``, where nobody can wait for it."""
        if self.vault is not None:
            task = asyncio.get_running_loop().create_task(self.share(token, bound, now))
            self._sharing.add(task)
            task.add_done_callback(self._sharing.discard)

    async def fetch(self, token: bytes, now: float) -> Bound | None:
        """``find``, and where it is unknown here ask whether another process issued it."""
        bound = self.find(token, now)
        if bound is not None or self.vault is None:
            return bound
        sealed = await self.vault.get(_name(token))
        bound = _open(token, sealed) if sealed is not None else None
        return bound if bound is not None and now < bound.expires_at else None

    def _sweep(self, now: float) -> None:
        self._next_sweep = now + 30.0
        for digest in [digest for digest, bound in self._bound.items() if bound.expires_at <= now]:
            self._drop(digest)

    def _drop(self, digest: bytes) -> None:
        bound = self._bound.pop(digest)
        own = self._of_key[bound.key]
        del own[digest]
        if not own:
            del self._of_key[bound.key]


def _name(token: bytes) -> str:
    return sha256(b"tollway client secret\0" + token).hexdigest()


def _keys(token: bytes, length: int) -> tuple[bytes, bytes]:
    """A stream as long as the text, and a key for its proof: both of this token alone, which seals one text only."""
    made = shake_256(b"tollway sealed client secret\0" + token).digest(_MAC + length)
    return made[_MAC:], made[:_MAC]


def _seal(token: bytes, bound: Bound) -> bytes:
    text = msgspec.msgpack.encode(
        _Sealed(
            bound.key,
            bound.model,
            bound.provider,
            bound.upstream_model,
            bound.secret.reveal(),
            bound.transcribes,
            bound.expires_at,
        )
    )
    stream, key = _keys(token, len(text))
    hidden = bytes(a ^ b for a, b in zip(text, stream, strict=True))
    return hmac.digest(key, hidden, "sha256") + hidden


def _open(token: bytes, sealed: bytes) -> Bound | None:
    proof, hidden = sealed[:_MAC], sealed[_MAC:]
    stream, key = _keys(token, len(hidden))
    if not hmac.compare_digest(proof, hmac.digest(key, hidden, "sha256")):
        return None
    found = _decode(bytes(a ^ b for a, b in zip(hidden, stream, strict=True)))
    return Bound(
        key=found.key,
        model=found.model,
        provider=found.provider,
        upstream_model=found.upstream_model,
        secret=Secret(found.secret),
        transcribes=found.transcribes,
        expires_at=found.expires_at,
    )
