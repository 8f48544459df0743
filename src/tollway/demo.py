"""The provider of a gateway that has none: the simulator, so that a first request is answered without a key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from tollway.config.settings import ModelSettings, ProviderSettings, Settings, TargetSettings
from tollway.model.clocks import DEFAULT_CLOCKS
from tollway.pricing.book import PriceBook


class Demo:
    """The simulator as provider ``mock``, offered when no provider is configured: a first request is answered."""

    MODEL = "demo"

    def __init__(self, simulator: object, url: str, stop: Callable[[], Awaitable[None]]) -> None:
        self.url = url
        self.stop = stop
        self._simulator = simulator

    @classmethod
    async def start(cls) -> Demo:
        from tollway.simulator.server import Simulator

        simulator = Simulator(bill_entries=10_000)
        await simulator.start()
        return cls(simulator, simulator.url, simulator.stop)

    def offered(self, settings: Settings, prices: PriceBook) -> Settings:
        provider = ProviderSettings(
            name="mock", type="openai-compatible", base_url=self.url, clocks=DEFAULT_CLOCKS
        )
        models = settings.models
        if not models:
            price = prices.price("openai", "gpt-4o-mini")
            target = TargetSettings(model="mock/gpt-4o-mini", rates=price.rates if price else None)
            models = (ModelSettings(name=self.MODEL, strategy="single", targets=(target,)),)
        return msgspec.structs.replace(settings, providers=(provider,), models=models)
