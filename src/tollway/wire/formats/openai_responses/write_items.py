"""Turns into input items.

Every call is followed by its output, as stricter servers of this API demand: outputs move up to their calls, a call
that nobody answered gets an output that says so, and an output without a call is told as a user's text (unless the
provider holds earlier turns itself). Reasoning of other providers is left out and named. Empty texts are left out.
"""

from __future__ import annotations

from collections import defaultdict, deque

from msgspec import Raw

from tollway.wire.codec import Profile
from tollway.wire.conversation import (
    Block,
    Conversation,
    Message,
    Opaque,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from tollway.wire.formats.openai_responses.names import by_flat_name, item_id
from tollway.wire.formats.openai_responses.parts import PART, write_annotation, write_input
from tollway.wire.formats.openai_responses.read_request import STANDING
from tollway.wire.formats.openai_responses.shapes import FAMILY
from tollway.wire.turns import NO_RESULT, Losses, in_words, safe_id

Item = dict[str, object] | Raw
_LONGEST_CALL_ID = 64


class ItemWriter:
    """The input items of one request. ``instructions`` is the leading system turn's text."""

    def __init__(self, conversation: Conversation, profile: Profile, lost: Losses) -> None:
        self.instructions: str | None = None
        self.items: list[Item] = []
        self.standing: dict[str, Raw] = {}
        self._profile = profile
        self._lost = lost
        self._own = conversation.format == FAMILY
        self._flat = by_flat_name(conversation)
        self._results: dict[str, deque[ToolResult]] = defaultdict(deque)
        self._calls: list[ToolCall] = []
        for message in conversation.messages:
            for block in message.blocks:
                if isinstance(block, ToolResult):
                    self._results[block.call_id].append(block)
        self._used: set[int] = set()
        self._history_elsewhere = conversation.previous_response_id is not None
        for message in conversation.messages:
            for block in message.blocks:
                if isinstance(block, Opaque) and block.format == FAMILY and block.kind in STANDING:
                    self.standing[block.kind] = block.raw
                    self._history_elsewhere = True
        messages = conversation.messages if profile.tools else tuple(in_words(conversation.messages))
        if len(messages) > 1 and (text := instructions_of(messages[0])):
            self.instructions = text
            messages = messages[1:]
        for message in messages:
            self._message(message)
        self._answer_calls()

    def _message(self, message: Message) -> None:
        if message.name is not None:
            self._lost.hint("messages.name")
        if message.role == "assistant":
            self._assistant(message)
        else:
            self._other(message)

    def _other(self, message: Message) -> None:
        """A user's, system's or developer's turn: outputs first, then what is said."""
        said = []
        for block in message.blocks:
            if isinstance(block, ToolResult):
                continue
            if isinstance(block, Opaque) and block.format == FAMILY and not block.kind.startswith(PART):
                if block.kind not in STANDING:
                    self._answer_calls()
                    self.items.append(block.raw)
                continue
            if isinstance(block, Opaque) and block.format != FAMILY:
                self._lost.meaning(f"messages.{block.kind}")
                continue
            part = write_input(block, self._profile, self._lost, self._own)
            if part is not None:
                said.append(part)
        self._answer_calls()
        for block in message.blocks:
            if isinstance(block, ToolResult) and id(block) not in self._used:
                self._result_without_call(block)
        if said:
            item: Item = {"type": "message", "role": message.role, "content": said}
            self.items.append(item)

    def _assistant(self, message: Message) -> None:
        said: list[Item] = []
        known = message.id if self._own and message.id and message.id.startswith("msg") else None

        def close() -> None:
            nonlocal known
            if said:
                self.items.append(self._said(list(said), known))
                said.clear()
                known = None

        for block in message.blocks:
            if isinstance(block, Text):
                if block.text:
                    if block.cache is not None:
                        self._lost.hint("cache_control")
                    said.append(self._output_text(block))
            elif isinstance(block, Refusal):
                said.append({"type": "refusal", "refusal": block.text})
            elif isinstance(block, Opaque) and block.format == FAMILY and block.kind.startswith(PART):
                said.append(block.raw)
            else:
                close()
                self._model_item(block)
                continue
            # What is said after a call stands behind the call's output.
            self._answer_calls()
        close()

    def _said(self, parts: list[Item], known: str | None) -> Item:
        """What the model said before. One plain text is written in the short form, which takes no id; the long form
        demands one, and any will do that begins like a message's."""
        only = parts[0]
        if known is None and len(parts) == 1 and isinstance(only, dict) and not only.get("annotations", True):
            return {"type": "message", "role": "assistant", "content": only["text"]}
        return {
            "type": "message",
            "id": known or item_id("msg", "input", len(self.items)),
            "status": "completed",
            "role": "assistant",
            "content": parts,
        }

    def _output_text(self, block: Text) -> Item:
        annotations = [write_annotation(citation, len(block.text)) for citation in block.citations]
        if None in annotations:
            self._lost.hint("messages.citations")
        return {
            "type": "output_text",
            "text": block.text,
            "annotations": [annotation for annotation in annotations if annotation is not None],
        }

    def _model_item(self, block: Block) -> None:
        if isinstance(block, ToolCall):
            self._call(block)
            return
        if isinstance(block, Thinking):
            if block.format != FAMILY:
                self._lost.hint("messages.thinking")
                return
            if not (block.signature or block.redacted or (block.id and self._own)):
                self._lost.hint("messages.thinking")
                return
            self._answer_calls()
            self._reasoning(block)
        elif isinstance(block, Opaque) and block.format == FAMILY:
            self._answer_calls()
            if block.kind not in STANDING:
                self.items.append(block.raw)
        elif isinstance(block, Opaque):
            self._lost.meaning(f"messages.{block.kind}")
        else:
            self._lost.meaning(f"messages.{block.__struct_config__.tag}")

    def _reasoning(self, block: Thinking) -> None:
        text = {"type": "summary_text" if block.summary else "reasoning_text", "text": block.text}
        last = self.items[-1] if self.items else None
        if (
            block.id
            and isinstance(last, dict)
            and last.get("type") == "reasoning"
            and last.get("id") == block.id
        ):
            item = last
        else:
            item = {"type": "reasoning", "summary": []}
            if block.id:
                item["id"] = block.id
            self.items.append(item)
        if block.text:
            item["summary" if block.summary else "content"] = [text]
        encrypted = block.redacted or block.signature
        if encrypted:
            item["encrypted_content"] = encrypted

    def _call(self, call: ToolCall) -> None:
        if call.signature is not None:
            self._lost.hint("messages.tool_call.signature")
        space, name = self._flat.get(call.name, (None, call.name))
        item: dict[str, object] = {
            "type": "custom_tool_call" if call.custom else "function_call",
            "call_id": safe_call_id(call.id),
            "name": name,
        }
        if space is not None:
            item["namespace"] = space
        if call.custom:
            item["input"] = call.arguments
        else:
            item["arguments"] = call.arguments or "{}"
        self.items.append(item)
        self._calls.append(call)

    def _answer_calls(self) -> None:
        """The outputs of the calls just written, in their order."""
        for call in self._calls:
            waiting = self._results.get(call.id)
            if waiting:
                result = waiting.popleft()
                self._used.add(id(result))
                self._result(result, call.custom)
            else:
                self.items.append(
                    {
                        "type": "custom_tool_call_output" if call.custom else "function_call_output",
                        "call_id": safe_call_id(call.id),
                        "output": NO_RESULT,
                    }
                )
        self._calls.clear()

    def _result(self, result: ToolResult, custom: bool) -> None:
        if result.error:
            self._lost.hint("messages.tool_result.is_error")
        if result.cache is not None:
            self._lost.hint("cache_control")
        self.items.append(
            {
                "type": "custom_tool_call_output" if custom else "function_call_output",
                "call_id": safe_call_id(result.call_id),
                "output": self._output(result),
            }
        )

    def _output(self, result: ToolResult) -> str | list[Item]:
        if not result.content:
            return ""
        first = result.content[0]
        if len(result.content) == 1 and isinstance(first, Text) and first.cache is None:
            return first.text
        parts = []
        for block in result.content:
            part = write_input(block, self._profile, self._lost, self._own)
            if part is not None:
                parts.append(part)
        return parts or ""

    def _result_without_call(self, result: ToolResult) -> None:
        self._used.add(id(result))
        waiting = self._results[result.call_id]
        if waiting and waiting[0] is result:
            waiting.popleft()
        if self._history_elsewhere:
            self._result(result, result.custom)
            return
        output = self._output(result)
        head: Item = {"type": "input_text", "text": f"[result of tool {result.name or result.call_id}]"}
        rest: list[Item] = [{"type": "input_text", "text": output}] if isinstance(output, str) else output
        self.items.append({"type": "message", "role": "user", "content": [head, *rest]})


def safe_call_id(call_id: str) -> str:
    """A call's id within this API's 64 characters; the same one always gives the same."""
    return call_id if 0 < len(call_id) <= _LONGEST_CALL_ID else safe_id(call_id)


def instructions_of(message: Message) -> str | None:
    """The text of a leading system turn that is nothing but plain text."""
    if message.role != "system" or message.id is not None or message.name is not None:
        return None
    texts = []
    for block in message.blocks:
        if not isinstance(block, Text) or block.cache is not None:
            return None
        texts.append(block.text)
    return "\n\n".join(text for text in texts if text) or None
