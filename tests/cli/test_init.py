from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec

import click
import pytest

from tollway.cli import COMMANDS, cli


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    found = []
    for name in group.list_commands(click.Context(group)):
        if path or find_spec(COMMANDS[name][0]):
            command = group.get_command(click.Context(group), name)
            assert command is not None
            found.append(((*path, name), command))
            if isinstance(command, click.Group):
                found += commands(command, (*path, name))
    return found


def test_every_command_has_help_with_an_example() -> None:
    for path, command in commands(cli):
        text = command.get_help(click.Context(command, info_name=" ".join(path)))
        assert f"tollway {' '.join(path)}" in " ".join(text.split()), path
        assert "Example" in text, path


def test_help_is_fast_and_imports_little() -> None:
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tollway", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    took = time.monotonic() - begun
    assert "Run the gateway." in done.stdout
    for heavy in ("rich", "fastapi", "alembic", "sqlalchemy", "yaml", "uvicorn"):
        assert f" {heavy}\n" not in done.stderr, heavy
    assert took < 1.0, f"{took:.2f} s; it takes a tenth of that on an idle machine"


def test_wrong_usage_is_two_and_suggests(tollway: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = tollway("sevre")
    assert done.returncode == 2
    assert "Did you mean serve?" in done.stderr
    assert tollway("keys", "create").returncode == 2
    assert tollway("serve", "--port", "99999").returncode == 2


def test_version(tollway: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert tollway("--version").stdout.startswith("tollway, version ")


@pytest.mark.parametrize("command", [("keys", "list"), ("usage",)])
def test_a_bad_configuration_is_one_and_shows_every_problem(
    tollway: Callable[..., subprocess.CompletedProcess[str]], command: tuple[str, ...]
) -> None:
    done = tollway(*command, TOLLWAY_PORT="x", TOLLWAY_DATABASE_URL="y")
    assert done.returncode == 1
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == [
        "TOLLWAY_PORT",
        "TOLLWAY_DATABASE_URL",
    ]
