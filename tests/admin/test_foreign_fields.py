# ruff: noqa: E501  (one field a line)
"""What keys, teams, members and customers carry in LiteLLM and Portkey has a place here: each field, given natively,
is kept and shown."""

from __future__ import annotations

import json

import msgspec
import pytest

from tollway.admin import customers, keys, members, organizations, projects, tags, teams, users
from tollway.admin.customers import NewCustomer
from tollway.admin.key_terms import NewKey
from tollway.admin.members import NewMember
from tollway.admin.organizations import NewOrganization
from tollway.admin.projects import NewProject
from tollway.admin.spend import Raise
from tollway.admin.tags import NewTag
from tollway.admin.teams import NewTeam
from tollway.admin.users import NewUser

# The foreign field: (given here, where the answer shows it, what it shows)
TERMS = {
    "max_budget": ({"budget": {"usd": 12.5}}, "budgets.0.limit", 12_500_000_000),
    "soft_budget": ({"budget": {"usd": 10, "soft": 8}}, "budgets.0.soft", 8_000_000_000),
    "budget_duration": ({"budget": {"usd": 1, "per": "30d"}}, "budgets.0.per", "30d"),
    "budget_limits": ({"budget": ["1usd/day", "10usd/month"]}, "budgets.1.limit", 10_000_000_000),
    "model_max_budget": ({"budget": [{"usd": 1, "per": "day", "models": ["gpt-*", "group:cheap"]}]}, "budgets.0.models", ["gpt-*", "group:cheap"]),
    "rpm_limit": ({"limits": {"rpm": 5}}, "limits.rpm", 5),
    "tpm_limit": ({"limits": {"tpm": 5}}, "limits.tpm", 5),
    "tpd_limit": ({"limits": {"tpd": 5}}, "limits.tpd", 5),
    "max_parallel_requests": ({"limits": {"parallel": 5}}, "limits.parallel", 5),
    "model_rpm_limit": ({"limits": [{"rpm": 5, "models": ["fast"]}]}, "more_limits.0", {"rpm": 5, "models": ["fast"]}),
    "model_tpm_limit": ({"limits": [{"tpm": 5, "models": ["fast"]}]}, "more_limits.0.tpm", 5),
    "model_itpm_limit": ({"limits": [{"tpm": 5, "count": "input", "models": ["fast"]}]}, "more_limits.0.count", "input"),
    "model_otpm_limit": ({"limits": [{"tpm": 5, "count": "output", "models": ["fast"]}]}, "more_limits.0.count", "output"),
    "models": ({"models": ["fast", "openai/*"]}, "models", ["fast", "openai/*"]),
    "access_group_ids": ({"models": ["group:cheap"]}, "models", ["group:cheap"]),
    "aliases": ({"aliases": {"gpt-4": "fast"}}, "aliases", {"gpt-4": "fast"}),
    "allowed_routes": ({"routes": ["chat.completions", "info"]}, "routes", ["chat.completions", "info"]),
    "denied_passthrough_routes": ({"denied_routes": ["pass_through"]}, "denied_routes", ["pass_through"]),
    "object_permission.mcp_servers": ({"mcp_servers": ["docs"]}, "mcp_servers", ["docs"]),
    "throttle_on_budget_exceeded": ({"budget": {"usd": 1, "on_tight": "clamp"}}, "budgets.0.on_tight", "clamp"),
    "metadata": ({"metadata": {"owner": "x"}}, "metadata", {"owner": "x"}),
    "guardrails": ({"metadata": {"litellm.guardrails": json.dumps(["pii", "toxicity"])}}, "metadata", {"litellm.guardrails": '["pii", "toxicity"]'}),
    "usage_limits.type tokens": ({"budget": {"tokens": 1000, "per": "week"}}, "budgets.0.unit", "tokens"),
    "usage_limits.type requests": ({"budget": {"requests": 1000}}, "budgets.0.unit", "requests"),
    "usage_limits.alert_threshold": ({"budget": {"usd": 1, "alert_at": [80]}}, "budgets.0.alert_at", [80]),
    "usage_limits.periodic_reset": ({"budget": {"usd": 1, "per": "month"}}, "budgets.0.per", "month"),
    "usage_limits.periodic_reset_days": ({"budget": {"usd": 1, "per": "45d"}}, "budgets.0.per", "45d"),
    "usage_limits.next_usage_reset_at": ({"budget": {"usd": 1, "per": "month", "first_day": 15}}, "budgets.0.first_day", 15),
    "rate_limits.unit rps": ({"limits": {"rps": 5}}, "limits.rps", 5),
    "rate_limits.unit rph": ({"limits": {"rph": 5}}, "limits.rph", 5),
    "rate_limits.unit rpd": ({"limits": {"rpd": 5}}, "limits.rpd", 5),
    "rate_limits.unit rpw": ({"limits": {"rpw": 5}}, "limits.rpw", 5),
    "description": ({"description": "x"}, "description", "x"),
    "expires_at": ({"expires": "2100-01-01"}, "expires_at", "2100-01-01T00:00:00.000Z"),
}  # fmt: skip

KEY_ONLY = {
    "key_alias": ({"name": "an alias"}, "name", "an alias"),
    "tags": ({"tags": ["prod"]}, "tags", ["prod"]),
    "end_user": ({"customer": "u1"}, "customer", "u1"),
    "team_id": ({"team": "t"}, "team", "t"),
    "organization_id": ({"organization": "o"}, "organization", "o"),
    "project_id": ({"project": "p"}, "project", "p"),
    "user_id": ({"user": "u"}, "user", "u"),
    "service account": ({"team": "t", "service": True}, "service", True),
}

LEVELS = {
    "key": (keys.create, NewKey),
    "organization": (organizations.create, NewOrganization),
    "team": (teams.create, NewTeam),
    "project": (projects.create, NewProject),
    "user": (users.create, NewUser),
    "customer": (customers.create, NewCustomer),
    "tag": (tags.create, NewTag),
}


def at(shown: object, path: str) -> object:
    value = json.loads(msgspec.json.encode(shown))
    for part in path.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


@pytest.mark.parametrize("level", LEVELS)
async def test_every_level_holds_every_field(world, level):
    create, kind = LEVELS[level]
    for number, (field, (given, path, value)) in enumerate(TERMS.items()):
        body = {"name": f"n{number}", **given}
        # By way of JSON, as over HTTP.
        made = await create(world.context, msgspec.json.decode(msgspec.json.encode(body), type=kind))
        assert at(made, path) == value, field


@pytest.mark.parametrize("field", KEY_ONLY)
async def test_a_key_holds_where_it_belongs(world, field):
    await organizations.create(world.context, NewOrganization(name="o"))
    await teams.create(world.context, NewTeam(name="t"))
    await projects.create(world.context, NewProject(name="p"))
    await users.create(world.context, NewUser(name="u"))
    given, path, value = KEY_ONLY[field]
    made = await keys.create(world.context, msgspec.convert({"name": "k", **given}, NewKey))
    assert at(made, path) == value


async def test_a_member_holds_what_it_may_do_there(world):
    await teams.create(
        world.context,
        msgspec.convert(
            {
                "name": "t",
                "members": {"budget": "5usd/30d", "limits": {"rpm": 3, "tpm": 9}, "models": ["fast"]},
                "keys": {"budget": "1usd/day"},
            },
            NewTeam,
        ),
    )
    await users.create(world.context, NewUser(name="u"))
    body = {
        "user": "u",
        "role": "admin",
        "budget": "7usd/month",
        "limits": {"tpm": 5, "rpm": 2},
        "models": ["smart"],
    }
    made = await members.add_to_team(world.context, "t", msgspec.convert(body, NewMember))
    assert (made.role, made.budgets[0].limit, made.terms.limits.rpm, made.terms.models) == (
        "admin", 7_000_000_000, 2, ("smart",)
    )  # fmt: skip
    raised = await members.raise_budget_in_team(world.context, "t", "u", Raise(usd=3, until="2100-01-01"))
    assert raised.budgets[0].raised_until == "2100-01-01T00:00:00.000Z"
