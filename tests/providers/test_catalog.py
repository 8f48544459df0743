from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tollway.config.settings import ProviderSettings
from tollway.model.clocks import DEFAULT_CLOCKS
from tollway.model.secret import Secret
from tollway.providers.catalog import (
    ENDPOINTS,
    FOLDER,
    CatalogEntry,
    base_url_from,
    env_line,
    load_catalog,
    parse_entry,
)
from tollway.providers.languages import LANGUAGES
from tollway.providers.provider import Provider
from tollway.providers.quirks import WORDS

CATALOG = load_catalog()
ENTRIES = [pytest.param(CATALOG[name], id=name) for name in CATALOG.names()]
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@pytest.mark.parametrize("entry", ENTRIES)
def test_entry(entry: CatalogEntry) -> None:
    assert re.fullmatch(r"[a-z0-9]+(?:_[a-z0-9]+)*|openai-compatible", entry.name)
    assert entry.title.strip()
    docs = urlsplit(entry.docs)
    assert docs.scheme == "https"
    assert "." in docs.netloc
    assert not entry.docs.endswith("/")
    assert entry.base_url or entry.base_url_example, "an address, or the shape of one"
    for url in filter(None, (entry.base_url, entry.base_url_example, *entry.regions.values())):
        parts = urlsplit(url)
        assert parts.scheme == "https" or (entry.local and parts.hostname in LOOPBACK), url
        assert not url.endswith("/"), url
        assert not parts.query, url
    assert entry.local == entry.key_optional
    assert entry.env or entry.local
    assert set(entry.shared_env) <= set(entry.env)
    for variable in (*entry.env, *entry.base_url_env):
        assert re.fullmatch(r"[A-Z][A-Z0-9_]*", variable)
    native = entry.native.endpoints if entry.native else ()
    assert {*entry.endpoints, *native} <= ENDPOINTS.keys()
    assert entry.paths.keys() <= set(entry.endpoints)
    assert len(set(entry.endpoints)) == len(entry.endpoints) > 0
    elsewhere = {LANGUAGES[name].endpoint for name in entry.addresses}
    assert {endpoint for quirk in entry.quirks for endpoint in quirk.on} <= {*entry.endpoints, *elsewhere}
    assert set(entry.addresses) <= set(entry.native.languages if entry.native else ())
    assert len(set(map(repr, entry.quirks))) == len(entry.quirks)
    assert bool(entry.auth.name) == (entry.auth.scheme in ("header", "query", "aws"))
    assert len(set(entry.languages)) == len(entry.languages)
    assert set(entry.languages) <= LANGUAGES.keys()
    assert entry.models.keys() <= set(entry.languages)
    assert not entry.approximate or (entry.native and entry.native.languages)
    fields = {*ProviderSettings.__struct_fields__, "credentials_file"} - {"name", "type", "base_url"}
    assert entry.settings_env.keys() <= fields
    for variable in (name for names in entry.settings_env.values() for name in names):
        assert re.fullmatch(r"[A-Z][A-Z0-9_]*", variable)
    for prefix in (entry.path_prefix, entry.native.path if entry.native else ""):
        assert prefix == "" or (prefix.startswith("/") and not prefix.endswith("/"))


@pytest.mark.parametrize("entry", ENTRIES)
def test_entry_makes_requests(entry: CatalogEntry) -> None:
    for base_url in filter(None, (entry.base_url or entry.base_url_example, *entry.regions.values())):
        settings = ProviderSettings(
            name="mine", type=entry.name, api_key=Secret("sk-test"), base_url=base_url, project="acme"
        )
        provider = Provider(entry, settings)
        for endpoint in entry.endpoints:
            request = provider.request(endpoint, b"{}", clocks=DEFAULT_CLOCKS)
            assert request.target.endswith(entry.paths.get(endpoint, ENDPOINTS[endpoint][1]).encode())
            assert b"//" not in request.target
        assert b"sk-test" in request.headers + request.target


@pytest.mark.parametrize("entry", ENTRIES)
def test_whole_base_url_may_be_given(entry: CatalogEntry) -> None:
    """Written with the entry's own path behind it or without, an address leads to one place."""
    bare = entry.base_url or entry.base_url_example
    targets = [
        Provider(
            entry,
            ProviderSettings(name="p", type=entry.name, api_key=Secret("k"), base_url=url, project="acme"),
        )
        .request(entry.endpoints[0], b"{}", clocks=DEFAULT_CLOCKS)
        .target
        for url in (bare, bare + entry.path_prefix, bare + "/")
    ]
    assert len(set(targets)) == 1


def test_size() -> None:
    assert len(CATALOG) >= 75
    assert len(CATALOG) == len(list(FOLDER.iterdir())), "the folder holds entries and nothing else"
    assert {"openai", "anthropic", "gemini", "azure", "openai-compatible", "vllm"} <= set(CATALOG)


def test_keys_of_providers_are_told_apart() -> None:
    """A variable that starts a provider by itself starts that one alone."""
    owners = defaultdict(set)
    for entry in CATALOG.values():
        for variable in entry.env:
            if variable not in entry.shared_env and not entry.local:
                owners[variable].add(entry.name)
    assert {variable: names for variable, names in owners.items() if len(names) > 1} == {}
    assert "GITHUB_TOKEN" not in owners
    assert "HF_TOKEN" not in owners


def test_every_quirk_word_is_used() -> None:
    used = {type(quirk).__name__.lower() for entry in CATALOG.values() for quirk in entry.quirks}
    assert used == set(WORDS)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_env_line_is_what_the_parser_reads(path: Path) -> None:
    assert env_line(path.read_text(encoding="utf-8")) == CATALOG[path.stem].env


def test_every_provider_is_discovered_by_its_usual_variable() -> None:
    for entry in CATALOG.values():
        usual = [variable for variable in entry.env if variable not in entry.shared_env]
        for variable in usual:
            environ = {variable: "sk-1"} | dict.fromkeys(entry.base_url_env[:1], "https://models.example/v1")
            found = CATALOG.discover(environ)
            assert [(e.name, v) for e, v in found] == ([] if entry.local else [(entry.name, variable)])


def test_discovery_prefers_the_usual_variable_and_needs_an_address() -> None:
    both = {"TOGETHER_AI_API_KEY": "b", "TOGETHER_API_KEY": "a", "OPENAI_API_KEY": "  ", "HF_TOKEN": "hf"}
    assert [(e.name, v) for e, v in CATALOG.discover(both)] == [("together", "TOGETHER_API_KEY")]
    assert CATALOG.discover({"AZURE_OPENAI_API_KEY": "k"}) == []
    environ = {"AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com"}
    assert [(e.name, v) for e, v in CATALOG.discover(environ)] == [("azure", "AZURE_OPENAI_API_KEY")]
    assert base_url_from(CATALOG["azure"], environ) == "https://x.openai.azure.com"
    assert base_url_from(CATALOG["azure"], {}) is None
    assert CATALOG.discover({}) == []


def test_mapping() -> None:
    assert "groq" in CATALOG
    assert "grok" not in CATALOG
    assert CATALOG["groq"] is CATALOG["groq"]
    assert CATALOG.get("grok") is None
    with pytest.raises(KeyError):
        CATALOG["grok"]
    assert list(CATALOG) == sorted(CATALOG.names())
    assert CATALOG["lambda"].price_sheet == "lambda_ai"
    assert CATALOG["groq"].price_sheet == "groq"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('colour = "red"', "colour"),
        ('name = "other"', "name"),
        ('stream_usage = "maybe"', "stream_usage"),
        ('quirks = [{repair = "x"}]', "repair"),
        ('quirks = [{drop = "x", on = "chat"}]', "on"),
        ('auth = {scheme = "basic"}', "scheme"),
        ("title = 1", "title"),
        ("base_url = [", "Invalid value"),
    ],
)
def test_a_wrong_file_is_refused_by_name(line: str, complaint: str) -> None:
    fields = {"name": 'name = "acme"', "title": 'title = "Acme"', "docs": 'docs = "https://acme.example"'}
    fields[line.partition(" ")[0]] = line
    with pytest.raises(ValueError, match=rf"catalog/acme\.toml: .*{complaint}"):
        parse_entry("\n".join(fields.values()), "acme")


def test_start_is_fast() -> None:
    """A start that discovers providers parses only those it found: in a fresh process, well under 25 ms."""
    code = (
        "import time\n"
        "from tollway.providers.catalog import load_catalog\n"
        "start = time.perf_counter()\n"
        "catalog = load_catalog()\n"
        "catalog.discover({'OPENAI_API_KEY': 'x', 'GROQ_API_KEY': 'y'})\n"
        "print(time.perf_counter() - start)\n"
    )
    runs = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(runs) < 0.025
