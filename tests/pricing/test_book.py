"""The bundled price book: complete, in whole numbers, found by exact names, right where we know better."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tollway.model.money import NANO
from tollway.model.price import Price, Rates
from tollway.pricing.book import INDEX, PRICES, Entry, Index, PriceBook, ProviderFile


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook.load()


def usd(amount: str) -> int:
    """USD per million tokens as a rate."""
    whole, _, fraction = amount.partition(".")
    return int(whole) * NANO + int(fraction.ljust(9, "0"))


def known(book: PriceBook, provider: str, model: str) -> Price:
    price = book.price(provider, model)
    assert price is not None, f"{provider}/{model}"
    return price


def every_rate(price: Price) -> list[Rates]:
    tiers = [*price.tiers, *(tier for tiers in price.variant_tiers.values() for tier in tiers)]
    return [price.rates, *price.variants.values(), *(tier.rates for tier in tiers)]


def test_at_least_three_thousand_models_are_priced(book: PriceBook) -> None:
    assert sum(1 for facts in book.models() if facts.price is not None) >= 3000


def test_the_index_counts_what_the_files_hold(book: PriceBook) -> None:
    index = msgspec.json.decode((PRICES / INDEX).read_bytes(), type=Index)
    assert {path.stem for path in PRICES.glob("*.json")} - {Path(INDEX).stem} == set(index.providers)
    for provider, counts in index.providers.items():
        listed = list(book.models(provider))
        assert counts == (len(listed), sum(facts.price is not None for facts in listed)), provider


def test_the_version_is_the_hash_of_the_files() -> None:
    digest = hashlib.sha256()
    for path in sorted(PRICES.glob("*.json"), key=lambda path: path.stem):
        if path.name != INDEX:
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    version = PriceBook.load().version
    assert re.fullmatch(r"\d{4}-\d\d-\d\d\.[0-9a-f]{8}", version)
    assert version.endswith(digest.hexdigest()[:8])


def test_no_number_in_the_files_is_a_float() -> None:
    def floats(value: object, where: str) -> list[str]:
        if isinstance(value, float):
            return [where]
        if isinstance(value, dict):
            return [found for key, item in value.items() for found in floats(item, f"{where}/{key}")]
        if isinstance(value, list):
            return [found for item in value for found in floats(item, where)]
        return []

    for path in PRICES.glob("*.json"):
        assert floats(msgspec.json.decode(path.read_bytes()), path.name) == []


def test_files_are_one_model_a_line_sorted_and_name_their_provider() -> None:
    for path in PRICES.glob("*.json"):
        if path.name == INDEX:
            continue
        held = msgspec.json.decode(path.read_bytes(), type=ProviderFile)
        assert held.provider == path.stem
        assert list(held.models) == sorted(held.models)
        assert len(path.read_text().splitlines()) == len(held.models) + 2
        folded = [name.lower() for name in held.models]
        assert len(folded) == len(set(folded)), (
            "names that differ by case only would be mistaken for each other"
        )


def test_every_line_is_canonical() -> None:
    for path in PRICES.glob("*.json"):
        if path.name == INDEX:
            continue
        for name, line in msgspec.json.decode(path.read_bytes(), type=ProviderFile).models.items():
            assert msgspec.json.encode(msgspec.json.decode(line, type=Entry)) == bytes(line), (
                f"{path.stem}/{name}"
            )


def test_rates_are_plausible(book: PriceBook) -> None:
    for facts in book.models():
        if facts.price is None:
            continue
        where = f"{facts.provider}/{facts.model}"
        for rates in every_rate(facts.price):
            stated = {n: r for n in rates.__struct_fields__ if (r := getattr(rates, n)) is not None}
            assert stated, where
            assert all(rate >= 0 for rate in stated.values()), where
            assert (rates.input or 0) <= 2000 * NANO, where
        tiers = [tier.above for tier in facts.price.tiers]
        assert tiers == sorted(set(tiers)), where
        assert facts.price.source, where
        assert set(facts.price.variant_tiers) <= set(facts.price.variants), where


def test_only_what_is_said_to_be_free_costs_nothing(book: PriceBook) -> None:
    for facts in book.models():
        if facts.price is None:
            continue
        stated = [getattr(facts.price.rates, name) for name in facts.price.rates.__struct_fields__]
        if not any(stated):
            free = facts.model.endswith((":free", "-free")) or facts.provider == "duckduckgo"
            assert free or facts.model.startswith("omni-moderation"), f"{facts.provider}/{facts.model}"


@pytest.mark.parametrize(
    ("provider", "model", "rates"),
    [
        ("openai", "gpt-4o-mini", {"input": "0.15", "cache_read": "0.075", "output": "0.6"}),
        ("openai", "gpt-4o", {"input": "2.5", "cache_read": "1.25", "output": "10"}),
        ("openai", "gpt-4o-2024-08-06", {"input": "2.5", "cache_read": "1.25", "output": "10"}),
        ("openai", "gpt-4o-2024-05-13", {"input": "5", "output": "15"}),
        ("openai", "gpt-5-mini", {"input": "0.25", "cache_read": "0.025", "output": "2"}),
        ("openai", "text-embedding-3-small", {"input": "0.02"}),
        ("openai", "o1-pro", {"input": "150", "output": "600"}),
        ("anthropic", "claude-sonnet-4-5", {"input": "3", "cache_read": "0.3", "output": "15"}),
        ("anthropic", "claude-opus-4-5-20251101", {"input": "5", "cache_read": "0.5", "output": "25"}),
        ("anthropic", "claude-3-haiku-20240307", {"input": "0.25", "cache_read": "0.03", "output": "1.25"}),
        ("gemini", "gemini-2.5-flash", {"input": "0.3", "cache_read": "0.03", "output": "2.5"}),
        ("groq", "llama-3.1-8b-instant", {"input": "0.05", "output": "0.08"}),
        ("bedrock", "amazon.nova-lite-v1:0", {"input": "0.06", "output": "0.24"}),
        ("xai", "grok-3", {"input": "3", "output": "15"}),
    ],
)
def test_known_prices(book: PriceBook, provider: str, model: str, rates: dict[str, str]) -> None:
    price = known(book, provider, model)
    for name, amount in rates.items():
        assert getattr(price.rates, name) == usd(amount), name


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-sonnet-4-5-20250929", "claude-opus-4-1"])
def test_anthropic_cache_writes_are_multiples_of_fresh_input(book: PriceBook, model: str) -> None:
    rates = known(book, "anthropic", model).rates
    assert rates.input is not None
    assert rates.cache_write_5m == rates.input * 5 // 4
    assert rates.cache_write_1h == rates.input * 2


def test_gemini_25_pro_has_its_cliff_at_200_000(book: PriceBook) -> None:
    price = known(book, "gemini", "gemini-2.5-pro")
    assert (price.rates.input, price.rates.output) == (usd("1.25"), usd("10"))
    (tier,) = price.tiers
    assert tier.above == 200_000
    assert (tier.rates.input, tier.rates.output) == (usd("2.5"), usd("15"))


def test_service_tiers_have_their_own_rates(book: PriceBook) -> None:
    variants = known(book, "openai", "gpt-5").variants
    assert variants["batch"].input == usd("0.625")
    assert variants["flex"].output == usd("5")
    assert variants["priority"].input == usd("2.5")


def test_other_units_are_priced_by_the_piece(book: PriceBook) -> None:
    million = 1_000_000
    assert known(book, "openai", "whisper-1").rates.seconds == usd("0.0001") * million  # 0.006 a minute
    assert known(book, "openai", "tts-1").rates.characters == usd("15")
    assert known(book, "openai", "dall-e-3").rates.images == usd("0.04") * million
    assert known(book, "openai", "hd/1024-x-1792/dall-e-3").rates.images == usd("0.12") * million
    assert known(book, "openai", "high/1024-x-1024/gpt-image-1").rates.images == usd("0.167") * million
    assert known(book, "openai", "sora-2").rates.video_seconds == usd("0.1") * million
    assert known(book, "cohere", "rerank-v3.5").rates.searches == usd("0.002") * million
    assert known(book, "mistral", "mistral-ocr-2512").rates.pages == usd("0.002") * million


def test_a_date_nobody_lists_has_no_price(book: PriceBook) -> None:
    assert book.price("openai", "gpt-4o") is not None
    assert book.price("openai", "gpt-4o-2031-01-01") is None
    assert book.model("anthropic", "claude-sonnet-4-5-20310101") is None


def test_unknown_names_are_unknown(book: PriceBook) -> None:
    assert book.price("nobody", "gpt-4o") is None
    assert book.price("openai", "") is None
    assert book.price("../openai", "gpt-4o") is None
    assert list(book.models("nobody")) == []


def test_a_listed_model_may_be_unpriced(book: PriceBook) -> None:
    unpriced = [facts for facts in book.models() if facts.price is None]
    assert unpriced
    assert all(book.price(facts.provider, facts.model) is None for facts in unpriced)
    assert all(book.model(facts.provider, facts.model) == facts for facts in unpriced)


def test_a_router_is_unpriced_since_its_id_does_not_tell_the_model(book: PriceBook) -> None:
    assert book.model("azure", "model-router") is not None
    assert book.price("azure", "model-router") is None


def test_case_does_not_matter_and_the_listed_name_is_given_back(book: PriceBook) -> None:
    facts = book.model("OPENAI".lower(), "GPT-4o-Mini")
    assert facts is not None
    assert facts.model == "gpt-4o-mini"
    assert facts == book.model("openai", "gpt-4o-mini")


def test_prices_carry_the_version_and_facts_the_limits(book: PriceBook) -> None:
    facts = book.model("openai", "gpt-4o-mini")
    assert facts is not None
    assert facts.price is not None
    assert facts.price.version == book.version
    assert (facts.mode, facts.max_input_tokens, facts.max_output_tokens) == ("chat", 128_000, 16_384)


def test_deprecation_dates_are_dates(book: PriceBook) -> None:
    dates = [facts.deprecated for facts in book.models() if facts.deprecated is not None]
    assert len(dates) > 500
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\d", day) for day in dates)


def test_a_book_elsewhere_is_read_the_same_way(tmp_path: Path) -> None:
    entry = b'{"price":{"rates":{"input":5},"source":"ours"}}'
    (tmp_path / "here.json").write_bytes(b'{"provider":"here","models":{"m":' + entry + b',"u":{}}}')
    (tmp_path / INDEX).write_bytes(b'{"version":"2026-01-01.00000000","providers":{"here":[2,1]}}')
    book = PriceBook.load(tmp_path)
    assert book.providers == ("here",)
    assert known(book, "here", "m") == Price(
        rates=Rates(input=5), source="ours", version="2026-01-01.00000000"
    )
    assert [(facts.model, facts.price is None) for facts in book.models()] == [("m", False), ("u", True)]


def test_a_broken_book_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=INDEX):
        PriceBook.load(tmp_path)
    (tmp_path / INDEX).write_bytes(b'{"version":1.5}')
    with pytest.raises(msgspec.DecodeError):
        PriceBook.load(tmp_path)


def test_loading_reads_the_index_only_and_a_price_one_file() -> None:
    """Start-up time and memory hang on this, so it is watched from outside, by what the process opens."""
    script = """
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from tollway.pricing.book import PriceBook
def prices():
    return [path.replace("\\\\", "/").rsplit("/", 1)[1] for path in opened if path.endswith(".json")]
book = PriceBook.load()
print(prices())
book.price("groq", "llama-3.1-8b-instant")
book.price("groq", "llama-3.1-8b-instant")
print(prices())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['_index.json']", "['_index.json', 'groq.json']"]
