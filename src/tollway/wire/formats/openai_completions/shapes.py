"""What requests, answers and events of the Completions format look like: Structs to decode by.

Source: the OpenAI API reference. ``prompt`` is undecoded, as it comes in four kinds.
"""

from __future__ import annotations

from typing import Final

from msgspec import Raw, Struct

from tollway.wire.formats.openai_chunks import Chunk

FAMILY: Final = "openai.completions"
"""The name under which extra fields and prompts that are no text are carried."""


class StreamOptions(Struct):
    include_usage: bool | None = None


class Request(Struct):
    """The fields with a place in the hub; every other one is carried as it came."""

    model: str
    prompt: Raw = Raw()
    suffix: str | None = None
    logprobs: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    n: int | None = None
    user: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


KNOWN: Final = frozenset(Request.__struct_fields__)


class Logprobs(Struct):
    """Parallel lists, one entry a token. ``token_logprobs`` is null for the first token of an echoed prompt."""

    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None
    text_offset: list[int] | None = None


class AnswerChoice(Struct):
    """``stop_reason`` is de facto (vLLM): the stop string that matched, or a token's number."""

    index: int | None = None
    text: str | None = None
    logprobs: Logprobs | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None


class Answer(Chunk):
    """A whole answer or an event: they have one shape."""

    choices: list[AnswerChoice] | None = None


class TopLogprob(Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenLogprob(Struct):
    """An entry of the chat format's ``logprobs.content``, which is what the hub carries."""

    token: str
    logprob: float | None = None
    bytes: list[int] | None = None
    top_logprobs: list[TopLogprob] = []


class ChatLogprobs(Struct):
    content: list[TokenLogprob] | None = None
