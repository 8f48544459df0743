"""Tables as files: CSV, and Parquet where its library is installed. Written piece by piece, so that a table may be
larger than memory; what stands in them is decided elsewhere."""

from __future__ import annotations

import asyncio
import csv
import os
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from importlib import import_module
from io import TextIOWrapper
from typing import IO, Literal, Protocol

from tollway.admin.action import File
from tollway.errors import BadRequest

CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"

Kind = Literal["text", "integer", "money", "time"]
"""``money`` are dollars as Decimal, to the nano-dollar; ``time`` is ISO 8601 in UTC."""

Cell = str | int | Decimal | None
Batch = Sequence[Mapping[str, Cell]]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def cell(value: Cell) -> str | int | None:
    """As CSV shows it: a name that begins like a formula is quoted, so that no spreadsheet runs what a client wrote."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value


async def write_csv(columns: Mapping[str, Kind], batches: AsyncIterator[Batch], name: str) -> File:
    """A heading line and a line for each row."""

    def open_on(file: IO[bytes]) -> _Csv:
        return _Csv(file, columns)

    return await _write(open_on, batches, name, CSV)


async def write_parquet(columns: Mapping[str, Kind], batches: AsyncIterator[Batch], name: str) -> File:
    """One row group for each batch. Raises BadRequest where pyarrow is not installed."""
    try:
        import_module("pyarrow.parquet")  # asked before anything is read
    except ModuleNotFoundError as error:
        raise BadRequest(
            "Parquet needs a library that this server lacks: pip install 'tollway[parquet]'", param="format"
        ) from error

    def open_on(file: IO[bytes]) -> _Parquet:
        return _Parquet(file, columns)

    return await _write(open_on, batches, name, PARQUET)


class _Writer(Protocol):
    def write(self, batch: Batch) -> None: ...

    def close(self) -> None: ...


class _Opening(Protocol):
    def __call__(self, file: IO[bytes]) -> _Writer: ...


async def _write(open_on: _Opening, batches: AsyncIterator[Batch], name: str, media_type: str) -> File:
    descriptor, path = tempfile.mkstemp(prefix="tollway-", suffix="-" + name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            writer = await asyncio.to_thread(open_on, file)
            async for batch in batches:
                if batch:
                    await asyncio.to_thread(writer.write, batch)
            await asyncio.to_thread(writer.close)
    except BaseException:
        os.unlink(path)
        raise
    return File(path=path, media_type=media_type, name=name)


class _Csv:
    def __init__(self, file: IO[bytes], columns: Mapping[str, Kind]) -> None:
        self._text = TextIOWrapper(file, "utf-8", newline="", write_through=True)
        self._names = list(columns)
        self._writer = csv.writer(self._text)
        self._writer.writerow(self._names)

    def write(self, batch: Batch) -> None:
        self._writer.writerows([cell(row.get(name)) for name in self._names] for row in batch)

    def close(self) -> None:
        self._text.detach()


class _Parquet:
    def __init__(self, file: IO[bytes], columns: Mapping[str, Kind]) -> None:
        arrow = self._arrow = import_module("pyarrow")
        types = {
            "text": arrow.string(),
            "integer": arrow.int64(),
            "money": arrow.decimal128(28, 9),
            "time": arrow.timestamp("ms", tz="UTC"),
        }
        self._schema = arrow.schema([(name, types[kind]) for name, kind in columns.items()])
        self._writer = import_module("pyarrow.parquet").ParquetWriter(file, self._schema, compression="zstd")
        self._columns = columns

    def write(self, batch: Batch) -> None:
        arrays = [
            self._arrow.array(
                [_typed(row.get(name), kind) for row in batch], type=self._schema.field(name).type
            )
            for name, kind in self._columns.items()
        ]
        self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def _typed(value: Cell, kind: Kind) -> object:
    if kind == "time" and isinstance(value, str):
        return datetime.fromisoformat(value)
    return value
