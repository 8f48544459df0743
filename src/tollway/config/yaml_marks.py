"""YAML (and JSON, which is YAML) as a tree that remembers its lines, in the 1.2 core schema: ``no`` and
``on`` are text.

Built from parser events rather than by the library's composer, so that depth, size and aliases are bounded
and duplicate keys are seen. Variables such as ``${NAME}`` are kept as written: ``environment.py`` fills them
in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from tollway.config.report import Bad, Report, shown

MAX_BYTES = 4 * 1024 * 1024
MAX_NODES = 200_000
MAX_DEPTH = 40

Plain = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Scalar:
    """``value`` by the core schema, ``text`` as written (numbers keep every digit). ``variables`` is set once
    a variable was filled in: such a value has no type of its own and must never be repeated in a message."""

    line: int
    value: Plain
    text: str
    variables: str = ""
    size: int = 1


@dataclass(frozen=True, slots=True)
class Sequence:
    line: int
    items: tuple[Node, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Mapping:
    """``lines`` holds the line of each key, which is where a problem with the key belongs."""

    line: int
    entries: dict[str, Node]
    lines: dict[str, int]
    size: int


Node = Scalar | Sequence | Mapping

EMPTY = Mapping(1, {}, {}, 1)

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]{1,40}\Z")
_OCTAL = re.compile(r"0o[0-7]{1,40}\Z")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,40}\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?\Z")
_INFINITE = re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z")

# ``{`` ends an unquoted value inside ``{…}``, so ``{api_key: ${KEY}}`` is not YAML as it stands. A reference
# is therefore taken out before parsing and put back into the finished text: what it holds can never be
# structure.
_REFERENCE = re.compile(r"\$?\$\{[^{}\n\r]*\}")
_OPEN, _CLOSE = "\ue000", "\ue001"
_PLACEHOLDER = re.compile(f"{_OPEN}([0-9]{{1,7}}){_CLOSE}")


def parse(data: bytes, report: Report) -> Node | None:
    """The document in ``data``. Problems go to ``report``; None when there is nothing to read on with."""
    if len(data) > MAX_BYTES:
        report.add(
            1, f"the file is larger than {MAX_BYTES // (1024 * 1024)} MiB, which no configuration needs"
        )
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        report.add(data.count(b"\n", 0, error.start) + 1, "the file is not UTF-8 text")
        return None
    if _OPEN in text or _CLOSE in text:
        place = min(text.find(mark) for mark in (_OPEN, _CLOSE) if mark in text)
        report.add(
            text.count("\n", 0, place) + 1, "a character of Unicode's private use area is not accepted"
        )
        return None
    references: list[str] = []

    def take(match: re.Match[str]) -> str:
        references.append(match.group())
        return f"{_OPEN}{len(references) - 1}{_CLOSE}"

    builder = _Builder(_REFERENCE.sub(take, text), references, report)
    try:
        return builder.document()
    except Bad as bad:
        report.add(bad.line, bad.message, meant=bad.meant)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        told = ", ".join(part for part in (error.context, error.problem) if part)
        line = text.splitlines()[mark.line : mark.line + 1] if mark else []
        if line and line[0].lstrip(" ").startswith("\t"):
            told = "a line begins with a tab; YAML is indented with blanks"
        report.add(mark.line + 1 if mark else 1, f"not valid YAML: {told}")
    except yaml.YAMLError as error:
        report.add(1, f"not valid YAML: {getattr(error, 'reason', None) or 'unreadable'}")
    return None


def core_value(text: str) -> Plain:
    """What an unquoted scalar means in YAML 1.2's core schema. Absurdly long numbers stay text."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.match(text):
        return int(text)
    if _OCTAL.match(text) or _HEX.match(text):
        return int(text, 0)
    if _INFINITE.match(text):
        return float(text.replace(".", "").lower())
    if len(text) <= 100 and _FLOAT.match(text):
        return float(text)
    return text


@dataclass(slots=True)
class _Open:
    """A collection whose end has not been read yet. ``key`` waits for its value."""

    line: int
    anchor: str | None
    is_mapping: bool
    items: list[Node] = field(default_factory=list)
    entries: dict[str, Node] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    merges: list[tuple[int, Node]] = field(default_factory=list)
    key: tuple[str, int] | None = None


class _Builder:
    """Turns parser events into one document; its state is the stack of open collections and the anchors
    seen."""

    def __init__(self, text: str, references: list[str], report: Report) -> None:
        self._text = text
        self._references = references
        self._report = report
        self._anchors: dict[str, Node] = {}
        self._stack: list[_Open] = []
        self._root: Node | None = None

    def document(self) -> Node:
        documents = 0
        for event in self._events():
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise Bad("a second document starts here; a configuration is one document", line=line)
            elif isinstance(event, yaml.ScalarEvent):
                self._place(self._scalar(event, line), event.anchor)
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor not in self._anchors:
                    raise Bad(f"alias *{event.anchor} names no anchor finished above it", line=line)
                self._place(self._anchors[event.anchor], None, line=line)
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                if len(self._stack) >= MAX_DEPTH:
                    raise Bad(f"nested deeper than {MAX_DEPTH} levels", line=line)
                is_mapping = isinstance(event, yaml.MappingStartEvent)
                kind = "map" if is_mapping else "seq"
                if event.tag not in (None, "!", f"tag:yaml.org,2002:{kind}"):
                    raise Bad("YAML tags are not used in a configuration", line=line)
                self._stack.append(_Open(line, event.anchor, is_mapping))
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                closed = self._stack.pop()
                self._place(self._finished(closed), closed.anchor)
        return EMPTY if self._root is None else self._root

    def _events(self) -> Iterator[yaml.Event]:
        loader = yaml.CSafeLoader(self._text)
        try:
            while (event := loader.get_event()) is not None:
                yield event
        finally:
            loader.dispose()

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> Scalar:
        text = _PLACEHOLDER.sub(self._put_back, event.value)
        if event.tag in (None, "!") and event.implicit[0]:
            return Scalar(line, core_value(text), text)
        if event.tag in (None, "!", "tag:yaml.org,2002:str"):
            return Scalar(line, text, text)
        raise Bad("YAML tags are not used in a configuration", line=line)

    def _put_back(self, match: re.Match[str]) -> str:
        index = int(match.group(1))
        return self._references[index] if index < len(self._references) else match.group()

    def _place(self, node: Node, anchor: str | None, *, line: int = 0) -> None:
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._stack:
            self._root = node
            return
        parent = self._stack[-1]
        if not parent.is_mapping:
            parent.items.append(node)
        elif parent.key is None:
            if not isinstance(node, Scalar):
                raise Bad("a key must be a single word", line=line or node.line)
            parent.key = (node.text, line or node.line)
        else:
            (key, key_line), parent.key = parent.key, None
            if key == "<<":
                parent.merges.append((key_line, node))
            elif key in parent.entries:
                self._report.add(key_line, f"{shown(key)} is given twice (first on line {parent.lines[key]})")
            else:
                parent.entries[key] = node
                parent.lines[key] = key_line

    def _finished(self, closed: _Open) -> Node:
        if not closed.is_mapping:
            size = 1 + sum(item.size for item in closed.items)
            self._bound(size, closed.line)
            return Sequence(closed.line, tuple(closed.items), size)
        for line, node in closed.merges:
            for source in node.items if isinstance(node, Sequence) else (node,):
                if not isinstance(source, Mapping):
                    raise Bad("<< merges mappings only", line=line)
                for key, value in source.entries.items():
                    closed.entries.setdefault(key, value)
                    closed.lines.setdefault(key, source.lines[key])
        size = 1 + sum(1 + value.size for value in closed.entries.values())
        self._bound(size, closed.line)
        return Mapping(closed.line, closed.entries, closed.lines, size)

    def _bound(self, size: int, line: int) -> None:
        # A few aliases of aliases can stand for billions of values; the tree is shared, so it is enough to
        # count.
        if size > MAX_NODES:
            raise Bad(f"expands to more than {MAX_NODES} values", line=line)
