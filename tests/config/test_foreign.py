from __future__ import annotations

from collections.abc import Callable

import pytest

from tollway.config.settings import Settings


def test_a_litellm_configuration(problems: Callable[..., list[str]]) -> None:
    text = "litellm_settings: {}\nmodel_list:\n"
    text += "- {model_name: fast, litellm_params: {model: openai/gpt-5-mini}}\n"
    (problem,) = problems(text)
    assert problem.startswith("tollway.yaml:1: this is a LiteLLM configuration")
    assert "not part of this version" in problem
    assert "models: {fast: openai/gpt-5-mini}" in problem


@pytest.mark.parametrize(
    "text",
    [
        '{"plugins_enabled": ["default"], "credentials": {}, "cache": false}',
        '{"strategy": {"mode": "fallback"}, "targets": []}',
    ],
)
def test_a_portkey_configuration(problems: Callable[..., list[str]], text: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith("tollway.yaml:1: this is a Portkey configuration")
    assert "not part of this version" in problem


def test_what_the_messages_advise_is_accepted(load: Callable[..., Settings]) -> None:
    load(
        "providers: {openai: {api_key: ${OPENAI_API_KEY}}, azure-eu: {type: azure}, anthropic: {}}\n"
        "models:\n  fast: {strategy: loadbalance, targets: [openai/gpt-5-mini, azure-eu/gpt-5-mini]}\n"
        "  smart: {strategy: fallback, targets: [openai/gpt-5, anthropic/claude-opus-4-5]}\n",
        {"OPENAI_API_KEY": "x"},
    )
