"""``tollway keys``: virtual keys in the database, through the same actions as the API and the UI.

Works on the database itself, with or without a running server; a running one notices within a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from tollway.cli.loading import config_option, json_option, load
from tollway.cli.output import clean, dollars, print_json, print_table
from tollway.cli.tenants import terms_fields, terms_options
from tollway.config.term_rules import RATES

if TYPE_CHECKING:
    from tollway.admin.context import Context
    from tollway.admin.key_view import KeyView, MintedKey
    from tollway.admin.standing import BudgetView

T = TypeVar("T")

_LIVE_ONLY = ("counters", "held_nano_usd")
"""Fields of a key that only a running server knows; left out rather than shown as zero."""


@click.group(epilog="Example: tollway keys create --name ci --models fast --budget 10usd/month --rpm 60")
def keys() -> None:
    """Create, look at, revoke and rotate virtual keys."""


@keys.command(epilog="Example: tollway keys create --name ci --team core --budget 10usd/month --expires 30d")
@click.option("--name", required=True, help="What the key is called in reports.")
@click.option("--org", help="The organization it belongs to; that of its team, if left out.")
@click.option("--team", help="The team it belongs to.")
@click.option("--project", help="The project it belongs to.")
@click.option("--user", help="Whose it is.")
@click.option("--service", is_flag=True, help="A service account's: it belongs to its team and to no user.")
@click.option("--expires", metavar="30d", help="A span from now, or a date.")
@terms_options
@config_option
@json_option
def create(
    name: str,
    org: str | None,
    team: str | None,
    project: str | None,
    user: str | None,
    service: bool,
    expires: str | None,
    config: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Create a virtual key and print it, this once.

    The key alone goes to standard output: KEY=$(tollway keys create --name ci).
    """
    from tollway.admin import keys as actions
    from tollway.admin.key_terms import NewKey

    body = NewKey(
        name=name,
        expires=expires,
        organization=org,
        team=team,
        project=project,
        user=user,
        service=service,
        **terms_fields(given),
    )
    _print_minted(_run(config, lambda context: actions.create(context, body)), as_json, "created")


@keys.command("list", epilog="Example: tollway keys list --json")
@config_option
@json_option
def list_keys(config: str | None, as_json: bool) -> None:
    """List all keys, newest first, those of the configuration file included."""
    found = _run(config, _all)
    if as_json:
        print_json([_public(key) for key in found])
        return
    columns = ("id", "name", "key", "status", "owner", "team", "models", "spent USD", "budget", "created")
    rows = [
        (
            key.id,
            clean(key.name),
            key.hint,
            key.status,
            key.owner,
            clean(key.team or ""),
            clean(", ".join(key.models)) or "every",
            dollars(key.spent_nano_usd),
            " and ".join(f"{_amount(budget, budget.limit)}/{budget.per}" for budget in key.budgets),
            key.created_at[:10] if key.owner == "database" else "",
        )
        for key in found
    ]
    print_table(columns, rows, right=("spent USD",))


@keys.command(epilog="Example: tollway keys show ci")
@click.argument("key", metavar="ID")
@config_option
@json_option
def show(key: str, config: str | None, as_json: bool) -> None:
    """Show a key by id or name: its terms and what it has spent."""
    from tollway.admin import keys as actions

    _print_key(_run(config, lambda context: actions.get(context, key)), as_json)


@keys.command(epilog="Example: tollway keys revoke ci")
@click.argument("key", metavar="ID")
@config_option
@json_option
def revoke(key: str, config: str | None, as_json: bool) -> None:
    """End a key for good. Its spend stays in the ledger."""
    from tollway.admin import keys as actions

    found = _run(config, lambda context: actions.revoke(context, key))
    if as_json:
        print_json(_public(found))
    else:
        click.echo(f"Key {clean(found.name)} ({found.id}) is revoked.")


@keys.command(epilog="Example: tollway keys rotate ci")
@click.argument("key", metavar="ID")
@config_option
@json_option
def rotate(key: str, config: str | None, as_json: bool) -> None:
    """Give a key a new secret and print it, this once. The old one stops; terms and spend stay."""
    from tollway.admin import keys as actions

    _print_minted(_run(config, lambda context: actions.rotate(context, key)), as_json, "rotated")


def _run(config: str | None, act: Callable[[Context], Awaitable[T]]) -> T:
    settings = load(config)

    async def run() -> T:
        from tollway.cli.database import admin_context

        async with admin_context(settings, create=True) as context:
            return await act(context)

    return asyncio.run(run())


async def _all(context: Context) -> list[KeyView]:
    from tollway.admin import keys as actions

    found: list[KeyView] = []
    cursor: str | None = None
    while True:
        page = await actions.list_(context, actions.KeyQuery(limit=1000, cursor=cursor))
        found += page.data
        cursor = page.next_cursor
        if cursor is None:
            return found


def _public(key: KeyView) -> dict[str, object]:
    shown: dict[str, object] = msgspec.to_builtins(key)
    budgets = [shown["budget"], *msgspec.convert(shown["budgets"], list[object])]
    for part in (shown, *(budget for budget in budgets if isinstance(budget, dict))):
        for name in _LIVE_ONLY:
            part.pop(name, None)
    return shown


def _print_minted(key: MintedKey, as_json: bool, done: str) -> None:
    if as_json:
        print_json(_public(key))
        return
    click.echo(key.key)
    terms = "; ".join(_terms(key))
    click.echo(f"Key {clean(key.name)} ({key.id}) is {done}: {terms}. It is shown this once.", err=True)


def _terms(key: KeyView) -> list[str]:
    terms = [f"models {clean(', '.join(key.models))}" if key.models else "every model"]
    if key.denied_models:
        terms.append(f"not {clean(', '.join(key.denied_models))}")
    terms += [f"at most {_budget_text(budget)}" for budget in key.budgets]
    for name in RATES:
        limit: int | None = getattr(key.limits, name)
        if limit is not None:
            terms.append(f"{name} {limit}")
    if key.expires_at is not None:
        terms.append(f"until {key.expires_at}")
    return terms


def _budget_text(budget: BudgetView) -> str:
    period = "in total" if budget.per == "total" else f"per {budget.per}"
    amount = f"{dollars(budget.limit)} USD" if budget.unit == "nano_usd" else _amount(budget, budget.limit)
    return f"{amount} {period}{', strictly' if budget.strict else ''}"


def _amount(budget: BudgetView, amount: int) -> str:
    return dollars(amount) if budget.unit == "nano_usd" else f"{amount:,} {budget.unit}"


def _print_key(key: KeyView, as_json: bool) -> None:
    if as_json:
        print_json(_public(key))
        return
    facts = [
        ("id", key.id),
        ("name", clean(key.name)),
        ("key", key.hint),
        ("status", key.status),
        ("owner", "configuration file" if key.owner == "file" else "database"),
        ("organization", clean(key.organization or "")),
        ("team", clean(key.team or "")),
        ("project", clean(key.project or "")),
        ("user", clean(key.user or "")),
        ("customer", clean(key.customer or "")),
        ("tags", clean(", ".join(key.tags))),
        ("terms", "; ".join(_terms(key))),
        ("created", key.created_at if key.owner == "database" else ""),
        ("revoked", key.revoked_at or ""),
    ]
    for budget in key.budgets:
        reset = f", resets {budget.resets_at}" if budget.resets_at else ""
        facts.append(("spent", f"{_amount(budget, budget.spent)} of {_budget_text(budget)}{reset}"))
    if not key.budgets:
        facts.append(("spent", f"{dollars(key.spent_nano_usd)} USD ever"))
    print_table(("", ""), [fact for fact in facts if fact[1]])
