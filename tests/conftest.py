"""Lets every test import ``running``, which starts real gateways, and gives the servers several rooms test with."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from postgres_server import PostgresServer
    from redis_server import RedisServer

_numbers = count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this session's own."""
    from postgres_server import PostgresServer

    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def _postgres_template(postgres: PostgresServer) -> str:
    """The name of a database with this version's tables, to be copied."""
    postgres.sql("CREATE DATABASE migrated")
    subprocess.run(
        [sys.executable, "-m", "tollway.storage.migrate"],
        env={**os.environ, "TOLLWAY_MIGRATE_URL": postgres.url("migrated")},
        check=True,
        timeout=60,
    )
    return "migrated"


@pytest.fixture
def postgres_database(
    postgres: PostgresServer, _postgres_template: str, request: pytest.FixtureRequest
) -> str:
    """The address of a new database with all tables and nothing in them."""
    name = f"t{next(_numbers)}"
    postgres.copy(_postgres_template, name)
    request.addfinalizer(lambda: postgres.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))  # noqa: PT021
    return postgres.url(name)


@pytest.fixture
def postgres_empty(postgres: PostgresServer, request: pytest.FixtureRequest) -> str:
    """The address of a new database without tables."""
    name = f"t{next(_numbers)}"
    postgres.sql(f"CREATE DATABASE {name}")
    request.addfinalizer(lambda: postgres.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))  # noqa: PT021
    return postgres.url(name)


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """A Redis server of this session's own. Tests share it: each takes a prefix of its own, and none stops it."""
    from redis_server import RedisServer

    with RedisServer() as server:
        yield server
