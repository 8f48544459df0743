"""How much to think, in Gemini's ``thinkingConfig``: a budget of tokens for 2.5, a level for 3 and later.

Efforts become budgets as Google's own OpenAI-compatible endpoint does it (low 1,024, medium 8,192, high 24,576).
"""

from __future__ import annotations

from tollway.wire.codec import Profile
from tollway.wire.conversation import Reasoning
from tollway.wire.formats.gemini_generate.shapes import before_gemini_3
from tollway.wire.turns import Losses

BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576, "xhigh": 32_768, "max": 32_768}
LEVELS = {
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "HIGH",
    "max": "HIGH",
}

# Model, least and most tokens of thought, whether thinking can be switched off (Gemini API, "Thinking budgets").
_RANGES = (
    ("gemini-2.5-pro", 128, 32_768, False),
    ("gemini-2.5-flash-lite", 512, 24_576, True),
    ("gemini-2.5-flash", 1, 24_576, True),
)
_WIDEST = (1, 32_768, True)

# The levels of models that do not have all four ("Thinking levels").
_FEWER_LEVELS = (
    ("gemini-3-pro", {"MINIMAL": "LOW", "MEDIUM": "HIGH"}),
    ("gemini-3.1-pro", {"MINIMAL": "LOW"}),
)


def write_thinking(
    reasoning: Reasoning, profile: Profile, max_tokens: int | None, lost: Losses
) -> dict[str, object]:
    """``thinkingConfig``; empty where nothing is asked for, or cannot be."""
    told: dict[str, object] = {}
    show = reasoning.show
    if show is None and reasoning.summary and reasoning.summary != "none":
        show = True
    if profile.thinking == "none":
        if reasoning.enabled is not False and reasoning.effort != "none":
            lost.hint("reasoning")
        return told
    if reasoning.summary not in (None, "auto", "none"):
        lost.hint("reasoning.summary")
    name = profile.model.rpartition("/")[2]
    leveled = profile.thinking != "budget" or (name.startswith("gemini-") and not before_gemini_3(name))
    if leveled:
        level = _level(reasoning, name, lost)
        if level:
            told["thinkingLevel"] = level
    else:
        budget = _budget(reasoning, name, max_tokens, lost)
        if budget is not None:
            told["thinkingBudget"] = budget
            if budget == 0:
                return told
    if show is not None:
        told["includeThoughts"] = show
    return told


def _off(reasoning: Reasoning) -> bool:
    return reasoning.enabled is False or reasoning.effort == "none" or reasoning.budget == 0


def _budget(reasoning: Reasoning, name: str, max_tokens: int | None, lost: Losses) -> int | None:
    least, most, stoppable = next(
        (rest for start, *rest in _RANGES if name.startswith(start)),
        _WIDEST,
    )
    if _off(reasoning):
        if stoppable:
            return 0
        lost.hint("reasoning.enabled")
        return least
    if reasoning.budget is not None and reasoning.budget > 0:
        return max(least, min(reasoning.budget, most))
    if reasoning.effort in BUDGETS and reasoning.effort is not None:
        budget = BUDGETS[reasoning.effort]
        if max_tokens is not None:
            # Thoughts count against maxOutputTokens: half of it is left for the answer.
            budget = min(budget, max_tokens // 2)
        return max(least, min(budget, most))
    if reasoning.effort is not None:
        lost.hint("reasoning.effort")
    if reasoning.adaptive or reasoning.enabled or reasoning.budget == -1:
        return -1
    return None


def _level(reasoning: Reasoning, name: str, lost: Losses) -> str | None:
    if _off(reasoning):
        lost.hint("reasoning.enabled")  # Gemini 3 always thinks; as little as it can
        level = "MINIMAL"
    elif reasoning.effort is not None:
        found = LEVELS.get(reasoning.effort)
        if found is None or reasoning.effort in ("xhigh", "max"):
            lost.hint("reasoning.effort")
        if found is None:
            return None
        level = found
    elif reasoning.budget is not None and reasoning.budget > 0:
        level = "LOW" if reasoning.budget <= 1024 else "MEDIUM" if reasoning.budget <= 8192 else "HIGH"
    else:
        return None
    fewer = next((table for start, table in _FEWER_LEVELS if name.startswith(start)), {})
    return fewer.get(level, level)
