from __future__ import annotations

import msgspec
import pytest
from msgspec import Raw

from tollway import __version__
from tollway.config.settings import ProviderSettings
from tollway.errors import BadRequest, ConfigError
from tollway.model.clocks import DEFAULT_CLOCKS, Clocks
from tollway.model.secret import Secret
from tollway.providers.catalog import Auth, load_catalog
from tollway.providers.provider import Origin, Provider

CATALOG = load_catalog()
AGENT = f"tollway/{__version__}".encode()


def make(kind: str = "openai", key: str | None = "sk-abc", **settings: object) -> Provider:
    fields: dict[str, object] = {
        "name": kind,
        "type": kind,
        "api_key": Secret(key) if key else None,
        **settings,
    }
    return Provider(CATALOG[kind], ProviderSettings(**fields))  # type: ignore[arg-type]


def wire(provider: Provider, endpoint: str = "chat.completions", body: bytes = b"{}") -> bytes:
    request = provider.request(endpoint, body, clocks=DEFAULT_CLOCKS)
    return request.method + b" " + request.target + b"\n" + request.headers + b"\n" + request.body


def test_openai() -> None:
    assert wire(make()) == (
        b"POST /v1/chat/completions\n"
        b"host: api.openai.com\r\n"
        b"authorization: Bearer sk-abc\r\n"
        b"accept-encoding: identity\r\n"
        b"user-agent: " + AGENT + b"\r\n"
        b"content-type: application/json\r\n"
        b"accept: application/json\r\n"
        b"\n{}"
    )


def test_models_is_a_get_without_content_type() -> None:
    assert wire(make(), "models", b"") == (
        b"GET /v1/models\n"
        b"host: api.openai.com\r\n"
        b"authorization: Bearer sk-abc\r\n"
        b"accept-encoding: identity\r\n"
        b"user-agent: " + AGENT + b"\r\n"
        b"accept: application/json\r\n"
        b"\n"
    )


def test_header_credential() -> None:
    provider = make("azure", base_url="https://x.openai.azure.com")
    assert wire(provider) == (
        b"POST /openai/v1/chat/completions\n"
        b"host: x.openai.azure.com\r\n"
        b"api-key: sk-abc\r\n"
        b"accept-encoding: identity\r\n"
        b"user-agent: " + AGENT + b"\r\n"
        b"content-type: application/json\r\n"
        b"accept: application/json\r\n"
        b"\n{}"
    )


def test_native_endpoints_have_their_own_credential() -> None:
    provider = make("anthropic", key="sk-ant")
    assert b"authorization: Bearer sk-ant\r\n" in wire(provider)
    assert wire(provider, "messages") == (
        b"POST /v1/messages\n"
        b"host: api.anthropic.com\r\n"
        b"x-api-key: sk-ant\r\n"
        b"accept-encoding: identity\r\n"
        b"user-agent: " + AGENT + b"\r\n"
        b"anthropic-version: 2023-06-01\r\n"
        b"content-type: application/json\r\n"
        b"accept: application/json\r\n"
        b"\n{}"
    )
    assert b"authorization" not in wire(provider, "messages")
    assert wire(make("gemini")).startswith(b"POST /v1beta/openai/chat/completions\n")
    assert wire(make("cohere"), "rerank").startswith(b"POST /v2/rerank\n")


def test_an_endpoint_may_stand_elsewhere() -> None:
    assert wire(make("perplexity")).startswith(b"POST /chat/completions\n")
    assert wire(make("perplexity"), "responses").startswith(b"POST /v1/responses\n")


def test_query_credential() -> None:
    entry = msgspec.structs.replace(CATALOG["groq"], auth=Auth(scheme="query", name="key"))
    provider = Provider(entry, ProviderSettings(name="g", type="groq", api_key=Secret("a&b=c")))
    request = provider.request("chat.completions", b"{}", clocks=DEFAULT_CLOCKS)
    assert request.target == b"/openai/v1/chat/completions?key=a%26b%3Dc"
    assert b"a&b" not in request.headers
    assert "key" not in repr(request)
    assert provider.passthrough(b"GET", b"/models", b"key=mine&x=1", [], b"").target == (
        b"/openai/v1/models?x=1&key=a%26b%3Dc"
    )


def test_local_server_needs_no_key() -> None:
    written = wire(make("vllm", key=None))
    assert written.startswith(b"POST /v1/chat/completions\nhost: 127.0.0.1:8000\r\naccept-encoding")
    assert b"authorization" not in written


@pytest.mark.parametrize(
    ("kind", "base_url", "target"),
    [
        ("azure", "https://x.openai.azure.com/", b"/openai/v1/chat/completions"),
        ("azure", "https://x.openai.azure.com/openai", b"/openai/v1/chat/completions"),
        ("azure", "https://x.openai.azure.com/openai/v1/", b"/openai/v1/chat/completions"),
        ("azure", "https://proxy.example/team-a", b"/team-a/openai/v1/chat/completions"),
        ("anthropic", "https://proxy.example/v1", b"/v1/chat/completions"),
        ("openai-compatible", "http://127.0.0.1:9/api/v1", b"/api/v1/chat/completions"),
        ("openai-compatible", "http://127.0.0.1:9", b"/chat/completions"),
        ("cohere", "https://api.cohere.ai/compatibility/v1", b"/compatibility/v1/chat/completions"),
    ],
)
def test_base_urls(kind: str, base_url: str, target: bytes) -> None:
    provider = make(kind, base_url=base_url)
    assert provider.request("chat.completions", b"{}", clocks=DEFAULT_CLOCKS).target == target


def test_extra_accept_and_clocks() -> None:
    clocks = Clocks(total=5.0)
    request = make().request(
        "chat.completions", b"{}", accept=b"text/event-stream", extra=b"x-a: 1\r\n", clocks=clocks
    )
    assert request.headers.endswith(b"\r\naccept: text/event-stream\r\nx-a: 1\r\n")
    assert request.clocks is clocks
    assert request.provider == "openai"


def test_configured_headers_win() -> None:
    provider = make(headers={"OpenAI-Organization": Secret("org-1"), "User-Agent": Secret("mine/1")})
    written = wire(provider)
    assert b"openai-organization: org-1\r\n" in written
    assert written.count(b"user-agent") == 1
    assert b"user-agent: mine/1\r\n" in written
    own = make(key=None, headers={"Authorization": Secret("Basic eDp5")})
    assert b"authorization: Basic eDp5\r\n" in wire(own)
    both = make(headers={"authorization": Secret("Basic eDp5")})
    assert wire(both).count(b"authorization") == 1


def test_origin_tells_pools_apart() -> None:
    plain = make("vllm", key=None)
    assert plain.origin == Origin(scheme="http", host="127.0.0.1", port=8000)
    assert make("vllm", ca_file="/etc/ca.pem").origin != plain.origin
    proxied = make("vllm", proxy="http://user:secret@proxy:3128").origin
    assert proxied.proxy == "http://user:secret@proxy:3128"
    assert "secret" not in repr(proxied)
    assert hash(make("vllm").origin) == hash(plain.origin)


def test_offers() -> None:
    provider = make("anthropic")
    assert provider.offers("chat.completions")
    assert provider.offers("messages")
    assert not provider.offers("embeddings")
    with pytest.raises(BadRequest, match="anthropic does not serve embeddings"):
        provider.request("embeddings", b"{}", clocks=DEFAULT_CLOCKS)


def test_rewrite() -> None:
    body = msgspec.json.decode(
        b'{"max_completion_tokens":5,"seed":0,"stream_options":{}}', type=dict[str, Raw]
    )
    assert not make().has_quirks
    assert make().rewrite(body) is body
    mistral = make("mistral")
    assert mistral.has_quirks
    assert mistral.stream_usage == "always"
    assert {name: bytes(value) for name, value in mistral.rewrite(body).items()} == {
        "max_tokens": b"5",
        "random_seed": b"0",
    }


def test_a_quirk_may_be_about_one_endpoint() -> None:
    parasail = make("parasail")
    body = msgspec.json.decode(b'{"model":"m"}', type=dict[str, Raw])
    assert parasail.rewrite(body, "chat.completions") is body
    assert bytes(parasail.rewrite(body, "responses")["store"]) == b"false"
    assert parasail.rewrite(body, "unheard.of") is body


def test_secrets_stay_out_of_repr() -> None:
    provider = make(key="sk-very-secret", headers={"x-extra": Secret("hidden-value")})
    request = provider.request("chat.completions", b'{"a":"private"}', clocks=DEFAULT_CLOCKS)
    for shown in (repr(provider), repr(request), str(request), f"{request}", repr([request])):
        assert "secret" not in shown
        assert "hidden" not in shown
        assert "private" not in shown
    assert repr(request) == "UpstreamRequest(POST /v1/chat/completions of openai, 15 bytes)"


@pytest.mark.parametrize("key", ["sk-\r\nx-evil: 1", "sk abc", "sk-abc\n", "sk-\x00", "sk-ü", "\tsk"])
def test_a_key_that_would_break_a_header_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=r"providers\.openai\.api_key") as refused:
        make(key=key)
    assert key not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-a", "1\r\nx-b: 2"),
        ("x-a\r\nx-b", "1"),
        ("", "1"),
        ("x a", "1"),
        ("x:a", "1"),
        ("x-ü", "1"),
        ("x-a", "€"),
    ],
)
def test_a_header_that_would_break_out_is_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=r"providers\.openai\.headers"):
        make(headers={name: Secret(value)})


@pytest.mark.parametrize(
    "name", ["Host", "content-length", "Transfer-Encoding", "connection", "Accept-Encoding"]
)
def test_framing_headers_cannot_be_configured(name: str) -> None:
    with pytest.raises(ConfigError, match="written by the gateway itself"):
        make(headers={name: Secret("x")})


def test_missing_parts_are_named() -> None:
    with pytest.raises(
        ConfigError, match=r"providers\.openai\.api_key is missing \(usually \$\{OPENAI_API_KEY\}\)"
    ):
        make(key=None)
    with pytest.raises(ConfigError, match=r"azure\.base_url is required .* https://my-resource\.openai"):
        make("azure")
    with pytest.raises(ConfigError, match=r"openai\.base_url is not usable: it has to begin with"):
        make(base_url="ftp://x/v1")


def test_a_request_costs_little() -> None:
    """Requests share what was encoded when the provider was built; this guards against encoding them anew."""
    provider = make()
    one = provider.request("chat.completions", b"{}", clocks=DEFAULT_CLOCKS)
    two = provider.request("chat.completions", b"[]", clocks=DEFAULT_CLOCKS)
    assert one.target is two.target
    assert one.origin is two.origin
