"""A provider's whole Chat Completions answer into the hub.

Blocks stand in the order in which streams usually say them: thoughts, text, refusal, audio, pictures, calls, and
``reasoning_details`` behind all.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from tollway.wire.codec import Unreadable
from tollway.wire.conversation import (
    Audio,
    Block,
    Choice,
    Completion,
    Refusal,
    Source,
    Text,
    Thinking,
    ToolCall,
)
from tollway.wire.decoding import answer as decode_answer
from tollway.wire.decoding import given
from tollway.wire.formats.openai_chat.read_turns import argument_text, call_signature
from tollway.wire.formats.openai_chat.said import (
    citation,
    detail_thought,
    details_block,
    finish,
    image,
    made_id,
    metered,
    parts,
    stopped_at,
    thought,
)
from tollway.wire.formats.openai_chat.shapes import FAMILY, Answer, AnswerChoice, Call, Said
from tollway.wire.formats.openai_chunks import seconds

_decoder = msgspec.json.Decoder(Answer)


def read_answer(body: bytes) -> Completion:
    found = decode_answer(_decoder, body, "The provider's answer")
    if given(found.error):
        raise Unreadable("The provider's answer is an error object with a good status")
    if found.choices is None:
        raise Unreadable("The provider's answer has no choices")
    answer_id = "" if found.id is None else str(found.id)
    choices = [_choice(choice, number, answer_id) for number, choice in enumerate(found.choices)]
    return Completion(
        id=answer_id,
        model=found.model or "",
        created=seconds(found.created),
        choices=tuple(choices),
        usage=metered(found.usage),
        raw_usage=found.usage if given(found.usage) else Raw(),
        service_tier=found.service_tier,
    )


def _choice(choice: AnswerChoice, number: int, answer_id: str) -> Choice:
    said = choice.message or choice.delta or Said()
    blocks = _blocks(said, answer_id, number)
    return Choice(
        blocks=tuple(blocks),
        finish=finish(
            choice.finish_reason,
            called=any(isinstance(block, ToolCall) for block in blocks),
            refused=any(isinstance(block, Refusal) for block in blocks),
        ),
        stop_sequence=stopped_at(choice),
        logprobs=choice.logprobs if given(choice.logprobs) else Raw(),
    )


def _blocks(said: Said, answer_id: str, number: int) -> list[Block]:
    blocks: list[Block] = []
    words = thought(said)
    if not words and said.reasoning_details:
        words = detail_thought(said.reasoning_details)
    if said.thinking_blocks:
        alone = len(said.thinking_blocks) == 1
        blocks.extend(
            Thinking(
                text=(words if alone else "") or proof.thinking or "",
                signature=proof.signature or None,
                redacted=proof.data or None,
                format=FAMILY,
            )
            for proof in said.thinking_blocks
        )
    elif words:
        blocks.append(Thinking(text=words, format=FAMILY))
    cited = tuple(citation(raw) for raw in said.annotations or ())
    if isinstance(said.content, str):
        if said.content or cited:
            blocks.append(Text(text=said.content, citations=cited))
    elif said.content:
        blocks.extend(parts(said.content))
    elif cited:
        blocks.append(Text(citations=cited))
    if said.refusal:
        blocks.append(Refusal(text=said.refusal))
    if said.audio is not None:
        spoken = said.audio
        blocks.append(
            Audio(
                source=Source(kind="data", value=spoken.data or ""),
                id=spoken.id,
                transcript=spoken.transcript,
            )
        )
    blocks.extend(found for entry in said.images or () if (found := image(entry)) is not None)
    calls = said.tool_calls or []
    if not calls and said.function_call is not None and said.function_call.name:
        calls = [Call(function=said.function_call)]
    used: set[str] = set()
    for place, call in enumerate(calls):
        block = _call(call, made_id(answer_id, number, place))
        if block.id in used:
            block = msgspec.structs.replace(block, id=f"{block.id}_{place}")
        used.add(block.id)
        blocks.append(block)
    if said.reasoning_details:
        blocks.append(details_block(said.reasoning_details))
    return blocks


def _call(call: Call, made: str) -> ToolCall:
    if call.custom is not None:
        return ToolCall(
            id=call.id or made,
            name=call.custom.name or "",
            arguments=call.custom.input or "",
            custom=True,
            signature=call_signature(call.extra_content),
        )
    function = call.function
    return ToolCall(
        id=call.id or made,
        name=function.name or "" if function is not None else "",
        arguments=(argument_text(function.arguments).strip() if function is not None else "") or "{}",
        signature=call_signature(call.extra_content),
    )
