"""Signatures held against botocore's, byte for byte."""

from __future__ import annotations

import calendar
import time

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tollway.model.secret import Secret
from tollway.providers.credentials.sigv4 import Signer

HOST = "bedrock-runtime.eu-central-1.amazonaws.com"
KEY = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def lines_of(headers: dict[str, str]) -> bytes:
    return b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in headers.items())


def compare(
    method: str,
    target: str,
    body: bytes,
    token: str | None,
    signed: dict[str, str],
    unsigned: dict[str, str] | None = None,
) -> None:
    """botocore signs at its own time, which is then told to ours."""
    asked = AWSRequest(method, f"https://{HOST}{target}", headers=signed, data=body)
    SigV4Auth(Credentials(KEY, SECRET, token), "bedrock", "eu-central-1").add_auth(asked)
    now = calendar.timegm(time.strptime(asked.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ"))
    signer = Signer(
        Secret(KEY),
        Secret(SECRET),
        Secret(token) if token else None,
        region="eu-central-1",
        service="bedrock",
    )
    block = lines_of({"host": HOST, **signed, **(unsigned or {})})
    made = signer.lines(method.encode(), target.encode(), block, body, now + 0.75)
    expected = {"authorization": asked.headers["Authorization"], "x-amz-date": asked.headers["X-Amz-Date"]}
    if token:
        expected["x-amz-security-token"] = token
    assert made == lines_of(expected)


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("token", [None, "IQoJb3JpZ2luX2VjE+/=="])
@pytest.mark.parametrize(
    ("method", "target", "body", "signed"),
    [
        ("POST", "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse", b'{"messages":[]}', JSON),
        ("POST", "/model/amazon.nova-micro-v1:0/converse-stream", b"", JSON),
        (
            "POST",
            "/model/arn%3Aaws%3Abedrock%3Aeu-central-1%3A123456789012%3Ainference-profile%2Feu.x-v1%3A0/converse",
            '{"a":"é€"}'.encode(),
            JSON,
        ),
        ("GET", "/", b"", {}),
        ("GET", "/foundation-models?byProvider=meta&byOutputModality=TEXT&a=&a=b%20c", b"", {}),
        ("PUT", "/a~b/c_d-e.f/(x)/@y", b"x", {"content-type": "text/plain;  charset=utf-8"}),
        (
            "POST",
            "/model/m/invoke",
            b"{}",
            {**JSON, "x-amzn-bedrock-guardrailidentifier": "gr-1", "x-amzn-bedrock-trace": "ENABLED  FULL"},
        ),
    ],
)
def test_the_signature_is_botocores(
    method: str, target: str, body: bytes, signed: dict[str, str], token: str | None
) -> None:
    compare(method, target, body, token, signed)


def test_what_a_proxy_may_change_is_not_signed() -> None:
    changing = {"accept": "a", "accept-encoding": "identity", "user-agent": "me", "traceparent": "00-1"}
    compare("POST", "/model/m/converse", b"{}", None, JSON, changing)


def test_the_key_of_another_day_is_another() -> None:
    signer = Signer(Secret(KEY), Secret(SECRET), None, region="us-east-1", service="bedrock")
    day = 86400.0
    first = signer.lines(b"GET", b"/", b"host: h\r\n", b"", day)
    assert b"/19700102/us-east-1/bedrock/aws4_request" in first
    assert b"/19700103/" in signer.lines(b"GET", b"/", b"host: h\r\n", b"", 2 * day)
    assert signer.lines(b"GET", b"/", b"host: h\r\n", b"", day) == first


def test_the_secret_is_nowhere() -> None:
    signer = Signer(Secret(KEY), Secret(SECRET), None, region="us-east-1", service="bedrock")
    assert SECRET.encode() not in signer.lines(b"GET", b"/", b"host: h\r\n", b"", 0.0)
    assert SECRET not in repr(signer)
