"""``tollway prices``: what the bundled price book says of a model, wherever it is offered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tollway.cli.loading import json_option
from tollway.cli.output import clean, print_json, print_table, rate_of, usd_of

if TYPE_CHECKING:
    from tollway.model.price import Price, Rates
    from tollway.pricing.book import ModelFacts, PriceBook


@click.group(epilog="Example: tollway prices show openai/gpt-5-mini")
def prices() -> None:
    """Look up prices in the price book that comes with this release."""


@prices.command(
    epilog="Examples: tollway prices show openai/gpt-5-mini · tollway prices show gpt-5-mini --json"
)
@click.argument("model")
@json_option
def show(model: str, as_json: bool) -> None:
    """Show what MODEL costs: `provider/model`, or a bare name at every provider that has it."""
    from tollway.cli import Failed
    from tollway.pricing.book import PriceBook

    book = PriceBook.load()
    found = find(book, model)
    if not found:
        raise Failed(_unknown(book, model))
    if as_json:
        print_json([as_data(name, facts) for name, facts in found])
        return
    for number, (name, facts) in enumerate(found):
        if number:
            click.echo("")
        _print(name, facts)


@prices.command(epilog="Example: tollway prices refresh")
def refresh() -> None:
    """Say how old the prices are and how to change one. Nothing is fetched: the book comes with the
    release."""
    from tollway.pricing.book import PriceBook

    click.echo(f"The price book of this release is {PriceBook.load().version}. It changes with the release;")
    click.echo(
        "this version of Tollway fetches no prices. To set a price yourself, write it beside the target:"
    )
    click.echo("")
    click.echo("  models:")
    click.echo("    fast: {model: openai/gpt-5-mini, price: {input: 0.25, output: 2.00, cache_read: 0.025}}")
    click.echo("")
    click.echo("in USD per million tokens. It counts from the next reload on.")


def find(book: PriceBook, model: str) -> list[tuple[str, ModelFacts]]:
    """(public name, facts) of every place that lists a model. Providers go by their catalogue names."""
    from tollway.providers.catalog import load_catalog

    catalog = load_catalog()
    provider, slash, upstream = model.partition("/")
    if slash:
        sheet = catalog[provider].price_sheet if provider in catalog else provider
        facts = book.model(sheet, upstream)
        if facts is not None:
            return [(f"{provider}/{facts.model}", facts)]
    found = []
    for sheet in book.providers:
        facts = book.model(sheet, model)
        if facts is not None:
            found.append((f"{sheet}/{facts.model}", facts))
    return found


def as_data(name: str, facts: ModelFacts) -> dict[str, object]:
    """A model as JSON: rates in USD per million units; ``price`` null where none is known."""
    price = facts.price
    return {
        "name": name,
        "provider": name.partition("/")[0],
        "model": facts.model,
        "mode": facts.mode,
        "max_input_tokens": facts.max_input_tokens,
        "max_output_tokens": facts.max_output_tokens,
        "deprecated": facts.deprecated,
        "price": None if price is None else _price_data(price),
    }


def _price_data(price: Price) -> dict[str, object]:
    return {
        "usd_per_million": usd_of(price.rates),
        "tiers": [{"above": tier.above, "usd_per_million": usd_of(tier.rates)} for tier in price.tiers],
        "variants": {name: usd_of(rates) for name, rates in price.variants.items()},
        "variant_tiers": {
            name: [{"above": tier.above, "usd_per_million": usd_of(tier.rates)} for tier in tiers]
            for name, tiers in price.variant_tiers.items()
        },
        "valid_from": price.valid_from,
        "source": price.source,
        "version": price.version,
    }


def _print(name: str, facts: ModelFacts) -> None:
    sizes = [
        f"{label} {size:,} tokens"
        for label, size in (("reads", facts.max_input_tokens), ("writes", facts.max_output_tokens))
        if size
    ]
    retired = [f"retired on {facts.deprecated}"] if facts.deprecated else []
    click.echo(f"{clean(name)}  ({', '.join([facts.mode, *sizes, *retired])})")
    price = facts.price
    if price is None:
        click.echo("  no price is known; requests to it are recorded as unpriced")
        return
    columns: list[tuple[str, Rates]] = [("USD per million", price.rates)]
    columns += [(f"above {tier.above:,}", tier.rates) for tier in price.tiers]
    columns += list(price.variants.items())
    for variant, tiers in price.variant_tiers.items():
        columns += [(f"{variant} above {tier.above:,}", tier.rates) for tier in tiers]
    rows = [
        (f"  {field}", *(rate_of(rates, field) for _, rates in columns))
        for field in price.rates.__struct_fields__
        if any(getattr(rates, field) is not None for _, rates in columns)
    ]
    headings = [heading for heading, _ in columns]
    print_table(("", *headings), rows, right=headings)
    since = f", valid from {price.valid_from}" if price.valid_from else ""
    click.echo(f"  source {price.source or 'unknown'}, book {price.version}{since}")


def _unknown(book: PriceBook, model: str) -> str:
    from tollway.config.report import closest

    provider, slash, upstream = model.partition("/")
    sheets = [provider] if slash and provider in book.providers else book.providers
    names = {facts.model for sheet in sheets for facts in book.models(sheet)}
    near = closest(upstream if len(sheets) == 1 else model, names)
    meant = f" Did you mean {provider + '/' if len(sheets) == 1 else ''}{near}?" if near else ""
    return f"Error: the price book lists no model {clean(model)!r}.{meant}"
