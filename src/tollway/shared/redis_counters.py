"""Counters that many processes share in Redis or Valkey, with local leases so that a busy key costs no round trip.

Each process talks in one conversation: numbered messages, one at a time, each a script that reports what was
settled, gives back what is not needed and asks for all that requests wait for. A message without an answer is sent
again until it has one, and is counted once. The rules are in ``docs/guide/limits.md``.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import cast

import msgspec

from tollway.errors import GatewayError, StoreUnavailable
from tollway.shared import measures, refusals
from tollway.shared.interface import Amounts, Claim, Crossing, Settlement, Standing
from tollway.shared.leases import (
    BUDGET,
    KEPT,
    SLOTS,
    WINDOW,
    Account,
    LeasedHold,
    Seat,
    Seats,
)
from tollway.shared.memory import SEATED
from tollway.shared.periods import period
from tollway.shared.redis_link import RedisAway, RedisLink, Script
from tollway.shared.redis_messages import Answer, Entry, Message, Told

log = logging.getLogger("tollway.redis")

_LUA = Path(__file__).parent / "lua"
_EXCHANGE = Script((_LUA / "exchange.lua").read_text())
_APPLY = Script((_LUA / "apply.lua").read_text())

_GRANTED, _REFUSED, _WAIT, _UNSEEDED = 1, 2, 3, 4

ASKS = 100
"""Requests that one message speaks for."""

PATIENCE = 0.5
"""Seconds a request waits for what other processes may give back before it is refused."""

SCARCE = 0.1
"""Seconds after somebody lacked something in which what ends is given back instead of being taken again here: else
the one who lacks it would be refused though there was always some, at one process or another."""

IDLE = 1.0
"""Seconds after which what was not used is given back."""

TICK = 0.05

FRESH = 30.0
"""Seconds for which what ``seed`` was told is believed where the ledger could be asked."""

FORGOTTEN = 60.0
"""Seconds after which a counter nobody claims any more may be forgotten."""

CROWD = 200
"""Counters that are looked at with one message."""

Place = tuple[int, int]
"""A position in a spool: segment and offset."""


class _Ask:
    """A request that waits. Without ``holding`` it only wants its counters to be known."""

    def __init__(
        self, seats: list[Seat], amounts: Amounts, future: asyncio.Future[LeasedHold | None], holding: bool
    ) -> None:
        self.seats = seats
        self.amounts = amounts
        self.future = future
        self.holding = holding
        self.marks: dict[str, int] = {}
        self.until = time.monotonic() + PATIENCE
        self.pause = 0.002
        self.taking: list[int] = []


Seeder = Callable[[Sequence[Claim]], Awaitable[Sequence[int]]]


class RedisCounters:
    """The ``Counters`` contract over Redis. ``start`` before the first reservation, ``close`` after the last.

    ``seed`` reads from the ledger what budgets have spent in their current periods; it is asked for a counter that
    Redis does not know, and may raise StoreUnavailable. ``spool`` names this process's spool and ``position`` says up
    to where settlements are in it, so that ``recover`` can count the rest after a crash. ``crossed`` is called with
    every threshold that is crossed. ``beat`` is seconds of silence after which a process counts as dead; what it had
    leased of budgets stays leased ``grace`` seconds longer when it has a spool. ``follow`` sets the clock by Redis's.
    """

    def __init__(
        self,
        link: RedisLink,
        *,
        clock: Callable[[], float] = time.time,
        seed: Seeder | None = None,
        spool: str = "",
        position: Callable[[], Place] | None = None,
        crossed: Callable[[Crossing], None] | None = None,
        beat: float = 10.0,
        grace: float = 20.0,
        follow: bool = True,
    ) -> None:
        self.clock = clock
        self.open = 0
        self.processes = 1
        self.exchanges = 0
        self.wake = asyncio.Event()
        self._link = link
        self._base = link.key("")
        self._seed = seed
        self._spool = spool
        self._position = position
        self._crossed = crossed
        self._beat = beat
        self._grace = grace
        self._follow = follow
        self._offset = 0.0
        self._quickest = math.inf
        self._accounts: dict[str, Account] = {}
        self._seated: dict[int, Seats] = {}
        self._dirty: list[Account] = []
        self._seeds: dict[str, tuple[int, int, float]] = {}
        self._active: dict[str, Account] = {}
        self._window_seeds: dict[str, list[tuple[float, int]]] = {}
        self._asks: deque[_Ask] = deque()
        self._unseeded: list[_Ask] = []
        self._seeding: asyncio.Task[None] | None = None
        self._decoder = msgspec.msgpack.Decoder(Answer)
        self._encoder = msgspec.msgpack.Encoder()
        self._task: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._later: set[asyncio.TimerHandle] = set()
        self._process = secrets.token_hex(8)
        self._number = 0
        self._epoch = ""
        self._joined = False
        self._lost = False
        self._inflight: tuple[bytes, list[Account], list[_Ask]] | None = None
        self._asked_at = 0.0
        self._away = True
        self._contact = -math.inf
        self._valid_until = -math.inf
        self._swept = 0.0
        self._closing = False

    # -- life

    async def start(self) -> None:
        """Never fails because Redis is away: what each limit does then is its policy."""
        if self._task is None:
            await self._exchange()
            self._task = asyncio.create_task(self._converse(), name="counters")
            self._task.add_done_callback(self._ended)
            self._listening = asyncio.create_task(self._listen(), name="wanted")

    async def close(self) -> None:
        """Report what is settled and give back what is idle. What cannot be said now is in the spool."""
        self._closing = True
        self.wake.set()
        if (
            self._task is not None
        ):  # it ends by itself: a cancelled driver call may forget that it was cancelled
            await asyncio.gather(self._task, return_exceptions=True)
        tasks = [task for task in (self._listening, self._seeding) if task is not None]
        self._task = self._listening = self._seeding = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for ask in (*self._asks, *self._unseeded):
            if not ask.future.done():
                ask.future.set_exception(StoreUnavailable("The gateway is shutting down"))
        self._asks.clear()
        for handle in self._later:
            handle.cancel()
        for account in self._accounts.values():
            account.give_back = True
            self.touch(account)
        for _ in range(3):
            if self._dirty or self._inflight is not None:
                await self._exchange()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Only ``close`` ends the conversation. Whatever else does is a defect: the limits' policies decide then."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the conversation with Redis broke off", exc_info=error)
            self._away = True
            asks = [*self._asks, *self._unseeded, *(self._inflight[2] if self._inflight is not None else ())]
            self._asks.clear()
            for ask in asks:
                self._give_up(ask)

    @property
    def away(self) -> bool:
        return self._away

    def now(self) -> float:
        """The time all processes agree on."""
        return self.clock() + self._offset

    def held(self) -> int:
        return self.open

    def touch(self, account: Account) -> None:
        """It has something to report."""
        if not account.dirty:
            account.dirty = True
            self._dirty.append(account)

    # -- reserving

    def reserve_now(self, claims: tuple[Claim, ...], amounts: Amounts) -> LeasedHold | None:
        known = self._seated.get(id(claims))
        if known is None or known.claims is not claims:
            known = self._seat(claims)
        return self._take(known.seats, amounts)

    async def reserve(self, claims: tuple[Claim, ...], amounts: Amounts) -> LeasedHold:
        hold = self.reserve_now(claims, amounts)
        if hold is not None:
            return hold
        seats = self._seated[id(claims)].seats
        if self._away:
            return self._take_away(seats, amounts)
        held = await self._ask(seats, amounts, holding=True)
        assert held is not None
        return held

    async def _ask(self, seats: list[Seat], amounts: Amounts, *, holding: bool) -> LeasedHold | None:
        ask = _Ask(seats, amounts, asyncio.get_running_loop().create_future(), holding)
        now = self.now()
        for seat in seats:
            seat.account.asked = now  # ``prune`` leaves it alone while this waits
        self._asks.append(ask)
        self.wake.set()
        try:
            return await ask.future
        except asyncio.CancelledError:
            if ask.future.done() and not ask.future.cancelled() and ask.future.exception() is None:
                hold = ask.future.result()
                if hold is not None:
                    hold.release()
            raise

    def _take(self, seats: list[Seat], amounts: Amounts) -> LeasedHold | None:
        now = self.clock() + self._offset
        if self._away or now > self._valid_until:
            return None
        taking: list[int] = []
        for seat in seats:
            account = seat.account
            measure = seat.measure
            if measure == 0:
                amount = 1
            elif measure == 1:
                amount = amounts.nano_usd
            else:
                amount = _amount(seat, amounts)
            if (
                amount > account.idle or now >= account.until or account.idle <= 0 or now < account.scarce
            ) and not seat.watched:
                return None
            taking.append(amount)
        return self._hold(seats, amounts, taking, now)

    def _hold(self, seats: list[Seat], amounts: Amounts, taking: list[int], now: float) -> LeasedHold:
        parts: list[int] = []
        crossed: list[Crossing] | None = None
        for at, seat in enumerate(seats):
            account = seat.account
            amount = taking[at]
            part = 0
            if seat.watched:
                crossed = self._watch(seat, amount, now, crossed)
                account.idle += amount
            account.idle -= amount
            account.flow += amount
            account.touched = now
            kind = seat.kind
            if kind == WINDOW:
                part = account.part
                own = account.own
                own[part] = own.get(part, 0) + amount
                if seat.watched:
                    account.owe(part, amount)
                    self.touch(account)
            else:
                account.held += amount
                if account.crossed:
                    crossed = [*(crossed or ()), *account.crossed]
                    account.crossed = []
            parts.append(part)
            if account.idle < account.low and not account.dirty:
                self.touch(account)
        self.open += 1
        return LeasedHold(self, seats, taking, parts, crossed)

    def _watch(
        self, seat: Seat, amount: int, now: float, crossed: list[Crossing] | None
    ) -> list[Crossing] | None:
        """Whether a limit that is only watched would have refused, as far as is known here."""
        account = seat.account
        account.refresh(now)
        limit = seat.claim.limit
        if seat.claim.raised_by and now < seat.claim.raised_until:
            limit += seat.claim.raised_by
        taken = account.known + account.used + sum(account.later.values()) + sum(account.sent_later.values())
        taken += account.sent + max(account.leased, account.held) if seat.kind != WINDOW else 0
        self.touch(account)
        if taken + amount <= limit:
            return crossed
        crossing = Crossing(claim=seat.claim, at=limit, used=taken + amount, shadow=True)
        self._tell(crossing)
        return [*(crossed or ()), crossing]

    def _take_away(self, seats: list[Seat], amounts: Amounts) -> LeasedHold:
        """Without Redis: what each limit's policy says. Raises StoreUnavailable naming those that forbid it."""
        now = self.now()
        taking: list[int] = []
        refused: list[str] = []
        strict_holds = time.monotonic() - self._contact < self._beat * 0.8
        for seat in seats:
            account = seat.account
            account.refresh(now)
            amount = _amount(seat, amounts)
            taking.append(amount)
            if seat.watched or seat.claim.outage == "open":
                continue
            if seat.claim.outage == "closed":
                refused.append(seat.claim.counter)
            elif seat.kind == WINDOW:
                if account.own_total(account.part) + amount > self._share(account, now):
                    refused.append(seat.claim.counter)
            elif amount > account.idle or account.idle <= 0 or (seat.claim.strict and not strict_holds):
                refused.append(seat.claim.counter)
        if refused:
            raise StoreUnavailable(
                "The counters of limits are away, and what this process holds of them is spent: "
                + ", ".join(refused)
                + ". Try again in a moment.",
                details={"counters": refused},
                headers={"retry-after": "1"},
            )
        hold = self._hold(seats, amounts, taking, now)
        for at, seat in enumerate(seats):
            if seat.kind == WINDOW and not seat.watched:
                account = seat.account
                account.idle += taking[at]
                from_idle = min(max(account.idle, 0), taking[at])
                account.idle -= from_idle
                if taking[at] > from_idle:
                    account.owe(account.part, taking[at] - from_idle)
                self.touch(account)
        return hold

    def _share(self, account: Account, now: float) -> int:
        """What this process may use of a window while Redis is away, so that all together stay within the limit.

        For one window length what was free is divided; after that the limit is. In between the smaller of both holds,
        until what others used before has left the window.
        """
        limit = account.limit_at(now)
        seconds = account.claim.seconds
        since = time.monotonic() - self._contact
        even = limit // self.processes
        if since >= 2 * seconds + 2:
            return even
        begun = account.part - int(since / account.width)
        before = sum(amount for at, amount in account.own.items() if begun - KEPT <= at <= begun)
        first = before + max(limit - account.known, 0) // self.processes
        return first if since < seconds + 1 else min(first, even)

    # -- the contract's other half

    async def standing(self, claims: tuple[Claim, ...]) -> list[Standing]:
        seats = self._seats(claims)
        for first in range(0, len(seats), CROWD):
            if not self._away:
                await self._ask(seats[first : first + CROWD], Amounts(), holding=False)
        now = self.now()
        rows = []
        for seat in seats:
            account = seat.account
            account.refresh(now)
            resets_at: float | None = None
            spent = account.known
            held = max(account.leased - account.idle_anywhere, account.held)
            if account.kind == WINDOW:
                spent -= min(account.idle_anywhere, spent)
                held = 0
                resets_at = now + (account.claim.seconds if spent else 0)
            elif account.kind == BUDGET:
                resets_at = None if account.until == math.inf else account.until
            else:
                spent = 0
            rows.append(Standing(claim=seat.claim, spent=spent, held=held, resets_at=resets_at))
        return rows

    def seed(self, claim: Claim, spent: int) -> None:
        """What the ledger says of a budget's current period. Counts only where Redis does not know the counter."""
        begun, _ = period(claim.per, self.now(), claim.anchor, claim.zone, claim.first_day, claim.first_month)
        self._seeds[claim.counter] = (spent, int(begun), time.monotonic())

    def seed_window(self, claim: Claim, amounts: Iterable[tuple[float, int]]) -> None:
        """What was admitted before, as (Unix seconds, amount). Counts only where Redis does not know the window."""
        self._window_seeds[claim.counter] = list(amounts)

    async def reset(self, claim: Claim, spent: int) -> None:
        """From now on this budget has spent ``spent`` in its current period, for every process. Raises
        StoreUnavailable."""
        await self.standing((claim,))
        key = f"{self._base}c:{claim.counter}"
        await self._link.command("HSET", key, "g", spent, "d", 0)
        await self._link.command("HDEL", key, "b")
        await self.standing((claim,))

    def known(self, claim: Claim) -> bool:
        return claim.counter in self._seeds or claim.counter in self._accounts

    def prune(self, keep: frozenset[str] | set[str]) -> None:
        """Forget counters that say nothing and that nobody of ``keep`` (counter names) claims."""
        self._seated.clear()
        now = self.now()
        for name, account in list(self._accounts.items()):
            if name not in keep and account.quiet() and now - account.asked > FORGOTTEN:
                del self._accounts[name]
                self._active.pop(name, None)
        for name in [one for one in self._seeds if one not in keep]:
            del self._seeds[name]
        for name in [one for one in self._window_seeds if one not in keep]:
            del self._window_seeds[name]

    async def recover(self, spool: str) -> Place | None:
        """Up to where the settlements in that spool are counted; None when Redis knows nothing of it. Raises
        StoreUnavailable."""
        found = await self._link.command("HMGET", f"{self._base}spool:{spool}", "segment", "offset")
        if not isinstance(found, list) or not isinstance(found[0], bytes) or not isinstance(found[1], bytes):
            return None
        return int(found[0]), int(found[1])

    async def apply(
        self, spool: str, after: Place | None, until: Place, settlements: Iterable[Settlement]
    ) -> bool:
        """Count what a process that is dead had settled between ``after`` (from ``recover``) and ``until``, and end
        its leases. False: somebody else did. Call it before this process takes that spool for its own, and also with
        no settlements, because the leases end with it. Raises StoreUnavailable."""
        amounts: dict[tuple[str, int], int] = {}
        for settlement in settlements:
            for claim in settlement.claims:
                if claim.unit == "parallel" or claim.seconds:
                    continue  # slots end with the process; windows counted the request when they admitted it
                begun, _ = period(
                    claim.per, settlement.at, claim.anchor, claim.zone, claim.first_day, claim.first_month
                )
                at = (claim.counter, int(begun))
                amounts[at] = amounts.get(at, 0) + measures.used(
                    measures.measure_of(claim),
                    claim.cached,
                    settlement.nano_usd,
                    settlement.tokens,
                    settlement.input_tokens,
                    settlement.cached_tokens,
                )
        before = after or (-1, -1)
        message = self._encoder.encode(
            [
                spool,
                before[0],
                before[1],
                until[0],
                until[1],
                [[*at, amount] for at, amount in amounts.items()],
            ]
        )
        return await self._link.run(_APPLY, [self._base], [message], patient=True) == 1

    # -- the conversation

    async def _converse(self) -> None:
        while not self._closing:
            due = TICK if self._dirty else min(self._beat / 3, TICK * 4)
            try:
                async with asyncio.timeout(due):
                    await self.wake.wait()
            except TimeoutError:
                pass
            self.wake.clear()
            self._sweep()
            overdue = time.monotonic() - self._contact > self._beat / 3
            if self._asks or self._dirty or self._inflight is not None or overdue:
                await self._exchange()
                if self._away and not self._closing:
                    await asyncio.sleep(self._link.pause)

    async def _exchange(self) -> None:
        """One message and its answer, or the same message again when the last one had none."""
        if self._inflight is None:
            self._inflight = self._pack()
        message, accounts, asks = self._inflight
        begun = time.monotonic()
        asked = self.clock()
        try:
            try:
                reply = await self._link.run(_EXCHANGE, [self._base], [message], patient=True)
            except RedisAway:
                if self._away or time.monotonic() - begun < self._link.deadline * 1.5:
                    raise
                # It was this process that was busy, and the answer may have been there: ask once more.
                begun, asked = time.monotonic(), self.clock()
                reply = await self._link.run(_EXCHANGE, [self._base], [message], patient=True)
            answer = self._decoder.decode(cast("bytes", reply))
        except RedisAway:
            self._away = True
            for account in accounts:  # nobody answers for it now: it is this process's to spend
                account.idle += account.pool
                account.borrowed += account.pool
                account.pool = 0
            for ask in asks:
                self._give_up(ask)
            while self._asks:
                self._give_up(self._asks.popleft())
            return
        self.exchanges += 1
        self._inflight = None
        self._set_clock(asked, begun, answer.clock / 1000)
        if answer.status != "OK":
            self._begin_again(accounts, asks, answer)
            return
        self._epoch = answer.epoch
        self._joined = True
        self._lost = False
        self._away = False
        self.processes = answer.processes
        self._contact = begun
        self._valid_until = asked + self._offset + self._beat * 0.8
        self._read(accounts, asks, answer)

    def _set_clock(self, asked: float, begun: float, theirs: float) -> None:
        took = time.monotonic() - begun
        if self._follow and took <= self._quickest * 1.5 + 0.0005:
            self._offset = theirs - (asked + took / 2)
            self._quickest = min(took, self._quickest)
        self._quickest *= 1.01

    def _begin_again(self, accounts: list[Account], asks: list[_Ask], answer: Answer) -> None:
        """Redis lost its data, or took this process for dead: nothing is leased any more except what is held."""
        log.warning(
            "Redis lost its counters; they are told again" if answer.status == "LOST" else
            "Redis took this process for dead; what it held is told again"
        )  # fmt: skip
        self._lost = answer.status == "LOST" or self._lost
        self._joined = False
        self._epoch = answer.epoch
        self._process = secrets.token_hex(8)
        self._number = 0
        for account in accounts:
            account.used += account.sent
            account.sent = 0
            for part, amount in account.sent_later.items():
                account.owe(part, amount)
            account.sent_later = {}
            account.pool = account.borrowed = 0
        for account in self._accounts.values():
            account.idle = 0
            account.answered = 0
            account.seeded = False
            account.seed = -1
            if account.kind == WINDOW and self._lost:
                account.later = {at: amount for at, amount in account.own.items() if amount > 0}
            if not account.quiet() or account.known or account.later:
                self.touch(account)
        self._asks.extendleft(reversed(asks))
        self.wake.set()

    def _pack(self) -> tuple[bytes, list[Account], list[_Ask]]:
        now = self.now()
        asks: list[_Ask] = []
        chosen: dict[str, int] = {}
        accounts: list[Account] = []

        def choose(account: Account) -> int:
            number = chosen.get(account.name)
            if number is None:
                accounts.append(account)
                number = chosen[account.name] = len(accounts)
            return number

        asked: list[list[tuple[int, int, int]]] = []
        while self._asks and len(asks) < ASKS:
            ask = self._asks.popleft()
            if ask.future.done():
                continue
            if ask.holding:
                hold = self._take(ask.seats, ask.amounts)
                if hold is not None:
                    ask.future.set_result(hold)
                    continue
            ask.taking = []
            items = []
            for seat in ask.seats:
                amount = _amount(seat, ask.amounts)
                ask.taking.append(amount)
                mark = ask.marks.get(seat.claim.counter, 0)
                items.append((choose(seat.account), amount, mark if ask.holding and not seat.watched else -1))
            asks.append(ask)
            asked.append(items)
        in_asks = len(accounts)
        everything = self._dirty
        self._dirty = []
        for account in everything:
            account.dirty = False
            choose(account)
        entries = [self._entry(account, now, at < in_asks) for at, account in enumerate(accounts)]
        place = self._position() if self._position is not None else (0, 0)
        self._number += 1
        message = Message(
            process=self._process,
            number=self._number,
            epoch=self._epoch or secrets.token_hex(8),
            join=0 if self._joined else 1,
            beat=int(self._beat * 1000),
            grace=int(self._grace * 1000),
            spool=self._spool if self._position is not None else "",
            segment=place[0],
            offset=place[1],
            counters=entries,
            asks=asked,
        )
        return self._encoder.encode(message), accounts, asks

    def _entry(self, account: Account, now: float, asked: bool) -> Entry:
        account.refresh(now)
        if account.idle < 0:
            account.idle = 0  # what went beyond the lease is charged with what was used
        watched = not account.claim.enforce
        mark = account.wanted if account.wanted > account.answered else 0
        if mark or account.give_back or now < account.scarce:
            if account.kind == WINDOW and account.idle:
                account.owe(account.part, -account.idle)
            account.idle = 0
            account.give_back = False
        account.pool = 0
        if asked and not watched:
            account.pool = account.idle
            account.idle = 0
        want = self._want(account, now) if not mark and not watched and not self._closing else 0
        account.sent, account.used = account.used, 0
        account.sent_later, account.later = account.later, {}
        account.sent_mark = mark
        account.sent_alert = account.reached(account.known) if account.known >= account.alert else -1
        if account.kind == BUDGET and not account.seeded and account.seed < 0:
            account.seed = self._early_seed(account)
        if account.kind == WINDOW and not account.seeds and account.name in self._window_seeds:
            for at, amount in self._window_seeds.pop(account.name):
                account.seeds += (min(int(at / account.width), account.part), amount)
        idle = account.idle + account.pool
        return Entry(
            name=account.name,
            kind=account.kind,
            limit=account.limit_at(now),
            at=account.part if account.kind == WINDOW else account.start,
            used=account.sent,
            lease=account.held + idle,
            idle=idle,
            later=[number for item in account.sent_later.items() for number in item],
            answered=mark,
            seed=account.seed,
            floor=account.known if self._lost and account.known > 0 else -1,
            alert=account.sent_alert,
            asked=1 if asked and not watched else 0,
            want=want,
            seeds=account.seeds,
            seconds=account.claim.seconds,
        )

    def _early_seed(self, account: Account) -> int:
        """What ``seed`` was told, where nobody can be asked or it was told just now; else -1."""
        spent, begun, told = self._seeds.pop(account.name, (-1, -1, 0.0))
        if begun != account.start or (self._seed is not None and time.monotonic() - told > FRESH):
            return -1
        return spent

    def _want(self, account: Account, now: float) -> int:
        """As much more as was taken in the last moments, for a second (a sub-window, where that ends sooner)."""
        elapsed = now - account.flow_since
        if elapsed >= TICK / 2:
            account.rate = max(account.flow / elapsed, account.rate * 0.5 if elapsed < 2 else 0.0)
            account.flow = 0
            account.flow_since = now
        horizon = 1.0
        if account.kind == WINDOW:
            horizon = min(account.until - now, 1.0)
        elif account.kind == SLOTS:
            return max(account.held // 4 - account.idle - account.pool, 0)
        wanted = int(account.rate * horizon)
        account.low = wanted // 2
        return max(wanted - account.idle - account.pool, 0)

    def _read(self, accounts: list[Account], asks: list[_Ask], answer: Answer) -> None:
        now = self.now()
        for at, account in enumerate(accounts):
            told = answer.counters[at]
            if account.kind == WINDOW and told.at != account.part:
                account.enter(told.at)
            account.sent = 0
            account.sent_later = {}
            account.pool = 0
            account.seeds = []
            account.idle += told.extra + told.pool - account.borrowed
            account.borrowed = 0
            if account.kind != BUDGET or told.at == account.start:
                account.known = told.spent
            account.leased = told.leased
            account.idle_anywhere = told.idle
            account.seeded = bool(told.seeded)
            if account.seeded:
                account.seed = -1
            self._active[account.name] = account
            account.answered = max(account.answered, account.sent_mark)
            if told.wanted > account.answered and account.wanted < told.wanted:
                account.wanted = told.wanted
                self.touch(account)
            self._read_alert(account, told)
            self._shrink(account, told, now)
        again: list[_Ask] = []
        for at, ask in enumerate(asks):
            verdict = answer.asks[at]
            if verdict[0] == _GRANTED:
                self._grant(ask, now)
            elif verdict[0] == _WAIT and time.monotonic() < ask.until:
                counter = accounts[verdict[1] - 1]
                ask.marks[counter.name] = verdict[2]
                again.append(ask)
            elif verdict[0] == _UNSEEDED:
                self._unseeded.append(ask)
            else:
                self._refuse(ask, accounts[verdict[1] - 1], verdict, now)
        for ask in again:
            self._ask_again(ask)
        if self._unseeded and self._seeding is None:
            self._seeding = asyncio.create_task(self._read_seeds())

    def _read_alert(self, account: Account, told: Told) -> None:
        if account.sent_alert >= 0:
            account.told(account.sent_alert)
            if told.alerted:
                crossing = Crossing(claim=account.claim, at=account.sent_alert, used=account.known)
                account.crossed.append(crossing)
                self._tell(crossing)
        if account.known >= account.alert:
            self.touch(account)

    def _shrink(self, account: Account, told: Told, now: float) -> None:
        """As the allowance runs out, slices do: nobody keeps more than its share of half of what is left."""
        if account.idle <= 0:
            return
        taken = told.spent if account.kind == WINDOW else told.spent + told.leased
        free = account.limit_at(now) - taken
        if self.processes == 1 and free >= 0:
            return
        if account.idle > max((free + account.idle) // (2 * self.processes), 0):
            account.give_back = True
            self.touch(account)

    def _grant(self, ask: _Ask, now: float) -> None:
        if not ask.holding:
            if not ask.future.done():
                ask.future.set_result(None)
            return
        for at, seat in enumerate(ask.seats):
            if not seat.watched:
                seat.account.idle += ask.taking[at]
        hold = self._hold(ask.seats, ask.amounts, ask.taking, now)
        if ask.future.done():
            hold.release()
        else:
            ask.future.set_result(hold)

    def _ask_again(self, ask: _Ask) -> None:
        def again() -> None:
            self._later.discard(handle)
            self._asks.append(ask)
            self.wake.set()

        handle = asyncio.get_running_loop().call_later(ask.pause, again)
        self._later.add(handle)
        ask.pause = min(ask.pause * 1.5, 0.02)

    def _refuse(self, ask: _Ask, account: Account, verdict: list[int], now: float) -> None:
        if ask.future.done():
            return
        hold = self._take(ask.seats, ask.amounts)  # something may have ended meanwhile
        if hold is not None:
            ask.future.set_result(hold)
            return
        at = next(index for index, seat in enumerate(ask.seats) if seat.account is account)
        claim = ask.seats[at].claim
        spent, held, room = (
            (verdict[2], verdict[3], verdict[4])
            if verdict[0] == _REFUSED
            else (account.known, account.leased - account.idle_anywhere, account.part)
        )
        limit = account.limit_at(now)
        error: GatewayError
        if account.kind == BUDGET:
            end = None if account.until == math.inf else account.until
            error = refusals.budget_refusal(
                claim, limit=limit, spent=spent, held=held, needed=ask.taking[at], end=end
            )
        elif account.kind == SLOTS:
            error = refusals.slots_refusal(claim, limit=limit, held=held)
        else:
            error = refusals.rate_refusal(
                claim,
                limit=limit,
                used=spent,
                needed=ask.taking[at],
                wait=max((room + KEPT + 1) * account.width - now, 0.001),
                reset=max((account.part + KEPT + 1) * account.width - now, 0.0),
                now=now,
            )
        ask.future.set_exception(error)

    def _give_up(self, ask: _Ask) -> None:
        """Redis went away while it waited."""
        if ask.future.done():
            return
        if not ask.holding:
            ask.future.set_result(None)
            return
        try:
            ask.future.set_result(self._take_away(ask.seats, ask.amounts))
        except StoreUnavailable as refused:
            ask.future.set_exception(refused)

    async def _read_seeds(self) -> None:
        """Ask the ledger for what Redis does not know, then go on with the requests that need it."""
        asks, self._unseeded = self._unseeded, []
        claims: dict[str, Account] = {}
        for ask in asks:
            for seat in ask.seats:
                if seat.kind == BUDGET and not seat.account.seeded:
                    claims[seat.account.name] = seat.account
        accounts = list(claims.values())
        failure: StoreUnavailable | None = None
        if self._seed is not None:
            try:
                found = await self._seed([account.claim for account in accounts])
                for account, spent in zip(accounts, found, strict=True):
                    account.seed = spent
            except StoreUnavailable as error:
                failure = error
        for account in accounts:
            if account.seed < 0 and (failure is None or account.known > 0):
                account.seed = 0
        for ask in asks:
            unknown = [
                seat
                for seat in ask.seats
                if seat.kind == BUDGET and seat.account.seed < 0 and not seat.account.seeded
            ]
            if failure is not None and unknown:
                if not ask.future.done():
                    ask.future.set_exception(failure)
            else:
                self._asks.append(ask)
        self._seeding = None
        if self._unseeded:
            self._seeding = asyncio.create_task(self._read_seeds())
        self.wake.set()

    def _sweep(self) -> None:
        """Give back what was not used for a second."""
        now = self.now()
        if abs(now - self._swept) < IDLE / 2:
            return
        self._swept = now
        if self._away:
            return
        for name, account in list(self._active.items()):
            if now - account.touched <= IDLE:
                continue
            if account.idle > 0:
                account.refresh(now)
                account.give_back = True
                self.touch(account)
            elif account.quiet():
                del self._active[name]

    async def _listen(self) -> None:
        """Others say which counters they lack; what is idle of them here is given back at once."""
        from tollway.shared.redis_bus import RedisPubSub

        def wanted(payload: bytes) -> None:
            mark, _, name = payload.decode().partition(":")
            account = self._accounts.get(name)
            if account is not None and int(mark) > account.wanted:
                account.wanted = int(mark)
                account.scarce = self.now() + SCARCE
                self.touch(account)
                self.wake.set()

        bus = RedisPubSub(self._link, named=False)
        bus.subscribe(f"{self._base}wanted", wanted)
        await bus.start()
        try:
            await asyncio.Event().wait()
        finally:
            await bus.close()

    def _tell(self, crossing: Crossing) -> None:
        if self._crossed is not None:
            self._crossed(crossing)

    def _seat(self, claims: tuple[Claim, ...]) -> Seats:
        """Claims do not change while they are in use, so their accounts are looked up once (until ``prune``)."""
        if len(self._seated) >= SEATED:
            self._seated.clear()
        known = self._seated[id(claims)] = Seats(claims, self._seats(claims))
        return known

    def _seats(self, claims: tuple[Claim, ...]) -> list[Seat]:
        now = self.now()
        seats = []
        for claim in claims:
            account = self._accounts.get(claim.counter)
            if account is None:
                account = self._accounts[claim.counter] = Account(claim, now)
            elif claim.limit < measures.UNBOUNDED:
                account.follow(claim)
            else:  # something is added that nothing was held for: what is idle here may be more than is left
                account.give_back = True
                self.touch(account)
            seats.append(Seat(claim, account))
        return seats


def _amount(seat: Seat, amounts: Amounts) -> int:
    """What a claim holds of a request. An expectation alone never makes it too large for a window."""
    amount = measures.expected(seat.measure, amounts)
    if (
        seat.kind == WINDOW
        and amount > seat.limit >= measures.certain(seat.measure, amounts)
        and seat.measure != measures.ONE
    ):
        return seat.limit
    return amount
