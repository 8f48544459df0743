"""What single providers want otherwise, seen in what they are sent: Groq, Mistral, and Claude at Vertex AI."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from anthropic import Anthropic
from openai import OpenAI
from served import Served, served_with

from running import provider, simulator

TURNS: list[Any] = [
    {"role": "user", "content": "When is low tide?"},
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "The moon pulls.",
        "tool_calls": [
            {"id": "toolu_01ABC", "type": "function", "function": {"name": "tide", "arguments": "{}"}},
            {"id": "AbCdEf123", "type": "function", "function": {"name": "tide", "arguments": "{}"}},
        ],
    },
    {"role": "tool", "tool_call_id": "toolu_01ABC", "content": "At six"},
    {"role": "tool", "tool_call_id": "AbCdEf123", "content": "At noon"},
]
TOOLS: Any = [
    {"type": "function", "function": {"name": "tide", "parameters": {"type": "object", "properties": {}}}}
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with simulator() as upstream:
        base = provider(upstream)
        vertex = {
            "type": "vertex_ai", "base_url": upstream.url.removesuffix("/v1"), "project": "acme",
            "api_key": "ya29.token",
        }  # fmt: skip
        config: dict[str, Any] = {
            "require_key": False,
            "database": "none",
            "providers": {
                "groq": {**base, "type": "groq", "languages": ["openai.chat"]},
                "mistral": {**base, "type": "mistral"},
                "vertex_ai": vertex,
            },
        }
        with served_with(tmp_path_factory.mktemp("gateway"), upstream, config) as running:
            yield running


@pytest.fixture(scope="module")
def chat(gateway: Served) -> Iterator[OpenAI]:
    with OpenAI(base_url=gateway.base_url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def messages(gateway: Served) -> Iterator[Anthropic]:
    with Anthropic(base_url=gateway.url, api_key="none", max_retries=0) as client:
        yield client


def sent(gateway: Served) -> Any:
    return json.loads(gateway.upstream.received[-1].body)


def test_groq_hears_no_thoughts(gateway: Served, chat: OpenAI) -> None:
    chat.chat.completions.create(model="groq/m", messages=TURNS, tools=TOOLS)
    assert "reasoning_content" not in str(sent(gateway))
    assert [call["id"] for call in sent(gateway)["messages"][1]["tool_calls"]] == ["toolu_01ABC", "AbCdEf123"]


def test_groq_hears_no_thoughts_of_claude_codes_either(gateway: Served, messages: Anthropic) -> None:
    thought: Any = {"type": "thinking", "thinking": "The moon pulls.", "signature": ""}
    turns: Any = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [thought, {"type": "text", "text": "Hello"}]},
        {"role": "user", "content": "And now?"},
    ]
    messages.messages.create(model="groq/m", max_tokens=50, messages=turns)
    assert "reasoning_content" not in str(sent(gateway))


def test_mistral_hears_ids_of_nine(gateway: Served, chat: OpenAI) -> None:
    chat.chat.completions.create(model="mistral/m", messages=TURNS, tools=TOOLS)
    body = sent(gateway)["messages"]
    ids = [call["id"] for call in body[1]["tool_calls"]]
    assert ids[1] == "AbCdEf123"
    assert len(ids[0]) == 9
    assert ids[0].isalnum()
    assert [body[2]["tool_call_id"], body[3]["tool_call_id"]] == ids


@pytest.mark.parametrize("stream", [False, True])
def test_claude_at_vertex_is_relayed(gateway: Served, messages: Anthropic, stream: bool) -> None:
    turns: Any = [{"role": "user", "content": "Hi"}]
    asked: dict[str, Any] = {
        "model": "vertex_ai/claude-sonnet-4-5@20250929", "max_tokens": 50, "messages": turns,
    }  # fmt: skip
    if stream:
        with messages.messages.stream(**asked) as events:
            answer = events.get_final_message()
    else:
        answer = messages.messages.create(**asked)
    assert answer.content
    received = gateway.upstream.received[-1]
    method = "streamRawPredict" if stream else "rawPredict"
    place = "/v1/projects/acme/locations/us-central1/publishers/anthropic/models/"
    assert received.path.decode() == f"{place}claude-sonnet-4-5@20250929:{method}"
    body = json.loads(received.body)
    assert body.pop("stream", False) is stream
    assert body == {"anthropic_version": "vertex-2023-10-16", "max_tokens": 50, "messages": turns}
    assert received.headers[b"authorization"] == b"Bearer ya29.token"


@pytest.mark.parametrize("stream", [False, True])
def test_claude_at_vertex_is_translated_to(gateway: Served, chat: OpenAI, stream: bool) -> None:
    asked: Any = {
        "model": "vertex_ai/claude-sonnet-4-5",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 9,
    }
    if stream:
        chunks = list(chat.chat.completions.create(**asked, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    else:
        assert chat.chat.completions.create(**asked).choices[0].message.content
    body = sent(gateway)
    assert body["anthropic_version"] == "vertex-2023-10-16"
    assert "model" not in body
