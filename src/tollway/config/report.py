"""What is wrong with a configuration: every finding with its place, and the name that was probably meant.

Values of the file are shown only where they cannot be a credential.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from tollway.errors import ConfigError

_SHOWN = 60
_WORTH_HIDING = 6
_MOST = 200
_SECRET_LIKE = re.compile(
    r"(?i)\b(sk|pk|rk|gsk|xai|ghp|hf|bearer|basic)[-_ ]|\b(aiza|akia|eyj)|[A-Za-z0-9]{28,}"
)


class Bad(Exception):
    """One unusable value. ``meant`` is the suggestion; ``line`` 0 means the line of the value being read."""

    def __init__(self, message: str, *, meant: str | None = None, line: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.meant = meant
        self.line = line


class Report:
    """Collects problems of one file (``source`` as the user named it) and of the environment beside it."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._found: dict[tuple[int, str], None] = {}
        self._hidden: list[str] = []

    def hide(self, value: str) -> None:
        """Never show this value, whatever message it gets into: it came from the environment."""
        if len(value) >= _WORTH_HIDING and value not in self._hidden:
            self._hidden += [value, value[: _SHOWN - 1]] if len(value) >= _SHOWN else [value]

    def add(self, line: int, message: str, *, meant: str | None = None) -> None:
        """A problem at a line of the file (from 1); the same words are kept once."""
        self._keep(line, f"{self.source}:{line}: {message}{_did_you_mean(meant)}")

    def add_outside(self, place: str, message: str, *, meant: str | None = None) -> None:
        """A problem of an environment variable or a command line option; ``place`` names it."""
        self._keep(0, f"{place}: {message}{_did_you_mean(meant)}")

    def _keep(self, line: int, text: str) -> None:
        self._found[line, text] = None
        if len(self._found) >= _MOST:
            # Whatever else is wrong with a file like this, nobody reads on; and reading stays short.
            raise ConfigError([*self.problems, f"{self.source}: reading ended after {_MOST} problems"])

    @property
    def problems(self) -> list[str]:
        return [self._scrubbed(text) for _, text in sorted(self._found, key=lambda entry: entry[0])]

    def _scrubbed(self, text: str) -> str:
        for value in self._hidden:
            text = text.replace(value, "(not shown)")
        return text

    def raise_if_any(self) -> None:
        """Raises ConfigError with every problem, in the order of the file."""
        if self._found:
            raise ConfigError(self.problems)


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known name a mistyped word is likely to mean; None when nothing is near."""
    names = list(known)
    folded = {name.lower().replace("-", "_"): name for name in names}
    wanted = word.lower().replace("-", "_")[:100]
    near = get_close_matches(wanted, folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else None


def shown(text: str) -> str:
    """A piece of the file as an error may repeat it: quoted, cut, and hidden where it might be a
    credential."""
    if _SECRET_LIKE.search(text):
        return "(a value not shown here)"
    cut = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    return '"' + "".join(char if char.isprintable() else "?" for char in cut) + '"'


def _did_you_mean(meant: str | None) -> str:
    return f'; did you mean "{meant}"?' if meant else ""
