"""Requests to ``/v1/responses``: what is known, what is refused, and the conversation they continue."""

from __future__ import annotations

from typing import Any

from tollway.simulator.answer import Refusal, Request
from tollway.simulator.dialects.openai.errors import check_user, invalid
from tollway.simulator.reading import IMAGE_TOKENS, Body, Plain, json_object, texts, weight, whole
from tollway.simulator.shelf import Shelf
from tollway.simulator.speech import Tool, Wish, is_sealed
from tollway.simulator.tokens import MESSAGE_OVERHEAD, REPLY_OVERHEAD, count

FIELDS = frozenset(
    (
        "background",
        "client_metadata",
        "context_management",
        "conversation",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "moderation",
        "parallel_tool_calls",
        "previous_response_id",
        "prompt",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "user",
    )
)

LEAST_LIMIT = 16

ROLES = ("user", "assistant", "system", "developer")

CALLS = {
    "function_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
}
"""Calls that the client answers, and with what."""


def read(request: Request) -> Plain:
    body = json_object(request, invalid)
    for name in body:
        if name not in FIELDS:
            raise invalid(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise invalid("Missing required parameter: 'model'.", "model", "missing_required_parameter")
    check_user(body.get("user"))
    limit = body.get("max_output_tokens")
    if limit is not None and (whole(limit) is None or limit < LEAST_LIMIT):
        raise invalid(
            f"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= {LEAST_LIMIT}, but got "
            f"{limit} instead.",
            "max_output_tokens",
            "integer_below_min_value",
        )
    if body.get("background") and body.get("store") is False:
        raise invalid("Background mode requires store to be true.", "background")
    body["input"] = items(body.get("input"))
    _check_tools(body.get("tools"))
    return Plain(model, body, request)


def items(given: Any) -> list[Body]:
    """The input as a list of items; a string is one user message."""
    if given is None:
        return []
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
    if not isinstance(given, list):
        raise invalid("Invalid type for 'input': expected a string or an array.", "input", "invalid_type")
    for place, item in enumerate(given):
        if not isinstance(item, dict):
            raise invalid(f"Invalid type for 'input[{place}]'.", f"input[{place}]", "invalid_type")
        kind = item.get("type", "message")
        if kind == "message" and item.get("role") not in ROLES:
            raise invalid(
                f"Invalid value: '{item.get('role')}'. Supported values are: {', '.join(map(repr, ROLES))}.",
                f"input[{place}].role",
                "invalid_value",
            )
    return given


def _check_tools(tools: Any) -> None:
    if tools is None:
        return
    if not isinstance(tools, list):
        raise invalid("Invalid type for 'tools': expected an array.", "tools", "invalid_type")
    for place, tool in enumerate(tools):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind is None:
            raise invalid(
                f"Missing required parameter: 'tools[{place}].type'.",
                f"tools[{place}].type",
                "missing_required_parameter",
            )
        if kind in ("function", "custom") and not tool.get("name"):
            raise invalid(
                f"Missing required parameter: 'tools[{place}].name'.",
                f"tools[{place}].name",
                "missing_required_parameter",
            )


def history(body: Body, shelf: Shelf) -> list[Body]:
    """The items of the conversation so far, this request's own last. Raises where they do not fit together."""
    before: list[Body] = []
    previous = body.get("previous_response_id")
    if previous is not None:
        held = shelf.get("response", previous)
        if held is None:
            raise Refusal(
                400,
                f"Previous response with id '{previous}' not found.",
                kind="invalid_request_error",
                code="previous_response_not_found",
                param="previous_response_id",
            )
        before = held.history
    conversation = [*before, *body["input"]]
    if not conversation and not body.get("prompt"):
        raise invalid("Missing required parameter: 'input'.", "input", "missing_required_parameter")
    _check_pairs(conversation)
    return conversation


def _check_pairs(conversation: list[Body]) -> None:
    open_calls: dict[str, str] = {}
    for place, item in enumerate(conversation):
        kind = item.get("type", "message")
        if kind in CALLS:
            open_calls[str(item.get("call_id"))] = CALLS[kind]
        elif kind in CALLS.values():
            call = str(item.get("call_id"))
            if open_calls.pop(call, None) != kind:
                shown = kind.replace("_", " ")
                raise invalid(f"No tool call found for {shown} with call_id {call}.", "input")
        elif kind == "reasoning":
            _check_reasoning(item, conversation[place + 1 : place + 2])
    if open_calls:
        call, kind = next(iter(open_calls.items()))
        raise invalid(
            f"No tool output found for {kind.removesuffix('_output').replace('_', ' ')} {call}.", "input"
        )


def _check_reasoning(item: Body, following: list[Body]) -> None:
    ident = item.get("id", "")
    sealed = item.get("encrypted_content")
    if sealed is not None and not is_sealed(sealed, "reasoning"):
        raise invalid(
            f"The encrypted content for item {ident} could not be verified.",
            "input",
            "invalid_encrypted_content",
        )
    after = following[0].get("type", "message") if following else None
    ours = after in CALLS or (after == "message" and following[0].get("role") == "assistant")
    if not ours and not (after or "").endswith(("_call", "reasoning")):
        raise invalid(
            f"Item '{ident}' of type 'reasoning' was provided without its required following item.", "input"
        )


def wish(body: Body, conversation: list[Body], model: str) -> Wish:
    offered = [
        Tool(tool["name"], tool.get("parameters"), tool["type"] == "custom")
        for tool in body.get("tools") or ()
        if tool["type"] in ("function", "custom")
    ]
    choice = body.get("tool_choice") or "auto"
    answered = bool(conversation) and conversation[-1].get("type", "message") in CALLS.values()
    if isinstance(choice, dict):
        offered = [tool for tool in offered if tool.name == choice.get("name")]
        if not offered and choice.get("type") in ("function", "custom"):
            raise invalid(
                f"Tool choice '{choice.get('name')}' not found in 'tools' parameter.", "tool_choice"
            )
    elif choice == "none" or (answered and choice == "auto"):
        offered = []
    users = [item for item in conversation if item.get("role") == "user"]
    form = (body.get("text") or {}).get("format") or {}
    schema = form.get("schema") if form.get("type") == "json_schema" else None
    if form.get("type") == "json_object":
        schema = {"type": "object", "properties": {"answer": {"const": "the old cat sat"}}}
    return Wish(
        model=model,
        last=texts(users[-1].get("content")) if users else "",
        tools=offered,
        parallel=body.get("parallel_tool_calls") is not False,
        limit=body.get("max_output_tokens"),
        schema=schema,
        thinks=(body.get("reasoning") or {}).get("effort") not in (None, "none", "minimal"),
    )


def prompt_tokens(body: Body, conversation: list[Body]) -> int:
    tokens = REPLY_OVERHEAD + weight(body.get("tools"))
    if body.get("instructions"):
        tokens += MESSAGE_OVERHEAD + weight(body["instructions"])
    return tokens + sum(_item_tokens(item) for item in conversation)


def _item_tokens(item: Body) -> int:
    kind = item.get("type", "message")
    if kind == "reasoning":
        # Reasoning of earlier turns is not counted again.
        return 0
    if kind == "message":
        return MESSAGE_OVERHEAD + _content_tokens(item.get("content"))
    if kind in CALLS:
        return (
            MESSAGE_OVERHEAD + count(item.get("name", "")) + weight(item.get("arguments", item.get("input")))
        )
    if kind in CALLS.values():
        output = item.get("output")
        return MESSAGE_OVERHEAD + (
            _content_tokens(output) if isinstance(output, list | str) else weight(output)
        )
    return weight(item)


def _content_tokens(content: Any) -> int:
    if isinstance(content, str):
        return count(content)
    tokens = 0
    for part in content or ():
        if "text" in part:
            tokens += count(part["text"])
        elif part.get("type") in ("input_image", "input_file"):
            tokens += IMAGE_TOKENS
        else:
            tokens += weight(part.get("refusal"))
    return tokens
