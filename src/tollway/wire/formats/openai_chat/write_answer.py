"""An answer of the hub as a whole Chat Completions answer. What has no place in it is listed in the package's text."""

from __future__ import annotations

from msgspec import Raw

from tollway.wire.conversation import (
    Audio,
    Choice,
    Citation,
    Completion,
    Conversation,
    Finish,
    Image,
    Opaque,
    Refusal,
    Source,
    Text,
    Thinking,
    ToolCall,
)
from tollway.wire.formats.openai_chat.shapes import FAMILY, FINISH_WRITTEN, Wire, encode
from tollway.wire.formats.openai_chat.thinking import thinking_block
from tollway.wire.formats.openai_chat.usage import write_usage
from tollway.wire.turns import media_type


def write_answer(completion: Completion, conversation: Conversation) -> bytes:
    wire: Wire = {
        "id": completion.id,
        "object": "chat.completion",
        "created": completion.created,
        "model": completion.model,
        "choices": [
            _choice(choice, number, conversation.functions)
            for number, choice in enumerate(completion.choices)
        ],
    }
    if completion.service_tier:
        wire["service_tier"] = completion.service_tier
    if completion.usage is not None:
        wire["usage"] = write_usage(completion.usage, completion.cost)
    return encode(wire)


def _choice(choice: Choice, number: int, functions: bool) -> Wire:
    message, refused = _message(choice, functions)
    return {
        "index": number,
        "message": message,
        "logprobs": choice.logprobs if bytes(choice.logprobs) else None,
        "finish_reason": finish_reason(choice.finish, refused, "function_call" in message),
    }


def finish_reason(finish: Finish, refused: bool, function: bool) -> str:
    """``refused``: the refusal is said in words; ``function``: the call is told in the older way."""
    if finish == "refusal" and refused:
        return "stop"
    if finish == "tool_calls" and function:
        return "function_call"
    return FINISH_WRITTEN[finish]


def _message(choice: Choice, functions: bool) -> tuple[Wire, bool]:
    texts: list[str] = []
    length = 0
    annotations: list[object] = []
    refusals: list[str] = []
    thoughts: list[Thinking] = []
    calls: list[ToolCall] = []
    images: list[Wire] = []
    message: Wire = {"role": "assistant", "content": None, "refusal": None}
    for block in choice.blocks:
        if isinstance(block, Text):
            annotations.extend(
                found
                for cited in block.citations
                if (found := annotation(cited, length, len(block.text))) is not None
            )
            texts.append(block.text)
            length += len(block.text)
        elif isinstance(block, ToolCall):
            calls.append(block)
        elif isinstance(block, Thinking):
            thoughts.append(block)
        elif isinstance(block, Refusal):
            refusals.append(block.text)
        elif isinstance(block, Audio):
            message["audio"] = audio(block)
        elif isinstance(block, Image):
            images.append(image(block, len(images)))
        elif isinstance(block, Opaque) and block.format == FAMILY and block.kind == "reasoning_details":
            message["reasoning_details"] = block.raw
    if texts:
        message["content"] = "".join(texts)
    elif not (calls or refusals or "audio" in message):
        message["content"] = ""
    if refusals:
        message["refusal"] = "".join(refusals)
    words = "".join(thought.text for thought in thoughts)
    if words:
        message["reasoning_content"] = words
    if any(thought.signature or thought.redacted for thought in thoughts):
        message["thinking_blocks"] = [thinking_block(thought) for thought in thoughts]
    if annotations:
        message["annotations"] = annotations
    if images:
        message["images"] = images
    if calls and functions and not calls[0].custom:
        message["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments}
        calls = calls[1:]
    if calls:
        message["tool_calls"] = [call(made) for made in calls]
    return message, bool(refusals)


def call(made: ToolCall) -> Wire:
    wire: Wire = {"id": made.id}
    if made.custom:
        wire["type"] = "custom"
        wire["custom"] = {"name": made.name, "input": made.arguments}
    else:
        wire["type"] = "function"
        wire["function"] = {"name": made.name, "arguments": made.arguments}
    if made.signature:
        wire["extra_content"] = extra_content(made.signature)
    return wire


def extra_content(signature: str) -> Wire:
    """Where Google's own OpenAI-compatible endpoint puts a thought signature, and expects it back."""
    return {"google": {"thought_signature": signature}}


def annotation(cited: Citation, before: int, length: int) -> Wire | Raw | None:
    """A URL citation with its place in the message: ``before`` characters stand in front of the block, which is
    ``length`` long. None for what rests on no URL, save this format's own kinds."""
    if cited.format == FAMILY and bytes(cited.raw) and (not before or cited.url is None):
        return cited.raw
    if not cited.url:
        return None
    found: Wire = {
        "start_index": before + (cited.start or 0),
        "end_index": before + (cited.end if cited.end is not None else length),
        "title": cited.title or "",
        "url": cited.url,
    }
    if cited.cited:
        found["content"] = cited.cited
    return {"type": "url_citation", "url_citation": found}


def audio(block: Audio) -> Wire:
    """``expires_at`` is demanded; 0 says that nothing is kept to refer to later."""
    data = block.source.value if block.source.kind == "data" else ""
    return {"id": block.id or "", "data": data, "expires_at": 0, "transcript": block.transcript or ""}


def image(block: Image, number: int) -> Wire:
    """De facto: an entry of ``images``."""
    return {"type": "image_url", "index": number, "image_url": {"url": _url(block.source)}}


def _url(source: Source) -> str:
    if source.kind != "data":
        return source.value
    return f"data:{media_type(source.media_type, source.value) or 'image/png'};base64,{source.value}"
