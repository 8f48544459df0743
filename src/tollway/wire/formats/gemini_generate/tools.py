"""Tools and tool choice written as ``tools`` and ``toolConfig``.

Server tools of other families become Google's where it has the same: web search, code execution, reading a URL, maps,
a remote MCP server. What such a tool was set to beside that is named as lost.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.wire.codec import Profile
from tollway.wire.conversation import Conversation, ServerTool, Tool
from tollway.wire.formats.gemini_generate.shapes import FAMILY, given
from tollway.wire.turns import Losses

Object = dict[str, object]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")
_NO_PARAMETERS = bytes(Tool(name="").schema)
_EQUIVALENTS = {
    "web_search": "googleSearch",
    "code_execution": "codeExecution",
    "url_context": "urlContext",
    "web_fetch": "urlContext",
    "maps": "googleMaps",
}
_decode = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_any = msgspec.json.Decoder().decode

# Names other formats give the parts of a remote MCP server, in the order they are looked for.
_MCP_NAMES = ("server_label", "name")
_MCP_URLS = ("server_url", "url")
_MCP_TOKENS = ("authorization", "authorization_token")


def write_tools(conversation: Conversation, profile: Profile, lost: Losses) -> tuple[list[object], bool]:
    """``tools``, and whether functions are among them."""
    declared: list[Object] = []
    others: list[object] = []
    for place, tool in enumerate(conversation.tools):
        if not profile.tools:
            lost.meaning("tools")
        elif isinstance(tool, ServerTool):
            written = _server_tool(tool, lost)
            if written is not None and written not in others:
                others.append(written)
        elif tool.custom:
            lost.meaning("tools.custom")  # free text in place of arguments
        else:
            declared.append(_declaration(tool, place, lost))
    if not declared:
        return others, False
    return [{"functionDeclarations": declared}, *others], True


def _declaration(tool: Tool, place: int, lost: Losses) -> Object:
    if not _NAME.fullmatch(tool.name):
        raise BadRequest(
            f"The tool name {tool.name[:140]!r} is not possible with this model. Use letters, digits and _ . : - only, "
            "a letter or _ first, 128 characters at most.",
            param=f"tools.{place}.name",
        )
    if tool.cache:
        lost.hint("cache_control")
    if tool.strict:
        lost.hint("tools.strict")
    told: Object = {"name": tool.name}
    if tool.description:
        told["description"] = tool.description
    if given(tool.schema) and bytes(tool.schema) != _NO_PARAMETERS:
        told["parametersJsonSchema"] = tool.schema
    return told


def _server_tool(tool: ServerTool, lost: Losses) -> object | None:
    if tool.format == FAMILY:
        return tool.raw
    try:
        settings = _decode(tool.raw)
    except (msgspec.DecodeError, RecursionError):
        settings = {}
    if tool.kind == "mcp":
        return _mcp(settings, lost)
    field = _EQUIVALENTS.get(tool.kind)
    if field is None:
        lost.meaning(f"tools.{tool.kind}")
        return None
    for name in settings:
        if name not in ("type", "name"):
            lost.hint(f"tools.{tool.kind}.{name}")
    return {field: {}}


def _mcp(settings: dict[str, Raw], lost: Losses) -> object | None:
    plain = {name: _decode_any(raw) for name, raw in settings.items()}
    url = next((plain[name] for name in _MCP_URLS if isinstance(plain.get(name), str)), None)
    label = next((plain[name] for name in _MCP_NAMES if isinstance(plain.get(name), str)), None)
    if url is None or plain.get("require_approval", "never") != "never" or plain.get("allowed_tools"):
        # Google calls every tool of the server without asking.
        lost.meaning("tools.mcp")
        return None
    transport: Object = {"url": url}
    headers = plain.get("headers")
    sent = dict(headers) if isinstance(headers, dict) else {}
    token = next((plain[name] for name in _MCP_TOKENS if isinstance(plain.get(name), str)), None)
    if token:
        sent["Authorization"] = f"Bearer {token}"
    if sent:
        transport["headers"] = sent
    for name in plain:
        if name not in (*_MCP_NAMES, *_MCP_URLS, *_MCP_TOKENS, "type", "headers", "require_approval"):
            lost.hint(f"tools.mcp.{name}")
    return {"mcpServers": [{"name": label or "mcp", "streamableHttpTransport": transport}]}


def write_choice(conversation: Conversation, functions: bool, lost: Losses) -> Object:
    """``functionCallingConfig``; empty where nothing was chosen."""
    choice = conversation.tool_choice
    if conversation.parallel_tool_calls is False:
        lost.hint("parallel_tool_calls")
    if choice is None:
        return {}
    if not functions:
        if choice.mode in ("required", "named"):
            lost.meaning("tool_choice")
        return {}
    allowed = list(choice.allowed)
    match choice.mode:
        case "none":
            return {"mode": "NONE"}
        case "named":
            return {"mode": "ANY", "allowedFunctionNames": [choice.name]}
        case "required":
            return {"mode": "ANY", "allowedFunctionNames": allowed} if allowed else {"mode": "ANY"}
        case "auto":
            # AUTO takes no names; VALIDATED is the same with names, and with arguments that fit the schema.
            return {"mode": "VALIDATED", "allowedFunctionNames": allowed} if allowed else {"mode": "AUTO"}
