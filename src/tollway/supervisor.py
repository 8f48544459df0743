"""Several processes that serve one address: opens the sockets, starts the workers, replaces one that dies, hands
signals on. It serves nothing itself and knows no room.

On Linux every worker has a listening socket of its own (SO_REUSEPORT): the kernel deals new connections out evenly,
while workers that accept from one socket race for them, and one that wins ten keep-alive connections keeps their load.
The sockets stay open here, so connections that reach a dead worker's wait for its successor.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import msgspec

from tollway.http.listening import listen
from tollway.worker import Board, Place, Told

log = logging.getLogger("tollway")

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds before a worker that died soon after its start is started again, doubled up to the longest."""

ATTEMPTS = 3
"""A start is given up when a worker has died this many times before all have served."""

SETTLED = 10.0
"""A worker that served this many seconds is replaced at once when it dies."""

MARGIN = 25.0
"""Seconds a worker has beyond ``server.drain`` to write its events down before it is killed."""

_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


Work = Callable[[Place], int]
"""Serves until it is told to stop, and returns the exit code."""


class Worker:
    """One place and whoever fills it at the moment."""

    def __init__(self, number: int, sockets: list[socket.socket]) -> None:
        self.number = number
        self.sockets = sockets
        self.pid = 0
        self.ear = -1
        self.heard = b""
        self.served = False
        self.started = 0.0
        self.reloads = 0
        self.deaths = 0
        self.due = 0.0


class Supervisor:
    """``work`` runs in each of ``count`` workers; ``reload`` is called when they were told to read the configuration
    again, ``drain`` is what a worker may take to end."""

    def __init__(
        self, count: int, host: str, port: int, drain: float, work: Work, reload: Callable[[], None]
    ) -> None:
        groups = sockets_of(count, host, port)
        self._workers = [Worker(number, sockets) for number, sockets in enumerate(groups)]
        self._board = Board(count)
        self._drain = drain
        self._work = work
        self._reload = reload
        self._lifeline = os.pipe()
        self._reloads = 0
        self._ready = False
        self._banner = ""

    def run(self) -> int:
        """Serve until a signal. Returns the exit code: 0 when every worker ended well after being asked to."""
        wake = os.pipe()
        for end in wake:
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake[1], warn_on_full_buffer=False)
        previous = {number: signal.signal(number, _noted) for number in _HANDLED}
        try:
            for worker in self._workers:
                self._start(worker)
            return self._mind(wake[0])
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in previous.items():
                signal.signal(number, handler)
            for end in wake:
                os.close(end)

    def _mind(self, wake: int) -> int:
        while True:
            ears = [worker.ear for worker in self._workers if worker.ear >= 0]
            due = min((worker.due for worker in self._workers if not worker.pid), default=None)
            patience = None if due is None else max(0.0, due - time.monotonic())
            readable, _, _ = select.select([wake, *ears], [], [], patience)
            for worker in self._workers:
                if worker.ear in readable:
                    self._listen(worker)
            for number in os.read(wake, 4096) if wake in readable else b"":
                if number in (signal.SIGTERM, signal.SIGINT):
                    return self._stop(wake, number)
                if number == signal.SIGHUP:
                    self._read_again()
                    for worker in self._workers:
                        if worker.served:
                            os.kill(worker.pid, signal.SIGHUP)
            for worker, code in self._dead():
                if not self._ready and (code == 1 or worker.deaths >= ATTEMPTS):
                    # It said why on standard error; the others would say the same.
                    self._stop(wake, signal.SIGTERM)
                    return 1
                self._died(worker, code)
            for worker in self._workers:
                if not worker.pid and worker.due <= time.monotonic():
                    self._start(worker)

    def _start(self, worker: Worker) -> None:
        ear, mouth = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._become(worker, ear, mouth)
        os.close(mouth)
        os.set_blocking(ear, False)
        worker.pid, worker.ear, worker.heard = pid, ear, b""
        worker.served, worker.started, worker.reloads = False, time.monotonic(), self._reloads

    def _become(self, worker: Worker, ear: int, mouth: int) -> None:
        """The child from here on; never returns."""
        code = 70
        try:
            signal.set_wakeup_fd(-1)
            for number in _HANDLED:
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it can heed it
            # A terminal's Ctrl-C goes to the supervisor alone, which hands it on.
            os.setpgid(0, 0)
            os.close(ear)
            os.close(self._lifeline[1])
            for other in self._workers:
                if other is not worker:
                    for one in other.sockets:
                        if one not in worker.sockets:
                            one.close()
                    if other.ear >= 0:
                        os.close(other.ear)
            place = Place(worker.number, worker.sockets, self._board, self._lifeline[0], mouth)
            code = self._work(place)
        except BaseException:
            log.exception("worker %d broke", worker.number)
        finally:
            logging.shutdown()
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os._exit(code)

    def _listen(self, worker: Worker) -> None:
        with suppress(BlockingIOError):
            data = os.read(worker.ear, 65536)
            if not data:
                os.close(worker.ear)
                worker.ear = -1
            worker.heard += data
        *lines, worker.heard = worker.heard.split(b"\n")
        for line in lines:
            told = msgspec.json.decode(line, type=Told)
            if told.event == "reloaded":
                self._read_again()
            elif told.event == "serving":
                self._serves(worker, told.text)

    def _serves(self, worker: Worker, banner: str) -> None:
        worker.served = True
        self._board.set(worker.number, True)
        if worker.reloads != self._reloads:
            os.kill(worker.pid, signal.SIGHUP)  # while it started the configuration changed
        if worker.number == 0:
            self._banner = banner or self._banner
        if self._ready:
            log.info("worker %d serves again as process %d", worker.number, worker.pid)
        elif all(each.served for each in self._workers):
            self._ready = True
            print(self._banner, flush=True)
            pids = ", ".join(str(each.pid) for each in self._workers)
            log.info("%d workers serve: processes %s", len(self._workers), pids)

    def _read_again(self) -> None:
        self._reloads += 1
        self._reload()

    def _dead(self) -> Iterable[tuple[Worker, int]]:
        for worker in self._workers:
            if not worker.pid:
                continue
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                if worker.ear >= 0:
                    self._listen(worker)
                if worker.ear >= 0:
                    os.close(worker.ear)
                worker.pid, worker.ear, worker.served = 0, -1, False
                self._board.set(worker.number, False)
                yield worker, os.waitstatus_to_exitcode(status)

    def _died(self, worker: Worker, code: int) -> None:
        lived = time.monotonic() - worker.started
        worker.deaths = 0 if lived >= SETTLED else worker.deaths + 1
        wait = 0.0 if worker.deaths < 2 else min(FIRST_WAIT * 2 ** (worker.deaths - 2), LONGEST_WAIT)
        worker.due = time.monotonic() + wait
        if wait and sys.platform == "linux":
            # Nobody will accept for a while: the kernel is to deal its connections to the others.
            fresh = [_shared(one.family, one.getsockname()) for one in worker.sockets]
            for one in worker.sockets:
                one.close()
            worker.sockets = fresh
        log.error(
            "worker %d ended %s after %.0f s and is started again%s",
            worker.number,
            f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}",
            lived,
            f" in {wait:g} s" if wait else "",
        )

    def _signal(self, number: int) -> None:
        for worker in self._workers:
            if worker.pid:
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, number)

    def _stop(self, wake: int, number: int) -> int:
        """End every worker gently, and those that do not within their time by force."""
        for worker in self._workers:
            for one in worker.sockets:
                one.close()  # or new connections would wait where nobody accepts any more
        self._signal(number)
        end = time.monotonic() + self._drain + MARGIN
        codes: list[int] = []
        while True:
            codes += [code for _, code in self._dead()]
            if not any(worker.pid for worker in self._workers):
                break
            left = end - time.monotonic()
            if left <= 0:
                log.error("the workers did not end within %.0f s and are killed", self._drain + MARGIN)
                self._signal(signal.SIGKILL)
                end = time.monotonic() + 5.0
                codes.append(1)
            readable, _, _ = select.select([wake], [], [], max(0.0, min(left, 1.0)))
            for again in os.read(wake, 4096) if readable else b"":
                if again in (signal.SIGTERM, signal.SIGINT):
                    self._signal(again)  # a second one means: at once
        return 0 if all(code in (0, -number) for code in codes) else 1


def sockets_of(count: int, host: str, port: int) -> list[list[socket.socket]]:
    """For each worker its sockets, bound to the same addresses. Raises ConfigError when the port is taken."""
    first = listen(host, port)
    if sys.platform != "linux":  # elsewhere the last socket of a port gets every connection
        return [first] * count
    # Bound once without sharing, which tells whether somebody else is there; then shared among ourselves alone.
    addresses = [(one.family, one.getsockname()) for one in first]
    for one in first:
        one.close()
    return [[_shared(family, address) for family, address in addresses] for _ in range(count)]


def _shared(family: int, address: tuple[object, ...]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.bind(address)
    return made


def _noted(number: int, frame: object) -> None:
    """The wake-up descriptor carries it."""
