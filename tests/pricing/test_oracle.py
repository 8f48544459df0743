"""The book against genai-prices' own calculator, for every model on which it agrees with another source."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path

import pytest
from genai_prices.data import providers
from genai_prices.types import ConditionalPrice, ModelInfo, ModelPrice, TieredPrices, TimeOfDateConstraint
from genai_prices.types import Usage as TheirUsage

from tollway.model.price import Price
from tollway.model.usage import Usage
from tollway.pricing.book import PriceBook
from tollway.pricing.cost import cost

OURS = {
    "aws": "bedrock",
    "google": "gemini",
    "x-ai": "xai",
    "moonshotai": "moonshot",
    "voyageai": "voyage",
    "zhipuai": "bigmodel",
    "github-copilot": "github_copilot",
}
TOKENS = {"input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok"}
# Image tokens have no class of their own: the book's output rate of such a model is theirs for images.
OTHER_TERMS = {"output_image_mtok", "requests_kcount", "output_reasoning_mtok"}

BOOK = PriceBook.load()
BUILT = datetime.combine(date.fromisoformat(BOOK.version[:10]), time(12), tzinfo=UTC)


def by_hour(model: ModelInfo) -> bool:
    stated = model.prices if isinstance(model.prices, list) else []
    return any(
        isinstance(p, ConditionalPrice) and isinstance(p.constraint, TimeOfDateConstraint) for p in stated
    )


def comparable() -> list[tuple[str, ModelInfo, ModelPrice, Price]]:
    found = []
    for provider in providers:
        ours = OURS.get(provider.id, provider.id)
        for model in provider.models:
            price = BOOK.price(ours, model.id)
            theirs = model.get_prices(BUILT)
            stated = {key for key, value in theirs.__dict__.items() if value is not None}
            if (
                price is None
                or not price.source.startswith("genai-prices+")
                or by_hour(model)
                or stated & OTHER_TERMS
                or "input_mtok" not in stated
            ):
                continue
            found.append((f"{ours}/{model.id}", model, theirs, price))
    return found


AGREED = comparable()


def usage_of(chance: random.Random, theirs: ModelPrice, prompt: int) -> Usage:
    """Tokens of the classes they price, ``prompt`` of them read."""
    stated = {key for key, value in theirs.__dict__.items() if value is not None} & TOKENS
    names = {
        "cache_read_mtok": "cache_read",
        "cache_write_mtok": "cache_write_5m",
        "cache_write_1h_mtok": "cache_write_1h",
    }
    cached = {ours: chance.randrange(prompt // 4 + 1) for key, ours in names.items() if key in stated}
    written = chance.randrange(20_000) if "output_mtok" in stated else 0
    return Usage(input=prompt - sum(cached.values()), **cached, output=written)


def their_cost(theirs: ModelPrice, usage: Usage) -> Decimal:
    """Nano-dollars. Their input counts cached tokens too, and their writes the one-hour ones."""
    counts = {
        "input_tokens": usage.prompt_tokens(),
        "output_tokens": usage.output,
        "cache_read_tokens": usage.cache_read,
        "cache_write_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "cache_write_1h_tokens": usage.cache_write_1h,
    }
    reported = TheirUsage(**counts)
    return theirs.calc_price(reported)["total_price"] * 10**9


def prompts(chance: random.Random, theirs: ModelPrice, price: Price) -> list[int]:
    """Sizes on both sides of every cliff; below ours where only another source knows of one."""
    starts = {
        t.start for value in theirs.__dict__.values() if isinstance(value, TieredPrices) for t in value.tiers
    }
    if not starts:
        highest = min((tier.above for tier in price.tiers), default=400_000)
        return [1, chance.randrange(1, highest), chance.randrange(1, highest)]
    around = [
        size
        for start in sorted(starts)
        for size in (start - 1, start + 2, start + chance.randrange(3, 90_000))
    ]
    return [1, chance.randrange(1, min(starts)), *around]


def test_the_book_was_built_from_the_installed_package() -> None:
    report = (Path(__file__).parents[2] / "docs" / "reference" / "price-sources.md").read_text()
    assert f"genai-prices {version('genai-prices')}" in report, (
        "rebuild the book (make prices): its source moved on"
    )


def test_hundreds_of_models_are_compared() -> None:
    assert len(AGREED) >= 700
    assert len({where.split("/")[0] for where, *_ in AGREED}) >= 15


@pytest.mark.parametrize("seed", range(3))
def test_costs_agree(seed: int) -> None:
    chance = random.Random(seed)
    wrong = []
    for where, _model, theirs, price in AGREED:
        for prompt in prompts(chance, theirs, price):
            usage = usage_of(chance, theirs, prompt)
            expected, charged = their_cost(theirs, usage), cost(price, usage)
            # Sources that agree within 0.5 % need not agree to the last digit, and the book may hold either.
            if charged is None or abs(charged - expected) > max(expected * Decimal("0.0051"), Decimal(1)):
                wrong.append((where, usage, expected, charged))
    assert wrong == []


def test_most_agree_to_the_nano_dollar() -> None:
    chance = random.Random(1)
    exact = 0
    for _where, _model, theirs, price in AGREED:
        usage = usage_of(chance, theirs, 1000)
        charged = cost(price, usage)
        exact += charged is not None and abs(charged - their_cost(theirs, usage)) <= Decimal("0.5")
    assert exact / len(AGREED) > 0.97


@pytest.mark.parametrize(
    ("variant", "context"), [("batch", {"processing": "batch"}), ("flex", {"service_tier": "flex"})]
)
def test_service_tiers_agree(variant: str, context: dict[str, str]) -> None:
    chance = random.Random(2)
    compared, wrong = 0, []
    for where, model, base, price in AGREED:
        theirs = model.get_prices(BUILT, context)
        if theirs == base or variant not in price.variants:
            continue
        usage = usage_of(chance, theirs, chance.randrange(1, 20_000))
        expected, charged = their_cost(theirs, usage), cost(price, usage, variant)
        compared += 1
        if charged is None or abs(charged - expected) > max(expected * Decimal("0.0051"), Decimal(1)):
            wrong.append((where, usage, expected, charged))
    assert wrong == []
    assert compared >= 20


def test_the_readers_of_both_sides_see_the_same_cliffs() -> None:
    for where, _model, theirs, price in AGREED:
        starts = {
            t.start
            for value in theirs.__dict__.values()
            if isinstance(value, TieredPrices)
            for t in value.tiers
        }
        ours = [tier.above for tier in price.tiers]
        if starts:
            assert all(abs(a - b) <= 1 for a, b in zip_longest(ours, sorted(starts), fillvalue=-9)), where
