"""Loads a configuration as the server would, with a small catalogue and a chosen environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tollway.config.load import load_settings
from tollway.config.settings import Settings
from tollway.errors import ConfigError

CATALOG = ("openai", "anthropic", "azure", "groq", "openai-compatible")
KEYS = {"OPENAI_API_KEY": "openai", "ANTHROPIC_API_KEY": "anthropic"}

Load = Callable[..., Settings]
Problems = Callable[..., list[str]]


def discover(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, variable) for variable, name in KEYS.items() if environ.get(variable)]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """``load(text or bytes, environ, overrides)``; ``HOME`` is a temporary directory."""

    def run(
        text: str | bytes | None = None,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, object] | None = None,
    ) -> Settings:
        path = None
        if text is not None:
            file = tmp_path / "tollway.yaml"
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
            path = str(file)
        surroundings = {"HOME": str(tmp_path), **(environ or {})}
        return load_settings(path, surroundings, CATALOG, discover, overrides or {})

    return run


@pytest.fixture
def problems(load: Load, tmp_path: Path) -> Problems:
    """The findings of a configuration that must not load, each without the directory of the file."""

    def run(*args: object, **more: object) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(*args, **more)
        return [problem.replace(f"{tmp_path}/", "") for problem in caught.value.problems]

    return run
