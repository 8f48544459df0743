"""OpenAI's chat dialect by OpenAI's SDK."""

from __future__ import annotations

import json
from typing import Any

import openai
from asking import PNG, SCHEMA, TOOLS, Ask, Call, Heard, Tap, tapped2

from running import KEY

FINISHES = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
}


class Chat:
    name = "chat"

    def __init__(self, origin: str) -> None:
        self.tap = Tap()
        self._http = tapped2(self.tap)
        self.sdk = openai.OpenAI(base_url=origin + "/v1", api_key=KEY, max_retries=0, http_client=self._http)

    def open(self, ask: Ask) -> list[Any]:
        turns: list[Any] = []
        if ask.system is not None:
            part: dict[str, Any] = {"type": "text", "text": ask.system}
            if ask.cached:
                part["cache_control"] = {"type": "ephemeral"}
            turns.append({"role": "system", "content": [part]})
        if ask.image:
            picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + PNG}}
            return [*turns, {"role": "user", "content": [{"type": "text", "text": ask.text}, picture]}]
        return [*turns, {"role": "user", "content": ask.text}]

    def send(self, model: str, ask: Ask, turns: list[Any], stream: bool) -> Heard:
        fields: dict[str, Any] = {"model": model, "messages": turns, "max_completion_tokens": ask.limit}
        if ask.tools:
            fields["tools"] = [
                {
                    "type": "function",
                    "function": {
                        "name": name,
                        "description": TOOLS[name]["description"],
                        "parameters": TOOLS[name]["schema"],
                    },
                }
                for name in ask.tools
            ]
        if ask.thinking:
            fields["reasoning_effort"] = "low"
        if ask.schema:
            form = {"name": "places", "schema": SCHEMA, "strict": True}
            fields["response_format"] = {"type": "json_schema", "json_schema": form}
        if ask.stop is not None:
            fields["stop"] = [ask.stop]
        if not stream:
            return heard(self.sdk.chat.completions.create(**fields))
        with self.sdk.chat.completions.stream(**fields, stream_options={"include_usage": True}) as events:
            for _ in events:
                pass
            # The final completion would be an error where an answer was cut short.
            return heard(events.current_completion_snapshot)

    def results(self, heard: Heard, given: dict[str, str]) -> list[Any]:
        return [
            {"role": "tool", "tool_call_id": call.id, "content": given[call.name]} for call in heard.calls
        ]

    def usage(self, billed: dict[str, int]) -> dict[str, int]:
        return {
            "prompt": sum(billed[name] for name in PROMPT),
            "cached": billed["cache_read"],
            "completion": billed["output"],
            "reasoning": billed["reasoning"],
        }

    def refusal(self, error: Exception) -> tuple[int, str, str]:
        assert isinstance(error, openai.APIStatusError), error
        return error.status_code, type(error).__name__, error.message

    def close(self) -> None:
        self._http.close()


PROMPT = ("input", "cache_read", "cache_write_5m", "cache_write_1h")


def heard(answer: Any) -> Heard:
    """Every id of the answer is there, and every choice but the first is not."""
    assert answer.id
    assert answer.object == "chat.completion"
    assert len(answer.choices) == 1
    choice = answer.choices[0]
    message = choice.message
    calls = [
        Call(one.id, one.function.name, json.loads(one.function.arguments))
        for one in message.tool_calls or ()
    ]
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return Heard(
        message.content or message.refusal or "",
        getattr(message, "reasoning_content", None) or "",
        calls,
        "content_filter" if message.refusal else FINISHES[choice.finish_reason],
        {
            "prompt": usage.prompt_tokens,
            "cached": (prompt and prompt.cached_tokens) or 0,
            "completion": usage.completion_tokens,
            "reasoning": (completion and completion.reasoning_tokens) or 0,
        },
        [said(message)],
    )


def said(message: Any) -> dict[str, Any]:
    """The message as a client hands it back."""
    turn = message.model_dump(exclude_none=True)
    turn.pop("parsed", None)
    for call in turn.get("tool_calls", ()):
        call.pop("index", None)
        call["function"].pop("parsed_arguments", None)
    return dict(turn)
