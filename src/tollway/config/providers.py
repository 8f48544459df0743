"""The ``providers:`` section: where models live and with which credential. The catalogue's own data stay
there."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from tollway.config import reading
from tollway.config.reading import Reader, Table
from tollway.config.report import Bad, Report, closest, shown
from tollway.config.settings import ProviderSettings
from tollway.config.timeouts import clocks_of
from tollway.config.yaml_marks import Mapping, Node
from tollway.model.clocks import DEFAULT_CLOCKS
from tollway.model.secret import Secret

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}\Z")
_PLACE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,98}[A-Za-z0-9])?\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


LANGUAGES = (
    "openai.chat", "openai.responses", "openai.completions", "anthropic.messages", "gemini.generate",
    "bedrock.converse", "cohere.chat", "ollama.chat",
)  # fmt: skip
"""The wire formats a conversation may be held in."""


def read_providers(
    node: Node, report: Report, catalog_names: Collection[str]
) -> tuple[ProviderSettings, ...]:
    """Every well-formed entry; a name is also its type where the catalogue knows it."""
    table = Table(node, report, "providers")
    found = []
    for name, entry in table.entries():
        if not _NAME.match(name):
            report.add(
                table.line_of(name),
                f"providers: {shown(name)} is no usable name (letters, digits, dot, dash and underscore)",
            )
            continue
        provider = _provider(name, table.line_of(name), entry, report, catalog_names)
        if provider is not None:
            found.append(provider)
    return tuple(found)


def _provider(
    name: str, line: int, entry: Node, report: Report, catalog_names: Collection[str]
) -> ProviderSettings | None:
    table = Table(entry, report, f"provider {name}")
    kind = table.get("type", _type_of(catalog_names), name)
    if not table.has("type") and name not in catalog_names:
        message = (
            f"{shown(name)} is not a catalogued provider; give the entry a type, such as openai-compatible"
        )
        report.add(line, message, meant=closest(name, catalog_names))
    settings = ProviderSettings(
        name=name,
        type=kind,
        api_key=table.get("api_key", reading.secret, None),
        base_url=table.get("base_url", reading.url("http", "https"), None),
        region=table.get("region", _place, None),
        project=table.get("project", _place, None),
        access_key_id=table.get("access_key_id", reading.secret, None),
        secret_access_key=table.get("secret_access_key", reading.secret, None),
        session_token=table.get("session_token", reading.secret, None),
        credentials=table.get("credentials", _document, table.get("credentials_file", _key_file, None)),
        headers=table.get("headers", _headers, {}),
        ca_file=table.get("ca_file", reading.text, None),
        proxy=table.get("proxy", reading.text, None),
        max_connections=table.get("max_connections", reading.integer(1, 100_000), 1000),
        clocks=clocks_of(table, DEFAULT_CLOCKS, DEFAULT_CLOCKS) or DEFAULT_CLOCKS,
        unpriced=table.get("unpriced", reading.choice("allow", "refuse"), None),
        unknown_objects=table.get("unknown_objects", reading.choice("refuse", "pass"), "refuse"),
        languages=table.get("languages", reading.many(reading.choice(*LANGUAGES), "languages"), ()),
    )
    table.finish()
    if (settings.access_key_id is None) != (settings.secret_access_key is None):
        missing = "secret_access_key" if settings.access_key_id else "access_key_id"
        report.add(line, f"provider {name}: {missing} is missing: the two keys of AWS belong together")
    return settings


def _type_of(catalog_names: Collection[str]) -> Reader[str]:
    def read(node: Node, _: Report) -> str:
        kind = reading.text_of(node)
        if kind not in catalog_names:
            meant = reading.near(node, kind, catalog_names)
            raise Bad(f"{reading.told(node)} is not in the catalogue", meant=meant)
        return kind

    return read


def _place(node: Node, _: Report) -> str:
    """A region or a project: it becomes part of an address."""
    found = reading.text_of(node).strip()
    if not _PLACE.match(found):
        raise Bad(f"expected letters, digits and dashes, not {reading.told(node)}")
    return found


def _document(node: Node, _: Report) -> Secret:
    """A credential that is a JSON document."""
    found = reading.text_of(node).strip()
    if not found.startswith("{"):
        raise Bad("expected the JSON text of a key file, for example ${GOOGLE_CREDENTIALS}")
    return Secret(found)


def _key_file(node: Node, report: Report) -> Secret:
    path = Path(reading.text(node, report)).expanduser()
    try:
        found = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Bad(
            f"cannot be read: {error.strerror if isinstance(error, OSError) else 'it is not text'}"
        ) from None
    return Secret(found)


def _headers(node: Node, report: Report) -> dict[str, Secret]:
    if not isinstance(node, Mapping):
        raise Bad("expected header names with their values")
    found: dict[str, Secret] = {}
    for name, value in node.entries.items():
        if not _HEADER.match(name):
            raise Bad(f"{shown(name)} is not a header's name", line=node.lines[name])
        try:
            found[name] = reading.header_value(value, report)
        except Bad as bad:
            raise Bad(bad.message, line=value.line) from None
    return found
