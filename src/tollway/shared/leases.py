"""What one process holds of the counters it shares with others: slices of each allowance, spent without asking anybody.

A lease is always ``idle + held + used``: free to be taken, held by running requests, settled and not yet reported.
Nothing here talks to a server, and nothing awaits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from tollway.model.money import Money
from tollway.shared import measures
from tollway.shared.interface import Claim, Crossing
from tollway.shared.memory import PARTS
from tollway.shared.periods import period
from tollway.shared.refusals import header_lines

if TYPE_CHECKING:
    from tollway.shared.redis_counters import RedisCounters

BUDGET: Final = 1
WINDOW: Final = 2
SLOTS: Final = 3

KEPT: Final = PARTS + 1
"""Sub-windows that count beside the current one: one more than needed, for clocks that differ by less than one."""

NEVER: Final = 1 << 61


class Account:
    """A counter as this process knows it. ``until`` is when what is idle ends: with its sub-window or its period."""

    def __init__(self, claim: Claim, now: float) -> None:
        self.claim = claim
        self.name = claim.counter
        self.kind = SLOTS if claim.unit == "parallel" else WINDOW if claim.seconds else BUDGET
        self.width = claim.seconds / PARTS if claim.seconds else 1.0
        self.idle = 0
        self.held = 0
        self.used = 0
        self.later: dict[int, int] = {}
        self.own: dict[int, int] = {}
        self.part = 0
        self.start = 0
        self.until = math.inf
        self.flow = 0
        self.flow_since = now
        self.rate = 0.0
        self.low = 0
        self.touched = now
        self.asked = now
        self.dirty = False
        self.give_back = False
        self.scarce = 0.0
        self.wanted = 0
        self.answered = 0
        self.known = 0
        self.leased = 0
        self.idle_anywhere = 0
        self.seeded = False
        self.seed = -1
        self.seeds: list[int] = []
        self.alert = NEVER
        self.alerted = -1
        self.crossed: list[Crossing] = []
        # In flight: what the last message said, until it is answered.
        self.pool = 0
        self.borrowed = 0
        self.sent = 0
        self.sent_later: dict[int, int] = {}
        self.sent_alert = -1
        self.sent_mark = 0
        if self.kind == BUDGET:
            self._begin_period(now)
        elif self.kind == WINDOW:
            self.part = int(now / self.width)
            self.until = (self.part + 1) * self.width
        self.follow(claim)

    def follow(self, claim: Claim) -> None:
        """The same counter under changed terms."""
        if claim.alerts != self.claim.alerts or self.alert == NEVER:
            self.claim = claim
            self._next_alert()
        self.claim = claim

    def limit_at(self, now: float) -> int:
        claim = self.claim
        if not claim.enforce:
            return NEVER
        if claim.raised_by and now < claim.raised_until:
            return claim.limit + claim.raised_by
        return claim.limit

    def refresh(self, now: float) -> None:
        """Enter the period or sub-window of ``now``."""
        if now < self.until:
            return
        if self.kind == BUDGET:
            self.used = 0  # it belongs to a period that is over
            self.seed = -1
            self.known = 0
            self.alerted = -1
            self._next_alert()
            self._begin_period(now)
        elif self.kind == WINDOW:
            self.enter(int(now / self.width))

    def enter(self, part: int) -> None:
        """Begin a sub-window: what is idle of the last one was counted there and is given back there."""
        if part == self.part:
            return
        if self.idle > 0:
            self.owe(self.part, -self.idle)
        self.idle = 0
        self.part = part
        self.until = (part + 1) * self.width
        if len(self.own) > KEPT + 8:
            for old in [one for one in self.own if one < part - KEPT]:
                del self.own[old]

    def owe(self, part: int, amount: int) -> None:
        self.later[part] = self.later.get(part, 0) + amount

    def count(self, part: int, amount: int) -> None:
        """Of what is used in a window, this process's share."""
        self.own[part] = self.own.get(part, 0) + amount

    def own_total(self, part: int) -> int:
        return sum(amount for at, amount in self.own.items() if at >= part - KEPT)

    def reached(self, amount: int) -> int:
        """The highest threshold reached and not told yet; -1 when there is none."""
        return max((at for at in self.claim.alerts if self.alerted < at <= amount), default=-1)

    def told(self, at: int) -> None:
        self.alerted = max(self.alerted, at)
        self._next_alert()

    def quiet(self) -> bool:
        """Whether it could be forgotten without loss."""
        return not (self.idle or self.held or self.used or self.later or self.pool or self.sent or self.dirty)

    def _next_alert(self) -> None:
        self.alert = min((at for at in self.claim.alerts if at > self.alerted), default=NEVER)

    def _begin_period(self, now: float) -> None:
        claim = self.claim
        begun, end = period(claim.per, now, claim.anchor, claim.zone, claim.first_day, claim.first_month)
        self.start = int(begun)
        self.until = math.inf if end is None else end


class Seat:
    """A claim beside its account, with what a reservation reads of both at hand."""

    __slots__ = ("account", "cached", "claim", "kind", "limit", "measure", "watched")

    def __init__(self, claim: Claim, account: Account) -> None:
        self.claim = claim
        self.account = account
        self.kind = account.kind
        self.limit = claim.limit
        self.measure = measures.measure_of(claim)
        self.cached = claim.cached
        self.watched = not claim.enforce


class Seats:
    """The seats of one set of claims, in their order."""

    __slots__ = ("claims", "seats")

    def __init__(self, claims: tuple[Claim, ...], seats: list[Seat]) -> None:
        self.claims = claims
        self.seats = seats


class LeasedHold:
    """See ``shared.interface.Hold``. ``parts`` are the sub-windows the amounts were counted in."""

    __slots__ = ("_amounts", "_counters", "_crossed", "_later", "_open", "_parts", "_seats")

    def __init__(
        self,
        counters: RedisCounters,
        seats: list[Seat],
        amounts: list[int],
        parts: list[int],
        crossed: list[Crossing] | None,
    ) -> None:
        self._counters = counters
        self._seats = seats
        self._amounts = amounts
        self._parts = parts
        self._crossed = crossed
        self._later: list[tuple[Account, int, int]] | None = None
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
        """From what is idle here, else on credit of this process's share of what is free everywhere."""
        if not self._open:
            return False
        counters = self._counters
        now = counters.now()
        more: list[int] = []
        for seat in self._seats:
            amount = measures.grown(seat.measure, nano_usd, tokens)
            account = seat.account
            more.append(amount)
            if not amount or seat.watched:
                continue
            account.refresh(now)
            free = account.limit_at(now) - account.known
            if seat.kind == BUDGET:
                free -= account.leased
            if account.idle + max(free, 0) // counters.processes < amount:
                return False
        for at, seat in enumerate(self._seats):
            amount = more[at]
            if not amount:
                continue
            account = seat.account
            if seat.kind == BUDGET:
                account.held += amount
                self._amounts[at] += amount
                if not seat.watched:
                    account.idle -= amount
            else:
                if self._later is None:
                    self._later = []
                self._later.append((account, account.part, amount))
                account.count(account.part, amount)
                account.owe(account.part, amount)
            counters.touch(account)
        return True

    def ratelimit_headers(self) -> bytes:
        """Of what was known when this process last heard of the counter, which is milliseconds ago when it is busy."""
        tightest: dict[str, tuple[float, Seat, int]] = {}
        now = self._counters.now()
        for seat in self._seats:
            if seat.kind == WINDOW:
                account = seat.account
                used = max(account.known - max(account.idle, 0), 0)
                unit = "tokens" if seat.claim.unit == "tokens" else "requests"
                share = used / seat.limit if seat.limit else math.inf
                if unit not in tightest or share > tightest[unit][0]:
                    tightest[unit] = (share, seat, used)
        lines = ""
        for unit in ("requests", "tokens"):
            if unit in tightest:
                _, seat, used = tightest[unit]
                account = seat.account
                reset = max((account.part + KEPT + 1) * account.width - now, 0.0)
                lines += header_lines(unit, seat.limit, used, reset)
        return lines.encode()

    def _end(self, released: bool, nano_usd: int, tokens: int, input_tokens: int, cached_tokens: int) -> None:
        self._open = False
        counters = self._counters
        counters.open -= 1
        now = counters.now()
        amounts = self._amounts
        if self._later is not None:
            for account, part, amount in self._later:
                account.count(part, -amount)
                account.owe(part, -amount)
            self._later = None
        for at, seat in enumerate(self._seats):
            account = seat.account
            held = amounts[at]
            if seat.kind == BUDGET:
                if now >= account.until:
                    account.refresh(now)
                if seat.measure <= measures.WORST_USD and seat.measure >= measures.USD:
                    spent = nano_usd
                elif released:
                    spent = 0
                else:
                    spent = measures.used(
                        seat.measure, seat.cached, nano_usd, tokens, input_tokens, cached_tokens
                    )
                account.held -= held
                account.used += spent
                if not seat.watched:
                    account.idle += held - spent
            elif seat.kind == SLOTS:
                account.held -= 1
                if not seat.watched:
                    account.idle += 1
                    if now >= account.scarce:
                        continue
            else:
                if seat.measure == measures.ONE:
                    continue
                difference = (
                    measures.used(seat.measure, seat.cached, nano_usd, tokens, input_tokens, cached_tokens)
                    - held
                )
                if not difference:
                    continue
                part = self._parts[at]
                account.count(part, difference)
                if difference < 0 and part == account.part and now < account.until and not seat.watched:
                    account.idle -= difference
                    if now >= account.scarce:
                        continue
                else:
                    account.owe(part, difference)
            if not account.dirty:
                counters.touch(account)
            if now < account.scarce:
                counters.wake.set()

    def __enter__(self) -> LeasedHold:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
