from __future__ import annotations

import json
from pathlib import Path

import pytest

from tollway.config.settings import ProviderSettings
from tollway.errors import ConfigError
from tollway.model.secret import Secret
from tollway.providers.catalog import load_catalog
from tollway.providers.environment import completed

CATALOG = load_catalog()
PAIR = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret"}


def complete(kind: str, environ: dict[str, str], **settings: object) -> ProviderSettings:
    given = ProviderSettings(name=kind, type=kind, **settings)  # type: ignore[arg-type]
    return completed(CATALOG[kind], given, environ)


def test_an_address_and_a_place() -> None:
    found = complete("azure", {"AZURE_OPENAI_ENDPOINT": " https://x.example "})
    assert found.base_url == "https://x.example"
    assert (
        complete("azure", {"AZURE_OPENAI_ENDPOINT": "https://x"}, base_url="https://y").base_url
        == "https://y"
    )
    assert complete("bedrock", {"AWS_DEFAULT_REGION": "eu-west-1"}).region == "eu-west-1"
    assert complete("bedrock", {"AWS_REGION": "a", "AWS_DEFAULT_REGION": "b"}).region == "a"
    assert complete("bedrock", {"AWS_REGION": "a"}, region="c").region == "c"
    assert complete("openai", {"AWS_REGION": "a"}).region is None
    assert complete("bedrock_mantle", {"AWS_REGION": "a"}, base_url="https://y").region is None
    assert complete("bedrock", {"AWS_REGION": "a"}, base_url="https://y").region == "a"
    assert complete("vertex_ai", {"GOOGLE_CLOUD_PROJECT": "acme"}).project == "acme"


def test_nothing_to_complete_is_the_same_object() -> None:
    given = ProviderSettings(name="openai", type="openai", api_key=Secret("k"))
    assert completed(CATALOG["openai"], given, {"OPENAI_API_KEY": "other"}) is given


def test_a_key_before_a_pair() -> None:
    found = complete("bedrock", {**PAIR, "AWS_BEARER_TOKEN_BEDROCK": "bearer"})
    assert (found.api_key, found.access_key_id) == (Secret("bearer"), None)
    pair = complete("bedrock", {**PAIR, "AWS_SESSION_TOKEN": "t"})
    assert pair.api_key is None
    assert (pair.access_key_id, pair.secret_access_key) == (Secret("AKIA"), Secret("secret"))
    assert pair.session_token == Secret("t")
    assert complete("bedrock", PAIR).session_token is None
    assert complete("bedrock", {"AWS_ACCESS_KEY_ID": "AKIA"}).access_key_id is None


def test_what_is_configured_is_not_mixed_with_the_environment() -> None:
    own = {"access_key_id": Secret("MINE"), "secret_access_key": Secret("own")}
    found = complete("bedrock", {**PAIR, "AWS_SESSION_TOKEN": "t", "AWS_BEARER_TOKEN_BEDROCK": "b"}, **own)
    assert (found.access_key_id, found.session_token, found.api_key) == (Secret("MINE"), None, None)
    assert complete("bedrock", PAIR, api_key=Secret("k")).access_key_id is None
    assert complete("bedrock", PAIR, headers={"Authorization": Secret("x")}).access_key_id is None


def test_a_key_file(tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    file.write_text(json.dumps({"type": "service_account"}))
    found = complete("vertex_ai", {"GOOGLE_APPLICATION_CREDENTIALS": str(file)})
    assert found.credentials == Secret(file.read_text())
    with pytest.raises(
        ConfigError, match=r"providers\.vertex_ai: the key file .*gone.* cannot be read: No such"
    ):
        complete("vertex_ai", {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "gone")})
