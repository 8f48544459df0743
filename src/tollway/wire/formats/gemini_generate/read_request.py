"""A generateContent request read into the hub, in camelCase or snake_case.

The model (and whether the answer is streamed) stand in the URL: the door puts them into the body as ``model`` and
``stream``. Fields the hub has no name for become ``Extra`` named by their path; function calls without an id get
``call_<n>_<name>``, and function responses find theirs by id, else by name in order.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Raw, structs

from tollway.errors import BadRequest
from tollway.wire.body import Fields, flag, parse, text
from tollway.wire.conversation import (
    Block,
    Conversation,
    Document,
    Extra,
    Image,
    Message,
    Opaque,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from tollway.wire.formats.gemini_generate import parts
from tollway.wire.formats.gemini_generate.read_settings import read_config, read_tool_config, read_tools
from tollway.wire.formats.gemini_generate.reading import each, fields_of, read
from tollway.wire.formats.gemini_generate.shapes import (
    FAMILY,
    NAME,
    TIERS,
    Content,
    FunctionCall,
    FunctionResponse,
    given,
)
from tollway.wire.formats.gemini_generate.signatures import continues, unseal
from tollway.wire.formats.gemini_generate.spelling import REQUEST, respelled

_decode_content = msgspec.json.Decoder(Content).decode
_decode_string = msgspec.json.Decoder(str).decode
_decode_bool = msgspec.json.Decoder(bool).decode
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_-]")
_ROLES: dict[str, Role] = {
    "": "user",
    "user": "user",
    "function": "user",  # what the API's first version called the turn of function responses
    "tool": "user",
    "model": "assistant",
    "system": "system",
}
_READ = frozenset(
    (
        "model",
        "stream",
        "contents",
        "systemInstruction",
        "tools",
        "toolConfig",
        "generationConfig",
        "serviceTier",
        "store",
    )
)


def read_request(body: bytes) -> Conversation:
    """The conversation of a generateContent body. Raises InvalidJson, BadRequest (``param`` is the JSON path)."""
    return read_fields(parse(respelled(body, REQUEST)))


def read_fields(fields: Fields) -> Conversation:
    """The same from the request's top level."""
    extras = [
        Extra(format=FAMILY, name=name, raw=raw, weight="meaning" if name == "cachedContent" else "hint")
        for name, raw in fields.items()
        if name not in _READ and given(raw)
    ]
    contents = fields.get("contents")
    if contents is None or not given(contents):
        raise BadRequest(
            "'contents' is missing. Send the conversation as a list of contents.", param="contents"
        )
    turns = _Turns(extras)
    instruction = fields.get("systemInstruction")
    if instruction is not None and given(instruction):
        turns.add(instruction, "systemInstruction", "system")
    for place, raw in enumerate(each(contents, "contents")):
        turns.add(raw, f"contents.{place}", None)
    if not turns.messages:
        raise BadRequest("'contents' is empty. Send at least one turn.", param="contents")

    raw_tools = fields.get("tools")
    tools = read_tools(raw_tools, extras) if raw_tools is not None and given(raw_tools) else ()
    choosing = fields.get("toolConfig")
    choice = read_tool_config(choosing, extras) if choosing is not None and given(choosing) else None
    settings = fields.get("generationConfig")
    config = read_config(settings, extras) if settings is not None and given(settings) else {}
    tier = text(fields, "serviceTier")
    store = fields.get("store")
    return Conversation(
        model=(text(fields, "model") or "").removeprefix("models/"),
        messages=tuple(turns.messages),
        tools=tools,
        tool_choice=choice,
        service_tier=TIERS.get(tier.lower(), tier.lower()) if tier else None,
        store=read(_decode_bool, store, "store") if store is not None and given(store) else None,
        stream=flag(fields, "stream"),
        include_usage=True,
        format=NAME,
        extra=tuple(extras),
        **config,
    )


def made_id(number: int, name: str) -> str:
    """The id of the ``number``-th call of a conversation that named none; fit for every provider's charset."""
    return f"call_{number}_{_NOT_PLAIN.sub('_', name)[:40]}"


class _Turns:
    """The turns read so far, and the function calls that wait for their responses."""

    __slots__ = ("_called", "_extras", "_waiting", "messages")

    def __init__(self, extras: list[Extra]) -> None:
        self.messages: list[Message] = []
        self._extras = extras
        self._waiting: list[tuple[str, str]] = []
        self._called = 0

    def add(self, raw: Raw, path: str, role: Role | None) -> None:
        content = read(_decode_content, raw, path)
        if role is None:
            role = _ROLES.get((content.role or "").lower())
            if role is None:
                raise BadRequest(
                    f"'{path}.role' must be 'user' or 'model', not {content.role[:40]!r}."
                    if content.role
                    else f"'{path}.role' must be 'user' or 'model'.",
                    param=f"{path}.role",
                )
        if not given(content.parts):
            return
        blocks: list[Block] = []
        for place, piece in enumerate(each(content.parts, f"{path}.parts")):
            self._part(piece, f"{path}.parts.{place}", blocks)
        if blocks:
            self.messages.append(Message(role=role, blocks=tuple(blocks)))

    def _thinking(self, text: str, signature: str | None, blocks: list[Block]) -> None:
        """Add a thought. Clients keep the pieces of a stream in parts or even turns of their own: those of another
        maker's thinking are joined again, as its signature fits the whole only."""
        more, ends = unseal(text, signature)
        last = self.messages[-1] if self.messages else None
        before = blocks[-1] if blocks else last.blocks[-1] if last and last.role == "assistant" else None
        if not isinstance(before, Thinking) or not continues(before, more, ends):
            blocks.append(more)
            return
        joined = structs.replace(
            before, text=before.text + more.text, signature=more.signature, redacted=more.redacted
        )
        if blocks:
            blocks[-1] = joined
        elif last is not None:
            self.messages[-1] = structs.replace(last, blocks=(*last.blocks[:-1], joined))

    def _part(self, raw: Raw, path: str, blocks: list[Block]) -> None:
        part = parts.decode(raw, path, self._extras)
        if part is None:
            raise BadRequest(f"'{path}' says nothing. Give the part a text or other content.", param=path)
        if isinstance(part, Opaque):
            blocks.append(part)
        elif part.function_call is not None:
            blocks.append(self._call(part.function_call, part.thought_signature, path))
        elif part.function_response is not None:
            blocks.append(self._result(part.function_response, path))
        elif part.thought and part.text is not None:
            self._thinking(part.text, part.thought_signature, blocks)
        else:
            block = parts.block(part, raw, path)
            if block is None:
                raise BadRequest(f"'{path}' says nothing. Give the part a text or other content.", param=path)
            blocks.append(block)

    def _call(self, call: FunctionCall, signature: str | None, path: str) -> ToolCall:
        if not call.name:
            raise BadRequest(f"'{path}.functionCall.name' is missing.", param=f"{path}.functionCall.name")
        arguments = "{}"
        if given(call.args):
            read(fields_of, call.args, f"{path}.functionCall.args")
            arguments = bytes(call.args).decode()
        self._called += 1
        call_id = call.id or made_id(self._called, call.name)
        self._waiting.append((call_id, call.name))
        return ToolCall(id=call_id, name=call.name, arguments=arguments, signature=signature)

    def _result(self, response: FunctionResponse, path: str) -> ToolResult:
        name = response.name
        if not name and not response.id:
            param = f"{path}.functionResponse.name"
            raise BadRequest(f"'{param}' is missing. Name the function that was called.", param=param)
        call_id = response.id
        place = None
        if call_id:
            place = next((i for i, (known, _) in enumerate(self._waiting) if known == call_id), None)
        if place is None and name:
            place = next((i for i, (_, called) in enumerate(self._waiting) if called == name), None)
        if place is not None:
            call_id, name = self._waiting.pop(place)
        elif not call_id:
            self._called += 1
            call_id = made_id(self._called, name or "")
        content, error = read_response(response.response, f"{path}.functionResponse.response")
        for number, raw in enumerate(response.parts or ()):
            content += (self._result_part(raw, f"{path}.functionResponse.parts.{number}"),)
        return ToolResult(call_id=call_id or "", name=name, content=content, error=error)

    def _result_part(self, raw: Raw, path: str) -> Text | Image | Document | Opaque:
        part = parts.decode(raw, path, self._extras)
        block = parts.block(part, raw, path) if part is not None and not isinstance(part, Opaque) else None
        if isinstance(block, Text | Image | Document):
            return block
        return Opaque(format=FAMILY, kind="functionResponse.parts", raw=raw)


def read_response(raw: Raw, path: str) -> tuple[tuple[Text | Image | Document | Opaque, ...], bool]:
    """What a function gave back, as text, and whether it failed.

    ``{"output": "…"}`` and ``{"error": "…"}`` are the documented wrappings of a plain text; any other object is the
    output itself and stays JSON text.
    """
    if not given(raw):
        return (), False
    fields = read(fields_of, raw, path)
    if not fields:
        return (), False
    if len(fields) == 1:
        for name in ("output", "error"):
            value = fields.get(name)
            if value is None:
                continue
            inner = bytes(value)
            failed = name == "error"
            if inner.startswith(b'"'):
                return (Text(text=read(_decode_string, value, f"{path}.{name}")),), failed
            if failed:
                return (Text(text=inner.decode()),), True
    return (Text(text=bytes(raw).decode()),), False
