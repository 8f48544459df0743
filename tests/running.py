"""Runs a real gateway process against a simulated provider and asks it over bare sockets. Asserts nothing.

``gateway(directory, config)`` starts ``tollway serve``; ``Wire`` is one client connection whose every byte is seen.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tollway.simulator.running import RunningSimulator, start_in_thread

ADMIN = "sk-tw-admin-key-of-the-tests"
KEY = "sk-tw-client-key-of-the-tests"
CHAT = "/v1/chat/completions"
START_SECONDS = 20.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


async def until(condition: Callable[[], object], seconds: float = 10.0, what: str = "") -> None:
    """Wait until ``condition()`` (which may be a coroutine) is true."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        await asyncio.sleep(0.005)


# ---------------------------------------------------------------------------------------------- the client


@dataclass
class Reply:
    """``body`` is unchunked. ``ended``: the last byte of the answer arrived."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    ended: bool = False

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> list[str]:
        """The data of every SSE event."""
        lines = self.body.decode().replace("\r\n", "\n").split("\n")
        return [line[6:] for line in lines if line.startswith("data: ")]

    @property
    def chunks(self) -> list[Any]:
        return [json.loads(one) for one in self.data if one != "[DONE]"]

    @property
    def streamed(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def complete(self) -> bool:
        """Whether the client may take it for the whole answer: the whole body, or a stream's ``[DONE]``."""
        return self.ended or (self.streamed and b"data: [DONE]\n\n" in self.body)

    @property
    def request_id(self) -> str:
        return self.headers.get("x-tollway-request-id", "")

    @property
    def answer_id(self) -> str:
        """The id the provider gave its answer; empty where there is none."""
        if self.streamed:
            return next((one["id"] for one in self.chunks if "id" in one), "")
        found = self.json()
        return str(found.get("id", "")) if isinstance(found, dict) else ""


class Broken(Exception):
    """The connection ended before the answer did; ``reply`` is what had arrived."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"the connection broke: {reply}")
        self.reply = reply


def chat(model: str, text: str = "Hello there", **more: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def request_bytes(
    body: object = None,
    path: str = CHAT,
    *,
    method: str = "",
    key: str = KEY,
    chunked: bool = False,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """A request as it goes over the wire. ``chunked`` takes it through the ASGI door instead of the fast lane."""
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"host": "gateway", **(headers or {})}
    if key:
        lines["authorization"] = f"Bearer {key}"
    if content or method in ("POST", "PUT", "PATCH"):
        lines["content-type"] = "application/json"
    if chunked:
        lines["transfer-encoding"] = "chunked"
        content = (b"%x\r\n%b\r\n" % (len(content), content) if content else b"") + b"0\r\n\r\n"
    elif "content-type" in lines:
        lines["content-length"] = str(len(content))
    method = method or ("GET" if body is None else "POST")
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return head.encode() + b"\r\n" + content


class Wire:
    """One connection, opened when first needed and again when it was closed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.reader is None or self.writer is None or self.reader.at_eof() or self.writer.is_closing():
            self.close()
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24)
        return self.reader, self.writer

    async def ask(self, body: object = None, path: str = CHAT, seconds: float = 30.0, **how: Any) -> Reply:
        """Raises Broken when the answer does not come to its end, OSError when nobody listens."""
        reader, writer = await self.open()
        writer.write(request_bytes(body, path, **how))
        async with asyncio.timeout(seconds):
            return await self.read(reader)

    async def read(self, reader: asyncio.StreamReader) -> Reply:
        reply = Reply()
        try:
            await _read(reader, reply)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.close()
            raise Broken(reply) from error
        return reply

    def close(self) -> None:
        """Leave, at once and without reading what is still on its way."""
        if self.writer is not None:
            self.writer.transport.abort()
        self.reader = self.writer = None


async def _read(reader: asyncio.StreamReader, reply: Reply) -> None:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    reply.headers = _fields(lines[1:])
    reply.status = int(lines[0].split(" ")[1])
    if reply.headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            reply.body += (await reader.readexactly(size + 2))[:-2]
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            reply.trailers.update(_fields([line.decode("latin-1").strip()]))
    elif reply.status >= 200 and reply.status not in (204, 304):
        reply.body = await reader.readexactly(int(reply.headers["content-length"]))
    reply.ended = True


def _fields(lines: Sequence[str]) -> dict[str, str]:
    pairs = (line.partition(": ") for line in lines if line)
    return {name.lower(): value for name, _, value in pairs}


async def ask(port: int, body: object = None, path: str = CHAT, **how: Any) -> Reply:
    """One request on a connection of its own."""
    wire = Wire(port)
    try:
        return await wire.ask(body, path, **how)
    finally:
        wire.close()


# ---------------------------------------------------------------------------------------------- the gateway


class Gateway:
    """A ``tollway serve`` process with a data directory of its own, which outlives it.

    ``wrap`` are words put before the command (``unshare`` …), ``environ`` more variables.
    """

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, object],
        *,
        wrap: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.data_dir = directory / "data"
        self.config_path = directory / "tollway.json"
        self.log_path = directory / "gateway.log"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._wrap = tuple(wrap)
        self._environ = dict(environ or {})
        self.configure(config)

    def configure(self, config: Mapping[str, object] | str) -> None:
        """Put the configuration file in place, whole. A running process does not notice until it is told to."""
        text = config if isinstance(config, str) else json.dumps({"admin_key": ADMIN, **config}, indent=1)
        written = self.config_path.with_suffix(".new")
        written.write_text(text)
        written.replace(self.config_path)

    @property
    def environ(self) -> dict[str, str]:
        """Of the gateway and of commands about it: no key, proxy or setting of the machine's own."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            # The code under test, wherever the tests found it.
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "TOLLWAY_CONFIG": str(self.config_path),
            "TOLLWAY_DATA_DIR": str(self.data_dir),
            "TOLLWAY_PORT": str(self.port),
            **self._environ,
        }

    async def start(self) -> None:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._wrap, sys.executable, "-m", "tollway", "serve"],
                env=self.environ,
                cwd=self.directory,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        await until(self._answers, START_SECONDS, "the gateway answers")

    async def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the gateway ended with {self.process.returncode}:\n{self.log}")
        try:
            return (await ask(self.port, path="/health/liveness", key="", seconds=2)).status == 200
        except (OSError, Broken, TimeoutError):
            return False

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, as a crash or the kernel would end it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    async def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.to_thread(process.wait, 20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the gateway did not stop:\n{self.log[-4000:]}") from None

    # What the gateway says of itself.

    async def ask(self, body: object = None, path: str = CHAT, **how: Any) -> Reply:
        return await ask(self.port, body, path, **how)

    async def api(self, path: str, body: object = None, method: str = "", **query: object) -> Any:
        """The JSON of an admin call that must succeed."""
        given = {name: value for name, value in query.items() if value is not None}
        whole = "/api" + path + (f"?{urlencode(given)}" if given else "")
        reply = await ask(self.port, body, whole, key=ADMIN, method=method)
        if not 200 <= reply.status < 300:
            raise AssertionError(f"{whole}: {reply.status} {reply.body.decode()}")
        return reply.json()

    async def events(self, **query: Any) -> list[Any]:
        """Every event that matches, newest first, page by page."""
        found: list[Any] = []
        cursor: str | None = None
        while True:
            page = await self.api("/events", limit=1000, cursor=cursor, **query)
            found += page["data"]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    async def usage(self, *group_by: str) -> Any:
        return await self.api("/usage", group_by=",".join(group_by) or None)

    async def key(self, name: str) -> Any:
        return await self.api(f"/keys/{name}")

    async def readiness(self) -> Any:
        return (await ask(self.port, path="/health/readiness", key="")).json()


@asynccontextmanager
async def gateway(
    directory: Path,
    config: Mapping[str, object],
    *,
    wrap: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Gateway]:
    """A started gateway; killed at the end unless it was stopped before."""
    made = Gateway(directory, config, wrap=wrap, environ=environ)
    try:
        await made.start()
        yield made
    finally:
        made.kill()


@contextmanager
def simulator() -> Iterator[RunningSimulator]:
    """A provider in a thread, whose bill keeps every line."""
    with start_in_thread(bill_entries=200_000) as running:
        yield running


def provider(running: RunningSimulator, **more: object) -> dict[str, object]:
    """The simulator as an entry of ``providers:``."""
    return {"type": "openai-compatible", "base_url": running.url, "api_key": "sk-of-the-simulator", **more}
