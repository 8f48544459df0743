from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from tollway.model.event import UsageEvent

Run = Callable[..., subprocess.CompletedProcess[str]]


def generation(home: Path) -> int:
    with sqlite3.connect(home / "data" / "tollway.db") as connection:
        number: int = connection.execute("select number from generation").fetchone()[0]
        return number


def test_a_key_from_creation_to_revocation(tollway: Run, home: Path) -> None:
    made = tollway(
        *("keys", "create", "--name", "ci", "--team", "core", "--models", "fast, openai/*", "--rpm", "60"),
        *(
            "--budget",
            "10usd/month",
            "--budget",
            "0.5/day",
            "--tpm",
            "1000",
            "--parallel",
            "4",
            "--expires",
            "30d",
        ),
    )
    assert made.returncode == 0
    secret = made.stdout.strip()
    assert secret.startswith("sk-tw-")
    assert secret not in made.stderr, "the key alone is on standard output"
    with sqlite3.connect(home / "data" / "tollway.db") as connection:
        rows = connection.execute("select name, hash, team, models from keys").fetchall()
    assert rows == [("ci", sha256(secret.encode()).hexdigest(), "core", '["fast","openai/*"]')]
    before = generation(home)

    shown = json.loads(tollway("keys", "show", "ci", "--json").stdout)
    assert shown["limits"] == {"rpm": 60, "tpm": 1000, "parallel": 4}
    assert [(b["per"], b["limit_nano_usd"]) for b in shown["budgets"]] == [
        ("month", 10**10),
        ("day", 5 * 10**8),
    ]
    assert shown["expires_at"] is not None
    assert "held_nano_usd" not in shown, "only a running server knows what is held"

    rotated = tollway("keys", "rotate", shown["id"])
    assert rotated.returncode == 0
    assert rotated.stdout.strip() not in ("", secret)
    revoked = tollway("keys", "revoke", "ci")
    assert (revoked.returncode, "is revoked" in revoked.stdout) == (0, True)
    assert generation(home) == before + 2, "a running server is told of each change"
    assert json.loads(tollway("keys", "list", "--json").stdout)[0]["status"] == "revoked"
    assert tollway("keys", "rotate", "ci").returncode == 1


def test_refusals(inside: Run) -> None:
    assert inside("keys", "create", "--name", "a").returncode == 0
    twice = inside("keys", "create", "--name", "a")
    assert (twice.returncode, twice.stderr) == (1, "Error: a key named a exists already\n")
    for wrong in (("--budget", "10eur"), ("--rpm", "0"), ("--expires", "soon"), ("--name", "sk-x")):
        assert inside("keys", "create", "--name", "b", *wrong).returncode == 2, wrong
    missing = inside("keys", "show", "nobody")
    assert missing.returncode == 1
    assert "no key has this id or name" in missing.stderr


def test_keys_of_the_file_are_listed_and_not_touched(inside: Run, home: Path) -> None:
    (home / "work" / "tollway.yaml").write_text("keys: [{name: declared, key: sk-tw-0123456789abcdef}]\n")
    (listed,) = json.loads(inside("keys", "list", "--json").stdout)
    assert (listed["name"], listed["owner"], listed["hint"]) == ("declared", "file", "sk-tw-…cdef")
    refused = inside("keys", "revoke", "declared")
    assert refused.returncode == 1
    assert "declared in tollway.yaml" in refused.stderr
    assert inside("keys", "create", "--name", "declared").returncode == 1
    assert "declared" in inside("keys", "list").stdout


def test_without_a_database(inside: Run) -> None:
    done = inside("keys", "create", "--name", "a", TOLLWAY_DATABASE_URL="none")
    assert done.returncode == 1
    assert "keys live in the configuration file" in done.stderr


def test_spend_comes_from_the_ledger(inside: Run, record: Callable[[list[UsageEvent]], None]) -> None:
    made = json.loads(inside("keys", "create", "--name", "ci", "--budget", "1usd/month", "--json").stdout)
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    record(
        [
            UsageEvent(
                id=f"ue_{n}",
                request_id=f"r{n}",
                time=now,
                key="ci",
                key_id=made["id"],
                endpoint="chat.completions",
                model="fast",
                provider="openai",
                upstream_model="gpt-5-mini",
                deployment="openai/gpt-5-mini",
                status=200,
                outcome="ok",
                cost_nano_usd=125_000_000,
            )
            for n in range(2)
        ]
    )
    shown = json.loads(inside("keys", "show", "ci", "--json").stdout)
    assert shown["spent_nano_usd"] == 250_000_000
    assert shown["budget"]["remaining_nano_usd"] == 750_000_000
    assert "0.25 of 1.00 USD per month" in inside("keys", "show", "ci").stdout
