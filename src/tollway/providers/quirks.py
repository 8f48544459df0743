"""The closed vocabulary for what a provider wants different in a request body of the common format.

A quirk sees only the top level of a body, a dict of undecoded JSON values. It does not translate between
formats; what these words cannot say is a codec's work. A catalogue file writes one as ``{rename = "a", to =
"b"}``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Raw, Struct

Body = dict[str, Raw]


class Quirk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="word", tag=str.lower):
    """``field`` is the top-level name it is about, ``on`` the endpoints it applies to (empty: every one)."""

    field: str
    on: tuple[str, ...] = ()

    def change(self, body: Body) -> None:
        """Alter ``body`` in place. A value of an unexpected type is left for the provider to judge."""
        raise NotImplementedError


class Drop(Quirk, frozen=True, kw_only=True):
    """``{drop = "user"}``: the provider refuses the field, and the answer does not depend on it."""

    def change(self, body: Body) -> None:
        body.pop(self.field, None)


class Rename(Quirk, frozen=True, kw_only=True):
    """``{rename = "max_completion_tokens", to = "max_tokens"}``. Where the body has both names, ``to``
    wins."""

    to: str

    def change(self, body: Body) -> None:
        value = body.pop(self.field, None)
        if value is not None:
            body.setdefault(self.to, value)


class Clamp(Quirk, frozen=True, kw_only=True):
    """``{clamp = "temperature", min = 0, max = 1}``: a number outside the bounds becomes the nearest
    bound."""

    min: int | float | None = None
    max: int | float | None = None

    def change(self, body: Body) -> None:
        value = body.get(self.field)
        if value is None:
            return
        number = _scalar(value)
        if isinstance(number, bool) or not isinstance(number, int | float):
            return
        if self.min is not None and number < self.min:
            body[self.field] = _encoded(self.min)
        elif self.max is not None and number > self.max:
            body[self.field] = _encoded(self.max)


class Set(Quirk, frozen=True, kw_only=True):
    """``{set = "store", value = false}``: the value the provider is sent whatever the body says."""

    value: object

    def change(self, body: Body) -> None:
        body[self.field] = _encoded(self.value)


class Map(Quirk, frozen=True, kw_only=True):
    """``{map = "reasoning_effort", values = {minimal = "low"}}``: string values the provider calls otherwise.

    A field inside an object is not reached; a value that is not listed stays.
    """

    values: dict[str, str]

    def change(self, body: Body) -> None:
        value = body.get(self.field)
        if value is None:
            return
        text = _scalar(value)
        if isinstance(text, str) and text in self.values:
            body[self.field] = _encoded(self.values[text])


class Role(Quirk, frozen=True, kw_only=True):
    """``{role = "developer", to = "system"}``: messages of a role the provider does not know (``field`` is
    the role)."""

    to: str

    def change(self, body: Body) -> None:
        messages = _messages(body)
        if messages is None:
            return
        wanted, changed = _encoded(self.to), False
        for message in messages:
            if "role" in message and _scalar(message["role"]) == self.field:
                message["role"] = wanted
                changed = True
        if changed:
            body["messages"] = _encoded(messages)


class Flatten(Quirk, frozen=True, kw_only=True):
    """``{flatten = "messages"}``: message content given as a list of text parts only becomes one string.

    Parts are joined as they are. A list with anything but text in it (an image, a cache mark) stays a list.
    """

    def change(self, body: Body) -> None:
        messages = _messages(body, self.field)
        if messages is None:
            return
        changed = False
        for message in messages:
            text = _joined(message.get("content"))
            if text is not None:
                message["content"] = _encoded(text)
                changed = True
        if changed:
            body[self.field] = _encoded(messages)


AnyQuirk = Drop | Rename | Clamp | Set | Map | Role | Flatten
WORDS: Final = ("drop", "rename", "clamp", "set", "map", "role", "flatten")


def read_quirks(tables: Iterable[Mapping[str, object]]) -> tuple[Quirk, ...]:
    """Quirks from the tables of a catalogue file. ValueError names the table that is not one."""
    quirks: list[Quirk] = []
    for table in tables:
        words = [word for word in WORDS if word in table]
        if len(words) != 1:
            raise ValueError(f"a quirk begins with one of {', '.join(WORDS)}: {dict(table)!r}")
        rest = {key: value for key, value in table.items() if key != words[0]}
        try:
            quirk = msgspec.convert({"word": words[0], "field": table[words[0]], **rest}, AnyQuirk)
        except msgspec.ValidationError as error:
            raise ValueError(f"{error} in quirk {dict(table)!r}") from None
        quirks.append(quirk)
    return tuple(quirks)


def apply(quirks: tuple[Quirk, ...], body: Body) -> Body:
    """A copy of ``body`` with every quirk applied, in order."""
    changed = dict(body)
    for quirk in quirks:
        quirk.change(changed)
    return changed


_decode_messages = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_decode_parts = msgspec.json.Decoder(list[dict[str, object]]).decode


def _messages(body: Body, field: str = "messages") -> list[dict[str, Raw]] | None:
    value = body.get(field)
    if value is None:
        return None
    try:
        return _decode_messages(value)
    except (msgspec.DecodeError, RecursionError):
        return None


def _joined(content: Raw | None) -> str | None:
    """The text of a content list that holds nothing else, or None."""
    if content is None or not bytes(content).lstrip().startswith(b"["):
        return None
    try:
        parts = _decode_parts(content)
    except (msgspec.DecodeError, RecursionError):
        return None
    texts: list[str] = []
    for part in parts:
        text = part.get("text")
        if part.keys() != {"type", "text"} or part["type"] != "text" or not isinstance(text, str):
            return None
        texts.append(text)
    return "".join(texts)


def _scalar(value: Raw) -> object:
    """A string, number, true, false or null; None for an object or a list, which no word looks into."""
    text = bytes(value)
    return None if text.lstrip()[:1] in (b"{", b"[") else msgspec.json.decode(text)


def _encoded(value: object) -> Raw:
    return Raw(msgspec.json.encode(value))
