"""A provider's settings completed from the usual variables of its type. What is configured always wins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from tollway.config.settings import ProviderSettings
from tollway.errors import ConfigError
from tollway.model.secret import Secret
from tollway.providers.catalog import CatalogEntry, base_url_from

_PLACES: Final = ("region", "project")
_KEYS: Final = ("access_key_id", "secret_access_key", "session_token")


def completed(
    entry: CatalogEntry, settings: ProviderSettings, environ: Mapping[str, str]
) -> ProviderSettings:
    """Address, region, project and, where the settings hold no credential, the first one that is whole: a key, a
    pair of access keys, a key file. ConfigError for a key file that cannot be read."""
    found: dict[str, Any] = {}

    def usual(name: str) -> str:
        variables = entry.settings_env.get(name, ())
        return next((environ[each].strip() for each in variables if environ.get(each, "").strip()), "")

    if settings.base_url is None:
        url = base_url_from(entry, environ)
        if url:
            found["base_url"] = url
    for name in _PLACES:
        # Beside an address of one's own a region that nobody configured is not meant, unless requests are signed.
        wanted = name != "region" or settings.base_url is None or entry.auth.scheme == "aws"
        if getattr(settings, name) is None and wanted and usual(name):
            found[name] = usual(name)
    if not (settings.api_key or settings.access_key_id or settings.credentials):
        found |= _credential(
            settings, usual("api_key"), [usual(name) for name in _KEYS], usual("credentials_file")
        )
    return replace(settings, **found) if found else settings


def _credential(settings: ProviderSettings, key: str, pair: list[str], file: str) -> dict[str, Secret]:
    if "authorization" in (name.lower() for name in settings.headers):
        return {}
    if key:
        return {"api_key": Secret(key)}
    if pair[0] and pair[1]:
        return {name: Secret(value) for name, value in zip(_KEYS, pair, strict=True) if value}
    if file:
        try:
            return {"credentials": Secret(Path(file).read_text(encoding="utf-8"))}
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ConfigError(
                [f"providers.{settings.name}: the key file {file} cannot be read: {why}"]
            ) from None
    return {}
