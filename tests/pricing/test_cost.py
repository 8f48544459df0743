"""Cost is integer arithmetic over disjoint classes: its laws, on made-up prices."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from tollway.model.money import NANO, PER_MILLION
from tollway.model.price import Price, Rates, Tier
from tollway.model.usage import NOTHING, Usage
from tollway.pricing.cost import cost

CLASSES = Usage.__struct_fields__
FALLBACKS = {
    "cache_read": ("input",),
    "cache_write_5m": ("input",),
    "cache_write_1h": ("cache_write_5m", "input"),
    "audio_input": ("input",),
    "reasoning": ("output",),
    "audio_output": ("output",),
}
CHAT = Rates(
    input=3 * NANO, cache_read=NANO // 4, cache_write_5m=4 * NANO, cache_write_1h=6 * NANO, output=15 * NANO
)

rate = st.integers(0, 700 * NANO)
units = st.one_of(st.just(0), st.integers(0, 3_000_000))
rates = st.fixed_dictionaries({}, optional=dict.fromkeys(CLASSES, rate)).map(lambda given: Rates(**given))
full_rates = st.fixed_dictionaries(dict.fromkeys(CLASSES, rate)).map(lambda given: Rates(**given))


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    counts = {name: draw(units) for name in CLASSES if name != "reasoning"}
    return Usage(**counts, reasoning=draw(st.integers(0, counts["output"])))


@st.composite
def prices(draw: st.DrawFn, of: st.SearchStrategy[Rates] = rates) -> Price:
    def tiers() -> tuple[Tier, ...]:
        starts = sorted(draw(st.sets(st.integers(1, 2_000_000), max_size=3)))
        return tuple(Tier(above=above, rates=draw(of)) for above in starts)

    variants = {name: draw(of) for name in draw(st.sets(st.sampled_from(["batch", "flex", "priority"])))}
    own = {name: tiers() for name in variants if draw(st.booleans())}
    return Price(rates=draw(of), tiers=tiers(), variants=variants, variant_tiers=own)


def reference(price: Price, usage: Usage, variant: str | None) -> int | None:
    """The same charge, said slowly: exact fractions, one rounding half up."""
    chosen, tiers = price.rates, price.tiers
    if variant in price.variants:
        assert variant is not None
        chosen, tiers = price.variants[variant], price.variant_tiers.get(variant, price.tiers)
    for tier in sorted(tiers, key=lambda tier: tier.above):
        if usage.prompt_tokens() > tier.above:
            chosen = tier.rates
    listed = asdict(chosen)
    counts = asdict(usage)
    if listed["reasoning"] is None:
        counts["reasoning"] = 0
    counts["output"] -= counts["reasoning"]
    total = Fraction(0)
    for name, count in counts.items():
        known = [listed[n] for n in (name, *FALLBACKS.get(name, ())) if listed[n] is not None]
        if count and not known:
            return None
        total += count * Fraction(known[0] if count else 0, PER_MILLION)
    return int(total + Fraction(1, 2))


@settings(max_examples=300)
@given(prices(), usages(), st.sampled_from([None, "batch", "flex", "priority", "default", "auto"]))
def test_it_is_the_sum_of_classes_rounded_once(price: Price, usage: Usage, variant: str | None) -> None:
    assert cost(price, usage, variant) == reference(price, usage, variant)


@given(full_rates, usages())
def test_classes_add_up_within_their_roundings(of: Rates, usage: Usage) -> None:
    price = Price(rates=of)
    counts = asdict(usage)
    counts["output"] -= counts.pop("reasoning")
    parts = [cost(price, replace(NOTHING, **{name: count})) for name, count in counts.items()]
    parts.append(cost(price, Usage(output=usage.reasoning, reasoning=usage.reasoning)))
    whole = cost(price, usage)
    assert whole is not None
    assert abs(whole - sum(part for part in parts if part is not None)) <= len(parts)


@given(
    full_rates,
    usages(),
    st.sampled_from([name for name in CLASSES if name != "reasoning"]),
    st.integers(1, 10**6),
)
def test_using_more_never_costs_less(of: Rates, usage: Usage, name: str, more: int) -> None:
    price = Price(rates=of)
    before, after = cost(price, usage), cost(price, replace(usage, **{name: getattr(usage, name) + more}))
    assert before is not None
    assert after is not None
    assert after >= before


@given(full_rates, usages())
def test_reasoning_is_never_charged_twice(of: Rates, usage: Usage) -> None:
    same = Price(rates=replace(of, reasoning=None))
    assert cost(same, usage) == cost(same, replace(usage, reasoning=0))
    own = Price(rates=of)
    everything = Usage(output=usage.output, reasoning=usage.output)
    assert cost(own, everything) == cost(
        Price(rates=replace(of, output=of.reasoning)), Usage(output=usage.output)
    )


@given(full_rates, st.integers(0, 10**6), st.integers(0, 10**6))
def test_reasoning_beyond_output_does_not_turn_into_a_refund(of: Rates, output: int, more: int) -> None:
    price = Price(rates=of)
    assert cost(price, Usage(output=output, reasoning=output + more)) == cost(
        price, Usage(output=output, reasoning=output)
    )


@given(prices())
def test_nothing_used_costs_nothing_even_unpriced(price: Price) -> None:
    assert cost(price, NOTHING) == 0


@pytest.mark.parametrize("name", [name for name in CLASSES if name != "reasoning"])
def test_a_used_class_without_rate_or_fallback_is_unpriced(name: str) -> None:
    assert cost(Price(rates=Rates()), replace(NOTHING, **{name: 1})) is None


@pytest.mark.parametrize(
    ("name", "wanted"), [(name, of[-1]) for name, of in FALLBACKS.items() if name != "reasoning"]
)
def test_fallbacks_are_as_documented(name: str, wanted: str) -> None:
    price = Price(rates=Rates(**{wanted: 7 * NANO}))
    assert cost(price, replace(NOTHING, **{name: 1000})) == 7_000_000
    assert cost(price, replace(NOTHING, images=1)) is None


def test_one_hour_cache_writes_fall_back_to_the_five_minute_rate_first() -> None:
    assert (
        cost(Price(rates=Rates(input=NANO, cache_write_5m=2 * NANO)), Usage(cache_write_1h=1000)) == 2_000_000
    )


def test_a_bill_by_hand() -> None:
    usage = Usage(
        input=1200, cache_read=10_000, cache_write_5m=2000, cache_write_1h=500, output=800, reasoning=300
    )
    # 1200 x 3 + 10000 x 0.25 + 2000 x 4 + 500 x 6 + 800 x 15, in thousandths of a millionth of a dollar
    assert cost(Price(rates=CHAT), usage) == (3600 + 2500 + 8000 + 3000 + 12_000) * 1000


def test_half_a_nano_dollar_rounds_up_and_only_once() -> None:
    assert cost(Price(rates=Rates(input=500_000)), Usage(input=1)) == 1
    assert cost(Price(rates=Rates(input=499_999)), Usage(input=1)) == 0
    assert cost(Price(rates=Rates(input=400_000, output=400_000)), Usage(input=1, output=1)) == 1


@pytest.mark.parametrize("by", ["input", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input"])
def test_the_cliff_looks_at_every_token_read(by: str) -> None:
    long = Rates(input=6 * NANO, output=22 * NANO)
    price = Price(rates=Rates(input=3 * NANO, output=15 * NANO), tiers=(Tier(above=200_000, rates=long),))
    at = replace(NOTHING, **{by: 200_000})
    over = replace(NOTHING, **{by: 200_001})
    assert cost(price, at) == 200_000 * 3000
    assert cost(price, over) == 200_001 * 6000
    assert cost(price, replace(over, output=10)) == 200_001 * 6000 + 10 * 22_000


def test_output_does_not_reach_the_cliff() -> None:
    price = Price(rates=CHAT, tiers=(Tier(above=1000, rates=Rates(input=0, output=0)),))
    assert cost(price, Usage(input=1000, output=10**6)) == 1000 * 3000 + 10**6 * 15_000


def test_the_highest_cliff_reached_counts_whatever_the_order() -> None:
    tiers = tuple(Tier(above=above, rates=Rates(input=above * 1000)) for above in (300, 100, 200))
    price = Price(rates=Rates(input=0), tiers=tiers)
    assert [cost(price, Usage(input=n)) for n in (100, 101, 201, 301)] == [0, 10, 40, 90]


@pytest.mark.parametrize(
    "variant", ["default", "auto", "standard", "scale", "batch", "flex", "priority", "", None]
)
def test_a_service_tier_without_rates_is_charged_at_base(variant: str | None) -> None:
    usage = Usage(input=1000, output=100)
    assert cost(Price(rates=CHAT), usage, variant) == cost(Price(rates=CHAT), usage)


def test_a_service_tier_has_its_own_cliffs_or_the_base_ones() -> None:
    base = Tier(above=1000, rates=Rates(input=4 * NANO))
    own = Tier(above=500, rates=Rates(input=2 * NANO))
    batch = {"batch": Rates(input=NANO)}
    without = Price(rates=Rates(input=2 * NANO), tiers=(base,), variants=batch)
    with_own = replace(without, variant_tiers={"batch": (own,)})
    assert [cost(without, Usage(input=n), "batch") for n in (1000, 1001)] == [1_000_000, 4_004_000]
    assert [cost(with_own, Usage(input=n), "batch") for n in (500, 1001)] == [500_000, 2_002_000]
    assert cost(with_own, Usage(input=1001)) == 4_004_000
