"""Counting a request's tokens without serving it: Anthropic's ``count_tokens`` and Gemini's ``countTokens``.

A provider that speaks the client's dialect and offers the count is asked, for its number is the exact one. For any
other the count is made here and ``x-tollway-token-count`` says how sure it is. Neither costs the key anything.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tollway.errors import UpstreamError
from tollway.pipeline.authenticate import authenticate
from tollway.pipeline.client import Client, ModelRequest
from tollway.pipeline.resolve import Call, resolve, upstream_body
from tollway.pipeline.services import Services
from tollway.pipeline.snapshot import Target
from tollway.wire.body import encode, parse, raw
from tollway.wire.conversation import Conversation

ASKED = {"messages": "messages.count_tokens"}
"""Endpoints of providers that count, by the endpoint of the request that is counted."""

_MAX_ANSWER = 1024 * 1024


async def count_tokens(request: ModelRequest, client: Client, app: Services) -> None:
    """Raises GatewayError."""
    snapshot = app.snapshot
    grant = authenticate(request, snapshot, app.wall_clock())
    if request.endpoint == "generate_content":
        request.body = _generate_request(request.body)
    call = resolve(request, grant, snapshot)
    target = call.route.targets[0]
    endpoint = ASKED.get(request.endpoint, "")
    spoken = target.provider.languages_for(target.deployment.upstream_model)
    if call.format in spoken and target.provider.offers(endpoint):
        try:
            body = await _ask(call, target, endpoint, app)
        except UpstreamError:
            body = b""  # the provider cannot count now: an estimate serves better than a refusal
        if body:
            _answer(client, request, b"provider", body)
            return
    fields = {**call.fields, "model": raw(target.deployment.upstream_model)}
    conversation = _counted(request.endpoint)(encode(fields))
    count = await app.tokens().count_conversation(conversation, target.deployment.upstream_model)
    said = {"totalTokens": count.tokens} if request.dialect == "gemini" else {"input_tokens": count.tokens}
    how = "exact" if count.exact else f"estimated-by-{count.estimated_by}"
    _answer(client, request, how.encode(), msgspec.json.encode(said))


def _counted(endpoint: str) -> Callable[[bytes], Conversation]:
    """The reader of a request to be counted, which may leave out what serving it would need."""
    if endpoint == "messages":
        from tollway.wire.formats.anthropic_messages import count_request

        return count_request
    from tollway.wire.formats.gemini_generate import CODEC

    return CODEC.read_request


async def _ask(call: Call, target: Target, endpoint: str, app: Services) -> bytes:
    answer = await app.upstream.send(
        target.provider.request(endpoint, upstream_body(call, target), clocks=target.deployment.clocks)
    )
    try:
        body = await answer.body(_MAX_ANSWER)
    except BaseException:
        answer.abort()
        raise
    if answer.status != 200:
        raise target.provider.error(answer.status, answer.headers, body)
    return body


def _generate_request(body: bytes) -> bytes:
    """Gemini's count takes contents alone, or a whole request within ``generateContentRequest``."""
    fields = parse(body)
    inner = fields.get("generateContentRequest", fields.get("generate_content_request"))
    if inner is not None:
        fields = parse(bytes(inner))
        fields.pop("model", None)
    fields.setdefault("contents", raw([]))
    return encode(fields)


def _answer(client: Client, request: ModelRequest, how: bytes, body: bytes) -> None:
    client.respond(
        200,
        b"content-type: application/json\r\nx-tollway-request-id: %b\r\nx-tollway-token-count: %b\r\n"
        % (request.id.encode(), how),
        body,
    )
