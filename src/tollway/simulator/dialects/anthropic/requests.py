"""What Anthropic refuses in a request to its messages API, in the order and with the paths it names things by."""

from __future__ import annotations

import re
from typing import Any

from tollway.simulator.answer import Request
from tollway.simulator.dialects.anthropic.errors import invalid
from tollway.simulator.reading import Body, Plain, json_object, whole
from tollway.simulator.speech import is_sealed

FIELDS = frozenset(
    (
        "cache_control",
        "container",
        "context_management",
        "fallbacks",
        "inference_geo",
        "max_tokens",
        "mcp_servers",
        "messages",
        "metadata",
        "model",
        "output_config",
        "output_format",
        "service_tier",
        "speed",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    )
)

BLOCKS: dict[str, frozenset[str]] = {
    "text": frozenset(("text", "citations")),
    "image": frozenset(("source", "transformations")),
    "document": frozenset(("source", "citations", "context", "title")),
    "search_result": frozenset(("content", "source", "title", "citations")),
    "thinking": frozenset(("thinking", "signature")),
    "redacted_thinking": frozenset(("data",)),
    "tool_use": frozenset(("id", "input", "name", "caller", "toolset_name")),
    "tool_result": frozenset(("tool_use_id", "content", "is_error", "toolset_name")),
}
"""Fields of the blocks that clients write, beside ``type`` and ``cache_control``."""

NEEDED = {
    "text": ("text",),
    "image": ("source",),
    "document": ("source",),
    "thinking": ("thinking", "signature"),
    "redacted_thinking": ("data",),
    "tool_use": ("id", "name", "input"),
    "tool_result": ("tool_use_id",),
}

LEAST_BUDGET = 1024
MOST_CACHED = 4

SYSTEM_BETA = b"mid-conversation-system-"
"""Beta under which the system speaks between the messages too, not before the first."""

EXTRA = "Extra inputs are not permitted"

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")


def read(request: Request) -> Plain:
    body = json_object(request, invalid)
    required = ("max_tokens", "messages", "model")
    check(body, required, betas_of(request))
    return Plain(body["model"], body, request)


def read_count(request: Request) -> Plain:
    body = json_object(request, invalid)
    check(body, ("messages", "model"), betas_of(request))
    return Plain(body["model"], body, request)


def betas_of(request: Request) -> bytes:
    return request.headers.get(b"anthropic-beta", b"")


def check(body: Body, required: tuple[str, ...], betas: bytes = b"") -> None:
    """Raises the Refusal of a request that the vendor does not take. ``model`` must be there in any case."""
    for name in required:
        if name not in body:
            raise invalid(f"{name}: Field required")
    for name in body:
        if name not in FIELDS:
            raise invalid(f"{name}: {EXTRA}")
    if not isinstance(body["model"], str) or not body["model"]:
        raise invalid("model: Input should be a valid string")
    if "max_tokens" in body:
        limit = whole(body["max_tokens"])
        if limit is None or limit < 1:
            raise invalid("max_tokens: Input should be greater than or equal to 1")
    _numbers(body)
    thinks = _thinking(body)
    _system(body.get("system"))
    _tools(body)
    _messages(body["messages"], thinks, SYSTEM_BETA in betas)
    marks = _cache_marks(body)
    if marks > MOST_CACHED:
        raise invalid(f"A maximum of {MOST_CACHED} blocks with cache_control may be provided. Found {marks}.")


def _numbers(body: Body) -> None:
    for name in ("temperature", "top_p"):
        value = body.get(name)
        if value is not None and (not isinstance(value, int | float) or not 0 <= value <= 1):
            raise invalid(f"{name}: range: 0..1")
    top = body.get("top_k")
    if top is not None and (whole(top) is None or top < 0):
        raise invalid("top_k: Input should be greater than or equal to 0")
    if not isinstance(body.get("stream", False), bool | None):
        raise invalid("stream: Input should be a valid boolean")
    stops = body.get("stop_sequences")
    if stops is not None and (not isinstance(stops, list) or not all(isinstance(x, str) for x in stops)):
        raise invalid("stop_sequences: Input should be a valid list of strings")
    if any(not one.strip() for one in stops or ()):
        raise invalid("stop_sequences: each stop sequence must contain non-whitespace")


def thinking_on(body: Body) -> bool:
    asked = body.get("thinking")
    return isinstance(asked, dict) and asked.get("type") != "disabled"


def _thinking(body: Body) -> bool:
    """Whether thinking has a budget, which binds more than thinking that the model measures out itself."""
    asked = body.get("thinking")
    if asked is None:
        return False
    kind = asked.get("type") if isinstance(asked, dict) else None
    if kind not in ("enabled", "disabled", "adaptive", "between_tools"):
        raise invalid("thinking: Input tag does not match any of the expected tags: 'disabled', 'enabled'")
    if kind == "disabled":
        return False
    if kind == "enabled":
        budget = whole(asked.get("budget_tokens"))
        if budget is None:
            raise invalid("thinking.enabled.budget_tokens: Field required")
        if budget < LEAST_BUDGET:
            raise invalid(
                f"thinking.enabled.budget_tokens: Input should be greater than or equal to {LEAST_BUDGET}"
            )
        if "max_tokens" in body and budget >= body["max_tokens"]:
            raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")
    if body.get("temperature") not in (None, 1):
        raise invalid("`temperature` may only be set to 1 when thinking is enabled.")
    choice = body.get("tool_choice")
    if kind == "enabled" and isinstance(choice, dict) and choice.get("type") in ("any", "tool"):
        raise invalid("Thinking may not be enabled when tool_choice forces tool use.")
    return bool(kind == "enabled")


def _system(system: Any) -> None:
    if system is None or isinstance(system, str):
        return
    if not isinstance(system, list):
        raise invalid("system: Input should be a valid list")
    for place, block in enumerate(system):
        if not isinstance(block, dict) or block.get("type") != "text":
            raise invalid(f"system.{place}.type: Input should be 'text'")
        if not block.get("text"):
            raise invalid("system: text content blocks must be non-empty")


def _tools(body: Body) -> None:
    tools = body.get("tools")
    choice = body.get("tool_choice")
    if choice is not None:
        if not tools:
            raise invalid("tool_choice may only be specified while providing tools.")
        if not isinstance(choice, dict) or choice.get("type") not in ("auto", "any", "tool", "none"):
            raise invalid("tool_choice: Input tag does not match any of the expected tags")
    if tools is None:
        return
    if not isinstance(tools, list):
        raise invalid("tools: Input should be a valid list")
    names: set[str] = set()
    for place, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise invalid(f"tools.{place}: Input should be a valid dictionary")
        name = tool.get("name")
        if tool.get("type", "custom") == "custom":
            where = f"tools.{place}.custom"
            if name is None:
                raise invalid(f"{where}.name: Field required")
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise invalid(f"{where}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
            schema = tool.get("input_schema")
            if not isinstance(schema, dict):
                raise invalid(f"{where}.input_schema: Field required")
            if schema.get("type") != "object":
                raise invalid(f"{where}.input_schema.type: Input should be 'object'")
        if name in names:
            raise invalid("tools: Tool names must be unique.")
        names.add(str(name))
    if isinstance(choice, dict) and choice.get("type") == "tool" and choice.get("name") not in names:
        raise invalid(f"Tool '{choice.get('name')}' not found in provided tools")


def blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _messages(messages: Any, thinks: bool, system_between: bool) -> None:
    if not isinstance(messages, list):
        raise invalid("messages: Input should be a valid list")
    if not messages:
        raise invalid("messages: at least one message is required")
    for place, message in enumerate(messages):
        where = f"messages.{place}"
        if not isinstance(message, dict):
            raise invalid(f"{where}: Input should be a valid dictionary")
        role = message.get("role")
        if role == "system" and not (system_between and place):
            raise invalid(
                'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, '
                'not "system" as an input message role.'
            )
        if role not in ("user", "assistant", "system"):
            raise invalid(f"{where}.role: Input should be 'user' or 'assistant'")
        if "content" not in message:
            raise invalid(f"{where}.content: Field required")
        for name in message:
            if name not in ("role", "content"):
                raise invalid(f"{where}.{name}: {EXTRA}")
        content = message["content"]
        if not isinstance(content, str | list):
            raise invalid(f"{where}.content: Input should be a valid list")
        if not content and not (role == "assistant" and place == len(messages) - 1):
            raise invalid(
                f"{where}: all messages must have non-empty content except for the optional final assistant message"
            )
        for number, block in enumerate(blocks(content)):
            _block(block, role, f"{where}.content.{number}")
    last = messages[-1]
    if last["role"] == "assistant":
        closing = blocks(last["content"])[-1:]
        if closing and closing[0]["type"] == "text" and closing[0]["text"] != closing[0]["text"].rstrip():
            raise invalid("messages: final assistant content cannot end with trailing whitespace")
    _pairs(messages)
    if thinks:
        _thought_first(messages)


def _block(block: Any, role: str, where: str) -> None:
    kind = block.get("type") if isinstance(block, dict) else None
    if not isinstance(kind, str):
        raise invalid(f"{where}.type: Field required")
    if kind not in BLOCKS:
        # Blocks of the vendor's own tools come back as they were sent; they are not looked into.
        if kind.startswith(("server_tool", "mcp_tool")) or kind.endswith("tool_result") or "_" in kind:
            return
        raise invalid(
            f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags"
        )
    for name in block:
        if name not in ("type", "cache_control") and name not in BLOCKS[kind]:
            raise invalid(f"{where}.{kind}.{name}: {EXTRA}")
    for name in NEEDED.get(kind, ()):
        if name not in block:
            raise invalid(f"{where}.{kind}.{name}: Field required")
    if kind == "text":
        if not isinstance(block["text"], str):
            raise invalid(f"{where}.text.text: Input should be a valid string")
        if not block["text"]:
            raise invalid("messages: text content blocks must be non-empty")
    elif kind == "tool_use" and not isinstance(block["input"], dict):
        raise invalid(f"{where}.tool_use.input: Input should be a valid dictionary")
    elif kind == "thinking" and not is_sealed(block["signature"], block["thinking"]):
        raise invalid(f"{where}: Invalid `signature` in `thinking` block")
    elif kind == "redacted_thinking" and not is_sealed(block["data"], "redacted"):
        raise invalid(f"{where}: Invalid `data` in `redacted_thinking` block")
    if role == "user" and kind in ("thinking", "redacted_thinking", "tool_use"):
        raise invalid(f"{where}: `{kind}` blocks can only be in `assistant` messages")
    if role == "assistant" and kind == "tool_result":
        raise invalid(f"{where}: `tool_result` blocks can only be in `user` messages")


def _turns(messages: list[Body]) -> list[tuple[int, str, list[dict[str, Any]]]]:
    """Messages of one role in a row are one turn: the place of its first, the role, its blocks."""
    turns: list[tuple[int, str, list[dict[str, Any]]]] = []
    for place, message in enumerate(messages):
        if turns and turns[-1][1] == message["role"]:
            turns[-1][2].extend(blocks(message["content"]))
        else:
            turns.append((place, message["role"], list(blocks(message["content"]))))
    return turns


def _pairs(messages: list[Body]) -> None:
    """Every tool_use has its tool_result at the head of the next turn, and the other way round."""
    called: list[str] = []
    before = 0
    for place, _, content in [*_turns(messages), (len(messages), "", [])]:
        results: list[str] = []
        for block in content:
            if block["type"] != "tool_result":
                break
            results.append(block["tool_use_id"])
        missing = [one for one in called if one not in results]
        if missing:
            raise invalid(
                f"messages.{before}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the "
                "next message."
            )
        for number, block in enumerate(content):
            if block["type"] == "tool_result" and block["tool_use_id"] not in called:
                raise invalid(
                    f"messages.{place}.content.{number}: unexpected `tool_use_id` found in `tool_result` blocks: "
                    f"{block['tool_use_id']}. Each `tool_result` block must have a corresponding `tool_use` block in "
                    "the previous message."
                )
        called = [block["id"] for block in content if block["type"] == "tool_use"]
        if len(set(called)) < len(called):
            raise invalid(f"messages.{place}: `tool_use` ids must be unique")
        before = place


def _thought_first(messages: list[Body]) -> None:
    """With thinking on, the assistant's turn that a tool_result answers begins with its thinking."""
    turns = _turns(messages)
    if len(turns) < 2 or turns[-1][1] != "user" or turns[-1][2][0]["type"] != "tool_result":
        return
    place, _, content = turns[-2]
    first = content[0]["type"]
    if first not in ("thinking", "redacted_thinking"):
        raise invalid(
            f"messages.{place}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{first}`. When "
            "`thinking` is enabled, a final `assistant` message must start with a thinking block."
        )


def _cache_marks(value: Any) -> int:
    if isinstance(value, dict):
        own = 1 if value.get("cache_control") is not None and "messages" not in value else 0
        return own + sum(_cache_marks(one) for name, one in value.items() if name != "cache_control")
    if isinstance(value, list):
        return sum(_cache_marks(one) for one in value)
    return 0
