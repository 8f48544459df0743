"""``tollway orgs``, ``tollway teams`` and ``tollway users``: the daily part of what the admin API does with them, on
the database itself, with or without a running server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from tollway.cli.loading import config_option, json_option, load
from tollway.cli.output import clean, dollars, print_json, print_table

if TYPE_CHECKING:
    from tollway.admin.context import Context
    from tollway.admin.standing import BudgetView
    from tollway.admin.tenant_view import TenantPage, TenantView

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])


@click.group(epilog="Example: tollway orgs create --name Acme --budget 1000usd/month")
def orgs() -> None:
    """Create and look at organizations."""


@click.group(epilog="Example: tollway teams create --name search --org acme --budget 100usd/month")
def teams() -> None:
    """Create and look at teams."""


@click.group(epilog="Example: tollway users create --name ada --email ada@example.com --team search")
def users() -> None:
    """Create and look at users, and make their tokens."""


def terms_options(command: F) -> F:
    """``--models``, ``--deny``, ``--budget`` and the common limits."""
    for option in (
        click.option("--description", default="", help="What it is for."),
        click.option("--parallel", type=click.IntRange(1), help="Requests at the same time."),
        click.option("--tpm", type=click.IntRange(1), help="Tokens a minute."),
        click.option("--rpm", type=click.IntRange(1), help="Requests a minute."),
        click.option(
            "--budget",
            multiple=True,
            metavar="10usd/month",
            help="Or 1000000tokens/day, 500requests; may repeat.",
        ),
        click.option("--deny", help="Models it may not use, with commas between; stronger than --models."),
        click.option(
            "--models", help="Models it may use, with commas between; wildcards and group:NAME too."
        ),
    ):
        command = option(command)
    return command


def terms_fields(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a request's terms that the options of ``terms_options`` stand for."""
    from tollway.admin.terms import LimitTerms

    fields: dict[str, Any] = {"description": given["description"]}
    for option, name in (("models", "models"), ("deny", "denied_models")):
        if given[option]:
            fields[name] = tuple(part.strip() for part in given[option].split(",") if part.strip())
    if given["budget"]:
        fields["budget"] = tuple(given["budget"])
    limits = {name: given[name] for name in ("rpm", "tpm", "parallel") if given[name]}
    if limits:
        fields["limits"] = LimitTerms(**limits)
    return fields


@orgs.command("create", epilog="Example: tollway orgs create --name Acme --budget 1000usd/month")
@click.option("--name", required=True, help="What people call it.")
@click.option("--id", "own_id", help="An id of your own; left out, it is made of the name.")
@terms_options
@config_option
@json_option
def create_org(name: str, own_id: str | None, config: str | None, as_json: bool, **given: Any) -> None:
    """Create an organization."""
    from tollway.admin import organizations as actions

    body = actions.NewOrganization(name=name, id=own_id, **terms_fields(given))
    _print_made(_run(config, lambda context: actions.create(context, body)), as_json)


@teams.command(
    "create", epilog="Example: tollway teams create --name search --org acme --budget 100usd/month"
)
@click.option("--name", required=True, help="What people call it.")
@click.option("--id", "own_id", help="An id of your own; left out, it is made of the name.")
@click.option("--org", help="The organization it belongs to, by id or name.")
@terms_options
@config_option
@json_option
def create_team(
    name: str, own_id: str | None, org: str | None, config: str | None, as_json: bool, **given: Any
) -> None:
    """Create a team."""
    from tollway.admin import teams as actions

    body = actions.NewTeam(name=name, id=own_id, organization=org, **terms_fields(given))
    _print_made(_run(config, lambda context: actions.create(context, body)), as_json)


@users.command(
    "create", epilog="Example: tollway users create --name ada --email ada@example.com --team search"
)
@click.option("--name", required=True, help="What people call the user.")
@click.option("--id", "own_id", help="An id of your own; left out, it is made of the name.")
@click.option("--org", help="The home organization, by id or name.")
@click.option("--team", multiple=True, help="A team to join, by id or name; may repeat.")
@click.option("--email", help="The user's address.")
@click.option(
    "--role",
    type=click.Choice(("owner", "admin", "auditor", "member", "viewer")),
    help="A role over the whole gateway.",
)
@terms_options
@config_option
@json_option
def create_user(
    name: str,
    own_id: str | None,
    org: str | None,
    team: tuple[str, ...],
    email: str | None,
    role: Any,
    config: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Create a user, and make it a member of teams."""
    from tollway.admin import members
    from tollway.admin import users as actions

    body = actions.NewUser(
        name=name, id=own_id, organization=org, email=email, role=role, **terms_fields(given)
    )

    async def create(context: Context) -> TenantView:
        made = await actions.create(context, body)
        for each in team:
            await members.add_to_team(context, each, members.NewMember(user=made.id))
        return made

    _print_made(_run(config, create), as_json)


@users.command(epilog="Example: TOKEN=$(tollway users token ada --name laptop --expires 30d)")
@click.argument("user", metavar="ID")
@click.option("--name", default="command line", show_default=True, help="What the token is called.")
@click.option(
    "--expires", default="90d", show_default=True, help="A span from now, or a date; a year at most."
)
@config_option
@json_option
def token(user: str, name: str, expires: str, config: str | None, as_json: bool) -> None:
    """Make a token with which the user may call the admin API, and print it, this once."""
    from tollway.admin import tokens as actions

    body = actions.NewToken(name=name, expires=expires)
    made = _run(config, lambda context: actions.create(context, user, body))
    if as_json:
        print_json(made)
        return
    click.echo(made.token)
    click.echo(f"A token of {clean(made.user)} until {made.expires_at}. It is shown this once.", err=True)


@orgs.command("list", epilog="Example: tollway orgs list --json")
@config_option
@json_option
def list_orgs(config: str | None, as_json: bool) -> None:
    """List all organizations, newest first."""
    from tollway.admin import organizations as actions

    _print_list(_all(config, actions.list_), as_json)


@teams.command("list", epilog="Example: tollway teams list --json")
@config_option
@json_option
def list_teams(config: str | None, as_json: bool) -> None:
    """List all teams, newest first."""
    from tollway.admin import teams as actions

    _print_list(_all(config, actions.list_), as_json)


@users.command("list", epilog="Example: tollway users list --json")
@config_option
@json_option
def list_users(config: str | None, as_json: bool) -> None:
    """List all users, newest first."""
    from tollway.admin import users as actions

    _print_list(_all(config, actions.list_), as_json)


@orgs.command("show", epilog="Example: tollway orgs show acme")
@click.argument("organization", metavar="ID")
@config_option
@json_option
def show_org(organization: str, config: str | None, as_json: bool) -> None:
    """Show an organization by id or name: its terms and what it has spent."""
    from tollway.admin import organizations as actions

    _print_one(_run(config, lambda context: actions.get(context, organization)), as_json)


@teams.command("show", epilog="Example: tollway teams show acme.search")
@click.argument("team", metavar="ID")
@config_option
@json_option
def show_team(team: str, config: str | None, as_json: bool) -> None:
    """Show a team by id or name: its terms and what it has spent."""
    from tollway.admin import teams as actions

    _print_one(_run(config, lambda context: actions.get(context, team)), as_json)


@users.command("show", epilog="Example: tollway users show ada")
@click.argument("user", metavar="ID")
@config_option
@json_option
def show_user(user: str, config: str | None, as_json: bool) -> None:
    """Show a user by id or name: terms, role and what it has spent."""
    from tollway.admin import users as actions

    _print_one(_run(config, lambda context: actions.get(context, user)), as_json)


def _run(config: str | None, act: Callable[[Context], Awaitable[T]]) -> T:
    settings = load(config)

    async def run() -> T:
        from tollway.cli.database import admin_context

        async with admin_context(settings, create=True) as context:
            return await act(context)

    return asyncio.run(run())


def _all(config: str | None, list_: Callable[..., Awaitable[TenantPage]]) -> list[TenantView]:
    from tollway.admin.tenants import TenantQuery

    async def read(context: Context) -> list[TenantView]:
        found: list[TenantView] = []
        cursor: str | None = None
        while True:
            page = await list_(context, TenantQuery(limit=1000, cursor=cursor))
            found += page.data
            cursor = page.next_cursor
            if cursor is None:
                return found

    return _run(config, read)


def _public(one: TenantView) -> dict[str, object]:
    """Without what only a running server knows."""
    shown: dict[str, object] = msgspec.to_builtins(one)
    shown.pop("counters", None)
    shown.pop("held_nano_usd", None)
    return shown


def _print_made(one: TenantView, as_json: bool) -> None:
    if as_json:
        print_json(_public(one))
        return
    click.echo(clean(one.id))
    click.echo(f"The {one.level} {clean(one.name)} is created.", err=True)


def _print_list(found: list[TenantView], as_json: bool) -> None:
    if as_json:
        print_json([_public(one) for one in found])
        return
    columns = ("id", "name", "status", "owner", "organization", "role", "budget", "spent")
    rows = [
        (
            clean(one.id),
            clean(one.name),
            one.status,
            one.owner,
            clean(one.organization or ""),
            one.role or "",
            " and ".join(_limit(budget) for budget in one.budgets),
            " and ".join(_amount(budget, budget.spent) for budget in one.budgets),
        )
        for one in found
    ]
    print_table(columns, rows, right=("spent",))


def _print_one(one: TenantView, as_json: bool) -> None:
    if as_json:
        print_json(_public(one))
        return
    facts = [
        ("id", clean(one.id)),
        ("name", clean(one.name)),
        ("status", one.status),
        ("owner", "configuration file" if one.owner == "file" else "database"),
        ("organization", clean(one.organization or "")),
        ("email", clean(one.email or "")),
        ("role", one.role or ""),
        ("models", clean(", ".join(one.models)) or "every model"),
        ("not", clean(", ".join(one.denied_models))),
        ("limits", ", ".join(f"{name} {value}" for name, value in msgspec.to_builtins(one.limits).items())),
        ("description", clean(one.description)),
    ]
    for budget in one.budgets:
        reset = f", resets {budget.resets_at}" if budget.resets_at else ""
        facts.append(("spent", f"{_amount(budget, budget.spent)} of {_limit(budget)}{reset}"))
    print_table(("", ""), [fact for fact in facts if fact[1]])


def _limit(budget: BudgetView) -> str:
    per = "in total" if budget.per == "total" else f"per {budget.per}"
    models = f" for {clean(', '.join(budget.models))}" if budget.models else ""
    return f"{_amount(budget, budget.limit)} {per}{models}"


def _amount(budget: BudgetView, amount: int) -> str:
    return f"{dollars(amount)} USD" if budget.unit == "nano_usd" else f"{amount:,} {budget.unit}"
