"""Function arguments that Vertex AI streams as ``partialArgs``: a JSON path and a piece of the value there, put
together to one object. Source: ``FunctionCall`` and ``PartialArg`` of the Vertex AI API reference.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TypeAlias

import msgspec
from msgspec import Raw

from tollway.wire.formats.gemini_generate.shapes import FunctionCall, PartialArg, given

Json: TypeAlias = "dict[str, Json] | list[Json] | str | bool | Raw | None"

_STEP = re.compile(r"""\.([^.\[\]]+)|\[(\d{1,6})\]|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]""")
_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
MOST_STEPS = 100
MOST_ITEMS = 10_000
"""The longest list a path may build: an index beyond it is a mistake, or an attack."""


class PartialArguments:
    """One call whose arguments are still coming."""

    __slots__ = ("_root", "id", "name", "signature")

    def __init__(self) -> None:
        self.id: str | None = None
        self.name: str | None = None
        self.signature: str | None = None
        self._root: dict[str, Json] = {}

    def take(self, call: FunctionCall, signature: str | None) -> None:
        self.id = self.id or call.id
        self.name = self.name or call.name
        self.signature = self.signature or signature
        if given(call.args):
            self._root.update(_fields(call.args))
        for piece in call.partial_args or ():
            self._set(_steps(piece.json_path), piece)

    def arguments(self) -> str:
        return _encode(self._root).decode()

    def _set(self, steps: list[str | int], piece: PartialArg) -> None:
        if not steps or len(steps) > MOST_STEPS:
            return
        place: Json = self._root
        for step, following in pairwise(steps):
            fresh: Json = [] if isinstance(following, int) else {}
            inner = _get(place, step)
            if not isinstance(inner, dict | list):
                inner = fresh
                _put(place, step, inner)
            place = inner
        if piece.string_value is not None:
            before = _get(place, steps[-1])
            _put(place, steps[-1], (before if isinstance(before, str) else "") + piece.string_value)
        elif given(piece.number_value):
            _put(place, steps[-1], piece.number_value)
        elif piece.bool_value is not None:
            _put(place, steps[-1], piece.bool_value)
        elif given(piece.null_value):
            _put(place, steps[-1], None)


def _steps(path: str) -> list[str | int]:
    steps: list[str | int] = []
    for match in _STEP.finditer(path):
        name = match[1] or match[3] or match[4]
        if match[2] is not None:
            steps.append(int(match[2]))
        elif name is not None:
            steps.append(re.sub(r"\\(.)", r"\1", name))
    return steps


def _get(place: Json, step: str | int) -> Json:
    if isinstance(place, dict) and isinstance(step, str):
        return place.get(step)
    if isinstance(place, list) and isinstance(step, int) and step < len(place):
        return place[step]
    return None


def _put(place: Json, step: str | int, value: Json) -> None:
    if isinstance(place, dict):
        place[str(step)] = value
    elif isinstance(place, list) and isinstance(step, int) and step < MOST_ITEMS:
        place.extend([None] * (step + 1 - len(place)))
        place[step] = value
