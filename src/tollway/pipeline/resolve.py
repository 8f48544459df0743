"""Second stage: what is asked for, and where can it be served? Reads only the fields that routing and money need."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest, UnpricedModel
from tollway.pipeline.client import ModelRequest
from tollway.pipeline.snapshot import Grant, ServedRoute, Snapshot, Target
from tollway.wire import body

_CONTENT = {
    "chat.completions": ("messages", b"[", "an array of messages"),
    "completions": ("prompt", b'["', "a string or an array"),
    "embeddings": ("input", b'["', "a string or an array"),
}
_STREAMS = frozenset(("chat.completions", "completions"))
_ASK_USAGE = Raw(b'{"include_usage":true}')
_TRUE = Raw(b"true")
_encode = msgspec.json.Encoder().encode


class Call:
    """A request understood: its fields, the route that serves it, what the client said of streaming and length."""

    __slots__ = (
        "asked_usage",
        "choices",
        "endpoint",
        "fields",
        "grant",
        "max_tokens",
        "request",
        "route",
        "spent",
        "stream",
        "tokens",
    )

    def __init__(
        self,
        request: ModelRequest,
        fields: body.Fields,
        grant: Grant,
        route: ServedRoute,
        stream: bool,
        asked_usage: bool,
        max_tokens: int | None,
        choices: int,
    ) -> None:
        self.request = request
        self.endpoint = request.endpoint
        self.fields = fields
        self.grant = grant
        self.route = route
        self.stream = stream
        self.asked_usage = asked_usage
        self.max_tokens = max_tokens
        self.choices = choices
        self.spent = 0  # nano-dollars and tokens of every attempt so far, as their events say
        self.tokens = 0


def resolve(request: ModelRequest, grant: Grant, snapshot: Snapshot) -> Call:
    """Raises InvalidJson, BadRequest, ModelNotFound, ModelNotAllowed or UnpricedModel."""
    content_type = request.headers.get(b"content-type")
    if content_type is not None and not _is_json(content_type):
        raise body.unsupported(content_type)
    fields = body.parse(request.body)
    body.refuse_duplicate(request.body, fields, "model")
    model = body.text(fields, "model")
    if not model:
        raise BadRequest(
            "The request names no model. Set 'model'; GET /v1/models lists the names.", param="model"
        )
    endpoint = request.endpoint
    name, begins, what = _CONTENT[endpoint]
    content = fields.get(name)
    if content is None:
        raise BadRequest(f"The request has no '{name}'. Send {what}.", param=name)
    if bytes(memoryview(content)[:1]) not in begins:
        raise BadRequest(f"'{name}' must be {what}, not {body.kind(content)}.", param=name)
    route = grant.route(model, snapshot)
    if route.route.unpriced == "refuse":
        _refuse_unpriced(route)
    stream = asked_usage = False
    max_tokens = None
    choices = 1
    if endpoint in _STREAMS:
        stream = body.flag(fields, "stream")
        max_tokens = body.count(fields, "max_completion_tokens")
        if max_tokens is None:
            max_tokens = body.count(fields, "max_tokens")
        choices = body.count(fields, "n") or 1
        if stream and "stream_options" in fields:
            options = body.mapping(fields, "stream_options")
            asked_usage = options is not None and body.flag(options, "include_usage")
    return Call(request, fields, grant, route, stream, asked_usage, max_tokens, choices)


def upstream_body(call: Call, target: Target) -> bytes:
    """The client's body with the model's name there, usage asked for on streams, and the provider's quirks."""
    fields = call.fields.copy()
    fields["model"] = target.model_raw
    provider = target.provider
    if call.stream and not call.asked_usage and provider.stream_usage == "ask":
        options = body.mapping(fields, "stream_options")
        if options is None:
            fields["stream_options"] = _ASK_USAGE
        else:
            options["include_usage"] = _TRUE
            fields["stream_options"] = Raw(_encode(options))
    if provider.has_quirks:
        fields = provider.rewrite(fields, call.endpoint)
    return body.encode(fields)


def _is_json(content_type: bytes) -> bool:
    return content_type == b"application/json" or b"json" in content_type.lower()


def _refuse_unpriced(route: ServedRoute) -> None:
    for target in route.targets:
        if target.deployment.price is None:
            raise UnpricedModel(
                f"Model {route.name!r} has no known price and unpriced requests are refused here. "
                "Give it a price in the configuration (models: … price: {input: …, output: …}).",
                param="model",
            )
