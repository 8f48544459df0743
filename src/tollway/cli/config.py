"""``tollway config check``: whether a configuration can be served, and what it would serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tollway.cli.loading import json_option, load
from tollway.cli.output import clean, print_json, print_table
from tollway.errors import ConfigError

if TYPE_CHECKING:
    from tollway.config.settings import ModelSettings, Settings, TargetSettings
    from tollway.model.clocks import Clocks
    from tollway.pricing.book import PriceBook


@click.group(epilog="Example: tollway config check tollway.yaml")
def config() -> None:
    """Check a configuration file."""


@config.command(epilog="Example: tollway config check tollway.yaml")
@click.argument("file", metavar="F", required=False)
@json_option
@click.pass_context
def check(ctx: click.Context, file: str | None, as_json: bool) -> None:
    """Say every problem of a configuration with its line, or print the routes it makes.

    Variables are read from the environment, as the server would. Exit code 1 when it cannot be served.
    """
    try:
        settings = load(file)
        problems = provider_problems(settings)
    except ConfigError as error:
        problems = error.problems
    if problems:
        if as_json:
            print_json({"valid": False, "problems": problems})
        else:
            for problem in problems:
                click.echo(problem, err=True)
            click.echo(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}", err=True)
        ctx.exit(1)
    routes = [_route(settings, model) for model in settings.models]
    if as_json:
        print_json({"valid": True, "problems": [], "source": settings.source, "models": routes})
    else:
        _print(settings, routes)


def provider_problems(settings: Settings) -> list[str]:
    """What only the catalogue knows to be missing, such as an address that each customer has for himself."""
    import os

    from tollway.config.load import line_of
    from tollway.providers.catalog import load_catalog
    from tollway.providers.environment import completed
    from tollway.providers.provider import Provider

    catalog = load_catalog()
    problems: list[str] = []
    for provider in settings.providers:
        entry = catalog[provider.type]
        try:
            Provider(entry, completed(entry, provider, os.environ))
        except ConfigError as error:
            for problem in error.problems:
                place = ""
                if settings.source and provider.name not in settings.discovered:
                    place = f"{settings.source}:{line_of(settings.source, 'providers', provider.name)}: "
                problems.append(place + problem)
    return problems


def _route(settings: Settings, model: ModelSettings) -> dict[str, object]:
    from tollway.pricing.book import PriceBook
    from tollway.providers.catalog import load_catalog

    book, catalog = PriceBook.load(), load_catalog()
    sheets = {provider.name: catalog[provider.type].price_sheet for provider in settings.providers}
    clocks = {provider.name: provider.clocks for provider in settings.providers}
    targets = []
    for target in model.targets:
        provider = target.model.partition("/")[0]
        targets.append(
            {
                "model": target.model,
                "weight": target.weight,
                "price": priced(target, sheets[provider], book),
                "clocks": target.clocks or clocks[provider],
            }
        )
    return {"model": model.name, "strategy": model.strategy, "retry": model.retry, "targets": targets}


def priced(target: TargetSettings, sheet: str, book: PriceBook) -> str:
    """Where a target's price comes from: ``configuration``, ``book`` or ``unknown``."""
    if target.rates is not None:
        return "configuration"
    upstream = target.model.partition("/")[2]
    return "book" if book.price(sheet, upstream) is not None else "unknown"


def _print(settings: Settings, routes: list[dict[str, object]]) -> None:
    rows = []
    for route, model in zip(routes, settings.models, strict=True):
        targets = route["targets"]
        assert isinstance(targets, list)
        for number, target in enumerate(targets):
            weight = f" x{target['weight']}" if model.strategy == "loadbalance" else ""
            rows.append(
                (
                    clean(model.name) if number == 0 else "",
                    model.strategy if number == 0 else "",
                    clean(target["model"]) + weight,
                    target["price"],
                    _clocks(target["clocks"]),
                )
            )
    if rows:
        print_table(("model", "strategy", "targets", "price", "clocks"), rows)
        click.echo("")
    providers = ", ".join(provider.name for provider in settings.providers) or "none"
    click.echo(f"providers: {providers}{' (found in the environment)' if settings.discovered else ''}")
    from tollway.admin.models import redacted

    database = redacted(settings.database) or "none (stateless)"
    click.echo(f"keys: {len(settings.keys)} in the file; database: {database}")
    click.echo(f"{settings.source or 'The environment'} is valid.")


def _clocks(clocks: Clocks) -> str:
    names = ("connect", "first_byte", "first_token", "idle", "total")
    return " ".join(f"{name} {getattr(clocks, name):g}s" for name in names)
