from __future__ import annotations

import json

from click.testing import CliRunner

from tollway.cli import cli
from tollway.pricing.book import PriceBook


def test_models_of_one_provider() -> None:
    found = json.loads(CliRunner().invoke(cli, ["models", "--provider", "openai", "--json"]).stdout)
    assert len(found) == len(list(PriceBook.load().models("openai")))
    assert all(model["name"] == f"openai/{model['model']}" for model in found)
    text = CliRunner().invoke(cli, ["models", "--provider", "openai"]).stdout.splitlines()
    assert len(text) == len(found) + 1
    assert any(line.split()[:4] == ["openai/gpt-5-mini", "chat", "0.25", "2"] for line in text)


def test_every_provider_goes_by_its_catalogue_name() -> None:
    names = [model["name"] for model in json.loads(CliRunner().invoke(cli, ["models", "--json"]).stdout)]
    assert len(names) == len(set(names)) > 1000
    assert {"openai/gpt-5-mini", "azure/gpt-5-mini"} <= set(names)


def test_an_unknown_provider_is_wrong_usage() -> None:
    done = CliRunner().invoke(cli, ["models", "--provider", "opnai"])
    assert done.exit_code == 2
    assert "Did you mean openai?" in done.stderr
