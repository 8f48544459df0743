"""The messages of a request into turns of the hub: roles, calls and results, the older function messages, reasoning."""

from __future__ import annotations

import msgspec
from msgspec import Raw, structs

from tollway.errors import BadRequest
from tollway.wire.conversation import (
    Audio,
    Block,
    Document,
    Image,
    Message,
    Opaque,
    Refusal,
    Role,
    Source,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from tollway.wire.decoding import decode, given
from tollway.wire.formats.openai_chat.parts import missing, read_cache, read_part, read_thinking
from tollway.wire.formats.openai_chat.shapes import FAMILY, Call, Turn, decode_string


class _AudioId(msgspec.Struct):
    id: str


class _Google(msgspec.Struct):
    thought_signature: str | None = None


class _ExtraContent(msgspec.Struct):
    google: _Google | None = None


_audio_decoder = msgspec.json.Decoder(_AudioId)
_decode_contents = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_decode_parts = msgspec.json.Decoder(list[Raw]).decode
_decode_extra_content = msgspec.json.Decoder(_ExtraContent).decode

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "assistant": "assistant",
}


def read_turns(turns: list[Turn], raw: Raw) -> tuple[Message, ...]:
    """``raw`` is the JSON of ``turns``, looked into only for parts of an unknown kind."""
    reader = _Reader(raw)
    return tuple([reader.turn(turn, number) for number, turn in enumerate(turns)])


class _Reader:
    """Remembers calls on the way: the older ``function_call`` has no id, and results often do not say a name."""

    __slots__ = ("_contents", "_names", "_raw", "_unanswered")

    def __init__(self, raw: Raw) -> None:
        self._raw = raw
        self._contents: list[dict[str, Raw]] | None = None
        self._names: dict[str, str] = {}
        self._unanswered: list[tuple[str, str]] = []

    def turn(self, turn: Turn, number: int) -> Message:
        path = f"messages.{number}"
        role = _ROLES.get(turn.role)
        if role is None:
            if turn.role == "tool":
                return self._tool(turn, number, path)
            if turn.role == "function":
                return self._function(turn, number, path)
            raise BadRequest(
                f"'{path}.role' must be system, developer, user, assistant or tool, not '{turn.role[:40]}'.",
                param=f"{path}.role",
            )
        if role == "assistant":
            return Message(role=role, blocks=self._assistant(turn, number, path), name=turn.name)
        if turn.content is None:
            raise missing(f"{path}.content")
        return Message(role=role, blocks=tuple(self._content(turn, number, path)), name=turn.name)

    def _content(self, turn: Turn, number: int, path: str) -> list[Block]:
        content = turn.content
        if content is None:
            return []
        if isinstance(content, str):
            cache = read_cache(turn.cache_control, f"{path}.cache_control")
            return [Text(text=content, cache=cache)] if content or cache else []
        blocks = []
        for index, part in enumerate(content):
            block = read_part(part, f"{path}.content.{index}", None)
            if isinstance(block, Opaque):
                block = structs.replace(block, raw=self._part(number, index))
            blocks.append(block)
        return blocks

    def _part(self, number: int, index: int) -> Raw:
        if self._contents is None:
            self._contents = _decode_contents(self._raw)
        return _decode_parts(self._contents[number]["content"])[index]

    def _assistant(self, turn: Turn, number: int, path: str) -> tuple[Block, ...]:
        blocks: list[Block] = []
        if turn.thinking_blocks:
            blocks.extend(read_thinking(block) for block in turn.thinking_blocks)
        else:
            thought = turn.reasoning_content or turn.reasoning
            if thought:
                blocks.append(Thinking(text=thought, format=FAMILY))
        blocks.extend(self._content(turn, number, path))
        if turn.refusal:
            blocks.append(Refusal(text=turn.refusal))
        if given(turn.audio):
            spoken = decode(_audio_decoder, turn.audio, f"{path}.audio").id
            blocks.append(Audio(source=Source(kind="file", value=spoken), id=spoken))
        for index, call in enumerate(turn.tool_calls or ()):
            blocks.append(self._call(call, f"{path}.tool_calls.{index}", f"call_{number}_{index}"))
        if turn.function_call is not None and not turn.tool_calls:
            called = Call(function=turn.function_call)
            blocks.append(self._call(called, f"{path}.function_call", f"call_{number}"))
        if given(turn.reasoning_details) and bytes(turn.reasoning_details) != b"[]":
            blocks.append(Opaque(format=FAMILY, kind="reasoning_details", raw=turn.reasoning_details))
        return tuple(blocks)

    def _call(self, call: Call, path: str, made: str) -> ToolCall:
        if call.custom is not None:
            name, arguments = call.custom.name, call.custom.input or ""
        elif call.function is not None:
            name, arguments = call.function.name, argument_text(call.function.arguments)
        else:
            raise missing(f"{path}.function")
        if not name:
            raise missing(f"{path}.{'custom' if call.custom is not None else 'function'}.name")
        found = ToolCall(
            id=call.id or made,
            name=name,
            arguments=arguments if call.custom is not None else arguments or "{}",
            custom=call.custom is not None,
            signature=call_signature(call.extra_content),
        )
        self._names[found.id] = name
        self._unanswered.append((found.id, name))
        return found

    def _tool(self, turn: Turn, number: int, path: str) -> Message:
        if not turn.tool_call_id:
            raise missing(f"{path}.tool_call_id")
        if turn.content is None:
            raise missing(f"{path}.content")
        return self._result(turn, number, path, turn.tool_call_id)

    def _function(self, turn: Turn, number: int, path: str) -> Message:
        if not turn.name:
            raise missing(f"{path}.name")
        waiting = [call for call, name in self._unanswered if name == turn.name]
        return self._result(turn, number, path, waiting[0] if waiting else f"call_{number}")

    def _result(self, turn: Turn, number: int, path: str, call_id: str) -> Message:
        self._unanswered = [waiting for waiting in self._unanswered if waiting[0] != call_id]
        content: list[Text | Image | Document | Opaque] = []
        cache = None
        for index, block in enumerate(self._content(turn, number, path)):
            if not isinstance(block, Text | Image | Document | Opaque):
                where = f"{path}.content.{index}.type"
                raise BadRequest(
                    f"'{where}' cannot stand in a tool's result. Send text, image_url or file parts.",
                    param=where,
                )
            if block.cache is not None:
                # One mark behind the whole result: providers allow only a few.
                cache, block = block.cache, structs.replace(block, cache=None)
            content.append(block)
        result = ToolResult(
            call_id=call_id,
            name=turn.name or self._names.get(call_id),
            content=tuple(content),
            cache=cache,
        )
        return Message(role="user", blocks=(result,))


def argument_text(raw: Raw) -> str:
    """Arguments as JSON text: they come as a string that holds it, or (from some) as the object itself."""
    text = bytes(raw)
    if not text or text == b"null":
        return ""
    return decode_string(text) if text[:1] == b'"' else text.decode()


def call_signature(extra_content: Raw) -> str | None:
    """Google's thought signature of a call, where its OpenAI-compatible endpoint puts it."""
    if not given(extra_content):
        return None
    try:
        google = _decode_extra_content(extra_content).google
    except (msgspec.DecodeError, RecursionError):
        return None
    return google.thought_signature if google is not None else None
