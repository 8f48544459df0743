"""The catalogue: one TOML file a provider says where it is, how it is paid and what it offers.

Files are parsed when asked for; discovering providers by their environment variables reads only each file's
``env`` line and parses the few that match. Nothing here connects or knows a provider by name.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from tollway.providers.languages import BY_ENDPOINT
from tollway.providers.quirks import Quirk, read_quirks

FOLDER: Final = Path(__file__).with_name("catalog")

ENDPOINTS: Final[dict[str, tuple[str, str]]] = {
    "chat.completions": ("POST", "/chat/completions"),
    "completions": ("POST", "/completions"),
    "embeddings": ("POST", "/embeddings"),
    "responses": ("POST", "/responses"),
    "models": ("GET", "/models"),
    "messages": ("POST", "/messages"),
    "messages.count_tokens": ("POST", "/messages/count_tokens"),
    "images.generations": ("POST", "/images/generations"),
    "images.edits": ("POST", "/images/edits"),
    "images.variations": ("POST", "/images/variations"),
    "audio.speech": ("POST", "/audio/speech"),
    "audio.transcriptions": ("POST", "/audio/transcriptions"),
    "audio.translations": ("POST", "/audio/translations"),
    "moderations": ("POST", "/moderations"),
    "rerank": ("POST", "/rerank"),
    "search": ("POST", "/search"),
    "ocr": ("POST", "/ocr"),
    "videos": ("POST", "/videos"),
    "files": ("POST", "/files"),
    "uploads": ("POST", "/uploads"),
    "batches": ("POST", "/batches"),
    "fine_tuning.jobs": ("POST", "/fine_tuning/jobs"),
    "realtime": ("GET", "/realtime"),
    "realtime.client_secrets": ("POST", "/realtime/client_secrets"),
    "realtime.sessions": ("POST", "/realtime/sessions"),
    "realtime.transcription_sessions": ("POST", "/realtime/transcription_sessions"),
    "vector_stores": ("POST", "/vector_stores"),
    "assistants": ("POST", "/assistants"),
    "threads": ("POST", "/threads"),
}
"""Every endpoint a file may offer: the method and the path behind ``base_url`` and ``path_prefix``. Where things are
made at one (files, batches, …), what is done with them at the paths below it is offered with it."""


class Auth(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the credential travels: ``Authorization: Bearer``, a header or a query parameter called ``name``,
    or not. ``aws``: as a bearer where there is a key, else every request is signed for the service ``name`` with the
    access keys; ``google``: as a bearer where there is a key, else by a service account."""

    scheme: Literal["bearer", "header", "query", "none", "aws", "google"] = "bearer"
    name: str = ""


class Native(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The provider's own API where it is not the OpenAI-compatible one: used by pass-through and
    ``endpoints``.

    ``path`` follows ``base_url``; ``auth`` None means the same as the entry's; ``headers`` are sent unless
    the client sends its own. ``languages`` are the wire formats conversations there are held in, preferred to
    the compatible ones; ``root`` is what pass-through stands below where that is not ``path``.
    """

    path: str = ""
    root: str | None = None
    auth: Auth | None = None
    languages: tuple[str, ...] = ()
    headers: dict[str, str] = {}
    endpoints: tuple[str, ...] = ()


class Address(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a wire format is spoken at this provider, if not where it usually is: ``path`` follows ``base_url``, behind
    it ``whole`` or, for streams, ``streamed``, with ``{model}`` where the model stands."""

    path: str
    whole: str
    streamed: str


class CatalogEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One provider. ``name`` is the file's name and what ``type:`` says in the configuration.

    ``base_url`` is empty where only the user knows it (``base_url_example`` then shows its shape);
    ``{region}`` and ``{project}`` there and in the paths stand for the settings of that name. ``region`` is the
    usual one, ``regions`` are the addresses of those that have one of their own. ``env`` lists the key's usual
    variables, the usual one first; those also in ``shared_env`` mean other things too and never start a
    provider by themselves. ``settings_env`` are the usual variables of other settings.
    ``stream_usage``: does a stream report usage when asked by ``stream_options`` (``ask``), unasked
    (``always``), or does the provider refuse the question (``never``). ``paths`` holds endpoints that stand
    elsewhere than ``ENDPOINTS`` says. ``written`` are quirks for bodies of ``format`` that the gateway has
    written itself; a client's own stay as they are. ``prices`` is the price sheet, the own name if empty.
    ``local`` marks servers a user runs. ``models`` limits a wire format to the models whose names match one of its
    shell patterns. ``approximate``: the OpenAI-compatible endpoint leaves out what the own API
    does, so that chats are translated into ``native.languages`` and not relayed. ``speaks`` names the languages where
    the endpoints promise more than is certain. ``addresses`` of native wire formats that stand elsewhere.
    """

    name: str
    title: str
    docs: str
    base_url: str = ""
    base_url_example: str = ""
    region: str = ""
    regions: dict[str, str] = {}
    path_prefix: str = ""
    env: tuple[str, ...] = ()
    shared_env: tuple[str, ...] = ()
    base_url_env: tuple[str, ...] = ()
    settings_env: dict[str, tuple[str, ...]] = {}
    auth: Auth = Auth()
    format: str = "openai.chat"
    endpoints: tuple[str, ...] = ("chat.completions", "models")
    paths: dict[str, str] = {}
    native: Native | None = None
    models: dict[str, tuple[str, ...]] = {}
    addresses: dict[str, Address] = {}
    approximate: bool = False
    speaks: tuple[str, ...] = ()
    stream_usage: Literal["ask", "always", "never"] = "ask"
    quirks: tuple[Quirk, ...] = ()
    written: tuple[Quirk, ...] = ()
    headers: dict[str, str] = {}
    key_optional: bool = False
    local: bool = False
    prices: str = ""

    @property
    def price_sheet(self) -> str:
        return self.prices or self.name

    @property
    def languages(self) -> tuple[str, ...]:
        """The wire formats (``languages.LANGUAGES``) a conversation may be held in, the best one first."""
        return self.speaks or self.possible_languages

    @property
    def possible_languages(self) -> tuple[str, ...]:
        """Those and what its endpoints would take beside them, if the user says so."""
        native = self.native.languages if self.native else ()
        offered = (*self.endpoints, *(self.native.endpoints if self.native else ()))
        shared = (name for endpoint, name in BY_ENDPOINT.items() if endpoint in offered)
        if self.approximate:
            shared = (name for name in shared if name != "openai.chat")
        return tuple(dict.fromkeys((*native, *shared)))


class Catalog(Mapping[str, CatalogEntry]):
    """Names to entries, each parsed once, when first asked for. KeyError for a name without a file."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = {path.stem: path for path in sorted(folder.glob("*.toml"), key=lambda path: path.stem)}
        self._entries: dict[str, CatalogEntry] = {}

    def __getitem__(self, name: str) -> CatalogEntry:
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = parse_entry(self._files[name].read_text(encoding="utf-8"), name)
        return entry

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def names(self) -> tuple[str, ...]:
        return tuple(self._files)

    def discover(self, environ: Mapping[str, str]) -> list[tuple[CatalogEntry, str]]:
        """The providers whose usual key is set in ``environ``, by name, each with the variable that has it.

        Left out: local servers, variables declared shared, and providers whose address nobody told.
        """
        return [
            (entry, variable)
            for entry, variable in self._keyed(environ)
            if entry.base_url or base_url_from(entry, environ)
        ]

    def incomplete(self, environ: Mapping[str, str]) -> list[str]:
        """A line for each provider whose key is set in ``environ`` and whose address would be read from there, but is
        not set."""
        return [
            f"{variable} is set but {' or '.join(entry.base_url_env)} is not: provider {entry.name} is left out. "
            "Set it, or give the provider a base_url in tollway.yaml."
            for entry, variable in self._keyed(environ)
            if entry.base_url_env and not (entry.base_url or base_url_from(entry, environ))
        ]

    def _keyed(self, environ: Mapping[str, str]) -> Iterator[tuple[CatalogEntry, str]]:
        for name, path in self._files.items():
            declared = env_line(path.read_text(encoding="utf-8"))
            if not any(environ.get(variable, "").strip() for variable in declared):
                continue
            entry = self[name]
            usable = (v for v in entry.env if v not in entry.shared_env and environ.get(v, "").strip())
            variable = next(usable, None)
            if variable is not None and not entry.local:
                yield entry, variable


def load_catalog(folder: Path = FOLDER) -> Catalog:
    return Catalog(folder)


def base_url_from(entry: CatalogEntry, environ: Mapping[str, str]) -> str | None:
    """The address the environment gives for a provider, or None."""
    return next((environ[name].strip() for name in entry.base_url_env if environ.get(name, "").strip()), None)


def parse_entry(text: str, name: str) -> CatalogEntry:
    """One file's text. ValueError says what is wrong with it, the file named."""
    try:
        table = tomllib.loads(text)
        quirks = read_quirks(table.pop("quirks", ()))
        written = read_quirks(table.pop("written", ()))
        entry = msgspec.convert(table, CatalogEntry)
    except (ValueError, msgspec.ValidationError) as error:
        raise ValueError(f"catalog/{name}.toml: {error}") from None
    if entry.name != name:
        raise ValueError(f"catalog/{name}.toml: its name is {entry.name!r}, the file's must be the same")
    return msgspec.structs.replace(entry, quirks=quirks, written=written)


_ENV_LINE = re.compile(r"^env = \[([^\]\n]*)\]$", re.MULTILINE)
_QUOTED = re.compile(r'"([^"]*)"')


def env_line(text: str) -> tuple[str, ...]:
    """A file's ``env`` without parsing the rest; it stands on one line (a test holds every file to that)."""
    line = _ENV_LINE.search(text)
    return tuple(_QUOTED.findall(line[1])) if line else ()
