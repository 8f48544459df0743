"""Through an HTTP proxy: plain requests in absolute form, TLS through a CONNECT tunnel, refusals that say so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from private_authority import Authority
from raw_provider import Listener, Serve, Wire, always, asking, listen, until
from tollway.errors import UpstreamTimeout, UpstreamUnreachable
from tollway.model.clocks import Clocks
from tollway.providers.request import Origin
from tollway.providers.upstream import Upstream

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\nproxy-agent: x\r\n\r\n"


async def tunnel(wire: Wire) -> None:
    """A proxy that does what CONNECT says."""
    host, _, port = (await wire.request()).split()[1].decode().rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    await wire.trickle(ESTABLISHED, 9)

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        except ConnectionError:
            pass
        target.close()

    await asyncio.gather(copy(wire.reader, writer), copy(reader, wire.writer))


@asynccontextmanager
async def secure_provider(authority: Authority, serve: Serve = always(OK)) -> AsyncIterator[Listener]:
    async with listen(serve, tls=authority.server(), ca_file=authority.file) as provider:
        yield provider


def via(proxy: Listener, user: str = "") -> str:
    return f"http://{user}{proxy.host}:{proxy.port}"


# ------------------------------------------------------------------------------------------------- plain


async def test_plain_http_in_absolute_form(upstream: Upstream) -> None:
    async with listen(always(OK)) as proxy:
        origin = Origin(scheme="http", host="api.test", port=8080, proxy=via(proxy, "us%40er:pass@"))
        for _ in range(2):
            assert await (await upstream.send(asking(origin, target=b"/v1/x?y=1"))).body(10) == b"ok"
        assert proxy.requests[0] == proxy.requests[1] == (
            b"POST http://api.test:8080/v1/x?y=1 HTTP/1.1\r\nhost: api.test:8080\r\n"
            b"proxy-authorization: Basic dXNAZXI6cGFzcw==\r\ncontent-length: 2\r\n\r\n{}"
        )  # fmt: skip
        assert len(proxy.wires) == 1


async def test_plain_http_to_an_address_of_version_6(upstream: Upstream) -> None:
    async with listen(always(OK)) as proxy:
        await upstream.send(asking(Origin(scheme="http", host="::1", port=8080, proxy=via(proxy))))
        assert proxy.requests[0].startswith(
            b"POST http://[::1]:8080/v1/chat HTTP/1.1\r\nhost: [::1]:8080\r\n"
        )
        assert b"proxy-authorization" not in proxy.requests[0]


# ------------------------------------------------------------------------------------------------ tunnel


async def test_tunnel(upstream: Upstream, authority: Authority) -> None:
    async with secure_provider(authority) as provider, listen(tunnel) as proxy:
        origin = provider.origin("localhost", proxy=via(proxy, "user:pass@"))
        for _ in range(3):
            assert await (await upstream.send(asking(origin))).body(10) == b"ok"
        authority_form = b"localhost:%d" % provider.port
        assert proxy.requests == [
            b"CONNECT " + authority_form + b" HTTP/1.1\r\nhost: " + authority_form + b"\r\n"
            b"proxy-authorization: Basic dXNlcjpwYXNz\r\n\r\n"
        ]
        assert len(provider.requests) == 3
        assert all(b"proxy-authorization" not in request for request in provider.requests)
        assert upstream.connections() == 1


async def test_a_tunnel_changes_nothing_about_trust(upstream: Upstream, authority: Authority) -> None:
    async with listen(always(OK), tls=authority.server("elsewhere")) as provider, listen(tunnel) as proxy:
        for ca_file, said in [(None, "unable to get local issuer"), (authority.file, "Hostname mismatch")]:
            with pytest.raises(UpstreamUnreachable, match=said):
                await upstream.send(asking(provider.origin("localhost", ca_file=ca_file, proxy=via(proxy))))
        assert provider.requests == []
        await until(lambda: proxy.open_wires() == 0)


async def test_a_provider_that_speaks_before_it_is_asked(upstream: Upstream, authority: Authority) -> None:
    async def eager(wire: Wire) -> None:
        wire.send(OK)
        await wire.request()

    async with secure_provider(authority, eager) as provider, listen(tunnel) as proxy:
        origin = provider.origin("localhost", proxy=via(proxy))
        for _ in range(5):
            # Whether its words or our request came first nobody can say; but they serve one request at most.
            try:
                assert await (await upstream.send(asking(origin))).body(10) == b"ok"
            except UpstreamUnreachable:
                pass
        await asyncio.wait_for(upstream.close(), 1)
        await until(lambda: upstream.connections() == proxy.open_wires() == 0)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\r\n", "status 407"),
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 3\r\n\r\nno!",
            "more than an answer",
        ),
        (b"HTTP/1.0 503 No\r\n\r\n", "status 503"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "did not answer in HTTP"),
        (b"HTTP/1.1 hello\r\n\r\n", "did not answer in HTTP"),
        (b"HTTP/1.1\r\n\r\n", "did not answer in HTTP"),
        (b"x" * 20_000, "too long"),
        (b"HTTP/1.1 200 OK\r\n", "closed the connection"),
        (b"", "closed the connection"),
        (ESTABLISHED + b"\x15\x03\x03", "more than an answer"),
        (ESTABLISHED, "could not be reached"),
    ],
)
async def test_tunnels_that_fail(upstream: Upstream, authority: Authority, answer: bytes, said: str) -> None:
    async def serve(wire: Wire) -> None:
        await wire.request()
        wire.send(answer)

    async with secure_provider(authority) as provider, listen(serve) as proxy:
        with pytest.raises(UpstreamUnreachable, match=said):
            await upstream.send(asking(provider.origin("localhost", proxy=via(proxy))))
        assert upstream.connections() == 0
        assert provider.requests == []
        await until(lambda: proxy.open_wires() == 0)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", ESTABLISHED])
async def test_a_proxy_that_falls_silent(upstream: Upstream, authority: Authority, answer: bytes) -> None:
    """The connect clock bounds the tunnel and the handshake in it, and a cancelled task closes it at once."""

    async def serve(wire: Wire) -> None:
        await wire.request()
        wire.send(answer)
        ended.append(await wire.gone())

    ended: list[float] = []
    async with secure_provider(authority) as provider, listen(serve) as proxy:
        origin = provider.origin("localhost", proxy=via(proxy))
        with pytest.raises(UpstreamTimeout) as caught:
            await upstream.send(asking(origin, clocks=Clocks(connect=0.2)))
        assert caught.value.clock == "connect"
        await until(lambda: len(ended) == 1)
        task = asyncio.ensure_future(upstream.send(asking(origin)))
        await until(lambda: len(proxy.requests) == 2)
        await asyncio.sleep(0.02)
        moment = time.monotonic()
        task.cancel()
        await until(lambda: len(ended) == 2)
        assert ended[1] - moment < 0.05
        await asyncio.wait([task])
        assert upstream.connections() == 0


async def test_a_proxy_that_is_not_there(upstream: Upstream) -> None:
    for scheme in ("http", "https"):
        origin = Origin(
            scheme="https" if scheme == "https" else "http",
            host="api.test",
            port=443,
            proxy="http://127.0.0.1:9",
        )
        with pytest.raises(UpstreamUnreachable, match="Connection refused"):
            await upstream.send(asking(origin))


# ------------------------------------------------------------------------------------------- environment


async def test_the_environment_names_the_proxy(authority: Authority) -> None:
    async with secure_provider(authority) as provider, listen(tunnel) as proxy, listen(always(OK)) as plain:
        upstream = Upstream(
            {"HTTPS_PROXY": via(proxy), "http_proxy": via(plain), "NO_PROXY": "127.0.0.0/8,.direct.test"}
        )
        await (await upstream.send(asking(provider.origin("localhost")))).body(10)
        assert (len(proxy.wires), len(plain.wires)) == (1, 0)
        await (await upstream.send(asking(provider.origin("127.0.0.1")))).body(10)
        assert len(proxy.wires) == 1, "exempt by NO_PROXY"
        await upstream.send(asking(Origin(scheme="http", host="api.test", port=80)))
        assert plain.requests[0].startswith(b"POST http://api.test:80/v1/chat ")
        own = provider.origin("127.0.0.1", proxy=via(proxy))
        await (await upstream.send(asking(own))).body(10)
        assert len(proxy.wires) == 2, "a provider's own proxy is not asked whether it is exempt"
        await upstream.close()
        await until(lambda: upstream.connections() == 0)


async def test_a_proxy_we_do_not_speak_is_refused_without_its_password() -> None:
    upstream = Upstream({"ALL_PROXY": "socks5://user:secret@proxy:1080"})
    with pytest.raises(UpstreamUnreachable, match="its proxy is not valid") as caught:
        await upstream.send(asking(Origin(scheme="http", host="api.test", port=80)))
    assert "secret" not in caught.value.message
    assert not caught.value.retryable
    assert upstream.connections() == 0
