"""``tollway models``: what the catalogue's providers offer, as far as the price book knows it."""

from __future__ import annotations

import click

from tollway.cli.loading import json_option
from tollway.cli.output import clean, print_json, rate_of
from tollway.cli.prices import as_data


@click.command(epilog="Examples: tollway models --provider openai · tollway models --json | jq '.[].name'")
@click.option("--provider", metavar="P", help="Only this provider's models.")
@json_option
def models(provider: str | None, as_json: bool) -> None:
    """List models as `provider/model`, the name that requests and `targets:` use, with their prices.

    A provider may serve models that are not listed; they work too, unpriced.
    """
    from tollway.config.report import closest
    from tollway.pricing.book import PriceBook
    from tollway.providers.catalog import load_catalog

    catalog, book = load_catalog(), PriceBook.load()
    if provider is not None and provider not in catalog:
        near = closest(provider, catalog.names())
        meant = f" Did you mean {near}?" if near else ""
        raise click.BadParameter(
            f"no provider {provider!r} in the catalogue.{meant}", param_hint="--provider"
        )
    names = catalog.names() if provider is None else (provider,)
    found = [
        (f"{name}/{facts.model}", facts) for name in names for facts in book.models(catalog[name].price_sheet)
    ]
    if as_json:
        print_json([as_data(name, facts) for name, facts in found])
        return
    # Thousands of lines: plain columns, so that the list is there at once and pipes well.
    width = max((len(name) for name, _ in found), default=0)
    width = min(width, 60)
    lines = [f"{'model':<{width}}  {'mode':<19} {'input':>10} {'output':>10}  USD per million tokens"]
    for name, facts in found:
        rates = facts.price.rates if facts.price else None
        shown = [rate_of(rates, "input"), rate_of(rates, "output")] if rates else ["unpriced", ""]
        retired = f"  retired on {facts.deprecated}" if facts.deprecated else ""
        lines.append(
            f"{clean(name):<{width}}  {facts.mode:<19} {shown[0]:>10} {shown[1]:>10}{retired}".rstrip()
        )
    click.echo("\n".join(lines))
    if provider is not None and not found:
        click.echo(f"The price book lists no models of {provider}; name them as {provider}/MODEL.", err=True)
