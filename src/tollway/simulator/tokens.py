"""The simulator's tokenizer and its prose: one token is four characters, everywhere and for every model.

The rule is cheap, exact in both directions (n tokens of text are 4n characters) and the same in usage and in
the bill.
"""

from __future__ import annotations

from itertools import pairwise
from zlib import crc32

TOKEN = 4
"""Characters of one token."""

MESSAGE_OVERHEAD = 3
"""Tokens every chat message costs beside its text."""

REPLY_OVERHEAD = 3
"""Tokens every chat prompt costs for the answer's own frame."""

IMAGE_TOKENS = 85
"""Tokens of any image in a prompt."""

AUDIO_CHARACTERS = 1_000
"""Characters of base64 that make one audio token of a prompt."""

_STORY = """
the old cat sat and saw one red fox run far off but the fox did not see her for the sun was low and the cat
ran too and all the men who had cut the hay let out one big cry but the fox hid and the cat lay now and ate
her egg and ham and fig and had her tea
"""

WORDS = _STORY.split()
"""Three letters each, so that a word and its space are one token."""

_RING = "".join(word + " " for word in WORDS)


def count(text: str) -> int:
    """Tokens of a text: its length in characters over four, rounded up."""
    return -(-len(text) // TOKEN)


def prose(tokens: int, start: int = 0) -> str:
    """Exactly ``tokens`` tokens of text, beginning at the ``start``-th word of a ring of words.

    The last character is a full stop, so that an answer that ended by itself looks it.
    """
    if tokens <= 0:
        return ""
    first = start % len(WORDS)
    turns = (first + tokens) // len(WORDS) + 1
    text = (_RING * turns)[first * TOKEN : (first + tokens) * TOKEN]
    return text[:-1] + "."


def start_of(*seeds: object) -> int:
    """A place in the ring that depends on nothing but the seeds' text."""
    return crc32("\0".join(map(str, seeds)).encode())


def pieces(text: str, parts: int | None = None) -> list[str]:
    """The text cut into single tokens, or into ``parts`` runs of tokens that differ by at most one token."""
    tokens = count(text)
    if parts is None or parts >= tokens:
        return [text[at : at + TOKEN] for at in range(0, len(text), TOKEN)]
    edges = [tokens * part // max(parts, 1) * TOKEN for part in range(max(parts, 1) + 1)]
    return [text[low:high] for low, high in pairwise(edges)]
