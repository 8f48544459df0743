"""Counters of one process: exact, because nothing awaits between the first check and the last reservation.

Sliding windows are made of sixty sub-windows and count one more than they need, so no stretch of time as long as
the window ever admits more than the limit, and a client that keeps to 95 % of it is never refused.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType

from tollway.errors import BudgetExceeded, RateLimitExceeded
from tollway.model.money import Money, to_usd
from tollway.shared.interface import Amounts, Claim, Standing
from tollway.shared.periods import period

PARTS = 60

SEATED = 65_536
"""Sets of claims whose states are remembered; past that they are looked up anew."""


class _Window:
    """A sliding window: [part number, amount] pairs, oldest first, and their sum."""

    __slots__ = ("held", "parts", "seconds", "total", "width")

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self.width = seconds / PARTS
        self.parts: deque[list[int]] = deque()
        self.total = 0
        self.held = 0

    def slide(self, now: float) -> int:
        part = int(now / self.width)
        parts = self.parts
        oldest = part - PARTS
        while parts and parts[0][0] < oldest:
            self.total -= parts.popleft()[1]
        return part

    def add(self, part: int, amount: int) -> list[int]:
        parts = self.parts
        if parts and parts[-1][0] >= part:
            entry = parts[-1]
            entry[1] += amount
        else:
            entry = [part, amount]
            parts.append(entry)
        self.total += amount
        return entry

    def room_at(self, needed: int, limit: int, now: float) -> float:
        """Seconds until ``needed`` more fit under ``limit``; the whole window when they never do."""
        excess = self.total + needed - limit
        for part, amount in self.parts:
            excess -= amount
            if excess <= 0:
                return max((part + PARTS + 1) * self.width - now, 0.001)
        return float(self.seconds)

    def empty_at(self, now: float) -> float:
        """Seconds until nothing is counted any more."""
        return max((self.parts[-1][0] + PARTS + 1) * self.width - now, 0.0) if self.parts else 0.0


class _Purse:
    """A budget: what was settled in the current period and what is held."""

    __slots__ = ("anchor", "end", "held", "per", "spent")

    def __init__(self, per: str, anchor: float, now: float) -> None:
        self.per = per
        self.anchor = anchor
        self.spent = 0
        self.held = 0
        self.end = period(per, now, anchor)[1]

    def roll(self, now: float) -> None:
        if self.end is not None and now >= self.end:
            self.spent = 0
            self.end = period(self.per, now, self.anchor)[1]


class _Slots:
    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = 0


_REQUESTS, _TOKENS, _PURSE, _SLOTS = range(4)


class _Seat:
    """A claim beside its state, with what a reservation reads of both at hand."""

    __slots__ = ("claim", "head", "kind", "limit", "purse", "slots", "strict", "window")

    def __init__(self, claim: Claim, state: _Window | _Purse | _Slots) -> None:
        self.claim = claim
        self.limit = claim.limit
        self.strict = claim.strict
        self.window: _Window | None = None
        self.purse: _Purse | None = None
        self.slots: _Slots | None = None
        self.head = ""
        if isinstance(state, _Window):
            self.kind = _TOKENS if claim.unit == "tokens" else _REQUESTS
            self.window = state
            unit = "tokens" if claim.unit == "tokens" else "requests"
            self.head = f"x-ratelimit-limit-{unit}: {claim.limit}\r\nx-ratelimit-remaining-{unit}: "
        elif isinstance(state, _Purse):
            self.kind = _PURSE
            self.purse = state
        else:
            self.kind = _SLOTS
            self.slots = state


class _Seats:
    """The seats of one key's claims, in their order."""

    __slots__ = ("claims", "seats")

    def __init__(self, claims: tuple[Claim, ...], seats: list[_Seat]) -> None:
        self.claims = claims
        self.seats = seats


class MemoryHold:
    """A reservation in this process. See ``shared.interface.Hold``. ``amounts`` and ``entries`` (of windows) stand
    beside the ``seats`` they were taken on."""

    __slots__ = ("_amounts", "_counters", "_entries", "_open", "_seats")

    def __init__(
        self,
        counters: MemoryCounters,
        seats: list[_Seat],
        amounts: list[int],
        entries: list[list[int] | None],
    ) -> None:
        self._counters = counters
        self._seats = seats
        self._amounts = amounts
        self._entries = entries
        self._open = True

    def settle(self, *, nano_usd: Money, tokens: int) -> None:
        if not self._open:
            return
        self._open = False
        counters = self._counters
        counters.open -= 1
        now = counters.clock()
        amounts = self._amounts
        for at, seat in enumerate(self._seats):
            kind = seat.kind
            if kind == _PURSE:
                purse = seat.purse
                assert purse is not None
                purse.roll(now)
                purse.held -= amounts[at]
                purse.spent += nano_usd
            elif kind == _SLOTS:
                slots = seat.slots
                assert slots is not None
                slots.held -= 1
            elif kind == _TOKENS:
                difference = tokens - amounts[at]
                entry = self._entries[at]
                window = seat.window
                if not difference or entry is None or window is None:
                    continue
                part = window.slide(now)
                if entry[0] >= part - PARTS:
                    entry[1] += difference
                    window.total += difference
                elif difference > 0:  # longer ago than the window reaches: what came on top counts now
                    known = counters._states.setdefault(seat.claim.counter, window)  # it may have been pruned
                    if isinstance(known, _Window):
                        known.add(known.slide(now), difference)

    def release(self) -> None:
        self.settle(nano_usd=0, tokens=0)

    def ratelimit_headers(self) -> bytes:
        requests: _Seat | None = None
        tokens: _Seat | None = None
        for seat in self._seats:
            if seat.kind == _REQUESTS:
                if requests is None or _tighter(seat, requests):
                    requests = seat
            elif seat.kind == _TOKENS and (tokens is None or _tighter(seat, tokens)):
                tokens = seat
        if requests is None and tokens is None:
            return b""
        now = self._counters.clock()
        lines = ""
        if requests is not None:
            lines = _header_lines("requests", requests, now)
        if tokens is not None:
            lines += _header_lines("tokens", tokens, now)
        return lines.encode()

    def __enter__(self) -> MemoryHold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class MemoryCounters:
    """The ``Counters`` contract for one process. ``clock`` gives Unix seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.open = 0
        self._states: dict[str, _Window | _Purse | _Slots] = {}
        self._seated: dict[int, _Seats] = {}

    async def reserve(self, claims: tuple[Claim, ...], amounts: Amounts) -> MemoryHold:
        return self.reserve_now(claims, amounts)

    def reserve_now(self, claims: tuple[Claim, ...], amounts: Amounts) -> MemoryHold:
        now = self.clock()
        known = self._seated.get(id(claims))
        if known is None or known.claims is not claims:
            known = self._seat(claims, now)
        seats = known.seats
        taking: list[int] = []
        parts: list[int] = []
        for seat in seats:
            kind = seat.kind
            limit = seat.limit
            amount = 1
            part = 0
            if kind == _PURSE:
                purse = seat.purse
                assert purse is not None
                amount = amounts.worst_nano_usd if seat.strict else amounts.nano_usd
                if purse.end is not None and now >= purse.end:
                    purse.roll(now)
                if purse.spent + purse.held + amount > limit or (purse.spent >= limit and not amount):
                    raise _budget_refusal(seat.claim, purse, amount)
            elif kind == _SLOTS:
                slots = seat.slots
                assert slots is not None
                if slots.held >= limit:
                    raise _slots_refusal(seat.claim, slots)
            else:
                window = seat.window
                assert window is not None
                if kind == _TOKENS:
                    amount = amounts.tokens
                    if amount > limit >= amounts.input_tokens:
                        amount = limit
                part = window.slide(now)
                if window.total + amount > limit:
                    raise _rate_refusal(seat, window, amount, now)
            taking.append(amount)
            parts.append(part)
        entries: list[list[int] | None] = []
        for at, seat in enumerate(seats):
            amount = taking[at]
            entry: list[int] | None = None
            kind = seat.kind
            if kind == _PURSE:
                purse = seat.purse
                assert purse is not None
                purse.held += amount
            elif kind == _SLOTS:
                slots = seat.slots
                assert slots is not None
                slots.held += 1
            else:
                window = seat.window
                assert window is not None
                entry = window.add(parts[at], amount)
            entries.append(entry)
        self.open += 1
        return MemoryHold(self, seats, taking, entries)

    def _seat(self, claims: tuple[Claim, ...], now: float) -> _Seats:
        """Claims of a key do not change while it lives, so their states are looked up once (until ``prune``)."""
        seats = []
        for claim in claims:
            state = self._states.get(claim.counter)
            seats.append(_Seat(claim, self._begin(claim, now) if state is None else state))
        if len(self._seated) >= SEATED:
            self._seated.clear()
        known = self._seated[id(claims)] = _Seats(claims, seats)
        return known

    async def standing(self, claims: tuple[Claim, ...]) -> list[Standing]:
        now = self.clock()
        rows = []
        for claim in claims:
            state = self._states.get(claim.counter) or self._begin(claim, now)
            resets_at: float | None = None
            spent = 0
            if isinstance(state, _Window):
                state.slide(now)
                spent = state.total
                resets_at = now + state.empty_at(now)
            elif isinstance(state, _Purse):
                state.roll(now)
                spent = state.spent
                resets_at = state.end
            rows.append(Standing(claim=claim, spent=spent, held=state.held, resets_at=resets_at))
        return rows

    def seed(self, claim: Claim, spent: int) -> None:
        now = self.clock()
        state = self._states.get(claim.counter) or self._begin(claim, now)
        if isinstance(state, _Purse):
            state.roll(now)
            state.spent = spent

    def known(self, claim: Claim) -> bool:
        """Whether this counter has state already (so that a reload does not seed it again)."""
        return claim.counter in self._states

    def held(self) -> int:
        return self.open

    def prune(self, keep: frozenset[str] | set[str]) -> None:
        """Forget windows nothing is counted in and counters that no key of ``keep`` (counter names) claims."""
        now = self.clock()
        self._seated.clear()
        for name, state in list(self._states.items()):
            if isinstance(state, _Window):
                state.slide(now)
                if not state.parts:
                    del self._states[name]
            elif name not in keep and not state.held:
                del self._states[name]

    def _begin(self, claim: Claim, now: float) -> _Window | _Purse | _Slots:
        state: _Window | _Purse | _Slots
        if claim.unit == "parallel":
            state = _Slots()
        elif claim.seconds:
            state = _Window(claim.seconds)
        else:
            state = _Purse(claim.per, claim.anchor, now)
        self._states[claim.counter] = state
        return state


def _tighter(seat: _Seat, than: _Seat) -> bool:
    """Whether less of this limit is left, as a share of it, than of the other."""
    assert seat.window is not None and than.window is not None  # noqa: PT018
    return seat.window.total * max(than.limit, 1) > than.window.total * max(seat.limit, 1)


def _header_lines(unit: str, seat: _Seat, now: float) -> str:
    window = seat.window
    assert window is not None
    remaining = seat.limit - window.total
    if remaining < 0:
        remaining = 0
    reset = math.ceil(window.empty_at(now))
    return f"{seat.head}{remaining}\r\nx-ratelimit-reset-{unit}: {reset}s\r\n"


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _rate_refusal(seat: _Seat, state: _Window, amount: int, now: float) -> RateLimitExceeded:
    claim = seat.claim
    per = "minute" if claim.seconds == 60 else "day" if claim.seconds == 86400 else f"{claim.seconds} s"
    details = {
        "limit": claim.label,
        "subject": claim.subject,
        "allowed": claim.limit,
        "used": state.total,
    }
    if amount > claim.limit:
        return RateLimitExceeded(
            f"This request counts {amount} {claim.unit}, more than {claim.subject} may use in a {per} "
            f"({claim.label} {claim.limit}). Shorten it or lower max_tokens.",
            details=details,
        )
    wait = state.room_at(amount, claim.limit, now)
    details["resets_at"] = _iso(now + wait) or ""
    seconds = math.ceil(wait)
    headers = {"retry-after": str(seconds), "retry-after-ms": str(math.ceil(wait * 1000))}
    lines = _header_lines("requests" if claim.unit == "requests" else "tokens", seat, now)
    for line in lines.split("\r\n")[:-1]:
        name, _, value = line.partition(": ")
        headers[name] = value
    return RateLimitExceeded(
        f"{claim.subject} has reached its limit of {claim.limit} {claim.unit} per {per} ({claim.label}): "
        f"{state.total} used, {amount} more asked for. Retry in {seconds} s.",
        details=details,
        headers=headers,
    )


def _budget_refusal(claim: Claim, state: _Purse, amount: int) -> BudgetExceeded:
    resets = _iso(state.end)
    until = f"It resets at {resets}." if resets else "It does not reset; raise it to go on."
    return BudgetExceeded(
        f"{claim.subject} has a {claim.label} of ${to_usd(claim.limit)}: ${to_usd(state.spent)} is spent, "
        f"${to_usd(state.held)} is held by running requests and this one needs ${to_usd(amount)}. {until}",
        details={
            "budget": claim.label,
            "subject": claim.subject,
            "limit_nano_usd": claim.limit,
            "spent_nano_usd": state.spent,
            "held_nano_usd": state.held,
            "needed_nano_usd": amount,
            "resets_at": resets,
        },
    )


def _slots_refusal(claim: Claim, state: _Slots) -> RateLimitExceeded:
    return RateLimitExceeded(
        f"{claim.subject} may run {claim.limit} requests at the same time and {state.held} are running. "
        f"Wait for one to end.",
        details={"limit": claim.label, "subject": claim.subject, "allowed": claim.limit, "used": state.held},
        headers={"retry-after": "1", "retry-after-ms": "1000"},
    )
