"""``tollway doctor``: runs every check, prints what it found and what to do. The checks are in checks.py,
database_checks.py, redis_checks.py and reachability.py; nothing is changed and no credential leaves the machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from tollway.cli.loading import config_option, json_option, load
from tollway.cli.output import clean, print_json, print_table
from tollway.errors import ConfigError

if TYPE_CHECKING:
    from tollway.cli.checks import Finding


@click.command(epilog="Examples: tollway doctor · tollway doctor --offline --json")
@click.option("--offline", is_flag=True, help="Skip what needs the network.")
@config_option
@json_option
@click.pass_context
def doctor(ctx: click.Context, offline: bool, config: str | None, as_json: bool) -> None:
    """Check configuration, files, database, ledger, providers, clock and prices; say what to do.

    Exit code 1 when something fails. Providers are only connected to: no request, no credential.
    """
    findings = examine(config, offline)
    if as_json:
        print_json(findings)
    else:
        rows = [(each.state, each.check, clean(each.found), each.advice) for each in findings]
        print_table(("state", "check", "found", "what to do"), rows)
    if any(each.state == "fail" for each in findings):
        ctx.exit(1)


def examine(config: str | None, offline: bool) -> list[Finding]:
    """Every finding. What needs a configuration is left out where there is none that can be read."""
    from tollway.cli import checks, database_checks, reachability, redis_checks
    from tollway.cli.checks import Finding
    from tollway.cli.config import provider_problems
    from tollway.pricing.book import PriceBook
    from tollway.providers.catalog import load_catalog

    book, catalog = PriceBook.load(), load_catalog()
    try:
        settings = load(config)
        problems = provider_problems(settings)
    except ConfigError as error:
        advice = "correct it; the other checks need it"
        failed = [
            Finding(check="configuration", state="fail", found=problem, advice=advice if number == 0 else "")
            for number, problem in enumerate(error.problems)
        ]
        return [*failed, checks.clock(book)]
    findings = [
        Finding(check="configuration", state="fail", found=problem, advice="correct it")
        for problem in problems
    ]
    if not problems:
        counts = (
            f"providers {len(settings.providers)}, models {len(settings.models)}, keys {len(settings.keys)}"
        )
        found = f"{settings.source or 'no file, the environment only'}: {counts}"
        findings.append(Finding(check="configuration", state="ok", found=found))
    findings += checks.credentials(settings, os.environ)
    findings.append(checks.data_directory(settings))
    findings += checks.named_files(settings)
    findings += database_checks.database(settings)
    findings += redis_checks.redis(settings)
    findings.append(checks.clock(book))
    findings += checks.prices(settings, book, catalog)
    findings.append(checks.descriptors(settings))
    if not offline:
        findings += reachability.providers(settings, catalog, os.environ)
    return findings
