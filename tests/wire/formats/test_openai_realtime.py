"""What is read of realtime events: usage in disjoint classes, sizes, models."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from tollway.errors import BudgetExceeded
from tollway.model.usage import NOTHING, Usage
from tollway.wire.formats.openai_realtime import (
    error_event,
    heard,
    read_event,
    read_response,
    read_usage,
    speed,
    spoken,
    transcription_model,
)


def raw(value: object) -> Raw:
    return Raw(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        ({"input_tokens": 8, "output_tokens": 3, "total_tokens": 11}, Usage(input=8, output=3)),
        (
            {
                "input_tokens": 1000,
                "output_tokens": 200,
                "input_token_details": {
                    "text_tokens": 300,
                    "audio_tokens": 700,
                    "cached_tokens": 512,
                    "cached_tokens_details": {"text_tokens": 112, "audio_tokens": 400, "image_tokens": 0},
                },
                "output_token_details": {"text_tokens": 50, "audio_tokens": 150},
            },
            Usage(input=188, cache_read=512, audio_input=300, output=50, audio_output=150),
        ),
        ({"type": "duration", "seconds": 2.1}, Usage(seconds=3)),
        ({"type": "duration", "seconds": 0}, Usage()),
        (
            {"input_tokens": 1, "output_tokens": 9, "output_token_details": {"reasoning_tokens": 4}},
            Usage(input=1, output=9, reasoning=4),
        ),
        (None, None),
        ({}, None),
        ([], None),
        ({"input_tokens": "many"}, None),
        ({"seconds": -1}, None),
    ],
)
def test_usage(reported: Any, usage: Usage | None) -> None:
    assert read_usage(raw(reported)) == usage


_counts = st.integers(-5, 10_000)
_details = st.fixed_dictionaries(
    {},
    optional={
        "audio_tokens": _counts,
        "text_tokens": _counts,
        "cached_tokens": _counts,
        "reasoning_tokens": _counts,
        "cached_tokens_details": st.none() | st.fixed_dictionaries({}, optional={"audio_tokens": _counts}),
    },
)


@given(st.integers(0, 10_000), st.integers(0, 10_000), _details, _details)
def test_classes_are_disjoint_and_add_up(read: int, written: int, into: Any, out: Any) -> None:
    reported = {
        "input_tokens": read,
        "output_tokens": written,
        "input_token_details": into,
        "output_token_details": out,
    }
    usage = read_usage(raw(reported))
    assert usage is not None
    assert usage.input + usage.cache_read + usage.audio_input == read
    assert usage.output + usage.audio_output == written
    assert 0 <= usage.reasoning <= usage.output
    assert min(usage.input, usage.cache_read, usage.audio_input, usage.output, usage.audio_output) >= 0


def test_what_is_no_event_is_none() -> None:
    for message in ("", "nonsense", "[]", '{"type": 1}', b"\xff", '{"type": "a"', "[" * 5000):
        assert read_event(message) is None
    event = read_event(
        '{"type": "response.done", "response": {"id": "r", "status": "completed", "usage": null}}'
    )
    assert event is not None
    assert read_response(event.response).id == "r"
    assert read_response(Raw(b'{"id": 1}')).id == ""


def test_sound_and_words_by_their_size() -> None:
    def delta(kind: str, size: int) -> Usage:
        event = read_event(json.dumps({"type": kind, "delta": "A" * size}))
        assert event is not None
        return spoken(event, 48_000)

    assert delta("response.output_audio.delta", 64_000) == Usage(audio_output=20)  # a second of it
    assert delta("response.audio.delta", 64_000) == Usage(audio_output=20)
    assert delta("response.output_text.delta", 40) == Usage(output=10)
    assert delta("response.function_call_arguments.delta", 4) == Usage(output=1)
    assert delta("response.output_text.done", 40) == NOTHING
    assert delta("conversation.item.input_audio_transcription.delta", 40) == NOTHING
    sound = {"audio": raw("A" * 64_000)}
    assert heard(sound, "input_audio_buffer.append", 48_000) == Usage(audio_input=10)
    assert heard(
        sound, "input_audio_buffer.append", speed(raw({"input_audio_format": "g711_ulaw"}))
    ) == Usage(audio_input=60)
    assert heard({"item": raw("a" * 38)}, "conversation.item.create", 48_000) == Usage(input=10)
    assert heard({}, "input_audio_buffer.append", 48_000) == NOTHING
    assert heard({}, "response.cancel", 48_000) == NOTHING


def test_the_transcriber_of_a_session() -> None:
    assert transcription_model(raw({"audio": {"input": {"transcription": {"model": "a"}}}})) == "a"
    assert transcription_model(raw({"input_audio_transcription": {"model": "b"}})) == "b"
    for session in (
        {},
        [],
        None,
        {"audio": None},
        {"audio": {"input": []}},
        {"input_audio_transcription": {"model": 1}},
    ):
        assert transcription_model(raw(session)) is None


def test_an_error_event_has_openais_shape() -> None:
    error = BudgetExceeded("Too much.", details={"spent": 5})
    assert json.loads(error_event(error, "event_1", "mine")) == {
        "type": "error",
        "event_id": "event_1",
        "error": {
            "type": "insufficient_quota",
            "code": "budget_exceeded",
            "message": "Too much.",
            "param": None,
            "spent": 5,
            "event_id": "mine",
        },
    }
