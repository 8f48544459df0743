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


class MemoryHold:
    """A reservation in this process. See ``shared.interface.Hold``."""

    __slots__ = ("_counters", "_open", "_taken")

    def __init__(
        self, counters: MemoryCounters, taken: list[tuple[Claim, object, int, list[int] | None]]
    ) -> None:
        self._counters = counters
        self._taken = taken
        self._open = True

    def settle(self, *, nano_usd: Money, tokens: int) -> None:
        if not self._open:
            return
        self._open = False
        counters = self._counters
        counters.open -= 1
        now = counters.clock()
        for claim, state, amount, entry in self._taken:
            if isinstance(state, _Purse):
                state.roll(now)
                state.held -= amount
                state.spent += nano_usd
            elif isinstance(state, _Slots):
                state.held -= 1
            elif isinstance(state, _Window) and entry is not None and claim.unit == "tokens":
                difference = tokens - amount
                if not difference:
                    continue
                part = state.slide(now)
                if entry[0] >= part - PARTS:
                    entry[1] += difference
                    state.total += difference
                elif difference > 0:  # longer ago than the window reaches: what came on top counts now
                    window = counters._states.setdefault(claim.counter, state)  # it may have been pruned
                    if isinstance(window, _Window):
                        window.add(window.slide(now), difference)

    def release(self) -> None:
        self.settle(nano_usd=0, tokens=0)

    def ratelimit_headers(self) -> bytes:
        requests: tuple[Claim, _Window] | None = None
        tokens: tuple[Claim, _Window] | None = None
        for claim, state, _, _ in self._taken:
            if claim.unit == "requests":
                if requests is None or _tighter(claim, state, requests):
                    requests = (claim, state)  # type: ignore[assignment]
            elif claim.unit == "tokens" and (tokens is None or _tighter(claim, state, tokens)):
                tokens = (claim, state)  # type: ignore[assignment]
        if requests is None and tokens is None:
            return b""
        now = self._counters.clock()
        lines = ""
        if requests is not None:
            lines = _header_lines("requests", requests[0], requests[1], now)
        if tokens is not None:
            lines += _header_lines("tokens", tokens[0], tokens[1], now)
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

    async def reserve(self, claims: tuple[Claim, ...], amounts: Amounts) -> MemoryHold:
        return self.reserve_now(claims, amounts)

    def reserve_now(self, claims: tuple[Claim, ...], amounts: Amounts) -> MemoryHold:
        now = self.clock()
        states = self._states
        taken: list[tuple[Claim, object, int, list[int] | None]] = []
        parts: list[int] = []
        for claim in claims:
            state = states.get(claim.counter)
            if state is None:
                state = self._begin(claim, now)
            if isinstance(state, _Window):
                amount = 1
                if claim.unit == "tokens":
                    amount = amounts.tokens
                    if amount > claim.limit >= amounts.input_tokens:
                        amount = claim.limit
                parts.append(state.slide(now))
                if state.total + amount > claim.limit:
                    raise _rate_refusal(claim, state, amount, now)
            elif isinstance(state, _Purse):
                amount = amounts.worst_nano_usd if claim.strict else amounts.nano_usd
                if state.end is not None and now >= state.end:
                    state.roll(now)
                if state.spent + state.held + amount > claim.limit or (
                    state.spent >= claim.limit and not amount
                ):
                    raise _budget_refusal(claim, state, amount)
            else:
                amount = 1
                if state.held >= claim.limit:
                    raise _slots_refusal(claim, state)
            taken.append((claim, state, amount, None))
        index = 0
        for position, (claim, held, amount, _) in enumerate(taken):
            if isinstance(held, _Window):
                taken[position] = (claim, held, amount, held.add(parts[index], amount))
                index += 1
            elif isinstance(held, _Purse):
                held.held += amount
            elif isinstance(held, _Slots):
                held.held += 1
        self.open += 1
        return MemoryHold(self, taken)

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


def _tighter(claim: Claim, state: object, than: tuple[Claim, _Window]) -> bool:
    """Whether less of this limit is left, as a share of it, than of the other."""
    assert isinstance(state, _Window)
    return state.total * max(than[0].limit, 1) > than[1].total * max(claim.limit, 1)


def _header_lines(unit: str, claim: Claim, state: _Window, now: float) -> str:
    limit = claim.limit
    remaining = limit - state.total
    if remaining < 0:
        remaining = 0
    reset = math.ceil(state.empty_at(now))
    return (
        f"x-ratelimit-limit-{unit}: {limit}\r\nx-ratelimit-remaining-{unit}: {remaining}\r\n"
        f"x-ratelimit-reset-{unit}: {reset}s\r\n"
    )


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _rate_refusal(claim: Claim, state: _Window, amount: int, now: float) -> RateLimitExceeded:
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
    lines = _header_lines("requests" if claim.unit == "requests" else "tokens", claim, state, now)
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
