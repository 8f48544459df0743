"""A whole answer written as GenerateContentResponse.

Left out: thoughts the client did not ask for (``includeThoughts``), as Gemini itself does; another family's opaque
blocks; a transcript beside audio; when the answer was made; the cost, for which there is no field. A tool call whose
arguments are no JSON object is told as Gemini tells it: finish reason MALFORMED_FUNCTION_CALL, the call in its message.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from tollway.wire.conversation import (
    Audio,
    Block,
    Choice,
    Completion,
    Conversation,
    Document,
    Image,
    Opaque,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    Video,
)
from tollway.wire.formats.gemini_generate import parts
from tollway.wire.formats.gemini_generate.grounding import write_grounding
from tollway.wire.formats.gemini_generate.logprobs import write_logprobs
from tollway.wire.formats.gemini_generate.shapes import FAMILY, FINISH_REASONS, METADATA_FIELDS
from tollway.wire.formats.gemini_generate.signatures import seal
from tollway.wire.formats.gemini_generate.usage import write_usage

Object = dict[str, object]
Part = Object | Raw

_encode = msgspec.json.Encoder().encode
_object = msgspec.json.Decoder(dict[str, Raw]).decode
MALFORMED = "MALFORMED_FUNCTION_CALL"


def wants_thoughts(conversation: Conversation) -> bool:
    return conversation.reasoning is not None and conversation.reasoning.show is True


def write_answer(completion: Completion, conversation: Conversation) -> bytes:
    """The JSON body of the answer to ``conversation``."""
    show = wants_thoughts(conversation)
    told: Object = {
        "candidates": [_candidate(number, choice, show) for number, choice in enumerate(completion.choices)]
    }
    if completion.usage is not None:
        told["usageMetadata"] = write_usage(completion.usage)
    if completion.model:
        told["modelVersion"] = completion.model
    if completion.id:
        told["responseId"] = completion.id
    return _encode(told)


def _candidate(number: int, choice: Choice, show: bool) -> Object:
    said: list[Part] = []
    cited = []
    told: Object = {}
    malformed = ""
    for block in choice.blocks:
        if isinstance(block, Opaque) and block.format == FAMILY and block.kind in METADATA_FIELDS:
            told[block.kind] = block.raw
        elif isinstance(block, ToolCall):
            part = call_part(block)
            if part is None:
                malformed = malformed_call(block)
            else:
                said.append(part)
        else:
            written_part = write_part(block, show)
            if isinstance(block, Text) and block.citations:
                cited.append((len(said), block.text, block.citations))
            if written_part is not None:
                said.append(written_part)
    content: Object = {"parts": said, "role": "model"} if said else {"role": "model"}
    written: Object = {"content": content, **ending(choice.finish, malformed), "index": number}
    if cited and not told.keys() & METADATA_FIELDS - {"urlContextMetadata"}:
        grounding = write_grounding(cited)
        if grounding:
            written["groundingMetadata"] = grounding
    written.update(told)
    likely = write_logprobs(choice.logprobs)
    if likely:
        written["logprobsResult"] = likely
    return written


def ending(finish: str, malformed: str) -> Object:
    """``finishReason``, and a message where a call could not be told."""
    if malformed:
        return {"finishReason": MALFORMED, "finishMessage": malformed}
    return {"finishReason": FINISH_REASONS[finish]}  # type: ignore[index]


def write_part(block: Block, show: bool) -> Part | None:
    """The part for a block that is no tool call; None for what is left out."""
    if isinstance(block, Text):
        if block.signature:
            return {"text": block.text, "thoughtSignature": block.signature}
        return {"text": block.text} if block.text else None
    if isinstance(block, Thinking):
        return thought_part(block, block.text) if show else None
    if isinstance(block, Refusal):
        return {"text": block.text} if block.text else None
    if isinstance(block, Opaque):
        return block.raw if block.format == FAMILY else None
    if isinstance(block, Document) and block.source is None:
        return {"text": block.text} if block.text else None
    if isinstance(block, Image | Audio | Video | Document) and block.source is not None:
        if isinstance(block, Audio) and not block.source.value:
            return None
        part = parts.media(block.source)
        if part is not None and isinstance(block, Image) and block.signature:
            part["thoughtSignature"] = block.signature
        return part
    return None


def thought_part(block: Thinking, text: str) -> Object | None:
    if not text and block.signature is None and block.redacted is None and block.id is None:
        return None
    signature = seal(block)
    told: Object = {"text": text, "thought": True}
    if signature:
        told["thoughtSignature"] = signature
    return told


def call_part(block: ToolCall) -> Object | None:
    """The function call; None when its arguments are no JSON object."""
    arguments: object
    if block.custom:
        arguments = {"input": block.arguments}
    elif not block.arguments.strip():
        arguments = {}
    else:
        raw = Raw(block.arguments.encode())
        try:
            _object(raw)
        except (msgspec.DecodeError, RecursionError):
            return None
        arguments = raw
    told: Object = {"functionCall": {"id": block.id, "name": block.name, "args": arguments}}
    if block.signature:
        told["thoughtSignature"] = block.signature
    return told


def malformed_call(block: ToolCall) -> str:
    return f"Malformed function call: {block.name}({block.arguments})"
