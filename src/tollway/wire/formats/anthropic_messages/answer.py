"""A whole message of the API, read from a provider or written for a client.

Left out of an answer, because the dialect has no place for it: images, video and the sound of audio (its transcript
is text), blocks only another format knows, citations without an address, a text's thought signature, all choices but
the first. Arguments that are no JSON object stand under ``input``, as the free text of a custom tool does.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.wire.codec import Unreadable
from tollway.wire.conversation import (
    Audio,
    Block,
    Choice,
    Citation,
    Completion,
    Conversation,
    Opaque,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from tollway.wire.formats.anthropic_messages.proof import FAMILY, seal, seal_call
from tollway.wire.formats.anthropic_messages.read_blocks import read_block
from tollway.wire.formats.anthropic_messages.reasons import has_calls, read_reason, write_reason
from tollway.wire.formats.anthropic_messages.shapes import AnswerShape
from tollway.wire.formats.anthropic_messages.usage import read_usage, write_usage

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(AnswerShape).decode
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode


def read_answer(body: bytes) -> Completion:
    """Raises Unreadable for anything but a message."""
    try:
        wire = _decode(body)
        blocks = tuple(read_block(raw, f"content.{number}") for number, raw in enumerate(wire.content))
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unreadable(f"the answer is not a message: {error}") from None
    except BadRequest as error:
        raise Unreadable(f"the answer is not a message: {error.message}") from None
    usage, tier = read_usage(wire.usage)
    choice = Choice(blocks=blocks, finish=read_reason(wire.stop_reason), stop_sequence=wire.stop_sequence)
    return Completion(
        id=wire.id,
        model=wire.model,
        choices=(choice,),
        usage=usage,
        raw_usage=wire.usage,
        service_tier=tier,
    )


def write_answer(completion: Completion, request: Conversation) -> bytes:
    """A message. ``request`` says whether the client wants to see thoughts (``thinking.display``)."""
    choice = completion.choices[0] if completion.choices else Choice()
    show = request.reasoning is None or request.reasoning.show is not False
    content: list[object] = []
    for block in choice.blocks:
        content.extend(write_block(block, show))
    message: dict[str, Any] = {
        "id": message_id(completion.id),
        "type": "message",
        "role": "assistant",
        "model": completion.model or request.model,
        "content": content,
        "stop_reason": write_reason(choice.finish, choice.stop_sequence, has_calls(choice.blocks)),
        "stop_sequence": choice.stop_sequence,
        "usage": write_usage(completion.usage, completion.service_tier),
    }
    return _encode(message)


def message_id(given: str) -> str:
    """The answer's id. A provider that gives none leaves a client nothing to tell answers apart by."""
    return given or "msg_0"


def write_block(block: Block, show: bool) -> list[object]:
    """The blocks of an answer that ``block`` becomes: none, one, or a call with its signature in front."""
    if isinstance(block, Text):
        if not block.text:
            return []
        wire: dict[str, Any] = {"type": "text", "text": block.text}
        citations = [found for found in map(write_citation, block.citations) if found is not None]
        if citations:
            wire["citations"] = citations
        return [wire]
    if isinstance(block, ToolCall):
        call = {"type": "tool_use", "id": block.id, "name": block.name, "input": _input(block)}
        if block.signature:
            return [{"type": "redacted_thinking", "data": seal_call(block.id, block.signature)}, call]
        return [call]
    if isinstance(block, Thinking):
        thought = write_thought(block, show)
        return [] if thought is None else [thought]
    if isinstance(block, Refusal):
        return [{"type": "text", "text": block.text}] if block.text else []
    if isinstance(block, Opaque) and block.format == FAMILY:
        return [block.raw]
    if isinstance(block, Audio) and block.transcript:
        return [{"type": "text", "text": block.transcript}]
    return []


def write_thought(block: Thinking, show: bool) -> dict[str, str] | None:
    """A thinking block; a redacted one where there is no text but something to give back; None for nothing."""
    if block.format == FAMILY:
        if block.redacted is not None:
            return {"type": "redacted_thinking", "data": block.redacted}
        proof = block.signature or ""
    else:
        proof = seal(block)
        if not block.text and proof:
            return {"type": "redacted_thinking", "data": proof}
    if not block.text and not proof:
        return None
    return {"type": "thinking", "thinking": block.text if show else "", "signature": proof}


def write_citation(citation: Citation) -> object | None:
    """The API's own citation as it wrote it; another's as a web search result's, if it has an address. The index is
    left empty: it is proof that only the API can make."""
    if citation.format == FAMILY and len(bytes(citation.raw)) > 1:
        return citation.raw
    if citation.url is None:
        return None
    return {
        "type": "web_search_result_location",
        "url": citation.url,
        "title": citation.title,
        "cited_text": citation.cited or "",
        "encrypted_index": "",
    }


def _input(block: ToolCall) -> object:
    if not block.custom:
        if not block.arguments.strip():
            return {}
        value = block.arguments.encode(errors="replace")
        try:
            _decode_object(value)
        except (msgspec.DecodeError, RecursionError):
            return {"input": block.arguments}
        return Raw(value)
    return {"input": block.arguments}
