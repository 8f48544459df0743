from __future__ import annotations

import asyncio
import socket
import time

import pytest

from raw_provider import always, asking, black_hole, listen
from tollway.errors import UpstreamUnreachable
from tollway.providers.addresses import SIZE, TTL, Addresses
from tollway.providers.request import Origin
from tollway.providers.upstream import ATTEMPT_DELAY, Upstream

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Counting(Addresses):
    """Counts the look-ups that reach the system."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def _ask(self, key: tuple[str, int]) -> list[str]:
        self.asked += 1
        await asyncio.sleep(0.01)
        return await super()._ask(key)


async def test_one_look_up_at_a_time_for_each_name() -> None:
    names = Counting()
    found = await asyncio.gather(*(names.lookup("localhost", 80) for _ in range(50)))
    assert names.asked == 1
    assert all(addresses == found[0] for addresses in found)
    assert "127.0.0.1" in found[0]
    await asyncio.gather(names.lookup("localhost", 81), names.lookup("127.0.0.1", 80))
    assert names.asked == 3


async def test_known_for_a_while() -> None:
    names = Counting()
    await names.lookup("localhost", 80)
    await names.lookup("localhost", 80)
    assert names.asked == 1
    until, addresses = names._known["localhost", 80]
    assert TTL - 2 < until - asyncio.get_running_loop().time() <= TTL
    names._known["localhost", 80] = (until - TTL - 1, addresses)
    await names.lookup("localhost", 80)
    assert names.asked == 2
    names.forget("localhost", 80)
    names.forget("localhost", 80)
    await names.lookup("localhost", 80)
    assert names.asked == 3


async def test_the_cache_is_bounded() -> None:
    names = Addresses()
    for port in range(1, SIZE + 20):
        await names.lookup("127.0.0.1", port)
    assert len(names._known) == SIZE
    assert ("127.0.0.1", 1) not in names._known


async def test_one_who_leaves_does_not_fail_the_others() -> None:
    names = Counting()
    first = asyncio.ensure_future(names.lookup("localhost", 80))
    second = asyncio.ensure_future(names.lookup("localhost", 80))
    await asyncio.sleep(0)
    first.cancel()
    assert "127.0.0.1" in await second
    assert names.asked == 1


async def test_an_unknown_name_fails_for_all_and_is_not_kept() -> None:
    names = Counting()
    found = await asyncio.gather(
        *(names.lookup("nowhere.invalid", 80) for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(error, socket.gaierror) for error in found)
    assert names.asked == 1
    assert not names._asking
    assert not names._known


@pytest.mark.parametrize("host", ["nowhere.invalid", "x" * 64 + ".test", "a..test"])
async def test_names_that_lead_nowhere(upstream: Upstream, host: str) -> None:
    with pytest.raises(UpstreamUnreachable, match="could not be reached") as caught:
        await upstream.send(asking(Origin(scheme="http", host=host, port=80)))
    assert caught.value.http_status == 502
    assert upstream.connections() == 0


# -------------------------------------------------------------------------------------- happy eyeballs


def knows(upstream: Upstream, host: str, port: int, *addresses: str) -> Origin:
    upstream._addresses._known[host, port] = (float("inf"), list(addresses))
    return Origin(scheme="http", host=host, port=port)


async def timed(upstream: Upstream, origin: Origin) -> float:
    begun = time.monotonic()
    assert await (await upstream.send(asking(origin))).body(10) == b"ok"
    return time.monotonic() - begun


async def test_a_dead_first_address_costs_its_head_start(upstream: Upstream) -> None:
    async with listen(always(OK)) as provider:
        with black_hole("127.0.0.2", provider.port):
            origin = knows(upstream, "two.test", provider.port, "127.0.0.2", "127.0.0.1")
            assert ATTEMPT_DELAY - 0.02 < await timed(upstream, origin) < ATTEMPT_DELAY + 0.3


async def test_a_refusing_first_address_costs_nothing(upstream: Upstream) -> None:
    async with listen(always(OK)) as provider:
        origin = knows(upstream, "two.test", provider.port, "127.0.0.3", "127.0.0.1")
        assert await timed(upstream, origin) < ATTEMPT_DELAY


async def test_the_first_address_wins_where_it_answers(upstream: Upstream) -> None:
    async with listen(always(OK), host="127.0.0.1") as provider:
        origin = knows(upstream, "two.test", provider.port, "127.0.0.1", "127.0.0.3")
        assert await timed(upstream, origin) < ATTEMPT_DELAY
        assert len(provider.wires) == 1


async def test_no_address_answers(upstream: Upstream) -> None:
    origin = knows(upstream, "two.test", 9, "127.0.0.3", "127.0.0.2")
    with pytest.raises(UpstreamUnreachable, match="could not be reached: Connection refused"):
        await upstream.send(asking(origin))
    assert not upstream._addresses._known, "addresses none of which answers are looked up anew"


async def test_ipv6(upstream: Upstream) -> None:
    async with listen(always(OK), host="::1") as provider:
        origin = provider.origin()
        assert origin.authority == f"[::1]:{provider.port}"
        await timed(upstream, origin)
        assert b"\r\nhost: [::1]:%d\r\n" % provider.port in provider.requests[0]


async def test_one_family_without_a_listener(upstream: Upstream) -> None:
    async with listen(always(OK), host="127.0.0.1") as provider:
        origin = knows(upstream, "both.test", provider.port, "::1", "127.0.0.1")
        assert await timed(upstream, origin) < ATTEMPT_DELAY
