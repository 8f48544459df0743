"""A provider's refusal read into an error of ours: its status and words, our judgement of what to do next.

The judgement comes from status and error code alone. Bodies of any shape are read; secrets in them are not
repeated.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Final

import msgspec

from tollway.errors import UpstreamError
from tollway.providers.retry_after import retry_after

MAX_MESSAGE: Final = 2000
MAX_PARSED: Final = 256 * 1024

RETRYABLE: Final = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529))
FALLBACK: Final = frozenset((401, 402, 403, 404, 407, 410, *RETRYABLE))
"""Beside these every 5xx and every redirect leads to another target; other 4xx are about the request
itself."""

SPENT: Final = frozenset(
    ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance")
)
"""Codes that say the account is out of money: trying again cannot help, another provider can."""

UNPROVEN: Final = frozenset(
    ("API_KEY_INVALID", "API_KEY_EXPIRED", "UnrecognizedClientException", "InvalidSignatureException",
     "ExpiredTokenException", "MissingAuthenticationTokenException", "IncompleteSignatureException",
     "MissingAuthenticationToken", "InvalidClientTokenId")
)  # fmt: skip
"""What Google and AWS call a refused credential, with statuses that say something else (400, 403)."""

BUSY: Final = frozenset(
    ("ThrottlingException", "ModelNotReadyException", "ModelErrorException", "ModelTimeoutException")
)
"""Kinds that may pass, whatever the status (AWS answers 424 where a model failed)."""

ELSEWHERE: Final = frozenset(("ServiceQuotaExceededException", *BUSY))
"""Kinds that are about this account or this place, not about the request."""


class Redaction:
    """Takes a provider's credentials out of text it sent back, whole, masked in the middle or shortened."""

    __slots__ = ("_ends", "_secrets")

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = sorted({secret for secret in secrets if len(secret) >= 4}, key=len, reverse=True)
        self._ends = [(secret[:3], secret[-3:]) for secret in self._secrets if len(secret) >= 8]

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[redacted]")
        text = _KEY_SHAPED.sub("[redacted]", text)
        return _MASKED.sub(self._masked, text) if self._ends else text

    def exact(self, text: bytes) -> bytes:
        """Only whole credentials, for bytes that pass on as they are."""
        for secret in self._secrets:
            text = text.replace(secret.encode(), b"[redacted]")
        return text

    def _masked(self, found: re.Match[str]) -> str:
        """A word with a gap of stars or dots in it is ours if it begins or ends like one of our secrets."""
        head, tail = found[1], found[2]
        ours = any(
            (len(head) >= 2 and (head.startswith(first) or first.startswith(head))) or tail.endswith(last)
            for first, last in self._ends
        )
        return "[redacted]" if ours else found[0]


_KEY_SHAPED = re.compile(
    r"(?i:\bbearer\s+[\w.~+/=-]{8,})"
    r"|\b(?:sk|pk|rk|gsk|xai|nvapi|pplx|hf|key|fw|csk|tgp|r8)[-_][\w-]{0,128}(?:[*\u2022\u2026]|\.{3})[*.\u2022\u2026]*[\w-]{0,128}"
    r"|\b(?:sk|gsk|xai|nvapi|pplx|csk)-[\w-]{16,}"
    r"|\bAIza[\w-]{20,}"
)
_MASKED = re.compile(r"([\w-]{0,128})(?:[*\u2022\u2026]|\.{3})[*.\u2022\u2026]*([\w-]{0,128})")


def read_refusal(
    provider: str, status: int, headers: Mapping[bytes, bytes], body: bytes, redact: Redaction, now: float
) -> UpstreamError:
    """``headers`` have lower-case names; ``now`` is Unix time in seconds, for dates in ``retry-after``."""
    words, fields = _read_body(headers.get(b"content-type", b""), body)
    told = headers.get(b"x-amzn-errortype")
    if told:  # AWS: the kind, and perhaps an address behind a colon
        fields["type"] = told.partition(b":")[0].decode("latin-1")
    code, kind, param = (_short(fields.get(name), redact) for name in ("code", "type", "param"))
    words = _tidy(redact(words[: 4 * MAX_MESSAGE]))  # cut first: a megabyte is not searched for keys
    details: dict[str, str] = {}
    reason = str(fields.get("reason"))
    busy, elsewhere = kind in BUSY, kind in ELSEWHERE
    if status in (401, 407) or reason in UNPROVEN or kind in UNPROVEN:
        # The client's own key was fine: neither words nor code may make it look otherwise.
        message = f"provider {provider} refused the gateway's credential"
        if code or kind in UNPROVEN:
            details["upstream_code"] = code or str(kind)
        elsewhere = True
        code, kind = "upstream_unauthorized", "upstream_error"
    elif 300 <= status < 400:
        message = f"provider {provider} answered with a redirect ({status}); its base_url may be wrong"
    else:
        message = f"provider {provider} answered {status}"
        if not words:
            words = _phrase(status)
    if words:
        message = f"{message}: {words}"
    after = retry_after(status, headers, fields, now)
    error = UpstreamError(
        message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…",
        provider=provider,
        upstream_status=status if 400 <= status < 600 and status != 407 else 502,
        upstream_code=code,
        upstream_kind=kind,
        param=param,
        retry_after=after,
        retryable=(status in RETRYABLE or busy) and code not in SPENT and kind not in SPENT,
        fallback=status in FALLBACK or elsewhere or not 400 <= status < 500,
        headers={"retry-after": str(math.ceil(after))} if after is not None else None,
    )
    error.details.update(details)
    return error


def _read_body(content_type: bytes, body: bytes) -> tuple[str, dict[str, object]]:
    """The words of a refusal and the fields beside them (code, type, param, reason, retryDelay)."""
    text = body[:MAX_PARSED].decode("utf-8", "replace").strip()
    if b"html" in content_type.lower() or text[:15].lower().startswith(("<!doctype html", "<html")):
        return _page_title(text), {}
    if text[:1] not in ("{", "["):
        return text, {}
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):  # nested past all reason: shown as text
        return text, {}
    fields: dict[str, object] = {}
    words = _words(value, fields, 0)
    return words if words else text, fields


_WORD_FIELDS: Final = (
    "message",
    "Message",
    "error",
    "detail",
    "details",
    "error_message",
    "msg",
    "errors",
    "title",
    "description",
)


def _words(value: object, fields: dict[str, object], depth: int) -> str:
    """Look for the words where providers put them, outermost first, and note fields on the way (the inner one
    wins)."""
    if isinstance(value, str):
        return value
    if depth > 5:
        return ""
    if isinstance(value, list):
        if depth == 0:
            return _words(value[0], fields, depth + 1) if value else ""
        return "; ".join(filter(None, (_words(item, fields, depth + 1) for item in value[:5])))
    if not isinstance(value, dict):
        return ""
    for name in ("code", "type", "param"):
        given = value.get(name)
        # A number between 100 and 599 repeats the HTTP status and is no code.
        if isinstance(given, str) or (type(given) is int and not 100 <= given < 600):
            fields[name] = given
    if isinstance(value.get("status"), str) and value["status"].isupper():
        fields.setdefault("type", value["status"])
    shape = value.get("__type")  # AWS, where no header says it: a name, perhaps behind its namespace
    if isinstance(shape, str):
        fields["type"] = shape.rpartition("#")[2]
    _note_details(value.get("details"), fields)
    inner = value.get("error")
    if isinstance(inner, dict) and (words := _words(inner, fields, depth + 1)):
        return words
    for name in _WORD_FIELDS:
        if value.get(name) and (words := _words(value[name], fields, depth + 1)):
            place = value.get("loc")
            return f"{'.'.join(map(str, place))}: {words}" if isinstance(place, list) else words
    return ""


def _note_details(details: object, fields: dict[str, object]) -> None:
    """Google's: how long to wait, and what is behind a status."""
    if isinstance(details, list):
        for detail in details:
            if isinstance(detail, dict):
                for name in ("retryDelay", "reason"):
                    if isinstance(detail.get(name), str):
                        fields[name] = detail[name]


_TITLE = re.compile(r"<title[^>]*>([^<]{1,300})", re.IGNORECASE)


def _page_title(text: str) -> str:
    title = _TITLE.search(text)
    return f"an HTML page titled “{html.unescape(title[1]).strip()}”" if title else "an HTML page"


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def _tidy(text: str) -> str:
    return _CONTROL.sub(" ", text).strip()


def _short(value: object, redact: Redaction) -> str | None:
    """A code as text, bounded."""
    if value is None or value == "":
        return None
    return _tidy(redact(str(value)[:1000]))[:200]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
