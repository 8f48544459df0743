"""What commands have in common before their work: the configuration option, and settings read with the
catalogue."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from tollway.config.settings import Settings
    from tollway.providers.catalog import Catalog

F = TypeVar("F", bound=Callable[..., object])


def config_option(command: F) -> F:
    """``--config FILE``, for every command that reads the configuration."""
    return click.option(
        "--config",
        "config",
        metavar="FILE",
        help="The configuration; otherwise TOLLWAY_CONFIG, or tollway.yaml here, or none.",
    )(command)


def json_option(command: F) -> F:
    """``--json``, for every command with a result."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")(command)


def load(config: str | None, overrides: Mapping[str, object] | None = None) -> Settings:
    """The settings a server started here would have. Raises ConfigError."""
    from tollway.config.load import load_settings
    from tollway.providers.catalog import load_catalog

    catalog = load_catalog()
    return load_settings(config, os.environ, catalog.names(), discovery(catalog), overrides or {})


def discovery(catalog: Catalog) -> Callable[[Mapping[str, str]], list[tuple[str, str]]]:
    """What ``load_settings`` asks for: the catalogue's discovery, by name and variable."""
    return lambda environ: [(entry.name, variable) for entry, variable in catalog.discover(environ)]
