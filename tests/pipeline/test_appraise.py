from __future__ import annotations

import json
from typing import Any

import pytest

from tollway.config.settings import ProviderSettings, Settings
from tollway.model.deployment import Deployment
from tollway.model.price import Price, Rates
from tollway.model.secret import Secret
from tollway.model.usage import Usage
from tollway.pipeline.appraise import Wish, appraise, expected, worst
from tollway.pipeline.snapshot import Snapshot, Target
from tollway.pricing.book import PriceBook
from tollway.providers.catalog import load_catalog
from tollway.providers.provider import Provider

OPENAI = Provider(
    load_catalog()["openai"], ProviderSettings(name="openai", type="openai", api_key=Secret("k"))
)
SNAPSHOT = Snapshot(
    settings=Settings(), keys=(), providers={"openai": OPENAI}, prices=PriceBook.load(),
    generation=1, started=0,
)  # fmt: skip
DOLLAR = 1_000_000_000


def target(model: str = "m", **rates: int) -> Target:
    """Rates in nano-dollars a unit; without any, the book's price of the model."""
    price = SNAPSHOT.price(OPENAI, model)
    if rates:
        price = Price(
            rates=Rates(**{name: rate * 1_000_000 for name, rate in rates.items()}), source="configuration"
        )
    deployment = Deployment(id=f"openai/{model}", provider="openai", upstream_model=model, price=price)
    return Target(deployment, OPENAI, None)


def judged(wish: Wish, at: Target, answer: object = None, usage: Any = None) -> tuple[Usage, int, bool, bool]:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode() if answer is not None else b""
    found = appraise(wish, at, SNAPSHOT, body, usage)
    return found.usage, found.cost, found.priced, found.estimated


TOKENS = {"input_tokens": 10, "output_tokens": 100, "total_tokens": 110}
PICTURES = {"data": [{"b64_json": "x"}, {"b64_json": "y"}]}


@pytest.mark.parametrize(
    ("wish", "rates", "answer", "usage", "cost"),
    [
        # Images: by tokens where they are reported and priced, else by the piece that was made.
        (Wish(endpoint="images.generations"), {"images": 7}, PICTURES, Usage(images=2), 14),
        (Wish(endpoint="images.edits", images=3), {"images": 7}, {}, Usage(images=3), 21),
        (Wish(endpoint="images.generations"), {"input": 1, "output": 2}, {**PICTURES, "usage": TOKENS},
         Usage(input=10, output=100), 210),
        (Wish(endpoint="images.generations"), {"images": 7}, {**PICTURES, "usage": TOKENS}, Usage(images=2), 14),
        (Wish(endpoint="images.generations"), {"images": 7, "input": 1, "output": 2}, {**PICTURES, "usage": TOKENS},
         Usage(input=10, output=100), 210),
        # Recordings.
        (Wish(endpoint="audio.transcriptions"), {"seconds": 5}, {"usage": {"type": "duration", "seconds": 3.2}},
         Usage(seconds=4), 20),
        (Wish(endpoint="audio.transcriptions"), {"seconds": 5}, {"duration": 8.01}, Usage(seconds=9), 45),
        (Wish(endpoint="audio.transcriptions"), {"seconds": 5}, {"duration": "8.01"}, Usage(seconds=9), 45),
        (Wish(endpoint="audio.translations"), {"seconds": 5}, b"1\n00:00:00,000 --> 01:00:02,500\nHi\n",
         Usage(seconds=3603), 18015),
        (Wish(endpoint="audio.transcriptions"), {"seconds": 5}, b"WEBVTT\n\n00:00.000 --> 00:07.000\nHi\n",
         Usage(seconds=7), 35),
        (Wish(endpoint="audio.transcriptions"), {"input": 1, "output": 2, "audio_input": 3},
         {"usage": {"type": "tokens", **TOKENS, "input_token_details": {"text_tokens": 4, "audio_tokens": 6}}},
         Usage(input=4, audio_input=6, output=100), 222),
        # Speech.
        (Wish(endpoint="audio.speech", text=12), {"characters": 2}, None, Usage(characters=12), 24),
        # Rankings, searches, pages, video.
        (Wish(endpoint="rerank", documents=5), {"searches": 9}, {"meta": {"billed_units": {"search_units": 2}}},
         Usage(searches=2), 18),
        (Wish(endpoint="rerank"), {"input": 3}, {"usage": {"total_tokens": 20}}, Usage(input=20), 60),
        (Wish(endpoint="search", queries=2), {"searches": 9}, {}, Usage(searches=2), 18),
        (Wish(endpoint="ocr", pages=9), {"pages": 9}, {"usage_info": {"pages_processed": 2}}, Usage(pages=2), 18),
        (Wish(endpoint="videos", seconds=4), {"video_seconds": 9}, {"seconds": "8"}, Usage(video_seconds=8), 72),
        (Wish(endpoint="moderations", text=40), {"input": 3}, {"usage": TOKENS}, Usage(input=10, output=100), None),
        (Wish(endpoint="threads.runs"), {"input": 1, "output": 2}, {"usage": TOKENS}, Usage(input=10, output=100), 210),
    ],
)  # fmt: skip
def test_by_what_was_reported(
    wish: Wish, rates: dict[str, int], answer: object, usage: Usage, cost: int | None
) -> None:
    at = target(**rates)
    found = judged(wish, at, answer)
    if cost is None:
        # The price has no rate for what was written: our count of what was read stands in.
        assert found == (Usage(input=10), 30, True, True)
    else:
        assert found == (usage, cost, True, False)


@pytest.mark.parametrize(
    ("wish", "rates", "usage"),
    [
        (Wish(endpoint="audio.transcriptions", uploaded=160_000), {"seconds": 5}, Usage(seconds=10)),
        (Wish(endpoint="audio.transcriptions", uploaded=9, seconds=4), {"seconds": 5}, Usage(seconds=4)),
        (Wish(endpoint="audio.speech", text=30), {"seconds": 5}, Usage(seconds=2)),
        (Wish(endpoint="audio.speech", text=30), {"input": 1, "output": 2}, Usage(input=7, audio_output=42)),
        (Wish(endpoint="rerank", documents=101), {"searches": 5}, Usage(searches=2)),
        (Wish(endpoint="ocr", pages=3), {"pages": 5}, Usage(pages=3)),
        (Wish(endpoint="videos"), {"video_seconds": 5}, Usage(video_seconds=4)),
        (Wish(endpoint="moderations", text=40), {"input": 5}, Usage(input=10)),
    ],
)
def test_by_our_own_count_which_is_marked(wish: Wish, rates: dict[str, int], usage: Usage) -> None:
    found = judged(wish, target(**rates), b"a text that says nothing")
    assert (found[0], found[2:]) == (usage, (True, True))
    assert found[1] > 0


@pytest.mark.parametrize(
    ("model", "size", "quality", "dollars"),
    [
        ("dall-e-3", "1024x1024", "", 0.04),
        ("dall-e-3", "1024x1024", "hd", 0.08),
        ("dall-e-3", "1792x1024", "hd", 0.12),
        ("dall-e-2", "256x256", "", 0.016),
        ("dall-e-3", "", "", 0.04),
        ("dall-e-3", "9999x9999", "", 0.04),
    ],
)
def test_pictures_by_size_and_quality(model: str, size: str, quality: str, dollars: float) -> None:
    wish = Wish(endpoint="images.generations", size=size, quality=quality)
    assert judged(wish, target(model), {"data": [{}]})[1] == round(dollars * DOLLAR)


def test_the_size_an_answer_names_counts_where_the_request_named_none() -> None:
    wish = Wish(endpoint="images.generations")
    answer = {"data": [{}], "size": "1024x1024", "quality": "low"}
    assert judged(wish, target("gpt-image-1"), answer)[1] == round(0.011 * DOLLAR)


def test_a_price_of_the_configuration_is_not_sized() -> None:
    wish = Wish(endpoint="images.generations", size="1792x1024", quality="hd")
    assert judged(wish, target("dall-e-3", images=5), {"data": [{}]})[1] == 5


def test_unpriced_is_said_and_not_free() -> None:
    for wish in (
        Wish(endpoint="images.generations"),
        Wish(endpoint="fine_tuning.jobs"),
        Wish(endpoint="batches"),
    ):
        assert judged(wish, target("nobody"), {})[1:] == (0, False, False)


@pytest.mark.parametrize(
    "raw", [b"[]", b'{"usage": 3}', b'{"usage": {"input_tokens": -1}}', b'{"data": 7}', b'{"a"']
)
def test_damaged_answers(raw: bytes) -> None:
    for endpoint in ("images.generations", "audio.transcriptions", "rerank", "ocr", "videos", "moderations"):
        appraise(Wish(endpoint=endpoint), target(input=1), SNAPSHOT, raw)


@pytest.mark.parametrize(
    ("wish", "at", "answer"),
    [
        (Wish(endpoint="images.generations", images=2), target("dall-e-3"), {"data": [{}, {}]}),
        (
            Wish(endpoint="images.generations"),
            target("gpt-image-1"),
            {"usage": {**TOKENS, "output_tokens": 6240}},
        ),
        (Wish(endpoint="audio.speech", text=400), target("tts-1"), None),
        (
            Wish(endpoint="audio.transcriptions", uploaded=16_000_000),
            target("whisper-1"),
            {"duration": 999.0},
        ),
        (Wish(endpoint="videos", seconds=8), target("sora-2"), {"seconds": 8}),
    ],
)
def test_what_a_strict_budget_holds_is_never_too_little(wish: Wish, at: Target, answer: object) -> None:
    cost = judged(wish, at, answer)[1]
    assert 0 < cost <= worst(wish, at, SNAPSHOT)
    assert 0 < expected(wish, at, SNAPSHOT)[1] <= worst(wish, at, SNAPSHOT)
