"""The yardstick and the load generator against the simulator: what is counted is what happened."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.measure import launch, load  # noqa: E402
from bench.processes import SUBJECT_CORE, NeverReady, Programs, request, wait_for  # noqa: E402
from bench.run import start_mock  # noqa: E402
from bench.soak import settle  # noqa: E402
from bench.subjects import RELAY, SCENARIOS  # noqa: E402

from bench import account, witness  # noqa: E402


class Bench(Struct):
    mock: int
    mock_pid: int
    relay: int
    relay_pid: int


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    with Programs() as programs:
        mock, mock_pid = start_mock(programs, folder)
        running = launch(RELAY, programs, folder / "relay", mock)
        yield Bench(mock, mock_pid, running.port, running.pid)
    assert account.read(mock_pid).processes == 0
    assert account.read(running.pid).processes == 0


def test_relayed_answers_are_the_mocks(bench: Bench) -> None:
    for look, model in ((witness.answer, "bench"), (witness.stream, "bench+pace=2ms+events=20")):
        assert look(bench.relay, model, {}) == look(bench.mock, model, {})


def test_a_stream_that_is_held_back_is_noticed(bench: Bench) -> None:
    with pytest.raises(witness.Wrong, match="held back"):
        witness.stream(bench.relay, "bench+first_event=300ms+events=3", {})
    with pytest.raises(witness.Wrong, match="503"):
        witness.answer(bench.relay, "bench+status=503", {})


def test_closed_load_counts_requests_and_their_cost(bench: Bench) -> None:
    before = account.read(bench.relay_pid)
    done = load(bench.relay, "closed", "bench", {}, requests=2000, connections=8)
    after = account.read(bench.relay_pid)
    assert (done.ok, done.statuses, done.errors) == (2000, {"200": 2000}, {})
    assert 0 < done.latency_ms["p50"] <= done.latency_ms["p99"] <= done.latency_ms["max"]
    assert 0 < after.cpu - before.cpu <= done.seconds + 0.1
    refused = load(bench.relay, "closed", "bench+status=429", {}, requests=20, connections=4)
    assert (refused.ok, refused.statuses) == (0, {"429": 20})


def test_streams_are_counted_event_by_event(bench: Bench) -> None:
    direct = load(bench.mock, "sse", "bench+pace=5ms+events=20", {}, requests=20, connections=10)
    relayed = load(bench.relay, "sse", "bench+pace=5ms+events=20", {}, requests=20, connections=10)
    assert direct.streams_complete == relayed.streams_complete == 20
    assert direct.events_per_stream == relayed.events_per_stream
    assert relayed.events >= 20 * 20
    assert relayed.gap_ms["p50"] == pytest.approx(5, abs=4)
    cut = load(bench.relay, "sse", "bench+events=20+cut=10", {}, requests=5, connections=5)
    assert cut.streams_complete == 0
    assert sum(cut.errors.values()) == 5


def test_vanished_clients_leave_nothing_open(bench: Bench) -> None:
    done = load(bench.relay, "abort", SCENARIOS["bench-stream"], {}, requests=200, connections=40)
    assert (done.ok, done.errors) == (200, {})
    assert settle(bench.mock) == 0
    assert request(bench.relay, "/health")[0] == 200


def test_a_program_that_ends_is_reported_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Programs() as programs:
        broken = programs.start(
            [sys.executable, "-c", "raise SystemExit('no such thing')"], core=SUBJECT_CORE, log=log
        )
        with pytest.raises(NeverReady, match="no such thing"):
            wait_for(broken, 1, "/", log=log, limit=10)
