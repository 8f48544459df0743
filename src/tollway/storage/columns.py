"""Types of columns that mean the same on both engines, and the statements that the engines spell differently."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Integer, Table, Text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import BigInteger, TypeDecorator


class _Sorted(TypeDecorator[str]):
    """Text of PostgreSQL that sorts by its bytes, as SQLite's does. Its text cannot hold a zero byte."""

    impl = postgresql.TEXT(collation="C")
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return without_zero(value)


TEXT = Text().with_variant(_Sorted(), "postgresql")

SEQUENCE = BigInteger().with_variant(Integer, "sqlite")
"""Numbers given in order; SQLite gives them to an ``INTEGER PRIMARY KEY`` only."""


def without_zero(value: str | None) -> str | None:
    if value is not None and "\x00" in value:
        return value.replace("\x00", "\ufffd")
    return value


def insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that may have an ``ON CONFLICT``."""
    return postgresql.insert(table) if is_postgresql(connection) else sqlite.insert(table)


def is_postgresql(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


class member_of(FunctionElement[int]):
    """The integer under a name in a text that is a JSON object; null where there is none."""

    type = BigInteger()
    inherit_cache = True


@compiles(member_of, "sqlite")
def _member_sqlite(element: member_of, compiler: Any, **options: Any) -> str:
    text, name = element.clauses
    return f"json_extract({compiler.process(text, **options)}, '$.' || {compiler.process(name, **options)})"


@compiles(member_of, "postgresql")
def _member_postgresql(element: member_of, compiler: Any, **options: Any) -> str:
    text, name = element.clauses
    # The brackets: a cast binds tighter than an arrow.
    return f"(({compiler.process(text, **options)})::json ->> {compiler.process(name, **options)})::bigint"


def member(text: ColumnElement[Any], name: str) -> ColumnElement[int]:
    """``name`` is one of ours: it becomes part of the statement."""
    from sqlalchemy import literal_column

    return member_of(text, literal_column(f"'{name}'"))
