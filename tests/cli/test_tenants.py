from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_from_an_organization_to_a_key(tollway: Run) -> None:
    made = tollway("orgs", "create", "--name", "Acme & Sons", "--budget", "1000usd/month")
    assert (made.returncode, made.stdout.strip()) == (0, "acme-sons"), made.stderr
    made = tollway(
        *("teams", "create", "--name", "search", "--org", "Acme & Sons", "--models", "fast,group:cheap"),
        *("--deny", "openai/*", "--budget", "1000tokens/day", "--budget", "5usd/year", "--rpm", "60"),
    )
    assert (made.returncode, made.stdout.strip()) == (0, "acme-sons.search"), made.stderr
    made = tollway(
        "users", "create", "--name", "ada", "--email", "ada@example.com", "--team", "search", "--json"
    )
    assert json.loads(made.stdout)["email"] == "ada@example.com"
    token = tollway("users", "token", "ada", "--expires", "2d")
    assert token.stdout.strip().startswith("sk-tw-user-")
    assert token.stdout.strip() not in token.stderr
    key = tollway(
        *("keys", "create", "--name", "k", "--team", "search", "--user", "ada", "--deny", "big", "--json"),
        *("--budget", "500requests"),
    )
    found = json.loads(key.stdout)
    assert (found["organization"], found["team"], found["user"]) == ("acme-sons", "acme-sons.search", "ada")
    assert (found["denied_models"], found["budget"]["unit"]) == (["big"], "requests")
    shown = tollway("keys", "show", "k").stdout
    assert "500 requests in total" in shown
    assert "not big" in shown

    listed = json.loads(tollway("teams", "list", "--json").stdout)
    assert [each["id"] for each in listed] == ["acme-sons.search"]
    assert "counters" not in listed[0], "only a running server knows what is counted"
    text = tollway("teams", "show", "search").stdout
    for part in (
        "fast, group:cheap",
        "openai/*",
        "rpm 60",
        "0 tokens of 1,000 tokens per day",
        "5.00 USD per year",
    ):
        assert part in text
    assert "acme-sons" in tollway("orgs", "list").stdout
    assert "1,000.00 USD per month" in tollway("orgs", "show", "acme-sons").stdout
    assert "ada@example.com" in tollway("users", "show", "ada").stdout
    assert "ada" in tollway("users", "list").stdout


def test_a_service_accounts_key_is_nobodys(tollway: Run) -> None:
    tollway("teams", "create", "--name", "ops")
    wrong = tollway("keys", "create", "--name", "k", "--team", "ops", "--user", "ada", "--service")
    assert wrong.returncode == 2
    assert "service account" in wrong.stderr
    made = tollway("keys", "create", "--name", "k", "--team", "ops", "--service", "--json")
    assert json.loads(made.stdout)["service"] is True


def test_what_is_wrong_is_named(tollway: Run) -> None:
    for arguments, part in (
        (("teams", "create", "--name", "t", "--org", "nobody"), "organization"),
        (("teams", "create", "--name", "t", "--budget", "10 euros"), "budget"),
        (("teams", "show", "nobody"), "team"),
    ):
        failed = tollway(*arguments)
        assert failed.returncode in (1, 2), arguments
        assert part in failed.stderr
