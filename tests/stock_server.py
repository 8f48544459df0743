"""A program: the gateway's plain ASGI app under a stock uvicorn, as somebody embedding it would serve it. It reads
TOLLWAY_CONFIG and TOLLWAY_PORT like ``tollway serve``, and its argument is the protocol for WebSockets."""

from __future__ import annotations

import asyncio
import logging
import sys

import uvicorn

from tollway.app import Process, read_settings
from tollway.config.settings import Settings
from tollway.http.doorway import RequestIds
from tollway.providers.catalog import load_catalog


async def main() -> None:
    catalog = load_catalog()

    def reread() -> Settings:
        return read_settings(None, {}, catalog)

    process = Process(reread(), catalog, reread)
    await process.open()
    server = process.settings.server
    config = uvicorn.Config(
        process.gateway(RequestIds()),
        host=server.host,
        port=server.port,
        http="httptools",
        ws=sys.argv[1] if len(sys.argv) > 1 else "none",  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=3,
    )
    try:
        await uvicorn.Server(config).serve()
    finally:
        await process.close()


logging.basicConfig(level=logging.INFO, stream=sys.stderr)
asyncio.run(main())
