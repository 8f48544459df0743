from __future__ import annotations

import pytest

from tollway.config.settings import ProviderSettings
from tollway.errors import UpstreamError
from tollway.model.secret import Secret
from tollway.providers.catalog import load_catalog
from tollway.providers.provider import Provider

NOW = 1_800_000_000.0
PROVIDER = Provider(
    load_catalog()["openai"],
    ProviderSettings(name="acme", type="openai", api_key=Secret("sk-1")),
    wall_clock=lambda: NOW,
)


def refused(status: int, body: bytes, **headers: str) -> UpstreamError:
    lower = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return PROVIDER.error(status, lower, body)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "1.5"}, 1.5),
        ({"retry_after": " 0 "}, 0.0),
        ({"retry_after": "20s"}, 20.0),
        ({"retry_after": "Fri, 15 Jan 2027 08:00:30 GMT"}, 30.0),
        ({"retry_after": "Fri, 15 Jan 2027 07:00:00 GMT"}, 0.0),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "-5"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "9" * 400}, None),
        ({"retry_after": "9" * 400 + "s"}, None),
        ({"retry_after": "Fri, 15 Jan 99999999999999999999 08:00:30 GMT"}, None),
        ({"retry_after": "Fri, 15 Jan 2027 08:00:30 +99999999999"}, None),
        ({"retry_after": "Fri, 15 Jan 2027 08:00:30"}, 30.0),
        ({"retry_after": "1e9"}, None),
        ({"retry_after_ms": "250", "retry_after": "9"}, 0.25),
        ({"retry_after": "x", "x_ratelimit_reset_requests": "20ms"}, 0.02),
        ({"x_ratelimit_reset_requests": "6m0s"}, 360.0),
        ({"x_ratelimit_reset_tokens": "1h2m3.5s"}, 3723.5),
        ({"x_ratelimit_reset_tokens": "1d"}, 86400.0),
        ({"x_ratelimit_reset_requests": "20ms", "x_ratelimit_reset_tokens": "6m0s"}, 0.02),
        (
            {
                "x_ratelimit_reset_requests": "20ms",
                "x_ratelimit_reset_tokens": "6m0s",
                "x_ratelimit_remaining_tokens": "0",
                "x_ratelimit_remaining_requests": "12",
            },
            360.0,
        ),
        ({"x_ratelimit_reset": "12"}, 12.0),
        ({"x_ratelimit_reset": str(int(NOW) + 40)}, 40.0),
        ({"x_ratelimit_reset": str((int(NOW) + 40) * 1000)}, 40.0),
        ({"x_ratelimit_reset": str(int(NOW) - 40)}, 0.0),
        ({"x_ratelimit_reset_tokens": "later"}, None),
        ({"x_ratelimit_reset_tokens": ""}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    error = refused(429, b"{}", **headers)
    assert error.retry_after == (None if seconds is None else pytest.approx(seconds))
    assert ("retry-after" in error.headers) == (seconds is not None)


def test_retry_after_of_the_body_and_of_other_statuses() -> None:
    body = (
        b'{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED","details":['
        b'{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.07s"}]}}'
    )
    error = refused(429, body)
    assert error.retry_after == pytest.approx(34.07)
    assert error.headers == {"retry-after": "35"}
    assert error.upstream_kind == "RESOURCE_EXHAUSTED"
    assert refused(429, body, retry_after="3").retry_after == 3.0
    assert refused(400, b"{}", x_ratelimit_reset_requests="6m0s").retry_after is None
    assert refused(503, b"{}", x_ratelimit_reset_requests="6m0s").retry_after == 360.0
