"""``database: none``: keys from the file only, events as JSON lines to the sinks, and nothing that needs a memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from served import PRICE, Command, fetch, serving, wait_until

from running import ADMIN, provider, simulator
from tollway.simulator.running import RunningSimulator

KEY = "sk-tw-of-the-file-0123456789"
HELLO = [{"role": "user", "content": "Say hello."}]


@contextmanager
def stateless(directory: Path, upstream: RunningSimulator, **more: object) -> Iterator[tuple[Command, str]]:
    config: dict[str, object] = {
        "database": "none",
        "admin_key": ADMIN,
        "providers": {"mock": provider(upstream)},
        "models": {"small": {"targets": [{"model": "mock/gpt-4o-mini", "price": PRICE}]}},
        "keys": [{"name": "ci", "key": KEY, "budget": {"usd": 1, "per": "day"}, "limits": {"rpm": 100}}],
        **more,
    }
    (directory / "tollway.yaml").write_text(json.dumps(config))
    with serving(directory, "--config", "tollway.yaml") as running:
        yield running


def lines(text: str) -> list[dict[str, Any]]:
    """The events among what was written; a banner stands beside them on standard output."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def chat(url: str, model: str = "small") -> str:
    answer = fetch(f"{url}/v1/chat/completions", {"model": model, "messages": HELLO}, key=KEY)
    return answer.headers["x-tollway-request-id"]


def test_events_on_standard_output(tmp_path: Path) -> None:
    with simulator() as upstream:
        with stateless(tmp_path, upstream) as (command, url):
            sent = [chat(url), chat(url), chat(url, "mock/gpt-4o-mini+status=500")]
            wait_until(lambda: len(lines(command.stdout)) >= 3, what="three lines")
        written = lines(command.stdout)
        assert {event["request_id"] for event in written} == set(sent)
        first = written[0]
        assert (first["key"], first["model"], first["provider"]) == ("ci", "small", "mock")
        usage = first["usage"]
        assert first["cost_nano_usd"] == usage["input"] * 150 + usage["output"] * 600
        assert not list((tmp_path / "data").glob("*.db")), "a database was made"
        billed = sum(line.completion_tokens for line in upstream.simulator.bill.entries())
        assert sum(event.get("usage", {}).get("output", 0) for event in written) == billed


def test_events_in_a_file(tmp_path: Path) -> None:
    out = tmp_path / "events" / "log.jsonl"
    sinks = [{"type": "file", "path": str(out)}]
    with simulator() as upstream:
        with stateless(tmp_path, upstream, sinks=sinks) as (command, url):
            first = chat(url)
            wait_until(lambda: out.exists() and lines(out.read_text()), what="a line in the file")
            out.rename(out.with_suffix(".1"))
            second = chat(url)
            wait_until(lambda: out.exists() and lines(out.read_text()), what="a line in the new file")
            last = chat(url)
        # Stopped: nothing may be left behind in the spool.
        assert [event["request_id"] for event in lines(out.with_suffix(".1").read_text())] == [first]
        assert [event["request_id"] for event in lines(out.read_text())] == [second, last]
        assert lines(command.stdout) == []


def test_events_of_a_killed_process_come_with_the_next(tmp_path: Path) -> None:
    out = tmp_path / "log.jsonl"
    out.mkdir()  # nothing can be written there, so that all of it waits in the spool
    sinks = [{"type": "file", "path": str(out)}]
    with simulator() as upstream:
        with stateless(tmp_path, upstream, sinks=sinks) as (command, url):
            sent = [chat(url) for _ in range(5)]
            wait_until(lambda: "log.jsonl" in command.stderr, what="the trouble is told")
            degraded = fetch(f"{url}/health/readiness").json()
            assert degraded["status"] == "degraded"
            command.process.kill()
            command.process.wait()
        out.rmdir()
        with stateless(tmp_path, upstream, sinks=sinks):
            wait_until(lambda: out.exists() and len(lines(out.read_text())) >= 5, what="five lines")
        assert {event["request_id"] for event in lines(out.read_text())} == set(sent)


def test_what_needs_a_database_is_refused_with_a_reason(tmp_path: Path) -> None:
    with simulator() as upstream, stateless(tmp_path, upstream) as (_, url):
        for path, body in (("/keys", {"name": "new"}), ("/events", None), ("/usage", None)):
            answer = fetch(f"{url}/api{path}", body, key=ADMIN)
            error = answer.json()["error"]
            assert 400 <= answer.status < 600, (path, answer.body)
            assert "database" in error["message"], (path, error)
            assert "Traceback" not in answer.body.decode()
        listed = fetch(f"{url}/api/keys", key=ADMIN)
        assert [one["name"] for one in listed.json()["data"]] == ["ci"]
        shown = fetch(f"{url}/api/keys/ci", key=ADMIN).json()
        assert shown["spent_nano_usd"] == 0
        chat(url)
        shown = fetch(f"{url}/api/keys/ci", key=ADMIN).json()
        assert shown["spent_nano_usd"] > 0, "the budget is counted in memory"
        assert fetch(f"{url}/health/readiness").json()["status"] == "ready"
        refused = fetch(f"{url}/v1/chat/completions", {"model": "small", "messages": HELLO}, key="sk-tw-x")
        assert refused.status == 401
