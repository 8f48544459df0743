"""PydanticAI's model for Anthropic, in an environment of its own in build/: no release of it takes both the SDK of
Anthropic and that of Google which the other tests use."""

from __future__ import annotations

import json
import subprocess
import venv
from pathlib import Path

import pytest
from played import SAID, UPSTREAMS, played_gateway, player

pytestmark = pytest.mark.slow

VERSION = "2.68.0"
FOLDER = Path(__file__).resolve().parents[2] / "build" / "agents" / f"pydantic-ai-{VERSION}"


@pytest.fixture(scope="module")
def python() -> str:
    """Its interpreter."""
    program = FOLDER / "bin" / "python"
    if (FOLDER / "installed").exists():
        return str(program)
    venv.create(FOLDER, with_pip=True, clear=True)
    pip = [str(program), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "-q"]
    wanted = [f"pydantic-ai-slim[anthropic]=={VERSION}", "anthropic>=2"]
    done = subprocess.run([*pip, *wanted], capture_output=True, text=True, timeout=600)
    if done.returncode:
        words = ("Temporary failure", "Connection", "timed out")
        if any(word in done.stderr for word in words):
            pytest.skip(f"the package index is out of reach: {done.stderr[-300:]}")
        pytest.fail(done.stderr[-2000:])
    (FOLDER / "installed").touch()
    return str(program)


def test_tools_streams_and_structured_output(python: str, tmp_path: Path) -> None:
    players = {
        "tool": player("weather", {"city": "Oslo", "days": 3}),
        "result": player("final_result", {"city": "Oslo", "degrees": 7.5}),
    }
    script = str(Path(__file__).with_name("ask_pydantic_ai.py"))
    with played_gateway(tmp_path, players) as gateway:
        command = [python, script, gateway.url, gateway.key("pydantic"), *UPSTREAMS]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-3000:]
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["upstream"] for one in said] == list(UPSTREAMS)
    for one in said:
        assert (one["output"], one["streamed"], one["requests"]) == (SAID, SAID, 2)
        assert one["returned"] == ["sunny in Oslo for 3 days"]
        assert one["typed"] == {"city": "Oslo", "degrees": 7.5}
