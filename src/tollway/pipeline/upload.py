"""A request's body on its way from the client to the provider, never whole in memory.

``HeldForm`` reads a multipart form until the fields that decide where it goes are known; what came before them waits in
memory, then in a file without a name. ``Upload`` then hands all of it on, with one field's value exchanged.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from tollway.errors import BadRequest, StoreUnavailable
from tollway.wire.multipart import Field, Form, boundary, content_type

IN_MEMORY = 1024 * 1024
PIECE = 256 * 1024


class Incoming(Protocol):
    """A request's body as the door gives it. ``length`` None: sent in chunks."""

    length: int | None

    async def read(self) -> bytes:
        """The next piece, empty at the end. Raises RequestTimeout, RequestTooLarge; CancelledError once the client has
        left."""


class Spill:
    """What has to wait, in order: in memory up to a size, beyond it in a nameless file of ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._items: list[bytes | int | Field] = []
        self._size = 0
        self._file: IO[bytes] | None = None

    async def add(self, item: bytes | Field) -> None:
        """Raises StoreUnavailable where there is no room."""
        if isinstance(item, Field):
            self._items.append(item)
            return
        self._size += len(item)
        if self._file is None and self._size <= IN_MEMORY:
            self._items.append(item)
            return
        try:
            await asyncio.to_thread(self._write, item)
        except OSError as error:
            raise StoreUnavailable(
                f"The upload cannot be kept meanwhile: {error.strerror or error}."
            ) from error

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - closed with us
        done = 0
        while done < len(data):
            done += self._file.write(data[done:])
        if self._items and isinstance(self._items[-1], int):
            self._items[-1] += len(data)
        else:
            self._items.append(len(data))

    def replay(self) -> Iterator[bytes | Field]:
        """Everything, from the beginning. Reads the file in pieces, on the loop: it was written a moment ago."""
        if self._file is not None:
            self._file.seek(0)
        for item in self._items:
            if not isinstance(item, int):
                yield item
                continue
            assert self._file is not None
            left = item
            while left:
                data = self._file.read(min(left, PIECE))
                if not data:
                    raise StoreUnavailable("What was kept of the upload cannot be read again.")
                left -= len(data)
                yield data

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
        self._items.clear()


class HeldForm:
    """A form that is read as far as is needed. ``held`` are the fields whose value may be exchanged."""

    def __init__(self, incoming: Incoming, kind: bytes, folder: Path, held: frozenset[str]) -> None:
        mark = boundary(kind)
        if mark is None:
            raise BadRequest("This path takes multipart/form-data.")
        self.mark = mark
        self.form = Form(mark, held)
        self._incoming = incoming
        self._spill = Spill(folder)
        self._ended = False

    @property
    def length(self) -> int | None:
        return self._incoming.length

    @property
    def content_type(self) -> bytes:
        return content_type(self.mark)

    async def until(self, names: Collection[str]) -> dict[str, str]:
        """Read on until each of these fields is known, or the form has ended. Returns every field read."""
        while not self._ended and any(name not in self.form.fields for name in names):
            for item in await self.more():
                await self._spill.add(item)
        return self.form.fields

    async def more(self) -> list[bytes | Field]:
        """What comes next; nothing once the form has ended. Raises Malformed."""
        if self._ended:
            return []
        data = await self._incoming.read()
        if not data:
            self._ended = True
            self.form.finish()
            return []
        return self.form.feed(data)

    @property
    def ended(self) -> bool:
        return self._ended

    def replay(self) -> Iterator[bytes | Field]:
        return self._spill.replay()

    def close(self) -> None:
        self._spill.close()

    def uploaded(self) -> int:
        """Bytes of files read so far."""
        return sum(file.size for file in self.form.files)


class Upload:
    """A held form as a request's content: ``exchange`` are the values to write in place of the client's."""

    def __init__(self, form: HeldForm, exchange: dict[str, str]) -> None:
        self.begun = False
        self.ended = False
        self._form = form
        self._exchange = exchange
        self._before: Iterator[bytes | Field] | None = None
        self._written = 0
        self.length = form.length
        if self.length is not None:
            for name, value in exchange.items():
                if name not in form.form.fields:
                    raise BadRequest(f"The request names no {name}.", param=name)
                self.length += len(value.encode()) - len(form.form.fields[name].encode())

    async def read(self) -> bytes:
        self.begun = True
        if self._before is None:
            self._before = self._form.replay()
        for item in self._before:
            if data := self._bytes(item):
                self._written += len(data)
                return data
        while not self._form.ended:
            items = await self._form.more()
            data = b"".join([self._bytes(item) for item in items])
            if data:
                self._written += len(data)
                return data
        self.ended = True
        if self.length is not None and self._written != self.length:
            raise BadRequest("The request's body is not as long as its content-length says.")
        return b""

    def _bytes(self, item: bytes | Field) -> bytes:
        if isinstance(item, bytes):
            return item
        return self._exchange.get(item.name, item.value).encode()


class Kept:
    """A file of ours as a request's content, between what goes before and behind it."""

    def __init__(self, before: bytes, file: IO[bytes], size: int, behind: bytes) -> None:
        self.length = len(before) + size + len(behind)
        self.begun = False
        self._file = file
        self._before = before
        self._behind = behind

    async def read(self) -> bytes:
        if not self.begun:
            self.begun = True
            self._file.seek(0)
            return self._before
        data = await asyncio.to_thread(self._file.read, PIECE)
        if not data:
            data, self._behind = self._behind, b""
        return data
