from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from tollway.model.usage import Usage
from tollway.wire.formats.openai_usage import read_answer, read_tier, read_usage


def read(shape: Any) -> Usage | None:
    return read_usage(Raw(json.dumps(shape).encode()))


SHAPES: dict[str, tuple[dict[str, Any], Usage]] = {
    "OpenAI chat, plain": (
        {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29},
        Usage(input=19, output=10),
    ),
    "OpenAI chat, every detail zero": (
        {
            "prompt_tokens": 19,
            "completion_tokens": 10,
            "total_tokens": 29,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        Usage(input=19, output=10),
    ),
    "OpenAI chat, cached prompt": (
        {
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920},
        },
        Usage(input=86, cache_read=1920, output=300),
    ),
    "OpenAI chat, reasoning is part of the completion": (
        {
            "prompt_tokens": 75,
            "completion_tokens": 1186,
            "total_tokens": 1261,
            "completion_tokens_details": {"reasoning_tokens": 1024},
        },
        Usage(input=75, output=1186, reasoning=1024),
    ),
    "OpenAI chat, audio in and out": (
        {
            "prompt_tokens": 120,
            "completion_tokens": 80,
            "total_tokens": 200,
            "prompt_tokens_details": {"audio_tokens": 100, "cached_tokens": 0, "text_tokens": 20},
            "completion_tokens_details": {"audio_tokens": 60, "text_tokens": 20},
        },
        Usage(input=20, audio_input=100, output=20, audio_output=60),
    ),
    "details given as null": (
        {
            "prompt_tokens": 5,
            "completion_tokens": 6,
            "total_tokens": 11,
            "prompt_tokens_details": None,
            "completion_tokens_details": None,
        },
        Usage(input=5, output=6),
    ),
    "OpenAI embeddings": ({"prompt_tokens": 8, "total_tokens": 8}, Usage(input=8)),
    "embeddings with a total alone": ({"total_tokens": 8}, Usage(input=8)),
    "prompt and total alone": ({"prompt_tokens": 8, "total_tokens": 20}, Usage(input=8, output=12)),
    "DeepSeek, cache hits beside misses": (
        {
            "prompt_tokens": 1000,
            "completion_tokens": 50,
            "total_tokens": 1050,
            "prompt_cache_hit_tokens": 960,
            "prompt_cache_miss_tokens": 40,
        },
        Usage(input=40, cache_read=960, output=50),
    ),
    "DeepSeek, hits and details agree": (
        {
            "prompt_tokens": 1000,
            "completion_tokens": 50,
            "total_tokens": 1050,
            "prompt_cache_hit_tokens": 960,
            "prompt_tokens_details": {"cached_tokens": 960},
            "completion_tokens_details": {"reasoning_tokens": 20},
        },
        Usage(input=40, cache_read=960, output=50, reasoning=20),
    ),
    "xAI, reasoning outside the completion": (
        {
            "prompt_tokens": 32,
            "completion_tokens": 9,
            "total_tokens": 135,
            "prompt_tokens_details": {"text_tokens": 32, "cached_tokens": 6},
            "completion_tokens_details": {"reasoning_tokens": 94},
            "num_sources_used": 0,
        },
        Usage(input=26, cache_read=6, output=103, reasoning=94),
    ),
    "Gemini-compatible, thoughts only in the total": (
        {"prompt_tokens": 10, "completion_tokens": 40, "total_tokens": 250},
        Usage(input=10, output=240, reasoning=200),
    ),
    "Anthropic's own": (
        {
            "input_tokens": 20,
            "output_tokens": 7,
            "cache_read_input_tokens": 1000,
            "cache_creation_input_tokens": 300,
        },
        Usage(input=20, cache_read=1000, cache_write_5m=300, output=7),
    ),
    "Anthropic behind chat completions": (
        {
            "prompt_tokens": 1320,
            "completion_tokens": 7,
            "total_tokens": 1327,
            "cache_read_input_tokens": 1000,
            "cache_creation_input_tokens": 300,
        },
        Usage(input=20, cache_read=1000, cache_write_5m=300, output=7),
    ),
    "cache writes among the details": (
        {
            "prompt_tokens": 1320,
            "completion_tokens": 7,
            "total_tokens": 1327,
            "prompt_tokens_details": {"cached_tokens": 1000, "cache_write_tokens": 300},
        },
        Usage(input=20, cache_read=1000, cache_write_5m=300, output=7),
    ),
    "Responses": (
        {
            "input_tokens": 328,
            "input_tokens_details": {"cached_tokens": 128},
            "output_tokens": 52,
            "output_tokens_details": {"reasoning_tokens": 40},
            "total_tokens": 380,
        },
        Usage(input=200, cache_read=128, output=52, reasoning=40),
    ),
    "searches": (
        {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11, "num_search_queries": 3},
        Usage(input=5, output=6, searches=3),
    ),
    "counts written as text or with a fraction of nothing": (
        {"prompt_tokens": "5", "completion_tokens": 6.0, "total_tokens": "11"},
        Usage(input=5, output=6),
    ),
    "a total that is too small": (
        {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 0},
        Usage(input=5, output=6),
    ),
    "negative counts": (
        {"prompt_tokens": -5, "completion_tokens": -6, "total_tokens": -11},
        Usage(),
    ),
    "parts larger than their whole": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 4,
            "total_tokens": 14,
            "prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 8, "audio_tokens": 8},
            "completion_tokens_details": {"reasoning_tokens": 99, "audio_tokens": 3},
        },
        Usage(input=0, cache_read=8, cache_write_5m=2, output=1, reasoning=1, audio_output=3),
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name: str) -> None:
    shape, expected = SHAPES[name]
    assert read(shape) == expected


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"prompt_tokens": None},
        {"vendor": 3},
        [],
        "12",
        None,
        {"prompt_tokens": "many"},
        {"prompt_tokens": 1.5},
        {"prompt_tokens": [1]},
        {"prompt_tokens": 10**13, "completion_tokens": 1},
        {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 10**30}},
    ],
)
def test_what_is_no_usage(shape: Any) -> None:
    assert read(shape) is None


def test_broken_and_deep_json() -> None:
    assert read_usage(Raw(b'{"prompt_tokens": 1')) is None
    assert read_usage(Raw(b'{"prompt_tokens_details":' + b"[" * 100_000)) is None
    assert read_answer(b"<html>") is None
    assert read_answer(b'{"usage":' + b"[" * 100_000) is None
    assert read_tier(b"nothing") is None


@given(
    prompt=st.integers(0, 10**6),
    completion=st.integers(0, 10**6),
    parts=st.lists(st.integers(0, 10**6), min_size=5, max_size=5),
    outside=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_classes_are_disjoint_and_add_up(
    prompt: int, completion: int, parts: list[int], outside: bool
) -> None:
    cached, written, audio_in, audio_out, reasoning = parts
    found = read(
        {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion + (reasoning if outside else 0),
            "prompt_tokens_details": {
                "cached_tokens": cached, "cache_write_tokens": written, "audio_tokens": audio_in
            },
            "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": audio_out},
        }
    )  # fmt: skip
    assert found is not None
    written_in_all = completion + (reasoning if outside else 0)
    assert found.prompt_tokens() == prompt
    assert found.output + found.audio_output == written_in_all
    assert found.tokens() == prompt + written_in_all
    assert 0 <= found.reasoning <= found.output
    assert min(found.input, found.cache_read, found.cache_write_5m, found.audio_input) >= 0


_NUMBERS = st.none() | st.integers(-(10**13), 10**13) | st.floats() | st.text(max_size=3) | st.booleans()
_DETAILS = st.none() | st.dictionaries(
    st.sampled_from(["cached_tokens", "audio_tokens", "reasoning_tokens", "cache_write_tokens"]), _NUMBERS
)
_NAMES = ["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens",
          "prompt_cache_hit_tokens", "cache_read_input_tokens", "cache_creation_input_tokens",
          "num_search_queries"]  # fmt: skip


@given(
    st.dictionaries(st.sampled_from(_NAMES), _NUMBERS),
    st.dictionaries(st.sampled_from(["prompt_tokens_details", "completion_tokens_details"]), _DETAILS),
)
@settings(max_examples=400, deadline=None)
def test_nonsense_never_makes_a_negative_count(plain: dict[str, Any], details: dict[str, Any]) -> None:
    found = read({**plain, **details})
    if found is not None:
        counts = [getattr(found, name) for name in Usage.__struct_fields__]
        assert all(isinstance(count, int) and 0 <= count <= 10**13 for count in counts), counts


def test_answers() -> None:
    found = read_answer(b'{"id":"c","usage":{ "prompt_tokens":1 },"service_tier":"flex"}')
    assert found is not None
    assert bytes(found.usage) == b'{ "prompt_tokens":1 }'
    assert found.service_tier == "flex"
    assert read_answer(b'{"usage":null,"service_tier":"flex"}') is None
    assert read_answer(b'{"id":"c"}') is None
    assert read_answer(b"[]") is None
    assert read_tier(b'{"service_tier":"priority"}') == "priority"
    assert read_tier(b'{"service_tier":7}') is None
