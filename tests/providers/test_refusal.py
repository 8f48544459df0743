from __future__ import annotations

import time
from http import HTTPStatus

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollway.config.settings import ProviderSettings
from tollway.errors import UpstreamError
from tollway.model.secret import Secret
from tollway.providers.catalog import load_catalog
from tollway.providers.provider import Provider
from tollway.providers.refusal import MAX_MESSAGE

CATALOG = load_catalog()
NOW = 1_800_000_000.0
KEY = "sk-proj-Q7vN2mXe81-LkPq9Rt"


def refuse(status: int, body: bytes = b"", **headers: str) -> UpstreamError:
    configured = ProviderSettings(
        name="acme", type="openai", api_key=Secret(KEY), headers={"x-team": Secret("team-token-5521")}
    )
    provider = Provider(CATALOG["openai"], configured, wall_clock=lambda: NOW)
    lower = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return provider.error(status, lower, body)


BODIES: list[tuple[bytes, str, str | None, str | None, str | None]] = [
    # body, words, code, kind, param
    (
        b'{"error":{"message":"Bad model","type":"invalid_request_error","param":"m","code":"bad_model"}}',
        "Bad model",
        "bad_model",
        "invalid_request_error",
        "m",
    ),
    (b'{"error":{"message":"No","type":null,"code":null}}', "No", None, None, None),
    (b'{"error":"just text"}', "just text", None, None, None),
    (b'{"message":"plain","code":"1000"}', "plain", "1000", None, None),
    (b'{"detail":"Not authenticated"}', "Not authenticated", None, None, None),
    (
        b'{"detail":[{"loc":["body","n"],"msg":"big","type":"less_than"},{"loc":["body","m"],"msg":"missing"}]}',
        "body.n: big; body.m: missing",
        None,
        "less_than",
        None,
    ),
    (
        b'{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","x"],"msg":"Extra"}]},'
        b'"type":"invalid_request_error"}',
        "body.x: Extra",
        None,
        "extra_forbidden",
        None,
    ),
    (
        b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
        "Overloaded",
        None,
        "overloaded_error",
        None,
    ),
    (
        b'[{"error":{"code":400,"message":"API key not valid","status":"INVALID_ARGUMENT"}}]',
        "API key not valid",
        None,
        "INVALID_ARGUMENT",
        None,
    ),
    (b'{"error":{"code":1211,"message":"no such model"}}', "no such model", "1211", None, None),
    (b'{"errors":[{"message":"a"},{"message":"b"}]}', "a; b", None, None, None),
    (b'{"error_message":"m"}', "m", None, None, None),
    (b'{"error":{"error":{"message":"deep"}}}', "deep", None, None, None),
    (b'{"weird":true}', '{"weird":true}', None, None, None),
    (b'{"broken', '{"broken', None, None, None),
    (b"upstream connect error", "upstream connect error", None, None, None),
    (b"[]", "[]", None, None, None),
    (b"", HTTPStatus(422).phrase, None, None, None),
    (b"\xff\xfe", "\ufffd\ufffd", None, None, None),
    (b"line one\nline\r\ttwo\x00\x1b[31m", "line one line two [31m", None, None, None),
    (
        b"<!DOCTYPE html><html><head><title>Bad &amp; gateway</title></head>",
        "an HTML page titled “Bad & gateway”",
        None,
        None,
        None,
    ),
    (b"<html><body>no title</body></html>", "an HTML page", None, None, None),
]


@pytest.mark.parametrize(("body", "words", "code", "kind", "param"), BODIES)
def test_bodies(body: bytes, words: str, code: str | None, kind: str | None, param: str | None) -> None:
    error = refuse(422, body)
    assert error.message == f"provider acme answered 422: {words}"
    assert (error.upstream_code, error.upstream_kind, error.param) == (code, kind, param)
    assert error.provider == "acme"
    assert error.http_status == 422


def test_html_is_told_by_its_content_type_too() -> None:
    error = refuse(502, b"<head><title>502</title>", content_type="text/HTML; charset=utf-8")
    assert error.message == "provider acme answered 502: an HTML page titled “502”"


@pytest.mark.parametrize(
    ("status", "seen", "retryable", "fallback"),
    [
        (301, 502, False, True),
        (307, 502, False, True),
        (400, 400, False, False),
        (401, 401, False, True),
        (402, 402, False, True),
        (403, 403, False, True),
        (404, 404, False, True),
        (405, 405, False, False),
        (407, 502, False, True),
        (408, 408, True, True),
        (409, 409, True, True),
        (410, 410, False, True),
        (413, 413, False, False),
        (422, 422, False, False),
        (425, 425, True, True),
        (429, 429, True, True),
        (451, 451, False, False),
        (500, 500, True, True),
        (501, 501, False, True),
        (502, 502, True, True),
        (503, 503, True, True),
        (504, 504, True, True),
        (505, 505, False, True),
        (520, 520, True, True),
        (529, 529, True, True),
        (600, 502, False, True),
    ],
)
def test_reactions(status: int, seen: int, retryable: bool, fallback: bool) -> None:
    error = refuse(status, b'{"error":{"message":"m"}}')
    assert (error.http_status, error.retryable, error.fallback) == (seen, retryable, fallback)


def test_an_empty_account_is_not_tried_again() -> None:
    error = refuse(429, b'{"error":{"message":"You exceeded your quota","code":"insufficient_quota"}}')
    assert (error.retryable, error.fallback) == (False, True)
    kind = refuse(429, b'{"error":{"message":"m","type":"insufficient_quota"}}')
    assert (kind.retryable, kind.fallback) == (False, True)


def test_our_refused_credential_does_not_look_like_the_clients() -> None:
    body = b'{"error":{"message":"Incorrect API key","type":"invalid_request","code":"invalid_api_key"}}'
    error = refuse(401, body)
    assert error.http_status == 401
    assert error.message == "provider acme refused the gateway's credential: Incorrect API key"
    assert error.error_code == "upstream_unauthorized"
    assert error.details == {"provider": "acme", "upstream_code": "invalid_api_key"}
    assert refuse(401).message == "provider acme refused the gateway's credential"


@pytest.mark.parametrize(
    "echo",
    [
        KEY,
        f"Bearer {KEY}",
        KEY[:7] + "*" * 12 + KEY[-4:],
        KEY[:6] + "…" + KEY[-4:],
        KEY[:8] + "..." + KEY[-3:],
        "sk-" + "•" * 8,
        "***" + KEY[-4:],
        "..." + KEY[-4:],
        f'key="{KEY}"',
        "team-token-5521",
        "tea****",
        "sk-abcdefghijklmnop1234",
        "AIzaSyA1234567890abcdefghijk",
        "Bearer eyJhbGciOiJIUzI1NiJ9.e30.x",
    ],
)
@pytest.mark.parametrize("status", [400, 401, 500])
def test_credentials_are_not_repeated(echo: str, status: int) -> None:
    words = f"Incorrect API key provided: {echo}. See the dashboard."
    bodies = (
        words.encode(),
        msgspec.json.encode({"error": {"message": words, "code": echo, "type": f"t {echo}", "param": echo}}),
    )
    for body in bodies:
        error = refuse(status, body)
        shown = f"{error.message} {error.upstream_code} {error.upstream_kind} {error.param} {error.details}"
        assert "[redacted]" in shown
        for part in (KEY[-4:], KEY[3:9], "5521", "abcdefghij", "eyJhb", "tea*"):
            assert part not in shown
        assert "See the dashboard" in error.message


@pytest.mark.parametrize(
    "words",
    [
        "Please wait... then try again.",
        "max_tokens * 2 is too large, use sk- prefixed keys",
        "The model `gpt-5-mini` does not exist",
        "See https://acme.example/docs/errors#key-formats for more…",
        "**Important**: limit reached",
    ],
)
def test_ordinary_words_stay(words: str) -> None:
    assert refuse(400, msgspec.json.encode({"error": {"message": words}})).message.endswith(words)


def test_messages_are_bounded() -> None:
    long = refuse(400, msgspec.json.encode({"error": {"message": "x" * 100_000, "code": "c" * 10_000}}))
    assert len(long.message) == MAX_MESSAGE
    assert long.message.endswith("…")
    assert long.upstream_code is not None
    assert len(long.upstream_code) == 200
    assert len(refuse(500, b"y" * 1_000_000).message) == MAX_MESSAGE


@pytest.mark.parametrize(
    "filling", ["a", "*", ".", "sk-", "a*", "-", "<title", '{"error":', "[", "\\u2022", "•"]
)
def test_hostile_bodies_cost_little(filling: str) -> None:
    body = (filling * 300_000)[:300_000].encode()
    start = time.process_time()
    refuse(500, body)
    refuse(500, msgspec.json.encode({"error": {"message": body.decode(errors="replace")}}))
    assert time.process_time() - start < 0.5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "detail", "errors", "code", "type", "status", "loc", "msg", "details"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(JSON.map(msgspec.json.encode) | st.binary(max_size=60), st.integers(300, 599), st.text(max_size=20))
def test_whatever_is_answered_becomes_an_error(body: bytes, status: int, header: str) -> None:
    error = refuse(status, body, retry_after=header, x_ratelimit_reset=header)
    assert error.provider == "acme"
    assert 400 <= error.http_status < 600
    assert len(error.message) <= MAX_MESSAGE
    assert error.retry_after is None or error.retry_after >= 0
    assert KEY not in error.message


DIALECTS = [
    # status, headers, body, message, kind, retryable, fallback
    (
        529,
        {},
        b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}',
        "provider acme answered 529: Overloaded",
        "overloaded_error",
        True,
        True,
    ),
    (
        400,
        {},
        b'{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: Field required"}}',
        "provider acme answered 400: max_tokens: Field required",
        "invalid_request_error",
        False,
        False,
    ),
    (
        503,
        {},
        b'{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}',
        "provider acme answered 503: The model is overloaded.",
        "UNAVAILABLE",
        True,
        True,
    ),
    (
        400,
        {},
        b'{"error":{"code":400,"message":"Bad","status":"INVALID_ARGUMENT","details":[{"reason":"OTHER"}]}}',
        "provider acme answered 400: Bad",
        "INVALID_ARGUMENT",
        False,
        False,
    ),
    (
        400,
        {"x_amzn_errortype": "ValidationException:http://internal.amazon.com/coral/com.amazon.bedrock/"},
        b'{"message":"The provided model identifier is invalid."}',
        "provider acme answered 400: The provided model identifier is invalid.",
        "ValidationException",
        False,
        False,
    ),
    (
        429,
        {"x_amzn_errortype": "ThrottlingException"},
        b'{"message":"Too many requests, please wait before trying again."}',
        "provider acme answered 429: Too many requests, please wait before trying again.",
        "ThrottlingException",
        True,
        True,
    ),
    (
        424,
        {"x_amzn_errortype": "ModelErrorException"},
        b'{"message":"The model failed.","originalStatusCode":500}',
        "provider acme answered 424: The model failed.",
        "ModelErrorException",
        True,
        True,
    ),
    (
        400,
        {"x_amzn_errortype": "ServiceQuotaExceededException"},
        b'{"message":"Your quota is spent."}',
        "provider acme answered 400: Your quota is spent.",
        "ServiceQuotaExceededException",
        False,
        True,
    ),
    (
        403,
        {"x_amzn_errortype": "AccessDeniedException"},
        b'{"Message":"User is not authorized."}',
        "provider acme answered 403: User is not authorized.",
        "AccessDeniedException",
        False,
        True,
    ),
    (
        400,
        {},
        b'{"__type":"com.amazon.coral.validate#ValidationException","message":"Odd"}',
        "provider acme answered 400: Odd",
        "ValidationException",
        False,
        False,
    ),
    (
        404,
        {},
        b'{"id":"1","message":"model not found"}',
        "provider acme answered 404: model not found",
        None,
        False,
        True,
    ),
    (
        404,
        {},
        b'{"error":"model \'x\' not found"}',
        "provider acme answered 404: model 'x' not found",
        None,
        False,
        True,
    ),
]


@pytest.mark.parametrize(("status", "headers", "body", "message", "kind", "retryable", "fallback"), DIALECTS)
def test_every_dialect_is_read(
    status: int,
    headers: dict[str, str],
    body: bytes,
    message: str,
    kind: str | None,
    retryable: bool,
    fallback: bool,
) -> None:
    error = refuse(status, body, content_type="application/json", **headers)
    assert error.message == message
    assert (error.upstream_kind, error.retryable, error.fallback) == (kind, retryable, fallback)
    assert error.http_status == status


@pytest.mark.parametrize(
    ("status", "headers", "body", "told"),
    [
        (
            400,
            {},
            b'{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT",'
            b'"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}',
            None,
        ),
        (
            403,
            {"x_amzn_errortype": "UnrecognizedClientException"},
            b'{"message":"The security token included in the request is invalid."}',
            "UnrecognizedClientException",
        ),
        (403, {}, b'{"__type":"x#InvalidSignatureException","message":"m"}', "InvalidSignatureException"),
    ],
)
def test_a_refused_credential_is_known_behind_other_statuses(
    status: int, headers: dict[str, str], body: bytes, told: str | None
) -> None:
    error = refuse(status, body, **headers)
    assert error.message.startswith("provider acme refused the gateway's credential: ")
    assert error.error_code == "upstream_unauthorized"
    assert error.upstream_kind == "upstream_error"
    assert error.details.get("upstream_code") == told
    assert error.fallback
    assert not error.retryable
