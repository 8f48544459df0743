"""Input items into turns. A run of the model's items (reasoning, messages, calls) is one assistant turn, a run of
outputs one user turn; a message of anybody else is a turn of its own.

An item type that is not known here stays what it is, as Opaque. An output without a ``call_id`` answers no call: it is
an event that the client tells the model of, and becomes a developer message.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Raw, structs

from tollway.errors import BadRequest
from tollway.wire import decoding
from tollway.wire.conversation import (
    Block,
    Document,
    Image,
    Message,
    Opaque,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from tollway.wire.formats.openai_responses import shapes
from tollway.wire.formats.openai_responses.names import flat_name
from tollway.wire.formats.openai_responses.parts import read_part, read_parts
from tollway.wire.formats.openai_responses.reasoning import Sealed, unpacked
from tollway.wire.formats.openai_responses.shapes import FAMILY
from tollway.wire.formats.openai_responses.tools import ToolReader

_input = msgspec.json.Decoder(str | list[Raw])
_head = msgspec.json.Decoder(shapes.Head)
_message = msgspec.json.Decoder(shapes.MessageItem)
_call = msgspec.json.Decoder(shapes.CallItem)
_output = msgspec.json.Decoder(shapes.OutputItem)
_output_value = msgspec.json.Decoder(str | list[Raw])
_output_object = msgspec.json.Decoder(shapes.OutputObject)
_reasoning = msgspec.json.Decoder(shapes.ReasoningItem)
_additional = msgspec.json.Decoder(shapes.AdditionalTools)

_ROLES: dict[str, Role] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "developer",
}
_OF_THE_CLIENT = ("_output", "_response", "_trigger")
"""How the types end of items that a client adds; others are the model's."""


class ItemReader:
    """The turns of one request as its items are read. ``unplaced`` are fields the hub has no name for."""

    def __init__(self, tools: ToolReader) -> None:
        self.messages: list[Message] = []
        self.unplaced: set[str] = set()
        self._tools = tools
        self._run: list[Block] = []
        self._role: Role = "assistant"
        self._id: str | None = None
        self._names: dict[str, str] = {}

    def read(self, raw: Raw) -> None:
        found = decoding.decode(_input, raw, "input")
        if isinstance(found, str):
            self.messages.append(Message(role="user", blocks=(Text(text=found),)))
            return
        for index, item in enumerate(found):
            self._item(item, f"input.{index}")
        self._end_run()

    def _item(self, raw: Raw, path: str) -> None:
        head = decoding.decode(_head, raw, path)
        kind = head.type or ("message" if head.role is not None else "item_reference")
        reader = _READERS.get(kind)
        if reader is not None:
            reader(self, raw, path, head)
        elif head.type is None and head.id is None:
            raise BadRequest(f"'{path}.type' is missing. Say what the item is.", param=f"{path}.type")
        else:
            role: Role = "user" if kind.endswith(_OF_THE_CLIENT) else "assistant"
            self._add(role, Opaque(format=FAMILY, kind=kind, raw=raw))

    def _add(self, role: Role, *blocks: Block) -> None:
        if self._run and self._role != role:
            self._end_run()
        self._role = role
        self._run.extend(blocks)

    def _end_run(self) -> None:
        if self._run:
            self.messages.append(Message(role=self._role, blocks=tuple(self._run), id=self._id))
        self._run = []
        self._id = None

    def _read_message(self, raw: Raw, path: str, head: shapes.Head) -> None:
        role = _ROLES.get(head.role or "")
        if role is None:
            raise BadRequest(
                f"'{path}.role' must be 'user', 'assistant', 'system' or 'developer'.", param=f"{path}.role"
            )
        item = decoding.decode(_message, raw, path)
        if item.content is None:
            raise BadRequest(f"'{path}.content' is missing. It is required.", param=f"{path}.content")
        if item.phase is not None:
            self.unplaced.add("input.phase")
        blocks: list[Block]
        if isinstance(item.content, str):
            blocks = [Text(text=item.content)]
        else:
            blocks = read_parts(item.content, f"{path}.content", self.unplaced)
        if role == "assistant":
            self._add(role, *blocks)
            self._id = self._id or item.id
            return
        self._end_run()
        self.messages.append(Message(role=role, blocks=tuple(blocks), name=item.name, id=item.id))

    def _read_call(self, raw: Raw, path: str, head: shapes.Head) -> None:
        item = decoding.decode(_call, raw, path)
        for field, value in (("call_id", item.call_id), ("name", item.name)):
            if not value:
                raise BadRequest(f"'{path}.{field}' is empty. It is required.", param=f"{path}.{field}")
        if decoding.given(item.caller):
            self.unplaced.add("input.caller")
        custom = head.type == "custom_tool_call"
        if custom:
            arguments = item.input or ""
        else:
            arguments = item.arguments or "{}"
        name = flat_name(item.namespace, item.name)
        self._names[item.call_id] = name
        self._add("assistant", ToolCall(id=item.call_id, name=name, arguments=arguments, custom=custom))

    def _read_output(self, raw: Raw, path: str, head: shapes.Head) -> None:
        item = decoding.decode(_output, raw, path)
        if decoding.given(item.caller):
            self.unplaced.add("input.caller")
        content, error = self._output(item.output, f"{path}.output")
        if item.call_id:
            self._add(
                "user",
                ToolResult(
                    call_id=item.call_id,
                    name=self._names.get(item.call_id) or item.name,
                    content=content,
                    error=error,
                    custom=head.type == "custom_tool_call_output",
                ),
            )
            return
        if not item.name:
            raise BadRequest(
                f"'{path}.call_id' is missing. Give the id of the call that this is the output of.",
                param=f"{path}.call_id",
            )
        self._end_run()
        said: tuple[Block, ...] = (Text(text=f"[{item.name}]"), *content)
        self.messages.append(Message(role="developer", blocks=said))

    def _output(self, raw: Raw, path: str) -> tuple[tuple[Text | Image | Document | Opaque, ...], bool]:
        if not decoding.given(raw):
            return (), False
        if bytes(raw)[:1] == b"{":
            found = decoding.decode(_output_object, raw, path)
            return (Text(text=found.content),), found.success is False
        value = decoding.decode(_output_value, raw, path)
        if isinstance(value, str):
            return ((Text(text=value),) if value else ()), False
        content: list[Text | Image | Document | Opaque] = []
        for index, part in enumerate(value):
            block = read_part(part, f"{path}.{index}", self.unplaced)
            if not isinstance(block, Text | Image | Document | Opaque):
                place = f"{path}.{index}.type"
                raise BadRequest(
                    f"'{place}' must be 'input_text', 'input_image' or 'input_file' here.", param=place
                )
            content.append(block)
        return tuple(content), False

    def _read_reasoning(self, raw: Raw, path: str, head: shapes.Head) -> None:
        item = decoding.decode(_reasoning, raw, path)
        found = unpacked(
            "\n\n".join(part.text for part in item.summary or ()),
            "\n\n".join(part.text for part in item.content or ()),
            item.encrypted_content,
            item.id,
        )
        if isinstance(found, Sealed):
            self._attach(found)
        else:
            self._add("assistant", *found)

    def _attach(self, sealed: Sealed) -> None:
        """A thought signature goes back to the call of this turn that it belongs to."""
        for at, block in enumerate(self._run):
            if isinstance(block, ToolCall) and block.id == sealed.call:
                self._run[at] = structs.replace(block, signature=sealed.signature)

    def _read_additional_tools(self, raw: Raw, path: str, head: shapes.Head) -> None:
        self._tools.read(decoding.decode(_additional, raw, path).tools, f"{path}.tools")


_READERS: dict[str, Callable[[ItemReader, Raw, str, shapes.Head], None]] = {
    "message": ItemReader._read_message,
    "function_call": ItemReader._read_call,
    "custom_tool_call": ItemReader._read_call,
    "function_call_output": ItemReader._read_output,
    "custom_tool_call_output": ItemReader._read_output,
    "reasoning": ItemReader._read_reasoning,
    "additional_tools": ItemReader._read_additional_tools,
}
