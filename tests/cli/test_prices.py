from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from tollway.cli import cli
from tollway.cli.output import rate_of
from tollway.model.price import Rates
from tollway.pricing.book import PriceBook


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def test_one_model_at_one_provider() -> None:
    price = PriceBook.load().price("openai", "gpt-5-mini")
    assert price is not None
    (found,) = json.loads(run("prices", "show", "openai/gpt-5-mini", "--json").stdout)
    assert found["price"]["usd_per_million"]["input"] * 10**9 == price.rates.input
    assert found["price"]["version"] == price.version
    text = run("prices", "show", "openai/gpt-5-mini").stdout
    assert "cache_read" in text
    assert price.version in text


def test_a_bare_name_finds_every_provider() -> None:
    names = [found["name"] for found in json.loads(run("prices", "show", "gpt-5-mini", "--json").stdout)]
    assert {"openai/gpt-5-mini", "azure/gpt-5-mini"} <= set(names)


def test_an_unknown_model() -> None:
    done = run("prices", "show", "openai/gpt-5-mni")
    assert done.exit_code == 1
    assert "Did you mean openai/gpt-5-mini?" in done.stderr


def test_refresh_says_that_nothing_is_fetched() -> None:
    done = run("prices", "refresh")
    assert done.exit_code == 0
    assert PriceBook.load().version in done.stdout
    assert "fetches no prices" in done.stdout


@pytest.mark.parametrize(
    ("rates", "name", "text"),
    [
        (Rates(input=250_000_000), "input", "0.25"),
        (Rates(input=0), "input", "0"),
        (Rates(input=2_000_000_000), "input", "2"),
        (Rates(images=40_000 * 10**9), "images", "0.04 / image"),
        (Rates(), "output", ""),
    ],
)
def test_rates_are_told_in_the_unit_people_know(rates: Rates, name: str, text: str) -> None:
    assert rate_of(rates, name) == text
