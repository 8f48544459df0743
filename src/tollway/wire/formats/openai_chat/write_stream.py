"""Events of the hub as a Chat Completions stream: chunks, the usage chunk if it was asked for, one ``[DONE]``.

Citations wait for the end of their block, as they are told by their place in the message; a signature waits for the
end of its thoughts. Nothing else is held back.
"""

from __future__ import annotations

from msgspec import Raw

from tollway.wire.conversation import (
    Audio,
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    Citation,
    Conversation,
    Failed,
    Finished,
    Image,
    Metered,
    Opaque,
    Refusal,
    Start,
    Text,
    Thinking,
    ToolCall,
)
from tollway.wire.event_writer import EventWriter
from tollway.wire.formats.openai_chat.shapes import FAMILY, Wire, encode
from tollway.wire.formats.openai_chat.thinking import thinking_block
from tollway.wire.formats.openai_chat.usage import write_usage
from tollway.wire.formats.openai_chat.write_answer import (
    annotation,
    audio,
    extra_content,
    finish_reason,
    image,
)
from tollway.wire.formats.openai_stream import DONE

_TAIL = b',"logprobs":null,"finish_reason":null}]'


class _Open:
    """What is known of an open block: its kind, a call's number, and what can only be said at its end."""

    __slots__ = (
        "before",
        "block",
        "citations",
        "field",
        "length",
        "number",
        "pieces",
        "redacted",
        "signature",
    )

    def __init__(self, block: Block, field: bytes, number: int, before: int) -> None:
        self.block = block
        self.field = field
        self.number = number
        self.before = before
        self.length = 0
        self.citations: list[Citation] = []
        self.pieces: list[str] = []
        self.signature = ""
        self.redacted = ""


class _Choice:
    """How far a choice has come."""

    __slots__ = ("calls", "function", "images", "length", "proofs", "refused", "told")

    def __init__(self) -> None:
        self.calls = 0
        self.images = 0
        self.proofs = 0
        self.length = 0
        self.refused = False
        self.function = False
        self.told = False


class ChatStreamWriter(EventWriter):
    """The state of one client's stream."""

    __slots__ = (
        "_after", "_before", "_choices", "_functions", "_heads", "_include_usage", "_metered", "_open",
        "_tier", "_told",
    )  # fmt: skip

    def __init__(self, conversation: Conversation) -> None:
        super().__init__()
        self._include_usage = conversation.include_usage
        self._functions = conversation.functions
        self._open: dict[tuple[int, int], _Open] = {}
        self._choices: dict[int, _Choice] = {}
        self._heads: dict[int, bytes] = {}
        self._metered: Metered | None = None
        self._told = Start()
        self._tier: str | None = None
        self._before = b""
        self._after = b"}\n\n"

    def _meter(self, event: Metered) -> None:
        self._metered = event

    def _fail(self, event: Failed, out: list[bytes]) -> None:
        out += (write_failure(event), DONE)

    # -------------------------------------------------------------- frames

    def _start(self, event: Start, out: list[bytes]) -> None:
        self._told = event
        self._tier = event.service_tier
        head: Wire = {
            "id": event.id,
            "object": "chat.completion.chunk",
            "created": event.created,
            "model": event.model,
        }
        if event.service_tier:
            head["service_tier"] = event.service_tier
        self._before = b"data: " + encode(head)[:-1] + b',"choices":[{"index":'
        if self._include_usage:
            self._after = b',"usage":null}\n\n'
        self._choice(0, out)

    def _choice(self, number: int, out: list[bytes]) -> _Choice:
        choice = self._choices.get(number)
        if choice is None:
            choice = self._choices[number] = _Choice()
            self._heads[number] = b'%b%d,"delta":' % (self._before, number)
            self._say(number, b'{"role":"assistant","content":"","refusal":null}', out)
        return choice

    def _say(self, number: int, delta: bytes, out: list[bytes], logprobs: Raw | None = None) -> None:
        if logprobs is None:
            out += (self._heads[number], delta, _TAIL, self._after)
        else:
            out += (
                self._heads[number], delta, b',"logprobs":', bytes(logprobs), b',"finish_reason":null}]', self._after,
            )  # fmt: skip

    # -------------------------------------------------------------- blocks

    def _begin(self, event: BlockStart, out: list[bytes]) -> None:
        number = event.choice
        choice = self._choice(number, out)
        block = event.block
        opened = _Open(block, b"", 0, choice.length)
        self._open[number, event.index] = opened
        if isinstance(block, Text):
            opened.field = b"content"
            opened.citations.extend(block.citations)
            if block.text:
                self._text(number, choice, opened, block.text, out)
        elif isinstance(block, Thinking):
            opened.field = b"reasoning_content"
            opened.signature = block.signature or ""
            opened.redacted = block.redacted or ""
            if block.text:
                self._text(number, choice, opened, block.text, out)
        elif isinstance(block, ToolCall):
            self._call(number, choice, opened, block, out)
        elif isinstance(block, Refusal):
            opened.field = b"refusal"
            choice.refused = True
            if block.text:
                self._text(number, choice, opened, block.text, out)
        elif isinstance(block, Image):
            self._say(number, encode({"images": [image(block, choice.images)]}), out)
            choice.images += 1
        elif isinstance(block, Audio):
            opened.field = b"audio"
            said = {name: value for name, value in audio(block).items() if value or name == "expires_at"}
            self._say(number, encode({"audio": said}), out)
        elif isinstance(block, Opaque) and block.format == FAMILY and block.kind == "reasoning_details":
            self._say(number, b'{"reasoning_details":' + bytes(block.raw) + b"}", out)

    def _call(self, number: int, choice: _Choice, opened: _Open, block: ToolCall, out: list[bytes]) -> None:
        if block.arguments:
            opened.length = len(block.arguments)
        if self._functions and choice.calls == 0 and not choice.function and not block.custom:
            choice.function = True
            opened.field = b"function_call"
            self._say(
                number, encode({"function_call": {"name": block.name, "arguments": block.arguments}}), out
            )
            return
        opened.field = b"custom" if block.custom else b"tool_calls"
        opened.number = choice.calls
        choice.calls += 1
        entry: Wire = {"index": opened.number, "id": block.id}
        if block.custom:
            entry["type"] = "custom"
            entry["custom"] = {"name": block.name, "input": block.arguments}
        else:
            entry["type"] = "function"
            entry["function"] = {"name": block.name, "arguments": block.arguments}
        if block.signature:
            entry["extra_content"] = extra_content(block.signature)
        self._say(number, encode({"tool_calls": [entry]}), out)

    def _text(
        self,
        number: int,
        choice: _Choice,
        opened: _Open,
        text: str,
        out: list[bytes],
        logprobs: Raw | None = None,
    ) -> None:
        field = opened.field
        if field == b"content":
            opened.length += len(text)
            choice.length += len(text)
        elif field == b"reasoning_content":
            opened.pieces.append(text)
        self._say(number, b'{"%b":%b}' % (field, encode(text)), out, logprobs)

    def _delta(self, event: BlockDelta, out: list[bytes]) -> None:
        number = event.choice
        opened = self._open.get((number, event.index))
        if opened is None:
            return
        field = opened.field
        if event.text is not None:
            if field == b"audio":
                self._say(number, encode({"audio": {"transcript": event.text}}), out)
            elif field:
                logprobs = event.logprobs if bytes(event.logprobs) else None
                self._text(number, self._choices[number], opened, event.text, out, logprobs)
        elif event.arguments is not None:
            opened.length += len(event.arguments)
            self._arguments(number, opened, event.arguments, out)
        elif event.citation is not None:
            opened.citations.append(event.citation)
        elif event.audio is not None:
            self._say(number, encode({"audio": {"data": event.audio}}), out)
        elif event.redacted is not None:
            opened.redacted += event.redacted
        elif event.signature is not None:
            if field == b"tool_calls":
                entry = {"index": opened.number, "extra_content": extra_content(event.signature)}
                self._say(number, encode({"tool_calls": [entry]}), out)
            else:
                opened.signature += event.signature

    def _arguments(self, number: int, opened: _Open, text: str, out: list[bytes]) -> None:
        said = encode(text)
        if opened.field == b"tool_calls":
            delta = b'{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}' % (opened.number, said)
        elif opened.field == b"custom":
            delta = b'{"tool_calls":[{"index":%d,"custom":{"input":%b}}]}' % (opened.number, said)
        else:
            delta = b'{"function_call":{"arguments":%b}}' % said
        self._say(number, delta, out)

    def _stop(self, event: BlockStop, out: list[bytes]) -> None:
        number = event.choice
        opened = self._open.pop((number, event.index), None)
        if opened is None:
            return
        if opened.field in (b"tool_calls", b"function_call") and not opened.length:
            self._arguments(number, opened, "{}", out)
        elif opened.citations:
            found = [annotation(cited, opened.before, opened.length) for cited in opened.citations]
            said = [entry for entry in found if entry is not None]
            if said:
                self._say(number, encode({"annotations": said}), out)
        elif isinstance(opened.block, Thinking) and (opened.signature or opened.redacted):
            block = opened.block
            entry = thinking_block(
                Thinking(
                    text="".join(opened.pieces),
                    signature=opened.signature or None,
                    redacted=opened.redacted or None,
                    summary=block.summary,
                    id=block.id,
                    format=block.format,
                )
            )
            # The SDK puts pieces of a list together by their index.
            choice = self._choices[number]
            entry["index"] = choice.proofs
            choice.proofs += 1
            self._say(number, encode({"thinking_blocks": [entry]}), out)

    # -------------------------------------------------------------- the end

    def _finished(self, event: Finished, out: list[bytes]) -> None:
        choice = self._choice(event.choice, out)
        if choice.told:
            return
        choice.told = True
        reason = finish_reason(event.finish, choice.refused, choice.function)
        out += (
            self._heads[event.choice], b'{},"logprobs":null,"finish_reason":"', reason.encode(), b'"}]', self._after,
        )  # fmt: skip

    def _end(self, out: list[bytes]) -> None:
        usage, cost = self._told.usage, None
        if self._metered is not None:
            usage, cost = self._metered.usage, self._metered.cost
        if self._include_usage and usage is not None:
            wire: Wire = {
                "id": self._told.id,
                "object": "chat.completion.chunk",
                "created": self._told.created,
                "model": self._told.model,
                "choices": [],
                "usage": write_usage(usage, cost),
            }
            tier = (self._metered.service_tier if self._metered else None) or self._tier
            if tier:
                wire["service_tier"] = tier
            out += (b"data: ", encode(wire), b"\n\n")
        out.append(DONE)


def write_failure(event: Failed) -> bytes:
    """The error event that ends a stream; ``status`` stands beside the dialect's four fields."""
    error: Wire = {
        "message": event.message,
        "type": event.kind,
        "param": None,
        "code": event.code,
        "status": event.status,
    }
    return b"data: " + encode({"error": error}) + b"\n\n"
