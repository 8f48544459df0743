"""Which family a model counts like, from ``families.toml``: vocabulary, factor and what surrounds the text.

A name says the family and nothing else does: no provider is asked and no price is looked at.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache, lru_cache
from math import ceil
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from tollway.tokens.images import Fixed, ImageRule
from tollway.tokens.vocabulary import VOCABULARIES

FILE = Path(__file__).parent / "families.toml"
OTHER = "other"
_LONGEST = 256
"""Characters of a model's name that are looked at, its end: names come from clients and are kept."""


class FamilyError(Exception):
    """``families.toml`` contradicts itself; the message says where."""


class Family(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the models of a family count; every field is explained at the top of ``families.toml``."""

    name: str
    match: tuple[str, ...] = ()
    vocabulary: str = "o200k_base"
    factor: float = 1.0
    own: bool = False
    documented: bool = False
    message: int = 4
    named: int = 1
    priming: int = 3
    schema: Literal["outline", "json"] = "json"
    tool: int = 8
    tools: int = 0
    call: int = 8
    image: ImageRule = Fixed(tokens=1024)
    audio: int = 32
    video: int = 263
    page: int = 1000
    source: str


def family(model: str) -> Family:
    """The family of a model by any of its names (``gpt-4o``, ``azure/gpt-4o-2024-08-06``,
    ``us.anthropic.claude-sonnet-4-5-20250929-v1:0``); the family ``other`` where no word of it is known."""
    return _find(model[-_LONGEST:])


def estimate(text_bytes: int, of: Family) -> int:
    """Tokens of that many bytes of UTF-8 text by size alone: never 0 for any text, within some 40 % for prose and
    code of most languages, far too low for random letters and digits, which have two bytes a token."""
    return ceil(text_bytes / VOCABULARIES[of.vocabulary].bytes_per_token * of.factor)


@lru_cache(maxsize=4096)
def _find(model: str) -> Family:
    known, words = _table()
    name = model.lower()
    last = name.rpartition("/")[2]
    best, length = OTHER, 0
    for word, belongs in words.items():
        if len(word) <= length:
            continue
        if (
            last.startswith(word[1:])
            if word[0] == "^"
            else re.search(rf"(?<![a-z0-9]){re.escape(word)}", name)
        ):
            best, length = belongs, len(word)
    return known[best]


@cache
def _table() -> tuple[dict[str, Family], dict[str, str]]:
    return read_families(FILE.read_text(encoding="utf-8"))


def read_families(text: str) -> tuple[dict[str, Family], dict[str, str]]:
    """Families by name, and the family of each word names are matched with. ``like`` takes over the fields of a family
    above, its words excepted. Raises FamilyError, ``tomllib.TOMLDecodeError`` or ``msgspec.ValidationError``."""
    entries: dict[str, dict[str, object]] = {}
    known: dict[str, Family] = {}
    words: dict[str, str] = {}
    for entry in tomllib.loads(text)["family"]:
        like = entry.pop("like", None)
        if like is not None:
            if like not in entries:
                raise FamilyError(f"family {entry.get('name')!r} is like {like!r}, which is not above it")
            entry = {**entries[like], "match": [], **entry}
        read = msgspec.convert(entry, Family)
        if read.vocabulary not in VOCABULARIES:
            raise FamilyError(
                f"family {read.name!r} wants the vocabulary {read.vocabulary!r}, which is not bundled"
            )
        if read.name in known or not words.keys().isdisjoint(read.match):
            raise FamilyError(f"family {read.name!r} has a name or a word that stands above it already")
        entries[read.name], known[read.name] = entry, read
        words.update(dict.fromkeys(read.match, read.name))
    if OTHER not in known:
        raise FamilyError(f"there is no family {OTHER!r} for models that match nothing")
    return known, words
