"""What an attempt consumed and cost: by the provider's own usage where it reported any, else by our count, marked."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from tollway.model.event import NO_RAW_USAGE
from tollway.model.money import Money, to_usd
from tollway.model.usage import NOTHING, Usage
from tollway.pipeline.snapshot import Target
from tollway.pricing.cost import cost
from tollway.wire.formats.openai_usage import read_usage


class Metered:
    """``priced`` false: no price is known for what was used, and ``cost`` is 0 because it is unknown. ``raw`` is the
    provider's usage object, ``estimated`` says that it reported none."""

    __slots__ = ("cost", "estimated", "priced", "raw", "usage")

    def __init__(
        self, *, usage: Usage, cost: Money, priced: bool, estimated: bool, raw: Raw = NO_RAW_USAGE
    ) -> None:
        self.usage = usage
        self.cost = cost
        self.priced = priced
        self.estimated = estimated
        self.raw = raw


NO_RAW = NO_RAW_USAGE
encoded = msgspec.json.Encoder().encode


def counted(target: Target, usage: Usage, raw: Raw, tier: str | None, *, estimated: bool = False) -> Metered:
    """From usage that a codec has read already; ``raw`` is empty where the provider's object is not kept."""
    return _priced(target, usage, estimated=estimated, raw=raw if bytes(raw) else NO_RAW_USAGE, tier=tier)


def metered(target: Target, raw: Raw | None, tier: str | None = None) -> Metered | None:
    """From a provider's usage object; None when it reported none we can read. ``tier`` is the service tier the
    answer was served in, which decides the rates."""
    usage = read_usage(raw) if raw is not None else None
    if usage is None or raw is None:
        return None
    return _priced(target, usage, estimated=False, raw=raw, tier=tier)


def estimated(target: Target, input_tokens: int, output_tokens: int) -> Metered:
    """Our own count, where the provider reported nothing."""
    return _priced(target, Usage(input=input_tokens, output=output_tokens), estimated=True)


def nothing(target: Target) -> Metered:
    """An attempt that consumed nothing."""
    return Metered(usage=NOTHING, cost=0, priced=target.deployment.price is not None, estimated=False)


def usd(metered: Metered) -> str | None:
    """The cost as a decimal string; None when unpriced."""
    return to_usd(metered.cost) if metered.priced else None


def _priced(
    target: Target, usage: Usage, *, estimated: bool, raw: Raw = NO_RAW_USAGE, tier: str | None = None
) -> Metered:
    price = target.deployment.price
    amount = cost(price, usage, tier) if price is not None else None
    return Metered(usage=usage, cost=amount or 0, priced=amount is not None, estimated=estimated, raw=raw)
