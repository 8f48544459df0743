"""Tokens of service accounts, checked with their public key and against those of Google's own library."""

from __future__ import annotations

import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.oauth2.service_account import Credentials

from tollway.model.secret import Secret
from tollway.providers.credentials.google import EARLY, LIFETIME, SCOPE, ServiceAccount

PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
NOW = 1_800_000_000.0


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


FILE: dict[str, object] = {
    "type": "service_account",
    "project_id": "acme-1",
    "private_key_id": "k1",
    "private_key": pem(PRIVATE),
    "client_email": "bot@acme-1.iam.gserviceaccount.com",
    "token_uri": "https://oauth2.googleapis.com/token",
}


def account(**changed: object) -> ServiceAccount:
    return ServiceAccount.parse(Secret(json.dumps({**FILE, **changed})))


def token(line: bytes) -> str:
    assert line.startswith(b"authorization: Bearer ")
    assert line.endswith(b"\r\n")
    return line.removeprefix(b"authorization: Bearer ").decode().strip()


def test_the_token_says_who_and_for_how_long() -> None:
    found = token(account().lines(b"POST", b"/", b"", b"{}", NOW))
    claims = jwt.decode(
        found, PRIVATE.public_key(), algorithms=["RS256"], options={"verify_exp": False, "verify_iat": False}
    )
    assert claims == {
        "iss": FILE["client_email"],
        "sub": FILE["client_email"],
        "iat": NOW,
        "exp": NOW + LIFETIME,
        "scope": SCOPE,
    }


def test_the_token_is_made_as_googles_library_makes_it() -> None:
    theirs = Credentials.from_service_account_info(FILE, scopes=[SCOPE], always_use_jwt_access=True)
    theirs._create_self_signed_jwt(None)
    theirs.refresh(None)
    ours = token(account().lines(b"POST", b"/", b"", b"", NOW))
    assert jwt.get_unverified_header(theirs.token) == jwt.get_unverified_header(ours)
    unverified = {"verify_signature": False}
    theirs_claims = jwt.decode(theirs.token, options=unverified)
    ours_claims = jwt.decode(ours, options=unverified)
    assert theirs_claims.keys() == ours_claims.keys()
    assert all(theirs_claims[name] == ours_claims[name] for name in ("iss", "sub", "scope"))


def test_a_token_is_kept_until_shortly_before_its_end() -> None:
    one = account()
    first = one.lines(b"POST", b"/a", b"", b"", NOW)
    assert one.lines(b"GET", b"/b", b"x: y\r\n", b"other", NOW + LIFETIME - EARLY - 1) is first
    assert one.lines(b"POST", b"/a", b"", b"", NOW + LIFETIME - EARLY) != first


def test_the_project_is_the_files() -> None:
    assert account().project == "acme-1"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{}", "not the JSON key file"),
        ("[]", "not the JSON key file"),
        ("{", "not the JSON key file"),
        (json.dumps({**FILE, "type": "authorized_user"}), "type must be service_account"),
        (json.dumps({**FILE, "private_key": "very-secret"}), "PEM"),
        (json.dumps({**FILE, "private_key": 7}), "not the JSON key file"),
        (json.dumps({**FILE, "private_key": pem(ec.generate_private_key(ec.SECP256R1()))}), "RSA"),
    ],
)
def test_a_file_that_is_none_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as refused:
        ServiceAccount.parse(Secret(text))
    assert "very-secret" not in str(refused.value)
