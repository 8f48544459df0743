"""Tools and the choice among them: functions, custom tools, namespaces and the tools a provider runs itself."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.wire import decoding
from tollway.wire.conversation import Conversation, Extra, ServerTool, Tool, ToolChoice
from tollway.wire.formats.openai_responses import shapes
from tollway.wire.formats.openai_responses.names import by_flat_name, flat_name, namespaces
from tollway.wire.formats.openai_responses.server_tools import write_server_tool
from tollway.wire.formats.openai_responses.shapes import FAMILY, Namespace, encode
from tollway.wire.turns import Losses

_head = msgspec.json.Decoder(shapes.ToolHead)
_function = msgspec.json.Decoder(shapes.FunctionTool)
_custom = msgspec.json.Decoder(shapes.CustomTool)
_format = msgspec.json.Decoder(shapes.CustomFormat)
_namespace = msgspec.json.Decoder(shapes.NamespaceTool)
_choice = msgspec.json.Decoder(shapes.Choice)
_MODES: dict[str, Literal["auto", "none", "required"]] = {
    "auto": "auto",
    "none": "none",
    "required": "required",
}
_word = msgspec.json.Decoder(str)
_fields = msgspec.json.Decoder(dict[str, Raw])

_KNOWN = {
    "function": frozenset(("type", "name", "description", "parameters", "strict")),
    "custom": frozenset(("type", "name", "description", "format")),
}
_KINDS = {
    "web_search_preview": "web_search",
    "code_interpreter": "code_execution",
    "computer_use_preview": "computer",
    "computer_use": "computer",
}
_NO_PARAMETERS = Raw(b'{"type":"object","properties":{}}')
TOOL_FIELDS = "tools."
"""Name of an Extra with the fields of one tool that the hub has no place for, before the tool's name."""


class ToolReader:
    """The tools of a request as they are read, from ``tools`` and from items that bring more."""

    def __init__(self) -> None:
        self.tools: list[Tool | ServerTool] = []
        self.spaces: dict[str, Namespace] = {}
        self.extra: list[Extra] = []

    def read(self, raws: list[Raw], path: str) -> None:
        for index, raw in enumerate(raws):
            self._one(raw, f"{path}.{index}", None)

    def _one(self, raw: Raw, path: str, space: Namespace | None) -> None:
        head = decoding.decode(_head, raw, path)
        if head.type == "function":
            function = decoding.decode(_function, raw, path)
            tool = Tool(
                name=flat_name(space.name if space else None, function.name),
                description=function.description,
                schema=function.parameters if decoding.given(function.parameters) else _NO_PARAMETERS,
                strict=function.strict,
            )
            self._keep(tool, function.name, space, raw, _KNOWN["function"], path)
        elif head.type == "custom":
            custom = decoding.decode(_custom, raw, path)
            tool = Tool(
                name=flat_name(space.name if space else None, custom.name),
                description=custom.description,
                schema=Raw(),
                custom=True,
                grammar=_read_grammar(custom.format),
            )
            self._keep(tool, custom.name, space, raw, _KNOWN["custom"], path)
        elif head.type == "namespace" and space is None:
            found = decoding.decode(_namespace, raw, path)
            inner = self.spaces.setdefault(found.name, Namespace(found.name, found.description, {}))
            for index, part in enumerate(found.tools):
                self._one(part, f"{path}.tools.{index}", inner)
        else:
            kind = server_kind(head.type)
            name = head.server_label if kind == "mcp" else head.name
            self.tools.append(ServerTool(kind=kind, name=name, format=FAMILY, raw=raw))

    def _keep(
        self, tool: Tool, name: str, space: Namespace | None, raw: Raw, known: frozenset[str], path: str
    ) -> None:
        if not name:
            raise BadRequest(f"'{path}.name' is empty. Name the tool.", param=f"{path}.name")
        if space is not None:
            space.tools[tool.name] = name
        self.tools.append(tool)
        others = {key: value for key, value in _fields.decode(raw).items() if key not in known}
        if others:
            self.extra.append(Extra(format=FAMILY, name=TOOL_FIELDS + tool.name, raw=Raw(encode(others))))


def _read_grammar(found: shapes.CustomFormat | None) -> Raw:
    if found is None:
        return Raw()
    if found.type != "grammar":
        return Raw(encode({"type": found.type}))
    grammar = {"syntax": found.syntax, "definition": found.definition}
    return Raw(encode({"type": "grammar", "grammar": grammar}))


def _write_grammar(raw: Raw) -> dict[str, object] | Raw:
    try:
        found = _format.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return raw
    if found.grammar is None:
        return raw
    return {"type": "grammar", "syntax": found.grammar.syntax, "definition": found.grammar.definition}


def server_kind(kind: str) -> str:
    """The hub's word for a tool type, without the date some types carry."""
    plain = kind.split("_20", 1)[0]
    return _KINDS.get(plain, plain)


def read_choice(raw: Raw) -> ToolChoice | None:
    if not decoding.given(raw):
        return None
    if bytes(raw)[:1] == b'"':
        return ToolChoice(mode=_mode(decoding.decode(_word, raw, "tool_choice"), "tool_choice"))
    choice = decoding.decode(_choice, raw, "tool_choice")
    if choice.type == "allowed_tools":
        allowed = tuple(_name(tool) for tool in choice.tools)
        return ToolChoice(mode=_mode(choice.mode or "auto", "tool_choice.mode"), allowed=allowed)
    if choice.type in ("function", "custom") and not choice.name:
        raise BadRequest("'tool_choice.name' is missing. Name the tool.", param="tool_choice.name")
    return ToolChoice(mode="named", name=_name(choice))


def _name(choice: shapes.Choice) -> str:
    if choice.type == "mcp":
        return choice.server_label or "mcp"
    return choice.name or choice.type


def _mode(word: str, param: str) -> Literal["auto", "none", "required"]:
    if word in _MODES:
        return _MODES[word]
    raise BadRequest(f"'{param}' must be 'auto', 'none' or 'required', not {word[:40]!r}.", param=param)


# ------------------------------------------------------------------ writing


def write_tools(conversation: Conversation, lost: Losses) -> list[dict[str, object] | Raw]:
    """Every tool in this API's shape; a namespace stands where its first function stood."""
    flat = by_flat_name(conversation)
    described = {space.name: space.description for space in namespaces(conversation)}
    extras = {
        found.name: found.raw
        for found in conversation.extra
        if found.format == FAMILY and found.name.startswith(TOOL_FIELDS)
    }
    out: list[dict[str, object] | Raw] = []
    spaces: dict[str, list[dict[str, object]]] = {}
    for tool in conversation.tools:
        if isinstance(tool, ServerTool):
            written = write_server_tool(tool, lost)
            if written is not None:
                out.append(written)
            continue
        if tool.cache is not None:
            lost.hint("cache_control")
        space, name = flat.get(tool.name, (None, tool.name))
        fields = _write_tool(tool, name, conversation.format == FAMILY)
        if TOOL_FIELDS + tool.name in extras:
            fields.update(_fields.decode(extras[TOOL_FIELDS + tool.name]))
        if space is None:
            out.append(fields)
            continue
        if space not in spaces:
            spaces[space] = []
            out.append(
                {
                    "type": "namespace",
                    "name": space,
                    "description": described.get(space) or "",
                    "tools": spaces[space],
                }
            )
        spaces[space].append(fields)
    return out


def _write_tool(tool: Tool, name: str, own: bool) -> dict[str, object]:
    fields: dict[str, object] = {"type": "custom" if tool.custom else "function", "name": name}
    if tool.description is not None:
        fields["description"] = tool.description
    if tool.custom:
        if bytes(tool.grammar):
            fields["format"] = _write_grammar(tool.grammar)
        return fields
    fields["parameters"] = tool.schema if bytes(tool.schema) else _NO_PARAMETERS
    # Left out, this API takes a schema as strict and refuses most of those written for others.
    if tool.strict is not None or not own:
        fields["strict"] = bool(tool.strict)
    return fields


def write_choice(conversation: Conversation) -> object:
    """The tool choice, ``auto`` where nothing was said."""
    choice = conversation.tool_choice
    if choice is None:
        return "auto"
    if choice.mode == "named":
        return _reference(choice.name or "", conversation)
    if choice.allowed and choice.mode != "none":
        return {
            "type": "allowed_tools",
            "mode": choice.mode,
            "tools": [_reference(name, conversation) for name in choice.allowed],
        }
    return choice.mode


def _reference(name: str, conversation: Conversation) -> dict[str, object]:
    for tool in conversation.tools:
        if isinstance(tool, Tool):
            if tool.name == name:
                return {"type": "custom" if tool.custom else "function", "name": name}
        elif tool.kind == "mcp" and tool.name == name:
            return {"type": "mcp", "server_label": name}
    for tool in conversation.tools:
        if isinstance(tool, ServerTool) and name in (tool.kind, tool.name, _type_of(tool)):
            return {"type": name if tool.format == FAMILY else _TYPES.get(tool.kind, tool.kind)}
    return {"type": "function", "name": name}


def _type_of(tool: ServerTool) -> str:
    return decoding.answer(_head, tool.raw, "a tool").type if tool.format == FAMILY else ""


_TYPES = {"web_search": "web_search_preview", "code_execution": "code_interpreter"}
