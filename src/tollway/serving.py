"""Opens the doors: one process that serves, from its sockets to its exit code, and the signals it heeds."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress

import uvicorn

from tollway.administrator import prepare
from tollway.app import Process, read_settings
from tollway.banner import banner
from tollway.config.settings import Settings
from tollway.errors import ConfigError, StoreUnavailable
from tollway.http.doorway import RequestIds
from tollway.http.lane import Lane
from tollway.http.listening import check_certificate, listen
from tollway.http.sockets import Upgraded
from tollway.pipeline.named_objects import owned
from tollway.pipeline.serve import serve
from tollway.providers.catalog import Catalog, load_catalog
from tollway.supervisor import Supervisor
from tollway.worker import Place

log = logging.getLogger("tollway")


async def _serve(
    settings: Settings,
    catalog: Catalog,
    reread: Callable[[], Settings],
    place: Place | None = None,
    new_admin_key: str | None = None,
) -> int:
    if place is None:
        check_certificate(settings.server.tls_cert, settings.server.tls_key)
        sockets = listen(settings.server.host, settings.server.port)
    else:
        sockets = place.sockets
    port: int = sockets[0].getsockname()[1]
    process = Process(settings, catalog, reread, place)
    await process.open()
    process.new_admin_key = process.new_admin_key or new_admin_key
    server_settings = process.settings.server
    ids = RequestIds()
    lane = Lane(process.services, owned(serve), server_settings, ids)
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

    def ready() -> None:
        if place is None:
            print(banner(process, port), flush=True)
        else:
            place.tell("serving", banner(process, port) if place.worker == 0 else "")

    server = _Server(config, ready)
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(_reload(process))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    if place is not None:
        loop.add_reader(place.lifeline, _orphaned, server, place.lifeline)
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


def _orphaned(server: _Server, lifeline: int) -> None:
    """The supervisor has died: nobody would replace this worker nor end it, so it ends as if it had been told to."""
    asyncio.get_running_loop().remove_reader(lifeline)
    log.error("the supervisor has gone; this worker ends")
    server.should_exit = True


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
        if settings.server.workers > 1:
            return _supervise(settings, catalog, reread)
        return _loop(lambda: _serve(settings, catalog, reread))
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 1
    except (StoreUnavailable, OSError) as error:
        print(f"tollway cannot start: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _supervise(settings: Settings, catalog: Catalog, reread: Callable[[], Settings]) -> int:
    """Several workers. What they import is imported here already: they start at once, and share the memory."""
    server = settings.server
    check_certificate(server.tls_cert, server.tls_key)
    new_admin_key = prepare(settings)
    latest = settings

    def reload() -> None:
        nonlocal latest
        with suppress(ConfigError):  # the workers say what is wrong with it, and keep the old one too
            latest = reread()

    def work(place: Place) -> int:
        told = logging.Formatter(f"%(asctime)s %(levelname)s %(name)s worker {place.worker}: %(message)s")
        for handler in logging.getLogger().handlers:
            handler.setFormatter(told)
        # Its predecessors may have read a newer configuration than the supervisor was started with.
        try:
            return _loop(lambda: _serve(latest, catalog, reread, place, new_admin_key))
        except ConfigError as error:
            print("\n".join(error.problems), file=sys.stderr)
        except (StoreUnavailable, OSError) as error:
            print(f"worker {place.worker} cannot start: {error}", file=sys.stderr)
        return 1

    supervisor = Supervisor(server.workers, server.host, server.port, server.drain, work, reload)
    gc.collect()
    gc.freeze()
    return supervisor.run()


def _loop(main: Callable[[], Coroutine[None, None, int]]) -> int:
    factory = None
    with suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())
