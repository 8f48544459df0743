"""What models can do, as far as the writers of requests must know it: names matched with the families of a table.

A name that no family knows gets a profile that allows everything: what a client asks for then reaches the provider,
whose refusal says more than ours could. Prices and limits of single models are the price book's business.
"""

from __future__ import annotations

import fnmatch
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from tollway.wire.codec import Profile

TABLE: Final = Path(__file__).with_name("profiles.toml")


class Family(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Models that are alike. ``names`` are shell patterns for a model's bare name in lower case, ``at`` the catalogue
    entries it holds for (all of them if empty). The rest is as in ``Profile``."""

    names: tuple[str, ...]
    at: tuple[str, ...] = ()
    max_output: int | None = None
    thinking: Literal["budget", "adaptive", "effort", "none"] = "budget"
    images: bool = True
    documents: bool = True
    audio: bool = False
    tools: bool = True
    schema: bool = True
    sampling: bool = True
    system_turns: bool = False


class _Table(Struct, frozen=True, forbid_unknown_fields=True):
    family: tuple[Family, ...]


_OWNER = re.compile(
    r"(?:[a-z]{2,6}(?:-gov)?\.)?"  # a region's inference profile at Bedrock
    r"(?:ai21|amazon|anthropic|cohere|deepseek|google|meta|minimax|mistral|moonshot(?:ai)?|nvidia|openai|qwen|writer|xai|zai)\."
)
_FINE_TUNED = re.compile(r"ft:([^:]+).*", re.DOTALL)


def bare_name(model: str) -> str:
    """A model's own name in lower case, without what providers write around it: ``us.anthropic.claude-x-v1:0``,
    ``anthropic/claude-x``, ``claude-x@20250101``, ``models/…``, ``accounts/…/models/…`` and ``ft:…`` of it."""
    name = model.lower().rpartition("/")[2].partition("@")[0]
    name = _FINE_TUNED.sub(r"\1", name)
    owner = _OWNER.match(name)
    return name[owner.end() :] if owner else name


@cache
def families() -> tuple[tuple[re.Pattern[str], Family], ...]:
    """The table, read once; the first family that matches is the model's."""
    table = msgspec.convert(tomllib.loads(TABLE.read_text(encoding="utf-8")), _Table)
    return tuple(
        (re.compile("|".join(fnmatch.translate(name) for name in family.names)), family)
        for family in table.family
    )


def profile_of(entry: str, model: str) -> Profile:
    """What ``model`` can do at a provider of the type ``entry``. ``Profile.model`` is the name as given."""
    name = bare_name(model)
    for pattern, family in families():
        if (not family.at or entry in family.at) and pattern.match(name):
            return Profile(
                model=model,
                max_output=family.max_output,
                thinking=family.thinking,
                images=family.images,
                documents=family.documents,
                audio=family.audio,
                tools=family.tools,
                schema=family.schema,
                sampling=family.sampling,
                system_turns=family.system_turns,
            )
    return Profile(model=model)
