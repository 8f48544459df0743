from __future__ import annotations

import pytest

from tollway import __version__
from tollway.config.settings import ProviderSettings
from tollway.errors import BadRequest, MethodNotAllowed
from tollway.model.clocks import Clocks
from tollway.model.secret import Secret
from tollway.providers.catalog import load_catalog
from tollway.providers.passthrough import pass_path, pass_query
from tollway.providers.provider import Provider

CATALOG = load_catalog()
AGENT = f"user-agent: tollway/{__version__}\r\n".encode()


def make(kind: str = "openai", **settings: object) -> Provider:
    fields: dict[str, object] = {"name": kind, "type": kind, "api_key": Secret("sk-ours"), **settings}
    return Provider(CATALOG[kind], ProviderSettings(**fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("root", "path", "target"),
    [
        ("/v1", b"/v1/files", b"/v1/files"),
        ("/v1", b"/files", b"/v1/files"),
        ("/v1", b"/v1", b"/v1"),
        ("/v1", b"/v2/files", b"/v2/files"),
        ("/v1", b"/v1beta/files", b"/v1beta/files"),
        ("/v1", b"/v1x/files", b"/v1/v1x/files"),
        ("/v1", b"", b"/v1"),
        ("/v1", b"/", b"/v1/"),
        ("/openai/v1", b"/v1/files", b"/openai/v1/files"),
        ("/openai/v1", b"/files", b"/openai/v1/files"),
        ("/openai/v1", b"/openai/v1/files", b"/openai/v1/files"),
        ("/openai/v1", b"/openai/deployments/d/chat", b"/openai/deployments/d/chat"),
        ("/openai/v1", b"/openais/files", b"/openai/v1/openais/files"),
        ("/api/paas/v4", b"/v4/models", b"/api/paas/v4/models"),
        ("/inference", b"/v1/models", b"/inference/v1/models"),
        ("", b"/v1/models", b"/v1/models"),
        ("", b"", b"/"),
        (
            "/v1beta",
            b"/models/gemini-2.5-pro:generateContent",
            b"/v1beta/models/gemini-2.5-pro:generateContent",
        ),
        ("/v1beta", b"/v1beta/models/g:streamGenerateContent", b"/v1beta/models/g:streamGenerateContent"),
        ("/v1", b"/files/a%20b%C3%A9/content", b"/v1/files/a%20b%C3%A9/content"),
        ("/v1", b"/a..b/.well-known/...", b"/v1/a..b/.well-known/..."),
        ("/v1", b"/models/org@1:x,y;z=1!$&'()*+~", b"/v1/models/org@1:x,y;z=1!$&'()*+~"),
    ],
)
def test_paths(root: str, path: bytes, target: bytes) -> None:
    assert pass_path(root, path) == target


@pytest.mark.parametrize(
    "path",
    [
        b"files",
        b"/../admin",
        b"/..",
        b"/.",
        b"/a/./b",
        b"/a/..;/b",
        b"/a/..;x=1/b",
        b"/%2e%2e/admin",
        b"/%2E./admin",
        b"/%252e%252e/admin",
        b"/%25252e%25252e/admin",
        b"/..%2fadmin",
        b"/a%2Fb",
        b"/a%252fb",
        b"/a%5cb",
        b"/a%255Cb",
        b"/%c0%ae%c0%ae/x",
        b"/%00",
        b"/a%0d%0ax-evil:1",
        b"/a%250d%250a",
        b"/a\r\nx-evil: 1",
        b"/a b",
        b"/a\x00",
        b"/a\x7f",
        b"/a\t",
        b"/a\\..\\b",
        b"/a?b",
        b"/a#b",
        b"/\xc3\xa9",
        b"//evil.example/v1",
        b"/v1//evil.example",
        b"/http://evil.example/",
        b"http://evil.example/",
        b"https:/evil.example",
        b"/%",
        b"/%zz",
        b"/a%2",
        b"/a<b>",
        b'/a"b',
        b"/%2525252525252e",
    ],
)
def test_paths_refused(path: bytes) -> None:
    with pytest.raises(BadRequest):
        make().passthrough(b"GET", path, b"", [], b"")


def test_a_base_url_cannot_be_left() -> None:
    """Whatever a client writes, the request stays below the path an administrator configured."""
    provider = make("openai-compatible", base_url="https://proxy.example/team-a/v1")
    for path in (b"/v1/x", b"/team-a/v9/x", b"/team-b/x", b"/x", b"", b"/team-a", b"/team-ab/x"):
        assert provider.passthrough(b"GET", path, b"", [], b"").target.startswith(b"/team-a")
        assert not provider.passthrough(b"GET", path, b"", [], b"").target.startswith(b"/team-ab")


def test_queries() -> None:
    assert pass_query(b"") == b""
    assert pass_query(b"a=1&b=%20&c") == b"?a=1&b=%20&c"
    assert pass_query(b"key=sk-tw-1&alt=sse") == b"?alt=sse"
    assert pass_query(b"alt=sse&%6bey=sk-tw-1&KEY=x&+key=y") == b"?alt=sse"
    assert pass_query(b"monkey=1&keys=2") == b"?monkey=1&keys=2"
    assert pass_query(b"key=1", b"token=ours") == b"?token=ours"
    assert pass_query(b"token=theirs&a=1", b"token=ours") == b"?a=1&token=ours"
    for query in (b"a=1\r\nx: y", b"a b", b"a#b", b"a\x00", b"\xff", b"a\\b", b"a\n"):
        with pytest.raises(BadRequest):
            pass_query(query)


def test_golden() -> None:
    request = make().passthrough(
        b"POST",
        b"/v1/files",
        b"purpose=batch",
        [
            (b"Host", b"gateway.example"),
            (b"Authorization", b"Bearer sk-tw-client"),
            (b"Content-Type", b"multipart/form-data; boundary=x"),
            (b"Content-Length", b"999"),
            (b"Accept", b"*/*"),
            (b"Accept-Encoding", b"br"),
            (b"User-Agent", b"OpenAI/Python 2.0"),
            (b"X-Stainless-Lang", b"python"),
        ],
        b"--x--",
    )
    assert request.method == b"POST"
    assert request.target == b"/v1/files?purpose=batch"
    assert request.headers == (
        b"host: api.openai.com\r\n"
        b"accept-encoding: identity\r\n"
        b"authorization: Bearer sk-ours\r\n"
        b"content-type: multipart/form-data; boundary=x\r\n"
        b"accept: */*\r\n"
        b"user-agent: OpenAI/Python 2.0\r\n"
        b"x-stainless-lang: python\r\n"
    )
    assert request.body == b"--x--"
    assert request.provider == "openai"


STRIPPED = [
    b"Authorization",
    b"x-api-key",
    b"api-key",
    b"X-Goog-Api-Key",
    b"x-litellm-api-key",
    b"x-portkey-api-key",
    b"X-Portkey-Config",
    b"x-litellm-tags",
    b"x-tollway-request-id",
    b"Cookie",
    b"Proxy-Authorization",
    b"Host",
    b"Content-Length",
    b"Accept-Encoding",
    b"Connection",
    b"Keep-Alive",
    b"Proxy-Connection",
    b"TE",
    b"Trailer",
    b"Transfer-Encoding",
    b"Upgrade",
    b"Expect",
    b"Forwarded",
    b"X-Forwarded-For",
    b"x-forwarded-host",
    b"X-Real-IP",
    b"Via",
    b"Origin",
    b"Referer",
    b"Sec-Fetch-Mode",
]


@pytest.mark.parametrize("kind", ["openai", "anthropic", "gemini", "cohere"])
@pytest.mark.parametrize("name", STRIPPED)
def test_what_is_the_clients_stays_with_us(kind: str, name: bytes) -> None:
    request = make(kind).passthrough(b"GET", b"/x", b"", [(name, b"theirs"), (b"x-kept", b"1")], b"")
    assert b"theirs" not in request.headers
    assert b"x-kept: 1\r\n" in request.headers
    lines = [line.partition(b":")[0] for line in request.headers.split(b"\r\n") if line]
    assert len(lines) == len(set(lines)), "no header twice"
    assert lines.count(b"host") == 1


def test_headers_named_by_connection_stay() -> None:
    headers = [
        (b"Connection", b"close, X-Hop"),
        (b"connection", b"x-hop-2"),
        (b"x-hop", b"1"),
        (b"X-Hop-2", b"1"),
    ]
    request = make().passthrough(b"GET", b"/x", b"", headers, b"")
    assert b"hop" not in request.headers


def test_connection_cannot_remove_what_is_ours() -> None:
    headers = [(b"connection", b"authorization, host, user-agent, anthropic-version")]
    request = make("anthropic").passthrough(b"GET", b"/x", b"", headers, b"")
    assert request.headers == (
        b"host: api.anthropic.com\r\naccept-encoding: identity\r\nx-api-key: sk-ours\r\n"
        + AGENT
        + b"anthropic-version: 2023-06-01\r\n"
    )


def test_native_defaults_give_way_to_the_client() -> None:
    headers = [(b"Anthropic-Version", b"2024-01-01"), (b"anthropic-beta", b"a"), (b"Anthropic-Beta", b"b")]
    request = make("anthropic").passthrough(b"POST", b"/v1/messages", b"", headers, b"{}")
    assert request.target == b"/v1/messages"
    assert request.headers.count(b"anthropic-version") == 1
    assert b"anthropic-version: 2024-01-01\r\n" in request.headers
    assert b"anthropic-beta: a\r\nanthropic-beta: b\r\n" in request.headers
    assert b"authorization" not in request.headers


def test_configured_headers_beat_the_client() -> None:
    provider = make(headers={"OpenAI-Project": Secret("ours")})
    request = provider.passthrough(b"GET", b"/x", b"", [(b"openai-project", b"theirs")], b"")
    assert b"openai-project: ours\r\n" in request.headers
    assert b"theirs" not in request.headers


def test_native_roots() -> None:
    gemini = make("gemini")
    for path in (b"/v1beta/models/g:generateContent", b"/models/g:generateContent"):
        request = gemini.passthrough(b"POST", path, b"key=sk-tw-client&alt=sse", [], b"{}")
        assert request.target == b"/v1beta/models/g:generateContent?alt=sse"
        assert b"x-goog-api-key: sk-ours\r\n" in request.headers
    assert (
        make("deepinfra").passthrough(b"GET", b"/v1/openai/models", b"", [], b"").target
        == b"/v1/openai/models"
    )
    azure = make("azure", base_url="https://x.openai.azure.com")
    query = b"api-version=2024-10-21"
    target = azure.passthrough(b"POST", b"/openai/deployments/d/chat/completions", query, [], b"{}").target
    assert target == b"/openai/deployments/d/chat/completions?api-version=2024-10-21"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x-a", b"1\r\nx-b: 2"),
        (b"x-a", b"1\x00"),
        (b"x-a\r\n", b"1"),
        (b"x a", b"1"),
        (b"", b"1"),
        (b"x-a", b"\n"),
    ],
)
def test_headers_that_would_break_out(name: bytes, value: bytes) -> None:
    with pytest.raises(BadRequest):
        make().passthrough(b"GET", b"/x", b"", [(name, value)], b"")


@pytest.mark.parametrize("method", [b"CONNECT", b"TRACE", b"get", b"GET /x HTTP/1.1\r\nx:", b""])
def test_methods_refused(method: bytes) -> None:
    with pytest.raises(MethodNotAllowed):
        make().passthrough(method, b"/x", b"", [], b"")


def test_clocks() -> None:
    clocks = Clocks(total=9.0)
    assert make(clocks=clocks).passthrough(b"GET", b"/x", b"", [], b"").clocks is clocks
    other = Clocks(total=3.0)
    assert make(clocks=clocks).passthrough(b"GET", b"/x", b"", [], b"", clocks=other).clocks is other
