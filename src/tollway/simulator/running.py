"""Ways to run a simulator: as a process of its own until a signal, or in a thread beside other work."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import Callable
from types import TracebackType

from tollway.simulator.knobs import NEUTRAL, Knobs
from tollway.simulator.server import AWS_KEYS, Simulator


def _runner() -> asyncio.Runner:
    try:
        from uvloop import new_event_loop
    except ImportError:  # not built for Windows
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=new_event_loop)


def run(
    knobs: Knobs = NEUTRAL,
    *,
    host: str = "127.0.0.1",
    port: int = 9100,
    require_key: str | None = None,
    bill_entries: int = 200_000,
    record: int = 64,
    seed: int = 0,
    aws_keys: tuple[str, str] = AWS_KEYS,
    stop_after: float | None = None,
    ready: Callable[[Simulator], None],
) -> Simulator:
    """Serve until SIGINT, SIGTERM or ``stop_after`` seconds; ``ready`` is called once it listens. Raises
    OSError."""
    simulator = Simulator(
        knobs,
        require_key=require_key,
        bill_entries=bill_entries,
        record=record,
        seed=seed,
        aws_keys=aws_keys,
    )

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        if stop_after is not None:
            loop.call_later(stop_after, stop.set)
        await simulator.start(host, port)
        # What was imported stays for good: the collector need not walk it again and again.
        gc.collect()
        gc.freeze()
        ready(simulator)
        await stop.wait()
        await simulator.stop()

    with _runner() as runner:
        runner.run(serve())
    return simulator


class RunningSimulator:
    """A simulator in a daemon thread with a loop of its own. Also a context manager, which stops it at the
    end."""

    def __init__(self, simulator: Simulator, host: str, port: int) -> None:
        self.simulator = simulator
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: OSError | None = None
        self._thread = threading.Thread(
            target=self._run, args=(host, port), name="tollway-simulator", daemon=True
        )
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    @property
    def url(self) -> str:
        return self.simulator.url

    @property
    def port(self) -> int:
        return self.simulator.port

    def stop(self) -> None:
        """Close the socket and every connection, and wait for the thread. Once is enough, twice does no
        harm."""
        loop, stopped = self._loop, self._stopped
        if loop is not None and stopped is not None and self._thread.is_alive():
            loop.call_soon_threadsafe(stopped.set)
        self._thread.join()

    def __enter__(self) -> RunningSimulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, host: str, port: int) -> None:
        with _runner() as runner:
            try:
                runner.run(self._serve(host, port))
            except OSError as error:
                self._failure = error
            finally:
                self._ready.set()

    async def _serve(self, host: str, port: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        await self.simulator.start(host, port)
        self._ready.set()
        await self._stopped.wait()
        await self.simulator.stop()


def start_in_thread(
    knobs: Knobs = NEUTRAL,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    require_key: str | None = None,
    bill_entries: int = 10_000,
    aws_keys: tuple[str, str] = AWS_KEYS,
) -> RunningSimulator:
    """A simulator on loopback beside whatever else the process does. Raises OSError where it cannot
    listen."""
    simulator = Simulator(knobs, require_key=require_key, bill_entries=bill_entries, aws_keys=aws_keys)
    return RunningSimulator(simulator, host, port)
