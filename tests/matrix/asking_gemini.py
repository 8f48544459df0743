"""Gemini's generateContent by Google's SDK. It has no accumulator of its own: the parts of a stream are joined here."""

from __future__ import annotations

import base64
from typing import Any

from asking import PNG, SCHEMA, TOOLS, Ask, Call, Heard, Tap, tapped
from google import genai
from google.genai import errors, types

from running import KEY

FINISHES = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
}


class Gemini:
    name = "gemini"

    def __init__(self, origin: str) -> None:
        self.tap = Tap()
        self._http = tapped(self.tap)
        once = types.HttpRetryOptions(attempts=1)
        options = types.HttpOptions(base_url=origin, httpx_client=self._http, retry_options=once)
        self.sdk = genai.Client(api_key=KEY, http_options=options)

    def open(self, ask: Ask) -> list[Any]:
        parts = [types.Part.from_text(text=ask.text)]
        if ask.image:
            parts.append(types.Part.from_bytes(data=base64.b64decode(PNG), mime_type="image/png"))
        return [types.Content(role="user", parts=parts)]

    def send(self, model: str, ask: Ask, turns: list[Any], stream: bool) -> Heard:
        fields: dict[str, Any] = {"max_output_tokens": ask.limit}
        if ask.system is not None:
            fields["system_instruction"] = ask.system
        if ask.tools:
            declared = [
                types.FunctionDeclaration(
                    name=name,
                    description=TOOLS[name]["description"],
                    parameters_json_schema=TOOLS[name]["schema"],
                )
                for name in ask.tools
            ]
            fields["tools"] = [types.Tool(function_declarations=declared)]
        if ask.thinking:
            fields["thinking_config"] = types.ThinkingConfig(include_thoughts=True, thinking_budget=1024)
        if ask.schema:
            fields["response_mime_type"] = "application/json"
            fields["response_json_schema"] = SCHEMA
        if ask.stop is not None:
            fields["stop_sequences"] = [ask.stop]
        config = types.GenerateContentConfig(**fields)
        if not stream:
            return heard([self.sdk.models.generate_content(model=model, contents=turns, config=config)])
        return heard(
            list(self.sdk.models.generate_content_stream(model=model, contents=turns, config=config))
        )

    def results(self, heard: Heard, given: dict[str, str]) -> list[Any]:
        parts = [
            types.Part(
                function_response=types.FunctionResponse(
                    id=call.id or None, name=call.name, response={"result": given[call.name]}
                )
            )
            for call in heard.calls
        ]
        return [types.Content(role="user", parts=parts)]

    def usage(self, billed: dict[str, int]) -> dict[str, int]:
        return {
            "prompt": sum(
                billed[name] for name in ("input", "cache_read", "cache_write_5m", "cache_write_1h")
            ),
            "cached": billed["cache_read"],
            "candidates": billed["output"] - billed["reasoning"],
            "thoughts": billed["reasoning"],
        }

    def refusal(self, error: Exception) -> tuple[int, str, str]:
        assert isinstance(error, errors.APIError), error
        return error.code, type(error).__name__, error.message or ""

    def close(self) -> None:
        self._http.close()


def heard(chunks: list[Any]) -> Heard:
    assert chunks
    text, thinking, finish = "", "", None
    calls: list[Call] = []
    parts: list[Any] = []
    for chunk in chunks:
        if not chunk.candidates:
            continue
        (candidate,) = chunk.candidates
        for part in (candidate.content and candidate.content.parts) or ():
            parts.append(part)
            if part.function_call is not None:
                called = part.function_call
                calls.append(Call(called.id or "", called.name, called.args))
            elif part.thought:
                thinking += part.text or ""
            else:
                text += part.text or ""
        if candidate.finish_reason is not None:
            assert finish is None, "a stream ends once"
            finish = candidate.finish_reason.value
    blocked = chunks[-1].prompt_feedback
    if finish is None and blocked is not None:
        finish = "SAFETY"
    assert finish is not None, "no finish reason"
    usage = chunks[-1].usage_metadata
    counted = {
        "prompt": usage.prompt_token_count,
        "cached": usage.cached_content_token_count or 0,
        "candidates": usage.candidates_token_count or 0,
        "thoughts": usage.thoughts_token_count or 0,
    }
    assert usage.total_token_count == sum(counted[name] for name in ("prompt", "candidates", "thoughts"))
    assert all(chunk.response_id == chunks[0].response_id for chunk in chunks)
    named = "tool_calls" if calls and finish == "STOP" else FINISHES[finish]
    return Heard(text, thinking, calls, named, counted, [types.Content(role="model", parts=parts)])
