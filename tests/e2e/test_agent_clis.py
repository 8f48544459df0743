"""Claude Code and Codex, the programs as their vendors ship them, at work through a real gateway: a prompt, a tool
they run on a file, the answer. Nothing but loopback is told to them; npm brings the binaries once, into build/."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from played import SAID, UPSTREAMS, played_gateway, player
from served import Served

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[2] / "build" / "agents"
PACKAGES = {"@anthropic-ai/claude-code": "2.1.197", "@openai/codex": "0.169.0"}
"""Of Claude Code the last that installs with Node 20."""

NOTE = "the number is 4711"


@pytest.fixture(scope="module")
def binaries() -> Path:
    """The folder the packages are in; the binaries need neither npm nor Node to run."""
    modules = FOLDER / "node_modules"
    manifests = {name: modules / name / "package.json" for name in PACKAGES}
    if all(
        one.exists() and json.loads(one.read_text())["version"] == PACKAGES[name]
        for name, one in manifests.items()
    ):
        return modules
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is missing: the coding agents come from there")
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "package.json").write_text('{"private": true}\n')
    wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
    options = ["--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(
        [npm, "install", *options, *wanted], cwd=FOLDER, capture_output=True, text=True, timeout=600
    )
    if done.returncode:
        unreachable = ("ENOTFOUND", "ECONNREFUSED", "ETIMEDOUT", "EAI_AGAIN", "network")
        if any(word in done.stderr for word in unreachable):
            pytest.skip(f"npm is out of reach: {done.stderr[-300:]}")
        pytest.fail(f"npm install: {done.stderr[-2000:]}")
    return modules


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the agents work."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "note.txt").write_text(NOTE + "\n")
    return folder


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, desk: Path) -> Iterator[Served]:
    players = {
        "claude": player("Read", {"file_path": str(desk / "note.txt")}),
        "codex": player("exec_command", {"cmd": "cat note.txt"}),
    }
    with played_gateway(tmp_path_factory.mktemp("gateway"), players) as running:
        yield running


@pytest.fixture(scope="module")
def key(gateway: Served) -> str:
    return gateway.key("agents")


def run(command: list[str], desk: Path, home: Path, **environ: str) -> list[dict[str, Any]]:
    """What the program reports, a JSON object a line. Its environment has nothing of the machine's own."""
    whole = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **environ}
    done = subprocess.run(
        command, cwd=desk, env=whole, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, (done.returncode, done.stdout[-3000:], done.stderr[-3000:])
    return [json.loads(line) for line in done.stdout.splitlines()]


def claude(binaries: Path, desk: Path, home: Path, url: str, key: str, model: str) -> list[dict[str, Any]]:
    program = str(binaries / "@anthropic-ai" / "claude-code-linux-x64" / "claude")
    command = [program, "-p", "What is in note.txt?", "--model", model, "--allowedTools", "Read"]
    return run(
        [*command, "--output-format", "stream-json", "--verbose"],
        desk,
        home,
        ANTHROPIC_BASE_URL=url,
        ANTHROPIC_AUTH_TOKEN=key,
        ANTHROPIC_DEFAULT_HAIKU_MODEL=model,
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        DISABLE_AUTOUPDATER="1",
    )


def codex(binaries: Path, desk: Path, home: Path, url: str, key: str, model: str) -> list[dict[str, Any]]:
    (program,) = (binaries / "@openai" / "codex-linux-x64").glob("vendor/*/bin/codex")
    place = f'{{name="gateway",base_url="{url}/v1",env_key="GATEWAY_KEY",wire_api="responses"}}'
    settings = {"model_provider": '"gateway"', "model": f'"{model}"', "model_providers.gateway": place}
    command = [str(program), "exec", "--json", "--skip-git-repo-check", "-s", "read-only"]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    return run([*command, "What is in note.txt?"], desk, home, CODEX_HOME=str(home), GATEWAY_KEY=key)


def events_of(gateway: Served, model: str) -> list[dict[str, Any]]:
    return [one for one in gateway.events() if one["model"] == model]


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_claude_code_reads_a_file(
    binaries: Path, desk: Path, tmp_path: Path, gateway: Served, key: str, upstream: str
) -> None:
    model = f"claude-{upstream}"
    said = claude(binaries, desk, tmp_path, gateway.url, key, model)
    assert said[-1]["type"] == "result"
    assert (said[-1]["is_error"], said[-1]["result"], said[-1]["num_turns"]) == (False, SAID, 2)
    results = [
        block["content"]
        for one in said
        if one["type"] == "user"
        for block in one["message"]["content"]
        if block["type"] == "tool_result"
    ]
    assert len(results) == 1
    assert NOTE in results[0]
    events = events_of(gateway, model)
    assert [(one["outcome"], one["endpoint"], one["streamed"]) for one in events] == [
        ("ok", "messages", True)
    ] * 2
    spent = said[-1]["usage"]
    assert spent["input_tokens"] == sum(one["usage"]["input"] for one in events) > 10_000
    assert spent["output_tokens"] == sum(one["usage"]["output"] for one in events)


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_codex_runs_a_command(
    binaries: Path, desk: Path, tmp_path: Path, gateway: Served, key: str, upstream: str
) -> None:
    model = f"codex-{upstream}"
    said = codex(binaries, desk, tmp_path, gateway.url, key, model)
    items = [one["item"] for one in said if one["type"] == "item.completed"]
    (command,) = [one for one in items if one["type"] == "command_execution"]
    assert (command["exit_code"], command["aggregated_output"]) == (0, NOTE + "\n")
    assert [one["text"] for one in items if one["type"] == "agent_message"] == [SAID]
    events = events_of(gateway, model)
    assert [(one["outcome"], one["endpoint"], one["streamed"]) for one in events] == [
        ("ok", "responses", True)
    ] * 2
    (spent,) = [one["usage"] for one in said if one["type"] == "turn.completed"]
    assert spent["input_tokens"] == sum(one["usage"]["input"] for one in events) > 10_000
    assert spent["output_tokens"] == sum(one["usage"]["output"] for one in events)
