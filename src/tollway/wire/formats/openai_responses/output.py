"""Output items as they grow: blocks in, items and the events that tell of them out.

One item is open at a time. Neighbouring texts and refusals are the parts of one message; a thought is a reasoning item,
shown as summary where it is one or the client asked for summaries, else as its content. A call of a tool that the
request declared as custom is a custom call even where the provider knew it only as a function. Left out, as there is no
item for them: blocks only another format knows, signatures of plain texts, citations that name neither page nor file,
and the sound of a spoken answer, whose transcript is written as text.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Raw

from tollway.wire.conversation import (
    Audio,
    Block,
    BlockDelta,
    Citation,
    Conversation,
    Image,
    Opaque,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolCall,
)
from tollway.wire.formats.openai_responses import logprobs
from tollway.wire.formats.openai_responses.growing import (
    OUTPUT_TEXT,
    REASONING_TEXT,
    REFUSAL,
    SUMMARY_TEXT,
    Fields,
    Growing,
)
from tollway.wire.formats.openai_responses.names import by_flat_name, item_id
from tollway.wire.formats.openai_responses.parts import PART, write_annotation, write_url
from tollway.wire.formats.openai_responses.reasoning import Sealed, proof, seal
from tollway.wire.formats.openai_responses.shapes import FAMILY

Emit = Callable[[str, Fields], None]

_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


class Output:
    """The items of one answer. ``emit`` takes every event, by type and fields; ``items`` are those that are done.
    ``refused``: the model has said no in a place of its own."""

    def __init__(self, conversation: Conversation, emit: Emit) -> None:
        self.items: list[Fields | Raw] = []
        self.answer_id = ""
        self.refused = False
        self._emit = emit
        self._flat = by_flat_name(conversation)
        self._custom = {tool.name for tool in conversation.tools if isinstance(tool, Tool) and tool.custom}
        self._summaries = conversation.reasoning is not None and conversation.reasoning.summary is not None
        self._item: Fields | None = None
        self._thought: str | None = None
        self._part: Growing | None = None
        self._block: Block | None = None
        self._arguments: list[str] = []
        self._proof: list[str] = []
        self._convert = False

    # -------------------------------------------------------------- blocks

    def start(self, block: Block) -> None:
        self._block = block
        self.refused = self.refused or isinstance(block, Refusal)
        self._proof = []
        if isinstance(block, Text | Refusal):
            self.say(block.text)
            for citation in block.citations if isinstance(block, Text) else ():
                self._cite(citation)
        elif isinstance(block, Thinking):
            if self._thought is None or block.id != self._thought:
                self.close()
            self._proof = [sign for sign in (block.signature or block.redacted,) if sign]
            self.say(block.text)
        elif isinstance(block, ToolCall):
            self._proof = [block.signature] if block.signature else []
            self._start_call(block)
        elif isinstance(block, Audio):
            self.say(block.transcript or "")
        elif isinstance(block, Image):
            self._image(block)
        elif isinstance(block, Opaque) and block.format == FAMILY and not block.kind.startswith(PART):
            self._whole(block.raw)

    def grow(self, delta: BlockDelta) -> None:
        if delta.text is not None:
            self.say(delta.text, logprobs.tokens(delta.logprobs))
        elif delta.arguments is not None:
            self._argue(delta.arguments)
        elif delta.citation is not None:
            self._cite(delta.citation)
        elif delta.signature is not None:
            self._proof.append(delta.signature)
        elif delta.redacted is not None:
            self._proof.append(delta.redacted)

    def stop(self) -> None:
        block = self._block
        if isinstance(block, ToolCall):
            self._stop_call(block)
        elif isinstance(block, Thinking):
            self._stop_thinking(block)
        self._stop_part()
        self._block = None

    def say(self, text: str, tokens: list[logprobs.Token] | None = None) -> None:
        """Text of the open block. Its part is opened with the first letter, so that empty blocks leave nothing."""
        if not text:
            return
        part = self._part or self._start_part()
        if part is None:
            return
        part.pieces.append(text)
        fields: Fields = {**part.place, "delta": text}
        if part.kind is OUTPUT_TEXT:
            found = logprobs.written(tokens) if tokens else []
            part.logprobs.extend(found)
            fields["logprobs"] = found
        self._emit(part.kind.delta, fields)

    def close(self, status: str = "completed") -> None:
        """The open item is done; ``status`` is ``incomplete`` where the answer was cut off in it."""
        self._stop_part()
        item = self._item
        if item is None:
            return
        if "status" in item:
            item["status"] = status
        self._emit("response.output_item.done", {"output_index": len(self.items), "item": item})
        self.items.append(item)
        self._item = None
        self._thought = None

    # -------------------------------------------------------------- parts

    def _open(self, item: Fields) -> Fields:
        """Open ``item``; whatever was open has been closed before its id was made, as ids count items."""
        self._emit("response.output_item.added", {"output_index": len(self.items), "item": item})
        self._item = item
        return item

    def _id(self, prefix: str) -> str:
        return item_id(prefix, self.answer_id, len(self.items))

    def _start_part(self) -> Growing | None:
        """A part for the open block, in an item of its kind."""
        block = self._block
        if isinstance(block, Thinking):
            kind = SUMMARY_TEXT if block.summary or self._summaries else REASONING_TEXT
            item = self._reasoning(block)
        elif isinstance(block, Text | Refusal | Audio | Image):
            kind = REFUSAL if isinstance(block, Refusal) else OUTPUT_TEXT
            item = self._message()
        else:
            return None
        parts = item.setdefault(kind.list, [])
        assert isinstance(parts, list)
        place = {"item_id": item["id"], "output_index": len(self.items), kind.index: len(parts)}
        part = Growing(kind, place)
        self._emit(kind.added, {**place, "part": part.whole("")})
        self._part = part
        return part

    def _stop_part(self) -> None:
        part = self._part
        if part is None or self._item is None:
            return
        self._part = None
        text = "".join(part.pieces)
        whole = part.whole(text)
        fields: Fields = {**part.place, part.kind.field: text}
        if part.kind is OUTPUT_TEXT:
            fields["logprobs"] = part.logprobs
        self._emit(part.kind.done, fields)
        self._emit(part.kind.ended, {**part.place, "part": whole})
        parts = self._item[part.kind.list]
        assert isinstance(parts, list)
        parts.append(whole)

    def _message(self) -> Fields:
        if self._item is not None and self._item["type"] == "message":
            return self._item
        self.close()
        return self._open(
            {
                "type": "message",
                "id": self._id("msg"),
                "status": "in_progress",
                "role": "assistant",
                "content": [],
            }
        )

    def _cite(self, citation: Citation) -> None:
        if not isinstance(self._block, Text):
            return
        part = self._part or self._start_part()
        assert part is not None
        annotation = write_annotation(citation, sum(map(len, part.pieces)))
        if annotation is None:
            return
        place = {**part.place, "annotation_index": len(part.annotations), "annotation": annotation}
        part.annotations.append(annotation)
        self._emit("response.output_text.annotation.added", place)

    # -------------------------------------------------------------- reasoning

    def _reasoning(self, block: Thinking) -> Fields:
        if self._item is not None and self._item["type"] == "reasoning":
            return self._item
        self.close()
        own = block.id if block.format == FAMILY else None
        item = self._open({"type": "reasoning", "id": own or self._id("rs"), "summary": []})
        self._thought = own
        return item

    def _stop_thinking(self, block: Thinking) -> None:
        said = "".join(self._part.pieces) if self._part else ""
        summary = self._part is not None and self._part.kind is SUMMARY_TEXT
        sign = "".join(self._proof)
        if sign or (said and self._thought is None):
            signed = Thinking(
                text=said,
                signature=sign if said and sign else None,
                redacted=None if said else sign,
                summary=block.summary,
                format=block.format,
            )
            item = self._reasoning(block)
            if not sign and "encrypted_content" in item:
                return
            self._stop_part()
            item["encrypted_content"] = proof(signed, shown_as_summary=summary)

    # -------------------------------------------------------------- calls

    def _start_call(self, block: ToolCall) -> None:
        self.close()
        space, name = self._flat.get(block.name, (None, block.name))
        self._convert = block.name in self._custom and not block.custom
        custom = block.custom or self._convert
        item: Fields = {
            "type": "custom_tool_call" if custom else "function_call",
            "id": self._id("ctc" if custom else "fc"),
            "call_id": block.id,
            "name": name,
            "input" if custom else "arguments": "",
        }
        if not custom:
            item["status"] = "in_progress"
        if space is not None:
            item["namespace"] = space
        self._open(item)
        self._arguments = []
        self._argue(block.arguments)

    def _argue(self, arguments: str) -> None:
        if not arguments or self._item is None:
            return
        self._arguments.append(arguments)
        if not self._convert:
            self._tell(arguments)

    def _tell(self, arguments: str) -> None:
        assert self._item is not None
        kind = (
            "function_call_arguments" if self._item["type"] == "function_call" else "custom_tool_call_input"
        )
        place: Fields = {"item_id": self._item["id"], "output_index": len(self.items), "delta": arguments}
        self._emit(f"response.{kind}.delta", place)

    def _stop_call(self, block: ToolCall) -> None:
        item = self._item
        if item is None:
            return
        arguments = "".join(self._arguments)
        place: Fields = {"item_id": item["id"], "output_index": len(self.items)}
        if item["type"] == "function_call":
            if not arguments:
                arguments = "{}"
                self._tell(arguments)
            item["arguments"] = arguments
            done: Fields = {**place, "name": item["name"], "arguments": arguments}
            self._emit("response.function_call_arguments.done", done)
        else:
            if self._convert:
                arguments = free_text(arguments)
                self._tell(arguments)
            item["input"] = arguments
            self._emit("response.custom_tool_call_input.done", {**place, "input": arguments})
        self.close()
        sign = "".join(self._proof)
        if sign:
            sealed = seal(Sealed(call=block.id, signature=sign))
            self._open(
                {"type": "reasoning", "id": self._id("rs"), "summary": [], "encrypted_content": sealed}
            )
            self.close()

    # -------------------------------------------------------------- items in one piece

    def _whole(self, raw: Raw) -> None:
        self.close()
        place: Fields = {"output_index": len(self.items), "item": raw}
        self._emit("response.output_item.added", place)
        self._emit("response.output_item.done", place)
        self.items.append(raw)

    def _image(self, block: Image) -> None:
        if block.source.kind != "data":
            self.say(f"![image]({write_url(block.source, 'image/png')})")
            return
        self.close()
        item = self._open(
            {
                "type": "image_generation_call",
                "id": self._id("ig"),
                "status": "in_progress",
                "result": None,
            }
        )
        self._emit(
            "response.image_generation_call.completed",
            {"item_id": item["id"], "output_index": len(self.items)},
        )
        item["result"] = block.source.value
        kind = (block.source.media_type or "").removeprefix("image/")
        if kind:
            item["output_format"] = kind
        self.close()


def free_text(arguments: str) -> str:
    """What a custom tool is to get of a function call's arguments: the text of their only field, else all of them."""
    try:
        fields = _decode_object(arguments.encode())
        if len(fields) == 1:
            return _decode_text(next(iter(fields.values())))
    except (msgspec.DecodeError, RecursionError):
        pass
    return arguments
