"""The money side of a realtime session: what is held while it is open, and an event for each of its responses.

A session holds one request and one parallel slot for as long as it lasts, and the money and tokens of the next response
at any time, of each one where several run side by side. ``response.done`` settles one hold and asks for the next, which
is expected to cost what the last one did, since a conversation grows. A strict budget holds a response's worst case.
"""

from __future__ import annotations

import math

from msgspec import Raw

from tollway.errors import GatewayError
from tollway.model.event import Outcome
from tollway.model.money import PER_MILLION, Money
from tollway.model.usage import NOTHING, Usage
from tollway.pipeline import meter
from tollway.pipeline.grant import Grant
from tollway.pipeline.meter import Metered
from tollway.pipeline.record import Attempt
from tollway.pipeline.reserve import dearest
from tollway.pipeline.resolve import Call
from tollway.pipeline.services import Services
from tollway.pipeline.snapshot import Target
from tollway.pricing.cost import cost
from tollway.shared.interface import Amounts, Claim, Hold
from tollway.wire.formats.openai_realtime import Response, read_usage

FIRST_INPUT = Usage(input=200, audio_input=300)
"""Expected of a session's first response, before anything is known of it."""

CONTEXT, LONGEST = 128_000, 4_096
"""Tokens a response may read and write at most, where the price book does not say."""

OPENED = 101
"""The status of a session's own event, written where it had no response."""

_PER_SESSION = frozenset(("requests", "parallel"))


class Turn:
    """A response under way: its event to be, and what it has said so far."""

    __slots__ = ("attempt", "audio", "text")

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.text = 0
        self.audio = 0


class SessionAccount:
    """Holds and events of one session. ``end`` may be called on every way out; it never waits."""

    def __init__(self, call: Call, app: Services) -> None:
        self._call = call
        self._app = app
        self._session_claims: tuple[Claim, ...] = ()
        self._turn_claims: tuple[Claim, ...] = ()
        self._standing: Hold | None = None
        self._holds: list[Hold] = []
        self._turns: dict[str, Turn] = {}
        self._asked = 0
        self._owed_usd: Money = 0
        self._owed_tokens = 0
        self._expected_usd: Money = 0
        self._expected_tokens = 0
        self._spare: Attempt | None = None
        self._number = 0
        self._written = 0
        self._heard = FIRST_INPUT
        self._context = NOTHING
        self._over = False
        self.grant = call.grant

    @property
    def grant(self) -> Grant:
        return self._call.grant

    @grant.setter
    def grant(self, grant: Grant) -> None:
        """Whose session it is from now on: a changed key's new budgets count from the next hold."""
        self._call.grant = grant
        claims = grant.taking(self._call.route).claims
        self._session_claims = tuple(claim for claim in claims if claim.unit in _PER_SESSION)
        self._turn_claims = tuple(claim for claim in claims if claim.unit not in _PER_SESSION)

    async def open(self) -> None:
        """Raises BudgetExceeded or RateLimitExceeded; then nothing is held."""
        targets = self._call.route.targets
        usages = [_expected(target) for target in targets]
        self._expected_tokens = max(usage.tokens() for usage in usages)
        self._expected_usd = max(_cost(t, u) for t, u in zip(targets, usages, strict=True))
        if self._session_claims:
            self._standing = await self._app.counters.reserve(self._session_claims, Amounts())
        try:
            await self.cover()
        except BaseException:
            self._let_go()
            raise

    def attempt(self, target: Target) -> Attempt:
        """Room for one event; StoreUnavailable where there is none: then nothing may be sent."""
        self._number += 1
        return self._app.journal.begin(self._call, target, self._number)

    def connected(self, attempt: Attempt) -> None:
        """The socket stands. The attempt that opened it becomes the first response's event."""
        self._spare = attempt

    def ratelimit_headers(self) -> bytes:
        return self._standing.ratelimit_headers() if self._standing is not None else b""

    # While it lasts.

    async def ask(self) -> None:
        """The client is about to ask for a response. Raises as ``open`` does: then it must not be sent."""
        self._asked += 1
        try:
            await self.cover()
        except GatewayError:
            self._asked -= 1
            raise

    async def cover(self) -> None:
        """Hold what responses under way, asked for, or the next one will take; let go of what is held beyond."""
        if not self._turn_claims or self._ended():
            return
        need = max(1, len(self._turns) + self._asked)
        while len(self._holds) < need:
            hold = await self._app.counters.reserve(self._turn_claims, self._amounts())
            self._holds.append(hold)
        if self._ended():  # while we waited
            self._let_go()
            return
        while len(self._holds) > need:
            self._holds.pop().release()

    def refused(self) -> None:
        """The provider reported an error: it may be that a response asked for does not come."""
        self._asked = max(self._asked - 1, 0)

    def heard(self, usage: Usage) -> None:
        """What the client added to the conversation, by our count."""
        self._heard = _sum(self._heard, usage)

    def began(self, response: Response, target: Target) -> None:
        """Raises StoreUnavailable when there is no room for a further event."""
        self._asked = max(self._asked - 1, 0)
        if response.id not in self._turns:
            self._turns[response.id] = Turn(self._take(target))
            self._refill(target)

    def said(self, response_id: str, usage: Usage) -> None:
        turn = self._turns.get(response_id)
        if turn is None:
            return
        turn.text += usage.output
        turn.audio += usage.audio_output
        if not turn.attempt.first_token_at:
            turn.attempt.first_token_at = self._app.clock()

    def finished(self, response: Response, target: Target) -> None:
        """Write the response's event and settle its hold. Raises StoreUnavailable as ``began``."""
        turn = self._turns.pop(response.id, None) or Turn(self._take(target))
        usage = read_usage(response.usage)
        found = self._estimate(turn) if usage is None else meter.counted(target, usage, response.usage, None)
        failed = response.status == "failed"
        if usage is None and failed:
            found = meter.nothing(target)  # it never began: nothing is billed
        outcome: Outcome = "error" if failed else "cancelled" if response.status == "cancelled" else "ok"
        self._write(
            turn.attempt,
            outcome,
            502 if failed else 200,
            found,
            "the provider reported the response as failed" if failed else None,
        )
        if usage is not None:
            self._context = _sum(
                Usage(input=usage.input + usage.cache_read, audio_input=usage.audio_input),
                Usage(input=usage.output, audio_input=usage.audio_output),
            )
            self._heard = NOTHING
            self._expected_usd = found.cost
            self._expected_tokens = found.usage.tokens()
            target.habit.learn(usage.output + usage.audio_output, 0, 0)
        self._settle(found)
        self._refill(target)

    def transcribed(self, raw: Raw, transcriber: Target, target: Target) -> None:
        """An event of its own for what a transcriber took, at that model's price."""
        usage = read_usage(raw)
        if usage is None:
            return
        found = meter.counted(transcriber, usage, raw, None)
        self._write(self._take(transcriber), "ok", 200, found, None)
        self._settle(found)
        self._refill(target)

    # The end.

    def end(self, outcome: Outcome, status: int, reason: str | None) -> None:
        """Responses that were under way are billed by what they had said, marked as our estimate."""
        if self._over:
            return
        self._over = True
        for turn in self._turns.values():
            found = self._estimate(turn)
            ended: Outcome = "cancelled" if outcome == "ok" else outcome
            self._write(turn.attempt, ended, 499 if status == OPENED else status, found, reason)
            self._owed_usd += found.cost
            self._owed_tokens += found.usage.tokens()
        self._turns.clear()
        spare, self._spare = self._spare, None
        if spare is not None and not self._written:
            self._write(spare, outcome, status, meter.nothing(spare.target), reason)
        elif spare is not None and not spare.done:
            spare.done = True
            self._app.journal.close()
        self._let_go()

    def _ended(self) -> bool:
        return self._over

    def _let_go(self) -> None:
        if self._holds:
            self._holds.pop().settle(nano_usd=self._owed_usd, tokens=self._owed_tokens)
            self._owed_usd = self._owed_tokens = 0
        while self._holds:
            self._holds.pop().release()
        if self._standing is not None:
            self._standing.settle(nano_usd=0, tokens=0)

    def _settle(self, found: Metered) -> None:
        self._owed_usd += found.cost
        self._owed_tokens += found.usage.tokens()
        # A hold that a running response needs is not taken from it: what is owed goes with the next one.
        if len(self._holds) > len(self._turns):
            self._holds.pop().settle(nano_usd=self._owed_usd, tokens=self._owed_tokens)
            self._owed_usd = self._owed_tokens = 0

    def _take(self, target: Target) -> Attempt:
        attempt, self._spare = self._spare, None
        if attempt is None:
            attempt = self.attempt(target)
        attempt.target = target
        attempt.began = attempt.sent_at = self._app.clock()
        return attempt

    def _refill(self, target: Target) -> None:
        if self._spare is None and not self._over:
            self._spare = self.attempt(target)

    def _write(
        self, attempt: Attempt, outcome: Outcome, status: int, found: Metered, error: str | None
    ) -> None:
        self._written += 1
        attempt.finish(outcome, status, found, streamed=True, error=error)

    def _estimate(self, turn: Turn) -> Metered:
        read = _sum(self._context, self._heard)
        usage = Usage(
            input=read.input, audio_input=read.audio_input, output=turn.text, audio_output=turn.audio
        )
        found = meter.counted(turn.attempt.target, usage, Raw(), None)
        found.estimated = True
        return found

    def _amounts(self) -> Amounts:
        worst = 0
        if any(claim.strict for claim in self._turn_claims):
            worst = max(_worst(target, self._app) for target in self._call.route.targets)
        return Amounts(
            tokens=self._expected_tokens, nano_usd=self._expected_usd, worst_nano_usd=max(worst, 0)
        )


def _expected(target: Target) -> Usage:
    return _sum(FIRST_INPUT, Usage(audio_output=math.ceil(target.habit.output)))


def _cost(target: Target, usage: Usage) -> Money:
    price = target.deployment.price
    return (cost(price, usage) or 0) if price is not None else 0


def _worst(target: Target, app: Services) -> Money:
    price = target.deployment.price
    if price is None:
        return 0
    facts = app.snapshot.prices.model(target.provider.entry.price_sheet, target.deployment.upstream_model)
    read = (facts.max_input_tokens if facts else None) or CONTEXT
    written = target.max_output or LONGEST
    return max(
        -(-(read * dearest_in + written * dearest_out) // PER_MILLION)
        for dearest_in, dearest_out in dearest(price)
    )


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        input=one.input + other.input,
        audio_input=one.audio_input + other.audio_input,
        output=one.output + other.output,
        audio_output=one.audio_output + other.audio_output,
    )
