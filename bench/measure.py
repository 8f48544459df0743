"""Measures one subject once, from its start to its end, in front of a mock that already runs.

The subject has a core to itself; the mock and the load generator share the other.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from msgspec import Struct, json

from bench import account, witness
from bench.processes import LOAD_CORE, SUBJECT_CORE, NeverReady, Programs, free_port, request, wait_for
from bench.subjects import ADMIN_KEY, ROOT, SCENARIOS, TRANSLATED, Start, Subject

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"


STREAM_SECONDS = 1.0
"""How long a stream of ``bench-stream`` lasts. Streams open spread over it: where all open at once, the time to the
first event is that of the core which mock and load share."""


class Plan(Struct, frozen=True, kw_only=True):
    """How much is done. A phase lasts ``seconds``; ``ladder`` is in connections, ``firsts`` in requests."""

    repetitions: int
    seconds: float
    connections: int
    ladder: tuple[int, ...]
    streams: tuple[int, ...]
    held: tuple[int, ...]
    firsts: int


FULL = Plan(
    repetitions=3,
    seconds=4.0,
    connections=32,
    ladder=(1, 4, 16, 64, 256),
    streams=(100, 400),
    held=(100, 500, 1000, 2000, 4000),
    firsts=300,
)
QUICK = Plan(
    repetitions=1,
    seconds=2.0,
    connections=32,
    ladder=(1, 64),
    streams=(100, 400),
    held=(100, 500),
    firsts=100,
)

Measured = dict[str, float | int | bool | None]
"""Flat names, so that medians and ratios need no knowledge of them."""


class Load(Struct):
    """What bench.load prints."""

    seconds: float
    ok: int
    rps: float
    statuses: dict[str, int]
    errors: dict[str, int]
    latency_ms: dict[str, float]
    first_event_ms: dict[str, float]
    gap_ms: dict[str, float]
    events: int
    streams_complete: int
    events_per_stream: dict[str, int]


def load(
    port: int, mode: str, model: str, headers: dict[str, str], *, path: str = CHAT, **options: float
) -> Load:
    """Runs the load generator to its end. Raises RuntimeError with what it said."""
    command = ["taskset", "-c", str(LOAD_CORE), sys.executable, "-m", "bench.load", mode]
    command += ["--port", str(port), "--path", path, "--model", model]
    for header, text in headers.items():
        command += ["--header", f"{header}: {text}"]
    for option, value in options.items():
        command += [f"--{option.replace('_', '-')}", str(value)]
    limit = options.get("limit", 120)
    done = subprocess.run(
        [*command, "--limit", str(limit)], cwd=ROOT, capture_output=True, timeout=limit + 30, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"the load generator failed: {done.stderr.decode(errors='replace')[-2000:]}")
    return json.decode(done.stdout, type=Load)


def chat(model: str) -> bytes:
    return json.encode({"model": model, "messages": [{"role": "user", "content": "Say something."}]})


class Running(Struct):
    """A subject that answers."""

    subject: Subject
    port: int
    pid: int
    start: Start
    cold_seconds: float
    process: subprocess.Popen[bytes]


def launch(subject: Subject, programs: Programs, folder: Path, mock: int) -> Running:
    """Starts the subject and waits for its first chat completion. Raises NeverReady."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    start = subject.prepare(folder, port, mock)
    log = folder / "log"
    began = time.perf_counter()
    if start.beside:
        programs.start(start.beside, core=LOAD_CORE, log=folder / "beside.log", cwd=folder)
        time.sleep(1.0)
    process = programs.start(start.command, core=SUBJECT_CORE, log=log, env=start.env, cwd=ROOT)
    headers = {"content-type": "application/json", **start.headers}
    try:
        if subject.peer and start.ready is not None:
            wait_for(process, port, start.ready, log=log, limit=90)
        wait_for(process, port, CHAT, log=log, body=chat(subject.model("bench")), headers=headers, limit=60)
    except NeverReady:
        programs.stop(process)
        raise
    cold = time.perf_counter() - began
    return Running(subject, port, process.pid, start, cold, process)


def _phase(
    running: Running, mode: str, scenario: str, *, quiet: float, path: str = CHAT, **options: float
) -> tuple[Load, float]:
    """Runs a load; returns it with the CPU seconds the subject spent, work after the answers included."""
    before = account.read(running.pid)
    model = scenario if scenario == TRANSLATED else running.subject.model(scenario)
    done = load(running.port, mode, model, running.start.headers, path=path, **options)
    after = account.wait_until_quiet(running.pid, limit=quiet)
    return done, after.cpu - before.cpu


def measure(running: Running, mock: int, plan: Plan, *, held: bool) -> Measured:
    """Everything about a running subject. Raises witness.Wrong when it does not really answer and stream."""
    quiet = 3.0 if running.subject.peer else 20.0
    found: Measured = {"cold_ms": running.cold_seconds * 1000}
    sent = 1
    _check(running, mock)
    sent += 2
    idle = account.wait_until_quiet(running.pid, limit=quiet)
    found |= {"idle_rss_mb": idle.rss / 1e6, "idle_pss_mb": idle.pss / 1e6}

    # Peers get longer: a JIT compiler is faster after some thousand requests.
    warm_up = plan.seconds * (2 if running.subject.peer else 0.5)
    warm, _ = _phase(running, "closed", "bench", quiet=quiet, seconds=warm_up, connections=8)
    sent += warm.ok

    done, cpu = _phase(
        running, "closed", "bench", quiet=quiet, seconds=plan.seconds, connections=plan.connections
    )
    sent += done.ok
    found |= {
        "request_us": cpu / done.ok * 1e6 if done.ok else None,
        "request_rps": done.rps,
        "request_busy": cpu / done.seconds,
        "failed": _failed(done),
    }

    first = load(
        running.port,
        "sse",
        running.subject.model("bench-first"),
        running.start.headers,
        connections=1,
        requests=plan.firsts,
    )
    sent += first.ok
    found["first_event_ms"] = first.first_event_ms.get("p50")

    for connections in plan.ladder:
        done = load(
            running.port,
            "closed",
            running.subject.model("bench"),
            running.start.headers,
            connections=connections,
            seconds=plan.seconds / 2,
        )
        sent += done.ok
        found |= {
            f"rps_at_{connections}": done.rps,
            f"p50_ms_at_{connections}": done.latency_ms.get("p50"),
            f"p99_ms_at_{connections}": done.latency_ms.get("p99"),
        }

    for streams in plan.streams:
        done, cpu = _phase(
            running,
            "sse",
            "bench-stream",
            quiet=quiet,
            connections=streams,
            requests=streams * max(1, round(plan.seconds / 1.5)) if not running.subject.peer else streams,
            spread=STREAM_SECONDS,
            limit=90,
        )
        sent += done.ok
        found |= {
            f"event_us_at_{streams}": cpu / done.events * 1e6 if done.events else None,
            f"busy_at_{streams}": cpu / done.seconds,
            f"gap_p99_ms_at_{streams}": done.gap_ms.get("p99"),
            f"first_p99_ms_at_{streams}": done.first_event_ms.get("p99"),
            f"lost_at_{streams}": _lost(done),
        }

    if running.subject.translates:
        translated, answered = _translated(running, plan, quiet, found)
        found |= translated
        sent += answered

    if held:
        kept = 0
        for streams in plan.held:
            done = load(
                running.port,
                "sse",
                running.subject.model("bench-slow"),
                running.start.headers,
                connections=streams,
                requests=streams,
                spread=4.0,
                limit=40,
            )
            sent += done.ok
            # One event a second: a stream of n events lasts n - 1 seconds, and may be a second late.
            longest = max((int(n) for n in done.events_per_stream), default=0)
            if done.streams_complete < streams or done.latency_ms.get("p99", 0) > longest * 1000:
                break
            kept = streams
        found["streams_held"] = kept

    steady = account.wait_until_quiet(running.pid, limit=quiet)
    found |= {"steady_rss_mb": steady.rss / 1e6, "steady_pss_mb": steady.pss / 1e6}
    if running.subject.api:
        found["ledger_missing"] = sent - ledger_requests(running.port)
    return found


def _translated(running: Running, plan: Plan, quiet: float, relayed: Measured) -> tuple[Measured, int]:
    """A chat answered by a provider that speaks Anthropic's messages, and messages streamed from one that speaks
    OpenAI's chat; each against the same request relayed. Also the number of answers."""
    found: Measured = {}
    witness.translation(running.port, TRANSLATED, running.start.headers)
    witness.translated_stream(running.port, running.subject.model("bench-stream"), running.start.headers)
    sent = 3
    done, _ = _phase(running, "closed", TRANSLATED, quiet=quiet, seconds=plan.seconds / 4, connections=8)
    sent += done.ok
    done, cpu = _phase(
        running, "closed", TRANSLATED, quiet=quiet, seconds=plan.seconds, connections=plan.connections
    )
    sent += done.ok
    found["translated_us"] = cpu / done.ok * 1e6 if done.ok else None
    found["translated_failed"] = _failed(done)
    streams = plan.streams[-1]
    done, cpu = _phase(
        running,
        "sse",
        "bench-stream",
        quiet=quiet,
        path=MESSAGES,
        connections=streams,
        requests=streams * max(1, round(plan.seconds / 1.5)),
        limit=90,
    )
    sent += done.ok
    found["translated_event_us"] = cpu / done.events * 1e6 if done.events else None
    found["translated_lost"] = _lost(done)
    for name, base in (("translated", "request_us"), ("translated_event", f"event_us_at_{streams}")):
        once, again = relayed.get(base), found[f"{name}_us"]
        found[f"{name}_ratio"] = again / once if once and again else None
    return found, sent


def _failed(done: Load) -> int:
    return sum(done.errors.values()) + sum(n for s, n in done.statuses.items() if s != "200")


def _lost(done: Load) -> int:
    """Streams that did not end in [DONE], and streams shorter than the longest."""
    longest = max((int(n) for n in done.events_per_stream), default=0)
    short = sum(count for n, count in done.events_per_stream.items() if int(n) < longest)
    return max(done.ok - done.streams_complete, short) + sum(done.errors.values())


def _check(running: Running, mock: int) -> None:
    """The subject's answer and stream must say what the mock says. Raises witness.Wrong."""
    for look, scenario in ((witness.answer, "bench"), (witness.stream, "bench-stream")):
        wanted = look(mock, SCENARIOS[scenario], {})
        got = look(running.port, running.subject.model(scenario), running.start.headers)
        if (got.text, got.usage) != (wanted.text, wanted.usage):
            raise witness.Wrong(f"{scenario}: the mock said {wanted}, the subject {got}")


class Total(Struct):
    requests: int


class Books(Struct):
    total: Total


def ledger_requests(port: int) -> int:
    """How many requests the gateway's ledger holds. Raises RuntimeError when it cannot be asked."""
    status, body = request(port, "/api/usage", headers={"authorization": f"Bearer {ADMIN_KEY}"}, timeout=60)
    if status != 200:
        raise RuntimeError(f"/api/usage answered {status}: {body[:300]!r}")
    return json.decode(body, type=Books).total.requests


def measure_mock(pid: int, port: int, plan: Plan) -> Measured:
    """The mock with nothing in between: the floor of every latency, and what the load's core can carry."""
    found: Measured = {}
    before = account.read(pid)
    done = load(port, "closed", SCENARIOS["bench"], {}, seconds=plan.seconds, connections=plan.connections)
    cpu = account.read(pid).cpu - before.cpu
    if not done.ok:
        raise RuntimeError(f"the mock does not answer: {done.statuses} {done.errors}")
    found |= {"request_us": cpu / done.ok * 1e6, "request_rps": done.rps}
    first = load(port, "sse", SCENARIOS["bench-first"], {}, connections=1, requests=plan.firsts)
    found["first_event_ms"] = first.first_event_ms.get("p50")
    for connections in plan.ladder:
        done = load(port, "closed", SCENARIOS["bench"], {}, seconds=plan.seconds / 2, connections=connections)
        found |= {
            f"rps_at_{connections}": done.rps,
            f"p50_ms_at_{connections}": done.latency_ms.get("p50"),
            f"p99_ms_at_{connections}": done.latency_ms.get("p99"),
        }
    for streams in plan.streams:
        before = account.read(pid)
        done = load(
            port,
            "sse",
            SCENARIOS["bench-stream"],
            {},
            connections=streams,
            requests=streams * 2,
            spread=STREAM_SECONDS,
        )
        cpu = account.read(pid).cpu - before.cpu
        found |= {
            f"event_us_at_{streams}": cpu / done.events * 1e6 if done.events else None,
            f"gap_p99_ms_at_{streams}": done.gap_ms.get("p99"),
            f"first_p99_ms_at_{streams}": done.first_event_ms.get("p99"),
            f"lost_at_{streams}": _lost(done),
        }
    return found
