"""Tools that a provider runs itself, as other formats define them, put into this API's words where they mean the same.

Web search, code execution and MCP servers have true equivalents. Anything else is named as lost.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from tollway.wire.conversation import ServerTool
from tollway.wire.formats.openai_responses.shapes import FAMILY
from tollway.wire.turns import Losses


class Place(Struct):
    """A user's place. OpenAI's chat format keeps it one level deeper."""

    city: str | None = None
    country: str | None = None
    region: str | None = None
    timezone: str | None = None
    approximate: Place | None = None


class WebSearch(Struct):
    """The fields of Anthropic's tool and of the ``web_search_options`` of OpenAI's chat format."""

    max_uses: int | None = None
    allowed_domains: list[str] | None = None
    blocked_domains: list[str] | None = None
    user_location: Place | None = None
    search_context_size: str | None = None


class ToolConfiguration(Struct):
    enabled: bool | None = None
    allowed_tools: list[str] | None = None


class McpServer(Struct):
    """A server of Anthropic's ``mcp_servers``, or a toolset, which only names one of them and may configure it."""

    name: str | None = None
    url: str | None = None
    mcp_server_name: str | None = None
    authorization_token: str | None = None
    tool_configuration: ToolConfiguration | None = None


_web_search = msgspec.json.Decoder(WebSearch)
_mcp_server = msgspec.json.Decoder(McpServer)


def write_server_tool(tool: ServerTool, lost: Losses) -> dict[str, object] | Raw | None:
    """None where this API has nothing like it; the loss is named then."""
    if tool.format == FAMILY:
        return tool.raw
    try:
        if tool.kind == "web_search":
            return _write_web_search(_web_search.decode(tool.raw), lost)
        if tool.kind == "code_execution":
            return {"type": "code_interpreter", "container": {"type": "auto"}}
        if tool.kind == "mcp":
            server = _mcp_server.decode(tool.raw)
            if server.name and server.url:
                return _write_mcp(server)
            if server.mcp_server_name:
                lost.hint("tools.mcp_toolset")
                return None
    except (msgspec.DecodeError, RecursionError):
        pass
    lost.meaning(f"tools.{tool.kind}")
    return None


def _write_web_search(search: WebSearch, lost: Losses) -> dict[str, object]:
    written: dict[str, object] = {"type": "web_search"}
    if search.max_uses is not None:
        lost.hint("tools.web_search.max_uses")
    if search.blocked_domains:
        lost.meaning("tools.web_search.blocked_domains")
    if search.allowed_domains:
        written["filters"] = {"allowed_domains": search.allowed_domains}
    if search.search_context_size:
        written["search_context_size"] = search.search_context_size
    place = search.user_location
    if place is not None:
        place = place.approximate or place
        named = {
            "city": place.city,
            "country": place.country,
            "region": place.region,
            "timezone": place.timezone,
        }
        written["user_location"] = {"type": "approximate"} | {
            key: said for key, said in named.items() if said
        }
    return written


def _write_mcp(server: McpServer) -> dict[str, object] | None:
    configuration = server.tool_configuration
    if configuration is not None and configuration.enabled is False:
        return None
    written: dict[str, object] = {
        "type": "mcp",
        "server_label": server.name,
        "server_url": server.url,
        "require_approval": "never",
    }
    if server.authorization_token:
        written["authorization"] = server.authorization_token
    if configuration is not None and configuration.allowed_tools:
        written["allowed_tools"] = configuration.allowed_tools
    return written
