"""multipart/form-data read as it arrives (RFC 7578): small parts are kept, of large ones the size and SHA-256.

It holds at most one boundary's length of what it has not understood yet, so a body of any size costs nothing.
"""

from __future__ import annotations

import hashlib
import re

from msgspec import Struct, field

KEPT = 1024 * 1024
"""A part above this size is not kept; only its size and hash are known."""

KEPT_IN_ALL = 8 * KEPT
"""What the parts of one form may hold together; those behind it are not kept either."""

LARGEST_HEAD = 16 * 1024
MOST_PARTS = 1_000


class Part(Struct):
    """``content`` is None for a part that was too large to keep; ``digest`` is its SHA-256 in hexadecimal."""

    name: str
    filename: str | None
    content_type: str
    size: int = 0
    content: bytes | None = b""
    digest: str = ""

    @property
    def text(self) -> str:
        return (self.content or b"").decode("utf-8", "replace")


class Form(Struct):
    """The parts in their order. ``broken`` says what is wrong with the body, None where nothing is."""

    parts: list[Part] = field(default_factory=list)
    broken: str | None = None

    def field(self, name: str) -> str | None:
        """The text of the first part of that name which is not a file, or None."""
        return next((one.text for one in self.parts if one.name == name and one.filename is None), None)

    def fields(self, name: str) -> list[str]:
        return [one.text for one in self.parts if one.name == name and one.filename is None]

    def file(self, *names: str) -> Part | None:
        """The first file of one of those names, or None."""
        return next((one for one in self.parts if one.name in names and one.filename is not None), None)

    def files(self, *names: str) -> list[Part]:
        return [one for one in self.parts if one.name in names and one.filename is not None]


_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_PARAMETER = re.compile(r';\s*([\w*-]+)=(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))')


def boundary(content_type: bytes) -> bytes | None:
    """The boundary of a multipart/form-data content type, or None where it is no such type."""
    text = content_type.decode("latin-1")
    if not text.lower().startswith("multipart/form-data"):
        return None
    found = _BOUNDARY.search(text)
    return b"" if found is None else (found[1] or found[2]).encode("latin-1")


class Reader:
    """``feed`` any pieces, then ``finish``. It never raises: what is wrong is said in the form."""

    def __init__(self, mark: bytes) -> None:
        self._mark = b"\r\n--" + mark
        # The first boundary needs no line end before it.
        self._held = bytearray(b"\r\n")
        self._form = Form() if mark else Form(broken="Missing boundary in multipart content type.")
        self._part: Part | None = None
        self._state = "content"
        self._kept: list[bytes] = []
        self._hash = hashlib.sha256()
        self._kept_before = 0

    def feed(self, data: bytes) -> None:
        if self._form.broken is not None or self._state == "done":
            return
        self._held += data
        while self._step():
            pass

    def finish(self) -> Form:
        if self._form.broken is None and self._state != "done":
            self._form.broken = "The multipart body ended before its last boundary."
        return self._form

    def _step(self) -> bool:
        """Read on by one unit; whether another may follow."""
        if self._state == "content":
            return self._content()
        if self._state == "mark":
            return self._after_mark()
        if self._state == "head":
            return self._head()
        return False

    def _content(self) -> bool:
        at = self._held.find(self._mark)
        if at < 0:
            safe = len(self._held) - len(self._mark) + 1
            if safe > 0:
                self._keep(bytes(self._held[:safe]))
                del self._held[:safe]
            return False
        self._keep(bytes(self._held[:at]))
        del self._held[: at + len(self._mark)]
        self._close()
        self._state = "mark"
        return True

    def _after_mark(self) -> bool:
        if len(self._held) < 2:
            return False
        if self._held.startswith(b"--"):
            self._state = "done"
            self._held.clear()
            return False
        end = self._held.find(b"\r\n")
        if end < 0:
            if len(self._held) > 100:
                self._form.broken = "A multipart boundary is followed by neither a line end nor '--'."
            return False
        # What stands between may only be padding.
        del self._held[:end]
        self._state = "head"
        return True

    def _head(self) -> bool:
        end = self._held.find(b"\r\n\r\n")
        if end < 0:
            if len(self._held) > LARGEST_HEAD:
                self._form.broken = "The headers of a multipart part are too large."
            return False
        lines = bytes(self._held[:end]).decode("utf-8", "replace").split("\r\n")
        del self._held[: end + 4]
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        said = {
            found[1].lower(): _unquoted(found[2]) if found[2] is not None else found[3]
            for found in _PARAMETER.finditer(headers.get("content-disposition", ""))
        }
        if "name" not in said:
            self._form.broken = "A multipart part has no name."
            return False
        if len(self._form.parts) >= MOST_PARTS:
            self._form.broken = f"The multipart body has more than {MOST_PARTS} parts."
            return False
        self._part = Part(said["name"], said.get("filename"), headers.get("content-type", "text/plain"))
        self._kept = []
        self._hash = hashlib.sha256()
        self._state = "content"
        # A part without content ends at once: its boundary needs the line end that closed the head.
        self._held[:0] = b"\r\n"
        self._part.size = -2
        return True

    def _keep(self, data: bytes) -> None:
        part = self._part
        if part is None or not data:
            return
        if part.size < 0:
            # The borrowed line end of _head is not content.
            skipped = min(-part.size, len(data))
            part.size += skipped
            data = data[skipped:]
            if not data:
                return
        part.size += len(data)
        self._hash.update(data)
        if part.size <= min(KEPT, KEPT_IN_ALL - self._kept_before):
            self._kept.append(data)
        else:
            self._kept = []
            part.content = None

    def _close(self) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        part.size = max(part.size, 0)
        if part.content is not None:
            part.content = b"".join(self._kept)
            self._kept_before += len(part.content)
        part.digest = self._hash.hexdigest()
        self._form.parts.append(part)


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
