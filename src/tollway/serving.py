"""Opens the doors: one process that serves, from its sockets to its exit code, and the signals it heeds."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import uvicorn

from tollway.app import Process, read_settings
from tollway.banner import banner
from tollway.config.settings import Settings
from tollway.errors import ConfigError, StoreUnavailable
from tollway.http.doorway import RequestIds
from tollway.http.lane import Lane
from tollway.http.listening import check_certificate, listen
from tollway.http.sockets import Upgraded
from tollway.pipeline.serve import serve
from tollway.providers.catalog import Catalog, load_catalog

log = logging.getLogger("tollway")


async def _serve(settings: Settings, catalog: Catalog, reread: Callable[[], Settings]) -> int:
    check_certificate(settings.server.tls_cert, settings.server.tls_key)
    sockets = listen(settings.server.host, settings.server.port)
    port: int = sockets[0].getsockname()[1]
    process = Process(settings, catalog, reread)
    await process.open()
    server_settings = process.settings.server
    ids = RequestIds()
    lane = Lane(process.services, serve, server_settings, ids)
    config = uvicorn.Config(
        app=process.gateway(ids),
        host=server_settings.host,
        port=server_settings.port,
        http=lane.protocol,  # type: ignore[arg-type]
        ws=Upgraded,
        ws_max_size=server_settings.max_message,
        ws_per_message_deflate=False,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        backlog=2048,
        timeout_keep_alive=int(server_settings.keep_alive),
        timeout_graceful_shutdown=int(server_settings.drain),
        ssl_certfile=server_settings.tls_cert,
        ssl_keyfile=server_settings.tls_key,
    )
    server = _Server(config, lambda: print(banner(process, port), flush=True))
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(_reload(process))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    gc.collect()
    gc.freeze()
    # Seldom enough to cost little, often enough that the cycles of aborted streams do not pile up.
    gc.set_threshold(10_000, 10, 10)
    try:
        await server.serve(sockets)
    finally:
        lane.close()
        await process.close()
    return 0 if server.started else 1


async def _reload(process: Process) -> None:
    try:
        for line in await process.reload():
            log.warning("%s", line)
    except ConfigError as error:
        log.error("the new configuration is refused and the old one stays:\n%s", "\n".join(error.problems))


class _Server(uvicorn.Server):
    """uvicorn's server, saying when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM, gracefully first, at once when asked again. uvicorn would raise the signal
        once more after that, and the process would die before the ledger is closed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            self._ready()


def run(path: str | None, overrides: Mapping[str, object]) -> int:
    """Serve until a signal. Returns the exit code; problems go to standard error."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    logging.getLogger("tollway").setLevel(logging.INFO)
    catalog = load_catalog()

    def reread() -> Settings:
        return read_settings(path, overrides, catalog)

    try:
        settings = reread()
        factory = None
        with suppress(ImportError):
            import uvloop

            factory = uvloop.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(_serve(settings, catalog, reread))
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 1
    except (StoreUnavailable, OSError) as error:
        print(f"tollway cannot start: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
