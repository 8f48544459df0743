from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tollway.config.settings import SpoolSettings
from tollway.storage.spool import Spool

Run = Callable[..., subprocess.CompletedProcess[str]]


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    return {finding["check"]: finding for finding in json.loads(done.stdout)}


@pytest.fixture
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """A port that takes connections and keeps what it was sent."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def accept() -> None:
            try:
                connection, _ = server.accept()
                with connection:
                    connection.settimeout(5)
                    heard.append(connection.recv(1000))
            except OSError:
                heard.append(b"nobody came")

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1], heard
        thread.join(10)


def test_a_fresh_machine_is_fine(tollway: Run, home: Path) -> None:
    done = tollway("doctor", "--offline", "--json")
    found = findings(done)
    assert done.returncode == 0
    assert found["data directory"]["found"].startswith(f"{home}/data will be made")
    assert found["providers"]["state"] == "warn"
    assert found["clock"]["state"] == found["price book"]["state"] == "ok"
    assert not (home / "data").exists(), "doctor changes nothing"


def test_configuration_problems_are_listed(inside: Run, home: Path) -> None:
    (home / "work" / "tollway.yaml").write_text("modles: {}\nserver: {port: x}\n")
    done = inside("doctor", "--offline")
    assert done.returncode == 1
    assert "tollway.yaml:1: unknown setting" in done.stdout
    assert "tollway.yaml:2: server.port" in done.stdout


def test_providers_are_connected_to_and_told_nothing(
    inside: Run, home: Path, listener: tuple[int, list[bytes]]
) -> None:
    port, heard = listener
    with socket.create_server(("127.0.0.1", 0)) as closing:
        closed = closing.getsockname()[1]
    (home / "work" / "tollway.yaml").write_text(
        f"providers:\n  up: {{type: openai-compatible, api_key: sk-s, base_url: 'http://127.0.0.1:{port}/v1'}}\n"
        f"  down: {{type: openai-compatible, base_url: 'http://127.0.0.1:{closed}/v1'}}\n"
        "  nowhere: {type: openai-compatible, base_url: 'http://no-such-host.invalid/v1'}\n"
        "models: {a: {targets: [up/model-x, {model: up/y, price: {input: 1}}]}}\n"
    )
    done = inside("doctor", "--json")
    found = findings(done)
    assert done.returncode == 1
    assert found["provider up"]["state"] == "ok"
    assert found["provider down"]["state"] == "fail"
    assert "does not resolve" in found["provider nowhere"]["found"]
    assert found["prices"]["found"] == "1 of 2 targets are unpriced: up/model-x"
    assert "sk-s" not in done.stdout
    for _ in range(100):
        if heard:
            break
        threading.Event().wait(0.05)
    assert heard == [b""], "not a byte was sent"


def test_events_that_wait_are_counted(inside: Run, home: Path) -> None:
    assert inside("keys", "create", "--name", "a").returncode == 0
    spool = Spool(
        home / "data" / "spool", SpoolSettings(segment_bytes=1024 * 1024, max_bytes=8 * 1024 * 1024)
    )
    try:
        for n in range(1200):
            spool.enter()
            spool.append(b'{"n":%d}' % n)
            spool.leave()
        ledger = findings(inside("doctor", "--offline", "--json"))["ledger"]
    finally:
        spool.close()
    assert ledger["state"] == "warn"
    assert ledger["found"] == "1200 events wait in the spool for the database"


def test_a_broken_database(inside: Run, home: Path) -> None:
    (home / "data").mkdir()
    (home / "data" / "tollway.db").write_bytes(b"this is no database" * 100)
    done = inside("doctor", "--offline", "--json")
    assert done.returncode == 1
    assert findings(done)["database"]["state"] == "fail"


def test_a_schema_of_another_release(inside: Run, home: Path) -> None:
    assert inside("keys", "list").returncode == 0
    with sqlite3.connect(home / "data" / "tollway.db") as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    found = findings(inside("doctor", "--offline", "--json"))["database"]
    assert found["state"] == "warn"
    assert "newer than this release's" in found["found"]


def test_a_certificate_that_cannot_be_read(inside: Run, home: Path) -> None:
    (home / "work" / "tollway.yaml").write_text("server: {tls_cert: none.pem, tls_key: none.pem}\n")
    done = inside("doctor", "--offline", "--json")
    assert done.returncode == 1
    assert findings(done)["files"]["found"].endswith("none.pem cannot be read")
