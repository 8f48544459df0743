"""The ``tollway`` command: names, one-line helps and exit codes. A command's module is imported when it is
used, so that ``--help`` and ``serve`` never pay for what other commands need.

Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

from importlib import import_module

import click

from tollway import __version__
from tollway.errors import BadRequest, ConfigError, GatewayError

# name: (module, help). The module's attribute of the same name is the command.
COMMANDS = {
    "serve": ("tollway.cli.serve", "Run the gateway."),
    "keys": ("tollway.cli.keys", "Create, look at, revoke and rotate virtual keys."),
    "orgs": ("tollway.cli.tenants", "Create and look at organizations."),
    "teams": ("tollway.cli.tenants", "Create and look at teams."),
    "users": ("tollway.cli.tenants", "Create and look at users, and make their tokens."),
    "config": ("tollway.cli.config", "Check a configuration file."),
    "models": ("tollway.cli.models", "List the models of the catalogue with their prices."),
    "prices": ("tollway.cli.prices", "Look up prices in the price book."),
    "usage": ("tollway.cli.usage", "Show what was spent."),
    "migrate": ("tollway.cli.migrate", "Bring the database to this version's tables."),
    "mock": ("tollway.cli.mock", "Run the provider simulator."),
    "doctor": ("tollway.cli.doctor", "Check everything a gateway needs and say what to do."),
}


class Failed(click.ClickException):
    """The command could not do its work: exit code 1."""

    exit_code = 1

    def show(self, file: object = None) -> None:
        for line in self.message.splitlines():
            click.echo(line, err=True)


class Commands(click.Group):
    """The commands by name, and the errors of ours as exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found = getattr(import_module(COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in COMMANDS:
            from tollway.config.report import closest

            near = closest(name, COMMANDS)
            hint = f" Did you mean {near}?" if near else ""
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            raise Failed("\n".join(error.problems)) from None
        except GatewayError as error:
            if type(error) is BadRequest:
                raise click.UsageError(error.message) from None
            raise Failed(f"Error: {error.message}") from None


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with `tollway serve`: without any configuration it finds provider keys in the environment.",
)
@click.version_option(__version__, prog_name="tollway")
def cli() -> None:
    """Tollway: one endpoint in front of every model provider, with keys, exact budgets and a ledger."""


def main() -> None:
    """The entry point. Leaves the process with the exit code."""
    cli.main(prog_name="tollway")
