"""The upstream client runs on both event loops: the one it is served on, and the standard library's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from raw_provider import until
from tollway.providers.upstream import Upstream


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A client that must end with nothing open: no exchange, no socket, no waiter."""
    client = Upstream({})
    yield client
    await client.close()
    await until(lambda: client.connections() == 0)
    assert client.active() == 0
    assert not any(pool._waiters for pool in client._pools.values())
