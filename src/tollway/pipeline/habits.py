"""How long answers usually are and how many tokens a byte of a request is, learned from what was metered, so that
holds fit. Kept over changes of the configuration; forgotten with the process.
"""

from __future__ import annotations

from typing import Final

from tollway.providers.headroom import Headroom

MOST: Final = 65_536
"""Keys and models remembered together; past that it starts again."""

ENOUGH: Final = 8
"""Answers after which a key's own habit at a model says more than the model's in general."""

FIRST_OUTPUT: Final = 160.0
FIRST_SHARE: Final = 0.25
PLAIN: Final = 65_536
"""Bodies beyond this may hold attachments, which are no text: they teach nothing of tokens a byte."""


class Habit:
    """Moving averages: ``output`` tokens of an answer, ``share`` of tokens a byte of the request's body."""

    __slots__ = ("output", "samples", "share")

    def __init__(self) -> None:
        self.output = FIRST_OUTPUT
        self.share = FIRST_SHARE
        self.samples = 0

    def learn(self, output: int, prompt: int, size: int) -> None:
        """``prompt`` tokens came of a body of ``size`` bytes; 0 where that is not known."""
        self.samples += 1
        self.output += 0.1 * (output - self.output)
        if 0 < prompt < size <= PLAIN:
            self.share += 0.1 * (prompt / size - self.share)


class Habits:
    """Of deployments by id, and of keys at models; and what deployments have room for."""

    __slots__ = ("_deployments", "_headrooms", "_keys")

    def __init__(self) -> None:
        self._headrooms: dict[str, Headroom] = {}
        self._deployments: dict[str, Habit] = {}
        self._keys: dict[tuple[str, str], Habit] = {}

    def of_deployment(self, id: str) -> Habit:
        found = self._deployments.get(id)
        if found is None:
            if len(self._deployments) >= MOST:
                self._deployments.clear()
            found = self._deployments[id] = Habit()
        return found

    def headroom(self, id: str) -> Headroom:
        """What is left of the provider's own limits at a deployment."""
        found = self._headrooms.get(id)
        if found is None:
            if len(self._headrooms) >= MOST:
                self._headrooms.clear()
            found = self._headrooms[id] = Headroom()
        return found

    def of_key(self, key: str, model: str) -> Habit:
        name = (key, model)
        found = self._keys.get(name)
        if found is None:
            if len(self._keys) >= MOST:
                self._keys.clear()
            found = self._keys[name] = Habit()
        return found
