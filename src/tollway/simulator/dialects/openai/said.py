"""What the played model says to a chat request: text, a refusal or tool calls, decided by request and knobs
alone."""

from __future__ import annotations

from functools import lru_cache

import msgspec
from msgspec import Raw, Struct

from tollway.simulator.dialects.openai.errors import invalid
from tollway.simulator.dialects.openai.requests import (
    NOTHING,
    ChatRequest,
    Choice,
    Function,
    Message,
    Tool,
    cut_at_stop,
)
from tollway.simulator.instances import instance
from tollway.simulator.knobs import Knobs
from tollway.simulator.speech import to_call
from tollway.simulator.tokens import (
    AUDIO_CHARACTERS,
    IMAGE_TOKENS,
    MESSAGE_OVERHEAD,
    REPLY_OVERHEAD,
    TOKEN,
    count,
    prose,
    start_of,
)

DEFAULT_TOKENS = 32

NULL = Raw(b"null")

NO = "I cannot help with that."


class Call(Struct):
    id: str
    name: str
    arguments: str


class Said(Struct, gc=False):
    """One choice. ``tokens`` counts content, refusal, names and arguments, not reasoning."""

    finish: str
    tokens: int
    content: str | None = None
    refusal: str | None = None
    calls: list[Call] = []


def say(request: ChatRequest, model: str, knobs: Knobs, serial: str, index: int) -> Said:
    """The ``index``-th choice; the same request with the same knobs gets the same words."""
    limit = request.max_completion_tokens or request.max_tokens
    if limit is not None:
        limit = max(0, limit - knobs.reasoning)
    if knobs.refusal:
        said = Said("stop", count(NO), refusal=NO)
    elif (tools := _tools_to_call(request, knobs)) is not None:
        number = 1 if request.parallel_tool_calls is False else knobs.parallel
        said = _tool_calls(tools, number, serial, index, limit, knobs.arguments)
    else:
        said = _text(request, model, knobs, index, limit)
    if knobs.finish is not None:
        said.finish = knobs.finish
    return said


def _text(request: ChatRequest, model: str, knobs: Knobs, index: int, limit: int | None) -> Said:
    if request.response_format is not None and request.response_format.type != "text":
        text = _structured(request)
    elif knobs.text is not None:
        text = knobs.text
    elif knobs.echo:
        text = last_user_text(request.messages)
    else:
        wanted = knobs.tokens if knobs.tokens is not None else knobs.events or DEFAULT_TOKENS
        # Making more than the limit allows would cost time that nobody sees.
        made = wanted if limit is None or request.stop else min(wanted, limit + 1)
        text = default_text(model, request.seed, index, made)
    finish = "stop"
    if request.stop:
        before = cut_at_stop(text, request.stop)
        text = text if before is None else before
    if limit is not None and count(text) > limit:
        text, finish = text[: limit * TOKEN], "length"
    return Said(finish, count(text), text)


@lru_cache(maxsize=1024)
def _short_text(model: str, seed: int | None, index: int, tokens: int) -> str:
    return prose(tokens, start_of(model, seed, index))


def default_text(model: str, seed: int | None, index: int, tokens: int) -> str:
    if tokens <= 1024:
        return _short_text(model, seed, index, tokens)
    return prose(tokens, start_of(model, seed, index))


def _structured(request: ChatRequest) -> str:
    wanted = request.response_format
    assert wanted is not None
    if wanted.type == "json_object":
        return '{"answer": "the old cat sat"}'
    if wanted.type != "json_schema":
        raise invalid(f"Unknown response format {wanted.type!r}.", "response_format.type", "invalid_value")
    named = wanted.json_schema
    if named is None:
        raise invalid("Missing 'response_format.json_schema'.", "response_format.json_schema")
    return _fitting(named.schema_ or {"type": "object"}, "response_format.json_schema.schema")


def _fitting(schema: dict[str, object], param: str) -> str:
    try:
        return msgspec.json.encode(instance(schema)).decode()
    except ValueError as error:
        raise invalid(f"Invalid schema: {error}.", param, "invalid_json_schema") from error


def _tools_to_call(request: ChatRequest, knobs: Knobs) -> list[Function] | None:
    """The functions to call, or None where the model answers with text."""
    if request.tools is None:
        return None
    if not request.tools:
        raise invalid("[] is too short - 'tools'", "tools", "empty_array")
    functions = [_function(tool, position) for position, tool in enumerate(request.tools)]
    choice = request.tool_choice
    if isinstance(choice, Choice):
        wanted = choice.function.name if choice.function else None
        functions = [function for function in functions if function.name == wanted]
        if not functions:
            raise invalid(f"Tool choice {wanted!r} is not among the tools.", "tool_choice")
        return functions
    if choice not in (None, "auto", "none", "required"):
        raise invalid(f"Unknown tool choice {choice!r}.", "tool_choice", "invalid_value")
    answered = request.messages[-1].role in ("tool", "function")
    if choice == "none" or (answered and choice != "required"):
        return None
    return to_call(functions, knobs) or None


def _function(tool: Tool, position: int) -> Function:
    if tool.type != "function":
        message = f"The simulator only plays tools of type 'function', not {tool.type!r}."
        raise invalid(message, f"tools[{position}].type", "invalid_value")
    if tool.function is None:
        raise invalid(f"Missing 'tools[{position}].function'.", f"tools[{position}].function")
    return tool.function


def _tool_calls(
    functions: list[Function], wanted: int, serial: str, index: int, limit: int | None, given: str | None
) -> Said:
    calls: list[Call] = []
    left = limit
    finish = "tool_calls"
    for number in range(wanted):
        function = functions[number % len(functions)]
        arguments = _fitting(function.parameters or {"type": "object"}, "tools") if given is None else given
        if left is not None:
            room = max(0, left - count(function.name))
            if count(arguments) > room:
                arguments, finish = arguments[: room * TOKEN], "length"
            left = room - count(arguments)
        calls.append(Call(f"call_{serial}{index:02x}{number:02x}", function.name, arguments))
        if finish == "length":
            break
    return Said(finish, sum(count(call.name) + count(call.arguments) for call in calls), calls=calls)


def last_user_text(messages: list[Message]) -> str:
    for message in reversed(messages):
        if message.role == "user":
            if isinstance(message.content, str):
                return message.content
            return "".join(part.text or "" for part in message.content or [])
    return ""


ROLES = frozenset(("system", "developer", "user", "assistant", "tool", "function"))


def prompt_tokens(request: ChatRequest) -> tuple[int, int]:
    """Tokens of the prompt, and how many of them are audio."""
    tokens = REPLY_OVERHEAD
    audio = 0
    for position, message in enumerate(request.messages):
        if message.role not in ROLES:
            raise invalid(
                f"Invalid value: {message.role!r}. Supported values are: {', '.join(sorted(ROLES))}.",
                f"messages[{position}].role",
                "invalid_value",
            )
        tokens += MESSAGE_OVERHEAD
        content = message.content
        if isinstance(content, str):
            tokens += -(-len(content) // TOKEN)
        elif content is not None:
            for part in content:
                heard = part.input_audio
                if part.text is not None:
                    tokens += count(part.text)
                elif part.type == "image_url":
                    tokens += IMAGE_TOKENS
                elif heard is not None:
                    audio += -(-len(heard.data) // AUDIO_CHARACTERS)
        if message.name is not None:
            tokens += count(message.name)
        if message.tool_calls is not NOTHING and message.tool_calls != NULL:
            tokens += -(-len(bytes(message.tool_calls)) // TOKEN)
    if request.tools:
        tokens += -(-len(msgspec.json.encode(request.tools)) // TOKEN)
    return tokens + audio, audio
