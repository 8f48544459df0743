"""The end user's id as OpenAI takes it. It invents none and keeps no list of them."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

MAX_USER: Final = 64
"""Characters; OpenAI refuses a request with a longer ``user``."""


def end_user(user: str) -> str:
    """The id, or a digest in place of one that is too long, the same for the same user: Claude Code's are about 200
    characters."""
    return user if len(user) <= MAX_USER else sha256(user.encode()).hexdigest()
