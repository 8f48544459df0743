"""A whole answer told as a stream: for a client that asked for one, of a provider that does not stream."""

from __future__ import annotations

from msgspec.structs import replace

from tollway.wire.conversation import (
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    Completion,
    End,
    Finished,
    Metered,
    Refusal,
    Start,
    StreamEvent,
    Text,
    Thinking,
    ToolCall,
)


def unfold(completion: Completion) -> list[StreamEvent]:
    """Every block in one delta."""
    events: list[StreamEvent] = [
        Start(
            id=completion.id,
            model=completion.model,
            created=completion.created,
            service_tier=completion.service_tier,
        )
    ]
    for number, choice in enumerate(completion.choices):
        for index, block in enumerate(choice.blocks):
            deltas: list[BlockDelta] = []
            first: Block
            if isinstance(block, Text):
                first = replace(block, text="", citations=())
                deltas.append(
                    BlockDelta(index=index, choice=number, text=block.text, logprobs=choice.logprobs)
                )
                deltas += [BlockDelta(index=index, choice=number, citation=one) for one in block.citations]
            elif isinstance(block, Refusal):
                first = replace(block, text="")
                deltas.append(BlockDelta(index=index, choice=number, text=block.text))
            elif isinstance(block, Thinking):
                first = replace(block, text="", signature=None)
                if block.text:
                    deltas.append(BlockDelta(index=index, choice=number, text=block.text))
                if block.signature is not None:
                    deltas.append(BlockDelta(index=index, choice=number, signature=block.signature))
            elif isinstance(block, ToolCall):
                first = replace(block, arguments="")
                deltas.append(BlockDelta(index=index, choice=number, arguments=block.arguments))
            else:
                first = block
            events.append(BlockStart(index=index, block=first, choice=number))
            events += deltas
            events.append(BlockStop(index=index, choice=number))
        events.append(Finished(finish=choice.finish, stop_sequence=choice.stop_sequence, choice=number))
    if completion.usage is not None:
        events.append(
            Metered(usage=completion.usage, raw=completion.raw_usage, service_tier=completion.service_tier)
        )
    events.append(End())
    return events
