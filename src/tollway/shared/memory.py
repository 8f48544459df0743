"""Counters of one process: exact, because nothing awaits between the first check and the last reservation.

Sliding windows are made of sixty sub-windows and count one more than they need, so no stretch of time as long as
the window ever admits more than the limit, and a client that keeps to 95 % of it is never refused.
What is rare (a limit raised for a while or only watched, some of the tokens, a threshold that is crossed) is told by
one flag or one comparison, so that a plain claim costs nothing for it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final

from tollway.errors import BudgetExceeded, RateLimitExceeded
from tollway.model.money import Money
from tollway.shared import measures, refusals
from tollway.shared.interface import Amounts, Claim, Crossing, Standing
from tollway.shared.periods import period

PARTS: Final = 60

SEATED = 65_536
"""Sets of claims whose states are remembered; past that they are looked up anew."""

_NEVER: Final = 1 << 61
"""Above every amount, and still a plain machine integer."""

_USD: Final = 1
_WORST_USD: Final = 2
_TOKENS_ALL: Final = 3
"""The measures of nearly every claim (see ``measures``), read without a call."""


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
    """A budget: what was settled in the current period and what is held. ``alert`` is the next threshold that
    ``spent`` has not reached in this period."""

    __slots__ = (
        "alert",
        "alerted",
        "alerts",
        "anchor",
        "end",
        "first_day",
        "first_month",
        "held",
        "per",
        "spent",
        "zone",
    )

    def __init__(self, claim: Claim, now: float) -> None:
        self.spent = 0
        self.held = 0
        self.alerts: tuple[int, ...] = ()
        self.alerted = -1
        self.alert = _NEVER
        self.end = math.inf
        self.per = ""
        self.anchor = 0.0
        self.zone = ""
        self.first_day = 1
        self.first_month = 1
        self.rule(claim, now)

    def rule(self, claim: Claim, now: float) -> None:
        """Follow the claim's calendar and thresholds from now on; what is spent stays."""
        self.roll(now)
        if (
            self.per != claim.per
            or self.anchor != claim.anchor
            or self.zone != claim.zone
            or self.first_day != claim.first_day
            or self.first_month != claim.first_month
        ):
            self.per = claim.per
            self.anchor = claim.anchor
            self.zone = claim.zone
            self.first_day = claim.first_day
            self.first_month = claim.first_month
            self._end_of_period(now)
        if self.alerts != claim.alerts:
            self.alerts = claim.alerts
            self.next_alert()

    def roll(self, now: float) -> None:
        if now >= self.end:
            self.spent = 0
            self.alerted = -1
            self.next_alert()
            self._end_of_period(now)

    def next_alert(self) -> None:
        self.alert = _NEVER
        for at in self.alerts:
            if at > self.alerted:
                self.alert = at
                return

    def reached(self, amount: int) -> int:
        """The highest threshold ``amount`` has reached; none up to it is reported again in this period."""
        found = self.alert
        for at in self.alerts:
            if at <= amount:
                found = at
        self.alerted = found
        self.next_alert()
        return found

    def _end_of_period(self, now: float) -> None:
        end = period(self.per, now, self.anchor, self.zone, self.first_day, self.first_month)[1]
        self.end = math.inf if end is None else end


class _Slots:
    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = 0


_REQUESTS: Final = 0
_TOKENS: Final = 1
_PURSE: Final = 2
_SLOTS: Final = 3


class _Seat:
    """A claim beside its state, with what a reservation reads of both at hand. ``rare`` means that the limit is not
    simply ``limit``: it is raised for a while, or only watched."""

    __slots__ = ("cached", "claim", "head", "kind", "limit", "measure", "purse", "rare", "slots", "window")

    def __init__(self, claim: Claim, state: _Window | _Purse | _Slots) -> None:
        self.claim = claim
        self.limit = claim.limit
        self.measure = measures.measure_of(claim)
        self.cached = claim.cached
        self.rare = not claim.enforce or claim.raised_by != 0
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

    def limit_at(self, now: float) -> int:
        claim = self.claim
        if claim.raised_by and now < claim.raised_until:
            return claim.limit + claim.raised_by
        return claim.limit


class _Seats:
    """The seats of one key's claims, in their order."""

    __slots__ = ("claims", "seats")

    def __init__(self, claims: tuple[Claim, ...], seats: list[_Seat]) -> None:
        self.claims = claims
        self.seats = seats


class MemoryHold:
    """A reservation in this process. See ``shared.interface.Hold``. ``amounts`` and ``entries`` (of windows) stand
    beside the ``seats`` they were taken on; ``crossed`` is None nearly always."""

    __slots__ = ("_amounts", "_counters", "_crossed", "_entries", "_later", "_open", "_seats")

    def __init__(
        self,
        counters: MemoryCounters,
        seats: list[_Seat],
        amounts: list[int],
        entries: list[list[int] | None],
        crossed: list[Crossing] | None,
    ) -> None:
        self._counters = counters
        self._seats = seats
        self._amounts = amounts
        self._entries = entries
        self._crossed = crossed
        self._later: list[tuple[_Window, list[int], int]] | None = None
        self._open = True

    def settle(self, *, nano_usd: Money, tokens: int, input_tokens: int = 0, cached_tokens: int = 0) -> None:
        if self._open:
            self._end(False, nano_usd, tokens, input_tokens, cached_tokens)

    def release(self) -> None:
        if self._open:
            self._end(True, 0, 0, 0, 0)

    def warnings(self) -> tuple[Crossing, ...]:
        return () if self._crossed is None else tuple(self._crossed)

    def extend(self, *, nano_usd: Money, tokens: int) -> bool:
        if not self._open:
            return False
        now = self._counters.clock()
        more: list[int] = []
        for seat in self._seats:
            amount = measures.grown(seat.measure, nano_usd, tokens)
            more.append(amount)
            if not amount or not seat.claim.enforce:
                continue
            purse = seat.purse
            window = seat.window
            if purse is not None:
                purse.roll(now)
                if purse.spent + purse.held + amount > seat.limit_at(now):
                    return False
            elif window is not None:
                window.slide(now)
                if window.total + amount > seat.limit_at(now):
                    return False
        for at, seat in enumerate(self._seats):
            amount = more[at]
            purse = seat.purse
            window = seat.window
            if not amount:
                continue
            if purse is not None:
                purse.held += amount
                self._amounts[at] += amount
            elif window is not None:
                if self._later is None:
                    self._later = []
                self._later.append((window, window.add(window.slide(now), amount), amount))
        return True

    def _end(self, released: bool, nano_usd: int, tokens: int, input_tokens: int, cached_tokens: int) -> None:
        self._open = False
        counters = self._counters
        counters.open -= 1
        now = counters.clock()
        amounts = self._amounts
        if self._later is not None:
            self._forget_later(now)
        for at, seat in enumerate(self._seats):
            kind = seat.kind
            if kind == _PURSE:
                purse = seat.purse
                assert purse is not None
                if now >= purse.end:
                    purse.roll(now)
                purse.held -= amounts[at]
                if _USD <= seat.measure <= _WORST_USD:
                    purse.spent += nano_usd
                elif not released:
                    purse.spent += measures.used(
                        seat.measure, seat.cached, nano_usd, tokens, input_tokens, cached_tokens
                    )
                if purse.spent >= purse.alert:
                    self._cross(seat, purse, purse.spent)
            elif kind == _SLOTS:
                slots = seat.slots
                assert slots is not None
                slots.held -= 1
            elif kind == _TOKENS:
                counted = tokens
                if seat.measure != _TOKENS_ALL or not seat.cached:
                    counted = measures.used(
                        seat.measure, seat.cached, nano_usd, tokens, input_tokens, cached_tokens
                    )
                difference = counted - amounts[at]
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

    def _forget_later(self, now: float) -> None:
        """What ``extend`` added counts where the request began, once it is known what it was."""
        assert self._later is not None
        for window, entry, amount in self._later:
            if entry[0] >= window.slide(now) - PARTS:
                entry[1] -= amount
                window.total -= amount
        self._later = None

    def _cross(self, seat: _Seat, purse: _Purse, amount: int) -> None:
        crossing = Crossing(claim=seat.claim, at=purse.reached(amount), used=amount)
        if self._crossed is None:
            self._crossed = []
        self._crossed.append(crossing)
        self._counters.tell(crossing)

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
    """The ``Counters`` contract for one process. ``clock`` gives Unix seconds. ``crossed`` is called with every
    threshold that is crossed; it must not block."""

    def __init__(self, clock: Callable[[], float], crossed: Callable[[Crossing], None] | None = None) -> None:
        self.clock = clock
        self.open = 0
        self._crossed = crossed
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
        crossed: list[Crossing] | None = None
        for seat in seats:
            kind = seat.kind
            limit = seat.limit
            amount = 1
            part = 0
            if seat.rare:
                limit = seat.limit_at(now)
                if not seat.claim.enforce:
                    crossed = self._watch(seat, limit, amounts, now, crossed)
                    limit = _NEVER
            if kind == _PURSE:
                purse = seat.purse
                assert purse is not None
                if seat.measure == _USD:
                    amount = amounts.nano_usd
                else:
                    amount = measures.expected(seat.measure, amounts)
                if now >= purse.end:
                    purse.roll(now)
                if purse.spent + purse.held + amount > limit or (purse.spent >= limit and not amount):
                    raise _budget_refusal(seat.claim, purse, limit, amount)
                if purse.spent + amount >= purse.alert:
                    crossed = self._expect(seat, purse, amounts, crossed)
            elif kind == _SLOTS:
                slots = seat.slots
                assert slots is not None
                if slots.held >= limit:
                    raise refusals.slots_refusal(seat.claim, limit=limit, held=slots.held)
            else:
                window = seat.window
                assert window is not None
                if kind == _TOKENS:
                    if seat.measure == _TOKENS_ALL:
                        amount = amounts.tokens
                    else:
                        amount = measures.expected(seat.measure, amounts)
                    if amount > limit and limit >= measures.certain(seat.measure, amounts):
                        amount = limit
                part = window.slide(now)
                if window.total + amount > limit:
                    raise _rate_refusal(seat.claim, window, limit, amount, now)
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
        if crossed is not None:
            for crossing in crossed:
                self._mark(crossing)
        return MemoryHold(self, seats, taking, entries, crossed)

    def tell(self, crossing: Crossing) -> None:
        if self._crossed is not None:
            self._crossed(crossing)

    def _expect(
        self, seat: _Seat, purse: _Purse, amounts: Amounts, crossed: list[Crossing] | None
    ) -> list[Crossing] | None:
        """A threshold this request is expected to cross. The worst case of a strict budget is no expectation."""
        amount = amounts.nano_usd if seat.claim.strict else measures.expected(seat.measure, amounts)
        used = purse.spent + amount
        if used < purse.alert:
            return crossed
        at = purse.alert
        for threshold in purse.alerts:
            if threshold <= used:
                at = threshold
        if crossed is None:
            crossed = []
        crossed.append(Crossing(claim=seat.claim, at=at, used=used))
        return crossed

    def _watch(
        self, seat: _Seat, limit: int, amounts: Amounts, now: float, crossed: list[Crossing] | None
    ) -> list[Crossing] | None:
        """Whether a limit that is only watched would have refused."""
        amount = measures.expected(seat.measure, amounts)
        taken = 0
        if seat.purse is not None:
            seat.purse.roll(now)
            taken = seat.purse.spent + seat.purse.held
        elif seat.slots is not None:
            taken = seat.slots.held
        elif seat.window is not None:
            seat.window.slide(now)
            taken = seat.window.total
            if amount > limit >= measures.certain(seat.measure, amounts):
                amount = limit
        if taken + amount <= limit:
            return crossed
        if crossed is None:
            crossed = []
        crossed.append(Crossing(claim=seat.claim, at=limit, used=taken + amount, shadow=True))
        return crossed

    def _mark(self, crossing: Crossing) -> None:
        """Only a reservation that was made has crossed anything."""
        state = self._states.get(crossing.claim.counter)
        if not crossing.shadow and isinstance(state, _Purse):
            state.reached(crossing.used)
        self.tell(crossing)

    def _seat(self, claims: tuple[Claim, ...], now: float) -> _Seats:
        """Claims of a key do not change while it lives, so their states are looked up once (until ``prune``)."""
        seats = []
        for claim in claims:
            state = self._states.get(claim.counter)
            if state is None:
                state = self._begin(claim, now)
            elif isinstance(state, _Purse):
                state.rule(claim, now)
            seats.append(_Seat(claim, state))
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
                resets_at = None if state.end == math.inf else state.end
            rows.append(Standing(claim=claim, spent=spent, held=state.held, resets_at=resets_at))
        return rows

    def seed(self, claim: Claim, spent: int) -> None:
        now = self.clock()
        state = self._states.get(claim.counter) or self._begin(claim, now)
        if isinstance(state, _Purse):
            state.rule(claim, now)
            state.roll(now)
            state.spent = spent
            state.alerted = -1
            state.next_alert()
            if spent >= state.alert:
                state.reached(spent)  # it was told when it was crossed

    def seed_window(self, claim: Claim, amounts: Iterable[tuple[float, int]]) -> None:
        """What was admitted before this process began, as (Unix seconds, amount) in any order, so that a restart
        within a window does not admit it twice. Called once for a window, after which it is counted as its own."""
        now = self.clock()
        state = self._states.get(claim.counter) or self._begin(claim, now)
        if not isinstance(state, _Window):
            return
        part = state.slide(now)
        found: dict[int, list[int]] = {entry[0]: entry for entry in state.parts}
        for at, amount in amounts:
            begun = min(int(at / state.width), part)
            if begun < part - PARTS or not amount:
                continue
            entry = found.get(begun)
            if entry is None:
                found[begun] = [begun, amount]
            else:
                entry[1] += amount
            state.total += amount
        state.parts = deque(found[begun] for begun in sorted(found))

    async def reset(self, claim: Claim, spent: int) -> None:
        """From now on this budget has spent ``spent`` in its current period; what is held stays held."""
        self.seed(claim, spent)

    def known(self, claim: Claim) -> bool:
        """Whether this counter has state already (so that a reload does not seed it again)."""
        return claim.counter in self._states

    def held(self) -> int:
        return self.open

    def prune(self, keep: frozenset[str] | set[str]) -> None:
        """Forget windows nothing is counted in and counters that nobody in ``keep`` (counter names) claims. Budgets of
        customers stay until their period ends: end users need not be declared to have one."""
        now = self.clock()
        self._seated.clear()
        for name, state in list(self._states.items()):
            if isinstance(state, _Window):
                state.slide(now)
                if not state.parts:
                    del self._states[name]
            elif name not in keep and not state.held and not _of_customer(name, state, now):
                del self._states[name]

    def _begin(self, claim: Claim, now: float) -> _Window | _Purse | _Slots:
        state: _Window | _Purse | _Slots
        if claim.unit == "parallel":
            state = _Slots()
        elif claim.seconds:
            state = _Window(claim.seconds)
        else:
            state = _Purse(claim, now)
        self._states[claim.counter] = state
        return state


def _of_customer(name: str, state: _Purse | _Slots, now: float) -> bool:
    return name.startswith("customer:") and isinstance(state, _Purse) and now < state.end


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


def _rate_refusal(claim: Claim, window: _Window, limit: int, needed: int, now: float) -> RateLimitExceeded:
    return refusals.rate_refusal(
        claim,
        limit=limit,
        used=window.total,
        needed=needed,
        wait=window.room_at(needed, limit, now),
        reset=window.empty_at(now),
        now=now,
    )


def _budget_refusal(claim: Claim, purse: _Purse, limit: int, needed: int) -> BudgetExceeded:
    end = None if purse.end == math.inf else purse.end
    return refusals.budget_refusal(
        claim, limit=limit, spent=purse.spent, held=purse.held, needed=needed, end=end
    )
