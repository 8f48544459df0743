"""The named clocks of an upstream request, in seconds. Each bounds one phase; ``total`` bounds them all."""

from __future__ import annotations

from msgspec import Struct


class Clocks(Struct, frozen=True, kw_only=True):
    """``connect``: until the socket (and TLS) stands. ``first_byte``: until the status line. ``first_token``: until
    the first event of a stream, its status line included. ``idle``: between two reads. ``total``: all of it."""

    connect: float = 5.0
    first_byte: float = 120.0
    first_token: float = 120.0
    idle: float = 120.0
    total: float = 600.0


DEFAULT_CLOCKS = Clocks()
