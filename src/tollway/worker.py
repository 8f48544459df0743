"""What a worker process has from the supervisor that started it, and what the two tell each other."""

from __future__ import annotations

import mmap
import os
import socket
from contextlib import suppress

import msgspec
from msgspec import Struct


class Told(Struct, frozen=True):
    """What a worker says to its supervisor: that it serves (with the banner), or that it read the configuration again
    because it was asked to over HTTP."""

    event: str
    text: str = ""


class Board:
    """Which workers serve, in memory that all of them see: one byte each."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._bytes = mmap.mmap(-1, workers)

    def set(self, worker: int, serving: bool) -> None:
        self._bytes[worker] = serving

    def serving(self) -> int:
        return sum(self._bytes[: self.workers])


class Place(Struct, frozen=True):
    """A worker's own: its number, its sockets, the way to its supervisor and the board of all."""

    worker: int
    sockets: list[socket.socket]
    board: Board
    lifeline: int
    mouth: int

    def tell(self, event: str, text: str = "") -> None:
        with suppress(OSError):  # the supervisor has gone; the lifeline says so too
            os.write(self.mouth, msgspec.json.encode(Told(event, text)) + b"\n")
