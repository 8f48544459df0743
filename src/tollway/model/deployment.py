"""Where a model can be served: deployments, and the routes that lead a public name to them."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from tollway.model.clocks import DEFAULT_CLOCKS, Clocks
from tollway.model.price import Price

Strategy = Literal["single", "fallback", "loadbalance"]


class Deployment(Struct, frozen=True, kw_only=True):
    """One place able to serve a model: a configured provider and the model's name there.

    ``id`` names it in headers, events and logs (``openai/gpt-5-mini``). ``price`` None: unpriced.
    """

    id: str
    provider: str
    upstream_model: str
    price: Price | None = None
    weight: int = 1
    clocks: Clocks = DEFAULT_CLOCKS


class Retry(Struct, frozen=True, kw_only=True):
    """How often one deployment is tried, and after what: status codes, ``5xx``, ``connect`` or ``timeout``.

    A request whose connection failed before a byte was sent is always safe to try again and counts as ``connect``.
    """

    attempts: int = 2
    on: tuple[str, ...] = ("connect", "429", "500", "502", "503", "529")
    max_wait: float = 8.0


class Route(Struct, frozen=True, kw_only=True):
    """How a public model name is served: a strategy over deployments. ``name`` is what clients ask for.

    ``on_unsupported``: what to do with fields a target cannot carry. None drops hints and refuses what would change
    the meaning (tools, images, response formats); ``drop`` and ``refuse`` do so with all.
    """

    name: str
    strategy: Strategy = "single"
    targets: tuple[Deployment, ...]
    retry: Retry = Retry()
    unpriced: Literal["allow", "refuse"] = "allow"
    on_unsupported: Literal["drop", "refuse"] | None = None
    created: int = 0
