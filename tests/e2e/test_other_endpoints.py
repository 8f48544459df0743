"""OpenAI's own SDK against a real gateway, for everything that is no conversation: images, audio, moderations, files,
uploads, videos, stores, and the small operations beside them."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from served import Served, fetch, served

SPEECH = {"characters": 15}
IMAGE = {"images": 40_000}
TOKENS = {"input": 5, "output": 40}

CONFIG = {
    "models": {
        "painter": {"targets": [{"model": "mock/dall-e-3", "price": IMAGE}]},
        "token-painter": {"targets": [{"model": "mock/gpt-image-1", "price": TOKENS}]},
        "voice": {"targets": [{"model": "mock/tts-1", "price": SPEECH}]},
        "ear": {"targets": [{"model": "mock/whisper-1", "price": {"seconds": 100}}]},
        "token-ear": {
            "targets": [
                {"model": "mock/gpt-4o-transcribe", "price": {"input": 2.5, "output": 10, "audio_input": 6}}
            ]
        },
        "judge": {"targets": [{"model": "mock/omni-moderation-latest", "price": {"input": 0}}]},
        "ranker": {"targets": [{"model": "mock/rerank-v3.5", "price": {"input": 0.02}}]},
        "reader": {"targets": [{"model": "mock/mistral-ocr-latest", "price": {"pages": 1000}}]},
        "director": {"targets": [{"model": "mock/sora-2", "price": {"video_seconds": 100_000}}]},
        "flaky": {
            "strategy": "fallback",
            "retry": {"attempts": 1},
            "targets": [
                {"model": "mock/dall-e-3+status=503", "price": IMAGE},
                {"model": "mock/dall-e-2", "price": IMAGE},
            ],
        },
    },
}


def wav(seconds: int, rate: int = 16_000) -> bytes:
    size = seconds * rate
    form = (b"fmt ", 16, 1, 1, rate, rate, 1, 8, b"data", size)
    return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", *form) + bytes(size)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("gateway"), CONFIG) as running:
        yield running


@pytest.fixture(scope="module")
def key(gateway: Served) -> str:
    return gateway.key("sdk")


@pytest.fixture(scope="module")
def client(gateway: Served, key: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as made:
        yield made


def event_of(gateway: Served, raw: Any) -> dict[str, Any]:
    return gateway.event(raw.headers["x-tollway-request-id"])


def used(event: dict[str, Any]) -> dict[str, int]:
    return {name: units for name, units in event["usage"].items() if units}


def test_image_by_the_piece(gateway: Served, client: OpenAI) -> None:
    raw = client.images.with_raw_response.generate(model="painter", prompt="a toll road", n=2)
    assert len(raw.parse().data or []) == 2
    event = event_of(gateway, raw)
    assert event["endpoint"] == "images.generations"
    assert event["usage"]["images"] == 2
    assert event["cost_nano_usd"] == 2 * 40_000_000
    assert raw.headers["x-tollway-cost-usd"] == "0.08"
    assert event["upstream_model"] == "dall-e-3"


def test_image_by_tokens(gateway: Served, client: OpenAI) -> None:
    raw = client.images.with_raw_response.generate(model="token-painter", prompt="a toll road")
    usage = raw.parse().usage
    assert usage is not None
    event = event_of(gateway, raw)
    assert used(event) == {"input": usage.input_tokens, "output": usage.output_tokens}
    assert event["cost_nano_usd"] == usage.input_tokens * 5_000 + usage.output_tokens * 40_000


def test_partial_images_stream(gateway: Served, client: OpenAI) -> None:
    stream = client.images.generate(model="token-painter", prompt="a road", stream=True, partial_images=2)
    events = list(stream)
    assert [event.type for event in events] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    event = gateway.event(stream.response.headers["x-tollway-request-id"])
    assert event["streamed"]
    assert event["usage"]["output"] == events[-1].usage.output_tokens  # type: ignore[union-attr]


def test_image_edit_is_a_form(gateway: Served, client: OpenAI) -> None:
    raw = client.images.with_raw_response.edit(
        model="painter", image=("road.png", b"\x89PNG" + bytes(200_000)), prompt="more toll"
    )
    assert raw.parse().data
    assert event_of(gateway, raw)["usage"]["images"] == 1
    form = gateway.upstream.received[-1].form
    assert form is not None
    assert form.field("model") == "dall-e-3"
    assert form.field("prompt") == "more toll"
    picture = form.file("image")
    assert picture is not None
    assert picture.size == 200_004


def test_variations_stream_back(gateway: Served, client: OpenAI) -> None:
    made = client.images.create_variation(model="painter", image=io.BytesIO(b"\x89PNG" + bytes(10)))
    assert made.data


def test_speech_streams(gateway: Served, client: OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="voice", voice="alloy", input="Pay here."
    ) as answer:
        assert answer.headers["content-type"] == "audio/mpeg"
        sound = b"".join(answer.iter_bytes())
        id = answer.headers["x-tollway-request-id"]
    assert len(sound) > 44
    event = gateway.event(id)
    assert used(event) == {"characters": 9}
    assert event["cost_nano_usd"] == 9 * 15_000


def test_transcription_by_the_second(gateway: Served, client: OpenAI) -> None:
    raw = client.audio.transcriptions.with_raw_response.create(model="ear", file=("a.wav", wav(4)))
    assert raw.parse().text
    event = event_of(gateway, raw)
    assert event["usage"]["seconds"] >= 2
    assert not event.get("estimated")


@pytest.mark.parametrize(("form", "estimated"), [("text", True), ("srt", False), ("verbose_json", False)])
def test_transcription_in_every_form(gateway: Served, client: OpenAI, form: Any, estimated: bool) -> None:
    raw = client.audio.transcriptions.with_raw_response.create(
        model="ear", file=("a.wav", wav(4)), response_format=form
    )
    assert raw.content
    event = event_of(gateway, raw)
    assert event["usage"]["seconds"] == (4 if estimated else 3)
    assert event.get("estimated", False) == estimated


def test_transcription_streams_and_is_paid_by_tokens(gateway: Served, client: OpenAI) -> None:
    stream = client.audio.transcriptions.create(model="token-ear", file=("a.wav", wav(4)), stream=True)
    events = list(stream)
    assert events[-1].type == "transcript.text.done"
    event = gateway.event(stream.response.headers["x-tollway-request-id"])
    assert event["usage"]["audio_input"] > 0
    assert event["priced"] is not False


def test_translation(client: OpenAI) -> None:
    assert client.audio.translations.create(model="ear", file=("a.wav", wav(1))).text


def test_moderation_with_and_without_a_model(gateway: Served, client: OpenAI) -> None:
    assert client.moderations.create(model="judge", input="kill it").results[0].flagged
    assert not client.moderations.create(input="a lovely day").results[0].flagged


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_rerank(gateway: Served, key: str, path: str) -> None:
    body = {"model": "ranker", "query": "toll", "documents": ["a road", "a toll"], "top_n": 1}
    answer = fetch(gateway.url + path, body, key)
    assert answer.status == 200, answer.body
    assert [one["index"] for one in answer.json()["results"]] == [1]
    event = gateway.event(answer.headers["x-tollway-request-id"])
    assert event["endpoint"] == "rerank"
    assert event["cost_nano_usd"] == answer.json()["usage"]["total_tokens"] * 20


def test_search_goes_to_the_only_provider(gateway: Served, key: str) -> None:
    answer = fetch(gateway.url + "/v1/search", {"query": ["toll", "road"]}, key)
    assert answer.status == 200, answer.body
    assert gateway.event(answer.headers["x-tollway-request-id"])["usage"]["searches"] == 2
    assert "model" not in json.loads(gateway.upstream.received[-1].body)


def test_ocr_by_the_page(gateway: Served, key: str) -> None:
    document = {"type": "document_url", "document_url": "https://example.com/a.pdf"}
    answer = fetch(
        gateway.url + "/v1/ocr", {"model": "reader", "document": document, "pages": [0, 1, 2]}, key
    )
    assert answer.status == 200, answer.body
    event = gateway.event(answer.headers["x-tollway-request-id"])
    assert (used(event), event["cost_nano_usd"]) == ({"pages": 3}, 3 * 1_000_000)


def test_fallback(gateway: Served, client: OpenAI) -> None:
    raw = client.images.with_raw_response.generate(model="flaky", prompt="a road")
    assert raw.headers["x-tollway-attempts"] == "2"
    assert raw.headers["x-tollway-deployment"] == "mock/dall-e-2"


def test_azure_path_names_the_model(gateway: Served, key: str) -> None:
    answer = fetch(
        gateway.url + "/openai/deployments/painter/images/generations?api-version=1", {"prompt": "a"}, key
    )
    assert answer.status == 200, answer.body
    assert json.loads(gateway.upstream.received[-1].body)["model"] == "dall-e-3"


def test_a_key_that_may_not(gateway: Served) -> None:
    key = gateway.key("few", models=["voice"])
    with OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as client:
        with pytest.raises(openai.PermissionDeniedError):
            client.images.generate(model="painter", prompt="a road")
        with pytest.raises(openai.PermissionDeniedError):
            client.audio.transcriptions.create(model="ear", file=("a.wav", wav(1)))
        assert client.audio.speech.create(model="voice", voice="alloy", input="Pay").content


def test_an_empty_budget_is_refused_before_anything_is_sent(gateway: Served) -> None:
    key = gateway.key("poor", budget={"usd": 0.05, "per": "month"})
    with OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as client:
        client.images.generate(model="painter", prompt="a road")
        before = gateway.upstream.requests
        with pytest.raises(openai.APIStatusError) as refused:
            client.images.generate(model="painter", prompt="a road")
        assert refused.value.status_code == 402
        assert gateway.upstream.requests == before


def test_wrong_bodies(gateway: Served, key: str) -> None:
    assert fetch(gateway.url + "/v1/images/generations", b"{", key).status == 400
    assert (
        fetch(gateway.url + "/v1/images/generations", {"model": "nobody", "prompt": "a"}, key).status == 404
    )
    assert fetch(gateway.url + "/v1/audio/speech", {"input": "a"}, key).json()["error"]["param"] == "model"
    answer = fetch(gateway.url + "/v1/audio/transcriptions", {"model": "ear"}, key)
    assert answer.status == 400, answer.body
    assert fetch(gateway.url + "/v1/images/generations", None, key).status == 405
