"""Google's SDK at its own paths, both versions of them, before providers of every kind: a chat with a tool, a schema,
a stream, counted tokens, models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google import genai
from google.genai import types
from played import SAID, UPSTREAMS, played_gateway, player
from pydantic import BaseModel
from served import Served

VERSIONS = ("v1beta", "v1")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    players = {"tool": player("weather", {"city": "Oslo", "days": 3}), "plain": player()}
    with played_gateway(tmp_path_factory.mktemp("gateway"), players) as running:
        yield running


@pytest.fixture(scope="module")
def key(gateway: Served) -> str:
    return gateway.key("genai")


@pytest.fixture(params=VERSIONS)
def client(request: pytest.FixtureRequest, gateway: Served, key: str) -> Iterator[genai.Client]:
    options = types.HttpOptions(base_url=gateway.url, api_version=request.param)
    with genai.Client(api_key=key, vertexai=False, http_options=options) as made:
        yield made


class Forecast(BaseModel):
    city: str
    degrees: float


def weather(city: str, days: int) -> str:
    """The weather of a city."""
    return f"sunny in {city} for {days} days"


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_functions_are_called_by_the_sdk(client: genai.Client, upstream: str) -> None:
    chat = client.chats.create(
        model=f"tool-{upstream}", config={"tools": [weather], "max_output_tokens": 500}
    )
    answer = chat.send_message("How will the weather be?")
    assert answer.text == SAID
    called = [
        part.function_response.response
        for content in chat.get_history()
        for part in content.parts or []
        if part.function_response is not None
    ]
    assert called == [{"result": "sunny in Oslo for 3 days"}]
    assert answer.usage_metadata is not None
    assert answer.usage_metadata.prompt_token_count
    assert answer.usage_metadata.candidates_token_count
    # The history, calls and all, is the next turn's beginning.
    assert chat.send_message("Thank you.").text == SAID


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_a_stream(client: genai.Client, upstream: str) -> None:
    pieces = list(client.models.generate_content_stream(model=f"plain-{upstream}", contents="Hello"))
    assert len(pieces) > 1
    assert "".join(piece.text or "" for piece in pieces) == SAID
    last: Any = pieces[-1]
    assert last.candidates[0].finish_reason == types.FinishReason.STOP
    assert last.usage_metadata.candidates_token_count > 0


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_a_schema(client: genai.Client, upstream: str) -> None:
    answer = client.models.generate_content(
        model=f"plain-{upstream}",
        contents="How will the weather be?",
        config={"response_mime_type": "application/json", "response_schema": Forecast},
    )
    assert isinstance(answer.parsed, Forecast)


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_tokens_are_counted(client: genai.Client, upstream: str) -> None:
    counted = client.models.count_tokens(model=f"plain-{upstream}", contents="How will the weather be?")
    assert counted.total_tokens
    assert 3 < counted.total_tokens < 30


def test_models(client: genai.Client) -> None:
    names = {one.name for one in client.models.list()}
    assert {f"models/plain-{upstream}" for upstream in UPSTREAMS} <= names
    assert client.models.get(model="plain-chat").name == "models/plain-chat"
