"""What is known of models, by the many names providers give them."""

from __future__ import annotations

import pytest

from tollway.config.settings import ProviderSettings
from tollway.model.secret import Secret
from tollway.providers.catalog import load_catalog
from tollway.providers.languages import REMEMBERED
from tollway.providers.profiles import bare_name, families, profile_of
from tollway.providers.provider import Provider
from tollway.wire.codec import Profile

CATALOG = load_catalog()


@pytest.mark.parametrize(
    ("model", "bare"),
    [
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5-20250929"),
        ("anthropic/Claude-Sonnet-4.5", "claude-sonnet-4.5"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5-20250929-v1:0"),
        ("us-gov.anthropic.claude-3-haiku-20240307-v1:0", "claude-3-haiku-20240307-v1:0"),
        ("apac.amazon.nova-lite-v1:0", "nova-lite-v1:0"),
        (
            "arn:aws:bedrock:eu-west-1:1:inference-profile/eu.meta.llama3-2-1b-instruct-v1:0",
            "llama3-2-1b-instruct-v1:0",
        ),
        ("claude-opus-4-1@20250805", "claude-opus-4-1"),
        ("models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("accounts/fireworks/models/gpt-oss-20b", "gpt-oss-20b"),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc", "gpt-4o-mini-2024-07-18"),
        ("gpt-oss:20b", "gpt-oss:20b"),
        ("gpt-4.1", "gpt-4.1"),
        ("o3", "o3"),
    ],
)
def test_bare_names(model: str, bare: str) -> None:
    assert bare_name(model) == bare


@pytest.mark.parametrize(
    ("entry", "model", "thinking", "sampling", "max_output"),
    [
        ("anthropic", "claude-3-5-haiku-20241022", "none", True, 8192),
        ("anthropic", "claude-3-7-sonnet-20250219", "budget", True, 64000),
        ("anthropic", "claude-opus-4-20250514", "budget", True, 32000),
        ("anthropic", "claude-sonnet-4-20250514", "budget", True, 64000),
        ("anthropic", "claude-opus-4-5", "budget", True, 64000),
        ("anthropic", "claude-opus-4-6", "adaptive", True, 128000),
        ("anthropic", "claude-opus-4-7-20260416", "adaptive", False, 128000),
        ("anthropic", "claude-sonnet-5", "adaptive", False, 128000),
        ("anthropic", "claude-marvel-9", "adaptive", False, 64000),
        ("openrouter", "anthropic/claude-opus-4.7", "adaptive", False, 128000),
        ("bedrock", "eu.anthropic.claude-sonnet-4-6", "adaptive", True, 64000),
        ("gemini", "gemini-2.0-flash", "none", True, 8192),
        ("gemini", "gemini-2.5-flash", "budget", True, 65536),
        ("gemini", "gemini-3.1-pro-preview", "effort", True, 65536),
        ("gemini", "gemini-3.7-flash", "effort", False, 65536),
        ("openai", "gpt-4o-2024-08-06", "none", True, 16384),
        ("openai", "gpt-4.1-mini", "none", True, 32768),
        ("openai", "gpt-5-mini", "effort", False, 128000),
        ("openai", "gpt-5-chat-latest", "none", True, 16384),
        ("openai", "gpt-6.1-sol", "effort", False, 128000),
        ("openai", "o4-mini-2025-04-16", "effort", False, 100000),
        ("azure", "gpt-5-pro", "effort", False, 128000),
        ("openai", "gpt-5-pro", "effort", False, 272000),
        ("groq", "openai/gpt-oss-120b", "effort", True, None),
        ("ollama", "gpt-oss:20b", "effort", True, None),
        ("cohere", "command-a-reasoning-08-2025", "budget", True, 32000),
        ("cohere", "command-r7b-12-2024", "none", True, 4096),
        ("bedrock", "us.amazon.nova-2-lite-v1:0", "effort", True, 64000),
    ],
)
def test_families(entry: str, model: str, thinking: str, sampling: bool, max_output: int | None) -> None:
    found = profile_of(entry, model)
    assert found.model == model
    assert (found.thinking, found.sampling, found.max_output) == (thinking, sampling, max_output)


def test_what_is_taken() -> None:
    assert profile_of("openai", "gpt-audio").audio
    assert not profile_of("openai", "gpt-4o").audio
    assert not profile_of("openai", "o3-mini").images
    assert not profile_of("openai", "o3-deep-research").tools
    assert profile_of("anthropic", "claude-sonnet-4-5").schema
    assert not profile_of("anthropic", "claude-3-7-sonnet-latest").schema
    assert profile_of("anthropic", "claude-opus-4-8").system_turns
    assert not profile_of("anthropic", "claude-opus-4-7").system_turns
    assert profile_of("anthropic", "claude-opus-5").schema
    assert not profile_of("bedrock", "anthropic.claude-opus-5").schema
    assert not profile_of("ollama", "llama3:8b").tools
    assert profile_of("ollama", "llama3.3").tools


def test_an_unknown_model_may_do_everything() -> None:
    assert profile_of("openai-compatible", "house-model") == Profile(model="house-model")


def test_every_type_a_family_names_exists() -> None:
    assert {name for _, family in families() for name in family.at} <= set(CATALOG)


def test_no_family_is_hidden_behind_another() -> None:
    """Each has a name of its own: one that no family before it takes."""
    seen = []
    for pattern, family in families():
        for name in family.names:
            example = name.replace("[-.]", "-").replace("[-:]", "-").replace("*", "")
            while "[" in example:
                at = example.index("[")
                example = example[:at] + example[at + 1] + example[example.index("]") + 1 :]
            assert pattern.match(example), name
            taken = [before for before, other in seen if before.match(example) and not other.at]
            assert not taken, f"{name} of {family} is never reached"
        seen.append((pattern, family))


def test_a_provider_remembers_a_bounded_number() -> None:
    provider = Provider(
        CATALOG["openai"], ProviderSettings(name="o", type="openai", api_key=Secret("sk-abc"))
    )
    first = provider.profile("gpt-4o")
    assert provider.profile("gpt-4o") is first
    for number in range(REMEMBERED):
        provider.profile(f"m-{number}")
    assert len(provider._profiles) <= REMEMBERED
    assert provider.profile("gpt-4o") == first
