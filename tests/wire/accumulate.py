"""Folds a stream's events into the answer they tell, and insists on the grammar of the hub while doing so.

Tests of every codec use it: a stream and its whole form must give the same answer.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

import msgspec
from msgspec import Raw, structs

from tollway.wire.conversation import (
    Audio,
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    Choice,
    Completion,
    End,
    Failed,
    Finished,
    Metered,
    Ping,
    Refusal,
    Start,
    StreamEvent,
    Text,
    Thinking,
    ToolCall,
)


class Broken(Exception):
    """The stream ended with ``failed``; ``so_far`` is what had been said, with finish ``error`` where none came."""

    def __init__(self, failed: Failed, so_far: Completion) -> None:
        super().__init__(failed.message)
        self.failed = failed
        self.so_far = so_far


def accumulate(events: Iterable[StreamEvent]) -> Completion:
    """The answer that ``events`` tell. AssertionError names a breach of the grammar; Broken when the stream failed.

    A tool call without arguments gets ``{}``; ``usage`` is the last ``Metered`` (else what ``Start`` said).
    """
    start: Start | None = None
    metered: Metered | None = None
    failed: Failed | None = None
    ended = False
    blocks: dict[tuple[int, int], Block] = {}
    logprobs: dict[int, dict[str, list[Raw]]] = {}
    open_blocks: set[tuple[int, int]] = set()
    finished: dict[int, Finished] = {}

    for event in events:
        assert not ended, f"{event!r} after the end"
        assert failed is None, f"{event!r} after the failure"
        if isinstance(event, Ping):
            continue
        if isinstance(event, Start):
            assert start is None, "a second Start"
            start = event
            continue
        assert start is not None or isinstance(event, Failed), f"{event!r} before Start"
        if isinstance(event, BlockStart):
            place = (event.choice, event.index)
            assert event.choice not in finished, f"{event!r} in a finished choice"
            assert place not in blocks, f"block {place} opened twice"
            counted = sum(1 for choice, _ in blocks if choice == event.choice)
            assert event.index == counted, f"block {place} opened after {counted} others"
            blocks[place] = event.block
            open_blocks.add(place)
        elif isinstance(event, BlockDelta):
            place = (event.choice, event.index)
            assert place in open_blocks, f"{event!r} for a block that is not open"
            blocks[place] = _grown(blocks[place], event)
            if bytes(event.logprobs) not in (b"", b"null"):
                found = msgspec.json.decode(event.logprobs, type=dict[str, list[Raw] | None])
                for name, items in found.items():
                    logprobs.setdefault(event.choice, {}).setdefault(name, []).extend(items or [])
        elif isinstance(event, BlockStop):
            place = (event.choice, event.index)
            assert place in open_blocks, f"{event!r} for a block that is not open"
            open_blocks.discard(place)
            block = blocks[place]
            if isinstance(block, ToolCall) and not block.arguments and not block.custom:
                blocks[place] = structs.replace(block, arguments="{}")
        elif isinstance(event, Finished):
            assert event.choice not in finished, f"choice {event.choice} finished twice"
            still = [place for place in open_blocks if place[0] == event.choice]
            assert not still, f"choice {event.choice} finished with open blocks {still}"
            finished[event.choice] = event
        elif isinstance(event, Metered):
            metered = event
        elif isinstance(event, Failed):
            failed = event
        elif isinstance(event, End):
            assert not open_blocks, f"ended with open blocks {open_blocks}"
            ended = True

    numbers = sorted(finished.keys() | {choice for choice, _ in blocks})
    choices = []
    for number in numbers:
        end = finished.get(number)
        assert end is not None or failed is not None, f"choice {number} never finished"
        said = logprobs.get(number)
        choices.append(
            Choice(
                blocks=tuple(blocks[place] for place in sorted(blocks) if place[0] == number),
                finish=end.finish if end else "error",
                stop_sequence=end.stop_sequence if end else None,
                logprobs=Raw(msgspec.json.encode(said)) if said else Raw(),
            )
        )
    start = start or Start()
    answer = Completion(
        id=start.id,
        model=start.model,
        created=start.created,
        choices=tuple(choices),
        usage=metered.usage if metered else start.usage,
        raw_usage=metered.raw if metered else Raw(),
        service_tier=(metered.service_tier if metered else None) or start.service_tier,
        cost=metered.cost if metered else None,
    )
    if failed is not None:
        raise Broken(failed, answer)
    assert ended, "the stream has no End"
    return answer


def _grown(block: Block, delta: BlockDelta) -> Block:
    fields = ("text", "arguments", "signature", "redacted", "citation", "audio")
    given = [name for name in fields if getattr(delta, name) is not None]
    assert len(given) == 1, f"a delta carries exactly one thing, not {given}"
    name, value = given[0], getattr(delta, given[0])
    if name == "text" and isinstance(block, Text | Thinking | Refusal):
        return structs.replace(block, text=block.text + value)
    if name == "text" and isinstance(block, Audio):
        return structs.replace(block, transcript=(block.transcript or "") + value)
    if name == "audio" and isinstance(block, Audio):
        whole = base64.b64decode(block.source.value) + base64.b64decode(value)
        source = structs.replace(block.source, value=base64.b64encode(whole).decode())
        return structs.replace(block, source=source)
    if name == "arguments" and isinstance(block, ToolCall):
        return structs.replace(block, arguments=block.arguments + value)
    if name == "signature" and isinstance(block, Thinking | ToolCall | Text):
        return structs.replace(block, signature=(block.signature or "") + value)
    if name == "redacted" and isinstance(block, Thinking):
        return structs.replace(block, redacted=(block.redacted or "") + value)
    if name == "citation" and isinstance(block, Text):
        return structs.replace(block, citations=(*block.citations, value))
    raise AssertionError(f"{name} for a {type(block).__name__}")
