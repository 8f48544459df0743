"""Second stage: what is asked for, and where can it be served? Reads only the fields that routing and money need."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest, UnpricedModel
from tollway.model.money import Money
from tollway.model.usage import Usage
from tollway.pipeline.authenticate import LONGEST_LABEL
from tollway.pipeline.client import ModelRequest
from tollway.pipeline.grant import Grant
from tollway.pipeline.snapshot import ServedRoute, Snapshot, Target
from tollway.shared.interface import Hold
from tollway.wire import body
from tollway.wire.codecs import codec
from tollway.wire.conversation import Conversation

_CONTENT = {
    "chat.completions": ("messages", b"[", "an array of messages"),
    "completions": ("prompt", b'["', "a string or an array"),
    "embeddings": ("input", b'["', "a string or an array"),
    "messages": ("messages", b"[", "an array of messages"),
    "generate_content": ("contents", b"[{", "an array of contents"),
    "chat": ("messages", b"[", "an array of messages"),
}
"""The field an endpoint cannot do without, how its value begins, and what it is called."""

FORMATS = {
    "chat.completions": "openai.chat",
    "completions": "openai.completions",
    "responses": "openai.responses",
    "messages": "anthropic.messages",
    "generate_content": "gemini.generate",
    "chat": "cohere.chat",
}
"""Endpoints that are conversations, and the wire format their clients speak."""

_LIMITS = {
    "chat.completions": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "messages": ("max_tokens",),
    "chat": ("max_tokens",),
}
_ASKS_USAGE = frozenset(("chat.completions", "completions"))
_ASK_USAGE = Raw(b'{"include_usage":true}')
_TRUE = Raw(b"true")
_encode = msgspec.json.Encoder().encode


class Call:
    """A request understood: its fields, the route that serves it, what the client said of streaming and length."""

    __slots__ = (
        "_conversation",
        "answer_id",
        "asked_usage",
        "choices",
        "endpoint",
        "expected",
        "fields",
        "format",
        "grant",
        "max_tokens",
        "request",
        "route",
        "spent",
        "stream",
        "tokens",
        "tokens_cached",
        "tokens_in",
        "warnings",
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
        self.format = FORMATS.get(request.endpoint)
        self._conversation: Conversation | None = None
        self.fields = fields
        self.grant = grant
        self.route = route
        self.stream = stream
        self.asked_usage = asked_usage
        self.max_tokens = max_tokens
        self.choices = choices
        self.answer_id: str | None = None  # the id of an answer that is kept here; else the provider's
        self.spent = 0  # nano-dollars and tokens of every attempt so far, as their events say
        self.tokens = 0
        self.expected = 0  # tokens of output that are held
        self.tokens_in = 0
        self.tokens_cached = 0
        self.warnings: tuple[str, ...] = ()  # thresholds that it crossed, in words

    def count(self, cost: Money, usage: Usage) -> None:
        """Another attempt took this."""
        self.spent += cost
        prompt = usage.prompt_tokens()
        self.tokens += prompt + usage.output + usage.audio_output
        self.tokens_in += prompt
        self.tokens_cached += usage.cache_read

    def settle(self, hold: Hold) -> None:
        """Replace what was held by what all attempts took. Never fails."""
        hold.settle(
            nano_usd=self.spent,
            tokens=self.tokens,
            input_tokens=self.tokens_in,
            cached_tokens=self.tokens_cached,
        )

    def learn(self, target: Target, usage: Usage) -> None:
        """An answer was metered: holds of requests to come follow it."""
        size = len(self.request.body)
        prompt = usage.prompt_tokens()
        target.habit.learn(usage.output, prompt, size)
        self.grant.habit(self.route.name).learn(usage.output, prompt, size)

    def shorten(self, tokens: int) -> None:
        """Ask for no more than ``tokens`` of output from each choice."""
        self.max_tokens = tokens
        fields = self.fields
        if self.endpoint == "generate_content":
            name = "generationConfig" if "generationConfig" in fields else "generation_config"
            settings = body.mapping(fields, name) or {}
            settings.pop("max_output_tokens", None)
            settings["maxOutputTokens"] = body.raw(tokens)
            fields[name] = Raw(body.encode(settings))
        else:
            names = _LIMITS.get(self.endpoint, ())
            given = [name for name in names if name in fields]
            for name in given or names[-1:]:
                fields[name] = body.raw(tokens)

    def conversation(self) -> Conversation:
        """The request in the hub's words, read once. Raises BadRequest."""
        known = self._conversation
        if known is None:
            assert self.format is not None
            fields = self.fields
            if self.request.model is not None:
                fields = fields.copy()
                fields["model"] = body.raw(self.request.model)
                fields["stream"] = body.raw(self.stream)
            known = self._conversation = codec(self.format).read_request(body.encode(fields))
        return known


def resolve(request: ModelRequest, grant: Grant, snapshot: Snapshot) -> Call:
    """Raises InvalidJson, BadRequest, ModelNotFound, ModelNotAllowed or UnpricedModel."""
    content_type = request.headers.get(b"content-type")
    if content_type is not None and not _is_json(content_type):
        raise body.unsupported(content_type)
    fields = body.parse(request.body)
    model = request.model
    if model is None:
        body.refuse_duplicate(request.body, fields, "model")
        model = body.text(fields, "model")
    if not model:
        raise BadRequest(
            "The request names no model. Set 'model'; GET /v1/models lists the names.", param="model"
        )
    endpoint = request.endpoint
    needed = _CONTENT.get(endpoint)
    if needed is not None:
        name, begins, what = needed
        content = fields.get(name)
        if content is None:
            raise BadRequest(f"The request has no '{name}'. Send {what}.", param=name)
        if bytes(memoryview(content)[:1]) not in begins:
            raise BadRequest(f"'{name}' must be {what}, not {body.kind(content)}.", param=name)
    grant = for_end_user(fields, grant)
    route = grant.route(model, snapshot)
    if route.route.unpriced == "refuse":
        _refuse_unpriced(route)
    stream = asked_usage = False
    max_tokens = None
    choices = 1
    limits = _LIMITS.get(endpoint)
    if limits is not None:
        stream = body.flag(fields, "stream")
        for limit in limits:
            # Of two the larger: which one a provider heeds is not known here.
            given = body.count(fields, limit)
            if given is not None and (max_tokens is None or given > max_tokens):
                max_tokens = given
        if endpoint in _ASKS_USAGE:
            choices = body.count(fields, "n") or 1
            if endpoint == "completions":  # all that are made are paid, not only the best of them
                choices = max(choices, body.count(fields, "best_of") or 1)
            if stream and "stream_options" in fields:
                options = body.mapping(fields, "stream_options")
                asked_usage = options is not None and body.flag(options, "include_usage")
    elif endpoint == "generate_content":
        stream = request.stream is True
        settings = body.mapping(
            fields, "generationConfig" if "generationConfig" in fields else "generation_config"
        )
        if settings is not None:
            max_tokens = body.count(settings, "maxOutputTokens")
            if max_tokens is None:
                max_tokens = body.count(settings, "max_output_tokens")
            choices = body.count(settings, "candidateCount") or body.count(settings, "candidate_count") or 1
    return Call(request, fields, grant, route, stream, asked_usage, max_tokens, choices)


def for_end_user(fields: body.Fields, grant: Grant) -> Grant:
    """The grant for whom the body names, if neither key nor headers did: another one is to be admitted, too."""
    if grant.customer is not None:
        return grant
    customer = _end_user(fields)
    return grant if customer is None else grant.within(customer)


def _end_user(fields: body.Fields) -> str | None:
    """Whom the request is made for, where the body says so: ``user``, or Anthropic's ``metadata.user_id``. What is no
    usable name is the provider's to judge."""
    name: str | None = None
    if "user" in fields:
        name = body.peek_text(fields["user"])
    elif "metadata" in fields:
        metadata = body.peek_mapping(fields["metadata"])
        if metadata is not None and "user_id" in metadata:
            name = body.peek_text(metadata["user_id"])
    if name is None:
        return None
    name = name[:LONGEST_LABEL].strip()
    return name if name and name.isprintable() else None


def upstream_body(call: Call, target: Target) -> bytes:
    """The client's body with the model's name there and, in OpenAI's chat format, usage asked for on streams and the
    provider's quirks. Where the path names the model the body goes as it came."""
    if call.request.model is not None and call.endpoint == "generate_content":
        return body.encode(call.fields)
    fields = call.fields.copy()
    fields["model"] = target.model_raw
    if call.stream and not call.asked_usage and call.endpoint in _ASKS_USAGE:
        _ask_usage(fields, target)
    if target.provider.has_quirks:
        fields = target.provider.rewrite(fields, call.endpoint)
    return body.encode(fields)


def chat_body(written: bytes, call: Call, target: Target) -> bytes:
    """A translated body in OpenAI's chat format, with usage asked for as this provider wants it."""
    fields = body.parse(written)
    fields.pop("stream_options", None)
    if call.stream:
        _ask_usage(fields, target)
    return body.encode(fields)


def _ask_usage(fields: body.Fields, target: Target) -> None:
    if target.provider.stream_usage != "ask":
        return
    options = body.mapping(fields, "stream_options")
    if options is None:
        fields["stream_options"] = _ASK_USAGE
    else:
        options["include_usage"] = _TRUE
        fields["stream_options"] = Raw(_encode(options))


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
