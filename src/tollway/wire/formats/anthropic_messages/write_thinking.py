"""How a Messages request asks a model to think, and the sampling settings that thinking leaves room for.

Source: the guides on extended and adaptive thinking and on effort.
"""

from __future__ import annotations

from typing import Any

from tollway.wire.codec import Profile
from tollway.wire.conversation import Conversation, Reasoning
from tollway.wire.formats.anthropic_messages.lost import Lost, lose

Fields = dict[str, Any]

DEFAULT_MAX_TOKENS = 4096
"""Where neither the client nor the profile says how long an answer may get; the API insists on a number."""

LEAST_BUDGET = 1024
BUDGETS = {"minimal": 1024, "low": 1024, "medium": 2048, "high": 4096, "xhigh": 8192, "max": 16384}
"""Thinking tokens for an effort, where the model takes tokens."""

_EFFORTS = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}


def write_thinking(
    reasoning: Reasoning | None,
    profile: Profile,
    fields: Fields,
    output: Fields,
    *,
    limited: bool,
    forced: bool,
    unproven: bool,
    lost: Lost,
) -> bool:
    """``thinking`` and the effort. ``fields["max_tokens"]`` is given; ``limited`` says that the client gave it.
    ``forced``: a tool call is demanded, ``unproven``: the turn to go on with does not begin with thinking; the API
    refuses to think then. Returns whether it will think."""
    if reasoning is None:
        return False
    off = reasoning.enabled is False or reasoning.effort == "none" or reasoning.budget == 0
    if profile.thinking == "none":
        if not off:
            lose(lost, "reasoning")
        return False
    if profile.thinking == "budget":
        # Without the field these models do not think: nothing has to be forbidden.
        return not off and _budget(reasoning, fields, limited, forced or unproven, profile, lost)
    effort = _effort(reasoning)
    if effort is not None:
        output["effort"] = effort
    if profile.thinking != "adaptive":
        return False
    if off or forced:
        fields["thinking"] = {"type": "disabled"}
        if not off:
            lose(lost, "reasoning")
        return False
    wire: dict[str, Any] = {"type": "adaptive"}
    show = reasoning.show if reasoning.show is not None else (True if reasoning.summary else None)
    if show is not None:
        wire["display"] = "summarized" if show else "omitted"
    fields["thinking"] = wire
    return True


def _effort(reasoning: Reasoning) -> str | None:
    if reasoning.effort is not None:
        return _EFFORTS.get(reasoning.effort)
    if reasoning.budget is None or reasoning.budget <= 0:
        return None
    if reasoning.budget <= BUDGETS["low"]:
        return "low"
    # More than this is what the API does by itself: a budget never asks for more than that.
    return "medium" if reasoning.budget <= BUDGETS["medium"] else "high"


def _budget(
    reasoning: Reasoning, fields: Fields, limited: bool, barred: bool, profile: Profile, lost: Lost
) -> bool:
    """Tokens to think with: at least 1024 and fewer than ``max_tokens``, which is raised where the client set none.
    A budget made of an effort leaves half of the client's limit to the answer."""
    limit: int = fields["max_tokens"]
    given = reasoning.budget is not None and reasoning.budget > 0
    wanted = reasoning.budget if given else BUDGETS.get(reasoning.effort or "high", BUDGETS["high"])
    budget = max(wanted or 0, LEAST_BUDGET)
    if not limited and limit <= budget:
        limit = budget + DEFAULT_MAX_TOKENS
        if profile.max_output is not None:
            limit = min(limit, profile.max_output)
    if limited and not given:
        budget = min(budget, max(limit // 2, LEAST_BUDGET))
    budget = min(budget, limit - 1)
    if barred or budget < LEAST_BUDGET:
        lose(lost, "reasoning")
        return False
    if given and reasoning.effort is not None:
        lose(lost, "reasoning.effort")
    if reasoning.show is False:
        lose(lost, "reasoning.show")
    fields["max_tokens"] = limit
    fields["thinking"] = {"type": "enabled", "budget_tokens": budget}
    return True


def write_sampling(
    conversation: Conversation, profile: Profile, thinking: bool, fields: Fields, lost: Lost
) -> None:
    """``temperature``, ``top_p``, ``top_k`` and ``stop_sequences`` within what the API takes: a temperature up to 1;
    with thinking none but 1, no ``top_k``, and ``top_p`` from 0.95; newer models one of temperature and ``top_p``."""
    temperature, top_p, top_k = conversation.temperature, conversation.top_p, conversation.top_k
    if not profile.sampling:
        for name, value in (("temperature", temperature), ("top_p", top_p), ("top_k", top_k)):
            if value is not None:
                lose(lost, name)
        temperature = top_p = top_k = None
    if temperature is not None and not 0 <= temperature <= 1:
        lose(lost, "temperature")
        temperature = min(max(temperature, 0), 1)
    if thinking:
        if temperature is not None and temperature != 1:
            lose(lost, "temperature")
        temperature = None
        if top_k is not None:
            lose(lost, "top_k")
            top_k = None
        if top_p is not None and not 0.95 <= top_p <= 1:
            lose(lost, "top_p")
            top_p = None
    if temperature is not None and top_p is not None:
        if top_p == 1:
            top_p = None
        elif temperature == 1:
            temperature = None
        else:
            lose(lost, "top_p")
            top_p = None
    for name, value in (("temperature", temperature), ("top_p", top_p), ("top_k", top_k)):
        if value is not None:
            fields[name] = value
    if conversation.stop:
        stop = [sequence for sequence in conversation.stop if sequence.strip()]
        if len(stop) < len(conversation.stop):
            lose(lost, "stop")
        if stop:
            fields["stop_sequences"] = stop
