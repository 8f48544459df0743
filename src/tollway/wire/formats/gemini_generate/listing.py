"""The shapes of the model list: ``models.list`` and ``models.get``. Which names a key may see is decided elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

METHODS = ("generateContent", "streamGenerateContent", "countTokens")


def _model(name: str, methods: Iterable[str]) -> dict[str, object]:
    return {
        "name": f"models/{name}",
        "version": "",
        "displayName": name,
        "supportedGenerationMethods": list(methods),
    }


def write_model(name: str, methods: Iterable[str] = METHODS) -> bytes:
    """One model, for ``GET /v1beta/models/{name}``."""
    return msgspec.json.encode(_model(name, methods))


def write_models(names: Iterable[str], methods: Iterable[str] = METHODS) -> bytes:
    """All models on one page, for ``GET /v1beta/models``."""
    offered = tuple(methods)
    return msgspec.json.encode({"models": [_model(name, offered) for name in names]})
