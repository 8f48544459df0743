from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]

GOOD = """\
providers: {openai: {api_key: ${KEY}}, my-vllm: {type: openai-compatible, base_url: http://127.0.0.1:8000/v1}}
models:
  fast: openai/gpt-5-mini
  smart:
    strategy: loadbalance
    targets:
      - {model: openai/gpt-5, weight: 3, timeout: 90s}
      - {model: my-vllm/llama, price: {input: 0.1}}
      - my-vllm/qwen
"""


def test_the_routes_of_a_good_file(inside: Run, home: Path) -> None:
    file = home / "work" / "gateway.yaml"
    file.write_text(GOOD)
    done = inside("config", "check", str(file), KEY="sk-secret-value")
    assert (done.returncode, done.stderr) == (0, "")
    for wanted in ("fast", "loadbalance", "openai/gpt-5 x3", "total 90s", f"{file} is valid"):
        assert wanted in done.stdout, wanted
    assert "secret" not in done.stdout
    data = json.loads(inside("config", "check", str(file), "--json", KEY="k").stdout)
    assert [target["price"] for target in data["models"][1]["targets"]] == [
        "book",
        "configuration",
        "unknown",
    ]
    assert data["models"][1]["targets"][0]["clocks"]["total"] == 90


def test_every_problem_with_its_line(tollway: Run, home: Path) -> None:
    file = home / "work" / "tollway.yaml"
    file.write_text("modles: {}\nproviders: {x: {type: openai-compatible}}\nserver: {port: 0x}\n")
    done = tollway("config", "check")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        'tollway.yaml:1: unknown setting "modles"; did you mean "models"?',
        'tollway.yaml:3: server.port: expected a whole number from 0 to 65535, not "0x"',
        "2 problems",
    ]
    data = json.loads(tollway("config", "check", "--json").stdout)
    assert (data["valid"], len(data["problems"])) == (False, 2)


def test_what_the_catalogue_knows_to_be_missing(inside: Run, home: Path) -> None:
    (home / "work" / "tollway.yaml").write_text("server: {}\nproviders:\n  x: {type: openai-compatible}\n")
    done = inside("config", "check")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "tollway.yaml:3: providers.x.base_url is required for type openai-compatible"
    )


def test_a_missing_file(inside: Run) -> None:
    done = inside("config", "check", "absent.yaml")
    assert done.returncode == 1
    assert done.stderr.startswith("absent.yaml: cannot be read: No such file or directory")


def test_another_gateways_file(inside: Run, home: Path) -> None:
    (home / "work" / "config.yaml").write_text("model_list: []\n")
    done = inside("config", "check", "config.yaml")
    assert done.returncode == 1
    assert "this is a LiteLLM configuration" in done.stderr
