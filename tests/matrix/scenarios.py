"""The scenarios of the matrix: what is asked, how often, and with which knobs of the simulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from asking import TOOLS, Ask
from stand import Exchange, Stand, Upstream

TEXT = "The tide turns at noon."
LONG_TEXT = " ".join([TEXT] * 6)
SYSTEM = "You know every harbour of the coast. " * 160
GIVEN = {"get_weather": "Rain, 9 degrees", "get_tide": "Low at six"}
THOUGHT = 12
"""Tokens of thinking."""


@dataclass(frozen=True)
class Step:
    model: str
    ask: Ask


def one(ask: Ask, **knobs: object) -> Callable[[Upstream, str], list[Step]]:
    def steps(upstream: Upstream, scenario: str) -> list[Step]:
        return [Step(upstream.named(scenario, **{"text": TEXT, "events": 4, **knobs}), ask)]

    return steps


def _cache(upstream: Upstream, scenario: str) -> list[Step]:
    """As much of the prompt is cached as the provider has words for."""
    knobs: dict[str, object] = {"text": TEXT, "events": 4}
    if "cache_read" in upstream.tells:
        knobs["cached"] = 400
    if "cache_write_5m" in upstream.tells:
        knobs |= {"cache_write": 50, "cache_write_1h": 100}
    return [Step(upstream.named(scenario, **knobs), Ask(system=SYSTEM, cached=True))]


def _stops(upstream: Upstream, scenario: str) -> list[Step]:
    """The length, a stop sequence, the provider's filter and the model's own refusal."""

    def named(**knobs: object) -> str:
        return upstream.named(scenario, events=4, **knobs)

    steps = [
        Step(named(text=LONG_TEXT), Ask(limit=16)),
        Step(named(text=TEXT), Ask(stop=" noon")),
    ]
    if upstream.name not in ("cohere", "ollama"):  # neither says that it filtered
        steps.append(Step(named(text=TEXT, finish="content_filter"), Ask()))
    return [*steps, Step(named(refusal=1), Ask())]


SCENARIOS: dict[str, Callable[[Upstream, str], list[Step]]] = {
    "text": one(Ask(system="Answer in one sentence.")),
    "tools": one(Ask(tools=("get_weather",))),
    "parallel": one(Ask(tools=("get_weather", "get_tide")), parallel=2),
    "image": one(Ask(image=True)),
    "thinking": one(Ask(thinking=True), reasoning=THOUGHT),
    "schema": one(Ask(schema=True)),
    "cache": _cache,
    "error": one(Ask(), status=429, retry_after=120, error_message="Too many boats"),
    "stops": _stops,
}

WITH_RESULTS = ("tools", "parallel")
"""Scenarios in which the tools' results go back and an answer to them comes."""


@dataclass
class Refused:
    """What the SDK raised in place of an answer, and the headers it came with."""

    status: int
    kind: str
    message: str
    headers: dict[str, str]
    raw: bytes


@dataclass
class Cell:
    """Everything that one client had of one provider in one scenario and one form."""

    steps: list[Step]
    exchanges: list[Exchange]
    refused: Refused | None = None


def play(stand: Stand, client: str, upstream: Upstream, scenario: str, stream: bool) -> Cell:
    steps = SCENARIOS[scenario](upstream, scenario)
    cell = Cell(steps, [])
    try:
        cell.exchanges.extend(_exchanges(stand, client, steps, scenario, stream))
    except AssertionError:
        raise
    except Exception as error:
        speaks = stand.clients[client]
        status, kind, message = speaks.refusal(error)
        cell.refused = Refused(status, kind, message, speaks.tap.headers, bytes(speaks.tap.body))
    return cell


def _exchanges(
    stand: Stand, client: str, steps: list[Step], scenario: str, stream: bool
) -> Iterator[Exchange]:
    speaks = stand.clients[client]
    for step in steps:
        made = stand.ask(client, step.model, step.ask, stream)
        yield made
        if scenario in WITH_RESULTS:
            results = speaks.results(made.heard, GIVEN)
            turns = [*speaks.open(step.ask), *made.heard.turn, *results]
            yield stand.ask(client, step.model, step.ask, stream, turns)


assert set(GIVEN) == set(TOOLS)
