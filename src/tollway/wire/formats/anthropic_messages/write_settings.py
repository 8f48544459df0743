"""The parts of a Messages request that say how and for whom to answer, beyond tools and thinking. Each function puts
what it can into ``fields`` and names the rest in ``lost``.
"""

from __future__ import annotations

from typing import Any

from tollway.wire.codec import Profile
from tollway.wire.conversation import Conversation, Extra
from tollway.wire.formats.anthropic_messages.lost import Lost, lose
from tollway.wire.formats.anthropic_messages.proof import FAMILY

Fields = dict[str, Any]


def write_format(conversation: Conversation, profile: Profile, output: Fields, lost: Lost) -> None:
    """``output_config.format``. The API knows no JSON without a schema."""
    wanted = conversation.response_format
    if wanted is None:
        return
    if wanted.kind != "json_schema" or not profile.schema or not bytes(wanted.schema).startswith(b"{"):
        lose(lost, "response_format", "meaning")
        return
    output["format"] = {"type": "json_schema", "schema": wanted.schema}
    if wanted.description:
        lose(lost, "response_format.description")


def write_identity(conversation: Conversation, fields: Fields, lost: Lost) -> None:
    """``metadata.user_id`` and ``service_tier``."""
    user = conversation.user or conversation.safety_identifier
    if user:
        fields["metadata"] = {"user_id": user}
    if conversation.user and conversation.safety_identifier not in (None, conversation.user):
        lose(lost, "safety_identifier")
    tier = conversation.service_tier
    if tier in ("auto", "priority"):
        fields["service_tier"] = "auto"
    elif tier in ("default", "standard_only"):
        fields["service_tier"] = "standard_only"
    elif tier is not None:
        lose(lost, "service_tier")


def write_extra(extras: tuple[Extra, ...], fields: Fields, output: Fields, lost: Lost) -> None:
    """Fields of our own family, each back at its place; those of others are lost."""
    for extra in extras:
        if extra.format != FAMILY:
            lose(lost, extra.name, extra.weight)
        elif extra.name.startswith("output_config."):
            output[extra.name.removeprefix("output_config.")] = extra.raw
        elif extra.name.startswith("tools."):
            continue  # went with its tool
        elif "." in extra.name:
            lose(lost, extra.name)
        else:
            fields[extra.name] = extra.raw


def name_lost(conversation: Conversation, lost: Lost) -> None:
    """What a request may ask and the API has no word for."""
    for field in ("min_p", "frequency_penalty", "presence_penalty", "seed", "top_logprobs", "verbosity"):
        if getattr(conversation, field) is not None:
            lose(lost, field)
    if conversation.logprobs:
        lose(lost, "logprobs")
    if conversation.prompt_cache_key is not None:
        lose(lost, "prompt_cache_key")
    if len(bytes(conversation.prediction)) > 0:
        lose(lost, "prediction")
    if conversation.metadata:
        lose(lost, "metadata")
    if conversation.store:
        lose(lost, "store")
    if conversation.n > 1:
        lose(lost, "n", "meaning")
    if any(modality != "text" for modality in conversation.modalities):
        lose(lost, "modalities", "meaning")
    if conversation.previous_response_id is not None:
        lose(lost, "previous_response_id", "meaning")
