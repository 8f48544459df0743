"""Third stage: hold the money and tokens a request is expected to take, on every ceiling of its key at once.

An ordinary hold is the input, by its size and what a byte usually comes to, and as much output as the key usually gets
from this model, never more than ``max_tokens``. A strict budget holds the worst case: every byte of input a token, all
the output that can be asked for. Where a budget affords less and says so, ``max_tokens`` is shortened to what it does.
"""

from __future__ import annotations

import math

from tollway.errors import BudgetExceeded
from tollway.model.money import PER_MILLION, Money, to_usd
from tollway.model.price import Price, Rates
from tollway.model.usage import Usage
from tollway.pipeline.grant import Ceilings
from tollway.pipeline.habits import ENOUGH
from tollway.pipeline.resolve import Call
from tollway.pipeline.snapshot import Target
from tollway.pricing.cost import cost
from tollway.shared.interface import Amounts, Counters, Crossing, Hold

ATTACHMENT_TOKENS = 1_000
WORST_ATTACHMENT_TOKENS = 20_000
WORST_OUTPUT = 131_072
"""Assumed where neither the request nor the price book bounds the output."""

LEAST_OUTPUT = 16
"""Output shorter than this is no answer: the request is refused instead."""

MOST = 1 << 50
"""Held at most: what a client can ask for has no bound, and counters that are shared count in 64 bits."""

SMALL = 4096
"""A body this small holds no attachment worth telling apart."""

_ENVELOPE = 64
_MARKS = (b'"image_url"', b'"input_audio"', b'"file"')


def input_tokens(body: bytes) -> int:
    """An estimate from size: four bytes a token, inline attachments by the piece instead of by their base64."""
    size = len(body)
    if size > SMALL and (b";base64," in body or b'"input_audio"' in body):
        attachments, inline = _attachments(body)
        return max((size - inline - _ENVELOPE) // 4, 1) + attachments * ATTACHMENT_TOKENS
    return max((size - _ENVELOPE) // 4, 1)


def amounts(call: Call, ceilings: Ceilings) -> Amounts:
    target = call.route.targets[0]
    body = call.request.body
    tokens_in = input_tokens(body)
    habit = target.habit
    if habit.samples and len(body) <= SMALL:
        tokens_in = max(math.ceil(len(body) * habit.share), 1)
    tokens_out = 0
    if call.endpoint != "embeddings":
        own = call.grant.habit(call.route.name)
        tokens_out = math.ceil(own.output if own.samples >= ENOUGH else habit.output) * call.choices
        if call.max_tokens is not None:
            tokens_out = min(tokens_out, call.max_tokens * call.choices)
    call.expected = tokens_out
    nano_usd = worst = 0
    if ceilings.priced:
        nano_usd = _cost(target, tokens_in, tokens_out)
        for other in call.route.targets[1:]:
            nano_usd = max(nano_usd, _cost(other, tokens_in, tokens_out))
        if ceilings.strict:
            worst = max(_worst(each, call, body) for each in call.route.targets)
    return Amounts(
        tokens=min(tokens_in + tokens_out, MOST),
        input_tokens=tokens_in,
        nano_usd=min(nano_usd, MOST),
        worst_nano_usd=min(worst, MOST),
    )


async def reserve(call: Call, ceilings: Ceilings, counters: Counters) -> Hold:
    """Raises BudgetExceeded, RateLimitExceeded, StoreUnavailable."""
    taking = amounts(call, ceilings)
    while True:
        try:
            return warned(call, await counters.reserve(ceilings.claims, taking))
        except BudgetExceeded as error:
            taking = shortened(call, ceilings, error)


def reserve_now(call: Call, ceilings: Ceilings, counters: Counters) -> Hold | None:
    """The same at once; None where it has to be waited for."""
    taking = amounts(call, ceilings)
    while True:
        try:
            hold = counters.reserve_now(ceilings.claims, taking)
        except BudgetExceeded as error:
            taking = shortened(call, ceilings, error)
        else:
            return None if hold is None else warned(call, hold)


def warned(call: Call, hold: Hold) -> Hold:
    """Keep in words what thresholds a reservation crossed."""
    crossed = hold.warnings()
    if crossed:
        call.warnings = tuple(told(one) for one in crossed)
    return hold


def told(crossing: Crossing) -> str:
    claim = crossing.claim
    if claim.unit == "nano_usd":
        words = f"{to_usd(crossing.used)} of {to_usd(claim.limit)} USD"
    else:
        words = f"{crossing.used} of {claim.limit} {claim.unit}"
    if crossing.shadow:
        return f"{claim.subject}: {claim.label} would refuse ({words})"
    return f"{claim.subject}: {claim.label} at {crossing.at * 100 // max(claim.limit, 1)} % ({words})"


def shortened(call: Call, ceilings: Ceilings, error: BudgetExceeded) -> Amounts:
    """What to hold when the answer is made as short as the budget affords. Raises ``error`` where that is not wanted or
    leaves nothing to say."""
    details = error.details
    free = details.get("free")
    if not details.get("clamp") or not isinstance(free, int) or call.format is None:
        raise error
    affordable: int | None = None
    if details.get("unit") == "tokens":
        affordable = (free - _worst_input(call.request.body)) // call.choices
    else:
        for target in call.route.targets:
            affordable = _affordable(target, call, free, affordable)
    if affordable is None or affordable < LEAST_OUTPUT:
        raise error
    if call.max_tokens is not None and affordable >= call.max_tokens:
        raise error
    call.shorten(affordable)
    return amounts(call, ceilings)


def _affordable(target: Target, call: Call, free: int, least: int | None) -> int | None:
    """Tokens of output each choice may have at this target; not more than ``least``."""
    price = target.deployment.price
    if price is None:
        return least
    size = _worst_input(call.request.body)
    for dearest_in, dearest_out in dearest(price):
        if dearest_out:
            left = free - -(-size * dearest_in // PER_MILLION)
            tokens = left * PER_MILLION // (dearest_out * call.choices)
            least = tokens if least is None else min(least, tokens)
    return least


def _cost(target: Target, tokens_in: int, tokens_out: int) -> Money:
    price = target.deployment.price
    if price is None:
        return 0
    if price.tiers:
        return cost(price, Usage(input=tokens_in, output=tokens_out)) or 0
    rates = price.rates
    return -(-(tokens_in * (rates.input or 0) + tokens_out * (rates.output or 0)) // PER_MILLION)


def _worst(target: Target, call: Call, body: bytes) -> Money:
    price = target.deployment.price
    if price is None:
        return 0
    tokens_in = _worst_input(body)
    tokens_out = 0
    if call.endpoint != "embeddings":
        tokens_out = (
            call.max_tokens if call.max_tokens is not None else target.max_output or WORST_OUTPUT
        ) * call.choices
    return max(
        -(-(tokens_in * dearest_in + tokens_out * dearest_out) // PER_MILLION)
        for dearest_in, dearest_out in dearest(price)
    )


def _worst_input(body: bytes) -> int:
    attachments, inline = _attachments(body)
    attachments = max(attachments, sum(body.count(mark) for mark in _MARKS))
    return len(body) - inline + attachments * WORST_ATTACHMENT_TOKENS


def dearest(price: Price) -> list[tuple[int, int]]:
    """For each set of rates that may apply, the dearest rate an input and an output token can meet."""
    sets: list[Rates] = [price.rates, *(tier.rates for tier in price.tiers), *price.variants.values()]
    sets += [tier.rates for tiers in price.variant_tiers.values() for tier in tiers]
    return [
        (
            max(
                r.input or 0,
                r.cache_read or 0,
                r.cache_write_5m or 0,
                r.cache_write_1h or 0,
                r.audio_input or 0,
            ),
            max(r.output or 0, r.reasoning or 0, r.audio_output or 0),
        )
        for r in sets
    ]


def _attachments(body: bytes) -> tuple[int, int]:
    """How many inline attachments, and how many bytes of base64 they are."""
    count = inline = 0
    for mark, skip in ((b";base64,", 8), (b'"data":"', 8), (b'"data": "', 9)):
        at = body.find(mark)
        while at >= 0:
            end = body.find(b'"', at + skip)
            if end < 0:
                break
            if end - at > 256:
                count += 1
                inline += end - at - skip
            at = body.find(mark, end)
    return count, inline
