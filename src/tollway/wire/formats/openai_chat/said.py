"""What a provider said in a message or a delta, read into blocks: the parts that whole answers and streams share."""

from __future__ import annotations

import re

import msgspec
from msgspec import Raw

from tollway.errors import BadRequest
from tollway.model.usage import Usage
from tollway.wire.codec import Unreadable
from tollway.wire.conversation import Block, Citation, Finish, Image, Opaque
from tollway.wire.decoding import given
from tollway.wire.formats.openai_chat.parts import read_part, read_source
from tollway.wire.formats.openai_chat.shapes import (
    FAMILY,
    FINISH_READ,
    Annotation,
    AnswerChoice,
    ImageEntry,
    Part,
    Said,
    Wire,
    encode,
)
from tollway.wire.formats.openai_usage import read_usage

_decode_part = msgspec.json.Decoder(Part).decode
_decode_annotation = msgspec.json.Decoder(Annotation).decode
_decode_detail = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_any = msgspec.json.Decoder().decode

_UNSAFE = re.compile(r"[^a-zA-Z0-9]")


def made_id(answer_id: str, choice: int, number: int) -> str:
    """An id for a call that came without one: the same in a stream and in the whole answer, and at most 40 long."""
    return f"call_{_UNSAFE.sub('', answer_id)[-24:]}_{choice}_{number}"


def thought(said: Said) -> str:
    """Reasoning in words. Two names are in use; servers that send both say the same twice."""
    return said.reasoning_content or said.reasoning or ""


def detail_thought(details: list[Raw]) -> str:
    """The words in ``reasoning_details``, for answers that have them nowhere else."""
    words: list[str] = []
    for raw in details:
        try:
            entry = _decode_any(raw)
        except (msgspec.DecodeError, RecursionError):
            continue
        if isinstance(entry, dict):
            words.extend(text for name in ("text", "summary") if isinstance(text := entry.get(name), str))
    return "".join(words)


def parts(content: list[Raw]) -> list[Block]:
    """Content given as parts (Mistral does so where a model thinks). Raises Unreadable."""
    blocks = []
    for raw in content:
        try:
            blocks.append(read_part(_decode_part(raw), "content", raw))
        except (msgspec.DecodeError, RecursionError, BadRequest):
            raise Unreadable("a content part of the answer does not fit its format") from None
    return blocks


def citation(raw: Raw) -> Citation:
    """An annotation. Only ``url_citation`` is understood; any other kind is carried as it came."""
    try:
        found = _decode_annotation(raw).url_citation
    except (msgspec.DecodeError, RecursionError):
        found = None
    if found is None:
        return Citation(format=FAMILY, raw=raw)
    return Citation(
        url=found.url,
        title=found.title,
        cited=found.content,
        start=found.start_index,
        end=found.end_index,
        format=FAMILY,
        raw=raw,
    )


def image(entry: ImageEntry) -> Image | None:
    if entry.image_url is None or not entry.image_url.url:
        return None
    return Image(source=read_source(entry.image_url.url), detail=entry.image_url.detail)


def details_block(details: list[Raw]) -> Opaque:
    """``reasoning_details`` as one block. Pieces of one entry (same index and type) are put together, so that a
    stream's and a whole answer's are the same."""
    entries: list[Wire] = []
    for raw in details:
        try:
            entry = _decode_detail(raw)
        except (msgspec.DecodeError, RecursionError):
            raise Unreadable("reasoning_details of the answer do not fit their format") from None
        place = (bytes(entry.get("index", b"")), bytes(entry.get("type", b"")))
        last = entries[-1] if entries else None
        if (
            last is None
            or not place[0]
            or place != (bytes(last.get("index", b"")), bytes(last.get("type", b"")))
        ):
            entries.append(dict(entry))
            continue
        for name, value in entry.items():
            before = last.get(name)
            if before is None or not given(before):
                last[name] = value
            elif name in ("text", "summary", "data") and given(value):
                last[name] = _joined(before, value)
    return Opaque(format=FAMILY, kind="reasoning_details", raw=Raw(encode(entries)))


def _joined(before: Raw, after: Raw) -> Raw:
    first, second = _decode_any(before), _decode_any(after)
    return Raw(encode(first + second)) if isinstance(first, str) and isinstance(second, str) else after


def finish(reason: str | None, *, called: bool, refused: bool) -> Finish:
    """Why it ended. Several servers say ``stop``, or nothing, where tools were called; a refusal in words is ``stop``
    by the book."""
    found = FINISH_READ.get(reason or "stop", "stop")
    if found == "stop":
        return "tool_calls" if called else "refusal" if refused else "stop"
    return found


def stopped_at(choice: AnswerChoice) -> str | None:
    """De facto (vLLM): the stop sequence that matched."""
    return choice.stop_reason if isinstance(choice.stop_reason, str) and choice.stop_reason else None


def metered(raw: Raw) -> Usage | None:
    return read_usage(raw) if given(raw) else None
