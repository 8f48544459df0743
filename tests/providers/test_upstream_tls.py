"""TLS towards providers, against a private authority: what is trusted, asked for and resumed."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from private_authority import Authority
from raw_provider import Wire, always, asking, listen, until
from tollway.errors import UpstreamMalformed, UpstreamUnreachable
from tollway.providers.upstream import Upstream

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_private_authority_is_trusted_where_it_is_given(
    upstream: Upstream, authority: Authority, host: str
) -> None:
    async with listen(always(OK), tls=authority.server(), ca_file=authority.file) as provider:
        for _ in range(3):
            answer = await upstream.send(asking(provider.origin(host)))
            assert await answer.body(10) == b"ok"
        assert len(provider.wires) == 1


async def test_ipv6(upstream: Upstream, authority: Authority) -> None:
    async with listen(always(OK), "::1", authority.server(), authority.file) as provider:
        assert await (await upstream.send(asking(provider.origin()))).body(10) == b"ok"


async def test_an_untrusted_certificate_is_refused(upstream: Upstream, authority: Authority) -> None:
    async with listen(always(OK), tls=authority.server()) as provider:
        with pytest.raises(UpstreamUnreachable) as caught:
            await upstream.send(asking(provider.origin("localhost")))
        assert caught.value.message == (
            "the TLS certificate of provider acme is not trusted: unable to get local issuer certificate"
        )
        assert caught.value.http_status == 502
        assert not caught.value.retryable, "the next try would meet the same certificate"
        assert provider.requests == []
        await until(lambda: upstream.connections() == 0)


async def test_a_certificate_for_another_name_is_refused(upstream: Upstream, authority: Authority) -> None:
    async with listen(always(OK), tls=authority.server("elsewhere"), ca_file=authority.file) as provider:
        for host, said in [("localhost", "Hostname mismatch"), ("127.0.0.1", "IP address mismatch")]:
            with pytest.raises(UpstreamUnreachable, match="is not trusted: " + said):
                await upstream.send(asking(provider.origin(host)))
        assert provider.requests == []


async def test_one_authority_given_does_not_count_for_another_origin(
    upstream: Upstream, authority: Authority
) -> None:
    async with listen(always(OK), tls=authority.server()) as provider:
        trusting = provider.origin("localhost", ca_file=authority.file)
        assert await (await upstream.send(asking(trusting))).body(10) == b"ok"
        with pytest.raises(UpstreamUnreachable, match="not trusted"):
            await upstream.send(asking(provider.origin("localhost")))


async def test_the_server_name_is_sent(upstream: Upstream, authority: Authority) -> None:
    asked: list[str | None] = []
    context = authority.server()
    context.sni_callback = lambda tls, name, _: asked.append(name)  # type: ignore[assignment,misc]
    async with listen(always(OK), tls=context, ca_file=authority.file) as provider:
        await (await upstream.send(asking(provider.origin("localhost")))).body(10)
        await (await upstream.send(asking(provider.origin("127.0.0.1")))).body(10)
    assert asked == ["localhost", None], "an address is no server name (RFC 6066 section 3)"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_second_connection_resumes(
    upstream: Upstream, authority: Authority, version: ssl.TLSVersion
) -> None:
    resumed: list[bool] = []
    protocols: list[str | None] = []

    async def serve(wire: Wire) -> None:
        tls = wire.writer.get_extra_info("ssl_object")
        resumed.append(tls.session_reused)
        protocols.append(tls.selected_alpn_protocol())
        await wire.request()
        wire.send(OK)

    context = authority.server()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with listen(serve, tls=context, ca_file=authority.file) as provider:
        for _ in range(4):
            await (await upstream.send(asking(provider.origin("localhost")))).body(10)
            await until(lambda: upstream.connections() == 0)
    assert resumed == [False, True, True, True]
    assert set(protocols) == {"http/1.1"}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_protocol_versions_are_refused(upstream: Upstream, authority: Authority) -> None:
    context = authority.server()
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with listen(always(OK), tls=context, ca_file=authority.file) as provider:
        with pytest.raises(UpstreamUnreachable, match=r"TLS with provider acme failed|could not be reached"):
            await upstream.send(asking(provider.origin("localhost")))


async def test_something_that_does_not_speak_tls(upstream: Upstream, authority: Authority) -> None:
    async def plain(wire: Wire) -> None:
        wire.send(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\nplain HTTP here")
        await wire.gone()

    async def gone(wire: Wire) -> None:
        wire.close()

    for serve, said in [(plain, "TLS with provider acme failed"), (gone, "could not be reached")]:
        async with listen(serve) as provider:
            origin = type(provider.origin())(scheme="https", host="127.0.0.1", port=provider.port)
            with pytest.raises(UpstreamUnreachable, match=said):
                await upstream.send(asking(origin))
            await until(lambda: upstream.connections() == 0)


@pytest.mark.parametrize("content", [None, b"not a certificate"])
async def test_an_authority_file_that_cannot_be_used(
    upstream: Upstream, authority: Authority, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "given.pem"
    if content is not None:
        file.write_bytes(content)
    async with listen(always(OK), tls=authority.server(), ca_file=str(file)) as provider:
        with pytest.raises(UpstreamUnreachable):
            await upstream.send(asking(provider.origin("localhost")))
        assert upstream.connections() == 0


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", b"body"),
    ],
)
async def test_bodies_over_tls(upstream: Upstream, authority: Authority, answer: bytes, body: bytes) -> None:
    async def serve(wire: Wire) -> None:
        await wire.request()
        await wire.trickle(answer, 5)

    async with listen(serve, tls=authority.server(), ca_file=authority.file) as provider:
        assert await (await upstream.send(asking(provider.origin()))).body(100) == body


async def test_cut_off_over_tls(upstream: Upstream, authority: Authority) -> None:
    async def serve(wire: Wire) -> None:
        await wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await wire.writer.drain()
        wire.reset()

    async with listen(serve, tls=authority.server(), ca_file=authority.file) as provider:
        with pytest.raises(UpstreamMalformed, match="in the middle"):
            await (await upstream.send(asking(provider.origin()))).body(1000)


async def test_a_large_body_over_tls_with_pauses(upstream: Upstream, authority: Authority) -> None:
    size = 12_000_000

    async def serve(wire: Wire) -> None:
        await wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        wire.send(bytes(size))
        await wire.gone()

    async with listen(serve, tls=authority.server(), ca_file=authority.file) as provider:
        answer = await upstream.send(asking(provider.origin()))
        read = pauses = 0
        while read < size:
            await until(lambda: answer.phase == "paused" or answer.complete)
            pauses += answer.phase == "paused"
            read += len(await answer.read())
        assert read == size
        assert pauses > 3
        await until(lambda: upstream.active() == 0)
        assert upstream.connections() == 1, "read to its end: the connection can be used again"
