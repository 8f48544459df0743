"""How providers are spoken to in each wire format: requests compared whole, and one taken by a server that checks
the signature itself."""

from __future__ import annotations

import json

import pytest

from tollway import __version__
from tollway.config.settings import ProviderSettings
from tollway.errors import BadRequest, ConfigError
from tollway.model.clocks import DEFAULT_CLOCKS
from tollway.model.secret import Secret
from tollway.providers.catalog import load_catalog
from tollway.providers.provider import Provider
from tollway.providers.request import UpstreamRequest
from tollway.providers.upstream import Upstream
from tollway.simulator.running import start_in_thread
from tollway.simulator.server import AWS_KEYS

CATALOG = load_catalog()
NOW = 1_800_000_000.0
ALWAYS = f"accept-encoding: identity\r\nuser-agent: tollway/{__version__}\r\n"
JSON = "content-type: application/json\r\n"
ARN = "arn:aws:bedrock:us-east-1:1:inference-profile/us.x-v1:0"


def make(kind: str, **settings: object) -> Provider:
    fields: dict[str, object] = {"name": kind, "type": kind, **settings}
    if not {"api_key", "access_key_id", "credentials"} & fields.keys():
        fields["api_key"] = Secret("sk-abc")
    return Provider(CATALOG[kind], ProviderSettings(**fields), wall_clock=lambda: NOW)  # type: ignore[arg-type]


def ask(provider: Provider, language: str, model: str, *, stream: bool = False) -> UpstreamRequest:
    return provider.converse(language, model, b'{"a":1}', stream=stream, clocks=DEFAULT_CLOCKS)


@pytest.mark.parametrize(
    ("kind", "languages"),
    [
        ("openai", ("openai.chat", "openai.responses", "openai.completions")),
        ("litellm_proxy", ("openai.chat", "openai.responses", "openai.completions", "anthropic.messages")),
        ("aiand", ("openai.chat", "openai.responses", "anthropic.messages")),
        ("groq", ("openai.chat", "openai.responses")),
        ("bedrock", ("bedrock.converse", "openai.chat", "openai.responses")),
        ("ollama", ("ollama.chat", "openai.chat", "openai.responses", "openai.completions")),
        ("voyage", ()),
    ],
)
def test_what_is_spoken(kind: str, languages: tuple[str, ...]) -> None:
    assert CATALOG[kind].languages == languages


@pytest.mark.parametrize(
    ("kind", "language"),
    [
        ("anthropic", "anthropic.messages"),
        ("gemini", "gemini.generate"),
        ("cohere", "cohere.chat"),
        ("ollama_cloud", "ollama.chat"),
        ("vertex_ai", "gemini.generate"),
    ],
)
def test_the_own_format_comes_first(kind: str, language: str) -> None:
    assert CATALOG[kind].languages[0] == language


@pytest.mark.parametrize(
    ("kind", "language", "model", "stream", "target", "host", "credential", "accept"),
    [
        (
            "openai", "openai.chat", "gpt-4o", True, "/v1/chat/completions",
            "api.openai.com", "authorization: Bearer sk-abc", "text/event-stream",
        ),
        (
            "openai", "openai.responses", "gpt-4o", False, "/v1/responses",
            "api.openai.com", "authorization: Bearer sk-abc", "application/json",
        ),
        (
            "gemini", "gemini.generate", "gemini-2.5-flash", False,
            "/v1beta/models/gemini-2.5-flash:generateContent",
            "generativelanguage.googleapis.com", "x-goog-api-key: sk-abc", "application/json",
        ),
        (
            "gemini", "gemini.generate", "models/gemini-2.5-flash", True,
            "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
            "generativelanguage.googleapis.com", "x-goog-api-key: sk-abc", "text/event-stream",
        ),
        (
            "gemini", "gemini.generate", "tunedModels/mine-1", False,
            "/v1beta/tunedModels/mine-1:generateContent",
            "generativelanguage.googleapis.com", "x-goog-api-key: sk-abc", "application/json",
        ),
        (
            "cohere", "cohere.chat", "command-a", True, "/v2/chat",
            "api.cohere.ai", "authorization: Bearer sk-abc", "text/event-stream",
        ),
        (
            "ollama", "ollama.chat", "gpt-oss:20b", True, "/api/chat",
            "127.0.0.1:11434", "authorization: Bearer sk-abc", "application/x-ndjson",
        ),
        (
            "bedrock", "bedrock.converse", "anthropic.claude-v2:1", False,
            "/model/anthropic.claude-v2%3A1/converse",
            "bedrock-runtime.us-east-1.amazonaws.com", "authorization: Bearer sk-abc", "application/json",
        ),
        (
            "bedrock", "bedrock.converse", ARN, True,
            "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.x-v1%3A0/converse-stream",
            "bedrock-runtime.us-east-1.amazonaws.com", "authorization: Bearer sk-abc",
            "application/vnd.amazon.eventstream",
        ),
    ],
)  # fmt: skip
def test_requests(
    kind: str, language: str, model: str, stream: bool, target: str, host: str, credential: str, accept: str
) -> None:
    request = ask(make(kind), language, model, stream=stream)
    assert (request.method, request.target, request.body) == (b"POST", target.encode(), b'{"a":1}')
    assert request.headers.decode() == f"host: {host}\r\n{credential}\r\n{ALWAYS}{JSON}accept: {accept}\r\n"
    assert request.streamed is stream
    assert request.origin.authority == host


def test_anthropic_gets_its_version_wherever_it_is_spoken() -> None:
    own = ask(make("anthropic"), "anthropic.messages", "m")
    assert own.target == b"/v1/messages"
    assert own.headers.decode() == (
        f"host: api.anthropic.com\r\nx-api-key: sk-abc\r\n{ALWAYS}anthropic-version: 2023-06-01\r\n{JSON}"
        "accept: application/json\r\n"
    )
    other = ask(make("aiand"), "anthropic.messages", "m")
    assert b"authorization: Bearer sk-abc\r\n" in other.headers
    assert b"anthropic-version: 2023-06-01\r\n" in other.headers
    pinned = make("anthropic", headers={"Anthropic-Version": Secret("2024-01-01")})
    assert ask(pinned, "anthropic.messages", "m").headers.count(b"anthropic-version: 2024-01-01\r\n") == 1


@pytest.mark.parametrize(
    ("kind", "language", "base_url", "target"),
    [
        ("ollama", "ollama.chat", "http://10.0.0.1:11434/v1", b"/api/chat"),
        ("ollama", "ollama.chat", "http://10.0.0.1:11434", b"/api/chat"),
        ("ollama", "openai.chat", "http://10.0.0.1:11434", b"/v1/chat/completions"),
        ("anthropic", "anthropic.messages", "http://10.0.0.1:8080", b"/v1/messages"),
        ("anthropic", "anthropic.messages", "http://10.0.0.1:8080/team/v1", b"/team/v1/messages"),
        ("gemini", "gemini.generate", "http://10.0.0.1:8080", b"/v1beta/models/m:generateContent"),
        ("bedrock", "bedrock.converse", "https://vpce-1.bedrock.example", b"/model/m/converse"),
        ("perplexity", "openai.responses", "http://10.0.0.1", b"/v1/responses"),
    ],
)
def test_base_urls(kind: str, language: str, base_url: str, target: bytes) -> None:
    assert ask(make(kind, base_url=base_url), language, "m").target == target


def test_what_is_not_spoken_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"openai does not speak anthropic\.messages"):
        ask(make("openai"), "anthropic.messages", "m")


@pytest.mark.parametrize("model", ["", ".", "..", "a\nb", "models/..", "x\x00"])
def test_a_name_cannot_lead_elsewhere(model: str) -> None:
    for kind, language in (("gemini", "gemini.generate"), ("bedrock", "bedrock.converse")):
        try:
            target = ask(make(kind), language, model).target
        except BadRequest:
            continue
        assert b"/.." not in target
        assert target.count(b"/") == 3


def test_addresses_are_remembered_within_bounds() -> None:
    provider = make("gemini")
    targets = {ask(provider, "gemini.generate", f"m-{number}").target for number in range(3000)}
    assert len(targets) == 3000
    assert len(provider._ways["gemini.generate"]._targets) <= 1024


def test_some_models_are_spoken_to_in_fewer_formats() -> None:
    bedrock = make("bedrock")
    assert bedrock.languages_for("us.anthropic.claude-sonnet-4-5-v1:0") == ("bedrock.converse",)
    assert bedrock.languages_for("openai.gpt-oss-20b-1:0") == ("bedrock.converse", "openai.chat")
    assert bedrock.languages_for("us.openai.gpt-6-sol") == bedrock.languages
    vertex = make("vertex_ai", project="acme")
    assert vertex.languages_for("gemini-2.5-pro") == ("gemini.generate",)
    assert vertex.languages_for("meta/llama-4-scout") == ("openai.chat",)
    assert vertex.languages_for("claude-sonnet-4-5@20250929") == ("anthropic.messages",)
    assert make("openai").languages_for("x") == make("openai").languages


def test_bodies_we_wrote_are_adapted() -> None:
    """Only those: what a client wrote in the provider's format stays as it is."""
    openai = make("openai")
    assert json.loads(openai.adapt("openai.chat", b'{"model":"m","max_tokens":5}')) == {
        "model": "m",
        "max_completion_tokens": 5,
    }
    assert not openai.has_quirks
    same = b'{"max_tokens":5}'
    assert openai.adapt("openai.responses", same) is same
    assert make("gemini").adapt("gemini.generate", same) is same
    assert json.loads(make("ollama").adapt("openai.chat", b'{"max_completion_tokens":5}')) == {
        "max_tokens": 5
    }


# ------------------------------------------------------------------ regions, signatures, projects


def test_regions() -> None:
    europe = make("bedrock", region="eu-central-1")
    assert europe.origin.host == "bedrock-runtime.eu-central-1.amazonaws.com"
    assert make("openai", region="eu").origin.host == "eu.api.openai.com"
    assert make("vertex_ai", project="p").origin.host == "us-central1-aiplatform.googleapis.com"
    everywhere = make("vertex_ai", project="p", region="global")
    assert everywhere.origin.host == "aiplatform.googleapis.com"
    assert ask(everywhere, "gemini.generate", "gemini-2.5-pro").target == (
        b"/v1/projects/p/locations/global/publishers/google/models/gemini-2.5-pro:generateContent"
    )
    assert ask(everywhere, "openai.chat", "meta/x").target == (
        b"/v1/projects/p/locations/global/endpoints/openapi/chat/completions"
    )


@pytest.mark.parametrize(
    ("kind", "settings", "complaint"),
    [
        ("openai", {"region": "mars"}, r"openai\.region: type openai has no region mars; it has eu"),
        ("groq", {"region": "eu"}, r"groq\.region: type groq has no region eu"),
        ("openai", {"region": "eu", "base_url": "https://x.example"}, "says nothing beside a base_url"),
        ("vertex_ai", {}, r"vertex_ai\.project is missing"),
        ("vertex_ai", {"project": "a/../b"}, r"vertex_ai\.project cannot be part of an address"),
        ("bedrock", {"region": "x/y"}, r"bedrock\.region cannot be part of an address"),
        ("vertex_ai", {"project": "p", "credentials": Secret("{}")}, "not the JSON key file"),
        ("openai", {"access_key_id": Secret("A"), "secret_access_key": Secret("B")}, "takes an api_key"),
        ("bedrock", {"access_key_id": Secret("A")}, "belong together"),
        (
            "bedrock",
            {"api_key": Secret("k"), "access_key_id": Secret("A"), "secret_access_key": Secret("B")},
            "give api_key or access_key_id, not both",
        ),
        ("bedrock", {"api_key": None}, r"\(usually \$\{AWS_BEARER_TOKEN_BEDROCK\}\); or give access_key_id"),
    ],
)
def test_what_does_not_hold_together_is_refused(
    kind: str, settings: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        make(kind, **settings)


def signing(**settings: object) -> Provider:
    pair = {"access_key_id": Secret(AWS_KEYS[0]), "secret_access_key": Secret(AWS_KEYS[1])}
    return make("bedrock", **pair, **settings)


def test_every_kind_of_request_is_signed() -> None:
    provider = signing(session_token=Secret("token-1"), region="eu-west-3")
    signed = b"content-type;host;x-amz-date;x-amz-security-token"
    scope = b"/20270115/eu-west-3/bedrock/aws4_request, SignedHeaders=%b, " % signed
    for request in (
        ask(provider, "bedrock.converse", "m"),
        provider.request("chat.completions", b"{}", clocks=DEFAULT_CLOCKS),
        provider.passthrough(
            b"POST",
            b"/model/m/invoke",
            b"",
            [
                (b"content-type", b"application/json"),
                (b"x-amz-date", b"19990101T000000Z"),
                (b"authorization", b"no"),
            ],
            b"{}",
        ),
    ):
        assert scope in request.headers
        assert request.headers.count(b"authorization: ") == request.headers.count(b"x-amz-date: ") == 1
        assert b"x-amz-date: 20270115T080000Z\r\n" in request.headers
        assert b"x-amz-security-token: token-1\r\n" in request.headers
        assert AWS_KEYS[1].encode() not in request.headers
    error = provider.error(400, {}, b'{"message":"bad token-1 of ' + AWS_KEYS[1].encode() + b'"}')
    assert error.message == "provider bedrock answered 400: bad [redacted] of [redacted]"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_server_accepts_the_signature(upstream: Upstream, stream: bool) -> None:
    with start_in_thread() as simulator:
        provider = Provider(
            CATALOG["bedrock"],
            ProviderSettings(
                name="b",
                type="bedrock",
                base_url=f"http://127.0.0.1:{simulator.port}",
                access_key_id=Secret(AWS_KEYS[0]),
                secret_access_key=Secret(AWS_KEYS[1]),
                session_token=Secret("t/+=="),
            ),
        )
        body = b'{"messages":[{"role":"user","content":[{"text":"hi"}]}]}'
        model = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
        asked = provider.converse("bedrock.converse", model, body, stream=stream, clocks=DEFAULT_CLOCKS)
        answer = await upstream.send(asked)
        text = await answer.body(1 << 20)
        assert answer.status == 200, text
        assert (b"messageStop" in text) if stream else (json.loads(text)["stopReason"] == "end_turn")

        changed = provider.converse("bedrock.converse", model, body, stream=stream, clocks=DEFAULT_CLOCKS)
        forged = UpstreamRequest(
            origin=changed.origin,
            method=changed.method,
            target=changed.target,
            headers=changed.headers,
            body=body.replace(b"hi", b"ho"),
            provider="b",
            clocks=DEFAULT_CLOCKS,
        )
        answer = await upstream.send(forged)
        refused = provider.error(answer.status, answer.headers, await answer.body(1 << 20))
        assert refused.error_code == "upstream_unauthorized"
        assert refused.details["upstream_code"] == "InvalidSignatureException"
