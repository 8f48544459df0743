"""The configuration in effect, without its secrets; reading it again; how the gateway fares."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

import tollway
from tollway.admin.action import action
from tollway.admin.context import Context
from tollway.admin.key_view import status_of
from tollway.admin.models import ProviderView, RatesView, provider_views, rates, redacted
from tollway.config.settings import (
    LogSettings,
    ModelSettings,
    ServerSettings,
    SinkSettings,
    SpoolSettings,
    TargetSettings,
)
from tollway.errors import BadRequest, ConfigError
from tollway.model.clocks import Clocks
from tollway.model.deployment import Retry, Strategy
from tollway.model.key import Budget, RateLimit
from tollway.model.tenant import Directory


class ConfiguredTarget(Struct, frozen=True, kw_only=True):
    """A target as written: what is null follows the provider or the price book."""

    model: str
    id: str | None
    weight: int
    usd_per_million: RatesView | None
    clocks: Clocks | None


class ConfiguredModel(Struct, frozen=True, kw_only=True):
    name: str
    strategy: Strategy
    targets: tuple[ConfiguredTarget, ...]
    retry: Retry
    unpriced: Literal["allow", "refuse"] | None


class ConfiguredKey(Struct, frozen=True, kw_only=True):
    """A key that the configuration file declares. Its value is not shown."""

    id: str
    name: str
    hint: str
    status: str
    models: tuple[str, ...]
    budgets: tuple[Budget, ...]
    limits: RateLimit
    team: str | None
    user: str | None
    customer: str | None
    tags: tuple[str, ...]
    metadata: dict[str, str]


class EffectiveConfig(Struct, frozen=True, kw_only=True):
    """What the gateway runs with, defaults filled in. Seconds, bytes and nano-dollars.

    ``source`` is the file read (null: none), which owns everything here except the providers whose ``source``
    is the environment. Keys made through the API are not here: they live in the database.
    """

    source: str | None
    generation: int
    server: ServerSettings
    admin_key_set: bool
    require_key: bool
    database: str | None
    database_replica: str | None
    redis: str | None
    data_dir: str
    unpriced: Literal["allow", "refuse"]
    budget_status: int
    providers: tuple[ProviderView, ...]
    models: tuple[ConfiguredModel, ...]
    keys: tuple[ConfiguredKey, ...]
    directory: Directory
    sinks: tuple[SinkSettings, ...]
    logs: LogSettings
    spool: SpoolSettings


class Reloaded(Struct, frozen=True, kw_only=True):
    """``generation`` of the configuration now in use. ``waiting`` lists what takes effect at the next start."""

    source: str | None
    generation: int
    waiting: tuple[str, ...] = ()


class Status(Struct, frozen=True, kw_only=True):
    """``parts`` names what is degraded and why; empty when ``status`` is ``ok``."""

    status: Literal["ok", "degraded"]
    parts: dict[str, str]
    version: str
    generation: int
    models: int
    open_requests: int


@action(permission="config.read", audit=False, route=("GET", "/config"))
async def effective(context: Context) -> EffectiveConfig:
    """Show the configuration in effect, with every secret left out."""
    settings = context.settings()
    now = context.clock()
    return EffectiveConfig(
        source=settings.source,
        generation=context.snapshot().generation,
        server=settings.server,
        admin_key_set=bool(settings.admin_key),
        require_key=settings.require_key,
        database=redacted(settings.database),
        database_replica=redacted(settings.database_replica),
        redis=redacted(settings.redis.url.reveal() if settings.redis else None),
        data_dir=settings.data_dir,
        unpriced=settings.unpriced,
        budget_status=settings.budget_status,
        providers=provider_views(context),
        models=tuple(_model(model) for model in settings.models),
        keys=tuple(
            ConfiguredKey(
                id=key.id,
                name=key.name,
                hint=key.hint,
                status=status_of(key, now),
                models=key.models,
                budgets=key.budgets,
                limits=key.limits,
                team=key.team,
                user=key.user,
                customer=key.customer,
                tags=key.tags,
                metadata=key.metadata,
            )
            for key in settings.keys
        ),
        directory=settings.directory,
        sinks=settings.sinks,
        logs=settings.logs,
        spool=settings.spool,
    )


@action(permission="config.reload", audit=True, route=("POST", "/config/reload"))
async def reload(context: Context) -> Reloaded:
    """Read the configuration file again and swap it in, without dropping a request.

    A file with problems is refused with the list of them, and the old configuration stays.
    """
    try:
        waiting = await context.reload()
    except ConfigError as error:
        raise BadRequest(
            "the configuration has problems and the old one stays in use: " + "; ".join(error.problems),
            details={"problems": error.problems},
        ) from error
    return Reloaded(
        source=context.settings().source,
        generation=context.snapshot().generation,
        waiting=tuple(waiting),
    )


@action(permission="config.read", audit=False, route=("GET", "/status"))
async def status(context: Context) -> Status:
    """Show how the gateway fares: its version, and the parts that are degraded with the reason."""
    parts = context.status()
    view = context.snapshot()
    return Status(
        status="degraded" if parts else "ok",
        parts=parts,
        version=tollway.__version__,
        generation=view.generation,
        models=sum(1 for _ in view.routes()),
        open_requests=context.counters.held(),
    )


def _model(model: ModelSettings) -> ConfiguredModel:
    return ConfiguredModel(
        name=model.name,
        strategy=model.strategy,
        targets=tuple(_target(target) for target in model.targets),
        retry=model.retry,
        unpriced=model.unpriced,
    )


def _target(target: TargetSettings) -> ConfiguredTarget:
    return ConfiguredTarget(
        model=target.model,
        id=target.id,
        weight=target.weight,
        usd_per_million=None if target.rates is None else rates(target.rates),
        clocks=target.clocks,
    )
