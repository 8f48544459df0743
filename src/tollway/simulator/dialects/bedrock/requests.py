"""Requests to converse: what Bedrock refuses, and what a conversation weighs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec

from tollway.simulator.answer import Request
from tollway.simulator.dialects.bedrock.errors import invalid
from tollway.simulator.reading import IMAGE_TOKENS, Body, Plain, json_object, texts, weight, whole
from tollway.simulator.speech import Tool, Wish, is_sealed
from tollway.simulator.tokens import MESSAGE_OVERHEAD, REPLY_OVERHEAD, count

BLOCKS = (
    "audio",
    "cachePoint",
    "citationsContent",
    "document",
    "guardContent",
    "image",
    "reasoningContent",
    "searchResult",
    "text",
    "toolResult",
    "toolUse",
    "video",
)

USER_ONLY = ("toolResult", "image", "document", "video", "guardContent")


def model_of(request: Request) -> str:
    return (request.params or {})["model"]


def read(request: Request) -> Plain:
    body = json_object(request, invalid)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("The messages field must hold at least one message.")
    for place, message in enumerate(messages):
        _message(message, place)
    _order(messages)
    _pairs(messages)
    if not body.get("toolConfig") and any(_blocks_of(one, "toolUse", "toolResult") for one in messages):
        raise invalid(
            "The toolConfig field must be defined when using toolUse and toolResult content blocks."
        )
    for place, block in enumerate(body.get("system") or ()):
        if "text" in block and not block["text"].strip():
            raise invalid(f"The text field in the ContentBlock object at system.{place} is blank.")
    _numbers(body.get("inferenceConfig") or {})
    return Plain(model_of(request), body, request)


def _message(message: Any, place: int) -> None:
    if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
        raise invalid(
            f"1 validation error detected: Value at 'messages.{place + 1}.member.role' failed to satisfy constraint: "
            "Member must satisfy enum value set: [user, assistant]"
        )
    content = message.get("content")
    if not isinstance(content, list) or not content:
        raise invalid(
            f"The content field in the Message object at messages.{place} is empty. Add a ContentBlock object to the "
            "content field and try again."
        )
    for number, block in enumerate(content):
        where = f"messages.{place}.content.{number}"
        known = [name for name in BLOCKS if isinstance(block, dict) and name in block]
        if len(known) != 1 or len(block) != 1:
            raise invalid(f"The ContentBlock object at {where} must set exactly one known field.")
        (kind,) = known
        if kind == "text" and not block["text"].strip():
            raise invalid(
                f"The text field in the ContentBlock object at {where} is blank. Add text to the text field, and try "
                "again."
            )
        if message["role"] == "assistant" and kind in USER_ONLY:
            raise invalid(f"The {kind} block at {where} is not allowed in an assistant message.")
        if kind == "reasoningContent":
            _reasoning(block[kind], where)


def _reasoning(block: Body, where: str) -> None:
    thought = block.get("reasoningText")
    if thought is not None and not is_sealed(thought.get("signature"), thought.get("text", "")):
        raise invalid(
            f"The model returned the following errors: {where}: Invalid `signature` in `thinking` block"
        )
    if "redactedContent" in block and not is_sealed(block["redactedContent"], "redacted"):
        raise invalid(
            f"The model returned the following errors: {where}: Invalid `data` in `redacted_thinking` block"
        )


def _order(messages: list[Body]) -> None:
    if messages[0]["role"] != "user":
        raise invalid("A conversation must start with a user message. Try again with one that does.")
    for before, after in pairwise(messages):
        if before["role"] == after["role"]:
            raise invalid(
                "A conversation must alternate between user and assistant roles. Make sure the conversation alternates "
                "between user and assistant roles and try again."
            )


def _blocks_of(message: Body, *kinds: str) -> list[Body]:
    return [block[kind] for block in message["content"] for kind in kinds if kind in block]


def _pairs(messages: list[Body]) -> None:
    called: list[str] = []
    for place, message in enumerate([*messages, {"role": "", "content": []}]):
        answered = [block["toolUseId"] for block in _blocks_of(message, "toolResult")]
        missing = [one for one in called if one not in answered]
        if missing:
            raise invalid(
                f"Expected toolResult blocks at messages.{place}.content for the following Ids: {', '.join(missing)}"
            )
        if len(answered) > len(called):
            raise invalid(
                f"The number of toolResult blocks at messages.{place}.content exceeds the number of toolUse blocks of "
                "previous turn."
            )
        called = [block["toolUseId"] for block in _blocks_of(message, "toolUse")]


def _numbers(config: Body) -> None:
    limit = config.get("maxTokens")
    if limit is not None and (whole(limit) is None or limit < 1):
        raise invalid(f"The value of maxTokens must be at least 1, but is {limit}.")
    for name in ("temperature", "topP"):
        value = config.get(name)
        if value is not None and not 0 <= value <= 1:
            raise invalid(f"The value of {name} must be from 0 to 1, but is {value}.")


def thinks(body: Body) -> bool:
    more = body.get("additionalModelRequestFields") or {}
    asked = more.get("thinking") or more.get("reasoning_config") or {}
    return asked.get("type") not in (None, "disabled")


def wish(body: Body, model: str) -> Wish:
    config = body.get("toolConfig") or {}
    offered = [
        Tool(tool["toolSpec"]["name"], (tool["toolSpec"].get("inputSchema") or {}).get("json"))
        for tool in config.get("tools") or ()
        if "toolSpec" in tool
    ]
    choice = config.get("toolChoice") or {"auto": {}}
    if "tool" in choice:
        offered = [tool for tool in offered if tool.name == choice["tool"].get("name")]
        if not offered:
            raise invalid("The tool of toolConfig.toolChoice is not among toolConfig.tools.")
    elif "any" not in choice and _blocks_of(body["messages"][-1], "toolResult"):
        offered = []
    users = [one for one in body["messages"] if one["role"] == "user"]
    settings = body.get("inferenceConfig") or {}
    return Wish(
        model=model,
        last=texts(users[-1]["content"]),
        tools=offered,
        limit=settings.get("maxTokens"),
        stop=settings.get("stopSequences") or [],
        schema=_schema(body),
        thinks=thinks(body),
    )


def _schema(body: Body) -> Any:
    """The schema of a structured output, which comes as a text of JSON."""
    form = (body.get("outputConfig") or {}).get("textFormat") or {}
    text = ((form.get("structure") or {}).get("jsonSchema") or {}).get("schema")
    if text is None:
        return None
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise invalid("The schema of outputConfig.textFormat is not valid JSON.") from error


def prompt_tokens(body: Body) -> int:
    tokens = (
        REPLY_OVERHEAD
        + count(texts(body.get("system")))
        + weight((body.get("toolConfig") or {}).get("tools"))
    )
    return tokens + sum(MESSAGE_OVERHEAD + _content(message["content"]) for message in body["messages"])


def _content(content: list[Body]) -> int:
    tokens = 0
    for block in content:
        ((kind, value),) = block.items()
        match kind:
            case "text":
                tokens += count(value)
            case "image" | "document" | "video":
                tokens += IMAGE_TOKENS
            case "toolUse":
                tokens += count(value["name"]) + weight(value.get("input"))
            case "toolResult":
                tokens += sum(weight(next(iter(one.values()), None)) for one in value.get("content") or ())
            case "reasoningContent" | "cachePoint":
                # Thinking of earlier turns is not counted again.
                continue
            case _:
                tokens += weight(value)
    return tokens
