"""Tools of a conversation as a Messages request declares them, and which of them may or must be called.

Server tools of other formats become the API's own where it documents the same; what it has not is named as lost.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.wire.codec import Profile
from tollway.wire.conversation import Cache, Conversation, ServerTool, Tool
from tollway.wire.formats.anthropic_messages.lost import Lost, lose
from tollway.wire.formats.anthropic_messages.proof import FAMILY
from tollway.wire.formats.anthropic_messages.shapes import SchemaType

TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")

_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_schema = msgspec.json.Decoder(SchemaType).decode
_decode_strings = msgspec.json.Decoder(list[str]).decode

_PLACE = ("type", "city", "region", "country", "timezone")


def cache_control(cache: Cache) -> dict[str, str]:
    return {"type": "ephemeral", "ttl": "1h"} if cache.ttl == "1h" else {"type": "ephemeral"}


def write_tools(
    conversation: Conversation, profile: Profile, called: list[str], fields: dict[str, Any], lost: Lost
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
