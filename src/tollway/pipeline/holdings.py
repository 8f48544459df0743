"""What the stories of uploads, objects and batches need besides ``Services``: who owns what, a folder, the runner."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from tollway.errors import ModelNotAllowed
from tollway.model.deployment import Deployment, Route
from tollway.pipeline.grant import Grant
from tollway.pipeline.ownership import Registry
from tollway.pipeline.snapshot import ServedRoute, Snapshot, Target
from tollway.providers.provider import Provider
from tollway.shared.interface import Claim


class Runner(Protocol):
    """Runs the batches of this gateway (``jobs/run_batches.py``)."""

    def wake(self) -> None:
        """A batch is new or was cancelled."""


class Holdings:
    """``folder`` is where uploads wait and files of this gateway lie; ``runner`` None: it runs no batches."""

    def __init__(self, registry: Registry, folder: Path, runner: Runner | None) -> None:
        self.registry = registry
        self.folder = folder
        self.runner = runner
        self.settling: set[str] = set()
        self._light: dict[int, tuple[tuple[Claim, ...], tuple[Claim, ...]]] = {}
        self._of: Snapshot | None = None
        self._whole: dict[str, ServedRoute] = {}

    def whole(self, provider: Provider, snapshot: Snapshot) -> ServedRoute:
        """A provider as such, for what touches none of its models."""
        self._follow(snapshot)
        route = self._whole.get(provider.name)
        if route is None:
            deployment = Deployment(
                id=provider.name, provider=provider.name, upstream_model="", clocks=provider.settings.clocks
            )
            unpriced = provider.settings.unpriced or snapshot.settings.unpriced
            free = Route(name=provider.name, targets=(deployment,), unpriced=unpriced)
            route = self._whole[provider.name] = ServedRoute(free, (Target(deployment, provider, None),))
        return route

    def light(self, grant: Grant, snapshot: Snapshot) -> tuple[Claim, ...]:
        """The ceilings on requests alone: what costs nothing counts as a request, and an empty budget locks nobody out
        of what is theirs."""
        self._follow(snapshot)
        known = self._light.get(id(grant.claims))
        if known is None or known[0] is not grant.claims:
            few = tuple(one for one in grant.claims if one.unit in ("requests", "parallel") and not one.per)
            known = self._light[id(grant.claims)] = (grant.claims, few)
        return known[1]

    def _follow(self, snapshot: Snapshot) -> None:
        if self._of is not snapshot:
            self._of = snapshot
            self._whole = {}
            self._light = {}


def only(route: ServedRoute, index: int) -> ServedRoute:
    """A route to one of its targets: what is made there cannot be looked for elsewhere."""
    if len(route.targets) == 1:
        return route
    target = route.targets[index]
    return ServedRoute(replace(route.route, targets=(target.deployment,)), (target,))


def may_use(grant: Grant, provider: str, snapshot: Snapshot) -> bool:
    """Whether a key may use anything of a provider: a model of its, or a named one that is served there."""
    if grant.allows(f"{provider}/*"):
        return True
    if grant.names_some_of(provider):
        return True
    return any(
        grant.allows(name) and any(target.provider.name == provider for target in route.targets)
        for name, route in snapshot.named().items()
    )


def check_use(grant: Grant, provider: str, snapshot: Snapshot) -> None:
    if not may_use(grant, provider, snapshot):
        raise ModelNotAllowed(
            f"This key may use no model of provider {provider}, so nothing else of it either."
        )
