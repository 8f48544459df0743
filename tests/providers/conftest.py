"""The upstream client runs on both event loops: the one it is served on, and the standard library's."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from private_authority import Authority
from raw_provider import until
from tollway.providers.upstream import Upstream


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A client that must end with nothing open: no exchange, no socket, no waiter, and no error that only the loop
    heard of."""
    unheard: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unheard.append(context))
    client = Upstream({})
    yield client
    await client.close()
    await until(lambda: client.connections() == 0)
    assert client.active() == 0
    assert not any(pool._waiters for pool in client._pools.values())
    gc.collect(0)
    assert not unheard
