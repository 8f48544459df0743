"""The Cohere dialect, version 2 of its public API: chat, embed and rerank."""

from __future__ import annotations

from tollway.simulator.answer import Dialect, Keys, Refusal, Request, nothing
from tollway.simulator.dialects.cohere.chat import CHAT
from tollway.simulator.dialects.cohere.errors import error_body, unknown
from tollway.simulator.dialects.cohere.search import EMBED, RERANK

MODELS = (
    "command-a-03-2025",
    "command-a-reasoning-08-2025",
    "command-r7b-12-2024",
    "embed-v4.0",
    "rerank-v3.5",
)


def credential(request: Request) -> str | None:
    scheme, _, key = request.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key else None


def admit(request: Request, keys: Keys) -> None:
    key = credential(request)
    if key is None:
        raise Refusal(401, "no api key supplied")
    if keys.required is not None and key != keys.required:
        raise Refusal(401, "invalid api token")


COHERE = Dialect(
    name="cohere",
    base="",
    endpoints={b"/v2/chat": CHAT, b"/v2/embed": EMBED, b"/v2/rerank": RERANK},
    look=nothing,
    owns=lambda request: request.path.startswith(b"/v2/"),
    error=error_body,
    headers=b"",
    credential=credential,
    models=MODELS,
    unknown=unknown,
    admit=admit,
)
