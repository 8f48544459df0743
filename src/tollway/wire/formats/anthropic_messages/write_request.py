"""A conversation as a Messages request. What the API cannot take is named in ``Written.lost``.

``max_tokens`` is mandatory there: without the client's word it is ``profile.max_output``, else 4096.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tollway.errors import BadRequest
from tollway.wire.codec import Profile
from tollway.wire.conversation import Conversation, Loss, Written
from tollway.wire.formats.anthropic_messages.lost import Lost
from tollway.wire.formats.anthropic_messages.write_settings import (
    name_lost,
    write_extra,
    write_format,
    write_identity,
)
from tollway.wire.formats.anthropic_messages.write_thinking import (
    DEFAULT_MAX_TOKENS,
    write_sampling,
    write_thinking,
)
from tollway.wire.formats.anthropic_messages.write_tools import write_tools
from tollway.wire.formats.anthropic_messages.write_turns import Turns

_encode = msgspec.json.Encoder().encode


def write_request(conversation: Conversation, profile: Profile) -> Written:
    """The body of ``/v1/messages``. BadRequest for a conversation that no Messages API would take: no turn with
    anything in it, calls left unanswered at the end, arguments that are no JSON object, an impossible tool name.

    A conversation of system messages alone is asked as the user's turn: the API wants one.
    """
    lost: Lost = {}
    turns = Turns(conversation, profile, lost)
    messages = turns.messages()
    system = turns.system
    if not messages:
        if not system:
            raise BadRequest(
                "'messages' holds nothing that can be sent to this provider. Give a message with text.",
                param="messages",
            )
        messages = [{"role": "user", "content": system}]
        system = []
    fields: dict[str, Any] = {"model": profile.model}
    output: dict[str, Any] = {}
    limited = conversation.max_tokens is not None
    fields["max_tokens"] = conversation.max_tokens if limited else (profile.max_output or DEFAULT_MAX_TOKENS)
    if system:
        only = system[0]
        plain = len(system) == 1 and isinstance(only, dict) and len(only) == 2
        fields["system"] = only["text"] if plain and isinstance(only, dict) else system
    fields["messages"] = messages
    forced = write_tools(conversation, profile, turns.called, fields, lost)
    thinking = write_thinking(
        conversation.reasoning,
        profile,
        fields,
        output,
        limited=limited,
        forced=forced,
        unproven=turns.unproven,
        lost=lost,
    )
    write_sampling(conversation, profile, thinking, fields, lost)
    write_format(conversation, profile, output, lost)
    write_identity(conversation, fields, lost)
    name_lost(conversation, lost)
    write_extra(conversation.extra, fields, output, lost)
    if output:
        fields["output_config"] = output
    if conversation.stream:
        fields["stream"] = True
    return Written(body=_encode(fields), lost=tuple(Loss(field, weight) for field, weight in lost.items()))
