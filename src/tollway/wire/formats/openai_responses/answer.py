"""The response object: everything the API gives back, the request's own settings included.

``completed_at`` is null, as no clock is read here. A pause of the provider's counts as completed: what it said so far
is whole, and sending it back continues it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Raw

from tollway.model.usage import Usage
from tollway.wire.conversation import Conversation, Finish, Opaque
from tollway.wire.formats.openai_responses.read_request import STANDING
from tollway.wire.formats.openai_responses.settings import effort_of, extras, write_text
from tollway.wire.formats.openai_responses.shapes import FAMILY, encode
from tollway.wire.formats.openai_responses.tools import write_choice, write_tools
from tollway.wire.formats.openai_responses.write_items import instructions_of
from tollway.wire.turns import Losses

_ECHOED = ("max_tool_calls", "prompt_cache_options", "prompt_cache_retention")
"""Fields that the answer repeats where they were sent, and leaves out else."""

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}

SERVER_ERROR = {"code": "server_error", "message": "The model stopped with an error."}


def echo(conversation: Conversation) -> bytes:
    """The fields of the response object that repeat the request, defaults filled in, without the braces around."""
    extra = extras(conversation)
    standing = {
        block.kind: block.raw
        for message in conversation.messages[:2]
        for block in message.blocks
        if isinstance(block, Opaque) and block.format == FAMILY and block.kind in STANDING
    }
    held = standing.get("conversation")
    if held is not None and bytes(held)[:1] == b'"':
        held = Raw(b'{"id":' + bytes(held) + b"}")
    reasoning = conversation.reasoning
    first = conversation.messages[0] if conversation.messages else None
    fields: dict[str, object] = {
        "background": extra.get("background", False),
        "conversation": held,
        "instructions": instructions_of(first) if first is not None else None,
        "max_output_tokens": conversation.max_tokens,
        "max_tool_calls": None,
        "metadata": conversation.metadata,
        "parallel_tool_calls": conversation.parallel_tool_calls is not False,
        "previous_response_id": conversation.previous_response_id,
        "prompt": standing.get("prompt"),
        "prompt_cache_key": conversation.prompt_cache_key,
        "reasoning": {
            "effort": effort_of(reasoning) if reasoning else None,
            "summary": reasoning.summary if reasoning else None,
        },
        "safety_identifier": conversation.safety_identifier,
        "store": conversation.store is not False,
        "temperature": 1.0 if conversation.temperature is None else conversation.temperature,
        "text": write_text(conversation.response_format, conversation.verbosity),
        "tool_choice": write_choice(conversation),
        "tools": write_tools(conversation, Losses()),
        "top_logprobs": conversation.top_logprobs or 0,
        "top_p": 1.0 if conversation.top_p is None else conversation.top_p,
        "truncation": extra.get("truncation", "disabled"),
        "user": conversation.user,
    }
    fields.update((name, extra[name]) for name in _ECHOED if name in extra)
    return encode(fields)[1:-1]


def response(
    *,
    answer_id: str,
    model: str,
    created: int,
    status: str,
    output: Sequence[object],
    echoed: bytes,
    usage: Usage | None = None,
    cost: str | None = None,
    service_tier: str | None = None,
    error: dict[str, object] | None = None,
    reason: str | None = None,
) -> Raw:
    """The whole response object as JSON. ``reason`` is why it is incomplete, ``error`` why it failed."""
    fields = {
        "id": answer_id,
        "object": "response",
        "created_at": created,
        "status": status,
        "completed_at": None,
        "error": error,
        "incomplete_details": {"reason": reason} if reason else None,
        "model": model,
        "output": output,
        "service_tier": service_tier,
        "usage": None if usage is None else write_usage(usage, cost),
    }
    return Raw(encode(fields)[:-1] + b"," + echoed + b"}")


def status_of(finish: Finish, refused: bool) -> tuple[str, str | None]:
    """The status of a finished answer, and why it is incomplete. A refusal that no part of it tells (``refused``) would
    pass for an answer."""
    if finish == "error":
        return "failed", None
    if finish == "refusal" and not refused:
        return "incomplete", "content_filter"
    reason = _INCOMPLETE.get(finish)
    return ("incomplete", reason) if reason else ("completed", None)


def write_usage(usage: Usage, cost: str | None = None) -> dict[str, object]:
    """Usage as this API counts it: the input includes what was cached, the output its reasoning."""
    read = usage.prompt_tokens()
    written = usage.output + usage.audio_output
    fields: dict[str, object] = {
        "input_tokens": read,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write_5m + usage.cache_write_1h,
        },
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": read + written,
    }
    if cost is not None:
        fields["cost"] = Raw(cost.encode())
    return fields
