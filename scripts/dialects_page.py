"""The page docs/reference/dialects.md: which fields of a client's dialect reach a provider that speaks another one.

Every field is tried: a request with it is read, written for every format and compared with the same request without
it. The page is of formats: the model here can do everything its provider has words for.
"""

from __future__ import annotations

import json
from typing import Any, Final

from msgspec.structs import replace

from tollway.errors import BadRequest
from tollway.wire.codec import Profile
from tollway.wire.codecs import codec
from tollway.wire.conversation import Conversation, Written

TARGETS: Final = (
    "openai.chat",
    "openai.responses",
    "anthropic.messages",
    "gemini.generate",
    "bedrock.converse",
    "cohere.chat",
    "ollama.chat",
)
"""What providers are spoken to in."""

_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_PDF = "JVBERi0xLjQK"
_WAV = "UklGRiQAAABXQVZFZm10IA=="
_SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
_CACHE = {"type": "ephemeral"}

MODELS: Final = {"bedrock.converse": "anthropic.claude-sonnet-4-5-20250929-v1:0"}
"""Converse has words of its own for each maker's models; others are nobody's in particular."""

Fields = dict[str, Any]


def _chat(*content: object) -> Fields:
    return {"messages": [{"role": "user", "content": list(content)}]}


def _input(*content: object) -> Fields:
    return {"input": [{"role": "user", "content": list(content)}]}


def _parts(*parts: object) -> Fields:
    return {"contents": [{"role": "user", "parts": list(parts)}]}


_CHAT_TOOL: Fields = {
    "type": "function",
    "function": {"name": "t", "description": "d", "parameters": _SCHEMA},
}
_ITEM_TOOL: Fields = {
    "type": "function",
    "name": "t",
    "description": "d",
    "parameters": _SCHEMA,
    "strict": False,
}
_CLAUDE_TOOL: Fields = {"name": "t", "description": "d", "input_schema": _SCHEMA}
_GEMINI_TOOL: Fields = {
    "functionDeclarations": [{"name": "t", "description": "d", "parametersJsonSchema": _SCHEMA}]
}

BASES: Final[dict[str, Fields]] = {
    "openai.chat": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
    "openai.responses": {"model": "m", "input": [{"role": "user", "content": "Hi"}], "store": False},
    "anthropic.messages": {"model": "m", "max_tokens": 4096, "messages": [{"role": "user", "content": "Hi"}]},
    "gemini.generate": {"model": "m", "contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
}

_HI = {"type": "text", "text": "Hi"}

PROBES: Final[dict[str, dict[str, Fields]]] = {
    "openai.chat": {
        "system message": {
            "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}]
        },
        "image (data)": _chat(
            _HI, {"type": "image_url", "image_url": {"url": "data:image/png;base64," + _PNG}}
        ),
        "image (address)": _chat(
            _HI, {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
        ),
        "image detail": _chat(
            _HI, {"type": "image_url", "image_url": {"url": "data:image/png;base64," + _PNG, "detail": "low"}}
        ),
        "input_audio": _chat(_HI, {"type": "input_audio", "input_audio": {"data": _WAV, "format": "wav"}}),
        "file": _chat(
            _HI,
            {
                "type": "file",
                "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64," + _PDF},
            },
        ),
        "cache_control": _chat({**_HI, "cache_control": _CACHE}),
        "tools": {"tools": [_CHAT_TOOL]},
        "tools.strict": {"tools": [{**_CHAT_TOOL, "function": {**_CHAT_TOOL["function"], "strict": True}}]},
        "tools (custom)": {"tools": [{"type": "custom", "custom": {"name": "c"}}]},
        "tool_choice: required": {"tools": [_CHAT_TOOL], "tool_choice": "required"},
        "tool_choice: none": {"tools": [_CHAT_TOOL], "tool_choice": "none"},
        "tool_choice (named)": {
            "tools": [_CHAT_TOOL],
            "tool_choice": {"type": "function", "function": {"name": "t"}},
        },
        "parallel_tool_calls: false": {"tools": [_CHAT_TOOL], "parallel_tool_calls": False},
        "response_format: json_object": {"response_format": {"type": "json_object"}},
        "response_format: json_schema": {
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": _SCHEMA}}
        },
        "reasoning_effort": {"reasoning_effort": "high"},
        "max_completion_tokens": {"max_completion_tokens": 99},
        "temperature": {"temperature": 0.3},
        "top_p": {"top_p": 0.3},
        "frequency_penalty": {"frequency_penalty": 0.3},
        "presence_penalty": {"presence_penalty": 0.3},
        "logit_bias": {"logit_bias": {"7": 1}},
        "stop": {"stop": ["END"]},
        "seed": {"seed": 7},
        "n": {"n": 2},
        "logprobs": {"logprobs": True, "top_logprobs": 2},
        "modalities: audio": {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
        "prediction": {"prediction": {"type": "content", "content": "x"}},
        "verbosity": {"verbosity": "low"},
        "service_tier": {"service_tier": "priority"},
        "metadata": {"metadata": {"a": "b"}},
        "user": {"user": "u"},
        "safety_identifier": {"safety_identifier": "u"},
        "prompt_cache_key": {"prompt_cache_key": "k"},
        "store": {"store": True},
        "web_search_options": {"web_search_options": {}},
    },
    "openai.responses": {
        "instructions": {"instructions": "S"},
        "input_image (data)": _input(
            {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64," + _PNG}
        ),
        "input_file": _input(
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64," + _PDF}
        ),
        "tools": {"tools": [_ITEM_TOOL]},
        "tools (custom)": {"tools": [{"type": "custom", "name": "c"}]},
        "tools: web_search": {"tools": [{"type": "web_search"}]},
        "tools: file_search": {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
        "tools: code_interpreter": {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]},
        "tools: mcp": {
            "tools": [{"type": "mcp", "server_label": "s", "server_url": "https://example.com/mcp"}]
        },
        "tool_choice: required": {"tools": [_ITEM_TOOL], "tool_choice": "required"},
        "parallel_tool_calls: false": {"tools": [_ITEM_TOOL], "parallel_tool_calls": False},
        "text.format: json_schema": {
            "text": {"format": {"type": "json_schema", "name": "n", "schema": _SCHEMA}}
        },
        "text.verbosity": {"text": {"verbosity": "low"}},
        "reasoning.effort": {"reasoning": {"effort": "high"}},
        "reasoning.summary": {"reasoning": {"summary": "auto"}},
        "include: reasoning.encrypted_content": {"include": ["reasoning.encrypted_content"]},
        "max_output_tokens": {"max_output_tokens": 99},
        "max_tool_calls": {"max_tool_calls": 3},
        "temperature": {"temperature": 0.3},
        "top_p": {"top_p": 0.3},
        "top_logprobs": {"top_logprobs": 2, "include": ["message.output_text.logprobs"]},
        "truncation": {"truncation": "auto"},
        "service_tier": {"service_tier": "priority"},
        "metadata": {"metadata": {"a": "b"}},
        "user": {"user": "u"},
        "safety_identifier": {"safety_identifier": "u"},
        "prompt_cache_key": {"prompt_cache_key": "k"},
    },
    "anthropic.messages": {
        "system": {"system": "S"},
        "system cache_control": {"system": [{"type": "text", "text": "S", "cache_control": _CACHE}]},
        "image (data)": _chat(
            _HI,
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": _PNG}},
        ),
        "image (address)": _chat(
            _HI, {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
        ),
        "document": _chat(
            _HI,
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": _PDF}},
        ),
        "document (text)": _chat(
            _HI, {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "D"}}
        ),
        "search_result": _chat(
            _HI,
            {
                "type": "search_result",
                "source": "https://example.com",
                "title": "T",
                "content": [{"type": "text", "text": "D"}],
            },
        ),
        "tools": {"tools": [_CLAUDE_TOOL]},
        "tools cache_control": {"tools": [{**_CLAUDE_TOOL, "cache_control": _CACHE}]},
        "tools: web_search": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "tools: bash": {"tools": [{"type": "bash_20250124", "name": "bash"}]},
        "tools: code_execution": {"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]},
        "mcp_servers": {"mcp_servers": [{"type": "url", "name": "s", "url": "https://example.com/mcp"}]},
        "tool_choice: any": {"tools": [_CLAUDE_TOOL], "tool_choice": {"type": "any"}},
        "tool_choice (named)": {"tools": [_CLAUDE_TOOL], "tool_choice": {"type": "tool", "name": "t"}},
        "disable_parallel_tool_use": {
            "tools": [_CLAUDE_TOOL],
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        },
        "thinking (budget)": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        "thinking (adaptive)": {"thinking": {"type": "adaptive"}},
        "output_config.effort": {"output_config": {"effort": "high"}},
        "output_config.format": {"output_config": {"format": {"type": "json_schema", "schema": _SCHEMA}}},
        "temperature": {"temperature": 0.3},
        "top_p": {"top_p": 0.3},
        "top_k": {"top_k": 3},
        "stop_sequences": {"stop_sequences": ["END"]},
        "service_tier": {"service_tier": "standard_only"},
        "metadata.user_id": {"metadata": {"user_id": "u"}},
        "context_management": {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
    },
    "gemini.generate": {
        "systemInstruction": {"systemInstruction": {"parts": [{"text": "S"}]}},
        "inlineData: image": _parts({"text": "Hi"}, {"inlineData": {"mimeType": "image/png", "data": _PNG}}),
        "inlineData: audio": _parts({"text": "Hi"}, {"inlineData": {"mimeType": "audio/wav", "data": _WAV}}),
        "inlineData: video": _parts({"text": "Hi"}, {"inlineData": {"mimeType": "video/mp4", "data": _WAV}}),
        "inlineData: pdf": _parts(
            {"text": "Hi"}, {"inlineData": {"mimeType": "application/pdf", "data": _PDF}}
        ),
        "functionDeclarations": {"tools": [_GEMINI_TOOL]},
        "googleSearch": {"tools": [{"googleSearch": {}}]},
        "codeExecution": {"tools": [{"codeExecution": {}}]},
        "urlContext": {"tools": [{"urlContext": {}}]},
        "functionCallingConfig: ANY": {
            "tools": [_GEMINI_TOOL],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
        },
        "responseJsonSchema": {
            "generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": _SCHEMA}
        },
        "thinkingConfig": {
            "generationConfig": {"thinkingConfig": {"thinkingBudget": 1024, "includeThoughts": True}}
        },
        "maxOutputTokens": {"generationConfig": {"maxOutputTokens": 99}},
        "temperature": {"generationConfig": {"temperature": 0.3}},
        "topP": {"generationConfig": {"topP": 0.3}},
        "topK": {"generationConfig": {"topK": 3}},
        "stopSequences": {"generationConfig": {"stopSequences": ["END"]}},
        "seed": {"generationConfig": {"seed": 7}},
        "candidateCount": {"generationConfig": {"candidateCount": 2}},
        "presencePenalty": {"generationConfig": {"presencePenalty": 0.3}},
        "frequencyPenalty": {"generationConfig": {"frequencyPenalty": 0.3}},
        "responseLogprobs": {"generationConfig": {"responseLogprobs": True, "logprobs": 2}},
        "responseModalities: IMAGE": {"generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}},
        "speechConfig": {"generationConfig": {"speechConfig": {"languageCode": "en-US"}}},
        "safetySettings": {
            "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
        },
        "cachedContent": {"cachedContent": "cachedContents/a"},
        "labels": {"labels": {"a": "b"}},
    },
}
"""What is tried: the fields that are set, by the name they have in the client's dialect."""

CLIENTS: Final = {
    "openai.chat": "/v1/chat/completions",
    "openai.responses": "/v1/responses",
    "anthropic.messages": "/v1/messages",
    "gemini.generate": "/v1beta/models/{model}:generateContent",
}


def verdict(client: str, probe: Fields, target: str) -> str:
    """``served``, ``dropped``, ``refused``, or ``silent``: not there and not named. What is served but for a part is
    ``partly`` and the names of what is missing."""
    if client == target:
        return "relayed"
    asked = _read(client, {**BASES[client], **probe})
    try:
        written = _write(asked, target)
    except BadRequest:
        return "refused"
    if any(loss.weight == "meaning" for loss in written.lost):
        return "refused"
    plain = _write(_read(client, _plain(client, probe)), target)
    told = json.loads(written.body) != json.loads(plain.body)
    if written.lost:
        return "partly " + " ".join(loss.field for loss in written.lost) if told else "dropped"
    return "served" if told else "silent"


def _plain(client: str, probe: Fields) -> Fields:
    """The request without the field; tools stay where the field is about them."""
    kept = {"tools": probe["tools"]} if len(probe) > 1 and "tools" in probe else {}
    return {**BASES[client], **kept}


def _read(client: str, fields: Fields) -> Conversation:
    return replace(codec(client).read_request(json.dumps(fields).encode()), model="m")


def _write(asked: Conversation, target: str) -> Written:
    thinking = "adaptive" if _adaptive(asked, target) else "budget"
    profile = Profile(model=MODELS.get(target, "m"), max_output=8192, thinking=thinking)
    return codec(target).write_request(asked, profile)


def _adaptive(asked: Conversation, target: str) -> bool:
    """Claude's models are asked to think in one of two ways; the one that is asked for is taken."""
    wanted = asked.reasoning
    return (
        wanted is not None and wanted.budget is None and target in ("anthropic.messages", "bedrock.converse")
    )


def table(client: str) -> list[str]:
    others = [target for target in TARGETS if target != client]
    lines = [f"| field | {' | '.join(others)} |", "|---" * (len(others) + 1) + "|"]
    for name, probe in PROBES[client].items():
        marks = " | ".join(_mark(verdict(client, probe, target)) for target in others)
        lines.append(f"| `{name}` | {marks} |")
    return lines


def _mark(found: str) -> str:
    kind, *missing = found.split(" ")
    return _MARKS[kind] + ", ".join(f"`{name}`" for name in missing)


_MARKS = {
    "partly": "without ",
    "served": "yes",
    "dropped": "dropped",
    "refused": "refused",
    "silent": "as without it",
}


def page() -> str:
    lines = [
        "# Dialects: what reaches whom",
        "",
        "Where client and provider speak the same format, every field passes as it is. Otherwise a request is",
        "translated, and this page says what becomes of each field. It is generated from the code by",
        "`scripts/build_docs.py`; [the guide](../guide/dialects.md) says how dialects are used.",
        "",
        "- **yes**: the provider is told, in its own words.",
        "- **dropped**: the provider has no word for it and the answer is still the one asked for; the response",
        "  header `x-tollway-dropped` names the field. `on_unsupported: refuse` on a model refuses it instead.",
        "- **without** a part: the provider is told, but for that part, which the header names.",
        "- **refused**: leaving it out would change what is asked: error 400 with the field as `param`, before",
        "  anything is sent. A route with other targets tries those first; `on_unsupported: drop` leaves it out.",
        "- **as without it**: it asks for what this provider does anyway.",
        "",
        "A model may have limits of its own (no images, no sampling): they are treated the same way. For",
        "`bedrock.converse` the tables are of Claude.",
    ]
    for client, path in CLIENTS.items():
        lines += ["", f"## `{client}` (`{path}`)", "", *table(client)]
    return "\n".join(lines) + "\n"
