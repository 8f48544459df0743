"""The configuration once read: validated, durations in seconds, money in nano-dollars, secrets sealed.

``load.py`` makes these from ``tollway.yaml`` and the environment; nothing else reads either.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from tollway.model.clocks import DEFAULT_CLOCKS, Clocks
from tollway.model.deployment import Retry, Strategy
from tollway.model.key import VirtualKey
from tollway.model.price import Rates
from tollway.model.secret import Secret
from tollway.model.tenant import Directory


class ServerSettings(Struct, frozen=True, kw_only=True):
    """``max_body``, ``max_upload`` (bodies that go on as they come) and ``max_header`` in bytes; ``header_timeout``,
    ``body_timeout`` (between two reads of a body), ``keep_alive`` and ``drain`` (how long a stop waits for running
    requests) in seconds. ``max_message`` is one message of a WebSocket, ``session_idle`` and ``session_total`` the
    clocks of a realtime session."""

    host: str = "127.0.0.1"
    port: int = 4000
    public_url: str | None = None
    workers: int = 1
    max_body: int = 64 * 1024 * 1024
    max_upload: int = 2 * 1024 * 1024 * 1024
    max_header: int = 64 * 1024
    max_connections: int = 10_000
    header_timeout: float = 10.0
    body_timeout: float = 30.0
    write_timeout: float = 60.0
    keep_alive: float = 75.0
    drain: float = 30.0
    max_message: int = 16 * 1024 * 1024
    session_idle: float = 900.0
    session_total: float = 7200.0
    tls_cert: str | None = None
    tls_key: str | None = None


class ProviderSettings(Struct, frozen=True, kw_only=True):
    """A provider as configured. ``name`` is what ``provider/model`` uses, ``type`` an entry of the catalogue.

    ``base_url`` None: the catalogue's, the one of ``region`` where there are several. ``project`` and the text of a
    service account's key file as ``credentials`` are Google's; the two access keys, with ``session_token`` where they
    are temporary, are AWS's. ``proxy`` overrides HTTP(S)_PROXY, ``ca_file`` adds a certificate authority.
    ``languages`` are the wire formats to hold conversations in, the one to translate into first; empty:
    those of the catalogue. ``unknown_objects``: what becomes of files and the like that nobody made through this
    gateway, and of the provider's own paths whose objects have no owners here.
    """

    name: str
    type: str
    api_key: Secret | None = None
    base_url: str | None = None
    region: str | None = None
    project: str | None = None
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    credentials: Secret | None = None
    headers: dict[str, Secret] = {}
    ca_file: str | None = None
    proxy: str | None = None
    max_connections: int = 1000
    clocks: Clocks = DEFAULT_CLOCKS
    unpriced: Literal["allow", "refuse"] | None = None
    languages: tuple[str, ...] = ()
    unknown_objects: Literal["refuse", "pass"] = "refuse"


class TargetSettings(Struct, frozen=True, kw_only=True):
    """``model`` is ``provider/model``; ``rates`` the price given beside it, nano-dollars per million
    units."""

    model: str
    weight: int = 1
    rates: Rates | None = None
    clocks: Clocks | None = None
    id: str | None = None


class ModelSettings(Struct, frozen=True, kw_only=True):
    name: str
    strategy: Strategy
    targets: tuple[TargetSettings, ...]
    retry: Retry = Retry()
    unpriced: Literal["allow", "refuse"] | None = None
    on_unsupported: Literal["drop", "refuse"] | None = None


class LogSettings(Struct, frozen=True, kw_only=True):
    """Contents of requests, kept apart from money: ``bodies`` off, errors or all; at most ``max_bytes`` of
    each side; ``retention`` in seconds after which they are deleted. ``events_retention`` None keeps the
    ledger for ever; ``hours_retention`` is how long hourly roll-ups are kept, which reports by hour and in other
    time zones are made of. ``responses`` of the Responses API are kept for ``responses_retention`` seconds unless a
    request forbids it, or not at all."""

    bodies: Literal["off", "errors", "all"] = "off"
    max_bytes: int = 16 * 1024
    retention: float = 30 * 86400.0
    events_retention: float | None = None
    hours_retention: float = 90 * 86400.0
    responses: Literal["keep", "off"] = "keep"
    responses_retention: float = 30 * 86400.0


class SinkSettings(Struct, frozen=True, kw_only=True):
    """Where events go besides the database: ``stdout``, or ``file`` with a path."""

    type: Literal["stdout", "file"]
    path: str | None = None


class SpoolSettings(Struct, frozen=True, kw_only=True):
    """The local spool that makes events durable before the database has them. Bytes; ``fsync`` ``off`` leaves
    flushing to the system (a crash of the process loses nothing either way, a power cut up to ``fsync``
    seconds)."""

    segment_bytes: int = 16 * 1024 * 1024
    max_bytes: int = 2 * 1024 * 1024 * 1024
    fsync: float | None = 1.0


class RedisSettings(Struct, frozen=True, kw_only=True):
    """What processes share their counters through. ``url`` is ``redis://`` or, over TLS, ``rediss://``; ``prefix``
    begins every name of ours in it. Seconds: ``connect_timeout``, ``timeout`` of one command, ``heartbeat``, after
    which a process that says nothing counts as gone and what it held is given back."""

    url: Secret
    prefix: str = "tollway"
    cluster: bool = False
    connect_timeout: float = 0.25
    timeout: float = 0.25
    heartbeat: float = 10.0


class Settings(Struct, frozen=True, kw_only=True):
    """Everything one process is told. ``database`` is an SQLAlchemy-style URL, or None for stateless service;
    ``database_replica`` a copy of it for reports.

    ``discovered`` names the providers found by their key in the environment, ``source`` the file read (None:
    none).
    """

    server: ServerSettings = ServerSettings()
    admin_key: Secret | None = None
    require_key: bool = True
    database: str | None = "sqlite:///tollway.db"
    database_replica: str | None = None
    redis: RedisSettings | None = None
    data_dir: str = ""
    unpriced: Literal["allow", "refuse"] = "allow"
    budget_status: int = 402
    providers: tuple[ProviderSettings, ...] = ()
    models: tuple[ModelSettings, ...] = ()
    keys: tuple[VirtualKey, ...] = ()
    directory: Directory = Directory()
    sinks: tuple[SinkSettings, ...] = ()
    logs: LogSettings = LogSettings()
    spool: SpoolSettings = SpoolSettings()
    discovered: tuple[str, ...] = ()
    source: str | None = None
