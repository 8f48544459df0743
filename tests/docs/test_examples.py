"""Executes the examples of README.md and docs/guide: shell and Python run against a real gateway in front of
the simulator, configuration is checked by the gateway's own loader, JSON and TOML are parsed.

What a fence may say is in fences.py and CONTRIBUTING.md.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from fences import Block, FenceError, read_blocks

ROOT = Path(__file__).resolve().parents[2]
PAGES = [p for p in (ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))) if p.exists()]
VIRTUAL_KEY = "sk-tw-documentation-examples-000000"
ADMIN_KEY = "sk-tw-admin-documentation-examples"
_VARIABLE = re.compile(r"\$\{(\w+)[^}]*\}")
_LOCAL = re.compile(r"\b(?:127\.0\.0\.1|localhost):(4000|9100)\b")
_MAKE = re.compile(r"^\s*(?:exec )?make ([a-z][a-z-]*)", re.MULTILINE)
_TOLLWAY = re.compile(r"^\s*(?:exec )?tollway ([a-z][a-z-]*)", re.MULTILINE)

GATEWAY_CONFIG = """\
admin_key: {admin}
providers:
  openai: {{api_key: sk-example, base_url: "http://127.0.0.1:{mock}/v1"}}
  anthropic: {{api_key: sk-example, base_url: "http://127.0.0.1:{mock}"}}
  gemini: {{api_key: sk-example, base_url: "http://127.0.0.1:{mock}"}}
  mock: {{type: openai-compatible, base_url: "http://127.0.0.1:{mock}/v1"}}
models:
  fast: openai/gpt-5-mini
  smart:
    strategy: fallback
    targets: [openai/gpt-5, anthropic/claude-opus-4-5]
keys:
  - {{name: examples, key: {key}}}
"""


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _blocks(page: Path) -> list[Block]:
    return read_blocks(_name(page), page.read_text(encoding="utf-8"))


def _everything() -> list[Block]:
    return [block for page in PAGES for block in _blocks(page)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _environment(home: Path, **more: str) -> dict[str, str]:
    """A clean environment: nothing of the caller's but PATH, everything written below ``home``."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '/usr/bin:/bin')}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TOLLWAY_DATA_DIR": str(home / "data"),
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }


def _wait_until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except urllib.error.HTTPError:
            return  # it answers, which is all that is asked
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"{url} never answered:\n{log.read_text()}")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A running gateway in front of the simulator; gives the environment its examples need."""
    home = tmp_path_factory.mktemp("gateway")
    ports = {"4000": _free_port(), "9100": _free_port()}
    config = home / "tollway.yaml"
    config.write_text(GATEWAY_CONFIG.format(admin=ADMIN_KEY, key=VIRTUAL_KEY, mock=ports["9100"]))
    environment = _environment(
        home,
        TOLLWAY_CONFIG=str(config),
        TOLLWAY_ADMIN_KEY=ADMIN_KEY,
        TOLLWAY_KEY=VIRTUAL_KEY,
        TOLLWAY_PORT=str(ports["4000"]),
        TOLLWAY_URL=f"http://127.0.0.1:{ports['4000']}",
        EXAMPLE_PORTS=json.dumps(ports),
    )
    log = home / "log"
    servers: list[subprocess.Popen[bytes]] = []
    with log.open("wb") as out:
        try:
            for name, command in (("9100", ["mock"]), ("4000", ["serve", "--config", str(config)])):
                server = subprocess.Popen(
                    [sys.executable, "-m", "tollway", *command, "--port", str(ports[name])],
                    env=environment,
                    cwd=home,
                    stdout=out,
                    stderr=out,
                )
                servers.append(server)
                _wait_until_ready(f"http://127.0.0.1:{ports[name]}/health/liveness", server, log)
            yield environment
        finally:
            for server in servers:
                server.terminate()
            for server in servers:
                try:
                    server.wait(10)
                except subprocess.TimeoutExpired:
                    server.kill()
                    server.wait()


def _here(text: str, environment: dict[str, str]) -> str:
    """The pages speak of the usual ports; the servers of this run listen on free ones."""
    ports = json.loads(environment["EXAMPLE_PORTS"])
    return _LOCAL.sub(lambda found: f"127.0.0.1:{ports[found[1]]}", text)


def run_page(blocks: list[Block], environment: dict[str, str], home: Path) -> None:
    """Runs a page from top to bottom in one directory: files stay, so do exported variables."""
    state = home / ".exported"
    state.write_text("")
    for block in blocks:
        text = _here(block.text, environment)
        if block.file is not None:
            (home / block.file).write_text(text)
        if block.treatment != "run":
            continue
        if block.language == "python":
            command = f"{sys.executable} - <<'PYTHON_EXAMPLE'\n{text}PYTHON_EXAMPLE\n"
        else:
            command = text
        script = f"set -euo pipefail\nsource {state}\n{command}\ndeclare -px > {state}\n"
        done = subprocess.run(
            ["bash", "-c", script],
            env=environment,
            cwd=home,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, f"{block.where} failed ({done.returncode}):\n{done.stdout}{done.stderr}"


def check_config(text: str, home: Path) -> subprocess.CompletedProcess[str]:
    """What ``tollway config check`` says of a text whose every ``${NAME}`` is set."""
    file = home / "tollway.yaml"
    file.write_text(text)
    environment = _environment(
        home, **dict.fromkeys(_VARIABLE.findall(text), "sk-tw-example-0123456789abcdef")
    )
    return subprocess.run(
        [sys.executable, "-m", "tollway", "config", "check", str(file)],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_fence_follows_the_convention(page: Path) -> None:
    _blocks(page)


LIVE = [page for page in PAGES if any(block.treatment == "run" for block in _blocks(page))]


@pytest.mark.parametrize("page", LIVE, ids=_name)
def test_commands_of_a_page_run_from_top_to_bottom(
    page: Path, gateway: dict[str, str], tmp_path: Path
) -> None:
    run_page(_blocks(page), gateway, tmp_path)


CONFIGS = [b for b in _everything() if b.language == "yaml" and b.treatment == "parse" and b.dialect is None]


@pytest.mark.parametrize("block", CONFIGS, ids=lambda b: b.where)
def test_configuration_is_accepted_by_the_loader(block: Block, tmp_path: Path) -> None:
    done = check_config(block.text, tmp_path)
    assert done.returncode == 0, f"{block.where}:\n{done.stdout}{done.stderr}"


def test_data_blocks_parse() -> None:
    for block in _everything():
        try:
            if block.treatment == "parse" and block.language == "json":
                json.loads(block.text)
            elif block.treatment == "parse" and block.language == "toml":
                tomllib.loads(block.text)
            elif block.language == "yaml" and block.dialect is not None:
                list(yaml.safe_load_all(block.text))
        except (ValueError, yaml.YAMLError) as error:
            pytest.fail(f"{block.where}: {error}")


def test_commands_that_are_not_run_are_still_commands() -> None:
    """``no-run`` skips the run, not the reading: syntax, make targets and tollway commands must exist."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for block in _everything():
        if block.treatment != "parse":
            continue
        if block.language == "python":
            compile(block.text, block.where, "exec")
        elif block.language == "bash":
            done = subprocess.run(
                ["bash", "-n"], input=block.text, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{block.where}: {done.stderr}"
            unknown = set(_MAKE.findall(block.text)) - targets
            assert not unknown, f"{block.where}: no such target of the Makefile: {', '.join(unknown)}"
            for command in sorted(set(_TOLLWAY.findall(block.text))):
                known = subprocess.run(
                    [sys.executable, "-m", "tollway", command, "--help"], capture_output=True, check=False
                )
                assert known.returncode == 0, f"{block.where}: no such command: tollway {command}"


def test_a_broken_example_is_noticed(tmp_path: Path) -> None:
    """The machinery itself: a failing command, a command in a pipe and an unknown word must all be seen."""
    environment = _environment(tmp_path, EXAMPLE_PORTS=json.dumps({"4000": 1, "9100": 2}))
    page = "```text a.txt\nhttp://localhost:4000/v1\n```\n```bash\nexport WORD=kept\n```\n"
    page += '1. Then:\n   ```bash\n   test "$WORD" = kept && test -f a.txt\n   ```\n'
    run_page(read_blocks("page.md", page), environment, tmp_path)
    assert (tmp_path / "a.txt").read_text() == "http://127.0.0.1:1/v1\n"
    for broken in ("false\necho reached\n", "false | cat\n", "echo $NEVER_SET\n"):
        with pytest.raises(AssertionError, match=r"page\.md:1 failed"):
            run_page(read_blocks("page.md", f"```bash\n{broken}```\n"), environment, tmp_path)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run_page(read_blocks("page.md", "```python\n1 / 0\n```\n"), environment, tmp_path)
    for wrong in ("```bash norun\n```\n", "```\nno language\n```\n", "```bash\nnever closed\n"):
        with pytest.raises(FenceError, match=r"page\.md:1"):
            read_blocks("page.md", wrong)
