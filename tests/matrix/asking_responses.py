"""OpenAI's Responses dialect by OpenAI's SDK. Nothing is stored: a history travels with every request."""

from __future__ import annotations

import json
from typing import Any

import openai
from asking import PNG, SCHEMA, TOOLS, Ask, Call, Heard, Tap, tapped2
from asking_chat import PROMPT

from running import KEY


class Responses:
    name = "responses"

    def __init__(self, origin: str) -> None:
        self.tap = Tap()
        self._http = tapped2(self.tap)
        self.sdk = openai.OpenAI(base_url=origin + "/v1", api_key=KEY, max_retries=0, http_client=self._http)

    def open(self, ask: Ask) -> list[Any]:
        content: list[Any] = [{"type": "input_text", "text": ask.text}]
        if ask.image:
            content.append(
                {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64," + PNG}
            )
        return [{"role": "user", "content": content}]

    def send(self, model: str, ask: Ask, turns: list[Any], stream: bool) -> Heard:
        fields: dict[str, Any] = {
            "model": model, "input": turns, "max_output_tokens": ask.limit, "store": False,
            "include": ["reasoning.encrypted_content"],
        }  # fmt: skip
        if ask.system is not None:
            fields["instructions"] = ask.system
        if ask.cached:
            fields["prompt_cache_key"] = "harbours"
        if ask.tools:
            fields["tools"] = [
                {
                    "type": "function", "name": name, "description": TOOLS[name]["description"],
                    "parameters": TOOLS[name]["schema"], "strict": False,
                }
                for name in ask.tools
            ]  # fmt: skip
        if ask.thinking:
            fields["reasoning"] = {"effort": "low", "summary": "auto"}
        if ask.schema:
            fields["text"] = {
                "format": {"type": "json_schema", "name": "places", "schema": SCHEMA, "strict": True}
            }
        if not stream:
            return heard(self.sdk.responses.create(**fields))
        with self.sdk.responses.stream(**fields) as events:
            final = None
            for event in events:
                if event.type in ("response.completed", "response.incomplete"):
                    final = event.response
            assert final is not None, "the stream has no last event"
            return heard(final)

    def results(self, heard: Heard, given: dict[str, str]) -> list[Any]:
        return [
            {"type": "function_call_output", "call_id": call.id, "output": given[call.name]}
            for call in heard.calls
        ]

    def usage(self, billed: dict[str, int]) -> dict[str, int]:
        return {
            "input": sum(billed[name] for name in PROMPT),
            "cached": billed["cache_read"],
            "output": billed["output"],
            "reasoning": billed["reasoning"],
        }

    def refusal(self, error: Exception) -> tuple[int, str, str]:
        assert isinstance(error, openai.APIStatusError), error
        return error.status_code, type(error).__name__, error.message

    def close(self) -> None:
        self._http.close()


def heard(answer: Any) -> Heard:
    assert answer.id.startswith("resp_")
    text, thinking = "", ""
    calls: list[Call] = []
    refused = False
    for item in answer.output:
        if item.type == "message":
            assert item.role == "assistant"
            for part in item.content:
                refused = refused or part.type == "refusal"
                text += part.refusal if part.type == "refusal" else part.text
        elif item.type == "reasoning":
            thinking += "".join(part.text for part in item.summary)
            thinking += "".join(part.text for part in item.content or ())
        else:
            assert item.type == "function_call", item
            assert item.id != item.call_id
            calls.append(Call(item.call_id, item.name, json.loads(item.arguments)))
    if answer.status == "incomplete":
        finish = {"max_output_tokens": "length", "content_filter": "content_filter"}[
            answer.incomplete_details.reason
        ]
    else:
        assert answer.status == "completed", answer.status
        finish = "tool_calls" if calls else "content_filter" if refused else "stop"
    usage = answer.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    turn = [_said(item) for item in answer.output]
    counted = {
        "input": usage.input_tokens,
        "cached": usage.input_tokens_details.cached_tokens,
        "output": usage.output_tokens,
        "reasoning": usage.output_tokens_details.reasoning_tokens,
    }
    return Heard(text, thinking, calls, finish, counted, turn)


def _said(item: Any) -> dict[str, Any]:
    turn = item.model_dump(exclude_none=True)
    turn.pop("parsed_arguments", None)
    for part in turn.get("content") or ():
        part.pop("parsed", None)
    return dict(turn)
