"""The OpenAI dialect, after the public API reference: chat, completions, embeddings, models and the error
object."""

from __future__ import annotations

from tollway.simulator.answer import Dialect, Request
from tollway.simulator.dialects.openai.chat import CHAT
from tollway.simulator.dialects.openai.completions import COMPLETIONS
from tollway.simulator.dialects.openai.embeddings import EMBEDDINGS
from tollway.simulator.dialects.openai.errors import error_body
from tollway.simulator.dialects.openai.models import MODELS, look, unknown
from tollway.simulator.dialects.openai.response_store import ROUTES as RESPONSE_ROUTES
from tollway.simulator.dialects.openai.responses import INPUT_TOKENS, RESPONSES


def credential(request: Request) -> str | None:
    """The key of ``Authorization: Bearer``, or None."""
    scheme, _, key = request.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key else None


def owns(request: Request) -> bool:
    return request.path.startswith(b"/v1/")


RATELIMIT = (
    b"x-ratelimit-limit-requests: 10000\r\nx-ratelimit-remaining-requests: %(left)d\r\n"
    b"x-ratelimit-reset-requests: 6ms\r\nx-ratelimit-limit-tokens: 2000000\r\n"
    b"x-ratelimit-remaining-tokens: 1999000\r\nx-ratelimit-reset-tokens: 30ms\r\n"
)


OPENAI = Dialect(
    name="openai",
    base="/v1",
    endpoints={
        b"/v1/chat/completions": CHAT,
        b"/v1/completions": COMPLETIONS,
        b"/v1/embeddings": EMBEDDINGS,
        b"/v1/responses": RESPONSES,
        b"/v1/responses/input_tokens": INPUT_TOKENS,
    },
    look=look,
    owns=owns,
    error=error_body,
    headers=b"openai-version: 2020-10-01\r\nopenai-processing-ms: 1\r\n",
    credential=credential,
    models=MODELS,
    unknown=unknown,
    routes=RESPONSE_ROUTES,
    ratelimit=RATELIMIT,
)
