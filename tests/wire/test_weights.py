"""How heavy it is to leave out a field that only one format knows."""

from __future__ import annotations

import json

import pytest

from tollway.wire.codec import Profile
from tollway.wire.codecs import codec
from tollway.wire.turns import Losses

RESPONSE = {"model": "m", "input": "Hi"}
GEMINI = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
MESSAGE = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
TARGETS = (
    "openai.chat", "openai.responses", "anthropic.messages", "gemini.generate", "bedrock.converse", "cohere.chat",
    "ollama.chat",
)  # fmt: skip


@pytest.mark.parametrize(
    ("source", "body", "field", "weight"),
    [
        ("openai.responses", {**RESPONSE, "include": ["reasoning.encrypted_content"]}, "include", "aside"),
        ("openai.responses", {**RESPONSE, "include": ["file_search_call.results"]}, "include", "hint"),
        ("openai.responses", {**RESPONSE, "truncation": "auto"}, "truncation", "hint"),
        ("gemini.generate", {**GEMINI, "cachedContent": "cachedContents/a"}, "cachedContent", "meaning"),
        ("gemini.generate", {**GEMINI, "labels": {"a": "b"}}, "labels", "hint"),
        ("anthropic.messages", {**MESSAGE, "container": "container_1"}, "container", "meaning"),
        ("anthropic.messages", {**MESSAGE, "inference_geo": "eu"}, "inference_geo", "hint"),
    ],
)
def test_what_a_field_weighs_at_every_other_format(
    source: str, body: dict[str, object], field: str, weight: str
) -> None:
    read = codec(source).read_request(json.dumps(body).encode())
    for target in TARGETS:
        lost = {
            loss.field: loss.weight for loss in codec(target).write_request(read, Profile(model="m")).lost
        }
        assert lost.get(field) == (None if target == source else weight), target


def test_the_heavier_weight_stays() -> None:
    losses = Losses()
    losses.weigh("a", "meaning")
    losses.weigh("a", "aside")
    losses.weigh("b", "aside")
    losses.hint("b")
    assert [(loss.field, loss.weight) for loss in losses.all()] == [("a", "meaning"), ("b", "hint")]
