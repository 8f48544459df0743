"""The closed vocabulary for what a provider wants different in a request body of the common format.

A quirk sees only the top level of a body, a dict of undecoded JSON values, and that of its messages. It does not
translate between formats; what these words cannot say is a codec's work. A catalogue file writes one as
``{rename = "a", to = "b"}``.
"""

from __future__ import annotations

import hashlib
import string
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


class Strip(Quirk, frozen=True, kw_only=True):
    """``{strip = "messages", names = ["reasoning_content"]}``: fields of messages the provider refuses there."""

    names: tuple[str, ...]

    def change(self, body: Body) -> None:
        raw = body.get(self.field)
        if raw is None or not any(name.encode() in bytes(raw) for name in self.names):
            return
        messages = _messages(body, self.field)
        if messages is None or not any(name in message for name in self.names for message in messages):
            return
        body[self.field] = _encoded(
            [{name: raw for name, raw in one.items() if name not in self.names} for one in messages]
        )


class Ids(Quirk, frozen=True, kw_only=True):
    """``{ids = "messages", length = 9}``: ids of tool calls must be that many letters and digits. One that is not
    becomes a digest of itself, in the call and in its result alike; one the provider gave out stays."""

    length: int

    def change(self, body: Body) -> None:
        raw = body.get(self.field)
        if raw is None or b"tool_call" not in bytes(raw):
            return
        messages = _messages(body, self.field)
        if messages is None:
            return
        changed = False
        for message in messages:
            calls = _calls(message.get("tool_calls"))
            exchanged = [self._exchange(call, "id") for call in calls or ()]
            if any(exchanged):
                message["tool_calls"] = _encoded(calls)
                changed = True
            changed = self._exchange(message, "tool_call_id") or changed
        if changed:
            body[self.field] = _encoded(messages)

    def _exchange(self, fields: Body, name: str) -> bool:
        id = _scalar(fields[name]) if name in fields else None
        if not isinstance(id, str) or (len(id) == self.length and id.isascii() and id.isalnum()):
            return False
        fields[name] = _encoded(_alphanumeric(id, self.length))
        return True


AnyQuirk = Drop | Rename | Clamp | Set | Map | Role | Flatten | Strip | Ids
WORDS: Final = ("drop", "rename", "clamp", "set", "map", "role", "flatten", "strip", "ids")


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


def _calls(value: Raw | None) -> list[Body] | None:
    if value is None:
        return None
    try:
        return _decode_messages(value)
    except (msgspec.DecodeError, RecursionError):
        return None


_LETTERS = string.digits + string.ascii_letters


def _alphanumeric(id: str, length: int) -> str:
    """The same for the same id, another for another: of 9 there are 13 quadrillion."""
    number = int.from_bytes(hashlib.sha256(id.encode("utf-8", "surrogatepass")).digest())
    made = ""
    for _ in range(length):
        number, rest = divmod(number, len(_LETTERS))
        made += _LETTERS[rest]
    return made


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
