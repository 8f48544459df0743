"""Turns of the hub as the messages of a Chat Completions request, in the order the API demands.

Tool messages stand directly behind the calls they answer, one for each: a call without a result gets one that says
so, a result without a call becomes text. Tool messages take text only, so pictures and files of a result follow in a
user message. System and developer turns are both written as ``system``, which every server knows and OpenAI treats
alike, unless the client itself spoke this format.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tollway.wire.codec import Profile
from tollway.wire.conversation import (
    Audio,
    Block,
    Cache,
    Conversation,
    Document,
    Image,
    Message,
    Opaque,
    Refusal,
    Source,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Video,
)
from tollway.wire.formats.openai_chat.shapes import AUDIO_FORMATS, FAMILY, FILE_TYPES, Wire, decode_fields
from tollway.wire.formats.openai_chat.thinking import thinking_block
from tollway.wire.turns import NO_RESULT, Losses, as_text, media_type, safe_id

MAX_ID = 40
"""The longest tool call id that OpenAI takes."""

_FILE_ENDINGS = {media: ending for ending, media in FILE_TYPES.items()}


def write_turns(conversation: Conversation, profile: Profile, losses: Losses) -> list[Wire]:
    writer = _Writer(conversation, profile, losses)
    for turn in _grouped(conversation.messages):
        writer.turn(turn)
    writer.flush()
    return writer.messages


def _grouped(messages: Iterable[Message]) -> list[tuple[Message, list[Message]]]:
    """Every turn with the turns up to the next assistant's, where the results of its calls are. An assistant's turns
    in a row are one where calls or thoughts stand alone in them, as formats that list single items have it."""
    turns: list[Message] = []
    for message in messages:
        last = turns[-1] if turns else None
        if (
            last is not None
            and last.role == message.role == "assistant"
            and (_has_calls(last) or _has_calls(message) or _only_thought(last))
        ):
            turns[-1] = Message(
                role="assistant", blocks=last.blocks + message.blocks, name=last.name, id=last.id
            )
        else:
            turns.append(message)
    following: list[Message] = []
    grouped = []
    for turn in reversed(turns):
        grouped.append((turn, list(reversed(following))))
        following = [] if turn.role == "assistant" else [*following, turn]
    return grouped[::-1]


def _has_calls(message: Message) -> bool:
    return any(isinstance(block, ToolCall) for block in message.blocks)


def _only_thought(message: Message) -> bool:
    return all(isinstance(block, Thinking | Opaque) for block in message.blocks)


class _Writer:
    __slots__ = ("_attached", "_losses", "_own", "_profile", "_used", "messages")

    def __init__(self, conversation: Conversation, profile: Profile, losses: Losses) -> None:
        self.messages: list[Wire] = []
        self._profile = profile
        self._losses = losses
        self._own = conversation.format == FAMILY
        self._used: set[int] = set()
        self._attached: list[Wire] = []

    def turn(self, grouped: tuple[Message, list[Message]]) -> None:
        message, following = grouped
        if message.role == "assistant":
            self.flush()
            self._assistant(message, following)
        elif message.role == "user":
            self._user(message)
        else:
            self.flush()
            role = message.role if self._own else "system"
            self._add(role, message, self._parts(message.blocks), bool(message.blocks))

    def flush(self) -> None:
        """What results had attached goes out before the next turn that is not the user's."""
        if self._attached:
            self.messages.append({"role": "user", "content": self._attached})
            self._attached = []

    def _add(self, role: str, message: Message, parts: list[Wire], had_blocks: bool) -> None:
        if not parts and had_blocks:
            return
        wire: Wire = {"role": role, "content": _compact(parts)}
        if message.name:
            wire["name"] = message.name
        self.messages.append(wire)

    # -------------------------------------------------------------- users

    def _user(self, message: Message) -> None:
        blocks: list[Block] = []
        for block in message.blocks:
            if not isinstance(block, ToolResult):
                blocks.append(block)
            elif id(block) not in self._used:
                blocks.extend(as_text(block))
                if self._profile.tools:
                    self._losses.hint("messages.tool_result")
        parts = self._parts(blocks)
        if self._attached and (parts or not message.blocks):
            parts = self._attached + parts
            self._attached = []
        self._add("user", message, parts, bool(message.blocks))

    def _parts(self, blocks: Sequence[Block]) -> list[Wire]:
        parts = []
        for block in blocks:
            part = self._part(block)
            if part is not None:
                parts.append(part)
        return parts

    def _part(self, block: Block) -> Wire | None:
        losses = self._losses
        part: Wire | None = None
        if isinstance(block, Text):
            if not block.text:
                return None
            part = {"type": "text", "text": block.text}
        elif isinstance(block, Image):
            part = self._image(block)
        elif isinstance(block, Document):
            part = self._document(block)
        elif isinstance(block, Audio):
            part = self._audio(block)
        elif isinstance(block, Video):
            if block.source.kind != "file":
                part = {"type": "video_url", "video_url": {"url": _address(block.source, "video/mp4")}}
            else:
                losses.meaning("messages.video")
            if bytes(block.metadata):
                losses.hint("messages.video.metadata")
        elif isinstance(block, Opaque):
            if block.format == FAMILY and block.kind != "reasoning_details":
                return dict(decode_fields(block.raw))
            losses.meaning(f"messages.{block.kind}")
        elif isinstance(block, Refusal):
            part = {"type": "text", "text": block.text} if block.text else None
        elif isinstance(block, ToolCall):
            return self._part(as_text(block)[0])
        elif isinstance(block, Thinking):
            losses.hint("messages.thinking")
        if isinstance(block, Text | Image | Document | Audio | Video) and block.cache is not None:
            self._mark(part, block.cache)
        return part

    def _mark(self, part: Wire | None, cache: Cache) -> None:
        if not self._own:
            self._losses.hint("cache_control")
        elif part is not None:
            part["cache_control"] = (
                {"type": "ephemeral"} if cache.ttl == "5m" else {"type": "ephemeral", "ttl": cache.ttl}
            )

    def _image(self, block: Image) -> Wire | None:
        if not self._profile.images or block.source.kind == "file":
            self._losses.meaning("messages.image")
            return None
        url: Wire = {"url": _address(block.source, "image/png")}
        if block.detail:
            url["detail"] = block.detail
        return {"type": "image_url", "image_url": url}

    def _document(self, block: Document) -> Wire | None:
        if block.citations:
            self._losses.hint("messages.document.citations")
        source = block.source
        if source is None:
            head = "\n".join(line for line in (block.title, block.context) if line)
            text = f"{head}\n\n{block.text or ''}" if head else block.text or ""
            return {"type": "text", "text": text} if text else None
        if not self._profile.documents or source.kind == "url":
            self._losses.meaning("messages.document")
            return None
        if block.context:
            self._losses.hint("messages.document.context")
        if source.kind == "file":
            return {"type": "file", "file": {"file_id": source.value}}
        media = media_type(source.media_type, source.value) or "application/pdf"
        name = block.title or f"document.{_FILE_ENDINGS.get(media, 'pdf')}"
        return {
            "type": "file",
            "file": {"filename": name, "file_data": f"data:{media};base64,{source.value}"},
        }

    def _audio(self, block: Audio) -> Wire | None:
        if not self._profile.audio or block.source.kind != "data":
            if block.transcript:
                self._losses.hint("messages.audio")
                return {"type": "text", "text": block.transcript}
            self._losses.meaning("messages.audio")
            return None
        media = (block.source.media_type or "audio/wav").partition(";")[0].strip().lower()
        form = AUDIO_FORMATS.get(media) or media.removeprefix("audio/")
        return {"type": "input_audio", "input_audio": {"data": block.source.value, "format": form}}

    # -------------------------------------------------------------- assistants and their tools

    def _assistant(self, message: Message, following: list[Message]) -> None:
        wire: Wire = {"role": "assistant", "content": None}
        texts: list[Wire] = []
        calls: list[ToolCall] = []
        thoughts: list[str] = []
        signed: list[Wire] = []
        refusals: list[str] = []
        for block in message.blocks:
            if isinstance(block, ToolCall) and self._profile.tools:
                calls.append(block)
            elif isinstance(block, Thinking):
                self._thinking(block, thoughts, signed)
            elif isinstance(block, Refusal):
                refusals.append(block.text)
            elif isinstance(block, Opaque) and block.format == FAMILY and block.kind == "reasoning_details":
                wire["reasoning_details"] = block.raw
            elif isinstance(block, Audio) and block.source.kind == "file":
                wire["audio"] = {"id": block.source.value}
            elif isinstance(block, Audio) and not block.transcript:
                self._losses.meaning("messages.audio")
            elif isinstance(block, Audio):
                self._losses.hint("messages.audio")
                texts.append({"type": "text", "text": block.transcript})
            elif isinstance(block, Image | Video | Document):
                self._losses.meaning(f"messages.{type(block).__name__.lower()}")
            else:
                if isinstance(block, Text) and block.citations:
                    self._losses.hint("messages.citations")
                part = self._part(block)
                if part is not None:
                    texts.append(part)
        if texts:
            plain = all(part.keys() == {"type", "text"} for part in texts)
            wire["content"] = "".join(part["text"] for part in texts) if plain else texts
        elif not message.blocks:
            wire["content"] = ""
        if thoughts:
            wire["reasoning_content"] = "\n\n".join(thoughts)
        if signed:
            wire["thinking_blocks"] = signed
        if refusals:
            wire["refusal"] = "".join(refusals)
        if message.name:
            wire["name"] = message.name
        if calls:
            wire["tool_calls"] = [self._call(call) for call in calls]
        elif wire["content"] is None and not refusals and "audio" not in wire:
            return
        self.messages.append(wire)
        self._results(calls, following)

    def _thinking(self, block: Thinking, thoughts: list[str], signed: list[Wire]) -> None:
        """Only what nobody signed, or what came from this format, is worth anything here."""
        ours = block.format == FAMILY
        proof = block.signature or block.redacted
        if self._profile.thinking == "none" or (proof and not ours) or not (block.text or proof):
            self._losses.hint("messages.thinking")
            return
        if block.text:
            thoughts.append(block.text)
        if proof:
            signed.append(thinking_block(block))

    def _call(self, call: ToolCall) -> Wire:
        wire: Wire = {"id": safe_id(call.id, MAX_ID)}
        if call.custom:
            wire["type"] = "custom"
            wire["custom"] = {"name": call.name, "input": call.arguments}
        else:
            wire["type"] = "function"
            wire["function"] = {
                "name": call.name,
                "arguments": call.arguments if call.arguments.strip() else "{}",
            }
        if call.signature:
            if self._own:
                wire["extra_content"] = {"google": {"thought_signature": call.signature}}
            else:
                self._losses.hint("messages.tool_calls.signature")
        if call.cache is not None:
            self._losses.hint("cache_control")
        return wire

    def _results(self, calls: list[ToolCall], following: list[Message]) -> None:
        results: dict[str, ToolResult] = {}
        for turn in following:
            for block in turn.blocks:
                if isinstance(block, ToolResult):
                    results.setdefault(block.call_id, block)
        for call in calls:
            result = results.pop(call.id, None)
            wire: Wire = {"role": "tool", "tool_call_id": safe_id(call.id, MAX_ID)}
            if result is None:
                self._losses.hint("messages.tool_calls")
                wire["content"] = NO_RESULT
            else:
                self._used.add(id(result))
                wire["content"] = self._result(result)
            self.messages.append(wire)

    def _result(self, result: ToolResult) -> str | list[Wire]:
        if result.error:
            self._losses.hint("messages.tool_result.is_error")
        texts: list[Wire] = []
        attached: list[Wire] = []
        for block in result.content:
            part = self._part(block)
            if part is not None:
                (texts if part.get("type") == "text" else attached).append(part)
        if attached:
            told = f"Attached to the result of {result.name or result.call_id}:"
            self._attached += [{"type": "text", "text": told}, *attached]
            if not texts:
                return "The result is attached to the next message."
        if result.cache is not None:
            if self._own and not texts:
                texts.append({"type": "text", "text": ""})
            self._mark(texts[-1] if texts else None, result.cache)
        return _compact(texts)


def _compact(parts: list[Wire]) -> str | list[Wire]:
    """One plain text is a string: some servers know nothing else."""
    if not parts:
        return ""
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        text: str = parts[0]["text"]
        return text
    return parts


def _address(source: Source, otherwise: str) -> str:
    """A URL, or bytes as a data URL: of the type that was said, that the bytes show, or the usual one."""
    if source.kind != "data":
        return source.value
    return f"data:{media_type(source.media_type, source.value) or otherwise};base64,{source.value}"
