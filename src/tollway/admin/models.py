"""Models as they are served: public names with their targets and prices, and the providers behind them.

Read from the configuration in use. No credential and no header value is ever part of an answer.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from msgspec import UNSET, Struct, UnsetType

from tollway.admin.action import action
from tollway.admin.context import Context
from tollway.config.settings import ProviderSettings
from tollway.model.clocks import Clocks
from tollway.model.deployment import Deployment, Retry, Route, Strategy
from tollway.model.money import NANO
from tollway.model.price import Price, Rates, Tier


class RatesView(Struct, frozen=True, kw_only=True):
    """US dollars per million units: tokens, and for ``images`` to ``requests`` a million of those.

    A class that is absent has no price of its own.
    """

    input: float | UnsetType = UNSET
    cache_read: float | UnsetType = UNSET
    cache_write_5m: float | UnsetType = UNSET
    cache_write_1h: float | UnsetType = UNSET
    output: float | UnsetType = UNSET
    reasoning: float | UnsetType = UNSET
    audio_input: float | UnsetType = UNSET
    audio_output: float | UnsetType = UNSET
    images: float | UnsetType = UNSET
    video_seconds: float | UnsetType = UNSET
    characters: float | UnsetType = UNSET
    seconds: float | UnsetType = UNSET
    pages: float | UnsetType = UNSET
    searches: float | UnsetType = UNSET
    requests: float | UnsetType = UNSET


class TierView(Struct, frozen=True, kw_only=True):
    """The rates of a request whose prompt exceeds ``above`` tokens."""

    above: int
    usd_per_million: RatesView


class PriceView(Struct, frozen=True, kw_only=True):
    """A price, its context tiers and the rates of service tiers such as ``batch``."""

    usd_per_million: RatesView
    tiers: tuple[TierView, ...]
    variants: dict[str, RatesView]
    variant_tiers: dict[str, tuple[TierView, ...]]
    valid_from: str | None
    source: str
    version: str


class TargetView(Struct, frozen=True, kw_only=True):
    """One deployment a route leads to. ``price`` null: unpriced, its cost is unknown."""

    id: str
    provider: str
    upstream_model: str
    weight: int
    clocks: Clocks
    price: PriceView | None


class ModelView(Struct, frozen=True, kw_only=True):
    """A public model name and how it is served. ``priced``: every target has a price."""

    name: str
    strategy: Strategy
    priced: bool
    unpriced: Literal["allow", "refuse"]
    retry: Retry
    targets: tuple[TargetView, ...]


class ModelList(Struct, frozen=True, kw_only=True):
    """The configured models by name, and the generation of the configuration they stand in."""

    data: tuple[ModelView, ...]
    generation: int


class ModelQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``provider``: only models with a target there."""

    provider: str | None = None


class ProviderView(Struct, frozen=True, kw_only=True):
    """A configured provider. ``source``: declared in the file, or found by its key in the environment.

    ``base_url`` null: the catalogue's. ``headers`` names the extra headers it is sent, ``models`` counts
    the public models that have a target there.
    """

    name: str
    type: str
    source: Literal["file", "environment"]
    has_api_key: bool
    base_url: str | None
    proxy: str | None
    headers: tuple[str, ...]
    max_connections: int
    clocks: Clocks
    models: int


class ProviderList(Struct, frozen=True, kw_only=True):
    data: tuple[ProviderView, ...]


@action(permission="models.read", audit=False, route=("GET", "/models"))
async def list_(context: Context, query: ModelQuery) -> ModelList:
    """List the configured models with their targets and prices.

    A model can also be asked for directly as `provider/model`; such names are not listed.
    """
    view = context.snapshot()
    routes = sorted(view.routes(), key=lambda route: route.name)
    if query.provider is not None:
        routes = [route for route in routes if query.provider in _providers(route)]
    return ModelList(data=tuple(_model(route) for route in routes), generation=view.generation)


@action(permission="models.read", audit=False, route=("GET", "/providers"))
async def providers(context: Context) -> ProviderList:
    """List the configured providers, without any secret."""
    return ProviderList(data=provider_views(context))


def provider_views(context: Context) -> tuple[ProviderView, ...]:
    """The configured providers in order of their names."""
    settings = context.settings()
    served = Counter(provider for route in context.snapshot().routes() for provider in _providers(route))
    found = sorted(settings.providers, key=lambda provider: provider.name)
    return tuple(_provider(each, each.name in settings.discovered, served[each.name]) for each in found)


def redacted(url: str | None) -> str | None:
    """A URL without its user, password, query and fragment: each may hold a secret."""
    if url is None:
        return None
    parts = urlsplit(url)
    if "@" in parts.path + parts.query + parts.fragment:
        return (
            f"{parts.scheme}://***"  # a password with / ? or # in it: which part is the host cannot be told
        )
    place = parts.netloc.rpartition("@")[2]
    if parts.username or parts.password:
        place = f"***@{place}"
    return urlunsplit((parts.scheme, place, parts.path, "***" if parts.query else "", ""))


def _providers(route: Route) -> set[str]:
    return {target.provider for target in route.targets}


def _provider(provider: ProviderSettings, discovered: bool, models: int) -> ProviderView:
    return ProviderView(
        name=provider.name,
        type=provider.type,
        source="environment" if discovered else "file",
        has_api_key=bool(provider.api_key),
        base_url=redacted(provider.base_url),
        proxy=redacted(provider.proxy),
        headers=tuple(sorted(provider.headers)),
        max_connections=provider.max_connections,
        clocks=provider.clocks,
        models=models,
    )


def _model(route: Route) -> ModelView:
    return ModelView(
        name=route.name,
        strategy=route.strategy,
        priced=all(target.price is not None for target in route.targets),
        unpriced=route.unpriced,
        retry=route.retry,
        targets=tuple(_target(target) for target in route.targets),
    )


def _target(target: Deployment) -> TargetView:
    return TargetView(
        id=target.id,
        provider=target.provider,
        upstream_model=target.upstream_model,
        weight=target.weight,
        clocks=target.clocks,
        price=None if target.price is None else _price(target.price),
    )


def _price(price: Price) -> PriceView:
    return PriceView(
        usd_per_million=rates(price.rates),
        tiers=_tiers(price.tiers),
        variants={name: rates(each) for name, each in price.variants.items()},
        variant_tiers={name: _tiers(each) for name, each in price.variant_tiers.items()},
        valid_from=price.valid_from,
        source=price.source,
        version=price.version,
    )


def _tiers(tiers: tuple[Tier, ...]) -> tuple[TierView, ...]:
    return tuple(TierView(above=tier.above, usd_per_million=rates(tier.rates)) for tier in tiers)


def rates(found: Rates) -> RatesView:
    """Rates in US dollars, for people."""
    usd = {}
    for name in Rates.__struct_fields__:
        nano: int | None = getattr(found, name)
        if nano is not None:
            usd[name] = nano / NANO
    return RatesView(**usd)
