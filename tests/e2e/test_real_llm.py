"""A real language model behind the gateway: llama.cpp's server, whose tokens and usage nobody here made up."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel
from served import PRICE, Served, bare, fetch, served, wait_until

from running import free_port

SCRIPT = Path(__file__).with_name("tiny_model.py")
HELLO: Any = [{"role": "user", "content": "Say hello."}]
LETTERS = {"grammar": "root ::= [a-z]+", "ignore_eos": True}
"""Left alone the model says random bytes, of which several tokens may make one character, and may end at any time."""


@contextmanager
def model_server(directory: Path, *arguments: str) -> Iterator[str]:
    """Its base URL."""
    port = free_port()
    log = directory / f"log-{port}"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(directory), str(port), *arguments],
            env=bare(directory),
            stdout=out,
            stderr=out,
        )

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return fetch(f"http://127.0.0.1:{port}/health").status == 200
        except OSError:
            return False

    try:
        wait_until(ready, 20, "the model is loaded")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("models")
    with model_server(directory) as talks, model_server(directory, "embedding") as embeds:
        config = {
            "providers": {
                "llama": {"type": "llamacpp", "base_url": talks},
                "vectors": {"type": "openai-compatible", "base_url": embeds},
            },
            "models": {
                "tiny": {"targets": [{"model": "llama/tiny", "price": PRICE}]},
                "embed": {"targets": [{"model": "vectors/tiny", "price": {"input": 1}}]},
            },
        }
        with served(tmp_path_factory.mktemp("gateway"), config) as running:
            yield running


@pytest.fixture(scope="module")
def client(gateway: Served) -> Iterator[OpenAI]:
    with OpenAI(base_url=gateway.base_url, api_key=gateway.key("local"), max_retries=0) as made:
        yield made


def metered(event: dict[str, Any], usage: dict[str, Any]) -> None:
    """The event says of tokens and money what the model's own usage says."""
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    fresh, written = usage["prompt_tokens"] - cached, usage["completion_tokens"]
    assert event["raw_usage"] == usage
    assert (event["provider"], event["estimated"], event["outcome"]) == ("llama", False, "ok")
    found = event["usage"]
    assert (found["input"], found["cache_read"], found["output"]) == (fresh, cached, written)
    assert event["cost_nano_usd"] == fresh * 150 + cached * 75 + written * 600


def test_a_chat(client: OpenAI, gateway: Served) -> None:
    for _ in range(2):  # the second finds most of its prompt in the model's cache
        raw = client.chat.completions.with_raw_response.create(
            model="tiny", messages=HELLO, max_tokens=12, extra_body=LETTERS
        )
        answer = raw.parse()
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 12
        event = gateway.event(raw.headers["x-tollway-request-id"])
        metered(event, answer.usage.model_dump(exclude_unset=True))
    assert event["usage"]["cache_read"] > 0


def test_a_stream(client: OpenAI, gateway: Served) -> None:
    options: Any = {
        "model": "tiny",
        "messages": HELLO,
        "max_tokens": 40,
        "stream": True,
        "extra_body": LETTERS,
    }
    with client.chat.completions.create(**options, stream_options={"include_usage": True}) as stream:
        chunks = list(stream)
    assert len(chunks) > 10
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    usage = chunks[-1].usage.model_dump(exclude_unset=True)
    cost = usage.pop("cost")
    event = gateway.events()[0]
    metered(event, usage)
    assert round(cost * 1e9) == event["cost_nano_usd"]
    with client.chat.completions.create(**options) as stream:
        again = list(stream)
    assert all(chunk.usage is None and chunk.choices for chunk in again)

    assert len("".join(chunk.choices[0].delta.content or "" for chunk in again)) >= 40
    unasked = gateway.events()[0]
    assert unasked["usage"]["output"] == usage["completion_tokens"]
    assert unasked["estimated"] is False


class Person(BaseModel):
    age: int
    married: bool


def test_a_schema_is_enforced_by_the_model(client: OpenAI) -> None:
    """Random weights answer with valid JSON only where the schema reached the sampler."""
    schema: Any = {
        "type": "json_schema",
        "json_schema": {"name": "person", "strict": True, "schema": Person.model_json_schema()},
    }
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=200, response_format=schema, seed=1
    )
    text = answer.choices[0].message.content or ""
    assert set(json.loads(text)) == {"age", "married"}


def test_fields_only_this_server_knows(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=4, extra_body={"grammar": 'root ::= "yes" | "no"'}
    )
    assert answer.choices[0].message.content in ("yes", "no")


def test_logprobs(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=3, logprobs=True, top_logprobs=2, extra_body=LETTERS
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    # Random weights may end an answer before its third token.
    assert answer.usage is not None
    assert 1 <= len(logprobs.content or []) == answer.usage.completion_tokens <= 3


def test_embeddings(client: OpenAI, gateway: Served) -> None:
    raw = client.embeddings.with_raw_response.create(model="embed", input=["one", "quite another"])
    answer = raw.parse()
    first, second = (one.embedding for one in answer.data)
    assert len(first) == len(second) == 64
    assert first != second
    event = gateway.event(raw.headers["x-tollway-request-id"])
    assert event["usage"]["input"] == answer.usage.prompt_tokens > 0
    assert event["cost_nano_usd"] == answer.usage.prompt_tokens * 1000


def test_its_own_refusal_arrives(client: OpenAI, gateway: Served) -> None:
    with pytest.raises(openai.BadRequestError, match="context") as caught:
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "word " * 9000}])
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["provider"] == "llama"
    event = gateway.events()[0]
    assert (event["outcome"], event["status"], event["cost_nano_usd"]) == ("error", 400, 0)
