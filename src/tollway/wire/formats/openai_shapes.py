"""The few fields of OpenAI-format answers that the gateway reads, as Structs; everything else passes unseen.

Kept apart from the functions that read them because those are compiled, and a compiled module loses the annotations
that msgspec decodes by.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Raw, Struct

Count = Annotated[int, Meta(le=10**12)]
"""More than a trillion is no count but nonsense, and would not fit the ledger once it is priced."""


class PromptDetails(Struct):
    """``prompt_tokens_details``: parts of the prompt."""

    cached_tokens: Count | None = None
    audio_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    cache_creation_tokens: Count | None = None


class CompletionDetails(Struct):
    """``completion_tokens_details``: parts of the completion."""

    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None


class ReportedUsage(Struct):
    """A usage object, in all the spellings in use."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    prompt_cache_hit_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    num_search_queries: Count | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    input_tokens_details: PromptDetails | None = None
    output_tokens_details: CompletionDetails | None = None


class Reported(Struct):
    """What an answer says of its own consumption: the usage object verbatim, and the service tier it was served in."""

    usage: Raw = Raw()
    service_tier: str | None = None


class Chunk(Struct):
    """One event of a stream, as far as money and errors go."""

    usage: Raw = Raw()
    choices: Raw = Raw()
    error: Raw = Raw()


class ErrorMessage(Struct):
    message: str = ""
    type: str | None = None


class ErrorCode(Struct):
    code: int | str | None = None
    status: int | str | None = None


class ErrorObject(Struct):
    """``{"error": {…}}`` as far as it may hold a status."""

    error: ErrorCode
