"""The Bedrock dialect, after AWS's public API reference: converse, invoke, and their binary event streams."""

from __future__ import annotations

from tollway.simulator.answer import Dialect, Request, Route, nothing
from tollway.simulator.dialects.bedrock.converse import CONVERSE, CONVERSE_STREAM
from tollway.simulator.dialects.bedrock.errors import error_body, error_headers, unknown
from tollway.simulator.dialects.bedrock.invoke import COUNT_TOKENS, INVOKE, INVOKE_STREAM
from tollway.simulator.dialects.bedrock.signature import admit, credential

MODELS = (
    "anthropic.claude-sonnet-4-5-20250929-v1:0",
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "anthropic.claude-haiku-4-5-20251001-v1:0",
    "amazon.nova-pro-v1:0",
    "amazon.titan-embed-text-v2:0",
)


def owns(request: Request) -> bool:
    return request.path.startswith(b"/model/")


BEDROCK = Dialect(
    name="bedrock",
    base="",
    endpoints={},
    look=nothing,
    owns=owns,
    error=error_body,
    headers=b"",
    credential=credential,
    models=MODELS,
    unknown=unknown,
    routes=(
        Route(b"POST", "/model/{model...}/converse", CONVERSE),
        Route(b"POST", "/model/{model...}/converse-stream", CONVERSE_STREAM),
        Route(b"POST", "/model/{model...}/invoke", INVOKE),
        Route(b"POST", "/model/{model...}/invoke-with-response-stream", INVOKE_STREAM),
        Route(b"POST", "/model/{model...}/count-tokens", COUNT_TOKENS),
    ),
    admit=admit,
    error_headers=error_headers,
)
