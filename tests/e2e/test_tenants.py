"""Teams, users and their keys on a real gateway: what the API says holds for the next request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2

from running import ADMIN, Gateway, Reply, ask, chat, gateway, provider
from tollway.simulator.running import RunningSimulator

PRICE = {"input": 1, "output": 2}
MODELS: dict[str, object] = {
    "fast": {"model": "sim/fast+tokens=8", "price": PRICE},
    "smart": {"model": "sim/smart+tokens=8", "price": PRICE},
}


def config(upstream: RunningSimulator, **more: object) -> dict[str, object]:
    return {"providers": {"sim": provider(upstream)}, "models": MODELS, **more}


async def call(running: Gateway, key: str, model: str = "fast") -> Reply:
    return await running.ask(chat(model, max_tokens=8), key=key)


def code(reply: Reply) -> str | None:
    return None if reply.status == 200 else str(reply.json()["error"]["code"])


async def test_a_team_bounds_its_keys(tmp_path: Path, upstream: RunningSimulator) -> None:
    async with gateway(tmp_path, config(upstream)) as running:
        api = running.api
        await api("/organizations", {"name": "acme"})
        await api("/teams", {"name": "search", "organization": "acme", "models": ["fast"]})
        key = (await api("/keys", {"name": "k", "team": "acme.search"}))["key"]
        assert code(await call(running, key)) is None
        assert code(await call(running, key, "smart")) == "model_not_allowed"
        await api("/teams/acme.search", {"models": None, "budget": {"requests": 3, "per": "day"}}, "PATCH")
        assert code(await call(running, key, "smart")) is None
        while (last := code(await call(running, key))) is None:
            pass
        assert last == "budget_exceeded"
        spent = (await api("/teams/acme.search"))["budget"]
        assert (spent["unit"], spent["spent"], spent["remaining"]) == ("requests", 3, 0)
        await api("/teams/acme.search/reset_spend", {"reason": "again"}, "POST")
        assert (await api("/teams/acme.search"))["budget"]["spent"] == 0
        assert code(await call(running, key)) is None
        for what, then in (("block", "key_blocked"), ("unblock", None)):
            for noun, id in (("teams", "acme.search"), ("organizations", "acme")):
                await api(f"/{noun}/{id}/{what}", {}, "POST")
            assert code(await call(running, key)) == then
        grouped = await api("/usage", group_by="organization,team")
        assert {(row["organization"], row["team"]) for row in grouped["data"]} == {("acme", "acme.search")}
        before = (await api("/teams/acme.search"))["budget"]["spent"]
        await running.stop()
        await running.start()
        assert (await api("/teams/acme.search"))["budget"]["spent"] == before, (
            "entries are counted at a start too"
        )
        await api("/teams/acme.search", None, "DELETE", cascade="true")
        assert code(await call(running, key)) == "invalid_api_key"


async def test_a_rotated_key_works_on_for_its_grace(tmp_path: Path, upstream: RunningSimulator) -> None:
    async with gateway(tmp_path, config(upstream)) as running:
        old = (await running.api("/keys", {"name": "k"}))["key"]
        new = (await running.api("/keys/k/rotate", {"grace": "1h"}))["key"]
        assert [code(await call(running, key)) for key in (old, new)] == [None, None]
        newest = (await running.api("/keys/k/rotate", {}, "POST"))["key"]
        assert [code(await call(running, key)) for key in (old, new, newest)] == [
            "invalid_api_key", "invalid_api_key", None
        ]  # fmt: skip


async def as_user(
    running: Gateway, token: str, path: str, body: object = None, method: str = ""
) -> tuple[int, Any]:
    reply = await ask(running.port, body, "/api" + path, key=token, method=method)
    return reply.status, reply.json()


async def test_a_user_manages_what_is_its_own(tmp_path: Path, upstream: RunningSimulator) -> None:
    declared = {
        "organizations": [{"name": "acme"}],
        "teams": [{"name": "search", "organization": "acme"}, {"name": "ads", "organization": "acme"}],
        "users": [{"name": "ada", "teams": ["search"]}, {"name": "bob", "teams": ["ads"]}],
    }
    async with gateway(tmp_path, config(upstream, **declared)) as running:
        tokens = {
            name: (await running.api(f"/users/{name}/tokens", {"name": "laptop"}))["token"]
            for name in ("ada", "bob")
        }
        status, made = await as_user(running, tokens["ada"], "/keys", {"name": "mine"})
        assert (status, made["team"], made["user"]) == (201, "acme.search", "ada")
        assert code(await call(running, made["key"])) is None
        assert await as_user(running, made["key"], "/keys/self") != (403, None)
        for token, seen in ((tokens["ada"], 1), (tokens["bob"], 0), (made["key"], 1)):
            _, usage = await as_user(running, token, "/usage")
            _, events = await as_user(running, token, "/events")
            assert (usage["total"]["requests"], len(events["data"])) == (seen, seen)
        assert (await as_user(running, tokens["bob"], f"/keys/{made['id']}"))[0] == 404
        assert (await as_user(running, tokens["bob"], "/status"))[0] == 403
        assert (await as_user(running, "sk-tw-user-nobody", "/keys"))[0] == 401
        assert (await as_user(running, ADMIN, "/keys"))[0] == 200
        file = await ask(running.port, None, "/v1/files", key=tokens["ada"])
        assert file.status == 401, "a token of the admin API calls no model"


async def test_files_and_responses_of_another_organization_do_not_exist(
    tmp_path: Path, upstream: RunningSimulator
) -> None:
    async with gateway(tmp_path, config(upstream)) as running:
        keys = {}
        for name in ("a", "b"):
            await running.api("/organizations", {"name": name})
            await running.api("/teams", {"name": "one", "organization": name})
            made = await running.api(
                "/keys", {"name": "same name", "team": f"{name}.one", "user": "same label"}
            )
            keys[name] = made["key"]
        body = {"model": "fast", "input": "hello", "max_output_tokens": 8}
        answer = await running.ask(body, "/v1/responses", key=keys["a"])
        assert answer.status == 200, answer.body
        id = answer.json()["id"]
        assert (await running.ask(None, f"/v1/responses/{id}", key=keys["a"])).status == 200
        for path in (f"/v1/responses/{id}", f"/v1/responses/{id}/input_items"):
            theirs = await running.ask(None, path, key=keys["b"])
            nobodys = await running.ask(None, path.replace(id, "resp_" + "0" * (len(id) - 5)), key=keys["b"])
            assert theirs.status == nobodys.status == 404
        follow = await running.ask({**body, "previous_response_id": id}, "/v1/responses", key=keys["b"])
        assert follow.status == 404
        wanted = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": chat("fast")}
        line = json.dumps(wanted).encode()
        form = (
            b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            b'--x\r\ncontent-disposition: form-data; name="file"; filename="b.jsonl"\r\n\r\n'
            + line
            + b"\r\n--x--\r\n"
        )
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{running.port}", trust_env=False) as client:

            async def of(name: str, method: str, path: str, **more: Any) -> httpx2.Response:
                headers = {"authorization": f"Bearer {keys[name]}", **more.pop("headers", {})}
                return await client.request(method, path, headers=headers, **more)

            multipart = {"content-type": "multipart/form-data; boundary=x"}
            made = await of("a", "POST", "/v1/files", content=form, headers=multipart)
            assert made.status_code == 200, made.text
            file = made.json()["id"]
            assert [one["id"] for one in (await of("a", "GET", "/v1/files")).json()["data"]] == [file]
            assert (await of("b", "GET", "/v1/files")).json()["data"] == []
            for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
                assert (await of("b", method, f"/v1/files/{file}{path}")).status_code == 404
            assert (await of("a", "GET", f"/v1/files/{file}/content")).json()["custom_id"] == "1"
