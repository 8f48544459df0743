"""Short-lived secrets for browsers: ours, each standing for one of the provider's and for the key it is charged to.

They live in this process's memory, bounded, until they expire; a restart forgets them. Only their digests are kept.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from hashlib import sha256

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


class ClientSecrets:
    """The secrets of one process."""

    def __init__(self) -> None:
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
