"""scripts/build_prices.py on small lists: units, zeros, cliffs, service tiers, names, and who is taken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tollway.model.money import NANO, PER_MILLION
from tollway.model.price import Price
from tollway.pricing.book import PriceBook

SCRIPT = Path(__file__).parents[2] / "scripts" / "build_prices.py"

LITELLM: dict[str, dict[str, object]] = {
    "sample_spec": {"litellm_provider": "openai", "input_cost_per_token": 1.0},
    "together_ai/acme/Chat-1": {
        "litellm_provider": "together_ai",
        "mode": "chat",
        "max_input_tokens": 1000,
        "max_output_tokens": 10,
        "deprecation_date": "2027-01-02",
        "input_cost_per_token": 2e-06,
        "output_cost_per_token": 8e-06,
        "output_cost_per_token_batches": 4e-06,
        "input_cost_per_token_batches": 1e-06,
        "cache_read_input_token_cost": 0.0,
        "cache_creation_input_token_cost": 2.5e-06,
        "cache_creation_input_token_cost_above_1hr": 4e-06,
        "input_cost_per_token_above_200k_tokens": 4e-06,
        "output_cost_per_token_above_200k_tokens": 1.2e-05,
        "input_cost_per_token_above_200k_tokens_batches": 2e-06,
        "search_context_cost_per_query": {
            "search_context_size_medium": 0.01,
            "search_context_size_low": 0.02,
        },
    },
    "acme-odd": {
        "litellm_provider": "acme-host",
        "mode": "chat",
        "input_cost_per_token": 2.1429999999999996e-06,
        "output_cost_per_token": 1e-12,
    },
    "acme_host/ranges": {
        "litellm_provider": "acme_host",
        "mode": "chat",
        "tiered_pricing": [
            {"input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06, "range": [0, 32000.0]},
            {"input_cost_per_token": 3e-06, "output_cost_per_token": 4e-06, "range": [32000.0, 128000.0]},
        ],
    },
    "acme_host/nothing": {"litellm_provider": "acme_host", "mode": "chat", "input_cost_per_token": 0.0},
    "acme_host/half": {
        "litellm_provider": "acme_host",
        "mode": "chat",
        "input_cost_per_token": 1e-06,
        "output_cost_per_token": 0.0,
    },
    "acme_host/gift:free": {
        "litellm_provider": "acme_host",
        "mode": "chat",
        "input_cost_per_token": 0.0,
        "output_cost_per_token": 0.0,
    },
    "acme_host/embed": {
        "litellm_provider": "acme_host",
        "mode": "embedding",
        "input_cost_per_token": 1e-07,
        "output_cost_per_token": 0,
    },
    "acme_host/listen": {
        "litellm_provider": "acme_host",
        "mode": "audio_transcription",
        "input_cost_per_second": 0.0001,
        "output_cost_per_second": 0.0,
    },
    "acme_host/film": {
        "litellm_provider": "acme_host",
        "mode": "video_generation",
        "output_cost_per_second": 0.1,
        "output_cost_per_second_1080p": 0.2,
    },
    "acme_host/low/1024-x-1024/paint": {
        "litellm_provider": "acme_host",
        "mode": "image_generation",
        "input_cost_per_pixel": 1.0490417e-08,
        "output_cost_per_pixel": 0.0,
    },
    "acme_host/paint-tokens": {
        "litellm_provider": "acme_host",
        "mode": "image_generation",
        "input_cost_per_token": 1e-06,
        "input_cost_per_token_above_200k_tokens": 2e-06,
        "output_cost_per_token": 5e-06,
        "output_cost_per_token_batches": 2.5e-06,
        "output_cost_per_token_flex": 2.5e-06,
        "output_cost_per_token_above_200k_tokens": 9e-06,
        "output_cost_per_image_token": 4e-05,
        "output_cost_per_image_token_batches": 2e-05,
    },
    "bedrock/us-east-1/1-month-commitment/acme.chat": {
        "litellm_provider": "bedrock",
        "mode": "chat",
        "input_cost_per_second": 0.01,
    },
    "acme_host/slip": {
        "litellm_provider": "acme_host",
        "mode": "chat",
        "input_cost_per_token": 0.0032,
        "output_cost_per_token": 0.009,
    },
    "acme_host/disputed": {
        "litellm_provider": "acme_host",
        "mode": "chat",
        "input_cost_per_token": 1e-06,
        "output_cost_per_token": 2e-06,
    },
}


def cents(**of: float) -> dict[str, object]:
    return {name: {"price": price} for name, price in of.items()}


PORTKEY = {
    "together-ai": {
        "default": cents(request_token=0, response_token=0),
        "acme/chat-1": cents(request_token=0.0002, response_token=0.0008, request_audio_token=0.0009),
    },
    "acme-host": {
        "disputed": cents(request_token=0.0003, response_token=0.0002),
        "only-here": cents(request_token=0.0001, response_token=0, cache_read_input_token=0.0002),
        "long-lte-128k": cents(request_token=0.0001, response_token=0.0002),
        "long-gt-128k": cents(request_token=0.0002, response_token=0.0004),
        "acme-whisper": cents(request_token=0.6),
        "draw": {
            "image": {
                "default": {"default": {"price": 4}, "1024x1024": {"price": 4}},
                "hd": {"1024x1024": {"price": 8.5}},
            }
        },
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prices")
    (folder / "litellm.json").write_text(json.dumps(LITELLM))
    (folder / "portkey.json").write_text(json.dumps(PORTKEY))
    build(folder, "2026-11-22")
    return folder


def build(folder: Path, day: str) -> None:
    lists = ["--litellm", str(folder / "litellm.json"), "--portkey", str(folder / "portkey.json")]
    out = ["--out", str(folder / "book"), "--report", str(folder / "report.md"), "--date", day]
    subprocess.run([sys.executable, str(SCRIPT), *lists, *out], check=True, capture_output=True)


@pytest.fixture(scope="module")
def book(folder: Path) -> PriceBook:
    return PriceBook.load(folder / "book")


def known(book: PriceBook, provider: str, model: str) -> Price:
    price = book.price(provider, model)
    assert price is not None, f"{provider}/{model}"
    return price


def test_names_lose_their_prefix_and_sources_meet_without_case(book: PriceBook) -> None:
    facts = book.model("together", "acme/chat-1")
    assert facts is not None
    assert facts.model == "acme/Chat-1"
    assert (facts.max_input_tokens, facts.max_output_tokens, facts.deprecated) == (1000, 10, "2027-01-02")
    assert known(book, "together", "acme/Chat-1").source == "litellm+portkey"
    assert "together_ai" not in book.providers
    assert book.model("openai", "sample_spec") is None


def test_dollars_and_cents_become_nano_dollars_per_million(book: PriceBook) -> None:
    rates = known(book, "together", "acme/Chat-1").rates
    assert (rates.input, rates.output) == (2 * NANO, 8 * NANO)
    assert (rates.cache_write_5m, rates.cache_write_1h) == (2_500_000_000, 4 * NANO)
    assert rates.searches == NANO // 100 * PER_MILLION
    assert rates.audio_input == 9 * NANO, "what LiteLLM is silent on comes from the source that agrees"


def test_a_zero_for_cached_tokens_is_no_price(book: PriceBook) -> None:
    assert known(book, "together", "acme/Chat-1").rates.cache_read is None


def test_a_float_s_tail_is_cut_and_tiny_prices_survive(book: PriceBook) -> None:
    rates = known(book, "acme_host", "acme-odd").rates
    assert (rates.input, rates.output) == (2_143_000_000, 1000)


def test_cliffs_and_service_tiers(book: PriceBook) -> None:
    price = known(book, "together", "acme/Chat-1")
    (tier,) = price.tiers
    assert (tier.above, tier.rates.input, tier.rates.output) == (200_000, 4 * NANO, 12 * NANO)
    assert tier.rates.cache_write_5m == price.rates.cache_write_5m, "not restated, so unchanged"
    assert (price.variants["batch"].input, price.variants["batch"].output) == (NANO, 4 * NANO)
    (batch,) = price.variant_tiers["batch"]
    assert (batch.above, batch.rates.input, batch.rates.output) == (200_000, 2 * NANO, 4 * NANO)

    ranges = known(book, "acme_host", "ranges")
    assert (ranges.rates.input, ranges.tiers[0].above, ranges.tiers[0].rates.input) == (
        NANO,
        32_000,
        3 * NANO,
    )


def test_names_by_length_are_one_model_with_a_cliff(book: PriceBook) -> None:
    price = known(book, "acme_host", "long")
    assert (price.rates.input, price.tiers[0].above, price.tiers[0].rates.output) == (NANO, 128_000, 4 * NANO)
    assert book.model("acme_host", "long-lte-128k") is None


def test_absent_is_not_free(book: PriceBook) -> None:
    assert book.model("acme_host", "nothing") is not None
    assert book.price("acme_host", "nothing") is None
    assert known(book, "acme_host", "half").rates.output is None
    gift = known(book, "acme_host", "gift:free").rates
    assert (gift.input, gift.output) == (0, 0)
    assert known(book, "acme_host", "embed").rates.output == 0
    assert known(book, "acme_host", "only-here").rates.output is None


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("bedrock", "us-east-1/1-month-commitment/acme.chat"),
        ("acme_host", "slip"),
        ("acme_host", "acme-whisper"),
    ],
)
def test_what_is_no_price_of_a_request_is_left_out(book: PriceBook, provider: str, model: str) -> None:
    assert book.model(provider, model) is not None
    assert book.price(provider, model) is None


def test_a_cache_read_dearer_than_fresh_input_is_left_out(book: PriceBook) -> None:
    assert known(book, "acme_host", "only-here").rates.cache_read is None


def test_other_units_and_sizes(book: PriceBook) -> None:
    cent = NANO // 100 * PER_MILLION
    assert known(book, "acme_host", "listen").rates.seconds == cent // 100
    assert known(book, "acme_host", "film").rates.video_seconds == 10 * cent
    assert known(book, "acme_host", "1080p/film").rates.video_seconds == 20 * cent
    assert known(book, "acme_host", "low/1024-x-1024/paint").rates.images == cent * 11 // 10
    assert known(book, "acme_host", "draw").rates.images == 4 * cent
    assert known(book, "acme_host", "hd/1024-x-1024/draw").rates.images == cent * 17 // 2


def test_an_image_model_s_output_is_image_tokens_everywhere(book: PriceBook) -> None:
    price = known(book, "acme_host", "paint-tokens")
    assert price.rates.output == 40 * NANO
    assert {name: of.output for name, of in price.variants.items()} == {"batch": 20 * NANO}
    assert [(tier.rates.input, tier.rates.output) for tier in price.tiers] == [(2 * NANO, 40 * NANO)]


def test_a_dispute_is_decided_by_order_and_reported(book: PriceBook, folder: Path) -> None:
    price = known(book, "acme_host", "disputed")
    assert (price.rates.input, price.source) == (NANO, "litellm")
    rows = [line for line in (folder / "report.md").read_text().splitlines() if "`disputed`" in line]
    assert rows == ["| acme_host | `disputed` | input | – | **1** | 3 | order |"]


def test_a_rebuild_changes_nothing_and_drops_files_of_providers_that_are_gone(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in (folder / "book").iterdir()}
    report = (folder / "report.md").read_bytes()
    (folder / "book" / "gone.json").write_bytes(b'{"provider": "gone", "models": {}}')
    build(folder, "2026-11-23")
    assert {path.name: path.read_bytes() for path in (folder / "book").iterdir()} == before
    assert (folder / "report.md").read_bytes() == report


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            str(SCRIPT),
            "--litellm",
            str(tmp_path / "no.json"),
            "--portkey",
            str(tmp_path / "no.json"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no.json is not a file" in done.stderr
