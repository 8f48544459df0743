from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def server(home: Path, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A gateway without any configuration, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tollway", "serve", "--port", str(port)],
            env=environment,
            cwd=home / "work",
            stdout=log,
            stderr=log,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        assert within(15, lambda: status(f"{url}/health/liveness") == 200), (home / "log").read_text()
        yield process, url
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def status(url: str, key: str = "") -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            code: int = answer.status
            return code
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_a_running_server_follows_the_keys_of_the_command_line(
    server: tuple[subprocess.Popen[bytes], str], inside: Run
) -> None:
    process, url = server
    key = inside("keys", "create", "--name", "ci").stdout.strip()
    assert within(2.5, lambda: status(f"{url}/v1/models", key) == 200), "made a second ago and still unknown"
    rotated = inside("keys", "rotate", "ci").stdout.strip()
    assert within(2.5, lambda: status(f"{url}/v1/models", key) == 401)
    assert status(f"{url}/v1/models", rotated) == 200
    inside("keys", "revoke", "ci")
    assert within(2.5, lambda: status(f"{url}/v1/models", rotated) == 401)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) in (0, -signal.SIGTERM)


def test_a_configuration_that_cannot_be_served_is_one(tollway: Run) -> None:
    done = tollway("serve", "--workers", "2", TOLLWAY_PORT="x")
    assert done.returncode == 1
    assert "--workers: workers: 2 processes share their counters through Redis" in done.stderr
    assert "TOLLWAY_PORT: expected a whole number" in done.stderr


def test_serving_does_not_import_what_other_commands_need(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tollway", "serve", "--workers", "2"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    for heavy in ("rich", "fastapi", "alembic", "tollway.cli.keys", "tollway.cli.doctor"):
        assert f" {heavy}\n" not in done.stderr, heavy
