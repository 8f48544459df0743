"""The Gemini dialect, after Google's public API reference; the same operations also at Vertex AI's paths."""

from __future__ import annotations

from urllib.parse import parse_qs

from tollway.simulator.answer import Dialect, Endpoint, Keys, Refusal, Request, Route
from tollway.simulator.dialects.gemini.contents import COUNT_TOKENS, GENERATE, STREAM
from tollway.simulator.dialects.gemini.embeddings import BATCH_EMBED, EMBED
from tollway.simulator.dialects.gemini.errors import error_body, invalid
from tollway.simulator.dialects.gemini.files import FILES
from tollway.simulator.dialects.gemini.models import MODELS, look, unknown
from tollway.simulator.reading import Plain

OPERATIONS: tuple[tuple[str, Endpoint[Plain]], ...] = (
    ("generateContent", GENERATE),
    ("streamGenerateContent", STREAM),
    ("countTokens", COUNT_TOKENS),
    ("embedContent", EMBED),
    ("batchEmbedContents", BATCH_EMBED),
)

PLACES = (
    "/v1beta/models/{model}",
    "/v1/models/{model}",
    "/v1/projects/{project}/locations/{location}/publishers/{publisher}/models/{model}",
    "/v1beta1/projects/{project}/locations/{location}/publishers/{publisher}/models/{model}",
)


def credential(request: Request) -> str | None:
    """The key of ``x-goog-api-key`` or ``?key=``, or the token of ``Authorization: Bearer``."""
    key = request.headers.get(b"x-goog-api-key", b"").decode("latin-1").strip()
    if not key and request.query:
        key = parse_qs(request.query.decode("latin-1")).get("key", [""])[-1]
    if key:
        return key
    scheme, _, token = request.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token else None


def admit(request: Request, keys: Keys) -> None:
    key = credential(request)
    if key is None and request.path.startswith(b"/upload/") and b"upload_id=" in request.query:
        return  # the address of an upload that was begun is its own credential
    if key is None:
        raise Refusal(
            403,
            "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or "
            "other form of API consumer identity to call this API.",
        )
    if keys.required is not None and key != keys.required:
        raise invalid("API key not valid. Please pass a valid API key.", code="API_KEY_INVALID")


def owns(request: Request) -> bool:
    return request.path.startswith(
        (b"/v1beta", b"/v1/projects/", b"/upload/v1", b"/download/v1", b"/v1/cachedContents")
    ) or (request.path.startswith((b"/v1/models", b"/v1/files")) and b"x-goog-api-key" in request.headers)


GEMINI = Dialect(
    name="gemini",
    base="",
    endpoints={},
    look=look,
    owns=owns,
    error=error_body,
    headers=b"server-timing: gfet4t7; dur=1\r\n",
    credential=credential,
    models=MODELS,
    unknown=unknown,
    routes=(
        *(Route(b"POST", f"{place}:{name}", endpoint) for place in PLACES for name, endpoint in OPERATIONS),
        *FILES,
    ),
    admit=admit,
)
