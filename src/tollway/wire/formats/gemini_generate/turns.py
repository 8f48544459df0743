"""The turns of a conversation written as ``contents`` and ``systemInstruction``, in the order Gemini insists on.

Turns of one role are joined. A turn with function calls is followed at once by a turn with exactly one response for
each, in order: a result that came later is moved there, a call without one gets an error that says so, and a result
without a call becomes text. What else the user said stands in a turn of its own behind the responses, as mixing both
is refused or misread by some models. System turns go to ``systemInstruction`` wherever they stood.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Sequence

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.wire.codec import Profile
from tollway.wire.conversation import (
    Audio,
    Block,
    Document,
    Image,
    Message,
    Opaque,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Video,
)
from tollway.wire.formats.gemini_generate import parts
from tollway.wire.formats.gemini_generate.shapes import FAMILY, METADATA_FIELDS, before_gemini_3, given
from tollway.wire.formats.gemini_generate.signatures import FOREIGN_CALL
from tollway.wire.turns import Losses

Part = dict[str, object]
_object = msgspec.json.Decoder(dict[str, Raw]).decode

NO_RESULT = "The tool gave no result."
BEGUN = "(The conversation was begun by the assistant.)"


def write_turns(
    messages: Sequence[Message], profile: Profile, lost: Losses
) -> tuple[list[dict[str, object]], list[Part]]:
    """``contents`` and the parts of ``systemInstruction``. Raises BadRequest for a conversation without words and for
    a function call whose arguments are no JSON object."""
    turns = _Turns(messages, profile, lost)
    for place, message in enumerate(messages):
        turns.add(place, message)
    turns.answer_calls()
    contents, system = turns.contents, turns.system
    if not contents:
        if not system:
            raise BadRequest("The conversation says nothing. Send at least one message.", param="messages")
        return [{"role": "user", "parts": system}], []
    if contents[0]["role"] == "model":
        # Gemini refuses a function call that no user turn stands before.
        contents.insert(0, {"role": "user", "parts": [{"text": BEGUN}]})
    return contents, system


def write_arguments(call: ToolCall, where: str) -> Raw | dict[str, str]:
    """A call's arguments as the object Gemini demands. Raises BadRequest naming ``where``."""
    if call.custom:
        return {"input": call.arguments}
    if not call.arguments.strip():
        return {}
    raw = Raw(call.arguments.encode())
    try:
        _object(raw)
    except (msgspec.DecodeError, RecursionError):
        raise BadRequest(
            f"The arguments of the call of '{call.name}' in '{where}' are not a JSON object. "
            "Send them as the model wrote them, or leave the call out.",
            param=where,
        ) from None
    return raw


class _Turns:
    __slots__ = (
        "_calls",
        "_legacy",
        "_lost",
        "_names",
        "_profile",
        "_results",
        "_used",
        "contents",
        "system",
    )

    def __init__(self, messages: Sequence[Message], profile: Profile, lost: Losses) -> None:
        self.contents: list[dict[str, object]] = []
        self.system: list[Part] = []
        self._profile = profile
        self._lost = lost
        self._legacy = before_gemini_3(profile.model)
        self._calls: list[tuple[int, ToolCall]] = []
        self._used: set[tuple[int, int]] = set()
        self._results: dict[str, deque[tuple[int, int, ToolResult]]] = {}
        self._names: dict[str, str] = {}
        for place, message in enumerate(messages):
            for number, block in enumerate(message.blocks):
                if isinstance(block, ToolResult):
                    self._results.setdefault(block.call_id, deque()).append((place, number, block))
                elif isinstance(block, ToolCall):
                    self._names[block.id] = block.name

    def add(self, place: int, message: Message) -> None:
        if message.name:
            self._lost.hint("messages.name")
        if message.role == "assistant":
            self._model(place, message)
        elif message.role == "user":
            self.answer_calls()
            self._user(place, message)
        else:
            if self.contents:
                self._lost.hint("messages.system")  # its place among the turns
            for block in message.blocks:
                self._media_or_text(block, self.system, "messages")

    def _parts(self, role: str) -> list[Part]:
        last = self.contents[-1] if self.contents else None
        if last is not None and last["role"] == role:
            held = last["parts"]
            assert isinstance(held, list)
            if not held or not (isinstance(held[-1], dict) and "functionResponse" in held[-1]):
                return held
        fresh: list[Part] = []
        self.contents.append({"role": role, "parts": fresh})
        return fresh

    def _user(self, place: int, message: Message) -> None:
        said: list[Part] = []
        for number, block in enumerate(message.blocks):
            if isinstance(block, ToolResult):
                if (place, number) not in self._used:
                    self._orphan(block, said)
            else:
                self._media_or_text(block, said, f"messages.{place}")
        if said:
            self._parts("user").extend(said)

    def _model(self, place: int, message: Message) -> None:
        said: list[Part] = []
        for number, block in enumerate(message.blocks):
            if not isinstance(block, ToolCall):
                self._media_or_text(block, said, f"messages.{place}")
                continue
            if block.cache:
                self._lost.hint("cache_control")
            arguments = write_arguments(block, f"messages.{place}.content.{number}")
            part: Part = {"functionCall": {"id": block.id, "name": block.name, "args": arguments}}
            if block.signature:
                part["thoughtSignature"] = block.signature
            elif not self._calls and not self._legacy:
                # Only the first call of a step is checked for a signature.
                part["thoughtSignature"] = FOREIGN_CALL
            self._calls.append((place, block))
            said.append(part)
        if said:
            self._parts("model").extend(said)

    def answer_calls(self) -> None:
        """Write the responses of the calls of the last turn."""
        if not self._calls:
            return
        responses: list[Part] = []
        beside: list[Part] = []
        for place, call in self._calls:
            result = self._result_of(place, call)
            responses.append(self._response(call, result, beside))
        self._calls = []
        self.contents.append({"role": "user", "parts": responses})
        if beside:
            self._parts("user").extend(beside)

    def _result_of(self, place: int, call: ToolCall) -> ToolResult | None:
        waiting = self._results.get(call.id)
        while waiting:
            where, number, result = waiting.popleft()
            if where > place:
                self._used.add((where, number))
                return result
        return None

    def _response(self, call: ToolCall, result: ToolResult | None, beside: list[Part]) -> Part:
        response: Part = {"id": call.id, "name": call.name}
        if result is None:
            response["response"] = {"error": NO_RESULT}
            return {"functionResponse": response}
        if result.cache:
            self._lost.hint("cache_control")
        texts: list[str] = []
        media: list[Part | Raw] = []
        for block in result.content:
            if isinstance(block, Text):
                texts.append(block.text)
            elif isinstance(block, Opaque):
                if block.format == FAMILY:
                    media.append(block.raw)
                else:
                    self._lost.meaning(f"messages.{block.kind}")
            elif isinstance(block, Document) and block.text is not None:
                texts.append(block.text)
            else:
                self._media_or_text(block, beside if self._legacy else media, "messages")
        response["response"] = write_response("\n".join(texts), result.error)
        if media:
            response["parts"] = media
        return {"functionResponse": response}

    def _orphan(self, result: ToolResult, said: list[Part]) -> None:
        self._lost.hint("messages.tool_result")
        name = result.name or self._names.get(result.call_id) or result.call_id
        words = "failed" if result.error else "gave"
        texts = [block.text for block in result.content if isinstance(block, Text)]
        said.append({"text": f"[The tool {name} {words}:]\n" + "\n".join(texts)})
        for block in result.content:
            if not isinstance(block, Text):
                self._media_or_text(block, said, "messages")

    def _media_or_text(self, block: Block, said: list[Part] | list[Part | Raw], where: str) -> None:
        part = write_block(block, self._profile, self._lost, legacy=self._legacy)
        if part is not None:
            said.append(part)  # type: ignore[arg-type]


def write_response(text: str, error: bool) -> Raw | dict[str, str]:
    """The ``response`` object for what a function gave back: a JSON object as it is, any other text wrapped."""
    if error:
        return {"error": text}
    if text[:1] == "{":
        raw = Raw(text.encode())
        try:
            fields = _object(raw)
        except (msgspec.DecodeError, RecursionError):
            return {"output": text}
        if not (len(fields) == 1 and fields.keys() & {"output", "error"}):
            return raw
        if "output" in fields and not bytes(fields["output"]).startswith(b'"'):
            return raw
    return {"output": text}


def write_block(block: Block, profile: Profile, lost: Losses, *, legacy: bool) -> Part | Raw | None:
    """The part for a block that is no call and no result; None where nothing is left to say, which ``lost`` then
    explains unless the block was empty."""
    if isinstance(block, Text):
        if block.cache:
            lost.hint("cache_control")
        if not block.text and not block.signature:
            return None
        if block.signature:
            return {"text": block.text, "thoughtSignature": block.signature}
        return {"text": block.text}
    if isinstance(block, Thinking):
        if block.format != FAMILY:
            lost.hint("messages.thinking")
            return None
        thought: Part = {"text": block.text, "thought": True}
        if block.signature:
            thought["thoughtSignature"] = block.signature
        return thought
    if isinstance(block, Refusal):
        return {"text": block.text} if block.text else None
    if isinstance(block, Opaque):
        if block.cache:
            lost.hint("cache_control")
        if block.format == FAMILY:
            # What stood beside an answer's parts is no part.
            return None if block.kind in METADATA_FIELDS else block.raw
        lost.meaning(f"messages.{block.kind}")
        return None
    if isinstance(block, Image | Audio | Video | Document):
        return _attachment(block, profile, lost, legacy)
    # A tool call of the user or a tool result of the assistant: no format has a place for it.
    lost.meaning("messages.tool_call" if isinstance(block, ToolCall) else "messages.tool_result")
    return None


def _attachment(
    block: Image | Audio | Video | Document, profile: Profile, lost: Losses, legacy: bool
) -> Part | None:
    if block.cache:
        lost.hint("cache_control")
    part: Part | None
    if isinstance(block, Document):
        if block.title:
            lost.hint("messages.document.title")
        if block.context:
            lost.hint("messages.document.context")
        if block.citations:
            lost.hint("messages.document.citations")
        if block.source is None:
            words = base64.b64encode((block.text or "").encode()).decode()
            return {"inlineData": {"mimeType": "text/plain", "data": words}} if words else None
        field, able, source = "document", profile.documents, block.source
    elif isinstance(block, Image):
        field, able, source = "image", profile.images, block.source
    elif isinstance(block, Audio):
        field, able, source = "audio", profile.audio, block.source
        if source.kind == "data" and not source.value:
            # Only the id of something said before, which its maker alone can play.
            return {"text": block.transcript} if block.transcript else None
    else:
        field, able, source = "video", profile.images, block.source
    part = parts.media(source) if able else None
    if part is None:
        lost.meaning(f"messages.{field}")
        return None
    if isinstance(block, Image):
        if block.signature:
            part["thoughtSignature"] = block.signature
        if block.detail and block.detail != "auto":
            resolution = None if legacy else parts.resolution(block.detail)
            if resolution is None:
                lost.hint("messages.image.detail")
            else:
                part["mediaResolution"] = resolution
    elif isinstance(block, Video) and given(block.metadata):
        part["videoMetadata"] = block.metadata
    return part
