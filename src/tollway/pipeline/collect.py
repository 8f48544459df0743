"""A client that keeps its answer: for requests of our own that walk the hallway on somebody's behalf."""

from __future__ import annotations


class Collected:
    """The hallway's ``Client``. ``status`` 0: nothing was answered, or the answer broke off."""

    def __init__(self) -> None:
        self.begun = False
        self.congested = False
        self.trailers = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        self.start(status, headers, body)

    def start(self, status: int, headers: bytes, data: bytes) -> None:
        self.begun = True
        self.status = status
        lines = headers.decode("latin-1").split("\r\n")
        pairs = (line.partition(": ") for line in lines if line)
        self.headers = {name.lower(): value for name, _, value in pairs}
        self.body += data

    def send(self, data: bytes) -> None:
        self.body += data

    async def drain(self) -> None:
        return None

    def finish(self, data: bytes, trailers: bytes = b"") -> None:
        self.body += data

    def break_off(self) -> None:
        self.status = 0
