"""Who may ask: AWS Signature Version 4, computed anew from what arrived, or an API key as a bearer token."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from tollway.simulator.answer import Keys, Refusal, Request

SCHEME = "AWS4-HMAC-SHA256"

SERVICES = ("bedrock",)

SKEW = 300.0
"""Seconds that the two clocks may differ."""

_FIELDS = re.compile(r"(\w+)=([^,\s]+)")


def credential(request: Request) -> str | None:
    """The bearer token, or the access key's id."""
    scheme, _, rest = request.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer" and rest:
        return rest.strip()
    return dict(_FIELDS.findall(rest)).get("Credential", "").partition("/")[0] or None


def admit(request: Request, keys: Keys) -> None:
    scheme, _, rest = request.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer" and rest:
        if keys.required is not None and rest.strip() != keys.required:
            raise _denied(
                "AccessDeniedException", "Authentication failed: Please make sure your API Key is valid."
            )
        return
    if scheme != SCHEME:
        raise _denied("MissingAuthenticationTokenException", "Missing Authentication Token")
    _verify(request, dict(_FIELDS.findall(rest)), keys.aws, time.time())


def _denied(kind: str, message: str) -> Refusal:
    return Refusal(403, message, kind=kind)


def _verify(request: Request, given: dict[str, str], pair: tuple[str, str], now: float) -> None:
    scope = given.get("Credential", "").split("/")
    if len(scope) != 5 or "SignedHeaders" not in given or "Signature" not in given:
        raise _denied(
            "IncompleteSignatureException",
            "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters.",
        )
    key, date, region, service, end = scope
    if key != pair[0]:
        raise _denied("UnrecognizedClientException", "The security token included in the request is invalid.")
    stamp = request.headers.get(b"x-amz-date", b"").decode("latin-1")
    try:
        sent = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise _denied("IncompleteSignatureException", "Date must be in ISO-8601 'basic format'.") from error
    if abs(now - sent) > SKEW:
        raise _denied("InvalidSignatureException", f"Signature expired: {stamp} is not within 5 min. of now.")
    if not stamp.startswith(date) or service not in SERVICES or end != "aws4_request":
        raise _denied(
            "InvalidSignatureException",
            f"Credential should be scoped to a valid date, region and service, not {date}/{region}/{service}/{end}.",
        )
    signed = given["SignedHeaders"].split(";")
    for name in ("host", *(x.decode("latin-1") for x in request.headers if x.startswith(b"x-amz-"))):
        if name not in signed:
            raise _denied("InvalidSignatureException", f"The header '{name}' must be a signed header.")
    to_sign = _string_to_sign(canonical(request, signed), stamp, "/".join(scope[1:]))
    secret = f"AWS4{pair[1]}".encode()
    for part in (date, region, service, end):
        secret = hmac.digest(secret, part.encode(), "sha256")
    expected = hmac.digest(secret, to_sign.encode(), "sha256").hex()
    if not hmac.compare_digest(expected, given["Signature"]):
        raise _denied(
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
            "Access Key and signing method. Consult the service documentation for details.",
        )


def canonical(request: Request, signed: list[str]) -> str:
    """The canonical request. The path is encoded once more than it is on the wire, as all services but S3 do."""
    path = quote(request.path.decode("latin-1"), safe="/-_.~")
    pairs = sorted(
        (quote(unquote(name), safe="-_.~"), quote(unquote(value), safe="-_.~"))
        for name, _, value in (
            part.partition("=") for part in request.query.decode("latin-1").split("&") if part
        )
    )
    lines = [
        f"{name}:{' '.join(request.headers.get(name.encode(), b'').decode('latin-1').split())}\n"
        for name in signed
    ]
    declared = request.headers.get(b"x-amz-content-sha256", b"").decode("latin-1")
    body = declared if declared == "UNSIGNED-PAYLOAD" else hashlib.sha256(request.body).hexdigest()
    query = "&".join(f"{name}={value}" for name, value in pairs)
    return "\n".join((request.method.decode(), path, query, "".join(lines), ";".join(signed), body))


def _string_to_sign(canonical_request: str, stamp: str, scope: str) -> str:
    return "\n".join((SCHEME, stamp, scope, hashlib.sha256(canonical_request.encode()).hexdigest()))
