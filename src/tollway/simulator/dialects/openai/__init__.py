"""The OpenAI dialect, after the public API reference: one file an operation or a family of them; this one is the
table of what is answered where."""

from __future__ import annotations

from tollway.simulator.answer import Dialect, Request
from tollway.simulator.dialects.openai import (
    assistants,
    batches,
    files,
    jobs,
    realtime,
    response_store,
    stores,
)
from tollway.simulator.dialects.openai.audio import SPEECH, TRANSCRIPTIONS, TRANSLATIONS
from tollway.simulator.dialects.openai.chat import CHAT
from tollway.simulator.dialects.openai.completions import COMPLETIONS
from tollway.simulator.dialects.openai.embeddings import EMBEDDINGS
from tollway.simulator.dialects.openai.errors import error_body
from tollway.simulator.dialects.openai.images import EDITS, GENERATIONS, VARIATIONS
from tollway.simulator.dialects.openai.models import MODELS, look, unknown
from tollway.simulator.dialects.openai.responses import INPUT_TOKENS, RESPONSES
from tollway.simulator.dialects.openai.small import MODERATIONS, OCR, RERANK, SEARCH


def credential(request: Request) -> str | None:
    """The key of ``Authorization: Bearer``, of ``api-key``, or of a browser's WebSocket; or None."""
    scheme, _, key = request.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer" and key:
        return key.strip()
    return request.headers.get(b"api-key", b"").decode("latin-1") or realtime.key_of(request)


def owns(request: Request) -> bool:
    return request.path.startswith(b"/v1/")


RATELIMIT = (
    b"x-ratelimit-limit-requests: 10000\r\nx-ratelimit-remaining-requests: %(left)d\r\n"
    b"x-ratelimit-reset-requests: 6ms\r\nx-ratelimit-limit-tokens: 2000000\r\n"
    b"x-ratelimit-remaining-tokens: 1999000\r\nx-ratelimit-reset-tokens: 30ms\r\n"
)


FAMILIES = (response_store, files, batches, jobs, stores, assistants, realtime)

OPENAI = Dialect(
    name="openai",
    base="/v1",
    endpoints={
        b"/v1/chat/completions": CHAT,
        b"/v1/completions": COMPLETIONS,
        b"/v1/embeddings": EMBEDDINGS,
        b"/v1/responses": RESPONSES,
        b"/v1/responses/input_tokens": INPUT_TOKENS,
        b"/v1/images/generations": GENERATIONS,
        b"/v1/images/edits": EDITS,
        b"/v1/images/variations": VARIATIONS,
        b"/v1/audio/speech": SPEECH,
        b"/v1/audio/transcriptions": TRANSCRIPTIONS,
        b"/v1/audio/translations": TRANSLATIONS,
        b"/v1/moderations": MODERATIONS,
        b"/v1/rerank": RERANK,
        b"/v1/search": SEARCH,
        b"/v1/ocr": OCR,
    },
    look=look,
    owns=owns,
    error=error_body,
    headers=b"openai-version: 2020-10-01\r\nopenai-processing-ms: 1\r\n",
    credential=credential,
    models=MODELS,
    unknown=unknown,
    routes=tuple(route for family in FAMILIES for route in family.ROUTES),
    ratelimit=RATELIMIT,
)
