"""Requests of the Completions format, to and from the hub.

Several prompts in one request are several requests, which no other format has: each becomes a user turn, and all but
the first carry an opaque ``separate_prompt`` mark, so that a writer of another format names the loss. Prompts given
as tokens are opaque too, and so is a ``suffix`` (the text to write towards). A conversation of turns is written as one
text: roles become words before each turn where there is more than a question, as a plain model has no other way.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.wire import body as bodies
from tollway.wire.codec import Profile
from tollway.wire.conversation import (
    Block,
    Conversation,
    Document,
    Extra,
    Message,
    Opaque,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Written,
)
from tollway.wire.decoding import decode, given
from tollway.wire.formats.openai_completions.shapes import FAMILY, KNOWN, Request
from tollway.wire.turns import Losses, as_text

_request_decoder = msgspec.json.Decoder(Request)
_decode_prompt = msgspec.json.Decoder(str | list[str | int | list[int]]).decode
_encode = msgspec.json.Encoder().encode

MAX_LOGPROBS: Final = 5
_SEPARATE: Final = "separate_prompt"
_TOKENS: Final = "prompt_tokens"
_SUFFIX: Final = "suffix"
_SHARED: Final = frozenset(("logit_bias",))
_SPEAKERS: Final = {"user": "User", "assistant": "Assistant"}


def read_request(body: bytes) -> Conversation:
    """Raises InvalidJson, or BadRequest with the path of what is wrong."""
    fields = bodies.parse(body)
    if not given(fields.get("model", Raw())):
        raise BadRequest("'model' is missing. Name the model to use.", param="model")
    request = decode(_request_decoder, body, "")
    if not request.model:
        raise BadRequest("'model' is empty. Name the model to use.", param="model")
    if request.n is not None and request.n < 1:
        raise BadRequest("'n' must be at least 1.", param="n")
    if request.max_tokens is not None and request.max_tokens < 0:
        raise BadRequest("'max_tokens' must not be negative.", param="max_tokens")
    if request.logprobs is not None and request.logprobs < 0:
        raise BadRequest("'logprobs' must not be negative.", param="logprobs")
    prompts = _prompts(request.prompt)
    if request.suffix:
        suffix = Opaque(format=FAMILY, kind=_SUFFIX, raw=Raw(_encode(request.suffix)))
        prompts = [[*blocks, suffix] for blocks in prompts]
    stop = request.stop
    return Conversation(
        model=request.model,
        messages=tuple(Message(role="user", blocks=tuple(blocks)) for blocks in prompts),
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        stop=() if not stop else (stop,) if isinstance(stop, str) else tuple(stop),
        seed=request.seed,
        logprobs=request.logprobs is not None,
        top_logprobs=request.logprobs,
        n=request.n or 1,
        user=request.user,
        stream=bool(request.stream),
        include_usage=bool(request.stream_options and request.stream_options.include_usage),
        format=FAMILY,
        extra=tuple(
            Extra(format=FAMILY, name=name, raw=raw)
            for name, raw in fields.items()
            if name not in KNOWN and given(raw)
        ),
    )


def _prompts(raw: Raw) -> list[list[Block]]:
    if not given(raw):
        raise BadRequest("'prompt' is missing. Send a text to go on with.", param="prompt")
    try:
        found = _decode_prompt(raw)
    except (msgspec.DecodeError, RecursionError):
        raise BadRequest(
            "'prompt' must be a string, an array of strings, an array of tokens or an array of arrays of tokens.",
            param="prompt",
        ) from None
    if isinstance(found, str):
        return [[Text(text=found)]]
    if not found:
        raise BadRequest("'prompt' is empty. Send a text to go on with.", param="prompt")
    kinds = {type(prompt) for prompt in found}
    if len(kinds) > 1:
        raise BadRequest("'prompt' mixes texts and tokens. Send one kind.", param="prompt")
    if kinds == {int}:
        return [[Opaque(format=FAMILY, kind=_TOKENS, raw=raw)]]
    prompts: list[list[Block]] = []
    for number, prompt in enumerate(found):
        blocks: list[Block] = []
        if number:
            blocks.append(Opaque(format=FAMILY, kind=_SEPARATE, raw=Raw(b"%d" % number)))
        if isinstance(prompt, str):
            blocks.append(Text(text=prompt))
        else:
            blocks.append(Opaque(format=FAMILY, kind=_TOKENS, raw=Raw(_encode(prompt))))
        prompts.append(blocks)
    return prompts


# ------------------------------------------------------------------ writing


def write_request(conversation: Conversation, profile: Profile) -> Written:
    losses = Losses()
    body: dict[str, Any] = {"model": profile.model}
    if conversation.format == FAMILY:
        _own_prompts(body, conversation)
    else:
        body["prompt"] = _told(conversation, losses)
    if conversation.max_tokens is not None:
        body["max_tokens"] = conversation.max_tokens
    _sampling(body, conversation, losses)
    _unsaid(conversation, losses)
    if conversation.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    for extra in conversation.extra:
        if extra.format == FAMILY or (extra.name in _SHARED and extra.format.startswith("openai.")):
            body.setdefault(extra.name, extra.raw)
        else:
            losses.weigh(extra.name, extra.weight)
    return Written(body=_encode(body), lost=losses.all())


def _own_prompts(body: dict[str, Any], conversation: Conversation) -> None:
    prompts: list[object] = []
    for message in conversation.messages:
        for block in message.blocks:
            if isinstance(block, Text):
                prompts.append(block.text)
            elif isinstance(block, Opaque) and block.kind == _TOKENS:
                prompts.append(block.raw)
            elif isinstance(block, Opaque) and block.kind == _SUFFIX:
                body["suffix"] = block.raw
    body["prompt"] = prompts[0] if len(prompts) == 1 else prompts


def _told(conversation: Conversation, losses: Losses) -> str:
    """The turns as one text. A single question, with or without instructions, is written without roles."""
    turns = []
    for message in conversation.messages:
        text = "".join(_words(message.blocks, losses))
        if text:
            turns.append((message.role, text))
    spoken = [role for role, _ in turns if role in _SPEAKERS]
    if spoken == ["user"]:
        return "\n\n".join(text for _, text in turns)
    losses.hint("messages.role")
    lines = [f"{_SPEAKERS[role]}: {text}" if role in _SPEAKERS else text for role, text in turns]
    return "\n\n".join([*lines, "Assistant:"])


def _words(blocks: tuple[Block, ...], losses: Losses) -> list[str]:
    words: list[str] = []
    for block in blocks:
        if isinstance(block, Text | Refusal):
            words.append(block.text)
        elif isinstance(block, ToolCall | ToolResult):
            losses.meaning("messages.tool_calls")
            words.extend(f"{part.text}\n" for part in as_text(block) if isinstance(part, Text))
        elif isinstance(block, Document) and block.text is not None:
            words.append(f"{block.title}\n\n{block.text}\n\n" if block.title else f"{block.text}\n\n")
        elif isinstance(block, Thinking):
            losses.hint("messages.thinking")
        elif isinstance(block, Opaque):
            losses.meaning(f"messages.{block.kind}")
        else:
            losses.meaning(f"messages.{type(block).__name__.lower()}")
        cache = None if isinstance(block, Thinking | Refusal) else block.cache
        if cache is not None:
            losses.hint("cache_control")
    return words


def _sampling(body: dict[str, Any], conversation: Conversation, losses: Losses) -> None:
    for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "user"):
        value = getattr(conversation, name)
        if value is not None:
            body[name] = value
    for name in ("top_k", "min_p"):
        value = getattr(conversation, name)
        if value is not None and conversation.format == FAMILY:
            body[name] = value
        elif value is not None:
            losses.hint(name)
    stop = [text for text in conversation.stop if text]
    if stop:
        body["stop"] = stop
    if conversation.n > 1:
        body["n"] = conversation.n
    if conversation.logprobs:
        wanted = conversation.top_logprobs or 0
        if wanted > MAX_LOGPROBS and conversation.format != FAMILY:
            losses.hint("top_logprobs")
            wanted = MAX_LOGPROBS
        body["logprobs"] = wanted


def _unsaid(conversation: Conversation, losses: Losses) -> None:
    """What a conversation may ask that this format has no word for."""
    if conversation.tools:
        losses.meaning("tools")
    choice = conversation.tool_choice
    if choice is not None and choice.mode in ("required", "named"):
        losses.meaning("tool_choice")
    if conversation.response_format is not None:
        losses.meaning("response_format")
    if any(kind != "text" for kind in conversation.modalities):
        losses.meaning("modalities")
    if conversation.previous_response_id:
        losses.meaning("previous_response_id")
    for name in ("reasoning", "verbosity", "service_tier", "safety_identifier", "prompt_cache_key", "store"):
        if getattr(conversation, name) is not None:
            losses.hint(name)
    if conversation.metadata:
        losses.hint("metadata")
    if bytes(conversation.audio):
        losses.hint("audio")
    if bytes(conversation.prediction):
        losses.hint("prediction")
