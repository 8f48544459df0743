"""From ``tollway.yaml`` and the environment to ``Settings``: found, read, overridden, and checked as a whole.

Reads the one file and nothing else: no network, no database, no other module's data (the catalogue's are
passed in).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import msgspec

from tollway.config import reading
from tollway.config.environment import fill_in
from tollway.config.foreign import foreign_configuration
from tollway.config.keys import read_keys
from tollway.config.models import Known, read_models
from tollway.config.providers import read_providers
from tollway.config.reading import Table
from tollway.config.report import Bad, Report
from tollway.config.sections import PORT, read_logs, read_redis, read_server, read_sink, read_spool
from tollway.config.settings import (
    LogSettings,
    ProviderSettings,
    RedisSettings,
    ServerSettings,
    Settings,
    SpoolSettings,
)
from tollway.config.tenants import placed_keys, read_directory
from tollway.config.yaml_marks import EMPTY, MAX_BYTES, Node, Scalar, parse
from tollway.config.yaml_marks import Mapping as MappingNode
from tollway.errors import ConfigError

FILE_NAME = "tollway.yaml"

_NOT_YET = {
    "guardrails": "guardrails are not part of this version",
    "mcp_servers": "the MCP gateway is not part of this version",
    "auth": "single sign-on is not part of this version; clients use keys, the administrator the admin key",
}

_FROM_ENVIRONMENT = {
    "TOLLWAY_HOST": "host",
    "TOLLWAY_PORT": "port",
    "TOLLWAY_DATA_DIR": "data_dir",
    "TOLLWAY_DATABASE_URL": "database",
    "TOLLWAY_DATABASE_REPLICA_URL": "database_replica",
    "TOLLWAY_REDIS_URL": "redis",
    "TOLLWAY_ADMIN_KEY": "admin_key",
}

_CREDENTIALS = ("database", "database_replica", "redis", "admin_key")

Discover = Callable[[Mapping[str, str]], list[tuple[str, str]]]


def load_settings(
    path: str | None,
    environ: Mapping[str, str],
    catalog_names: Collection[str],
    discover: Discover,
    overrides: Mapping[str, object] = {},
) -> Settings:
    """The settings this process is to run with. Raises ConfigError listing every problem.

    ``path`` None: the file ``TOLLWAY_CONFIG`` names, else ``tollway.yaml`` in the working directory if there
    is one, else none. ``catalog_names`` are the catalogue's providers; ``discover`` finds the
    providers whose key is in the environment, each ``(name, variable that holds the key)``; it is asked only
    where the file has no ``providers:``. ``overrides`` come from the command line and win over the
    environment, which wins over the file: host, port, workers, data_dir, database, database_replica, redis,
    admin_key.
    """
    source = find_file(path, environ)
    report = Report(source or "environment")
    root = _read(source, environ, report) if source else EMPTY
    given = _given_outside(environ, overrides)
    table = Table(root, report, "")
    outside = _Outside(given, report)

    server = table.get("server", read_server, ServerSettings())
    server = msgspec.structs.replace(
        server,
        host=outside.get("host", reading.name, server.host),
        port=outside.get("port", PORT, server.port),
        workers=outside.get("workers", reading.integer(1, 1024), server.workers),
    )
    data_dir = outside.get("data_dir", reading.text, table.get("data_dir", reading.text, None))
    directory = _absolute(data_dir or "~/.tollway", environ)
    admin_key = outside.get("admin_key", reading.secret, table.get("admin_key", reading.secret, None))
    database = outside.get("database", _database, table.get("database", _database, "sqlite:///tollway.db"))
    providers, discovered = _providers(table, environ, catalog_names, discover)
    known = Known(providers, catalog_names, discovered=not table.has("providers"))
    public = table.names_in("models")
    shared_by = read_directory(table, public)
    keys = table.get("keys", lambda node, report: read_keys(node, report, admin_key, public), ())
    settings = Settings(
        server=server,
        admin_key=admin_key,
        require_key=table.get("require_key", reading.boolean, True),
        database=_placed(database, directory),
        database_replica=outside.get(
            "database_replica", _replica, table.get("database_replica", _replica, None)
        ),
        redis=_redis(table, outside),
        data_dir=str(directory),
        unpriced=table.get("unpriced", reading.choice("allow", "refuse"), "allow"),
        budget_status=table.get("budget_status", reading.integer(400, 499), 402),
        providers=providers,
        models=table.get("models", lambda node, report: read_models(node, report, known), ()),
        keys=placed_keys(keys, shared_by, table.line_of("keys"), report),
        directory=shared_by,
        sinks=table.get("sinks", reading.many(read_sink, "sinks"), ()),
        logs=table.get("logs", read_logs, LogSettings()),
        spool=table.get("spool", read_spool, SpoolSettings()),
        discovered=discovered,
        source=source,
    )
    for key, why in _NOT_YET.items():
        table.refuse(key, why)
    table.finish()
    _check(settings, table, outside)
    report.raise_if_any()
    return settings


def find_file(path: str | None, environ: Mapping[str, str]) -> str | None:
    """Which configuration file applies, as the user would name it; None when there is none."""
    chosen = path or environ.get("TOLLWAY_CONFIG")
    if chosen:
        return chosen
    return FILE_NAME if Path(FILE_NAME).is_file() else None


def line_of(source: str, *keys: str) -> int:
    """The line of a setting of a file that loads, for later findings; its nearest parent's if absent."""
    with Path(source).open("rb") as file:
        node = parse(file.read(MAX_BYTES + 1), Report(source))
    line = 1
    for key in keys:
        if not isinstance(node, MappingNode) or key not in node.entries:
            break
        line, node = node.lines[key], node.entries[key]
    return line


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _read(source: str, environ: Mapping[str, str], report: Report) -> Node:
    try:
        with Path(source).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a usable path"
        raise ConfigError([f"{source}: cannot be read: {reason}"]) from None
    root = parse(data, report)
    if root is None:
        report.raise_if_any()
        return EMPTY
    told = foreign_configuration(root)
    if told:
        raise ConfigError([f"{source}:{root.line}: {told}"])
    return fill_in(root, environ, report)


def _providers(
    table: Table, environ: Mapping[str, str], catalog_names: Collection[str], discover: Discover
) -> tuple[tuple[ProviderSettings, ...], tuple[str, ...]]:
    node = table.node("providers")
    if node is not None:
        return read_providers(node, table.report, catalog_names), ()
    found: list[ProviderSettings] = []
    for name, variable in discover(environ):
        value = environ.get(variable, "")
        try:
            key = reading.secret(Scalar(0, value, value, variables=variable), table.report)
            found.append(ProviderSettings(name=name, type=name, api_key=key))
        except Bad as bad:
            table.report.add_outside(variable, bad.message)
    return tuple(found), tuple(provider.name for provider in found)


class _Outside:
    """Values from beside the file, read by the same readers; problems name the variable or the option."""

    def __init__(self, given: Mapping[str, tuple[str, str]], report: Report) -> None:
        self._given = given
        self._report = report

    def get(self, name: str, read: reading.Reader[reading.T], default: reading.D) -> reading.T | reading.D:
        if name not in self._given:
            return default
        place, value = self._given[name]
        if name in _CREDENTIALS:
            self._report.hide(value)
        try:
            return read(Scalar(0, value, value, variables=place), self._report)
        except Bad as bad:
            self._report.add_outside(place, bad.message, meant=bad.meant)
            return default

    def blame(self, name: str, table: Table, key: str, message: str) -> None:
        """Report a problem where its value came from: option, variable, or the line of the file."""
        if name in self._given:
            self._report.add_outside(self._given[name][0], message)
        else:
            self._report.add(table.line_of(key), message)


def _given_outside(environ: Mapping[str, str], overrides: Mapping[str, object]) -> dict[str, tuple[str, str]]:
    """What stands beside the file: setting → (where it was given, value). An empty variable counts as
    unset."""
    given = {
        name: (variable, environ[variable])
        for variable, name in _FROM_ENVIRONMENT.items()
        if environ.get(variable)
    }
    for name, value in overrides.items():
        if value is not None:
            given[name] = (f"--{name.replace('_', '-')}", str(value))
    return given


def _database(node: Node, _: Report) -> str:
    """An SQLAlchemy-style URL, or ``none``. Never repeated in a message: it may hold a password."""
    found = reading.text_of(node).strip()
    scheme = found.partition("://")[0]
    if found == "none" or scheme in ("sqlite", "postgresql", "postgres"):
        if scheme == "postgres":
            return "postgresql" + found[len(scheme) :]
        if scheme == "sqlite" and (not found.startswith("sqlite:///") or found[10:] in ("", ":memory:")):
            raise Bad("an SQLite address has three slashes and a file: sqlite:///tollway.db")
        return found
    raise Bad("expected sqlite:///tollway.db, postgresql://… or none")


def _replica(node: Node, _: Report) -> str:
    found = reading.text_of(node).strip()
    if found.partition("://")[0] not in ("postgresql", "postgres"):
        raise Bad("expected postgresql://…, a copy of the database for reports")
    return found


def _redis(table: Table, outside: _Outside) -> RedisSettings | None:
    """The address may stand beside the file, the rest is the file's."""
    inside = table.get("redis", read_redis, None)
    given = outside.get("redis", read_redis, None)
    if inside is None or given is None:
        return given or inside
    return msgspec.structs.replace(inside, url=given.url)


def _placed(database: str, directory: Path) -> str | None:
    """None for ``none``; a relative SQLite path stands in the data directory."""
    if database == "none":
        return None
    prefix = "sqlite:///"
    if not database.startswith(prefix):
        return database
    file, mark, query = database[len(prefix) :].partition("?")
    if file.startswith("/"):
        return database
    return f"{prefix}{directory / file}{mark}{query}"


def _absolute(path: str, environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME")
    if home and (path == "~" or path.startswith("~/")):
        path = home + path[1:]
    return Path(path).expanduser().absolute()


def _check(settings: Settings, table: Table, outside: _Outside) -> None:
    """What no section can see alone."""
    if not settings.require_key and not is_loopback(settings.server.host):
        outside.blame(
            "host",
            table,
            "require_key",
            f"require_key: false is accepted on a loopback address only, and the server listens on "
            f"{settings.server.host}; use host 127.0.0.1, or give clients keys",
        )
    if settings.server.workers > 1 and settings.redis is None and not table.has("redis"):
        outside.blame(
            "workers",
            table,
            "server",
            f"workers: {settings.server.workers} processes share their counters through Redis, or no budget and no "
            "limit would hold; set redis: redis://…, or run one process",
        )
    if settings.database_replica is not None and (settings.database or "").partition(":")[0] != "postgresql":
        outside.blame(
            "database_replica",
            table,
            "database_replica",
            "database_replica: only a PostgreSQL database has one; set database: postgresql://… or remove it",
        )
