"""Every name a model goes by finds its family, and the table of families is whole."""

from __future__ import annotations

import pytest
import tiktoken.model

from tollway.tokens.family import FILE, OTHER, FamilyError, estimate, family, read_families
from tollway.tokens.vocabulary import VOCABULARIES


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o", "gpt-4o"),
        ("azure/gpt-4o-2024-08-06", "gpt-4o"),
        ("GPT-4o-Mini", "gpt-4o-mini"),
        ("ft:gpt-4o-mini-2024-07-18:acme::9", "gpt-4o-mini"),
        ("gpt-4.1", "gpt-4.1"),
        ("gpt-4.1-nano-2025-04-14", "gpt-4.1-nano"),
        ("gpt-4-turbo", "gpt-4"),
        ("gpt-35-turbo", "gpt-4"),
        ("gpt-5-nano", "gpt-5-nano"),
        ("gpt-5.4-mini", "gpt-5.2"),
        ("openrouter/openai/o3-mini", "o-series"),
        ("o1", "o-series"),
        ("o4-mini-2025-04-16", "o4-mini"),
        ("AIDC-AI/Marco-o1", OTHER),
        ("text-embedding-3-large", "openai-text"),
        ("openai.gpt-oss-120b-1:0", "gpt-oss"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude"),
        ("anthropic/claude-opus-4.7", "claude-2026"),
        ("claude-3-7-sonnet@20250219", "claude"),
        ("models/gemini-2.5-pro", "gemini"),
        ("gemini-3-pro-preview", "gemini-3"),
        ("accounts/fireworks/models/llama-v3p1-8b-instruct", "llama"),
        ("deepseek-r1-distill-llama-70b", "llama"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "qwen"),
        ("deepseek-chat", "deepseek"),
        ("Qwen/Qwen3-235B-A22B", "qwen-3"),
        ("mistral-large-latest", "mistral"),
        ("pixtral-12b", "pixtral"),
        ("cohere.command-r-plus-v1:0", "cohere"),
        ("grok-4", "grok"),
        ("us.amazon.nova-pro-v1:0", "nova"),
        ("supernova", OTHER),
        ("", OTHER),
    ],
)
def test_a_name_finds_its_family(model: str, name: str) -> None:
    assert family(model).name == name


def test_openai_models_use_the_vocabulary_that_tiktoken_names() -> None:
    # o200k_harmony has the words of o200k_base; models before cl100k_base are gone.
    shipped = {**{name: name for name in VOCABULARIES}, "o200k_harmony": "o200k_base"}
    known = {**tiktoken.model.MODEL_TO_ENCODING, **tiktoken.model.MODEL_PREFIX_TO_ENCODING}
    compared = 0
    for model, encoding in known.items():
        if encoding in shipped:
            of = family(model)
            assert (of.vocabulary, of.own) == (shipped[encoding], True), model
            compared += 1
    assert compared > 20


def test_only_openai_models_count_with_a_vocabulary_of_their_own() -> None:
    known, _ = read_families(FILE.read_text(encoding="utf-8"))
    for entry in known.values():
        assert entry.own == (entry.factor == 1.0)
        assert entry.documented <= entry.own
        assert 1.0 <= entry.factor <= 1.5
        assert entry.source.endswith(".")
    assert known[OTHER].match == ()


def test_names_are_bounded_and_any_text_is_a_name() -> None:
    assert family("x" * 10_000_000 + "/gpt-4o").name == "gpt-4o"
    assert family("\ud800(*[").name == OTHER


def test_the_estimate_grows_with_size_and_is_never_nothing() -> None:
    of = family("gpt-4o")
    assert estimate(0, of) == 0
    assert estimate(1, of) == 1
    assert estimate(3_500, of) == 1_000
    assert estimate(3_500, family("claude-sonnet-4-5")) == 1_200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[family]]\nname = "a"\nsource = "."', "there is no family 'other'"),
        ('[[family]]\nname = "a"\nlike = "b"', "'a' is like 'b'"),
        ('[[family]]\nname = "a"\nvocabulary = "gpt2"\nsource = "."', "'gpt2', which is not bundled"),
        ('[[family]]\nname = "a"\nsource = "."\n[[family]]\nname = "a"\nsource = "."', "stands above it already"),
        ('[[family]]\nname = "a"\nmatch = ["x"]\nsource = "."\n[[family]]\nname = "b"\nmatch = ["x"]\nsource = "."',
         "stands above it already"),
    ],
)  # fmt: skip
def test_a_table_that_contradicts_itself_is_refused(text: str, message: str) -> None:
    with pytest.raises(FamilyError, match=message):
        read_families(text)
