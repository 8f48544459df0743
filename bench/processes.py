"""Starts the programs of a run, each on its core, and makes sure that none of them outlives it."""

from __future__ import annotations

import ctypes
import http.client
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)

CORES = sorted(os.sched_getaffinity(0))
LOAD_CORE = CORES[0]
SUBJECT_CORE = CORES[-1]


class NeverReady(RuntimeError):
    """The program ended, or did not answer in time; the text holds the end of its log."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def raise_file_limit() -> int:
    """As many open files as this user may have; children inherit it. Returns the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = min(hard, 65_536) if hard != resource.RLIM_INFINITY else 65_536
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


class Programs:
    """A context that ends everything started in it: asks first, kills after ``grace`` seconds. If this
    process is itself killed, the kernel kills the programs."""

    def __init__(self, *, grace: float = 8.0) -> None:
        self.grace = grace
        self.running: list[subprocess.Popen[bytes]] = []
        self.before: dict[int, object] = {}

    def __enter__(self) -> Programs:
        def leave(number: int, frame: object) -> None:
            raise SystemExit(128 + number)

        for number in (signal.SIGTERM, signal.SIGHUP):
            self.before[number] = signal.signal(number, leave)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for program in reversed(self.running):
            self.stop(program)
        for number, handler in self.before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def start(
        self,
        command: Sequence[str],
        *,
        core: int,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """``env`` is added to a clean environment (PATH, HOME beside the log)."""

        def in_child() -> None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            os.sched_setaffinity(0, {core})

        environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(log.parent)}
        with log.open("ab") as out:
            program = subprocess.Popen(
                list(command),
                env=environment | dict(env or {}),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=in_child,
            )
        self.running.append(program)
        return program

    def stop(self, program: subprocess.Popen[bytes]) -> None:
        if program in self.running:
            self.running.remove(program)
        if program.poll() is None:
            program.terminate()
            try:
                program.wait(self.grace)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(program.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        program.wait()


def request(
    port: int,
    path: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10.0,
) -> tuple[int, bytes]:
    """One blocking request on a connection of its own. Raises OSError or http.client.HTTPException."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET" if body is None else "POST", path, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def wait_for(
    program: subprocess.Popen[bytes],
    port: int,
    path: str,
    *,
    log: Path,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    limit: float = 60.0,
) -> None:
    """Polls every 5 ms until ``path`` answers 200. Raises NeverReady."""
    end = time.monotonic() + limit
    answer = "nothing"
    while time.monotonic() < end and program.poll() is None:
        try:
            status, text = request(port, path, body=body, headers=headers, timeout=limit)
        except (OSError, http.client.HTTPException) as error:
            answer = repr(error)
        else:
            if status == 200:
                return
            answer = f"{status} {text[:300]!r}"
        time.sleep(0.005)
    tail = log.read_text(errors="replace")[-2000:]
    state = f"ended with {program.returncode}" if program.poll() is not None else f"last answer: {answer}"
    raise NeverReady(f"port {port} {path}: {state}\n{tail}")
