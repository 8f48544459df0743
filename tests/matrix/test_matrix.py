"""Every client dialect before every provider's format, in every scenario, whole and streamed.

The clients are the official SDKs, the sockets real; what a cell means is asserted, how it is written is kept in
tests/golden/matrix.
"""

from __future__ import annotations

import json
from functools import partial

import pytest
from asking import CALLED, SCHEMA
from keeping import compare, shown
from scenarios import LONG_TEXT, SCENARIOS, TEXT, THOUGHT, WITH_RESULTS, Cell, play
from stand import CLIENTS, UPSTREAMS, Stand, Upstream

from tollway.simulator.instances import instance
from tollway.simulator.tokens import TOKEN, prose, start_of

cells = pytest.mark.parametrize(
    ("client", "upstream", "scenario"),
    [
        pytest.param(client, upstream, scenario, id=f"{client}-{upstream.name}-{scenario}")
        for client in CLIENTS
        for upstream in UPSTREAMS.values()
        for scenario in SCENARIOS
    ],
)
forms = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])

_played: dict[tuple[str, str, str, bool], Cell] = {}


def cell_of(stand: Stand, client: str, upstream: Upstream, scenario: str, stream: bool) -> Cell:
    """A cell is played once, whatever is asserted of it."""
    place = (client, upstream.name, scenario, stream)
    if place not in _played:
        _played[place] = play(stand, client, upstream, scenario, stream)
    return _played[place]


SHOWN_BY = {
    "chat": (),
    "resp": ("responses", "messages", "gemini"),
    "gemini": ("responses", "messages", "gemini"),
}
"""Clients that see the thoughts of providers which are asked for them in particular; others show them to all."""


@forms
@cells
def test_cell(stand: Stand, client: str, upstream: Upstream, scenario: str, stream: bool) -> None:
    cell = cell_of(stand, client, upstream, scenario, stream)
    if scenario == "error":
        _is_the_providers_error(cell, client)
        return
    assert cell.refused is None, cell.refused
    for exchange in cell.exchanges:
        told = {
            name: count if name in upstream.tells else 0 for name, count in exchange.billed.tokens.items()
        }
        assert exchange.heard.usage == stand.clients[client].usage(told)
        assert exchange.billed.status == 200
        assert exchange.billed.streamed is stream
        assert exchange.billed.complete
    _ASSERTED.get(scenario, _is_the_text)(cell, client, upstream)


def _is_the_text(cell: Cell, client: str, upstream: Upstream) -> None:
    (exchange,) = cell.exchanges
    assert exchange.heard.text == TEXT
    assert exchange.heard.finish == "stop"
    assert not exchange.heard.thinking
    assert not exchange.heard.calls


def _are_calls(names: tuple[str, ...], cell: Cell, client: str, upstream: Upstream) -> None:
    first, second = cell.exchanges
    assert [(call.name, call.arguments) for call in first.heard.calls] == [(n, CALLED[n]) for n in names]
    ids = [call.id for call in first.heard.calls]
    assert len(set(ids)) == len(names)
    assert all(ids)
    assert first.heard.finish == "tool_calls"
    assert second.heard.text == TEXT
    assert second.heard.finish == "stop"
    assert not second.heard.calls
    sent = json.dumps(second.sent)
    assert all(result in sent for result in RESULTS[: len(names)])


RESULTS = ("Rain, 9 degrees", "Low at six")


def _is_thought(cell: Cell, client: str, upstream: Upstream) -> None:
    (exchange,) = cell.exchanges
    assert exchange.heard.text == TEXT
    model = cell.steps[0].model.partition("/")[2].partition("+")[0]
    thought = prose(THOUGHT, start_of("thinking", model))
    visible = client in SHOWN_BY.get(upstream.name, CLIENTS)
    assert exchange.heard.thinking == (thought if visible else "")


def _fits_the_schema(cell: Cell, client: str, upstream: Upstream) -> None:
    (exchange,) = cell.exchanges
    assert json.loads(exchange.heard.text) == instance(SCHEMA)
    assert exchange.heard.finish == "stop"


def _is_cached(cell: Cell, client: str, upstream: Upstream) -> None:
    _is_the_text(cell, client, upstream)
    (exchange,) = cell.exchanges
    sent = json.dumps(exchange.sent)
    marks = {"anthropic": '"cache_control"', "bedrock": '"cachePoint"'}
    mark = marks.get(upstream.name)
    if client in ("chat", "messages") and mark is not None:
        assert mark in sent
    elif client in ("chat", "messages") and upstream.format != "openai.chat":
        assert "cache_control" in exchange.dropped
    if "cache_read" in upstream.tells:
        assert exchange.billed.tokens["cache_read"] == 400


def _stops(cell: Cell, client: str, upstream: Upstream) -> None:
    length, sequence, *filtered, refusal = cell.exchanges
    assert (length.heard.text, length.heard.finish) == (LONG_TEXT[: 16 * TOKEN], "length")
    assert sequence.heard.finish == "stop"
    can_stop = client != "responses" and upstream.format != "openai.responses"
    assert sequence.heard.text == (TEXT.partition(" noon")[0] if can_stop else TEXT)
    if client != "responses" and not can_stop:
        assert "stop" in sequence.dropped
    for exchange in filtered:
        assert exchange.heard.finish == "content_filter"
    if upstream.name not in ("cohere", "ollama"):
        assert refusal.heard.finish == "content_filter"


def _is_the_providers_error(cell: Cell, client: str) -> None:
    refused = cell.refused
    assert refused is not None
    assert refused.status == 429
    assert refused.kind == ("ClientError" if client == "gemini" else "RateLimitError")
    assert "Too many boats" in refused.message
    assert refused.headers["retry-after"] == "120"
    assert refused.headers["content-type"].startswith("application/json")
    assert refused.headers["x-tollway-request-id"]
    assert not cell.exchanges


_ASSERTED = {
    "tools": partial(_are_calls, ("get_weather",)),
    "parallel": partial(_are_calls, ("get_weather", "get_tide")),
    "thinking": _is_thought,
    "schema": _fits_the_schema,
    "cache": _is_cached,
    "stops": _stops,
}


@cells
def test_golden(stand: Stand, client: str, upstream: Upstream, scenario: str) -> None:
    whole, streamed = (cell_of(stand, client, upstream, scenario, stream) for stream in (False, True))
    compare(f"{client}/{upstream.name}/{scenario}", shown(whole, streamed))


@cells
def test_whole_and_streamed_say_the_same(
    stand: Stand, client: str, upstream: Upstream, scenario: str
) -> None:
    whole, streamed = (cell_of(stand, client, upstream, scenario, stream) for stream in (False, True))
    assert [one.heard.meaning() for one in whole.exchanges] == [
        one.heard.meaning() for one in streamed.exchanges
    ]
    assert [one.dropped for one in whole.exchanges] == [one.dropped for one in streamed.exchanges]
    if scenario in WITH_RESULTS:
        for cell in (whole, streamed):
            assert len(cell.exchanges) == 2
    assert (whole.refused is None) is (streamed.refused is None)
    if whole.refused is not None and streamed.refused is not None:
        assert (whole.refused.status, whole.refused.kind) == (streamed.refused.status, streamed.refused.kind)


def test_ledger_is_the_bill(stand: Stand) -> None:
    """After all of it: every exchange has its event, and the sums of every provider are the simulator's."""
    events = [event for event in stand.events() if event["outcome"] == "ok"]
    for upstream in UPSTREAMS.values():
        theirs = {
            one.steps[0].model.partition("/")[2]
            for (_, name, _, _), one in _played.items()
            if name == upstream.name
        }
        assert theirs or not _played
        lines = [
            x.billed
            for (_, name, _, _), one in _played.items()
            if name == upstream.name
            for x in one.exchanges
        ]
        ours = [event["usage"] for event in events if event["provider"] == upstream.name]
        assert len(ours) == len(lines)
        for name in upstream.tells:
            assert sum(one[name] for one in ours) == sum(line.tokens[name] for line in lines), (
                upstream.name,
                name,
            )
