"""A provider that plays streams as they were seen on the wire, for what no well-behaved one would send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Scripted:
    """``scripts`` by the model's name: the body of its stream. ``received`` are the requests' bodies."""

    def __init__(self, scripts: dict[str, bytes]) -> None:
        self.scripts = scripts
        self.received: list[Any] = []
        self.paths: list[str] = []
        self.port = 0


USAGE = (
    b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16}}\n\n'
)


def chunks(*deltas: dict[str, Any], finish: str = "tool_calls") -> bytes:
    """A stream in OpenAI's chat format."""

    def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        told = {
            "id": "c1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [choice],
        }
        return b"data: " + json.dumps(told).encode() + b"\n\n"

    first = chunk({"role": "assistant", "content": None})
    return first + b"".join(chunk(one) for one in deltas) + chunk({}, finish) + USAGE + b"data: [DONE]\n\n"


def fragment(index: int, arguments: str, id: str | None = None, name: str | None = None) -> dict[str, Any]:
    function: dict[str, Any] = {"arguments": arguments}
    made: dict[str, Any] = {"index": index, "function": function}
    if id is not None:
        made |= {"id": id, "type": "function"}
        function["name"] = name
    return made


@contextmanager
def playing(scripts: dict[str, bytes]) -> Iterator[Scripted]:
    scripted = Scripted(scripts)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            scripted.received.append(asked)
            scripted.paths.append(self.path)
            body = scripted.scripts[asked["model"]]
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scripted.port = server.server_address[1]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield scripted
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
