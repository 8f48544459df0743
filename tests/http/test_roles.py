"""Who may do what: every action by every role, on what is its own, its team's, its organization's and a stranger's.

The table below is written down once more on purpose: a change of the gateway's own has to be meant.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from governed import ROLES, Governed, governed
from tollway.admin.action import Action
from tollway.admin.actions import ACTIONS
from tollway.admin.permissions import PERMISSIONS
from tollway.model.tenant import AccessGroup, Membership, Tenant
from tollway.storage.repositories.admin_tokens import AdminToken

# E everything, O the organization and what lies in it, T the team and what lies in it, o one's own, - nothing.
# owner admin auditor org_admin team_admin member viewer
MAY = {
    "keys.create": "E E - O T o -",
    "keys.bulk": "E E - O T o -",
    "keys.list": "E E E O T o T",
    "keys.self": "- - - - - - -",
    "keys.get": "E E E O T o T",
    "keys.update": "E E - O T o -",
    "keys.block": "E E - O T o -",
    "keys.unblock": "E E - O T o -",
    "keys.revoke": "E E - O T o -",
    "keys.rotate": "E E - O T o -",
    "keys.transfer": "E E - O T - -",
    "keys.reset_spend": "E E - O T - -",
    "keys.raise_budget": "E E - O T - -",
    "organizations.create": "E E - - - - -",
    "organizations.bulk": "E E - - - - -",
    "organizations.list": "E E E O - - -",
    "organizations.get": "E E E O - - -",
    "organizations.update": "E E - - - - -",
    "organizations.delete": "E E - - - - -",
    "organizations.block": "E E - - - - -",
    "organizations.unblock": "E E - - - - -",
    "organizations.reset_spend": "E E - - - - -",
    "organizations.raise_budget": "E E - - - - -",
    "teams.create": "E E - O - - -",
    "teams.bulk": "E E - O - - -",
    "teams.list": "E E E O T T T",
    "teams.get": "E E E O T T T",
    "teams.update": "E E - O - - -",
    "teams.delete": "E E - O - - -",
    "teams.block": "E E - O - - -",
    "teams.unblock": "E E - O - - -",
    "teams.reset_spend": "E E - O - - -",
    "teams.raise_budget": "E E - O - - -",
    "teams.transfer": "E E - - - - -",
    "projects.create": "E E - O T - -",
    "projects.bulk": "E E - O T - -",
    "projects.list": "E E E O T T T",
    "projects.get": "E E E O T T T",
    "projects.update": "E E - O T - -",
    "projects.delete": "E E - O T - -",
    "projects.block": "E E - O T - -",
    "projects.unblock": "E E - O T - -",
    "projects.reset_spend": "E E - O T - -",
    "projects.raise_budget": "E E - O T - -",
    "users.create": "E E - O - - -",
    "users.bulk": "E E - O - - -",
    "users.list": "E E E O T o o",
    "users.get": "E E E O T o o",
    "users.update": "E E - O - - -",
    "users.delete": "E E - O - - -",
    "users.block": "E E - O - - -",
    "users.unblock": "E E - O - - -",
    "users.reset_spend": "E E - O - - -",
    "users.raise_budget": "E E - O - - -",
    "tokens.create": "E o o o o o o",
    "tokens.list": "E E E o o o o",
    "tokens.delete": "E E o o o o o",
    "customers.create": "E E - O - - -",
    "customers.bulk": "E E - O - - -",
    "customers.list": "E E E O - - -",
    "customers.get": "E E E O - - -",
    "customers.update": "E E - O - - -",
    "customers.delete": "E E - O - - -",
    "customers.block": "E E - O - - -",
    "customers.unblock": "E E - O - - -",
    "customers.reset_spend": "E E - O - - -",
    "customers.raise_budget": "E E - O - - -",
    "tags.create": "E E - - - - -",
    "tags.bulk": "E E - - - - -",
    "tags.list": "E E E - - - -",
    "tags.get": "E E E - - - -",
    "tags.update": "E E - - - - -",
    "tags.delete": "E E - - - - -",
    "tags.block": "E E - - - - -",
    "tags.unblock": "E E - - - - -",
    "tags.reset_spend": "E E - - - - -",
    "tags.raise_budget": "E E - - - - -",
    "members.add_to_team": "E E - O T - -",
    "members.list_of_team": "E E E O T T T",
    "members.update_in_team": "E E - O T - -",
    "members.remove_from_team": "E E - O T - -",
    "members.reset_spend_in_team": "E E - O T - -",
    "members.raise_budget_in_team": "E E - O T - -",
    "members.add_to_organization": "E E - O T - -",
    "members.list_of_organization": "E E E O T T T",
    "members.update_in_organization": "E E - O T - -",
    "members.remove_from_organization": "E E - O T - -",
    "members.reset_spend_in_organization": "E E - O T - -",
    "members.raise_budget_in_organization": "E E - O T - -",
    "access_groups.create": "E E - - - - -",
    "access_groups.list": "E E E - - - -",
    "access_groups.get": "E E E - - - -",
    "access_groups.update": "E E - - - - -",
    "access_groups.delete": "E E - - - - -",
    "budgets.list": "E E E O T o T",
    "adjustments.list": "E E E - - - -",
    "events.list": "E E E O T o T",
    "corrections.create": "E E - - - - -",
    "usage.report": "E E E O T o T",
    "models.list": "E E E - - - -",
    "models.providers": "E E E - - - -",
    "configuration.effective": "E E E - - - -",
    "configuration.reload": "E E - - - - -",
    "configuration.status": "E E E - - - -",
}

REACH = {"E": ("own", "team", "organization", "other", "everywhere"), "O": ("own", "team", "organization"),
         "T": ("own", "team"), "o": ("own",), "-": ()}  # fmt: skip

POSITIONS = {
    "key": ("own", "team", "organization", "other"),
    "team": ("team", "organization", "other"),
    "project": ("team", "organization", "other"),
    "user": ("own", "team", "organization", "other"),
    "organization": ("organization", "other"),
    "customer": ("organization", "other"),
    "tag": ("everywhere",),
    "access_group": ("everywhere",),
}
"""Where an object of each noun may lie, as seen from organization a, team one."""

ENDS = ("delete", "revoke", "transfer")
TEAM = {"own": "a.one", "team": "a.one", "organization": "a.two", "other": "b.one"}
HOME = {"own": "a", "team": "a", "organization": "a", "other": "b", "everywhere": None}
MATE = {"team": "a.mate-one", "organization": "a.mate-two", "other": "b.mate-one"}

_numbers = itertools.count()


class Ask(NamedTuple):
    method: str
    path: str
    body: object
    bulk: bool = False


def noun_of(action: Action) -> str:
    """The noun whose position decides; of what is created, the noun itself."""
    parameters = re.findall(r"{(\w+)}", action.path)
    if parameters:
        return parameters[0]
    noun = action.name.partition(".")[0].removesuffix("s")
    return noun if action.name.endswith((".create", ".bulk")) and noun in POSITIONS else "tag"


def positions(action: Action) -> tuple[str, ...]:
    noun = noun_of(action)
    if action.name.endswith((".create", ".bulk")) and noun in ("team", "user", "organization"):
        return ("organization", "other") if noun != "organization" else ("everywhere",)
    return POSITIONS[noun]


async def prepare(world: Governed, action: Action, role: str, position: str) -> Ask:
    """The request of one cell. What ends something gets something fresh to end."""
    noun, verb = action.name.split(".")
    number = next(_numbers)
    of = noun_of(action)
    path = action.path
    fresh = verb in ENDS or verb.startswith("remove")
    if "{" in path:
        id = await target(world, of, position, role, fresh and noun not in ("members", "tokens"))
        path = path.replace("{" + of + "}", id)
        if "{user}" in path:
            level = "organization" if of == "organization" else "team"
            path = path.replace("{user}", await member(world, level, id, fresh))
        if "{token}" in path:
            path = path.replace("{token}", await fresh_token(world, id))
        return Ask(action.method, path, await body_of(world, action, position))
    if verb in ("create", "bulk") and noun != "corrections":
        made = new_body(of, position, role, f"new {number}" if of != "access_group" else f"new-{number}")
        return Ask(action.method, path, {"create": [made]} if verb == "bulk" else made, verb == "bulk")
    if noun == "corrections":
        return Ask(action.method, path, {"corrects": "ue_nobody_1", "cost_nano_usd": 1})
    return Ask(action.method, path, None)


async def target(world: Governed, noun: str, position: str, role: str, fresh: bool) -> str:
    number = next(_numbers)
    usual = {
        "key": {"own": f"key_own-{role}", "team": "key_mate-one", "organization": "key_mate-two",
                "other": "key_stranger"},
        "team": TEAM,
        "project": {at: f"{team}-p" for at, team in TEAM.items()},
        "user": {"own": role, **MATE},
        "organization": HOME,
        "customer": {"organization": "a.end user", "other": "b.end user"},
        "tag": {"everywhere": "batch"},
        "access_group": {"everywhere": "cheap"},
    }[noun][position]  # fmt: skip
    if not fresh:
        return usual
    id, home = f"fresh-{number}", HOME[position]
    if noun == "key":
        user = {"own": role, **MATE}[position]
        await world.key(id, home, TEAM[position], user)
        await world.changed()
        return f"key_{id}"
    if noun == "access_group":
        await world.tenants.put_group(AccessGroup(id=id, name=id))
        return id
    team = TEAM[position] if noun == "project" else None
    await world.tenants.add(
        Tenant(level=noun, id=id, name=id, organization=None if noun == "organization" else home, team=team)
    )
    return id


async def member(world: Governed, level: str, id: str, fresh: bool) -> str:
    """A member of a team or an organization."""
    usual = {
        "a.one": "a.mate-one",
        "a.two": "a.mate-two",
        "b.one": "b.mate-one",
        "a": "a.mate-one",
        "b": "b.mate-one",
    }
    if not fresh and level == "team":
        return usual[id]
    user = f"guest-{next(_numbers)}" if fresh else usual[id]
    if fresh:
        await world.tenants.add(Tenant(level="user", id=user, name=user, organization=id.partition(".")[0]))
    await world.tenants.put_member(Membership(level=level, tenant=id, user=user, terms=world.usual_terms))
    return user


async def fresh_token(world: Governed, user: str) -> str:
    id = f"tok_fresh{next(_numbers)}"
    await world.tokens.add(
        AdminToken(
            id=id, user=user, name=id, hash=id, hint="…", created_at=time.time(), expires_at=time.time() + 60
        )
    )
    return id


async def body_of(world: Governed, action: Action, position: str) -> object:
    noun, verb = action.name.split(".")
    if verb.startswith("add_to"):
        user = f"guest-{next(_numbers)}"
        await world.tenants.add(Tenant(level="user", id=user, name=user, organization=HOME[position]))
        return {"user": user}
    if verb.startswith("raise_budget"):
        return {"usd": 1, "until": "1d"}
    if verb == "transfer":
        return {"organization": "b"} if noun == "teams" else {"user": None}
    if verb.startswith("update"):
        return {"role": "member"} if noun == "members" else {"description": "changed"}
    return {"name": "laptop"} if action.name == "tokens.create" else {} if action.method == "POST" else None


def new_body(noun: str, position: str, role: str, name: str) -> dict[str, object]:
    body: dict[str, object] = {"name": name}
    if noun in ("team", "user", "customer"):
        body["organization"] = HOME[position]
    if noun in ("project", "key"):
        body["team"] = TEAM[position]
    if noun == "key" and position in ("own", "team"):
        in_team = role in ("team_admin", "member", "viewer")
        body["user"] = role if position == "own" and in_team else "a.mate-one"
    return body


def cells(action: Action) -> Iterator[tuple[str, str, str]]:
    """(role, position, whether it may: yes, unknown or forbidden)."""
    for role, letter in zip(ROLES, MAY[action.name].split(), strict=True):
        for position in positions(action):
            if letter == "-":
                yield role, position, "forbidden"
            elif (
                position == "everywhere" and not action.path.count("{") and not action.name.endswith("create")
            ):
                yield role, position, "yes"
            else:
                yield role, position, "yes" if position in REACH[letter] else "unknown"


def outcome(ask: Ask, answer: object) -> str:
    """What an answer says: yes, unknown, forbidden, or the answer itself."""
    status = answer.status_code
    if status == 403:
        return "forbidden"
    if status == 404:
        return "unknown"
    if ask.bulk and status == 200:
        (result,) = answer.json()["data"]
        return (
            "yes" if result["status"] == "ok" else "unknown" if result["code"] == "not_found" else answer.text
        )
    return "yes" if status < 300 else f"{status} {answer.text}"


NOUNS = sorted({action.name.partition(".")[0] for action in ACTIONS})


def test_the_table_has_every_action_and_no_other() -> None:
    assert set(MAY) == {action.name for action in ACTIONS}
    assert {action.permission for action in ACTIONS} | {"users.grant"} == set(PERMISSIONS)


@pytest.mark.parametrize("noun", NOUNS)
async def test_every_cell(noun: str, tmp_path: Path) -> None:
    wrong = []
    async with governed(tmp_path) as world:
        for action in ACTIONS:
            if action.name.partition(".")[0] != noun:
                continue
            for role, position, expected in cells(action):
                ask = await prepare(world, action, role, position)
                answer = await world.ask(role, ask.method, ask.path, ask.body)
                found = outcome(ask, answer)
                if action.name == "users.block" and found == "yes":
                    await world.must(
                        "POST", ask.path.replace("/block", "/unblock")
                    )  # it may have been the asker
                if action.name == "corrections.create" and expected == "yes":
                    found = "yes" if found != "forbidden" else found
                if found != expected:
                    wrong.append(f"{action.name} by {role} on {position}: {expected} expected, {found}")
    assert not wrong, "\n".join(wrong)
