"""What a conversation asks for besides its turns, in this API's words: used for requests and for the answer's echo."""

from __future__ import annotations

from msgspec import Raw

from tollway.wire.codec import Profile
from tollway.wire.conversation import Conversation, Reasoning, ResponseFormat
from tollway.wire.formats.openai_responses.shapes import FAMILY
from tollway.wire.turns import Losses

EFFORT_OF_BUDGET = ((1024, "low"), (2048, "medium"))
"""The effort that stands for a budget of thinking tokens up to so many; more is ``high``."""


REASONING = ("context", "mode")
"""Fields of ``reasoning`` that the hub has no name for."""

SERVICE_TIERS = frozenset(("auto", "default", "flex", "scale", "priority", "fast", "ultrafast"))


def extras(conversation: Conversation) -> dict[str, Raw]:
    """The fields of this API that the hub has no name for."""
    return {found.name: found.raw for found in conversation.extra if found.format == FAMILY}


def write_text(wanted: ResponseFormat | None, verbosity: str | None) -> dict[str, object]:
    text: dict[str, object] = {}
    if wanted is None:
        text["format"] = {"type": "text"}
    elif wanted.kind == "json_object":
        text["format"] = {"type": "json_object"}
    else:
        described: dict[str, object] = {"type": "json_schema", "name": wanted.name, "schema": wanted.schema}
        if wanted.description is not None:
            described["description"] = wanted.description
        if wanted.strict is not None:
            described["strict"] = wanted.strict
        text["format"] = described
    if verbosity is not None:
        text["verbosity"] = verbosity
    return text


def effort_of(reasoning: Reasoning) -> str | None:
    """The effort asked for; a budget counts by the table, thinking that is forbidden is ``none``."""
    if reasoning.effort is not None:
        return reasoning.effort
    if reasoning.enabled is False:
        return "none"
    if reasoning.budget is None or reasoning.budget < 0 or reasoning.adaptive:
        return None
    if reasoning.budget == 0:
        return "none"
    for limit, effort in EFFORT_OF_BUDGET:
        if reasoning.budget <= limit:
            return effort
    return "high"


def write_reasoning(conversation: Conversation, profile: Profile, lost: Losses) -> dict[str, object] | None:
    reasoning = conversation.reasoning
    if reasoning is None:
        return None
    effort = effort_of(reasoning)
    if profile.thinking == "none":
        # A model that cannot think refuses the field, even where it says not to.
        if effort != "none":
            lost.hint("reasoning")
        return None
    written: dict[str, object] = {}
    if effort is not None:
        written["effort"] = effort
    if reasoning.summary is not None:
        written["summary"] = reasoning.summary
    elif reasoning.show:
        written["summary"] = "auto"
    return written or None
