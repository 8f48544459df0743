"""Whole answers of ``/api/chat`` and its errors, both ways. They name no id."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from tollway.errors import GatewayError
from tollway.wire.codec import Unreadable
from tollway.wire.conversation import (
    Block,
    Choice,
    Completion,
    Conversation,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from tollway.wire.decoding import answer, given
from tollway.wire.formats.ollama_chat.shapes import (
    FAMILY,
    Answer,
    Wire,
    encode,
    id_base,
    read_call,
    read_finish,
    read_time,
    read_usage,
    write_call,
    write_reason,
    write_time,
    write_usage,
)

_answer = msgspec.json.Decoder(Answer)
WHAT = "Ollama's answer"


def read_answer(data: bytes) -> Completion:
    wire = answer(_answer, data, WHAT)
    said = wire.message
    if said is None:
        raise Unreadable(f"{WHAT} has no message")
    blocks: list[Block] = []
    if said.thinking:
        blocks.append(Thinking(text=said.thinking, format=FAMILY))
    if said.content:
        blocks.append(Text(text=said.content))
    calls = said.tool_calls or ()
    if calls:
        base = id_base(wire.created_at)
        blocks.extend(read_call(call, f"{base}_{index}") for index, call in enumerate(calls))
    usage, raw = read_usage(wire)
    logprobs = Raw(b'{"content":' + bytes(wire.logprobs) + b"}") if given(wire.logprobs) else Raw()
    choice = Choice(
        blocks=tuple(blocks), finish=read_finish(wire.done_reason, bool(calls)), logprobs=logprobs
    )
    return Completion(
        model=wire.model,
        created=read_time(wire.created_at),
        choices=(choice,),
        usage=usage,
        raw_usage=raw,
    )


def write_answer(completion: Completion, request: Conversation) -> bytes:
    """Only the first choice has a place in this format."""
    choice = completion.choices[0] if completion.choices else Choice()
    text = "".join(block.text for block in choice.blocks if isinstance(block, Text | Refusal))
    message: Wire = {"role": "assistant", "content": text}
    thoughts = "".join(block.text for block in choice.blocks if isinstance(block, Thinking))
    if thoughts:
        message["thinking"] = thoughts
    calls = [write_call(block) for block in choice.blocks if isinstance(block, ToolCall)]
    if calls:
        message["tool_calls"] = calls
    fields: Wire = {
        "model": completion.model or request.model,
        "created_at": write_time(completion.created),
        "message": message,
        "done": True,
        "done_reason": write_reason(choice.finish),
        **write_usage(completion.usage),
    }
    logprobs = content_logprobs(choice.logprobs)
    if given(logprobs):
        fields["logprobs"] = logprobs
    return encode(fields)


_by_name = msgspec.json.Decoder(dict[str, Raw])


def content_logprobs(raw: Raw) -> Raw:
    """The list of tokens in OpenAI's object: the same items as Ollama's."""
    if not given(raw):
        return Raw()
    found: Raw = _by_name.decode(raw).get("content", Raw())
    return found


def write_error(error: GatewayError) -> bytes:
    return encode({"error": error.message, "code": error.error_code, **error.details})
