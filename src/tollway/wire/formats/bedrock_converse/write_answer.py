"""A Completion as a whole Converse answer. ``metrics.latencyMs`` is demanded by the shape and not known here: 0."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from tollway.wire.conversation import (
    Block,
    Choice,
    Citation,
    Completion,
    Conversation,
    Finish,
    Image,
    Opaque,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from tollway.wire.formats.bedrock_converse.shapes import (
    FAMILY,
    IMAGE_FORMATS,
    STOP_REASONS,
    TIERS,
    Wire,
    decode_fields,
    encode,
    write_usage,
)


def write_answer(completion: Completion, request: Conversation) -> bytes:
    """Only the first choice has a place in this format."""
    choice = completion.choices[0] if completion.choices else Choice()
    content = [wire for block in choice.blocks if (wire := write_block(block)) is not None]
    fields: Wire = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": stop_reason(choice.finish, choice.stop_sequence),
        "usage": write_usage(completion.usage),
        "metrics": {"latencyMs": 0},
    }
    if choice.stop_sequence:
        fields["additionalModelResponseFields"] = {"stop_sequence": choice.stop_sequence}
    if completion.service_tier in TIERS:
        fields["serviceTier"] = {"type": completion.service_tier}
    return encode(fields)


def stop_reason(finish: Finish, sequence: str | None) -> str:
    return "stop_sequence" if finish == "stop" and sequence is not None else STOP_REASONS[finish]


def write_block(block: Block) -> Wire | Raw | None:
    """None for what this dialect has no place for."""
    if isinstance(block, Text):
        citations = [wire for found in block.citations if (wire := write_citation(found)) is not None]
        if not citations:
            return {"text": block.text}
        return {"citationsContent": {"content": [{"text": block.text}], "citations": citations}}
    if isinstance(block, Refusal):
        return {"text": block.text}
    if isinstance(block, ToolCall):
        return {"toolUse": {"toolUseId": block.id, "name": block.name, "input": tool_input(block)}}
    if isinstance(block, Thinking):
        if block.redacted is not None:
            return {"reasoningContent": {"redactedContent": block.redacted}}
        said: Wire = {"text": block.text}
        if block.signature:
            said["signature"] = block.signature
        return {"reasoningContent": {"reasoningText": said}}
    if isinstance(block, Opaque) and block.format == FAMILY:
        return block.raw
    if isinstance(block, Image) and block.source.kind == "data":
        short = IMAGE_FORMATS.get(block.source.media_type or "")
        return {"image": {"format": short, "source": {"bytes": block.source.value}}} if short else None
    return None


def write_citation(found: Citation) -> Wire | Raw | None:
    """A citation in this format's shape; where it came from another, what the shape can say of it."""
    if found.format == FAMILY and bytes(found.raw):
        return found.raw
    wire: Wire = {}
    if found.title:
        wire["title"] = found.title
    if found.cited:
        wire["sourceContent"] = [{"text": found.cited}]
    if found.url:
        wire["location"] = {"web": {"url": found.url}}
    return wire or None


def tool_input(call: ToolCall) -> Raw:
    """Arguments as JSON. What is no object is still carried: free text as ``input``, broken JSON as a string."""
    if call.custom:
        return Raw(encode({"input": call.arguments}))
    text = (call.arguments or "").strip()
    if not text:
        return Raw(b"{}")
    encoded = text.encode()
    try:
        decode_fields(encoded)
    except (msgspec.DecodeError, RecursionError):
        return Raw(encode(text))
    return Raw(encoded)
