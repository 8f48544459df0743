"""The Anthropic dialect, after the public API reference: messages, count_tokens, models, files and the error object."""

from __future__ import annotations

import re

from tollway.simulator.answer import Dialect, Keys, Refusal, Request
from tollway.simulator.dialects.anthropic.errors import error_body
from tollway.simulator.dialects.anthropic.files import FILES
from tollway.simulator.dialects.anthropic.messages import COUNT_TOKENS, MESSAGES
from tollway.simulator.dialects.anthropic.models import MODELS, look, unknown
from tollway.simulator.dialects.anthropic.vertex import VERTEX, is_vertex

_DATE = re.compile(r"20\d\d-\d\d-\d\d")
"""Versions are dates; which of them the vendor knows changes with time."""


def credential(request: Request) -> str | None:
    """The key of ``x-api-key``, or the token of ``Authorization: Bearer``."""
    key = request.headers.get(b"x-api-key", b"").decode("latin-1").strip()
    if key:
        return key
    scheme, _, token = request.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token else None


def admit(request: Request, keys: Keys) -> None:
    """A key and a version are demanded whatever the simulator was started with."""
    key = credential(request)
    if key is None:
        raise Refusal(401, "x-api-key header is required")
    if is_vertex(request) and (keys.required is None or key == keys.required):
        return  # Google asks for no header of Anthropic's
    if keys.required is not None and key != keys.required:
        raise Refusal(401, "invalid x-api-key")
    if b"anthropic-version" not in request.headers:
        raise Refusal(400, "anthropic-version: header is required")
    version = request.headers[b"anthropic-version"].decode("latin-1")
    if not _DATE.fullmatch(version):
        raise Refusal(400, f'anthropic-version: "{version}" is not a valid version.')


def owns(request: Request) -> bool:
    """Its paths; and those it shares with OpenAI, where the version header is there."""
    return request.path.startswith(b"/v1/messages") or b"anthropic-version" in request.headers


def request_id(refusal: Refusal) -> bytes:
    return b"request-id: req_%b\r\n" % refusal.serial.encode()


ANTHROPIC = Dialect(
    name="anthropic",
    base="",
    endpoints={b"/v1/messages": MESSAGES, b"/v1/messages/count_tokens": COUNT_TOKENS},
    look=look,
    owns=owns,
    error=error_body,
    headers=b"anthropic-organization-id: 00000000-0000-4000-8000-000000000000\r\n",
    credential=credential,
    models=MODELS,
    unknown=unknown,
    routes=(*FILES, *VERTEX),
    admit=admit,
    ratelimit=(
        b"anthropic-ratelimit-requests-limit: 10000\r\nanthropic-ratelimit-requests-remaining: %(left)d\r\n"
        b"anthropic-ratelimit-requests-reset: 2030-01-01T00:00:00Z\r\n"
        b"anthropic-ratelimit-tokens-limit: 2000000\r\nanthropic-ratelimit-tokens-remaining: 1999000\r\n"
        b"anthropic-ratelimit-tokens-reset: 2030-01-01T00:00:00Z\r\n"
    ),
    error_headers=request_id,
)
