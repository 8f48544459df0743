"""Who is measured: how each subject is started in front of the mock, and how a request for it must look.

A scenario's model is a public name on subjects that know such names and the mock's own name on the others.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct, json, structs

from bench.processes import free_port

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / "build" / "peers"
CLIENT_KEY = "sk-tw-bench-0123456789abcdefghijklmnopqrstuvwxyz"
ADMIN_KEY = "sk-tw-bench-admin-0123456789abcdefghijklmnopqr"

# Public name -> what the mock understands (its knobs follow the name).
SCENARIOS = {
    "bench": "bench",
    "bench-stream": "bench+pace=20ms+events=50",
    "bench-first": "bench+events=2",
    "bench-slow": "bench+pace=1s+events=10",
}


TRANSLATED = "bench-messages"
"""Public name of the mock's model at the address where it speaks Anthropic's messages only."""


class Start(Struct, frozen=True, kw_only=True):
    """What to start. ``headers`` go with every request; ``ready`` is a path that answers 200; ``beside`` is started
    first, on the other core."""

    command: list[str]
    beside: list[str] = []
    env: dict[str, str] = {}
    headers: dict[str, str] = {}
    ready: str | None = None


class Subject(Struct, frozen=True, kw_only=True):
    """``prepare(folder, port, mock)`` writes what the subject reads and says how to start it. ``renames``: it
    maps public model names. ``api``: it has our admin API, so its books can be checked. ``translates``: it was
    told of ``TRANSLATED`` and answers in other dialects than its upstream's."""

    name: str
    label: str
    prepare: Callable[[Path, int, int], Start]
    renames: bool = False
    api: bool = False
    translates: bool = False
    peer: bool = False

    def model(self, scenario: str) -> str:
        return scenario if self.renames else SCENARIOS[scenario]


def _relay(folder: Path, port: int, mock: int) -> Start:
    return Start(
        command=[sys.executable, "-m", "bench.relay", "--port", str(port), "--upstream", f"127.0.0.1:{mock}"]
    )


def _tollway(folder: Path, port: int, mock: int, settings: dict[str, object]) -> Start:
    price = {"input": 0.25, "output": 2.0}
    config: dict[str, object] = {
        "admin_key": ADMIN_KEY,
        "providers": {
            "mock": {
                "type": "openai-compatible",
                "base_url": f"http://127.0.0.1:{mock}/v1",
                "api_key": "sk-mock",
                "max_connections": 20_000,
                "languages": ["openai.chat"],
            },
            "messages": {
                "type": "anthropic",
                "base_url": f"http://127.0.0.1:{mock}",
                "api_key": "sk-mock",
                "max_connections": 20_000,
            },
        },
        "models": {
            name: {"targets": [{"model": f"mock/{model}", "price": price}]}
            for name, model in SCENARIOS.items()
        }
        | {TRANSLATED: {"targets": [{"model": "messages/bench", "price": price}]}},
        **settings,
    }
    file = folder / "tollway.yaml"
    file.write_bytes(json.encode(config))  # JSON is YAML
    return Start(
        command=[
            sys.executable,
            "-m",
            "tollway",
            "serve",
            "--config",
            str(file),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ],
        env={"TOLLWAY_DATA_DIR": str(folder / "data")},
        ready="/health/liveness",
    )


def _plain(folder: Path, port: int, mock: int) -> Start:
    return _tollway(folder, port, mock, {"require_key": False})


def _governed(folder: Path, port: int, mock: int) -> Start:
    key = {
        "name": "bench",
        "key": CLIENT_KEY,
        "budget": {"usd": 1_000_000, "per": "month"},
        "limits": {"rpm": 1_000_000_000, "tpm": 1_000_000_000_000, "parallel": 100_000},
    }
    start = _tollway(folder, port, mock, {"keys": [key]})
    return Start(
        command=start.command,
        env=start.env,
        ready=start.ready,
        headers={"authorization": f"Bearer {CLIENT_KEY}"},
    )


def _levels(folder: Path, port: int, mock: int) -> Start:
    """Budgets on four levels and six limits, all of them met by each request."""
    return _on_levels(folder, port, mock, {})


def _redis(folder: Path, port: int, mock: int) -> Start:
    """The same, counted for many processes."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        raise OSError("no redis-server here: apt-get install redis-server")
    shared = free_port()
    start = _on_levels(folder, port, mock, {"redis": f"redis://127.0.0.1:{shared}/0"})
    beside = [program, "--port", str(shared), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    return structs.replace(start, beside=beside)


def _on_levels(folder: Path, port: int, mock: int, settings: dict[str, object]) -> Start:
    much, many, tokens = 1_000_000, 1_000_000_000, 1_000_000_000_000
    start = _tollway(
        folder,
        port,
        mock,
        {
            "organizations": [
                {"name": "acme", "budget": {"usd": much, "per": "month"}, "limits": {"rpm": many}}
            ],
            "teams": [
                {
                    "name": "search",
                    "organization": "acme",
                    "budget": {"usd": much, "per": "month"},
                    "limits": {"rpm": many, "tpm": tokens},
                }
            ],
            "users": [{"name": "ann", "budget": {"usd": much, "per": "week"}}],
            "keys": [
                {
                    "name": "bench",
                    "key": CLIENT_KEY,
                    "team": "search",
                    "user": "ann",
                    "budget": {"usd": much, "per": "day"},
                    "limits": {"rpm": many, "tpm": tokens, "parallel": 100_000},
                }
            ],
            **settings,
        },
    )
    return structs.replace(start, headers={"authorization": f"Bearer {CLIENT_KEY}"})


def _litellm(folder: Path, port: int, mock: int) -> Start:
    config = {
        "model_list": [
            {
                "model_name": name,
                "litellm_params": {
                    "model": f"openai/{model}",
                    "api_base": f"http://127.0.0.1:{mock}/v1",
                    "api_key": "sk-mock",
                },
            }
            for name, model in SCENARIOS.items()
        ],
        "general_settings": {"master_key": CLIENT_KEY},
    }
    file = folder / "litellm.yaml"
    file.write_bytes(json.encode(config))
    return Start(
        command=[
            str(PEERS / "litellm" / "bin" / "litellm"),
            "--config",
            str(file),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--num_workers",
            "1",
        ],
        # Production mode as its documentation recommends; the local price map keeps it off the network.
        env={
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_TELEMETRY": "False",
        },
        headers={"authorization": f"Bearer {CLIENT_KEY}"},
        ready="/health/liveliness",
    )


def _portkey(folder: Path, port: int, mock: int) -> Start:
    package = PEERS / "portkey" / "node_modules" / "@portkey-ai" / "gateway"
    return Start(
        command=[
            "node",
            "--require",
            str(ROOT / "bench" / "peers" / "portkey-streams.cjs"),
            str(package / "build" / "start-server.js"),
            f"--port={port}",
            "--headless",
        ],
        env={"NODE_ENV": "production"},
        headers={
            "authorization": "Bearer sk-mock",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"http://127.0.0.1:{mock}/v1",
        },
    )


RELAY = Subject(name="relay", label="bare relay", prepare=_relay)
PLAIN = Subject(
    name="tollway-plain", label="Tollway, no key", prepare=_plain, renames=True, api=True, translates=True
)
GOVERNED = Subject(
    name="tollway",
    label="Tollway, key + budget + limits + ledger",
    prepare=_governed,
    renames=True,
    api=True,
    translates=True,
)
LEVELS = Subject(
    name="tollway-levels",
    label="Tollway, 4 budgets + 6 limits on four levels",
    prepare=_levels,
    renames=True,
    api=True,
    translates=True,
)
REDIS = Subject(
    name="tollway-redis",
    label="Tollway, the same, counted over Redis",
    prepare=_redis,
    renames=True,
    api=True,
    translates=True,
)
LITELLM = Subject(name="litellm", label="LiteLLM", prepare=_litellm, renames=True, peer=True)
PORTKEY = Subject(name="portkey", label="Portkey", prepare=_portkey, peer=True)

ALL = (RELAY, PLAIN, GOVERNED, LEVELS, REDIS, LITELLM, PORTKEY)
BY_NAME = {subject.name: subject for subject in ALL}
