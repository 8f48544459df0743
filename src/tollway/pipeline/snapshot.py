"""The configuration being served, as one immutable value: keys by digest, routes by name, providers, prices.

A change builds a new one and swaps a reference; a request keeps the one it began with. The memos inside only
remember what the same values would give again.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from tollway.config.settings import ModelSettings, Settings
from tollway.errors import ModelNotFound
from tollway.model.deployment import Deployment, Route
from tollway.model.key import ADMIN, ANONYMOUS, Principal, VirtualKey
from tollway.model.price import Price, Rates
from tollway.model.tenant import Directory
from tollway.pipeline.grant import MEMO, Grant, Society
from tollway.pipeline.habits import Habit, Habits
from tollway.pricing.book import PriceBook
from tollway.providers.headroom import Headroom
from tollway.providers.provider import Provider

NOBODY = Directory()


class Target:
    """A deployment made ready to serve: its provider, the bytes that change in a body, the headers that name it."""

    __slots__ = ("deployment", "habit", "headroom", "max_output", "model_raw", "provider")

    def __init__(
        self,
        deployment: Deployment,
        provider: Provider,
        max_output: int | None,
        habit: Habit | None = None,
        headroom: Headroom | None = None,
    ) -> None:
        self.deployment = deployment
        self.provider = provider
        self.model_raw = Raw(msgspec.json.encode(deployment.upstream_model))
        self.max_output = max_output
        self.habit = habit or Habit()
        self.headroom = headroom or Headroom()


class ServedRoute:
    """A route with its targets in the order of the configuration; ``naming`` is the header block that names each,
    ``known_as`` every name that leads to one of them: its own, those at the providers and, of one named so, the public
    ones."""

    __slots__ = ("known_as", "name", "naming", "route", "targets")

    def __init__(self, route: Route, targets: tuple[Target, ...], public: Iterable[str] = ()) -> None:
        self.route = route
        own = (f"{one.deployment.provider}/{one.deployment.upstream_model}" for one in targets)
        self.known_as = tuple(dict.fromkeys((route.name, *own, *public)))
        self.name = route.name
        self.targets = targets
        self.naming = tuple(
            _header(b"x-tollway-model", route.name)
            + _header(b"x-tollway-provider", target.provider.name)
            + _header(b"x-tollway-deployment", target.deployment.id)
            for target in targets
        )


def _header(name: bytes, value: str) -> bytes:
    clean = value if value.isascii() and value.isprintable() else re.sub(r"[^ -~]", "?", value)
    return name + b": " + clean.encode() + b"\r\n"


class Snapshot:
    """See the module. ``keys`` and ``routes`` serve the admin actions; ``started`` is Unix seconds.

    ``complete`` false: the database could not be read yet, so an unknown key may well exist.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        keys: Iterable[VirtualKey],
        providers: Mapping[str, Provider],
        prices: PriceBook,
        directory: Directory = NOBODY,
        habits: Habits | None = None,
        generation: int,
        started: int,
        complete: bool = True,
    ) -> None:
        self.settings = settings
        self.complete = complete
        self.started = started
        self.generation = generation
        self.providers = dict(providers)
        self.prices = prices
        self._keys = tuple(keys)
        self.habits = habits or Habits()
        self.society = Society(directory, self.habits)
        self._by_digest: dict[bytes, VirtualKey] = {}
        for key in self._keys:
            if key.revoked_at is None:
                self._by_digest[bytes.fromhex(key.hash)] = key
                if key.former_hash is not None and key.former_until is not None:
                    until = min(key.former_until, key.expires_at or key.former_until)
                    self._by_digest.setdefault(bytes.fromhex(key.former_hash), replace(key, expires_at=until))
        self._grants: dict[bytes, Grant] = {}
        self.admin = Grant(ADMIN, self.society)
        self.anonymous = Grant(ANONYMOUS, self.society)
        if settings.admin_key is not None:
            self._grants[sha256(settings.admin_key.reveal().encode()).digest()] = self.admin
        self._named = {model.name: self._build(model) for model in settings.models}
        self._direct: dict[str, ServedRoute] = {}

    def admit_admin(self, digest: bytes) -> None:
        """Let the generated admin key in, of which only the digest is kept. Called while the snapshot is built."""
        self._grants.setdefault(digest, self.admin)

    def grant(self, digest: bytes) -> Grant | None:
        """By SHA-256 of the credential, so the time a look-up takes tells nothing of a key."""
        found = self._grants.get(digest)
        if found is None:
            key = self._by_digest.get(digest)
            if key is None:
                return None
            found = self._grants[digest] = Grant(Principal(kind="key", key=key), self.society)
        return found

    def keys(self) -> Iterable[VirtualKey]:
        return self._keys

    def routes(self) -> Iterable[Route]:
        return [served.route for served in self._named.values()]

    def named(self) -> Mapping[str, ServedRoute]:
        return self._named

    def route(self, model: str, grant: Grant) -> ServedRoute:
        named = self._named.get(model)
        if named is not None:
            return named
        direct = self._direct.get(model)
        if direct is not None:
            return direct
        provider_name, slash, upstream_model = model.partition("/")
        provider = self.providers.get(provider_name) if slash else None
        if provider is None or not upstream_model or len(model) > 500 or not upstream_model.isprintable():
            raise self._unknown(model, grant)
        deployment = Deployment(
            id=model,
            provider=provider_name,
            upstream_model=upstream_model,
            price=self.price(provider, upstream_model),
            clocks=provider.settings.clocks,
        )
        target = self._target(deployment, provider)
        unpriced = provider.settings.unpriced or self.settings.unpriced
        public = (name for name, one in self._named.items() if model in one.known_as)
        direct = ServedRoute(Route(name=model, targets=(deployment,), unpriced=unpriced), (target,), public)
        if len(self._direct) >= MEMO:
            self._direct.clear()
        self._direct[model] = direct
        return direct

    def _target(self, deployment: Deployment, provider: Provider) -> Target:
        longest = self.max_output(provider, deployment.upstream_model)
        habits = self.habits
        return Target(
            deployment,
            provider,
            longest,
            habits.of_deployment(deployment.id),
            habits.headroom(deployment.id),
        )

    def price(self, provider: Provider, model: str) -> Price | None:
        return self.prices.price(provider.entry.price_sheet, model)

    def max_output(self, provider: Provider, model: str) -> int | None:
        facts = self.prices.model(provider.entry.price_sheet, model)
        return facts.max_output_tokens if facts else None

    def _build(self, model: ModelSettings) -> ServedRoute:
        targets = []
        for settings in model.targets:
            provider_name, _, upstream_model = settings.model.partition("/")
            provider = self.providers[provider_name]
            price = (
                self._own_price(settings.rates) if settings.rates else self.price(provider, upstream_model)
            )
            deployment = Deployment(
                id=settings.id or settings.model,
                provider=provider_name,
                upstream_model=upstream_model,
                price=price,
                weight=settings.weight,
                clocks=settings.clocks or provider.settings.clocks,
            )
            targets.append(self._target(deployment, provider))
        unpriced = model.unpriced or self.settings.unpriced
        route = Route(
            name=model.name,
            strategy=model.strategy,
            targets=tuple(target.deployment for target in targets),
            retry=model.retry,
            unpriced=unpriced,
            on_unsupported=model.on_unsupported,
        )
        return ServedRoute(route, tuple(targets))

    def _own_price(self, rates: Rates) -> Price:
        digest = sha256(msgspec.json.encode(rates)).hexdigest()[:8]
        return Price(rates=rates, source="configuration", version=f"configuration.{digest}")

    def _unknown(self, model: str, grant: Grant) -> ModelNotFound:
        visible = [name for name in self._named if grant.allows(name)]
        shown = model[:200]
        close = difflib.get_close_matches(shown, visible, n=1)
        provider_name, slash, _ = model.partition("/")
        if close:
            hint = f" Did you mean {close[0]!r}?"
        elif slash and provider_name not in self.providers:
            hint = f" No provider {provider_name[:100]!r} is configured."
        else:
            hint = " Name a configured model, or one as provider/model; GET /v1/models lists them."
        return ModelNotFound(f"Model {shown!r} does not exist here.{hint}", param="model")
