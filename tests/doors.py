"""Both doors of the gateway as running processes, and a client of bare sockets: the fast lane as ``tollway serve`` has
it, and the plain ASGI app under a stock uvicorn. Asserts nothing but that they start.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tollway.simulator.running import RunningSimulator, start_in_thread

ADMIN = "sk-tw-admin-canary-7f3a9c51d2"
KEY = "sk-tw-client-canary-0b8e64f7aa"
NARROW = "sk-tw-narrow-canary-93c2d1e0b7"
EXPIRED = "sk-tw-expired-canary-5d5e8a1f0c"
BLOCKED = "sk-tw-blocked-canary-c4071b6e2d"
PRICED = "sk-tw-priced-canary-2f9d03b8e6"
UPSTREAM = "upstream-canary-86ab1f94c07e"
SECRETS = (ADMIN, KEY, NARROW, EXPIRED, BLOCKED, PRICED, UPSTREAM)
CHAT = "/v1/chat/completions"
PRICE = {"input": 0.15, "output": 0.60}

_COMMANDS = {
    "lane": ["-m", "tollway", "serve"],
    "asgi": [str(Path(__file__).with_name("stock_server.py"))],
    "sockets": [str(Path(__file__).with_name("stock_server.py")), "websockets-sansio"],
}


def configuration(upstream: RunningSimulator, **server: object) -> dict[str, object]:
    provider = {"type": "openai-compatible", "base_url": upstream.url, "api_key": UPSTREAM}
    return {
        "server": {"max_body": "256KiB", "max_header": "8KiB", **server},
        "admin_key": ADMIN,
        "database": "none",
        "providers": {"mock": provider, "other": provider},
        "models": {
            "fast": {"targets": [{"model": "mock/gpt-4o-mini", "price": PRICE}]},
            "slow": "mock/gpt-4o",
        },
        "keys": [
            {"name": "client", "key": KEY},
            {"name": "narrow", "key": NARROW, "models": ["fast"]},
            {"name": "expired", "key": EXPIRED, "expires": "2020-01-01"},
            {"name": "blocked", "key": BLOCKED, "blocked": True},
            {
                "name": "priced",
                "key": PRICED,
                "budget": {"usd": 1, "strict": True},
                "limits": {"tpm": 1000000},
            },
        ],
    }


def eventually(condition: Any, seconds: float = 10.0, what: str = "") -> Any:
    """The first true value of ``condition()``; fails the test after the deadline."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what or condition}"
        time.sleep(0.01)
    return value


class Answer:
    """One answer off the wire. ``body`` is unchunked, ``raw`` all its bytes."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes, raw: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.raw = raw

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an OpenAI-shaped error, whose shape is checked on the way."""
        assert self.headers["content-type"] == "application/json", self.raw
        assert self.headers["x-tollway-request-id"].startswith("req_"), self.raw
        error = self.json()["error"]
        assert set(error) >= {"message", "type", "param", "code"}, error
        assert error["message"], error
        code: str = error["code"]
        return code


class Ended(Exception):
    """The connection ended; ``rest`` is what had arrived of the next answer."""

    def __init__(self, rest: bytes) -> None:
        super().__init__(rest[:200])
        self.rest = rest


class Wire:
    """One client connection. Sending to a server that has closed is no error: what it answered counts."""

    def __init__(self, port: int, seconds: float = 10.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.seen = b""
        """Every byte that arrived, ever."""
        self._buffer = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> bool:
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def _more(self) -> None:
        try:
            data = self.socket.recv(262_144)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Ended(self._buffer)
        self.seen += data
        self._buffer += data

    def _until(self, mark: bytes) -> bytes:
        while (at := self._buffer.find(mark)) < 0:
            self._more()
        found, self._buffer = self._buffer[: at + len(mark)], self._buffer[at + len(mark) :]
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def head(self) -> tuple[int, dict[str, str], bytes]:
        raw = self._until(b"\r\n\r\n")
        lines = raw.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:-2])}
        return int(lines[0].split(" ")[1]), headers, raw

    def answer(self, *, bodiless: bool = False) -> Answer:
        """The next answer, interim ones included. Raises Ended where the connection ends before it does."""
        status, headers, raw = self.head()
        body = b""
        if bodiless or status < 200 or status in (204, 304):
            return Answer(status, headers, body, raw)
        if headers.get("transfer-encoding") == "chunked":
            while True:
                line = self._until(b"\r\n")
                piece = self._exactly(int(line, 16) + 2)
                raw += line + piece
                if int(line, 16) == 0:
                    break
                body += piece[:-2]
        else:
            body = self._exactly(int(headers["content-length"]))
            raw += body
        return Answer(status, headers, body, raw)

    def ends(self) -> bytes:
        """Whatever still arrives until the server closes; times out where it does not."""
        try:
            while True:
                self._more()
        except Ended as ended:
            return ended.rest


def post(
    body: object, *lines: str, path: str = CHAT, key: str = KEY, method: str = "POST", version: str = "1.1"
) -> bytes:
    """The bytes of a request. ``lines`` are further headers as they go over the wire."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    more = "".join(f"{line}\r\n" for line in lines)
    if not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in lines):
        more += f"content-length: {len(content)}\r\n"
    if not any(line.lower().startswith("content-type") for line in lines):
        more += "content-type: application/json\r\n"
    if key:
        more += f"authorization: Bearer {key}\r\n"
    return f"{method} {path} HTTP/{version}\r\nhost: gateway\r\n{more}\r\n".encode("latin-1") + content


def get(path: str, *lines: str, key: str = KEY, method: str = "GET", version: str = "1.1") -> bytes:
    more = "".join(f"{line}\r\n" for line in lines)
    if key:
        more += f"authorization: Bearer {key}\r\n"
    return f"{method} {path} HTTP/{version}\r\nhost: gateway\r\n{more}\r\n".encode("latin-1")


def chat(model: str = "fast", text: str = "Hello there", **more: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def chunked(body: bytes, size: int = 7) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Door:
    """A running server. ``name`` is ``lane`` or ``asgi``."""

    def __init__(
        self, name: str, directory: Path, upstream: RunningSimulator, config: Mapping[str, object]
    ) -> None:
        self.name = name
        self.upstream = upstream
        self._log = directory / f"{name}.log"
        file = directory / f"{name}.json"
        file.write_text(json.dumps(config))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "TOLLWAY_CONFIG": str(file),
            "TOLLWAY_PORT": str(self.port),
            "TOLLWAY_DATA_DIR": str(directory / f"{name}-data"),
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *_COMMANDS[name]],
                env=environ,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait(self) -> None:
        def listens() -> bool:
            assert self.process.poll() is None, self.log
            with contextlib.suppress(OSError), Wire(self.port) as wire:
                wire.send(get("/health/liveness", key=""))
                return wire.answer().status == 200
            return False

        eventually(listens, 20, f"the {self.name} door to listen")

    @property
    def log(self) -> str:
        """Both outputs, the events of the ledger among them."""
        return self._log.read_text()

    @property
    def memory(self) -> int:
        """Resident bytes."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def wire(self, seconds: float = 10.0) -> Wire:
        return Wire(self.port, seconds)

    def ask(self, data: bytes) -> Answer:
        """One request on a connection of its own."""
        with self.wire() as wire:
            wire.send(data)
            return wire.answer()

    def event(self, request_id: str) -> Any:
        """The event of a request, as soon as it is written."""

        def found() -> Any:
            for line in self.log.splitlines():
                if request_id in line and line.startswith("{"):
                    return json.loads(line)
            return None

        return eventually(found, what=f"the event of {request_id}")

    def goes_on(self) -> None:
        answer = self.ask(post(chat()))
        assert answer.status == 200, answer.raw
        assert answer.json()["object"] == "chat.completion"

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@contextlib.contextmanager
def open_doors(*names: str, **server: object) -> Iterator[dict[str, Door]]:
    """The named doors over one simulator, with ``server:`` settings laid over the usual ones of these tests."""
    with start_in_thread() as upstream, tempfile.TemporaryDirectory(prefix="tollway-doors-") as directory:
        config = configuration(upstream, **server)
        doors = {name: Door(name, Path(directory), upstream, config) for name in names or ("lane", "asgi")}
        try:
            for door in doors.values():
                door.wait()
            yield doors
        finally:
            for door in doors.values():
                door.stop()
