"""How the models behind Converse are asked to think, and when they must not be.

Converse itself has one word for it, ``outputConfig.effort``; the rest are fields of the models' own.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Raw

from tollway.wire import turns
from tollway.wire.codec import Profile
from tollway.wire.conversation import Conversation, Message, Reasoning, Thinking, ToolCall, ToolResult
from tollway.wire.formats.bedrock_converse.shapes import (
    BUDGETS,
    EFFORTS,
    SMALLEST_BUDGET,
    THREE_EFFORTS,
    Family,
    decode_fields,
    encode,
)


class Additional:
    """``additionalModelRequestFields`` in the making. What the caller wrote there himself is never overwritten."""

    __slots__ = ("effort", "fields")

    def __init__(self) -> None:
        self.fields: dict[str, Raw] = {}
        self.effort: str | None = None

    def put(self, path: tuple[str, ...], value: Raw) -> None:
        if len(path) == 1:
            self.fields.setdefault(path[0], value)
            return
        inner = decode_fields(self.fields[path[0]]) if path[0] in self.fields else {}
        inner.setdefault(path[1], value)
        self.fields[path[0]] = Raw(encode(inner))

    def append(self, name: str, value: Raw) -> None:
        """One more item of a list, unless it is in it."""
        held = bytes(self.fields[name]) if name in self.fields else b"[]"
        if bytes(value) in held:
            return
        inside = held.strip()[1:-1].strip()
        self.fields[name] = Raw(b"[" + (inside + b"," if inside else b"") + bytes(value) + b"]")


def write_reasoning(
    conversation: Conversation,
    profile: Profile,
    family: Family,
    arranged: Sequence[Message],
    additional: Additional,
    lost: turns.Losses,
) -> bool:
    """Whether the model will think in a way that narrows the other settings."""
    wanted = conversation.reasoning
    if wanted is None or wanted == Reasoning():
        return False
    off = wanted.enabled is False or wanted.effort == "none"
    if family.thinking == "anthropic":
        return _anthropic(conversation, wanted, off, profile, arranged, additional, lost)
    if family.thinking == "nova" and profile.thinking != "none":
        config = {"type": "disabled"}
        if not off:
            config = {"type": "enabled", "maxReasoningEffort": THREE_EFFORTS[_effort(wanted)]}
        additional.put(("reasoningConfig",), Raw(encode(config)))
    elif family.thinking == "effort" and profile.thinking != "none" and not off:
        additional.put(("reasoning_effort",), Raw(encode(THREE_EFFORTS[_effort(wanted)])))
    elif not off or family.thinking == "effort":
        lost.hint("reasoning")
    return False


def _effort(wanted: Reasoning) -> str:
    """The level asked for; of a budget the highest level whose tokens it covers."""
    if wanted.effort in BUDGETS:
        return wanted.effort
    budget = wanted.budget
    if budget is None or budget < 0:
        return "medium"
    return max(
        (level for level in ("low", "medium", "high") if BUDGETS[level] <= budget),
        key=lambda level: BUDGETS[level],
        default="low",
    )


def _anthropic(
    conversation: Conversation,
    wanted: Reasoning,
    off: bool,
    profile: Profile,
    arranged: Sequence[Message],
    additional: Additional,
    lost: turns.Losses,
) -> bool:
    if off:
        if profile.thinking == "adaptive":
            additional.put(("thinking",), Raw(b'{"type":"disabled"}'))
        return False
    choice = conversation.tool_choice
    forced = choice is not None and choice.mode in ("required", "named")
    if profile.thinking == "none" or forced or (profile.thinking == "budget" and _broken_off(arranged)):
        # Claude refuses to think where a tool is forced; with a budget also where the turn it goes on with lost
        # its thoughts.
        lost.hint("reasoning")
        return False
    if profile.thinking == "effort":
        additional.effort = _known_effort(wanted)
        return False
    if profile.thinking == "adaptive":
        additional.put(("thinking",), Raw(b'{"type":"adaptive"}'))
        if wanted.effort or wanted.budget is not None:
            additional.effort = _known_effort(wanted)
        return True
    budget = wanted.budget
    if budget is None or budget < 0:
        budget = BUDGETS[_effort(wanted)]
    budget = max(budget, SMALLEST_BUDGET)
    limit = conversation.max_tokens or profile.max_output
    if limit is not None and budget >= limit:
        budget = limit - 1
    if budget < SMALLEST_BUDGET:
        lost.hint("reasoning")
        return False
    additional.put(("thinking",), Raw(encode({"type": "enabled", "budget_tokens": budget})))
    return True


def _known_effort(wanted: Reasoning) -> str:
    effort = _effort(wanted)
    return effort if effort in EFFORTS else "low"


def _broken_off(arranged: Sequence[Message]) -> bool:
    """Whether the conversation ends with tool results whose calling turn has no thoughts that can be sent."""
    if len(arranged) < 2 or not any(isinstance(block, ToolResult) for block in arranged[-1].blocks):
        return False
    calling = arranged[-2].blocks
    if not any(isinstance(block, ToolCall) for block in calling):
        return False
    first = calling[0]
    return not (
        isinstance(first, Thinking)
        and first.format in ("bedrock", "anthropic")
        and bool(first.signature or first.redacted)
    )
