"""multipart/form-data as it passes (RFC 7578): parts are told apart and small fields read while every byte goes on.

Strict where parsers differ, because what is judged here must be what the provider reads: whatever could be taken for
another part, another name or another value is refused. Sans-I/O; a body of any size costs one boundary's length.
"""

from __future__ import annotations

import re

from msgspec import Struct

from tollway.errors import BadRequest

MAX_HEAD = 16 * 1024
MAX_PARTS = 1_000
MAX_FIELD = 256 * 1024
"""Bytes kept of a field's value; a longer one that has to be read is refused, any other passes unread."""

MAX_KEPT = 2 * 1024 * 1024
"""What the fields of one form may hold together."""

BEGINNING = 64
"""Bytes kept of a file: enough for the header of a recording."""


class Malformed(BadRequest):
    """The body is not a form that every parser would read alike."""

    code = "invalid_multipart"


class Part(Struct):
    """What a part's head says, and of a file how much of it has passed."""

    name: str
    filename: str | None
    content_type: str
    size: int = 0
    beginning: bytes = b""


class Begin:
    """A part's delimiter and head. ``raw`` is what to pass on, here and below."""

    __slots__ = ("part", "raw")

    def __init__(self, part: Part, raw: bytes) -> None:
        self.part = part
        self.raw = raw


class Content:
    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        self.raw = raw


class End:
    """The last delimiter and what follows it."""

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        self.raw = raw


_BOUNDARY = re.compile(
    r"multipart/form-data\s*;\s*boundary=(?:\"([0-9A-Za-z'()+_,./:=? -]{1,70})\"|([0-9A-Za-z'()+_,./:=?-]{1,70}))"
    r"(?:\s*;\s*charset=\"?[\w-]+\"?)?\s*;?\s*",
    re.IGNORECASE,
)


def boundary(content_type: bytes) -> bytes | None:
    """The boundary of a multipart/form-data type, None for any other type. Raises Malformed without a plain one."""
    text = content_type.decode("latin-1").strip()
    if not text.lower().startswith("multipart/form-data"):
        return None
    found = _BOUNDARY.fullmatch(text)
    if found is None or (found[1] or found[2]).endswith(" "):
        raise Malformed("The multipart content type needs one boundary of at most 70 plain characters.")
    return (found[1] or found[2]).encode()


def content_type(mark: bytes) -> bytes:
    """The one way to say this boundary that nobody reads in two ways."""
    return b'multipart/form-data; boundary="%b"' % mark


class Scanner:
    """``feed`` any split of a body, then ``finish``. Both raise Malformed."""

    __slots__ = ("_dash", "_held", "_keep", "_parts", "_state", "_virtual")

    def __init__(self, mark: bytes) -> None:
        self._dash = b"--" + mark
        self._keep = len(self._dash) + 1
        # The first delimiter needs no line end before it: one is lent, and taken back from what is passed on.
        self._held = b"\r\n"
        self._virtual = 2
        self._parts = 0
        self._state = "preamble"

    def feed(self, data: bytes) -> list[Begin | Content | End]:
        if self._state == "done":
            self._held += data
            if self._held not in (b"", b"\r", b"\r\n"):
                raise Malformed("Something follows the last boundary of the multipart body.")
            return [End(data)]
        self._held = self._held + data if self._held else data
        found: list[Begin | Content | End] = []
        while self._step(found):
            pass
        return found

    def finish(self) -> None:
        if self._state != "done":
            raise Malformed("The multipart body ended before its last boundary.")

    def _step(self, found: list[Begin | Content | End]) -> bool:
        """Read on by one unit; whether another may follow."""
        if self._state in ("preamble", "content"):
            return self._content(found)
        return self._delimited(found)

    def _content(self, found: list[Begin | Content | End]) -> bool:
        held = self._held
        at = held.find(self._dash)
        if at >= 0 and (at < 2 or held[at - 2 : at] != b"\r\n"):
            raise Malformed("The boundary of the multipart body occurs within a part.")
        if self._state == "preamble" and (at > 2 or (at < 0 and not (b"\r\n" + self._dash).startswith(held))):
            raise Malformed("The multipart body does not begin with its boundary.")
        if at >= 0:
            if at > 2:
                found.append(Content(held[: at - 2]))
            self._held = held[at - 2 :]
            self._state = "delimiter"
            return True
        safe = len(held) - self._keep
        if safe > 0 and self._state == "content":
            found.append(Content(held[:safe]))
            self._held = held[safe:]
        return False

    def _delimited(self, found: list[Begin | Content | End]) -> bool:
        held = self._held
        after = len(self._dash) + 2
        if len(held) < after + 2:
            return False
        follows = held[after : after + 2]
        if follows == b"--":
            if not self._parts:
                raise Malformed("The multipart body has no parts.")
            rest = held[after + 2 :]
            if rest not in (b"", b"\r", b"\r\n"):
                raise Malformed("Something follows the last boundary of the multipart body.")
            found.append(End(held))
            self._held = rest
            self._state = "done"
            return False
        if follows != b"\r\n":
            raise Malformed("A multipart boundary is followed by neither a line end nor '--'.")
        end = held.find(b"\r\n\r\n", after)
        if end < 0 or end - after > MAX_HEAD:
            if len(held) - after > MAX_HEAD:
                raise Malformed(f"The headers of a multipart part are larger than {MAX_HEAD} bytes.")
            return False
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise Malformed(f"The multipart body has more than {MAX_PARTS} parts.")
        part = read_head(held[after + 2 : end])
        found.append(Begin(part, held[self._virtual : end + 4]))
        self._virtual = 0
        self._held = held[end + 4 :]
        self._state = "content"
        return True


_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_DISPOSITION = re.compile(
    r"form-data((?:[ \t]*;[ \t]*[A-Za-z*]+=(?:\"(?:[^\"\\]|\\.)*\"|[^\s;\"\\]+))*)[ \t]*;?[ \t]*",
    re.IGNORECASE,
)
_PARAMETER = re.compile(r";[ \t]*([A-Za-z*]+)=(?:\"((?:[^\"\\]|\\.)*)\"|([^\s;\"\\]+))")


def read_head(head: bytes) -> Part:
    """Raises Malformed for whatever two parsers could read differently."""
    try:
        lines = head.decode().split("\r\n")
    except UnicodeDecodeError:
        raise Malformed("The headers of a multipart part are not UTF-8.") from None
    headers: dict[str, str] = {}
    for line in lines:
        found = _LINE.fullmatch(line)
        if found is None or found[1].lower() in headers:
            raise Malformed("A multipart part has a header that is malformed or repeated.")
        headers[found[1].lower()] = found[2].strip()
    if headers.get("content-transfer-encoding", "binary").lower() not in ("binary", "8bit", "7bit"):
        raise Malformed("A multipart part is encoded; send it as it is (RFC 7578 section 4.7).")
    disposition = _DISPOSITION.fullmatch(headers.get("content-disposition", ""))
    if disposition is None:
        raise Malformed("A multipart part has no plain 'Content-Disposition: form-data; name=…'.")
    said: dict[str, str] = {}
    for one in _PARAMETER.finditer(disposition[1]):
        name = one[1].lower()
        if name in said or name not in ("name", "filename", "filename*"):
            raise Malformed(
                "A multipart part's Content-Disposition repeats a parameter or has an unknown one."
            )
        said[name] = one[2] if one[2] is not None else one[3]
    if "\\" in said.get("name", "\\"):
        raise Malformed("A multipart part has no plain name.")
    filename = said.get("filename", said.get("filename*"))
    return Part(said["name"], filename, headers.get("content-type", "text/plain"))


class Field(Struct, frozen=True):
    """The value of a field that was asked to be held: the caller decides which bytes stand in its place."""

    name: str
    value: str


class Form:
    """A form on its way: ``feed`` gives what to pass on, with a ``Field`` in the place of each held field's value.

    ``fields`` are the text fields read so far (of one given several times the first; ``repeated`` has its name),
    ``files`` the files in their order. A held field is given once at most.
    """

    def __init__(self, mark: bytes, held: frozenset[str]) -> None:
        self.fields: dict[str, str] = {}
        self.repeated: set[str] = set()
        self.files: list[Part] = []
        self.ended = False
        self._held = held
        self._scanner = Scanner(mark)
        self._part: Part | None = None
        self._value: list[bytes] | None = None
        self._size = 0
        self._kept = 0

    def feed(self, data: bytes) -> list[bytes | Field]:
        """Raises Malformed, and BadRequest for a held field that is too long, a file, or given twice."""
        out: list[bytes | Field] = []
        for piece in self._scanner.feed(data):
            if isinstance(piece, Content):
                self._content(piece.raw, out)
                continue
            self._close(out)
            out.append(piece.raw)
            if isinstance(piece, Begin):
                self._open(piece.part)
            else:
                self.ended = True
        return out

    def finish(self) -> None:
        self._scanner.finish()

    def _open(self, part: Part) -> None:
        self._part = part
        self._value = None
        self._size = 0
        if part.filename is None:
            self._value = []
        else:
            if part.name in self._held:
                raise BadRequest(f"'{part.name}' must be a plain field, not a file.", param=part.name)
            self.files.append(part)

    def _content(self, raw: bytes, out: list[bytes | Field]) -> None:
        part = self._part
        assert part is not None
        part.size += len(raw)
        if part.filename is not None and len(part.beginning) < BEGINNING:
            part.beginning = (part.beginning + raw)[:BEGINNING]
        held = part.name in self._held
        value = self._value
        if value is not None:
            self._size += len(raw)
            if self._size > MAX_FIELD or self._kept + self._size > MAX_KEPT:
                if held:
                    raise BadRequest(f"'{part.name}' is too long.", param=part.name)
                self._value = None
            else:
                value.append(raw)
        if not held:
            out.append(raw)

    def _close(self, out: list[bytes | Field]) -> None:
        part, self._part = self._part, None
        if part is None or self._value is None:
            return
        self._kept += self._size
        raw = b"".join(self._value)
        try:
            value = raw.decode()
        except UnicodeDecodeError:
            raise Malformed(f"The field {part.name!r} of the multipart body is not UTF-8.") from None
        again = part.name in self.fields
        if again:
            self.repeated.add(part.name)
        else:
            self.fields[part.name] = value
        if part.name in self._held:
            if again:
                raise BadRequest(
                    f"The request gives '{part.name}' more than once. Give it once.", param=part.name
                )
            out.append(Field(part.name, value))
