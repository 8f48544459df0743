"""Where a configured provider stands: its origin and base path, with region and project put in."""

from __future__ import annotations

import re

from tollway.config.settings import ProviderSettings
from tollway.errors import ConfigError
from tollway.providers.catalog import CatalogEntry
from tollway.providers.request import Origin, parse_base_url

_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:-]*[A-Za-z0-9])?")


class Place:
    """``origin`` and the base URL's ``path``; ``region`` is empty where the type knows none."""

    __slots__ = ("_name", "_project", "origin", "path", "region")

    def __init__(self, entry: CatalogEntry, settings: ProviderSettings, project: str) -> None:
        """``project`` is the credential's own, for want of a configured one. Raises ConfigError."""
        self._name = settings.name
        self._project = settings.project or project
        self.region = settings.region or entry.region
        where = f"providers.{settings.name}.base_url"
        url = self.filled(_url(entry, settings))
        if not url:
            raise ConfigError(
                [f"{where} is required for type {entry.name}, for example {entry.base_url_example}"]
            )
        try:
            self.origin: Origin
            self.origin, self.path = parse_base_url(url, ca_file=settings.ca_file, proxy=settings.proxy)
        except ValueError as error:
            raise ConfigError([f"{where} is not usable: {error}"]) from None

    def filled(self, text: str) -> str:
        """A URL or a path of the catalogue's with region and project put in. ConfigError where one is needed and not
        known."""
        for name, value in (("region", self.region), ("project", self._project)):
            mark = f"{{{name}}}"
            if mark in text:
                if not value:
                    raise ConfigError([f"providers.{self._name}.{name} is missing"])
                if not _PART.fullmatch(value):  # from the environment or a key file
                    raise ConfigError([f"providers.{self._name}.{name} cannot be part of an address"])
                text = text.replace(mark, value)
        return text


def _url(entry: CatalogEntry, settings: ProviderSettings) -> str:
    region = settings.region
    url = settings.base_url or (entry.regions.get(region) if region else None) or entry.base_url
    if region and "{region}" not in url and entry.auth.scheme != "aws":
        where = f"providers.{settings.name}.region"
        if settings.base_url:
            raise ConfigError([f"{where} says nothing beside a base_url; leave one of them out"])
        if region not in entry.regions:
            known = ", ".join(entry.regions)
            raise ConfigError(
                [
                    f"{where}: type {entry.name} has no region {region}"
                    + (f"; it has {known}" if known else "")
                ]
            )
    return url


def joined(path: str, prefix: str) -> str:
    """``prefix`` behind ``path``; where the end of one is the beginning of the other it stands once."""
    segments = prefix.split("/")[1:]
    for count in range(len(segments), 0, -1):
        overlap = "/" + "/".join(segments[:count])
        if path.endswith(overlap):
            return path + prefix[len(overlap) :]
    return path + prefix
