"""What is one organization's, no other sees, counts or can infer: two of them behind one API, asked by members of the
first."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from governed import Governed, governed
from tollway.admin.actions import ACTIONS
from tollway.model.tenant import Tenant

INSIDERS = ("org_admin", "team_admin", "member", "viewer")
TRACES = re.compile(r"org b|stranger|\bb\.(one|two|mate|end)|\"b\"|:b:|/b\b")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Governed]:
    async with governed(tmp_path) as made:
        await made.spend()
        yield made


def visible_paths() -> list[str]:
    """Every list and report that a scoped role may ask for."""
    plain = [action.path for action in ACTIONS if action.method == "GET" and "{" not in action.path]
    grouped = (
        "organization",
        "team",
        "project",
        "user",
        "key",
        "key_id",
        "customer",
        "tag",
        "model",
        "day",
        "hour",
    )
    return [*plain, *(f"/usage?group_by={name}" for name in grouped), "/usage?group_by=team,key&format=csv"]


@pytest.mark.parametrize("role", INSIDERS)
async def test_no_list_shows_a_stranger(world: Governed, role: str) -> None:
    seen = 0
    for path in visible_paths():
        answer = await world.ask(role, "GET", path)
        assert answer.status_code in (200, 403), path
        assert not TRACES.search(answer.text), path
        seen += answer.status_code == 200 and "a.one" in answer.text
        everything = await world.ask("admin key", "GET", path)
        if path.startswith(("/keys", "/teams", "/users", "/projects", "/customers", "/events", "/budgets")):
            assert path == "/keys/self" or TRACES.search(everything.text), (
                f"{path} tells nothing in this test"
            )
    assert seen >= 3


async def test_each_role_lists_what_it_may(world: Governed) -> None:
    async def names(role: str, path: str) -> set[str]:
        return {one["id"] for one in (await world.ask(role, "GET", path)).json()["data"]}

    assert await names("org_admin", "/teams") == {"a.one", "a.two"}
    assert await names("member", "/teams") == {"a.one"}
    assert await names("org_admin", "/organizations") == {"a"}
    assert await names("member", "/keys") == {"key_own-member"}
    in_team = {f"key_own-{role}" for role in ("owner", "admin", "auditor", *INSIDERS)} | {"key_mate-one"}
    assert await names("viewer", "/keys") == in_team
    assert await names("org_admin", "/keys") == in_team | {"key_mate-two"}
    assert await names("auditor", "/keys") == in_team | {"key_mate-two", "key_stranger"}
    assert await names("member", "/users") == {"member"}
    assert await names("team_admin", "/users") == {"a.mate-one", "team_admin", "member", "viewer"}
    assert await names("org_admin", "/customers") == {"a.end user"}
    assert await names("team_admin", "/projects") == {"a.one-p"}


@pytest.mark.parametrize("role", INSIDERS)
async def test_counts_and_sums_are_ones_own(world: Governed, role: str) -> None:
    keys = (await world.ask(role, "GET", "/keys")).json()["data"]
    usage = (await world.ask(role, "GET", "/usage")).json()["total"]
    events = (await world.ask(role, "GET", "/events")).json()["data"]
    assert usage["requests"] == len(events) == len(keys)
    assert usage["cost_nano_usd"] == sum(event["cost_nano_usd"] for event in events)
    budgets = (await world.ask(role, "GET", "/budgets")).json()
    assert budgets["total"] == len(budgets["data"])
    assert (await world.ask(role, "GET", "/budgets?limit=1")).json()["total"] == budgets["total"]


@pytest.mark.parametrize("role", INSIDERS)
async def test_searches_and_filters_find_nothing_elsewhere(world: Governed, role: str) -> None:
    for path in (
        "/keys?search=stranger", "/keys?team=b.one", "/keys?organization=b", "/keys?user=b.mate-one",
        "/events?team=b.one", "/events?organization=b", "/events?key=key_stranger", "/events?user=b.mate-one",
        "/events?request_id=key_stranger", "/usage?team=b.one&group_by=team", "/usage?key=key_stranger&group_by=key",
    ):  # fmt: skip
        assert (await world.ask("auditor", "GET", path)).json()["data"], f"{path} finds nothing at all"
        answer = await world.ask(role, "GET", path)
        assert answer.json()["data"] == [], path
        nobody = re.sub(r"=(b\b|b\.one|b\.mate-one|key_stranger|stranger)", "=nobody", path)
        assert answer.json() == (await world.ask(role, "GET", nobody)).json(), path
    for path in (
        "/teams?search=b.one",
        "/users?search=b.mate",
        "/users?organization=b",
        "/projects?team=b.one",
    ):
        answer = await world.ask(role, "GET", path)
        assert answer.json()["data"] == [], path


async def test_a_cursor_of_others_opens_nothing(world: Governed) -> None:
    for noun in ("keys", "teams", "users", "events"):
        cursor = (await world.ask("admin key", "GET", f"/{noun}?limit=1")).json()["next_cursor"]
        answer = await world.ask("member", "GET", f"/{noun}", query={"cursor": cursor})
        assert answer.status_code == 200
        assert not TRACES.search(answer.text)


STRANGERS = {
    "key": "key_stranger", "team": "b.one", "project": "b.one-p", "user": "b.mate-one", "organization": "b",
    "customer": "b.end user",
}  # fmt: skip


@pytest.mark.parametrize("role", INSIDERS)
async def test_an_id_of_others_answers_like_one_nobody_has(world: Governed, role: str) -> None:
    asked = 0
    for action in ACTIONS:
        names = re.findall(r"{(\w+)}", action.path)
        if not names or names[0] not in STRANGERS:
            continue
        answers = []
        for id in (STRANGERS[names[0]], "nobody"):
            path = action.path.replace("{" + names[0] + "}", id)
            path = re.sub(r"{\w+}", "b.mate-one", path)
            body: dict[str, object] = {"organization": None} if action.name == "teams.transfer" else {}
            if action.name.startswith(("tokens.create", "members.add")):
                body = {"name": "x"} if action.name == "tokens.create" else {"user": "b.mate-one"}
            answer = await world.ask(role, action.method, path, body if action.body is not None else None)
            answers.append((answer.status_code, answer.text))
        assert answers[0] == answers[1], action.name
        assert answers[0][0] in (403, 404), action.name
        asked += 1
    assert asked >= 60


async def test_names_in_bodies_answer_alike(world: Governed) -> None:
    pairs = (
        ("POST", "/keys", {"name": "k", "team": "b.one"}),
        ("POST", "/keys", {"name": "k", "team": "a.one", "user": "b.mate-one"}),
        ("POST", "/keys", {"name": "k", "organization": "b"}),
        ("POST", "/keys", {"name": "k", "project": "b.one-p"}),
        ("PATCH", "/keys/key_mate-one", {"team": "b.one"}),
        ("POST", "/keys/key_mate-one/transfer", {"user": "b.mate-one"}),
        ("POST", "/keys/key_mate-one/transfer", {"organization": "b"}),
        ("POST", "/teams", {"name": "t", "organization": "b"}),
        ("POST", "/projects", {"name": "p", "team": "b.one"}),
        ("POST", "/users", {"name": "u", "organization": "b"}),
        ("POST", "/customers", {"name": "c", "organization": "b"}),
        ("POST", "/teams/a.one/members", {"user": "b.mate-one"}),
    )
    for role in ("org_admin", "team_admin"):
        for method, path, body in pairs:
            unknown = json.loads(re.sub(r'"(b|b\.[\w-]+)"', '"nobody"', json.dumps(body)))
            answer = await world.ask(role, method, path, body)
            other = await world.ask(role, method, path, unknown)
            assert (answer.status_code, answer.text) == (other.status_code, other.text), (role, path, body)
            assert answer.status_code in (403, 404), (role, path, body, answer.text)


async def test_what_others_call_theirs_is_free(world: Governed) -> None:
    for path, body in (
        ("/teams", {"name": "theirs"}),
        ("/projects", {"name": "theirs"}),
        ("/users", {"name": "theirs", "email": "ada@example.com"}),
        ("/customers", {"name": "theirs"}),
        ("/keys", {"name": "theirs"}),
    ):
        made = await world.must("POST", path, {**body, "organization": "b"})
        mine = await world.ask("org_admin", "POST", path, {**body, "organization": "a"})
        assert mine.status_code == 201, (path, mine.text)
        assert mine.json()["id"] != made["id"]
        again = await world.ask("org_admin", "POST", path, {"name": "theirs", "organization": "a"})
        assert (again.status_code, again.json()["error"]["param"]) == (409, "name"), path


async def test_ids_of_ones_own_tell_nothing(world: Governed) -> None:
    taken = await world.ask("org_admin", "POST", "/teams", {"name": "x", "id": "b.one"})
    free = await world.ask("org_admin", "POST", "/teams", {"name": "x", "id": "b.nobody"})
    assert (taken.status_code, taken.text) == (free.status_code, free.text)
    assert taken.status_code == 400
    assert (await world.ask("org_admin", "POST", "/teams", {"name": "x", "id": "a.mine"})).status_code == 201


async def test_a_virtual_key_sees_itself_only(world: Governed) -> None:
    me = await world.ask("key own-member", "GET", "/keys/self")
    assert me.json()["id"] == "key_own-member"
    events = (await world.ask("key own-member", "GET", "/events")).json()["data"]
    assert [event["key_id"] for event in events] == ["key_own-member"]
    assert (await world.ask("key own-member", "GET", "/usage")).json()["total"]["requests"] == 1
    assert (await world.ask("key own-member", "GET", "/events?key=key_stranger")).json()["data"] == []
    for action in ACTIONS:
        if action.path not in ("/keys/self", "/usage", "/events"):
            path = re.sub(r"{\w+}", "key_own-member", action.path)
            assert (await world.ask("key own-member", action.method, path)).status_code == 403, action.name


async def test_a_token_is_as_strong_as_its_user_is_now(world: Governed) -> None:
    assert (await world.ask("member", "GET", "/keys")).status_code == 200
    await world.must("POST", "/users/member/block")
    refused = await world.ask("member", "GET", "/keys")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "key_blocked")
    await world.must("POST", "/users/member/unblock")
    await world.must("DELETE", "/teams/a.one/members/member")
    assert (await world.ask("member", "GET", "/teams")).json()["data"] == []
    assert (await world.ask("member", "POST", "/keys", {"name": "k"})).status_code == 403
    await world.must("PATCH", "/users/team_admin", {"expires": "1s"})
    user = (await world.context.society()).tenants["user", "team_admin"]
    await world.tenants.put(replace(user, expires_at=time.time() - 1))
    assert (await world.ask("team_admin", "GET", "/keys")).json()["error"]["code"] == "key_expired"
    await world.must("POST", "/keys/key_own-viewer/revoke")
    await world.must("DELETE", "/users/viewer")
    assert (await world.ask("viewer", "GET", "/keys")).status_code == 401
    minted = await world.must("POST", "/users/auditor/tokens", {"name": "mine"})
    world_token = str(minted["token"])
    answer = await world.client.get("/api/keys", headers={"authorization": f"Bearer {world_token}"})
    assert answer.status_code == 200
    await world.must("DELETE", f"/users/auditor/tokens/{minted['id']}")
    answer = await world.client.get("/api/keys", headers={"authorization": f"Bearer {world_token}"})
    assert answer.status_code == 401
    assert world_token not in json.dumps(await world.must("GET", "/users/auditor/tokens"))


async def test_a_role_over_the_gateway_is_given_by_owners_only(world: Governed) -> None:
    for who, status in (("admin", 403), ("org_admin", 403), ("owner", 201)):
        body = {"name": f"by {who}", "organization": "a", "role": "admin"}
        assert (await world.ask(who, "POST", "/users", body)).status_code == status, who
    assert (await world.ask("admin", "PATCH", "/users/auditor", {"role": "owner"})).status_code == 403
    for method, path in (("PATCH", ""), ("POST", "/block"), ("DELETE", "")):
        answer = await world.ask("admin", method, f"/users/owner{path}", {} if method == "PATCH" else None)
        assert answer.status_code == 403, "an owner is changed by owners only"
    # Its home cannot touch whom the gateway trusts.
    for method, path in (("PATCH", ""), ("POST", "/block"), ("DELETE", "")):
        answer = await world.ask(
            "org_admin", method, f"/users/a.by-owner{path}", {} if method == "PATCH" else None
        )
        assert answer.status_code == 404


async def test_a_key_promises_no_more_than_its_team_grants(world: Governed) -> None:
    await world.must("PATCH", "/teams/a.one", {"models": ["fast", "openai/*"], "limits": {"rpm": 10}})
    for body, param in (
        ({"models": ["smart"]}, "models"),
        ({"models": ["fast", "anthropic/x"]}, "models"),
        ({"budget": "6usd/month"}, "budget"),
        ({"limits": {"rpm": 11}}, "limits.rpm"),
    ):
        for role in ("team_admin", "member"):
            answer = await world.ask(role, "POST", "/keys", {"name": "k", "team": "a.one", **body})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), body
        changed = await world.ask("team_admin", "PATCH", "/keys/key_mate-one", body)
        assert (changed.status_code, changed.json()["error"]["param"]) == (400, param), body
    good = {
        "models": ["fast", "openai/gpt-5"],
        "budget": ["5usd/month", "1usd/day"],
        "limits": {"rpm": 10, "tpm": 5},
    }
    answer = await world.ask("member", "POST", "/keys", {"name": "k", **good})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["organization"], made["team"], made["user"], made["created_by"]) == (
        "a",
        "a.one",
        "member",
        "member",
    )


async def test_a_user_of_two_organizations_sees_both_and_no_third(world: Governed) -> None:
    await world.tenants.add(Tenant(level="organization", id="c", name="org c"))
    await world.must("POST", "/organizations/c/members", {"user": "org_admin", "role": "admin"})
    seen = (await world.ask("org_admin", "GET", "/organizations")).json()["data"]
    assert {one["id"] for one in seen} == {"a", "c"}
    ambiguous = await world.ask("org_admin", "POST", "/teams", {"name": "new"})
    assert (ambiguous.status_code, ambiguous.json()["error"]["param"]) == (400, "organization")
    made = await world.ask("org_admin", "POST", "/teams", {"name": "new", "organization": "c"})
    assert made.json()["id"] == "c.new"


async def test_whose_a_key_is_does_not_loosen_what_others_gave(world: Governed) -> None:
    given = (
        await world.ask(
            "team_admin",
            "POST",
            "/keys",
            {"name": "given", "team": "a.one", "user": "member", "budget": "1usd/day"},
        )
    ).json()
    path = f"/keys/{given['id']}"
    assert (await world.ask("team_admin", "POST", f"{path}/block")).status_code == 200
    for body in ({"budget": None}, {"expires": None}, {"tags": ["x"]}, {"aliases": {"a": "b"}}):
        assert (await world.ask("member", "PATCH", path, body)).status_code == 403, body
    assert (await world.ask("member", "POST", f"{path}/unblock")).status_code == 403
    assert (await world.ask("member", "PATCH", path, {"description": "mine"})).status_code == 200
    assert (await world.ask("member", "POST", f"{path}/rotate")).status_code == 200
    assert (await world.ask("team_admin", "POST", f"{path}/unblock")).status_code == 200
    assert (await world.ask("team_admin", "PATCH", path, {"budget": None})).status_code == 200


async def test_a_blocked_organization_gives_no_roles_in_its_teams(world: Governed) -> None:
    assert (await world.ask("team_admin", "GET", "/teams")).json()["data"]
    await world.must("POST", "/organizations/a/block")
    assert (await world.ask("team_admin", "GET", "/teams")).json()["data"] == []
    assert (await world.ask("team_admin", "POST", "/keys", {"name": "k", "team": "a.one"})).status_code == 403
