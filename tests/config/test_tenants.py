# ruff: noqa: E501  (the tables hold whole messages)
"""Organizations, teams and everybody else, as the file declares them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tollway.config.settings import Settings
from tollway.model.tenant import AccessGroup, Membership, Tenant
from tollway.model.terms import Budget, RateLimit, Terms

WHOLE = """
models: {fast: openai/x}
providers: {openai: {}}
access_groups:
- {name: cheap, models: [fast, openai/*], mcp_servers: [search]}
organizations:
- {name: Acme & Sons, budget: 1000usd/month, members: {limits: {rpm: 5}}}
teams:
- name: Search
  organization: Acme & Sons
  models: [group:cheap]
  denied_routes: [images.*]
  budget:
  - {usd: 10, per: month, soft: 8, alert_at: [50, 80], zone: Europe/Berlin, first_day: 15, on_tight: clamp}
  - {tokens: 1000000, per: day, models: [fast], enforce: false, outage: closed}
  - {requests: 500, raise: {requests: 50, until: 2030-01-01}}
  limits: [{rpm: 60, rph: 1000}, {tpm: 100, count: input, cached: false}, {rpm: 5, models: [fast]}]
  keys: {budget: 1usd/day}
projects:
- {name: Rank, team: acme-sons.search, aliases: {big: fast}}
users:
- {name: Ada, email: Ada@Example.com, role: auditor, teams: [Search, ], organizations: [{organization: acme-sons, role: admin, budget: 5usd/day}]}
customers:
- {name: default, limits: {rpm: 1}}
- {name: u 1, organization: acme-sons, blocked: true, expires: 2030-01-01}
tags:
- {name: batch job, budget: 3usd/year, metadata: {cost: "7"}, description: nightly}
keys:
- {name: ci, key: sk-tw-0123456789wxyz, project: Rank, user: Ada, service: true, description: builds, denied_models: [openai/big], limits: [{rps: 3}, {tpd: 9, models: [fast]}]}
- {name: other, key: sk-tw-0123456789abcd, user: whoever}
"""


def test_everything(load: Callable[..., Settings]) -> None:
    settings = load(WHOLE)
    tenants = {(each.level, each.id): each for each in settings.directory.tenants}
    assert set(tenants) == {
        ("organization", "acme-sons"), ("team", "acme-sons.search"), ("project", "acme-sons.rank"),
        ("user", "ada"), ("customer", "default"), ("customer", "acme-sons.u 1"), ("tag", "batch job"),
    }  # fmt: skip
    assert tenants["team", "acme-sons.search"] == Tenant(
        level="team",
        id="acme-sons.search",
        name="Search",
        organization="acme-sons",
        terms=Terms(
            models=("group:cheap",),
            denied_routes=("images.*",),
            budgets=(
                Budget(
                    limit=10**10, per="month", soft=8 * 10**9, alert_at=(50, 80), zone="Europe/Berlin",
                    first_day=15, on_tight="clamp",
                ),
                Budget(limit=10**6, unit="tokens", per="day", models=("fast",), enforce=False, outage="closed"),
                Budget(limit=500, unit="requests", raised_by=50, raised_until=1893456000.0),
            ),
            limits=RateLimit(rpm=60, rph=1000),
            more_limits=(RateLimit(tpm=100, count="input", cached=False), RateLimit(rpm=5, models=("fast",))),
        ),
        keys=Terms(budgets=(Budget(limit=10**9, per="day"),)),
        owner="file",
    )  # fmt: skip
    assert tenants["organization", "acme-sons"].members == Terms(limits=RateLimit(rpm=5))
    assert tenants["project", "acme-sons.rank"].team == "acme-sons.search"
    assert tenants["project", "acme-sons.rank"].organization == "acme-sons"
    assert (tenants["user", "ada"].email, tenants["user", "ada"].role) == ("ada@example.com", "auditor")
    assert tenants["customer", "acme-sons.u 1"].expires_at == 1893456000.0
    assert tenants["tag", "batch job"].metadata == {"cost": "7"}
    assert settings.directory.memberships == (
        Membership(
            level="organization", tenant="acme-sons", user="ada", role="admin", owner="file",
            terms=Terms(budgets=(Budget(limit=5 * 10**9, per="day"),)),
        ),
        Membership(level="team", tenant="acme-sons.search", user="ada", owner="file"),
    )  # fmt: skip
    assert settings.directory.groups == (
        AccessGroup(
            id="cheap", name="cheap", models=("fast", "openai/*"), mcp_servers=("search",), owner="file"
        ),
    )
    key, other = settings.keys
    assert (key.organization, key.team, key.project, key.user) == (
        "acme-sons",
        "acme-sons.search",
        "acme-sons.rank",
        "ada",
    )
    assert key.more == Terms(denied_models=("openai/big",), more_limits=(RateLimit(tpd=9, models=("fast",)),))
    assert (key.limits, key.service, key.description) == (RateLimit(rps=3), True, "builds")
    assert other.user == "whoever", "a user nobody declared stays a label"


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("{id: a}", "a team: name is missing"),
        ("{name: a, organisation: x}", 'unknown setting "organisation" in team a; did you mean "organization"?'),
        ("{name: a, organization: amce}", 'team a: organization: "amce" is not under organizations; did you mean "acme"?'),
        ("{name: a, id: 'a b'}", "team a: id: expected 1 to 200 letters, digits or . _ @ : + -"),
        ("{name: taken}", 'teams: the id "taken" is used twice'),
        ("{name: a, models: [fats]}", 'team a: models names "fats", which is not declared; did you mean "fast"?'),
        ("{name: a, models: [group:x]}", 'team a: models names "group:x", which is not declared'),
        ("{name: a, email: x}", 'unknown setting "email" in team a'),
        ("{name: a, budget: {usd: 1, tokens: 2}}", "budget: names usd and tokens; make a budget for each"),
        ("{name: a, budget: {tokens: 0}}", 'budget.tokens: expected a whole number from 1 to 1000000000000, not "0"'),
        ("{name: a, budget: {usd: 1, soft: 2}}", "budget.soft: must be more than nothing and not more than the budget"),
        ("{name: a, budget: {usd: 1, zone: Berlin}}", 'budget.zone: expected a time zone such as Europe/Berlin, not "Berlin"'),
        ("{name: a, budget: {usd: 1, per: week, first_day: 2}}", "budget.first_day: belongs to a budget per month, quarter or year"),
        ("{name: a, budget: {usd: 1, per: month, first_month: 2}}", "budget.first_month: belongs to a budget per quarter or year"),
        ("{name: a, budget: {usd: 1, raise: {usd: 1}}}", "budget.raise.until is missing: when does the increase end?"),
        ("{name: a, budget: [1usd/day, {usd: 1, per: day, models: [fast]}, 3usd/day]}", "team a: budget: names the same period twice"),
        ("{name: a, limits: [{rpm: 1}, {rpm: 2}]}", "team a: limits: names rpm twice"),
        ("{name: a, limits: [{rpm: 1, models: [fast]}, {rpm: 2, models: [fast]}]}", "team a: limits: names rpm twice for the same models"),
        ("{name: a, limits: {tpm: 1, count: both}}", 'limits.count: expected all or input or output, not "both"'),
        ("{name: a, budget: {usd: 1, outage: shut}}", 'budget.outage: expected lease or closed or open, not "shut"'),
        ("nonsense", "teams: expected an item such as {name: …}"),
    ],
)  # fmt: skip
def test_refused(problems: Callable[..., list[str]], entry: str, problem: str) -> None:
    head = "providers: {openai: {}}\nmodels: {fast: openai/x}\norganizations: [{name: acme}]\nteams:\n  - {name: taken}\n"
    assert f"tollway.yaml:6: {problem}" in problems(f"{head}  - {entry}\n")


def test_one_name_in_two_organizations(load: Callable[..., Settings]) -> None:
    text = "organizations: [{name: a}, {name: b}]\nteams: [{name: x, organization: a}, {name: x, organization: b}]\n"
    assert [each.id for each in load(text).directory.tenants][2:] == ["a.x", "b.x"]


def test_references_must_lead_somewhere(problems: Callable[..., list[str]]) -> None:
    assert problems(
        "organizations: [{name: a}, {name: b}]\nteams: [{name: x, organization: a}, {name: x, organization: b}]\nprojects: [{name: p, team: x}]\n"
    ) == ['tollway.yaml:3: project p: team: several are named "x"; write the id']
    assert problems("teams: [{name: x}]\nusers: [{name: u, teams: [{team: x, role: king}, y]}]\n") == [
        'tollway.yaml:2: user.teams.role: expected admin or member or viewer, not "king"',
        'tollway.yaml:2: teams: "y" is not under teams',
    ]
    assert problems("organizations: [{name: a}]\nkeys: [{name: k, key: abcdefgh, organization: b}]\n") == [
        'tollway.yaml:2: key k: organization "b" is not under organizations'
    ]
