"""The turns of a conversation as the API takes them: alternating, every call answered in the next turn, nothing empty.

What agents send and the API refuses is mended here. Turns of a role are joined. Results come first in the turn behind
their calls, in the calls' order; a call without one is answered by an error that says so (a last turn of unanswered
calls is a BadRequest); a result without a call, or the second one for it, stands as ordinary content. Blank text is
left out, and a cache marker on it moves to the block before. Call ids outside the API's alphabet, and ids that come
back in a later turn, get others, the same for call and result. The last assistant turn loses white space at its end.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.wire.codec import Profile
from tollway.wire.conversation import (
    Audio,
    Block,
    Cache,
    Citation,
    Conversation,
    Document,
    Image,
    Opaque,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Video,
)
from tollway.wire.formats.anthropic_messages.attachments import write_document, write_image
from tollway.wire.formats.anthropic_messages.lost import Lost, lose
from tollway.wire.formats.anthropic_messages.proof import FAMILY
from tollway.wire.formats.anthropic_messages.write_tools import TOOL_NAME, cache_control

Wire = dict[str, Any]

UNANSWERED = "No result was given for this call."

_CALL_ID = re.compile(r"[a-zA-Z0-9_-]+")
_NOT_IN_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode


class Turn:
    """One turn being made. An assistant's ``calls`` are pairs of the id as sent and the id as written, ``results`` of a
    user's map written ids to blocks."""

    __slots__ = ("blocks", "calls", "number", "results", "role")

    def __init__(self, role: str, number: int) -> None:
        self.role = role
        self.number = number
        self.blocks: list[object] = []
        self.calls: list[tuple[str, str]] = []
        self.results: dict[str, Wire] = {}


class Turns:
    """``system`` and ``messages`` of a conversation, made once; ``lost`` is added to."""

    def __init__(self, conversation: Conversation, profile: Profile, lost: Lost) -> None:
        self._profile = profile
        self._lost = lost
        self._turns: list[Turn] = []
        self._ids: set[str] = set()
        self._called: dict[str, None] = {}
        self.system: list[object] = []
        last = len(conversation.messages) - 1
        for number, message in enumerate(conversation.messages):
            if message.name is not None:
                lose(lost, "messages.name")
            if message.role in ("system", "developer"):
                follows = conversation.messages[number + 1].role if number < last else "assistant"
                self._add_system(message.blocks, number, in_place=follows == "assistant")
            else:
                self._add(message.role, message.blocks, number)
        self._settle()

    @property
    def called(self) -> list[str]:
        """Names of the tools that the turns call."""
        return list(self._called)

    @property
    def unproven(self) -> bool:
        """Whether the assistant turn to go on with (the last, or the one whose results come last) begins with
        anything but thinking."""
        turns = self._turns
        if not turns:
            return False
        if turns[-1].role != "assistant":
            if len(turns) < 2 or not turns[-1].results:
                return False
            turns = turns[:-1]
        first = turns[-1].blocks[0]
        return not (isinstance(first, dict) and first["type"] in ("thinking", "redacted_thinking"))

    def messages(self) -> list[Wire]:
        return [{"role": turn.role, "content": _short(turn.blocks)} for turn in self._turns]

    # -------------------------------------------------------------- turns

    def _add_system(self, blocks: tuple[Block, ...], number: int, *, in_place: bool) -> None:
        """To the front, or in its place where the model takes system turns and the API's rule lets it stand there:
        behind a user's turn and before an assistant's."""
        made: list[object] = []
        for block in blocks:
            if isinstance(block, Text | Refusal):
                self._add_text(made, block, number)
            elif isinstance(block, Opaque) and block.format == FAMILY:
                made.append(block.raw)
            else:
                lose(self._lost, f"system.{_kind(block)}", "meaning")
        placed = in_place and self._profile.system_turns and self._turns and self._turns[-1].role == "user"
        if placed and made:
            turn = Turn("system", number)
            turn.blocks = made
            self._turns.append(turn)
        else:
            if made and self._turns:
                lose(self._lost, "messages.system")  # it is said, but no longer in its place
            self.system.extend(made)

    def _add(self, role: str, blocks: tuple[Block, ...], number: int) -> None:
        turns = self._turns
        turn = turns[-1] if turns and turns[-1].role == role else Turn(role, number)
        for block in blocks:
            if role == "user":
                self._add_user_block(turn, block, number)
            else:
                self._add_assistant_block(turn, block, number)
        if (turn.blocks or turn.results) and (not turns or turns[-1] is not turn):
            turns.append(turn)

    def _add_user_block(self, turn: Turn, block: Block, number: int) -> None:
        if not isinstance(block, ToolResult):
            self._add_content(turn.blocks, block, number)
            return
        before = self._before(turn)
        calls = before.calls if before is not None else []
        call_id = next(
            (written for sent, written in calls if sent == block.call_id and written not in turn.results),
            None,
        )
        content: list[object] = []
        for part in block.content:
            self._add_content(content, part, number)
        if call_id is None:
            turn.blocks.extend(content)
            lose(self._lost, "messages.tool_result")
            return
        wire: Wire = {"type": "tool_result", "tool_use_id": call_id}
        if content:
            wire["content"] = _short(content)
        if block.error:
            wire["is_error"] = True
        if block.cache is not None:
            wire["cache_control"] = cache_control(block.cache)
        turn.results[call_id] = wire

    def _before(self, turn: Turn) -> Turn | None:
        """The assistant turn that a user turn answers."""
        turns = self._turns
        if turns and turns[-1] is turn:
            turns = turns[:-1]
        return turns[-1] if turns and turns[-1].role == "assistant" else None

    def _settle(self) -> None:
        """Results in front, calls answered, the end trimmed."""
        turns = self._turns
        for place, turn in enumerate(turns):
            if turn.calls:
                after = turns[place + 1] if place + 1 < len(turns) else None
                if after is None or after.role != "user":
                    names = ", ".join(sent for sent, _ in turn.calls[:3])
                    raise BadRequest(
                        f"'messages.{turn.number}' ends the conversation with tool calls ({names}). Give their "
                        "results in the next message.",
                        param=f"messages.{turn.number}",
                    )
                for _, call_id in turn.calls:
                    after.results.setdefault(call_id, _unanswered(call_id))
                after.blocks[:0] = [after.results[call_id] for _, call_id in turn.calls]
        if turns and turns[-1].role == "assistant":
            last = turns[-1].blocks[-1]
            if isinstance(last, dict) and last["type"] == "text":
                last["text"] = last["text"].rstrip()

    # -------------------------------------------------------------- blocks

    def _add_text(self, made: list[object], block: Text | Refusal, number: int) -> None:
        cache = block.cache if isinstance(block, Text) else None
        if not block.text or block.text.isspace():
            if cache is not None and not _move_cache(made, cache):
                lose(self._lost, "messages.cache_control")
            return
        wire: Wire = {"type": "text", "text": block.text}
        if isinstance(block, Text) and block.citations:
            citations = [found.raw for found in block.citations if _is_own(found)]
            if len(citations) < len(block.citations):
                lose(self._lost, "messages.citations")
            if citations:
                wire["citations"] = citations
        if cache is not None:
            wire["cache_control"] = cache_control(cache)
        made.append(wire)

    def _add_content(self, made: list[object], block: Block, number: int) -> None:
        """A block of a user turn or of a tool's result."""
        wire: Wire | None = None
        if isinstance(block, Text | Refusal):
            self._add_text(made, block, number)
            return
        if isinstance(block, Opaque):
            if block.format == FAMILY:
                made.append(block.raw)
                return
        elif isinstance(block, Image):
            wire = write_image(block) if self._profile.images else None
        elif isinstance(block, Document):
            wire = write_document(block) if self._profile.documents else None
        if wire is None:
            lose(self._lost, f"messages.{_kind(block)}", "meaning")
            return
        if isinstance(block, Image | Document) and block.cache is not None:
            wire["cache_control"] = cache_control(block.cache)
        made.append(wire)

    def _add_assistant_block(self, turn: Turn, block: Block, number: int) -> None:
        if isinstance(block, Text | Refusal):
            self._add_text(turn.blocks, block, number)
        elif isinstance(block, ToolCall):
            self._add_call(turn, block, number)
        elif isinstance(block, Thinking):
            if block.format == FAMILY and block.redacted is not None:
                turn.blocks.append({"type": "redacted_thinking", "data": block.redacted})
            elif block.format == FAMILY and block.signature:
                turn.blocks.append({"type": "thinking", "thinking": block.text, "signature": block.signature})
            else:
                lose(self._lost, "messages.thinking")
        elif isinstance(block, Opaque) and block.format == FAMILY:
            turn.blocks.append(block.raw)
        elif isinstance(block, Audio) and block.transcript:
            self._add_text(turn.blocks, Text(text=block.transcript), number)
            lose(self._lost, "messages.audio")
        else:
            lose(self._lost, f"messages.{_kind(block)}", "meaning")

    def _add_call(self, turn: Turn, block: ToolCall, number: int) -> None:
        name = block.name
        if not TOOL_NAME.fullmatch(name):
            # A name the model made up, in the past: nobody will be called by it.
            name = _NOT_IN_NAME.sub("_", name)[:128] or "_"
        call_id = block.id
        if not _CALL_ID.fullmatch(call_id):
            call_id = "call_" + hashlib.sha256(call_id.encode(errors="replace")).hexdigest()[:24]
        if call_id in self._ids:
            again = 2
            while f"{call_id}_{again}" in self._ids:
                again += 1
            call_id = f"{call_id}_{again}"
        self._ids.add(call_id)
        self._called[name] = None
        turn.calls.append((block.id, call_id))
        wire: Wire = {"type": "tool_use", "id": call_id, "name": name, "input": _input(block, number)}
        if block.cache is not None:
            wire["cache_control"] = cache_control(block.cache)
        turn.blocks.append(wire)


def _input(block: ToolCall, number: int) -> object:
    if block.custom:
        return {"input": block.arguments}
    text = block.arguments.strip()
    if text in ("", "{}", "null"):
        return {}
    value = text.encode(errors="replace")
    try:
        _decode_object(value)
    except (msgspec.DecodeError, RecursionError):
        param = f"messages.{number}"
        raise BadRequest(
            f"'{param}': the arguments of the call {block.id!r} to {block.name!r} are no JSON object. "
            "Send them as the model wrote them, or leave the call out.",
            param=param,
        ) from None
    return Raw(value)


def _unanswered(call_id: str) -> Wire:
    return {"type": "tool_result", "tool_use_id": call_id, "content": UNANSWERED, "is_error": True}


def _short(blocks: list[object]) -> object:
    """Content as a plain string where it is one text and nothing else."""
    if len(blocks) == 1:
        only = blocks[0]
        if isinstance(only, dict) and len(only) == 2 and only["type"] == "text":
            return only["text"]
    return blocks


def _move_cache(made: list[object], cache: Cache) -> bool:
    last = made[-1] if made else None
    if not isinstance(last, dict) or last["type"] in ("thinking", "redacted_thinking"):
        return False
    last.setdefault("cache_control", cache_control(cache))
    return True


def _is_own(citation: Citation) -> bool:
    """Whether the API will know the citation again: it wrote it. Those we made for clients have an empty index."""
    return citation.format == FAMILY and b'"encrypted_index":""' not in bytes(citation.raw)


def _kind(block: Block) -> str:
    if isinstance(block, Opaque):
        return block.kind
    return {Image: "image", Audio: "audio", Video: "video", Document: "document"}.get(
        type(block), type(block).__name__.lower()
    )
