"""Gemini's request bodies: names in either case, as protocol buffers read JSON, and what the vendor refuses."""

from __future__ import annotations

import re
from typing import Any

from tollway.simulator.answer import Request
from tollway.simulator.dialects.gemini.errors import invalid
from tollway.simulator.reading import Body, Plain, json_object
from tollway.simulator.speech import is_sealed

FIELDS = frozenset(
    (
        "cachedContent",
        "contents",
        "generationConfig",
        "labels",
        "model",
        "safetySettings",
        "serviceTier",
        "store",
        "systemInstruction",
        "toolConfig",
        "tools",
    )
)

DATA = (
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
)
"""What a part may hold, one of them each."""

WAIVERS = ("context_engineering_is_the_way_to_go", "skip_thought_signature_validator")
"""Signatures that the documentation gives to those who have none, for calls of another model."""

_SNAKE = re.compile(r"_([a-z0-9])")

OPAQUE = ("args", "response", "parameters", "parametersJsonSchema", "responseSchema", "responseJsonSchema")
"""Fields whose inner names are the client's own."""


def camel(value: Any) -> Any:
    """The value with its field names in lowerCamelCase; what is the client's own stays as it is."""
    if isinstance(value, list):
        return [camel(one) for one in value]
    if not isinstance(value, dict):
        return value
    renamed: Body = {}
    for name, inner in value.items():
        shown = _SNAKE.sub(lambda found: found[1].upper(), name)
        renamed[shown] = inner if shown in OPAQUE or shown == "labels" else camel(inner)
    return renamed


def model_of(request: Request) -> str:
    return (request.params or {})["model"]


def opened(request: Request, fields: frozenset[str]) -> Plain:
    """The body, its names in one case, with no field that is not known."""
    body = camel(json_object(request, lambda said: invalid(f"Invalid JSON payload received. {said}")))
    for name in body:
        if name not in fields:
            raise invalid(f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.', name)
    return Plain(model_of(request), body, request)


def read(request: Request) -> Plain:
    asked = opened(request, FIELDS)
    check_contents(asked.body.get("contents"), "GenerateContentRequest")
    _pairs(asked.body["contents"])
    if "-3" in asked.model.partition("+")[0]:
        _signatures(asked.body["contents"])
    return asked


def read_count(request: Request) -> Plain:
    asked = opened(request, FIELDS | {"generateContentRequest"})
    inner = asked.body.get("generateContentRequest")
    if isinstance(inner, dict):
        asked.body = inner
    check_contents(asked.body.get("contents"), "CountTokensRequest")
    return asked


def check_contents(contents: Any, kind: str) -> None:
    if not isinstance(contents, list) or not contents:
        raise invalid(f"* {kind}.contents: contents is not specified\n")
    for place, content in enumerate(contents):
        if not isinstance(content, dict):
            raise invalid(f"Invalid value at 'contents[{place}]'", f"contents[{place}]")
        if content.get("role") not in (None, "", "user", "model", "function"):
            raise invalid("Please use a valid role: user, model.")
        parts = content.get("parts")
        if not isinstance(parts, list) or not parts:
            raise invalid(f"* {kind}.contents[{place}].parts: contents.parts must not be empty.\n")
        for number, part in enumerate(parts):
            held = [name for name in DATA if isinstance(part, dict) and name in part]
            where = f"{kind}.contents[{place}].parts[{number}].data"
            if not held:
                raise invalid(f"* {where}: required oneof field 'data' must have one initialized field\n")
            if len(held) > 1:
                raise invalid(f"* {where}: oneof field 'data' is already set. Cannot set '{held[1]}'\n")


def calls_of(content: Body) -> list[Body]:
    return [part for part in content["parts"] if "functionCall" in part]


def results_of(content: Body) -> list[Body]:
    return [part for part in content["parts"] if "functionResponse" in part]


def _pairs(contents: list[Body]) -> None:
    """As many function responses as there were calls, in the content right behind them."""
    for place, content in enumerate(contents):
        calls = calls_of(content)
        if calls and (place == 0 or contents[place - 1].get("role") == "model"):
            raise invalid(
                "Please ensure that function call turn comes immediately after a user turn or after a function "
                "response turn."
            )
        before = calls_of(contents[place - 1]) if place else []
        if len(results_of(content)) != len(before) and (before or results_of(content)):
            raise invalid(
                "Please ensure that the number of function response parts is equal to the number of function call "
                "parts of the function call turn."
            )


def _is_ours(signature: Any, name: str) -> bool:
    """Bytes may come back in either alphabet of base64."""
    if not isinstance(signature, str):
        return False
    return is_sealed(signature.replace("-", "+").replace("_", "/"), "gemini", name)


def _signatures(contents: list[Body]) -> None:
    """In the current turn, each step's first call must bear the signature it came with."""
    start = 0
    for place, content in enumerate(contents):
        if content.get("role") != "model" and not results_of(content):
            start = place
    for content in contents[start:]:
        for place, part in enumerate(calls_of(content)):
            name, given = part["functionCall"].get("name", ""), part.get("thoughtSignature")
            if given is None and place == 0:
                raise invalid(
                    "Function call is missing a thought_signature in functionCall parts. This is required for tools to "
                    "work correctly, and missing thought_signature may lead to degraded model performance. Additional "
                    f"data, function call `default_api:{name}`, position {start + 1}."
                )
            if given is not None and given not in WAIVERS and not _is_ours(given, name):
                raise invalid("Thought signature is not valid.")
