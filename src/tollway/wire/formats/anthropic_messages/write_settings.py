"""The parts of a Messages request around its turns: tools, thinking, sampling, output. Each function puts what it
can into ``fields`` and names the rest in ``lost``.

Sources: the API reference and the guides on thinking, tool use and structured outputs.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.wire.codec import Profile
from tollway.wire.conversation import Cache, Conversation, Extra, Reasoning, ServerTool, Tool, Weight
from tollway.wire.formats.anthropic_messages.proof import FAMILY
from tollway.wire.formats.anthropic_messages.shapes import SchemaType

Lost = dict[str, Weight]
Fields = dict[str, Any]

TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")

DEFAULT_MAX_TOKENS = 4096
"""Where neither the client nor the profile says how long an answer may get; the API insists on a number."""

LEAST_BUDGET = 1024
BUDGETS = {"minimal": 1024, "low": 1024, "medium": 2048, "high": 4096, "xhigh": 8192, "max": 16384}
"""Thinking tokens for an effort, where the model takes tokens."""

_EFFORTS = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}

_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_schema = msgspec.json.Decoder(SchemaType).decode
_decode_strings = msgspec.json.Decoder(list[str]).decode

_PLACE = ("type", "city", "region", "country", "timezone")


def lose(lost: Lost, field: str, weight: Weight = "hint") -> None:
    """Name ``field`` once; what changes the meaning outweighs a hint."""
    if weight == "meaning" or field not in lost:
        lost[field] = weight


def cache_control(cache: Cache) -> dict[str, str]:
    return {"type": "ephemeral", "ttl": "1h"} if cache.ttl == "1h" else {"type": "ephemeral"}


# ------------------------------------------------------------------ tools


def write_tools(
    conversation: Conversation, profile: Profile, called: list[str], fields: Fields, lost: Lost
) -> bool:
    """``tools``, ``tool_choice`` and ``mcp_servers``. ``called`` are names of tools that the turns call: the API wants
    tools declared wherever they were used, so without any they are, and none may be called. Returns whether a call
    is demanded."""
    choice = conversation.tool_choice
    extras = {
        extra.name.removeprefix("tools."): extra.raw
        for extra in conversation.extra
        if extra.format == FAMILY and extra.name.startswith("tools.")
    }
    tools: list[object] = []
    servers: list[Raw] = []
    for number, tool in enumerate(conversation.tools):
        if not profile.tools:
            lose(lost, "tools", "meaning")
        elif choice is not None and choice.allowed and _is_barred(tool, choice.allowed):
            continue
        elif isinstance(tool, Tool):
            if tool.custom:
                lose(lost, "tools", "meaning")
            else:
                tools.append(_tool(tool, extras.get(tool.name), f"tools.{number}"))
        elif tool.format == FAMILY:
            (servers if _is_mcp_server(tool) else tools).append(tool.raw)
        else:
            translated = _server_tool(tool)
            if translated is None:
                lose(lost, "tools", "meaning")
            else:
                tools.append(translated)
    if servers:
        fields["mcp_servers"] = servers
    if not tools:
        if choice is not None and choice.mode in ("required", "named"):
            lose(lost, "tool_choice", "meaning")
        if called:
            fields["tools"] = [{"name": name, "input_schema": {"type": "object"}} for name in called]
            fields["tool_choice"] = {"type": "none"}
        return False
    fields["tools"] = tools
    mode = choice.mode if choice is not None else "auto"
    wire: dict[str, Any] = {"type": {"required": "any", "named": "tool"}.get(mode, mode)}
    if choice is not None and mode == "named":
        wire["name"] = choice.name or ""
    if conversation.parallel_tool_calls is False and mode != "none":
        wire["disable_parallel_tool_use"] = True
    if choice is not None or len(wire) > 1:
        fields["tool_choice"] = wire
    return mode in ("required", "named")


def _is_barred(tool: Tool | ServerTool, allowed: tuple[str, ...]) -> bool:
    if tool.name in allowed:
        return False
    return not (isinstance(tool, ServerTool) and tool.kind in allowed)


def _is_mcp_server(tool: ServerTool) -> bool:
    return tool.kind == "mcp" and "url" in _decode_fields(tool.raw)


def _tool(tool: Tool, more: Raw | None, path: str) -> dict[str, Any]:
    if not TOOL_NAME.fullmatch(tool.name):
        raise BadRequest(
            f"'{path}.name': the tool {tool.name[:140]!r} cannot be offered to this provider. Use 1 to 128 letters, "
            "digits, underscores and hyphens.",
            param=f"{path}.name",
        )
    wire: dict[str, Any] = {"name": tool.name}
    if tool.description:
        wire["description"] = tool.description
    wire["input_schema"] = _schema(tool.schema, f"{path}.input_schema")
    if tool.strict:
        wire["strict"] = True
    if tool.cache is not None:
        wire["cache_control"] = cache_control(tool.cache)
    if more is not None:
        wire.update(_decode_fields(more))
    return wire


def _schema(raw: Raw, path: str) -> object:
    """The schema, its top level named an object where it is not: the API insists on that."""
    if len(bytes(raw)) < 3:
        return {"type": "object"}
    try:
        kind = bytes(_decode_schema(raw).type)
        if kind == b'"object"':
            return raw
        return {**_decode_fields(raw), "type": "object"}
    except (msgspec.DecodeError, RecursionError):
        raise BadRequest(f"'{path}' must be a JSON Schema object.", param=path) from None


def _server_tool(tool: ServerTool) -> dict[str, Any] | None:
    """Another format's server tool where the API has the same; None when it has not, or not all that is asked."""
    try:
        raw = _decode_fields(tool.raw)
        if tool.kind == "web_search":
            return _web_search(raw)
        if tool.kind in ("web_fetch", "url_context"):
            return {"type": "web_fetch_20250910", "name": "web_fetch"}
        if tool.kind == "code_execution" and b"file_ids" not in bytes(tool.raw):
            return {"type": "code_execution_20250825", "name": "code_execution"}
    except (msgspec.DecodeError, RecursionError):
        return None
    return None


def _web_search(raw: dict[str, Raw]) -> dict[str, Any]:
    wire: dict[str, Any] = {"type": "web_search_20250305", "name": "web_search"}
    filters = _object(raw.get("filters"))
    for name in ("allowed_domains", "blocked_domains"):
        domains = filters.get(name)
        if domains is not None and bytes(domains) not in (b"null", b"[]"):
            wire[name] = _decode_strings(domains)
            break  # the API takes one of the two
    place = _object(raw.get("user_location"))
    place = {**_object(place.get("approximate")), **place}  # Chat Completions nests it
    known: dict[str, Any] = {name: place[name] for name in _PLACE if name in place}
    if known:
        wire["user_location"] = {**known, "type": "approximate"}
    return wire


def _object(raw: Raw | None) -> dict[str, Raw]:
    return _decode_fields(raw) if raw is not None and bytes(raw).startswith(b"{") else {}


# ------------------------------------------------------------------ thinking and sampling


def write_thinking(
    reasoning: Reasoning | None,
    profile: Profile,
    fields: Fields,
    output: Fields,
    *,
    limited: bool,
    forced: bool,
    unproven: bool,
    lost: Lost,
) -> bool:
    """``thinking`` and the effort. ``fields["max_tokens"]`` is given; ``limited`` says that the client gave it.
    ``forced``: a tool call is demanded, ``unproven``: the turn to go on with does not begin with thinking; the API
    refuses to think then. Returns whether it will think."""
    if reasoning is None:
        return False
    off = reasoning.enabled is False or reasoning.effort == "none" or reasoning.budget == 0
    if profile.thinking == "none":
        if not off:
            lose(lost, "reasoning")
        return False
    if profile.thinking == "budget":
        # Without the field these models do not think: nothing has to be forbidden.
        return not off and _budget(reasoning, fields, limited, forced or unproven, profile, lost)
    effort = _effort(reasoning)
    if effort is not None:
        output["effort"] = effort
    if profile.thinking != "adaptive":
        return False
    if off or forced:
        fields["thinking"] = {"type": "disabled"}
        if not off:
            lose(lost, "reasoning")
        return False
    wire: dict[str, Any] = {"type": "adaptive"}
    show = reasoning.show if reasoning.show is not None else (True if reasoning.summary else None)
    if show is not None:
        wire["display"] = "summarized" if show else "omitted"
    fields["thinking"] = wire
    return True


def _effort(reasoning: Reasoning) -> str | None:
    if reasoning.effort is not None:
        return _EFFORTS.get(reasoning.effort)
    if reasoning.budget is None or reasoning.budget <= 0:
        return None
    if reasoning.budget <= BUDGETS["low"]:
        return "low"
    # More than this is what the API does by itself: a budget never asks for more than that.
    return "medium" if reasoning.budget <= BUDGETS["medium"] else "high"


def _budget(
    reasoning: Reasoning, fields: Fields, limited: bool, barred: bool, profile: Profile, lost: Lost
) -> bool:
    """Tokens to think with: at least 1024 and fewer than ``max_tokens``, which is raised where the client set none.
    A budget made of an effort leaves half of the client's limit to the answer."""
    limit: int = fields["max_tokens"]
    given = reasoning.budget is not None and reasoning.budget > 0
    wanted = reasoning.budget if given else BUDGETS.get(reasoning.effort or "high", BUDGETS["high"])
    budget = max(wanted or 0, LEAST_BUDGET)
    if not limited and limit <= budget:
        limit = budget + DEFAULT_MAX_TOKENS
        if profile.max_output is not None:
            limit = min(limit, profile.max_output)
    if limited and not given:
        budget = min(budget, max(limit // 2, LEAST_BUDGET))
    budget = min(budget, limit - 1)
    if barred or budget < LEAST_BUDGET:
        lose(lost, "reasoning")
        return False
    if given and reasoning.effort is not None:
        lose(lost, "reasoning.effort")
    if reasoning.show is False:
        lose(lost, "reasoning.show")
    fields["max_tokens"] = limit
    fields["thinking"] = {"type": "enabled", "budget_tokens": budget}
    return True


def write_sampling(
    conversation: Conversation, profile: Profile, thinking: bool, fields: Fields, lost: Lost
) -> None:
    """``temperature``, ``top_p``, ``top_k`` and ``stop_sequences`` within what the API takes: a temperature up to 1;
    with thinking none but 1, no ``top_k``, and ``top_p`` from 0.95; newer models one of temperature and ``top_p``."""
    temperature, top_p, top_k = conversation.temperature, conversation.top_p, conversation.top_k
    if not profile.sampling:
        for name, value in (("temperature", temperature), ("top_p", top_p), ("top_k", top_k)):
            if value is not None:
                lose(lost, name)
        temperature = top_p = top_k = None
    if temperature is not None and not 0 <= temperature <= 1:
        lose(lost, "temperature")
        temperature = min(max(temperature, 0), 1)
    if thinking:
        if temperature is not None and temperature != 1:
            lose(lost, "temperature")
        temperature = None
        if top_k is not None:
            lose(lost, "top_k")
            top_k = None
        if top_p is not None and not 0.95 <= top_p <= 1:
            lose(lost, "top_p")
            top_p = None
    if temperature is not None and top_p is not None:
        if top_p == 1:
            top_p = None
        elif temperature == 1:
            temperature = None
        else:
            lose(lost, "top_p")
            top_p = None
    for name, value in (("temperature", temperature), ("top_p", top_p), ("top_k", top_k)):
        if value is not None:
            fields[name] = value
    if conversation.stop:
        stop = [sequence for sequence in conversation.stop if sequence.strip()]
        if len(stop) < len(conversation.stop):
            lose(lost, "stop")
        if stop:
            fields["stop_sequences"] = stop


# ------------------------------------------------------------------ the rest


def write_format(conversation: Conversation, profile: Profile, output: Fields, lost: Lost) -> None:
    """``output_config.format``. The API knows no JSON without a schema."""
    wanted = conversation.response_format
    if wanted is None:
        return
    if wanted.kind != "json_schema" or not profile.schema or not bytes(wanted.schema).startswith(b"{"):
        lose(lost, "response_format", "meaning")
        return
    output["format"] = {"type": "json_schema", "schema": wanted.schema}
    if wanted.description:
        lose(lost, "response_format.description")


def write_identity(conversation: Conversation, fields: Fields, lost: Lost) -> None:
    """``metadata.user_id`` and ``service_tier``."""
    user = conversation.user or conversation.safety_identifier
    if user:
        fields["metadata"] = {"user_id": user}
    if conversation.user and conversation.safety_identifier not in (None, conversation.user):
        lose(lost, "safety_identifier")
    tier = conversation.service_tier
    if tier in ("auto", "priority"):
        fields["service_tier"] = "auto"
    elif tier in ("default", "standard_only"):
        fields["service_tier"] = "standard_only"
    elif tier is not None:
        lose(lost, "service_tier")


def write_extra(extras: tuple[Extra, ...], fields: Fields, output: Fields, lost: Lost) -> None:
    """Fields of our own family, each back at its place; those of others are lost."""
    for extra in extras:
        if extra.format != FAMILY:
            lose(lost, extra.name)
        elif extra.name.startswith("output_config."):
            output[extra.name.removeprefix("output_config.")] = extra.raw
        elif extra.name.startswith("tools."):
            continue  # went with its tool
        elif "." in extra.name:
            lose(lost, extra.name)
        else:
            fields[extra.name] = extra.raw


def name_lost(conversation: Conversation, lost: Lost) -> None:
    """What a request may ask and the API has no word for."""
    for field in ("min_p", "frequency_penalty", "presence_penalty", "seed", "top_logprobs", "verbosity"):
        if getattr(conversation, field) is not None:
            lose(lost, field)
    if conversation.logprobs:
        lose(lost, "logprobs")
    if conversation.prompt_cache_key is not None:
        lose(lost, "prompt_cache_key")
    if len(bytes(conversation.prediction)) > 0:
        lose(lost, "prediction")
    if conversation.metadata:
        lose(lost, "metadata")
    if conversation.store:
        lose(lost, "store")
    if conversation.n > 1:
        lose(lost, "n", "meaning")
    if any(modality != "text" for modality in conversation.modalities):
        lose(lost, "modalities", "meaning")
    if conversation.previous_response_id is not None:
        lose(lost, "previous_response_id", "meaning")
