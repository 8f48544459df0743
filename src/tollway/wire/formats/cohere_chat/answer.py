"""Whole answers of ``/v2/chat`` and its errors, both ways. An answer names no model."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct, structs

from tollway.errors import GatewayError
from tollway.wire.codec import Unreadable
from tollway.wire.conversation import (
    Block,
    Choice,
    Completion,
    Conversation,
    Opaque,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from tollway.wire.decoding import answer, given
from tollway.wire.formats.cohere_chat.read_request import cited_block
from tollway.wire.formats.cohere_chat.shapes import (
    FAMILY,
    PLAN,
    Call,
    Content,
    Logprob,
    Wire,
    WireUsage,
    encode,
    is_plan,
    read_call,
    read_citation,
    read_finish,
    read_logprobs,
    read_usage,
    write_call,
    write_citation,
    write_logprobs,
    write_reason,
    write_usage,
)


class _Message(Struct):
    content: list[Raw] | None = None
    tool_plan: str | None = None
    tool_calls: list[Call] | None = None
    citations: list[Raw] | None = None


class _Answer(Struct):
    message: _Message
    id: str = ""
    finish_reason: str = "COMPLETE"
    usage: Raw = Raw()
    logprobs: list[Logprob] | None = None


_answer = msgspec.json.Decoder(_Answer)
_content = msgspec.json.Decoder(Content)
_usage = msgspec.json.Decoder(WireUsage)

WHAT = "Cohere's answer"


def read_answer(data: bytes) -> Completion:
    wire = answer(_answer, data, WHAT)
    blocks = [read_content(raw) for raw in wire.message.content or ()]
    for raw in wire.message.citations or ():
        try:
            found, citation = read_citation(raw)
        except msgspec.DecodeError:
            raise Unreadable(f"{WHAT} has a citation that does not fit its format") from None
        place = cited_block(blocks, found.content_index, found.type)
        if place is not None:
            block = blocks[place]
            if isinstance(block, Text):
                blocks[place] = structs.replace(block, citations=(*block.citations, citation))
    if wire.message.tool_plan:
        blocks.append(Thinking(text=wire.message.tool_plan, id=PLAN, format=FAMILY))
    blocks.extend(
        read_call(call, made_id(wire.id, index)) for index, call in enumerate(wire.message.tool_calls or ())
    )
    finish, sequence = read_finish(wire.finish_reason)
    usage = answer(_usage, wire.usage, WHAT) if given(wire.usage) else None
    choice = Choice(
        blocks=tuple(blocks),
        finish=finish,
        stop_sequence=sequence,
        logprobs=read_logprobs(wire.logprobs or []),
    )
    return Completion(
        id=wire.id,
        choices=(choice,),
        usage=read_usage(usage) if usage is not None else None,
        raw_usage=wire.usage if usage is not None else Raw(),
    )


def made_id(answer_id: str, index: int) -> str:
    """The id of a call that came without one."""
    return f"call_{answer_id}_{index}"


def read_content(raw: Raw) -> Block:
    item = answer(_content, raw, WHAT)
    if item.type == "text":
        return Text(text=item.text or "")
    if item.type == "thinking":
        return Thinking(text=item.thinking or "", format=FAMILY)
    return Opaque(format=FAMILY, kind=item.type, raw=raw)


def write_answer(completion: Completion, request: Conversation) -> bytes:
    """Only the first choice has a place in this format."""
    choice = completion.choices[0] if completion.choices else Choice()
    content: list[Wire | Raw] = []
    citations: list[Wire | Raw] = []
    message: Wire = {"role": "assistant"}
    calls: list[Wire] = []
    plan = ""
    for block in choice.blocks:
        if isinstance(block, Text | Refusal):
            if isinstance(block, Text):
                citations.extend(write_citation(one, block.text, len(content)) for one in block.citations)
            content.append({"type": "text", "text": block.text})
        elif isinstance(block, Thinking):
            if is_plan(block):
                plan += block.text
            elif block.redacted is None:
                content.append({"type": "thinking", "thinking": block.text})
        elif isinstance(block, Opaque):
            if block.format == FAMILY:
                content.append(block.raw)
        elif isinstance(block, ToolCall):
            calls.append(write_call(block, block.arguments or "{}"))
    if content:
        message["content"] = content
    if plan:
        message["tool_plan"] = plan
    if calls:
        message["tool_calls"] = calls
    if citations:
        message["citations"] = citations
    fields: Wire = {
        "id": completion.id,
        "finish_reason": write_reason(choice.finish, choice.stop_sequence),
        "message": message,
        "usage": write_usage(completion.usage),
    }
    logprobs = write_logprobs(choice.logprobs)
    if logprobs:
        fields["logprobs"] = logprobs
    return encode(fields)


def write_error(error: GatewayError) -> bytes:
    return encode({"message": error.message, "code": error.error_code, **error.details})
