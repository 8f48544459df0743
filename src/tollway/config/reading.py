"""Typed reading of a marked tree: a ``Table`` hands out settings by name and then names the keys nobody asked
for.

A reader takes a node and returns a value or raises ``Bad``; problems are collected, so one run shows them
all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar
from urllib.parse import urlsplit

from tollway.config import units
from tollway.config.report import Bad, Report, closest, shown
from tollway.config.yaml_marks import Mapping, Node, Plain, Scalar, Sequence, core_value
from tollway.model.secret import Secret

T = TypeVar("T")
D = TypeVar("D")
Reader = Callable[[Node, Report], T]


class Table:
    """One mapping of the file. ``place`` is what messages call it (``server``, ``key ci``; empty: the
    top)."""

    def __init__(self, node: Node | None, report: Report, place: str) -> None:
        self.report = report
        self.place = place
        self.line = node.line if node is not None else 1
        self._asked: dict[str, None] = {}
        self._node = node if isinstance(node, Mapping) else None
        if node is not None and self._node is None and not is_null(node):
            report.add(node.line, f"{place or 'the file'} must hold settings, each written `name: value`")

    def has(self, key: str) -> bool:
        return self.node(key) is not None

    def node(self, key: str) -> Node | None:
        """What stands under a key, unread; None when it is absent or null."""
        self._asked[key] = None
        found = self._node.entries.get(key) if self._node is not None else None
        return None if found is None or is_null(found) else found

    def line_of(self, key: str) -> int:
        return self._node.lines.get(key, self.line) if self._node is not None else self.line

    def get(self, key: str, read: Reader[T], default: D) -> T | D:
        """The setting, or ``default`` where it is absent, null, or wrong (which is then reported)."""
        node = self.node(key)
        if node is None:
            return default
        try:
            return read(node, self.report)
        except Bad as bad:
            self.report.add(bad.line or node.line, f"{self.name_of(key)}: {bad.message}", meant=bad.meant)
            return default

    def name_of(self, key: str) -> str:
        return f"{self.place}: {key}" if " " in self.place else f"{self.place}.{key}" if self.place else key

    def entries(self) -> list[tuple[str, Node]]:
        """Every entry, for mappings whose keys are names the user chose."""
        return list(self._node.entries.items()) if self._node is not None else []

    def names_in(self, key: str) -> list[str]:
        """The names a section declares, whether or not what stands under them is right."""
        node = self.node(key)
        return list(node.entries) if isinstance(node, Mapping) else []

    def refuse(self, key: str, why: str) -> None:
        """Report a key that is known, but not to this version."""
        if self.has(key):
            self.report.add(self.line_of(key), f"{self.name_of(key)}: {why}")

    def finish(self) -> None:
        """Report every key that was never asked for."""
        for key, _ in self.entries():
            if key not in self._asked:
                inside = f" in {self.place}" if self.place else ""
                self.report.add(
                    self.line_of(key),
                    f"unknown setting {shown(key)}{inside}",
                    meant=closest(key, self._asked),
                )


def is_null(node: Node) -> bool:
    """Absent for all purposes: null, or a variable that turned out empty."""
    return isinstance(node, Scalar) and (node.value is None or (bool(node.variables) and not node.text))


def text_of(node: Node) -> str:
    """The scalar as written; a number keeps its digits (``4.10``). Collections, true and false are not
    text."""
    if not isinstance(node, Scalar):
        raise Bad("expected text, not a list or a group of settings")
    if isinstance(node.value, bool):
        raise Bad(f'expected text; write "{node.text}" in quotes if you mean the word')
    return node.text


def told(node: Node, part: str | None = None) -> str:
    """The value, or a part of it, as a message may show it: never what a variable held."""
    if not isinstance(node, Scalar) or node.variables:
        return "this value"
    return shown(node.text if part is None else part)


def near(node: Node, word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, for words that stand in the file itself."""
    return None if isinstance(node, Scalar) and node.variables else closest(word, known)


def _plain(node: Node) -> Plain:
    if not isinstance(node, Scalar):
        raise Bad("expected one value, not a list or a group of settings")
    return core_value(node.text.strip()) if node.variables else node.value


def text(node: Node, _: Report) -> str:
    found = text_of(node)
    if not found.strip():
        raise Bad("must not be empty")
    return found


def name(node: Node, _: Report) -> str:
    return checked_name(text_of(node))


def checked_name(found: str) -> str:
    """A name people use in requests and reports: no blanks or control characters, at most 200 characters."""
    if not found or len(found) > 200 or not found.isprintable() or any(char.isspace() for char in found):
        raise Bad(f"{shown(found)} is no usable name (1 to 200 characters, without blanks)")
    return found


def label(node: Node, _: Report) -> str:
    """A team, user, customer or tag: 1 to 200 printable characters; blanks may stand inside."""
    found = text_of(node).strip()
    if not 1 <= len(found) <= 200 or not found.isprintable():
        raise Bad("expected 1 to 200 printable characters")
    return found


def secret(node: Node, _: Report) -> Secret:
    """A credential: visible ASCII, because it travels in a header."""
    found = text_of(node).strip()
    if not found:
        raise Bad("the credential is empty")
    if not found.isascii() or not found.isprintable() or " " in found:
        raise Bad("a credential holds visible ASCII characters only")
    return Secret(found)


def header_value(node: Node, _: Report) -> Secret:
    found = text_of(node).strip()
    if not found.isascii() or not found.isprintable():
        raise Bad("a header's value holds printable ASCII characters only")
    return Secret(found)


def boolean(node: Node, _: Report) -> bool:
    value = _plain(node)
    if not isinstance(value, bool):
        raise Bad(f"expected true or false, not {told(node)}")
    return value


def integer(low: int, high: int) -> Reader[int]:
    def read(node: Node, _: Report) -> int:
        value = _plain(node)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Bad(f"expected a whole number from {low} to {high}, not {told(node)}")
        return value

    return read


def choice(*allowed: T) -> Reader[T]:
    """One of a few words."""

    def read(node: Node, _: Report) -> T:
        found = text_of(node)
        for word in allowed:
            if word == found:
                return word
        words = [str(word) for word in allowed]
        raise Bad(f"expected {' or '.join(words)}, not {told(node)}", meant=near(node, found, words))

    return read


def duration(node: Node, _: Report) -> float:
    """Seconds, more than none."""
    seconds = _measured(units.duration, node)
    if seconds <= 0:
        raise Bad("must be longer than nothing")
    return seconds


def any_duration(node: Node, _: Report) -> float:
    """Seconds; zero is allowed."""
    return _measured(units.duration, node)


def size(low: int, high: int) -> Reader[int]:
    def read(node: Node, _: Report) -> int:
        found = _measured(units.size, node)
        if not low <= found <= high:
            raise Bad(f"expected a size from {low} to {high} bytes")
        return found

    return read


def dollars(node: Node, _: Report) -> int:
    """USD to nano-dollars, read from the digits as written."""
    return _measured(units.dollars, node)


def period(node: Node, _: Report) -> str:
    return _measured(units.period, node)


def _measured(measure: Callable[[str], T], node: Node) -> T:
    try:
        return measure(text_of(node))
    except ValueError as error:
        raise Bad(f"{error}, not {told(node)}") from None


def url(*schemes: str) -> Reader[str]:
    """An absolute URL without credentials, query or fragment; a slash at its end is dropped."""

    def read(node: Node, _: Report) -> str:
        found = text_of(node).strip()
        try:
            parts = urlsplit(found)
            port = parts.port
        except ValueError:
            raise Bad("is not a URL") from None
        if (
            parts.scheme not in schemes
            or not parts.hostname
            or port == 0
            or any(char.isspace() for char in found)
        ):
            raise Bad(f"expected a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        if parts.query or parts.fragment:
            raise Bad("the URL must not have a query or a fragment")
        if parts.username is not None or parts.password is not None:
            raise Bad("the URL must not hold credentials")
        return found.rstrip("/")

    return read


def many(read: Reader[T], what: str) -> Reader[tuple[T, ...]]:
    """A list whose items are read one by one (each wrong one is reported); a single item may stand alone."""

    def read_all(node: Node, report: Report) -> tuple[T, ...]:
        items = node.items if isinstance(node, Sequence) else (node,)
        found: list[T] = []
        for item in items:
            try:
                if is_null(item):
                    raise Bad("an item of the list is empty")
                found.append(read(item, report))
            except Bad as bad:
                report.add(bad.line or item.line, f"{what}: {bad.message}", meant=bad.meant)
        return tuple(found)

    return read_all
