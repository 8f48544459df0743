"""One entry from several quotes: which source is taken, by which rule, and what the others may fill in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from price_sources.names import LITELLM_FIRST
from price_sources.quote import CLASSES, Quote, Rates, close

ORDER = ("genai-prices", "litellm", "portkey")

AGREE = "agree"
ALONE = "only source"
MAJORITY = "majority"
EXACT = "exact name"
ORDERED = "order"

RULES = {
    ALONE: "one source names a price",
    AGREE: "every source that names a price says the same within 0.5 % in each class they share",
    MAJORITY: "two sources agree against the third",
    EXACT: "the source that lists the name in full is taken before one that matched it by a pattern",
    ORDERED: "otherwise genai-prices (dated and commented), then LiteLLM, then Portkey; "
    "for Bedrock and Vertex AI, whose ids carry a region or version, and for DeepSeek, whose rates depend "
    "on the hour, LiteLLM first",
}


@dataclass
class Merged:
    """A model of the book. ``agreeing``: the sources the price stands on; ``filled``: what a friend added.

    ``rates`` are complete, and so are those of tiers and variants. ``differing``: classes in dispute.
    """

    provider: str
    model: str
    mode: str
    rates: Rates
    tiers: dict[int, Rates] = field(default_factory=dict)
    variants: dict[str, Rates] = field(default_factory=dict)
    variant_tiers: dict[str, dict[int, Rates]] = field(default_factory=dict)
    max_input: int | None = None
    max_output: int | None = None
    deprecated: str | None = None
    valid_from: str | None = None
    agreeing: tuple[str, ...] = ()
    rule: str = ""
    filled: list[str] = field(default_factory=list)
    differing: tuple[str, ...] = ()
    quotes: list[Quote] = field(default_factory=list)


def agree(one: Quote, other: Quote) -> bool:
    """Same within 0.5 % wherever both name a price, which must be somewhere besides a search fee."""
    shared = [c for c in one.rates if c in other.rates and c != "searches"]
    same = bool(shared) and all(close(one.rates[c], other.rates[c]) for c in shared)
    return same and _same_cliffs(one, other)


def _same_cliffs(one: Quote, other: Quote) -> bool:
    if "portkey" in (one.source, other.source) or not one.tiers or not other.tiers:
        return True  # Portkey names every cliff after 128k
    mine, theirs = sorted(one.tiers), sorted(other.tiers)
    if len(mine) != len(theirs) or any(abs(a - b) > 1 for a, b in zip(mine, theirs, strict=True)):
        return False
    return all(
        close(rate, other.tiers[b][c])
        for a, b in zip(mine, theirs, strict=True)
        for c, rate in one.tiers[a].items()
        if c in other.tiers[b]
    )


def merge(quotes: list[Quote]) -> Merged:
    """``quotes`` are of one model, at most one a source."""
    first = ("litellm", "genai-prices", "portkey") if quotes[0].provider in LITELLM_FIRST else ORDER
    quotes = sorted(quotes, key=lambda q: first.index(q.source))
    priced = [q for q in quotes if q.rates]
    facts = sorted(quotes, key=lambda q: q.source != "litellm")
    merged = Merged(
        provider=quotes[0].provider,
        model=facts[0].model if facts[0].source == "litellm" else quotes[0].model,
        mode=next((q.mode for q in facts if q.mode), ""),
        rates={},
        max_input=next((q.max_input for q in facts if q.max_input), None),
        max_output=next((q.max_output for q in facts if q.max_output), None),
        deprecated=next((q.deprecated for q in facts if q.deprecated), None),
        quotes=quotes,
    )
    if not priced:
        return merged
    taken, merged.rule = _choose(priced)
    friends = [q for q in priced if q is not taken and agree(taken, q)]
    merged.agreeing = tuple(s for s in ORDER if s in {taken.source, *(q.source for q in friends)})
    merged.valid_from = next((q.valid_from for q in (taken, *friends) if q.valid_from), None)
    others = [q for q in priced if q is not taken]
    merged.differing = tuple(
        c
        for c in CLASSES
        if c in taken.rates and any(c in q.rates and not close(taken.rates[c], q.rates[c]) for q in others)
    )
    _complete(merged, _filled(taken, friends, merged.filled))
    return merged


def _choose(priced: list[Quote]) -> tuple[Quote, str]:
    if len(priced) == 1:
        return priced[0], ALONE
    supporters = {q.source: sum(agree(q, other) for other in priced if other is not q) for q in priced}
    best = max(priced, key=lambda q: (supporters[q.source], q.exact))
    if supporters[best.source] == len(priced) - 1:
        return best, AGREE
    if supporters[best.source]:
        return best, MAJORITY
    named = [q for q in priced if q.exact]
    if named and not priced[0].exact:
        return named[0], EXACT
    return priced[0], ORDERED


def _filled(taken: Quote, friends: list[Quote], filled: list[str]) -> Quote:
    """What the taken source is silent on comes from sources that agree with it where both speak."""
    whole = replace(
        taken,
        rates=dict(taken.rates),
        tiers=dict(taken.tiers),
        variants=dict(taken.variants),
        variant_tiers=dict(taken.variant_tiers),
    )
    for friend in friends:
        new = {c: r for c, r in friend.rates.items() if c not in whole.rates}
        whole.rates.update(new)
        filled += [f"{c} from {friend.source}" for c in new]
        if friend.tiers and not whole.tiers and friend.source != "portkey":
            whole.tiers = dict(friend.tiers)
            filled.append(f"tiers from {friend.source}")
        elif whole.tiers and set(friend.tiers) == set(whole.tiers):
            # A class filled in above needs its own rates past the cliff too.
            whole.tiers = {
                above: {**{c: r for c, r in friend.tiers[above].items() if c in new}, **rates}
                for above, rates in whole.tiers.items()
            }
        for name, changes in friend.variants.items():
            mine = whole.variants.get(name)
            if mine is None:
                whole.variants[name] = dict(changes)
                if name in friend.variant_tiers:
                    whole.variant_tiers[name] = dict(friend.variant_tiers[name])
                filled.append(f"{name} from {friend.source}")
            else:
                whole.variants[name] = {**{c: r for c, r in changes.items() if c in new}, **mine}
    return whole


def _complete(merged: Merged, quote: Quote) -> None:
    """Quotes state what tiers and variants change; the book states every class, so that cost() looks once."""
    merged.rates = quote.rates
    merged.tiers = _stacked(quote.rates, quote.tiers)
    for name, changes in sorted(quote.variants.items()):
        rates = _derived(quote.rates, changes)
        if rates == quote.rates and name not in quote.variant_tiers:
            continue
        merged.variants[name] = rates
        if name in quote.variant_tiers:
            # What the variant is silent on follows the base past the cliff too.
            steps = {
                above: {**_reached(merged.tiers, above), **changes, **further}
                for above, further in quote.variant_tiers[name].items()
            }
            merged.variant_tiers[name] = _stacked(rates, steps)


def _derived(base: Rates, changes: Rates) -> Rates:
    return {**base, **{c: r for c, r in changes.items() if c in base}}


def _reached(tiers: dict[int, Rates], above: int) -> Rates:
    """The base rates in force once the prompt exceeds ``above``."""
    return next((tiers[start] for start in sorted(tiers, reverse=True) if start <= above), {})


def _stacked(base: Rates, tiers: dict[int, Rates]) -> dict[int, Rates]:
    stacked, rates = {}, base
    for above in sorted(tiers):
        following = _derived(rates, tiers[above])
        if following != rates:
            stacked[above] = rates = following
    return stacked
