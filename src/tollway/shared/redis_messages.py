"""What a process and the script ``lua/exchange.lua`` say to one another: arrays in msgpack, whose fields the script
names by number, in this order."""

from __future__ import annotations

from msgspec import Struct


class Message(Struct, array_like=True):
    process: str
    number: int
    epoch: str
    join: int
    beat: int
    grace: int
    spool: str
    segment: int
    offset: int
    counters: list[Entry]
    asks: list[list[tuple[int, int, int]]]


class Entry(Struct, array_like=True):
    """One counter in a message. ``at`` is a period's start or a sub-window; ``used`` is what was settled since the last
    message, ``lease`` all that is held or idle, ``idle`` of it idle; ``later`` are corrections as part and amount;
    ``answered`` is the mark everything was given back for; ``seed`` and ``floor`` are what the ledger and this process
    know was spent (-1: nothing), ``alert`` a threshold to be told, ``want`` what is wished for beyond the requests."""

    name: str
    kind: int
    limit: int
    at: int
    used: int
    lease: int
    idle: int
    later: list[int]
    answered: int
    seed: int
    floor: int
    alert: int
    asked: int
    want: int
    seeds: list[int]
    seconds: int


class Told(Struct, array_like=True):
    """What the script says of a counter; ``spent`` is a window's total, ``at`` a period's start or a sub-window."""

    spent: int
    leased: int
    idle: int
    extra: int
    pool: int
    wanted: int
    at: int
    alerted: int
    seeded: int


class Answer(Struct, array_like=True):
    status: str
    epoch: str
    clock: int
    processes: int = 1
    counters: list[Told] = []
    asks: list[list[int]] = []
