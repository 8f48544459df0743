"""A conversation as the body of a Chat Completions request, with everything named that it cannot say.

The limit is written as ``max_completion_tokens`` where the model reasons by ``effort`` (OpenAI's reasoning models
refuse the other name), else as ``max_tokens``: every compatible server knows that one, and several (Ollama,
llama-cpp-python) silently ignore the newer, which leaves the answer without a limit. A provider that wants it
otherwise says so in its catalogue file by a ``rename``.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import Raw, Struct

from tollway.wire.codec import Profile
from tollway.wire.conversation import (
    Conversation,
    Reasoning,
    ResponseFormat,
    ServerTool,
    Tool,
    Written,
)
from tollway.wire.decoding import given
from tollway.wire.formats.openai_chat.shapes import (
    EFFORTS,
    FAMILY,
    SERVICE_TIERS,
    Wire,
    decode_fields,
    encode,
)
from tollway.wire.formats.openai_chat.write_turns import write_turns
from tollway.wire.formats.openai_user import end_user
from tollway.wire.turns import Losses, offered

_EFFORT_BUDGETS: Final = ((1024, "low"), (2048, "medium"))
"""The largest budget in tokens for a level; above the last it is ``high``."""

_SHARED: Final = frozenset(("logit_bias", "prompt_cache_retention", "prompt_cache_options"))
"""Fields the hub has no name for that mean the same in OpenAI's other formats."""

_NAME = re.compile(r"[^a-zA-Z0-9_-]")


class _Place(Struct):
    """A user's location as Anthropic and the Responses format have it, or as this one nests it."""

    type: str | None = None
    city: str | None = None
    country: str | None = None
    region: str | None = None
    timezone: str | None = None
    approximate: Raw = Raw()


class _Search(Struct):
    user_location: _Place | None = None
    search_context_size: str | None = None
    max_uses: int | None = None
    allowed_domains: list[str] | None = None
    blocked_domains: list[str] | None = None
    filters: Raw = Raw()


_decode_search = msgspec.json.Decoder(_Search).decode


def write_request(conversation: Conversation, profile: Profile) -> Written:
    losses = Losses()
    own = conversation.format == FAMILY
    body: Wire = {"model": profile.model, "messages": write_turns(conversation, profile, losses)}
    _tools(body, conversation, profile, losses)
    if conversation.response_format is not None:
        _response_format(body, conversation.response_format, profile, losses)
    if conversation.reasoning is not None:
        _reasoning(body, conversation.reasoning, profile, losses)
    if conversation.max_tokens is not None:
        name = "max_completion_tokens" if profile.thinking == "effort" else "max_tokens"
        body[name] = conversation.max_tokens
    _sampling(body, conversation, own, profile, losses)
    _about(body, conversation, losses)
    if conversation.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    _extra(body, conversation, losses)
    return Written(body=encode(body), lost=losses.all())


def _sampling(body: Wire, conversation: Conversation, own: bool, profile: Profile, losses: Losses) -> None:
    for name, value in (("temperature", conversation.temperature), ("top_p", conversation.top_p)):
        if value is None:
            continue
        if profile.sampling:
            body[name] = value
        else:
            losses.hint(name)
    # De facto: many servers take these two, OpenAI refuses them.
    for name, value in (("top_k", conversation.top_k), ("min_p", conversation.min_p)):
        if value is not None:
            if own:
                body[name] = value
            else:
                losses.hint(name)
    if conversation.frequency_penalty is not None:
        body["frequency_penalty"] = conversation.frequency_penalty
    if conversation.presence_penalty is not None:
        body["presence_penalty"] = conversation.presence_penalty
    stop = [text for text in conversation.stop if text]
    if stop:
        body["stop"] = stop
    if conversation.seed is not None:
        body["seed"] = conversation.seed
    if conversation.logprobs:
        body["logprobs"] = True
        if conversation.top_logprobs is not None:
            body["top_logprobs"] = conversation.top_logprobs
    if conversation.n > 1:
        body["n"] = conversation.n


def _about(body: Wire, conversation: Conversation, losses: Losses) -> None:
    if conversation.modalities and conversation.modalities != ("text",):
        body["modalities"] = conversation.modalities
    if bytes(conversation.audio):
        body["audio"] = conversation.audio
    if bytes(conversation.prediction):
        body["prediction"] = conversation.prediction
    if conversation.verbosity:
        body["verbosity"] = conversation.verbosity
    if conversation.service_tier:
        if conversation.service_tier in SERVICE_TIERS:
            body["service_tier"] = conversation.service_tier
        else:
            losses.hint("service_tier")
    if conversation.metadata:
        # OpenAI refuses metadata on answers that it is not to store.
        if conversation.store:
            body["metadata"] = conversation.metadata
        else:
            losses.hint("metadata")
    if conversation.user:
        body["user"] = end_user(conversation.user)
    if conversation.safety_identifier:
        body["safety_identifier"] = conversation.safety_identifier
    if conversation.prompt_cache_key:
        body["prompt_cache_key"] = conversation.prompt_cache_key
    if conversation.store is not None:
        body["store"] = conversation.store
    if conversation.previous_response_id:
        losses.meaning("previous_response_id")


def _extra(body: Wire, conversation: Conversation, losses: Losses) -> None:
    for extra in conversation.extra:
        if extra.format == FAMILY and extra.name == "stream_options":
            if "stream_options" in body:
                body["stream_options"] = {**decode_fields(extra.raw), "include_usage": True}
        elif extra.format != FAMILY and not (extra.name in _SHARED and extra.format.startswith("openai.")):
            losses.weigh(extra.name, extra.weight)
        elif extra.name not in body:
            body[extra.name] = extra.raw


# ------------------------------------------------------------------ tools


def _tools(body: Wire, conversation: Conversation, profile: Profile, losses: Losses) -> None:
    """Narrowing to the allowed tools is done by leaving the others out: few servers know ``allowed_tools``."""
    tools: list[object] = []
    custom: set[str] = set()
    names: set[str] = set()
    mine = offered(conversation)
    if mine and not profile.tools:
        losses.meaning("tools")
        mine = ()
    for tool in mine:
        tools.append(_tool(tool, conversation.format == FAMILY, losses))
        names.add(tool.name)
        if tool.custom:
            custom.add(tool.name)
    for served in conversation.tools:
        if isinstance(served, ServerTool):
            _server_tool(body, served, tools, losses)
    choice = conversation.tool_choice
    if tools:
        body["tools"] = tools
        if conversation.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = conversation.parallel_tool_calls
    if choice is None:
        return
    if choice.mode == "named" and choice.name in names:
        kind = "custom" if choice.name in custom else "function"
        body["tool_choice"] = {"type": kind, kind: {"name": choice.name}}
    elif choice.mode == "named" or (choice.mode == "required" and not tools):
        losses.meaning("tool_choice")
    elif tools:
        body["tool_choice"] = choice.mode


def _tool(tool: Tool, own: bool, losses: Losses) -> Wire:
    inner: Wire = {"name": tool.name}
    if tool.description is not None:
        inner["description"] = tool.description
    if tool.custom:
        if bytes(tool.grammar):
            inner["format"] = tool.grammar
        return {"type": "custom", "custom": inner}
    if bytes(tool.schema):
        inner["parameters"] = tool.schema
    if tool.strict is not None:
        inner["strict"] = tool.strict
    wire: Wire = {"type": "function", "function": inner}
    if tool.cache is not None:
        if own:
            mark = {"type": "ephemeral"}
            wire["cache_control"] = mark if tool.cache.ttl == "5m" else {**mark, "ttl": tool.cache.ttl}
        else:
            losses.hint("cache_control")
    return wire


def _server_tool(body: Wire, tool: ServerTool, tools: list[object], losses: Losses) -> None:
    # web_search_options are no entry of tools and have no type.
    if tool.format == FAMILY and not (tool.kind == "web_search" and "type" not in decode_fields(tool.raw)):
        tools.append(tool.raw)
    elif tool.kind == "web_search":
        body["web_search_options"] = tool.raw if tool.format == FAMILY else _search(tool, losses)
    else:
        losses.meaning(f"tools.{tool.kind}")


def _search(tool: ServerTool, losses: Losses) -> Wire:
    """Another format's web search: who searches and how deep carries over, bounds on where it may look do not."""
    try:
        found = _decode_search(tool.raw)
    except msgspec.DecodeError:
        losses.hint("tools.web_search")
        return {}
    options: Wire = {}
    if found.search_context_size:
        options["search_context_size"] = found.search_context_size
    place = found.user_location
    if place is not None:
        named = ("city", "country", "region", "timezone")
        known = {name: getattr(place, name) for name in named if getattr(place, name)}
        options["user_location"] = {"type": "approximate", "approximate": known}
    if found.max_uses is not None:
        losses.hint("tools.web_search.max_uses")
    if found.allowed_domains or found.blocked_domains or given(found.filters):
        losses.meaning("tools.web_search.domains")
    return options


# ------------------------------------------------------------------ how to answer


def _response_format(body: Wire, wanted: ResponseFormat, profile: Profile, losses: Losses) -> None:
    if wanted.kind == "json_object":
        body["response_format"] = {"type": "json_object"}
        return
    if not profile.schema:
        losses.meaning("response_format")
        return
    shape: Wire = {"name": _NAME.sub("_", wanted.name)[:64] or "response"}
    if wanted.description:
        shape["description"] = wanted.description
    if bytes(wanted.schema):
        shape["schema"] = wanted.schema
    if wanted.strict is not None:
        shape["strict"] = wanted.strict
    body["response_format"] = {"type": "json_schema", "json_schema": shape}


def _reasoning(body: Wire, wanted: Reasoning, profile: Profile, losses: Losses) -> None:
    """A level: the one asked for, or what a budget comes to. A bare ban is left out, as most models know no ``none``
    and refuse it; so is a bare ``adaptive``, which is what they do by themselves."""
    if wanted.summary:
        losses.hint("reasoning.summary")
    if wanted.show is False:
        losses.hint("reasoning.show")
    effort = wanted.effort
    if effort is None and wanted.budget is not None and wanted.budget > 0:
        effort = next((level for most, level in _EFFORT_BUDGETS if wanted.budget <= most), "high")
    if effort is None and wanted.enabled and wanted.budget is None and not wanted.adaptive:
        effort = "medium"
    forbidden = wanted.effort is None and (wanted.enabled is False or wanted.budget == 0)
    if forbidden:
        if profile.thinking != "none":
            losses.hint("reasoning")
    elif effort is not None:
        if profile.thinking == "none":
            if effort != "none":
                losses.hint("reasoning")
        elif effort in EFFORTS:
            body["reasoning_effort"] = effort
        else:
            losses.hint("reasoning.effort")
