"""A stream that grows longer than was expected holds more, step by step, so that what others may reserve stays true."""

from __future__ import annotations

from typing import Final

from tollway.errors import BudgetExceeded
from tollway.model.money import PER_MILLION
from tollway.pipeline.resolve import Call
from tollway.pipeline.snapshot import Target
from tollway.shared.interface import Hold

STEP: Final = 512
"""Tokens of output, the least by which a hold grows."""

LOOK: Final = 8192
"""Bytes of a stream between two looks at how long it is."""


class Growth:
    """``seen`` bytes of the stream so far; when they reach ``look`` it is time for ``grow``. ``outgrown`` is true once
    a ceiling was reached: nothing more is held from then on."""

    __slots__ = ("_cut", "_held", "_hold", "_rate", "look", "outgrown", "seen")

    def __init__(self, call: Call, hold: Hold, target: Target) -> None:
        price = target.deployment.price
        self._hold = hold
        self._held = call.expected
        self._rate = (price.rates.output or 0) if price is not None else 0
        self._cut = call.grant.taking(call.route).cut
        self.seen = 0
        self.look = LOOK
        self.outgrown = False

    def grow(self, written: int) -> bool:
        """``written`` tokens so far, by our count. False: the stream must be cut."""
        self.look = self.seen + LOOK
        if self.outgrown or written < self._held:
            return True
        more = max(STEP, written - self._held + STEP, self._held // 2)
        if self._hold.extend(nano_usd=-(-more * self._rate // PER_MILLION), tokens=more):
            self._held += more
            return True
        self.outgrown = True
        return not self._cut


def cut() -> BudgetExceeded:
    """What a client is told whose stream is cut."""
    return BudgetExceeded(
        "The answer was cut here: it grew past what was left of a budget that cuts such streams. Ask an administrator "
        "to raise it, or ask for shorter answers with max_tokens."
    )
