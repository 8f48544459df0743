"""One candidate of an answer, its parts taken as they come and told as events of the hub.

Texts that follow one another are one block, as a stream tears them anywhere; a text behind a thought signature is a
new one. Function calls come whole, or with ``partialArgs`` where Vertex AI streams their arguments: those are put
together first. Candidate-level metadata becomes citations, and an ``Opaque`` for clients of this format.
"""

from __future__ import annotations

import re
import zlib

import msgspec
from msgspec import Raw, structs

from tollway.wire.conversation import (
    Audio,
    BlockDelta,
    BlockStart,
    BlockStop,
    Citation,
    Finish,
    Finished,
    Opaque,
    Refusal,
    StreamEvent,
    Text,
    Thinking,
    ToolCall,
)
from tollway.wire.formats.gemini_generate import parts, shapes
from tollway.wire.formats.gemini_generate.grounding import Begun, read_citations
from tollway.wire.formats.gemini_generate.logprobs import read_logprobs
from tollway.wire.formats.gemini_generate.partial_arguments import PartialArguments
from tollway.wire.formats.gemini_generate.reading import items_of
from tollway.wire.formats.gemini_generate.shapes import FAMILY, FINISHES, METADATA, FunctionCall, given
from tollway.wire.formats.gemini_generate.signatures import continues, unseal

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_-]")


class Candidate:
    """The state of one candidate."""

    __slots__ = (
        "_audio",
        "_begun",
        "_calls",
        "_metadata",
        "_next",
        "_open",
        "_partial",
        "_seed",
        "_signed",
        "_text_blocks",
        "_texts",
        "_thought",
        "finish_message",
        "finish_reason",
        "number",
    )

    def __init__(self, number: int, answer_id: str) -> None:
        self.number = number
        self.finish_reason: str | None = None
        self.finish_message: str | None = None
        self._seed = f"{answer_id}/{number}" if answer_id else ""
        self._next = 0
        self._calls = 0
        self._open: str | None = None
        """What kind of block is open, if any: it is the last that was begun."""
        self._signed = False
        self._texts: list[list[str]] = []
        self._text_blocks: list[int] = []
        self._begun: list[Begun | None] = []
        self._thought: Thinking | None = None
        """What the open thinking is known to be, save its text."""
        self._audio: str | None = None
        self._partial: PartialArguments | None = None
        self._metadata: dict[str, Raw] = {}

    def take(self, told: shapes.Candidate, out: list[StreamEvent]) -> None:
        """Events of one more piece of this candidate. Raises BadRequest for a part that cannot be read."""
        before = len(out)
        if told.content is not None and given(told.content.parts):
            self._begun = []
            for place, raw in enumerate(items_of(told.content.parts)):
                self._part(raw, f"candidates.{self.number}.content.parts.{place}", out)
        if given(told.logprobs_result):
            self._likely(read_logprobs(told.logprobs_result), before, out)
        for name in METADATA:
            raw = getattr(told, name)
            if given(raw) and bytes(raw) != b"{}":
                self._metadata[name] = _merged(self._metadata.get(name), raw)
        if told.finish_reason:
            self.finish_reason = told.finish_reason
        if told.finish_message:
            self.finish_message = told.finish_message

    @property
    def grounding(self) -> Raw:
        return self._metadata.get("grounding_metadata", Raw())

    # -------------------------------------------------------------- parts

    def _part(self, raw: Raw, path: str, out: list[StreamEvent]) -> None:
        part = parts.decode(raw, path, None)
        begun: Begun | None = None
        if isinstance(part, Opaque):
            self._whole(part, out)
        elif part is None:
            pass
        elif part.text is not None:
            if part.thought:
                self._thinking(part.text, part.thought_signature, out)
            else:
                begun = self._text(part.text, part.thought_signature, out)
        elif part.function_call is not None:
            self._call(part.function_call, part.thought_signature, out)
        elif part.function_response is not None:
            self._whole(Opaque(format=FAMILY, kind="functionResponse", raw=raw), out)
        else:
            block = parts.block(part, raw, path)
            if isinstance(block, Text):
                begun = self._text(block.text, block.signature, out)
            elif isinstance(block, Thinking):
                self._thinking("", part.thought_signature, out)
            elif isinstance(block, Audio):
                self._sound(block, out)
            elif block is not None:
                self._whole(block, out)
        self._begun.append(begun)

    def _text(self, text: str, signature: str | None, out: list[StreamEvent]) -> Begun:
        number = self.number
        if not text and not signature and self._open != "text":
            return (max(len(self._texts) - 1, 0), 0)  # the empty last part of many streams opens nothing
        if self._open != "text" or (self._signed and (text or signature)):
            self._close(out)
            out.append(BlockStart(index=self._next, block=Text(), choice=number))
            self._open, self._signed = "text", False
            self._texts.append([])
            self._text_blocks.append(self._next)
            self._next += 1
        pieces = self._texts[-1]
        # Only the parts of one piece are told apart by a position, so this sum is short where it matters.
        begun = (len(self._texts) - 1, sum(map(len, pieces)) if self._begun else 0)
        if text:
            pieces.append(text)
            out.append(BlockDelta(index=self._next - 1, text=text, choice=number))
        if signature:
            out.append(BlockDelta(index=self._next - 1, signature=signature, choice=number))
            self._signed = True
        return begun

    def _thinking(self, text: str, signature: str | None, out: list[StreamEvent]) -> None:
        number = self.number
        block, ends = unseal(text, signature)
        before = self._thought
        if self._open != "thinking" or before is None:
            fresh = True
        elif before.format == FAMILY:
            fresh = block.format != FAMILY or (before.signature is not None and (text or signature) != "")
        else:
            fresh = not continues(before, block, ends)
        if fresh:
            self._close(out)
            before = structs.replace(block, text="", signature=None)
            out.append(BlockStart(index=self._next, block=before, choice=number))
            self._open = "thinking"
            self._next += 1
        elif block.redacted is not None:
            out.append(BlockDelta(index=self._next - 1, redacted=block.redacted, choice=number))
        if text:
            out.append(BlockDelta(index=self._next - 1, text=text, choice=number))
        if block.signature is not None:
            out.append(BlockDelta(index=self._next - 1, signature=block.signature, choice=number))
        if fresh or block.signature is not None or block.redacted is not None:
            self._thought = block

    def _sound(self, block: Audio, out: list[StreamEvent]) -> None:
        if self._open != "audio" or self._audio != block.source.media_type:
            self._close(out)
            silent = structs.replace(block, source=structs.replace(block.source, value=""))
            out.append(BlockStart(index=self._next, block=silent, choice=self.number))
            self._open, self._audio = "audio", block.source.media_type
            self._next += 1
        out.append(BlockDelta(index=self._next - 1, audio=block.source.value, choice=self.number))

    def _whole(self, block: object, out: list[StreamEvent]) -> None:
        self._close(out)
        out.append(BlockStart(index=self._next, block=block, choice=self.number))  # type: ignore[arg-type]
        out.append(BlockStop(index=self._next, choice=self.number))
        self._next += 1

    def _close(self, out: list[StreamEvent]) -> None:
        if self._open is not None:
            out.append(BlockStop(index=self._next - 1, choice=self.number))
            self._open = None

    # -------------------------------------------------------------- calls

    def _call(self, call: FunctionCall, signature: str | None, out: list[StreamEvent]) -> None:
        if self._partial is None and not call.partial_args and not call.will_continue:
            if call.name:
                arguments = bytes(call.args).decode() if given(call.args) else "{}"
                self._called(call.id, call.name, arguments, signature, out)
            return
        if self._partial is None:
            self._partial = PartialArguments()
        self._partial.take(call, signature)
        if not call.will_continue:
            self._end_partial(out)

    def _end_partial(self, out: list[StreamEvent]) -> None:
        partial, self._partial = self._partial, None
        if partial is not None and partial.name:
            self._called(partial.id, partial.name, partial.arguments(), partial.signature, out)

    def _called(
        self, call_id: str | None, name: str, arguments: str, signature: str | None, out: list[StreamEvent]
    ) -> None:
        self._close(out)
        if not call_id:
            # The same in a stream and its whole form, and another one in the next answer of a conversation.
            seed = zlib.crc32((self._seed or name + arguments).encode())
            call_id = f"call_{seed:08x}_{self._calls}_{_NOT_PLAIN.sub('_', name)[:32]}"
        self._calls += 1
        index, number = self._next, self.number
        block = ToolCall(id=call_id, name=name, arguments="", signature=signature)
        out.append(BlockStart(index=index, block=block, choice=number))
        out.append(BlockDelta(index=index, arguments=arguments, choice=number))
        out.append(BlockStop(index=index, choice=number))
        self._next += 1

    # -------------------------------------------------------------- the end

    def _likely(self, likely: Raw, before: int, out: list[StreamEvent]) -> None:
        if not given(likely):
            return
        for place in range(len(out) - 1, before - 1, -1):
            event = out[place]
            if isinstance(event, BlockDelta) and event.text is not None:
                out[place] = structs.replace(event, logprobs=likely)
                return
        if self._open == "text":
            out.append(BlockDelta(index=self._next - 1, text="", choice=self.number, logprobs=likely))

    def close(self, out: list[StreamEvent]) -> None:
        """What is still open is closed; nothing is told of an end."""
        self._end_partial(out)
        self._close(out)

    def finish(self, out: list[StreamEvent]) -> None:
        """Everything the end of the candidate means."""
        self._end_partial(out)
        reason = self.finish_reason or "STOP"
        finish: Finish = FINISHES.get(reason, "error")
        if self._next == 0 and self.finish_message:
            said = self.finish_message
            self._whole(Refusal(text=said) if finish == "content_filter" else Text(text=said), out)
        self._cite(out)
        self._close(out)
        for name, raw in self._metadata.items():
            self._whole(Opaque(format=FAMILY, kind=METADATA[name], raw=raw), out)
        if finish == "stop" and self._calls:
            finish = "tool_calls"
        out.append(Finished(finish=finish, choice=self.number))

    def _cite(self, out: list[StreamEvent]) -> None:
        grounding = self._metadata.get("grounding_metadata", Raw())
        cited = self._metadata.get("citation_metadata", Raw())
        if not given(grounding) and not given(cited):
            return
        texts = ["".join(pieces) for pieces in self._texts]
        late: list[Citation] = []
        for number, citation in read_citations(grounding, cited, texts, self._begun):
            if self._open == "text" and number == len(texts) - 1:
                out.append(BlockDelta(index=self._next - 1, citation=citation, choice=self.number))
            else:
                late.append(structs.replace(citation, start=None, end=None))
        if late:
            # Their text is closed: they stand in a block of their own, without places.
            self._whole(Text(citations=tuple(late)), out)


def _merged(before: Raw | None, more: Raw) -> Raw:
    """Metadata of two pieces: what the later one says counts."""
    if before is None:
        return more
    try:
        fields = {
            **msgspec.json.decode(before, type=dict[str, Raw]),
            **msgspec.json.decode(more, type=dict[str, Raw]),
        }
    except (msgspec.DecodeError, RecursionError):
        return more
    return Raw(msgspec.json.encode(fields))
