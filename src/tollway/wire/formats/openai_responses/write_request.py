"""A conversation as a request of the Responses API; what it cannot say is named.

There is no ``n``, no stop sequence, no seed, no penalty and no audio here. An answer is kept by the provider only where
the client asked for that, or speaks this API, whose default it is. The smallest output limit is 16 tokens.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.wire.codec import Profile
from tollway.wire.conversation import Conversation, Tool, Written
from tollway.wire.formats.openai_responses.names import NAMESPACES
from tollway.wire.formats.openai_responses.read_request import LOGPROBS
from tollway.wire.formats.openai_responses.settings import (
    REASONING,
    SERVICE_TIERS,
    extras,
    write_reasoning,
    write_text,
)
from tollway.wire.formats.openai_responses.shapes import FAMILY, encode
from tollway.wire.formats.openai_responses.tools import TOOL_FIELDS, write_choice, write_tools
from tollway.wire.formats.openai_responses.write_items import ItemWriter
from tollway.wire.formats.openai_user import end_user
from tollway.wire.turns import Losses, unsaid

MIN_OUTPUT = 16
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
_SCHEMA_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_names = msgspec.json.Decoder(list[str])


def write_request(conversation: Conversation, profile: Profile) -> Written:
    """Raises BadRequest for a name the API does not take."""
    lost = Losses()
    own = conversation.format == FAMILY
    items = ItemWriter(conversation, profile, lost)
    extra = extras(conversation)
    fields: dict[str, object] = {"model": profile.model}
    if items.instructions is not None:
        fields["instructions"] = items.instructions
    fields.update(items.standing)
    if items.items or not items.standing:
        fields["input"] = items.items
    _tools(conversation, profile, fields, lost)
    text = _text(conversation, profile, lost)
    if text:
        fields["text"] = text
    reasoning = write_reasoning(conversation, profile, lost) or {}
    reasoning.update((name, extra[f"reasoning.{name}"]) for name in REASONING if f"reasoning.{name}" in extra)
    if reasoning:
        fields["reasoning"] = reasoning
    _numbers(conversation, profile, fields, lost, own)
    _about(conversation, fields, lost, own)
    if conversation.stream:
        fields["stream"] = True
    include = _names.decode(extra.pop("include")) if "include" in extra else []
    if conversation.logprobs:
        include.append(LOGPROBS)
    if include:
        fields["include"] = include
    for name, raw in extra.items():
        if name.startswith("input."):
            lost.hint(name)
        elif name != NAMESPACES and not name.startswith((TOOL_FIELDS, "reasoning.")):
            fields[name] = raw
    for found in conversation.extra:
        if found.format != FAMILY:
            lost.weigh(found.name, found.weight)
    if conversation.n > 1:
        lost.meaning("n")
    if any(modality != "text" for modality in conversation.modalities):
        lost.meaning("modalities")
    unsaid(conversation, lost, *_UNSAID)
    return Written(body=encode(fields), lost=lost.all())


_UNSAID = (
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "stop",
    "audio",
    "prediction",
)


def _numbers(
    conversation: Conversation, profile: Profile, fields: dict[str, object], lost: Losses, own: bool
) -> None:
    limit = conversation.max_tokens
    if limit is not None:
        fields["max_output_tokens"] = limit if own else max(limit, MIN_OUTPUT)
        if limit < MIN_OUTPUT and not own:
            lost.hint("max_tokens")
    for name in ("temperature", "top_p"):
        value = getattr(conversation, name)
        if value is None:
            continue
        if profile.sampling:
            fields[name] = value
        else:
            lost.hint(name)
    if conversation.top_logprobs is not None:
        fields["top_logprobs"] = conversation.top_logprobs


_SAME = (
    "parallel_tool_calls",
    "safety_identifier",
    "prompt_cache_key",
    "store",
    "previous_response_id",
)
"""Fields that have the same name and meaning in the hub."""


def _about(conversation: Conversation, fields: dict[str, object], lost: Losses, own: bool) -> None:
    for name in _SAME:
        value = getattr(conversation, name)
        if value is not None:
            fields[name] = value
    if conversation.user is not None:
        fields["user"] = end_user(conversation.user)
    if conversation.store is None and not own:
        fields["store"] = False
    if conversation.metadata:
        fields["metadata"] = conversation.metadata
    if conversation.service_tier is not None:
        if own or conversation.service_tier in SERVICE_TIERS:
            fields["service_tier"] = conversation.service_tier
        else:
            lost.hint("service_tier")


def _tools(conversation: Conversation, profile: Profile, fields: dict[str, object], lost: Losses) -> None:
    choice = conversation.tool_choice
    tools: list[dict[str, object] | Raw] = []
    if conversation.tools and not profile.tools:
        lost.meaning("tools")
    elif conversation.tools:
        for index, tool in enumerate(conversation.tools):
            if isinstance(tool, Tool) and not _TOOL_NAME.fullmatch(tool.name):
                raise BadRequest(
                    f"The tool name {tool.name[:80]!r} is not accepted by the provider of this model. Use 1 to 128 "
                    "letters, digits, '_' or '-'.",
                    param=f"tools.{index}.name",
                )
        tools = write_tools(conversation, lost)
    if tools:
        fields["tools"] = tools
        if choice is not None:
            fields["tool_choice"] = write_choice(conversation)
    elif choice is not None and choice.mode in ("required", "named"):
        lost.meaning("tool_choice")


def _text(conversation: Conversation, profile: Profile, lost: Losses) -> dict[str, object]:
    wanted = conversation.response_format
    text = write_text(wanted, conversation.verbosity)
    if wanted is None:
        del text["format"]
    elif wanted.kind == "json_schema" and not profile.schema:
        lost.meaning("response_format")
        del text["format"]
    elif not _SCHEMA_NAME.fullmatch(wanted.name):
        raise BadRequest(
            "The name of the response format's schema must be 1 to 64 letters, digits, '_' or '-'.",
            param="response_format.json_schema.name",
        )
    return text
