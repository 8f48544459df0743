"""What tests with blocking clients need: a gateway of ``running`` seen from ordinary code, keys, ledger, a bare
request, a command that is watched. Asserts only that its own steps worked."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from running import ADMIN, Gateway, free_port, provider, simulator
from tollway.simulator.running import RunningSimulator
from tollway.simulator.server import Simulator

PRICE = {"input": 0.15, "output": 0.60, "cache_read": 0.075}
"""US dollars per million tokens of everything here, so that a nano-dollar count is easily checked."""


def wait_until(condition: Callable[[], object], seconds: float = 10.0, what: str = "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what or condition}"
        time.sleep(0.01)


class Answer:
    """``headers`` have lower-case names."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)


def fetch(url: str, body: object = None, key: str = "", **headers: str) -> Answer:
    """A POST where there is a body, else a GET; a refusal is an answer too. Header names with underscores."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    data = None
    if body is not None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent.setdefault("content-type", "application/json")
    if key:
        sent["authorization"] = f"Bearer {key}"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(urllib.request.Request(url, data, sent), timeout=30) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


class Served:
    """A running gateway. ``upstream`` is the simulator that answers for provider ``mock``."""

    def __init__(self, gateway: Gateway, upstream: Simulator) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self.url = f"http://127.0.0.1:{gateway.port}"
        self.base_url = self.url + "/v1"

    def api(self, path: str, body: object = None) -> Any:
        answer = fetch(f"{self.url}/api{path}", body, key=ADMIN)
        assert answer.status < 300, (path, answer.status, answer.body)
        return answer.json()

    def key(self, name: str, **terms: object) -> str:
        """A new virtual key."""
        made: str = self.api("/keys", {"name": name, **terms})["key"]
        return made

    def events(self, question: str = "") -> list[dict[str, Any]]:
        """Events of the ledger, newest first."""
        found: list[dict[str, Any]] = self.api(f"/events?limit=1000&{question}")["data"]
        return found

    def event(self, request_id: str) -> dict[str, Any]:
        """The only event of a request, which may still be on its way into the ledger."""
        found: list[dict[str, Any]] = []

        def arrived() -> bool:
            found[:] = self.events(f"request_id={request_id}")
            return bool(found)

        wait_until(arrived, what=f"the event of {request_id}")
        assert len(found) == 1, found
        return found[0]


@contextmanager
def served(
    directory: Path, config: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """A gateway whose provider ``mock`` is a simulator, and public model ``small`` its gpt-4o-mini."""
    with simulator() as upstream:
        whole = {
            "providers": {"mock": provider(upstream)},
            "models": {"small": {"targets": [{"model": "mock/gpt-4o-mini", "price": PRICE}]}},
            **(config or {}),
        }
        with served_with(directory, upstream, whole, environ) as running:
            yield running


@contextmanager
def served_with(
    directory: Path,
    upstream: RunningSimulator,
    config: Mapping[str, object],
    environ: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """A gateway with this configuration before a simulator that runs already."""
    gateway = Gateway(directory, config, environ=environ)
    try:
        asyncio.run(gateway.start())
        yield Served(gateway, upstream.simulator)
        assert asyncio.run(gateway.stop()) == 0, gateway.log
    finally:
        gateway.kill()


class Command:
    """A ``tollway`` command that goes on by itself; ``stdout`` and ``stderr`` are what it has said so far."""

    def __init__(self, directory: Path, *arguments: str, **environ: str) -> None:
        self.directory = directory
        with (directory / "stdout").open("wb") as out, (directory / "stderr").open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tollway", *arguments],
                env=bare(directory, **environ),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def stdout(self) -> str:
        return (self.directory / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.directory / "stderr").read_text()

    def says(self, pattern: str, seconds: float = 20.0) -> re.Match[str]:
        """Wait until standard output has it."""

        def said() -> bool:
            found = re.search(pattern, self.stdout, re.MULTILINE)
            assert found or self.process.poll() is None, f"it ended: {self.stdout}{self.stderr}"
            return found is not None

        wait_until(said, seconds, f"{pattern!r} in {self.directory / 'stdout'}")
        found = re.search(pattern, self.stdout, re.MULTILINE)
        assert found is not None
        return found

    def ends(self, seconds: float = 20.0) -> int:
        return self.process.wait(seconds)


def bare(directory: Path, **environ: str) -> dict[str, str]:
    """An environment with nothing of the machine's own in it."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(directory),
        "LANG": "C.UTF-8",
        "TOLLWAY_DATA_DIR": str(directory / "data"),
        **environ,
    }


@contextmanager
def serving(directory: Path, *arguments: str, **environ: str) -> Iterator[tuple[Command, str]]:
    """``tollway serve`` as a person starts it, and its address, from the moment its banner is out."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = Command(directory, "serve", "--port", str(port), *arguments, **environ)
    try:
        command.says(r"^  try it:\n.*\n.*\n")
        yield command, f"http://127.0.0.1:{port}"
        if (
            command.process.poll() != -signal.SIGKILL
        ):  # a test may kill it, to start again in the same directory
            command.process.terminate()
            assert command.ends() == 0, command.stderr
    finally:
        if command.process.poll() is None:
            command.process.kill()
            command.process.wait()
