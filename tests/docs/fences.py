"""Finds the fenced examples of a Markdown page and says what is to happen to each.

Only the rules of CONTRIBUTING.md ("Examples in the documentation") are here; test_examples.py runs them.
"""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

Treatment = Literal["run", "parse", "shown"]

# The first word of a fence and what its block must survive.
LANGUAGES: dict[str, Treatment] = {
    "bash": "run",
    "python": "run",
    "yaml": "parse",
    "json": "parse",
    "toml": "parse",
    "console": "shown",
    "dockerfile": "shown",
    "http": "shown",
    "ini": "shown",
    "sql": "shown",
    "text": "shown",
    "typescript": "shown",
}

_FENCE = re.compile(r"^(?P<indent> {0,8})(?P<ticks>`{3,})(?P<info>.*)$")
_FILE = re.compile(r"[\w.-]+\.(ya?ml|json|py|toml|txt|sh)")


class FenceError(ValueError):
    """The fence breaks the convention; the text says where and what to write instead."""


class Block(Struct, frozen=True, kw_only=True):
    """One fenced block. ``line`` counts from 1; ``file`` is the name later blocks of the page find it under;
    ``dialect`` names whose YAML it is when it is not ours (``litellm``)."""

    page: str
    line: int
    language: str
    text: str
    treatment: Treatment
    file: str | None = None
    dialect: str | None = None

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def read_blocks(page: str, text: str) -> list[Block]:
    """All fenced blocks of a page in order. Raises FenceError for a fence the convention does not know."""
    blocks: list[Block] = []
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        fence = _FENCE.match(line)
        if fence is None:
            continue
        indent, ticks = len(fence["indent"]), fence["ticks"]
        body: list[str] = []
        for _, inner in lines:
            if inner.strip() == ticks:
                break
            body.append(inner[indent:] if inner[:indent].isspace() or not indent else inner)
        else:
            raise FenceError(f"{page}:{number}: the fence is never closed")
        blocks.append(_block(page, number, fence["info"].split(), "\n".join(body) + "\n"))
    return blocks


def _block(page: str, line: int, info: list[str], text: str) -> Block:
    where = f"{page}:{line}"
    if not info or info[0] not in LANGUAGES:
        raise FenceError(f"{where}: say the language after the fence, one of {', '.join(LANGUAGES)}")
    language, treatment, file, dialect = info[0], LANGUAGES[info[0]], None, None
    for word in info[1:]:
        if word == "no-run" and treatment == "run":
            treatment = "parse"
        elif word == "part" and treatment == "parse":
            treatment = "shown"
        elif language == "yaml" and word in (
            "compose",
            "github",
            "helm",
            "kubernetes",
            "litellm",
            "prometheus",
        ):
            dialect = word
        elif _FILE.fullmatch(word):
            file = word
        else:
            raise FenceError(f"{where}: {word!r} means nothing after {language!r}; see CONTRIBUTING.md")
    return Block(
        page=page, line=line, language=language, text=text, treatment=treatment, file=file, dialect=dialect
    )
