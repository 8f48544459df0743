"""Tokens counted for a client, and what is left of the counting when the gateway stops."""

from __future__ import annotations

from pathlib import Path

from served import fetch, served_with

from running import provider, simulator


def test_the_process_that_counts_ends_with_the_gateway(tmp_path: Path) -> None:
    body = {"model": "gpt", "messages": [{"role": "user", "content": "How many tokens is this?"}]}
    with simulator() as upstream:
        config = {
            "require_key": False, "database": "none", "providers": {"mock": provider(upstream)},
            "models": {"gpt": "mock/gpt-4o"},
        }  # fmt: skip
        with served_with(tmp_path, upstream, config) as running:
            process = running.gateway.process
            assert process is not None
            children = Path(f"/proc/{process.pid}/task")
            assert fetch(f"{running.url}/v1/messages/count_tokens", body).json()["input_tokens"] > 0
            found = [
                int(pid) for task in children.iterdir() for pid in (task / "children").read_text().split()
            ]
            assert len(found) == 1
            assert b"tollway.tokens" in Path(f"/proc/{found[0]}/cmdline").read_bytes()
        assert not Path(f"/proc/{found[0]}").exists()
