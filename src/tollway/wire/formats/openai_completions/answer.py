"""Whole answers of the Completions format, to and from the hub. Only text and refusals have a place in one."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw

from tollway.wire.codec import Unreadable
from tollway.wire.conversation import (
    Choice,
    Completion,
    Conversation,
    Finish,
    Refusal,
    Text,
)
from tollway.wire.decoding import answer as decode_answer
from tollway.wire.decoding import given
from tollway.wire.formats.openai_chat.shapes import FINISH_READ
from tollway.wire.formats.openai_chat.usage import write_usage
from tollway.wire.formats.openai_chunks import seconds
from tollway.wire.formats.openai_completions.logprobs import from_chat, to_chat
from tollway.wire.formats.openai_completions.shapes import Answer, AnswerChoice
from tollway.wire.formats.openai_usage import read_usage

_decoder = msgspec.json.Decoder(Answer)
_encode = msgspec.json.Encoder().encode

FINISH_WRITTEN: Final[dict[Finish, str]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "stop",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "pause": "stop",
    "error": "length",
}


def read_answer(body: bytes) -> Completion:
    found = decode_answer(_decoder, body, "The provider's answer")
    if given(found.error):
        raise Unreadable("The provider's answer is an error object with a good status")
    if found.choices is None:
        raise Unreadable("The provider's answer has no choices")
    return Completion(
        id="" if found.id is None else str(found.id),
        model=found.model or "",
        created=seconds(found.created),
        choices=tuple(_read_choice(choice) for choice in found.choices),
        usage=read_usage(found.usage) if given(found.usage) else None,
        raw_usage=found.usage if given(found.usage) else Raw(),
        service_tier=found.service_tier,
    )


def _read_choice(choice: AnswerChoice) -> Choice:
    return Choice(
        blocks=(Text(text=choice.text),) if choice.text else (),
        finish=finish(choice.finish_reason),
        stop_sequence=stopped_at(choice),
        logprobs=to_chat(choice.logprobs),
    )


def finish(reason: str | None) -> Finish:
    found = FINISH_READ.get(reason or "stop", "stop")
    return "stop" if found == "tool_calls" else found


def stopped_at(choice: AnswerChoice) -> str | None:
    return choice.stop_reason if isinstance(choice.stop_reason, str) and choice.stop_reason else None


def write_answer(completion: Completion, conversation: Conversation) -> bytes:
    wire: dict[str, Any] = {
        "id": completion.id,
        "object": "text_completion",
        "created": completion.created,
        "model": completion.model,
        "choices": [_write_choice(choice, number) for number, choice in enumerate(completion.choices)],
    }
    if completion.service_tier:
        wire["service_tier"] = completion.service_tier
    if completion.usage is not None:
        wire["usage"] = write_usage(completion.usage, completion.cost)
    return _encode(wire)


def _write_choice(choice: Choice, number: int) -> dict[str, Any]:
    words = [block.text for block in choice.blocks if isinstance(block, Text | Refusal)]
    logprobs = from_chat(choice.logprobs, 0)
    return {
        "text": "".join(words),
        "index": number,
        "logprobs": logprobs,
        "finish_reason": FINISH_WRITTEN[choice.finish],
    }
