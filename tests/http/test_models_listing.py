"""``/v1/models`` shows a key what it may use and no more, in OpenAI's shape, over both doors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from doors import ADMIN, EXPIRED, KEY, NARROW, PRICED, Door, chat, configuration, get, post
from tollway.simulator.running import start_in_thread


def ids(door: Door, key: str, path: str = "/v1/models") -> list[str]:
    answer = door.ask(get(path, key=key))
    assert answer.status == 200, answer.raw
    assert answer.headers["x-tollway-request-id"].startswith("req_")
    listed = answer.json()
    assert listed["object"] == "list"
    for row in listed["data"]:
        assert set(row) == {"id", "object", "created", "owned_by"}
        assert row["object"] == "model"
        assert isinstance(row["created"], int)
        assert row["owned_by"] == "mock"
    return [row["id"] for row in listed["data"]]


def test_each_key_sees_its_own(door: Door) -> None:
    assert ids(door, KEY) == ["fast", "slow"]
    assert ids(door, ADMIN) == ["fast", "slow"]
    assert ids(door, NARROW) == ["fast"]
    assert ids(door, NARROW, "/models") == ["fast"]


def test_what_is_listed_is_served_and_what_is_not_is_not(door: Door) -> None:
    for name in ("fast", "slow", "mock/gpt-4o"):
        served = door.ask(post(chat(name), key=NARROW)).status == 200
        assert served == (name in ids(door, NARROW))


def test_nobody_lists_without_a_key(door: Door) -> None:
    for key, code in (("", "invalid_api_key"), ("sk-tw-nobody", "invalid_api_key"), (EXPIRED, "key_expired")):
        for path in ("/v1/models", "/v1/models/fast"):
            answer = door.ask(get(path, key=key))
            assert (answer.status, answer.code) == (401, code)


def test_one_model(door: Door) -> None:
    for prefix in ("/v1/models/", "/models/"):
        answer = door.ask(get(prefix + "fast"))
        assert answer.status == 200
        assert answer.json()["id"] == "fast"


@pytest.mark.parametrize("path", ["mock/gpt-4o", "mock%2Fgpt-4o", "mock%2fgpt%2D4o"])
def test_one_model_with_a_slash(door: Door, path: str) -> None:
    answer = door.ask(get(f"/v1/models/{path}"))
    assert answer.status == 200, answer.raw
    assert (answer.json()["id"], answer.json()["owned_by"]) == ("mock/gpt-4o", "mock")


def test_a_model_one_may_not_use_looks_like_one_that_does_not_exist(door: Door) -> None:
    for name in (
        "slow",
        "nothing",
        "mock/gpt-4o",
        "nobody/x",
        "",
        "%00",
        "%ff%fe",
        "a" * 3000,
        "..%2f..%2fetc",
    ):
        answer = door.ask(get(f"/v1/models/{name}", key=NARROW))
        assert (answer.status, answer.code) == (404, "model_not_found"), name
        meant = unquote(name)[:200]
        assert answer.json()["error"]["message"] == f"Model {meant!r} does not exist here."


def test_only_reading(door: Door) -> None:
    for path in ("/v1/models", "/v1/models/fast"):
        for method in ("POST", "DELETE", "PUT", "PATCH", "OPTIONS"):
            answer = door.ask(get(path, method=method))
            assert (answer.status, answer.code) == (405, "method_not_allowed")
            assert answer.headers["allow"] == "GET, HEAD"


@pytest.fixture(scope="module")
def unnamed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """Without ``models:`` a provider's known models are listed under its name."""
    directory: Path = tmp_path_factory.mktemp("unnamed")
    with start_in_thread() as upstream:
        config = configuration(upstream)
        provider = {"type": "openai", "base_url": upstream.url, "api_key": "sk-x-of-the-simulator"}
        keys = [
            {"name": "client", "key": KEY},
            {"name": "narrow", "key": PRICED, "models": ["openai/gpt-4o*"]},
        ]
        config = {**config, "models": {}, "providers": {"openai": provider}, "keys": keys}
        door = Door("lane", directory, upstream, json.loads(json.dumps(config)))
        try:
            door.wait()
            yield door
        finally:
            door.stop()


def test_without_names_the_provider_is_listed(unnamed: Door) -> None:
    listed = unnamed.ask(get("/v1/models")).json()["data"]
    names = [row["id"] for row in listed]
    assert "openai/gpt-4o-mini" in names
    assert len(names) == len(set(names)) > 20
    assert not [name for name in names if "whisper" in name or "dall-e" in name], "not served here"
    narrow = [row["id"] for row in unnamed.ask(get("/v1/models", key=PRICED)).json()["data"]]
    assert narrow
    assert all(name.startswith("openai/gpt-4o") for name in narrow)
    assert unnamed.ask(get(f"/v1/models/{narrow[0]}", key=PRICED)).json()["id"] == narrow[0]
