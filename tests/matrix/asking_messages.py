"""Anthropic's Messages dialect by Anthropic's SDK."""

from __future__ import annotations

from typing import Any

import anthropic
from asking import PNG, SCHEMA, TOOLS, Ask, Call, Heard, Tap, tapped2

from running import KEY

FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class Messages:
    name = "messages"

    def __init__(self, origin: str) -> None:
        self.tap = Tap()
        self._http = tapped2(self.tap)
        self.sdk = anthropic.Anthropic(base_url=origin, api_key=KEY, max_retries=0, http_client=self._http)

    def open(self, ask: Ask) -> list[Any]:
        if not ask.image:
            return [{"role": "user", "content": ask.text}]
        source = {"type": "base64", "media_type": "image/png", "data": PNG}
        return [
            {
                "role": "user",
                "content": [{"type": "text", "text": ask.text}, {"type": "image", "source": source}],
            }
        ]

    def send(self, model: str, ask: Ask, turns: list[Any], stream: bool) -> Heard:
        fields: dict[str, Any] = {"model": model, "messages": turns, "max_tokens": ask.limit}
        if ask.system is not None:
            block: dict[str, Any] = {"type": "text", "text": ask.system}
            if ask.cached:
                block["cache_control"] = {"type": "ephemeral", "ttl": "1h"}
            fields["system"] = [block]
        if ask.tools:
            fields["tools"] = [
                {
                    "name": name,
                    "description": TOOLS[name]["description"],
                    "input_schema": TOOLS[name]["schema"],
                }
                for name in ask.tools
            ]
        if ask.thinking:
            fields["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        if ask.schema:
            fields["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
        if ask.stop is not None:
            fields["stop_sequences"] = [ask.stop]
        if not stream:
            return heard(self.sdk.messages.create(**fields))
        with self.sdk.messages.stream(**fields) as events:
            return heard(events.get_final_message())

    def results(self, heard: Heard, given: dict[str, str]) -> list[Any]:
        content = [
            {"type": "tool_result", "tool_use_id": call.id, "content": given[call.name]}
            for call in heard.calls
        ]
        return [{"role": "user", "content": content}]

    def usage(self, billed: dict[str, int]) -> dict[str, int]:
        return {
            "input": billed["input"],
            "cache_read": billed["cache_read"],
            "cache_creation": billed["cache_write_5m"] + billed["cache_write_1h"],
            "output": billed["output"],
        }

    def refusal(self, error: Exception) -> tuple[int, str, str]:
        assert isinstance(error, anthropic.APIStatusError), error
        return error.status_code, type(error).__name__, error.message

    def close(self) -> None:
        self._http.close()


def heard(answer: Any) -> Heard:
    assert answer.id
    assert answer.type == "message"
    assert answer.role == "assistant"
    text, thinking = "", ""
    calls: list[Call] = []
    for block in answer.content:
        if block.type == "text":
            text += block.text
        elif block.type == "thinking":
            thinking += block.thinking
        elif block.type == "tool_use":
            calls.append(Call(block.id, block.name, block.input))
        else:
            assert block.type == "redacted_thinking", block
    usage = answer.usage
    counted = {
        "input": usage.input_tokens,
        "cache_read": usage.cache_read_input_tokens or 0,
        "cache_creation": usage.cache_creation_input_tokens or 0,
        "output": usage.output_tokens,
    }
    content = [block.model_dump(exclude_none=True, exclude={"parsed_output"}) for block in answer.content]
    return Heard(
        text,
        thinking,
        calls,
        FINISHES[answer.stop_reason],
        counted,
        [{"role": "assistant", "content": content}],
    )
