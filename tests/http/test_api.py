"""The admin API over real HTTP: uvicorn on loopback, a real database, real counters, a ledger with events."""

from __future__ import annotations

import asyncio
import csv
import html.parser
import io
import json
import re
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import httpx2
import msgspec
import pyarrow.parquet
import pytest
import uvicorn

from tollway.admin.actions import ACTIONS
from tollway.admin.context import Context
from tollway.admin.times import iso
from tollway.config.settings import ProviderSettings, RedisSettings, Settings
from tollway.errors import ConfigError, InvalidKey, StoreUnavailable
from tollway.http.api import BODY_LIMIT, OPEN_TO_KEYS, create_api
from tollway.model.deployment import Deployment, Route
from tollway.model.event import UsageEvent
from tollway.model.key import ADMIN, ANONYMOUS, Principal, VirtualKey
from tollway.model.price import Price, Rates
from tollway.model.secret import Secret
from tollway.model.usage import Usage
from tollway.shared.claims import claims_of
from tollway.shared.memory import MemoryCounters
from tollway.storage.engine import Database
from tollway.storage.repositories.adjustments import Adjustments
from tollway.storage.repositories.admin_tokens import AdminTokens
from tollway.storage.repositories.events import Events
from tollway.storage.repositories.keys import Keys
from tollway.storage.repositories.ledger import Ledger, read_entry
from tollway.storage.repositories.tenants import Tenants
from tollway.storage.segments import BEGINNING, Position

ADMIN_KEY = "tw-admin-0123456789abcdef"
SECRETS = (ADMIN_KEY, "sk-provider-secret", "hunter2", "header-secret", "f" * 64)
FILE_KEY = VirtualKey(id="key_ffffffffffffffffffff", name="from-file", hash="f" * 64, hint="…", owner="file")
CLIENT_KEY = VirtualKey(id="key_client", name="client", hash="0" * 64, hint="…", owner="file")
ROUTE = Route(
    name="fast",
    targets=(
        Deployment(
            id="openai/gpt-5-mini",
            provider="openai",
            upstream_model="gpt-5-mini",
            price=Price(rates=Rates(input=150_000_000, output=600_000_000), version="7"),
        ),
    ),
)
SETTINGS = Settings(
    admin_key=Secret(ADMIN_KEY),
    source="tollway.yaml",
    redis=RedisSettings(url=Secret("redis://user:hunter2@cache:6379/0")),
    keys=(FILE_KEY,),
    providers=(
        ProviderSettings(
            name="openai",
            type="openai",
            api_key=Secret("sk-provider-secret"),
            base_url="http://me:hunter2@127.0.0.1:8000/v1?token=hunter2",
            headers={"x-team-token": Secret("header-secret")},
        ),
    ),
)


class InUse:
    def __init__(self, keys: Iterable[VirtualKey], generation: int) -> None:
        self._keys = tuple(keys)
        self.generation = generation

    def keys(self) -> Iterable[VirtualKey]:
        return self._keys

    def routes(self) -> Iterable[Route]:
        return (ROUTE,)


class Gateway:
    """The API served on ``port``. ``waiting`` events reach the ledger when it is told to catch up."""

    def __init__(self, directory: Path) -> None:
        self.database = Database.open("sqlite:///tollway.db", directory)
        self.keys = Keys(self.database)
        self.snapshot = InUse((FILE_KEY, CLIENT_KEY), 1)
        self.problems: list[str] = []
        self.failure: Exception | None = None
        self.degraded: dict[str, str] = {}
        self.waiting: list[UsageEvent] = []
        self.place = BEGINNING
        context = Context(
            keys=self.keys,
            events=Events(self.database),
            tenants=Tenants(self.database),
            adjustments=Adjustments(self.database),
            tokens=AdminTokens(self.database),
            snapshot=lambda: self.snapshot,
            counters=MemoryCounters(time.time),
            claims=claims_of,
            changed=self.changed,
            reload=self.reload,
            settings=lambda: SETTINGS,
            flush=self.flush,
            status=lambda: self.degraded,
        )
        self.app = create_api(context, self.authorize)
        self.client: httpx2.AsyncClient

    def authorize(self, headers: list[tuple[bytes, bytes]]) -> Principal:
        sent = dict(headers).get(b"authorization", b"").decode("latin-1").removeprefix("Bearer ")
        if sent == "anonymous":
            return ANONYMOUS
        if sent == "a-virtual-key":
            return Principal(kind="key", key=CLIENT_KEY)
        if sent == "store-is-away":
            raise StoreUnavailable("the database does not answer")
        if sent != ADMIN_KEY:
            raise InvalidKey("this key is not known")
        return ADMIN

    async def changed(self) -> None:
        self.snapshot = InUse((FILE_KEY, CLIENT_KEY, *await self.keys.all()), self.snapshot.generation + 1)

    async def reload(self) -> list[str]:
        if self.failure is not None:
            raise self.failure
        if self.problems:
            raise ConfigError(self.problems)
        await self.changed()
        return []

    async def flush(self) -> None:
        entries = [read_entry(msgspec.json.encode(event)) for event in self.waiting]
        self.waiting.clear()
        if entries:
            after = Position(1, self.place.offset + len(entries))
            await Ledger(self.database).append(entries, "spool", self.place, after)
            self.place = after

    def spend(self, **fields: object) -> None:
        given = {
            "id": f"ue_{len(self.waiting)}_{self.place.offset}",
            "request_id": "r1",
            "time": iso(time.time()),
            "key": "ci",
            "key_id": "key_ci",
            "endpoint": "chat.completions",
            "model": "fast",
            "provider": "openai",
            "upstream_model": "gpt-5-mini",
            "deployment": "openai/gpt-5-mini",
            "status": 200,
            "outcome": "ok",
            "usage": Usage(input=42, output=31),
            "cost_nano_usd": 24_900,
            "raw_usage": msgspec.Raw(b'{"prompt_tokens":42,"odd":[1.50]}'),
        }
        self.waiting.append(UsageEvent(**{**given, **fields}))  # type: ignore[arg-type]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    made = Gateway(tmp_path)
    await made.database.migrate()
    # Named as TCP, so that asyncio switches its delay off: an answer would otherwise wait 40 ms for the ACK.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(made.app, log_level="critical", lifespan="off", loop="none"))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    async with httpx2.AsyncClient(base_url=address, headers=headers, trust_env=False, timeout=20) as client:
        made.client = client
        yield made
    server.should_exit = True
    await serving
    await made.database.close()


def refusal(answer: httpx2.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    assert set(error) >= {"message", "type", "code", "param"}
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.headers["x-tollway-request-id"]) >= 16
    assert "Traceback" not in answer.text
    return answer.status_code, error["code"], error["param"]


PATHS = [(action.method, "/api" + re.sub(r"{\w+}", "from-file", action.path)) for action in ACTIONS]
BESIDE = [("GET", "/api/openapi.json"), ("GET", "/api/docs"), ("GET", "/api"), ("GET", "/api/nothing/there")]


async def test_every_path_refuses_all_but_the_administrator(gateway):
    assert len({path for _, path in PATHS}) >= 13
    for method, path in (*PATHS, *BESIDE):
        for credential, expected in (
            (None, (401, "invalid_api_key", None)),
            ("nobody-knows-me", (401, "invalid_api_key", None)),
            ("anonymous", (401, "invalid_api_key", None)),
            ("a-virtual-key", (403, "permission_denied", None)),
            ("store-is-away", (503, "store_unavailable", None)),
        ):
            headers = {"authorization": f"Bearer {credential}"} if credential else {"authorization": ""}
            answer = await gateway.client.request(method, path, headers=headers, json={"name": "x"})
            if credential == "a-virtual-key" and path in OPEN_TO_KEYS:
                assert answer.status_code == 200, path
                continue
            assert refusal(answer) == expected, (method, path, credential)
    answer = await gateway.client.get("/api/keys", headers={"authorization": ""})
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert await gateway.keys.all() == []


async def test_no_route_stands_outside_the_list(gateway):
    served = {(method, route.path) for route in gateway.app.app.routes for method in route.methods}
    declared = {(action.method, "/api" + action.path) for action in ACTIONS}
    assert served == declared | {("GET", "/api/openapi.json"), ("GET", "/api/docs")}


async def test_life_of_a_key(gateway):
    client = gateway.client
    body = {"name": "ci", "models": ["fast"], "budget": {"usd": 10, "per": "month"}, "limits": {"rpm": 60}}
    made = await client.post("/api/keys", json=body)
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    key = made.json()
    assert key["key"].startswith("sk-tw-")
    shown = (await client.get("/api/keys/ci")).json()
    assert "key" not in shown
    assert shown["id"] == key["id"]
    assert (shown["spent_nano_usd"], shown["held_nano_usd"]) == (0, 0)
    assert (shown["budget"]["usd"], shown["budget"]["per"]) == (10, "month")
    assert shown["resets_at"].endswith("T00:00:00.000Z")
    assert {counter["label"] for counter in shown["counters"]} == {"rpm", "budget per month"}
    patched = await client.patch(
        "/api/keys/ci",
        content=b'{"budget": null, "team": "web"}',
        headers={"content-type": "application/merge-patch+json"},
    )
    assert (patched.json()["budget"], patched.json()["team"], patched.json()["limits"]) == (
        None,
        "web",
        {"rpm": 60},
    )
    rotated = (await client.post("/api/keys/ci/rotate")).json()
    assert rotated["id"] == key["id"]
    assert rotated["key"] != key["key"]
    assert (await client.post(f"/api/keys/{key['id']}/block")).json()["status"] == "blocked"
    assert (await client.post("/api/keys/ci/unblock")).json()["status"] == "active"
    assert (await client.post("/api/keys/ci/revoke")).json()["status"] == "revoked"
    assert refusal(await client.post("/api/keys/ci/rotate")) == (409, "conflict", None)
    assert refusal(await client.delete("/api/keys/ci"))[:2] == (405, "method_not_allowed")
    assert [each["name"] for each in (await client.get("/api/keys?owner=database")).json()["data"]] == ["ci"]


async def test_two_creates_at_once(gateway):
    answers = await asyncio.gather(*(gateway.client.post("/api/keys", json={"name": "ci"}) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    assert {refusal(answer) for answer in answers if answer.status_code == 409} == {(409, "conflict", "name")}


async def test_paging_over_more_than_a_thousand_keys(gateway):
    for number in range(1100):
        key = VirtualKey(
            id=f"key_{number:020}", name=f"k{number}", hash=f"{number:064}", hint="…", created_at=number
        )
        await gateway.keys.add(key)
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        query = {"owner": "database", "limit": "1000", **({"cursor": cursor} if cursor else {})}
        page = (await gateway.client.get("/api/keys", params=query)).json()
        seen += [key["name"] for key in page["data"]]
        cursor = page["next_cursor"]
    assert seen == [f"k{number}" for number in reversed(range(1100))]


WRONG_BODIES = [
    (b'{"name": 7}', (400, "invalid_request", "name")),
    (b"{}", (400, "invalid_request", "name")),
    (b"", (400, "invalid_request", "name")),
    (b"[]", (400, "invalid_request", None)),
    (b'{"name": "a"', (400, "invalid_json", None)),
    (b'{"name": "\xff"}', (400, "invalid_json", None)),
    (b'{"name": "a", "limit": {}}', (400, "invalid_request", "limit")),
    (b'{"name": "a", "limits": {"rpm": "many"}}', (400, "invalid_request", "limits.rpm")),
    (b'{"name": "a", "limits": {"rpy": 1}}', (400, "invalid_request", "limits.rpy")),
    (b'{"name": "a", "budget": [{"usd": 1, "per": []}]}', (400, "invalid_request", "budget[0].per")),
    (b'{"name": "a", "budget": {"usd": 1e300}}', (400, "invalid_request", "budget.usd")),
    (b'{"name": "a", "metadata": {"x": {"y": 1}}}', (400, "invalid_request", "metadata")),
    (b"[" * 100_000, (400, "invalid_request", None)),
]


async def test_wrong_bodies(gateway):
    headers = {"content-type": "application/json"}
    for body, (status, code, param) in WRONG_BODIES:
        found = refusal(await gateway.client.post("/api/keys", content=body, headers=headers))
        assert found[:2] == (status, code), body[:80]
        assert found[2] == param or (found[2] or "").startswith(f"{param}["), body[:80]
    assert await gateway.keys.all() == []


async def test_a_misspelt_field_is_told_the_right_one(gateway):
    answer = await gateway.client.post("/api/keys", json={"name": "a", "expire": "30d"})
    assert "did you mean expires?" in answer.json()["error"]["message"]


async def test_body_limit(gateway):
    large = b'{"name": "' + b"x" * BODY_LIMIT + b'"}'
    headers = {"content-type": "application/json"}

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 65536):
            yield large[start : start + 65536]

    announced = await gateway.client.post("/api/keys", content=large, headers=headers)
    chunked = await gateway.client.post("/api/keys", content=pieces(), headers=headers)
    assert refusal(announced) == refusal(chunked) == (413, "request_too_large", None)


async def test_a_form_is_no_json(gateway):
    answer = await gateway.client.post("/api/keys", data={"name": "a"})
    assert refusal(answer) == (415, "unsupported_media_type", None)


async def test_unknown_paths_and_methods(gateway):
    client = gateway.client
    assert refusal(await client.get("/api/nothing")) == (404, "not_found", None)
    assert refusal(await client.get("/api/keys/")) == (404, "not_found", None)
    assert refusal(await client.get("/api/keys/absent")) == (404, "not_found", "key")
    assert refusal(await client.get("/api/keys/a%00b"))[:2] == (404, "not_found")
    answer = await client.put("/api/keys/ci")
    assert refusal(answer) == (405, "method_not_allowed", None)
    assert set(answer.headers["allow"].split(", ")) <= {"GET", "PATCH"}


WRONG_QUERIES = [
    ("/api/keys?limit=0", "limit"),
    ("/api/keys?limit=1001", "limit"),
    ("/api/keys?limit=many", "limit"),
    ("/api/keys?status=asleep", "status"),
    ("/api/keys?cursor=x", "cursor"),
    ("/api/keys?nme=x", "nme"),
    ("/api/keys/from-file?x=1", "x"),
    ("/api/events?since=yesterday", "since"),
    ("/api/events?cursor=!", "cursor"),
    ("/api/usage?group_by=colour", "group_by"),
    ("/api/usage?tz=Moon/Crater", "tz"),
    ("/api/usage?format=xml", "format"),
    ("/api/usage?until=99d99", "until"),
]


async def test_wrong_queries(gateway):
    for query, param in WRONG_QUERIES:
        assert refusal(await gateway.client.get(query)) == (400, "invalid_request", param), query


async def test_an_event_that_was_answered_is_read_at_once(gateway):
    gateway.spend(first_token_ms=211, streamed=True, overhead_ms=0.4)
    answer = await gateway.client.get("/api/events")
    event = answer.json()["data"][0]
    assert event.pop("time").endswith("Z")
    assert event == {
        "id": "ue_0_0", "request_id": "r1", "key": "ci", "key_id": "key_ci", "team": None, "user": None,
        "customer": None, "organization": None, "project": None, "tags": [], "corrects": None, "note": None,
        "warnings": [], "endpoint": "chat.completions", "model": "fast", "provider": "openai",
        "upstream_model": "gpt-5-mini", "deployment": "openai/gpt-5-mini", "attempt": 1, "status": 200,
        "outcome": "ok", "streamed": True, "estimated": False,
        "usage": {
            "input": 42, "cache_read": 0, "cache_write_5m": 0, "cache_write_1h": 0, "output": 31,
            "reasoning": 0, "audio_input": 0, "audio_output": 0, "images": 0, "video_seconds": 0,
            "characters": 0, "seconds": 0, "pages": 0, "searches": 0, "requests": 0,
        },
        "cost_nano_usd": 24_900, "priced": True, "price_version": "", "latency_ms": 0, "first_token_ms": 211,
        "overhead_ms": 0.4, "raw_usage": {"prompt_tokens": 42, "odd": [1.5]}, "error": None,
    }  # fmt: skip
    assert '"odd":[1.50]' in answer.text
    assert answer.json()["next_cursor"] is None


async def test_events_are_paged_and_filtered(gateway):
    for number in range(25):
        gateway.spend(
            id=f"ue_r{number}_1", request_id=f"r{number}", time=iso(1_800_000_000 + number), team="web"
        )
    gateway.spend(id="ue_other", model="smart", key="bob", key_id="key_bob")
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(3):
        page = (await gateway.client.get("/api/events", params={"key": "ci", "limit": "10", **cursor})).json()
        seen += [event["id"] for event in page["data"]]
        cursor = {"cursor": page["next_cursor"]}
    assert page["next_cursor"] is None
    assert seen == [f"ue_r{number}_1" for number in reversed(range(25))]

    async def ids(**query: str) -> list[str]:
        return [
            event["id"] for event in (await gateway.client.get("/api/events", params=query)).json()["data"]
        ]

    assert await ids(key="key_bob") == ["ue_other"]
    assert await ids(model="smart") == ["ue_other"]
    assert await ids(request_id="r3") == ["ue_r3_1"]
    assert await ids(since=iso(1_800_000_010), until="2027-01-15T08:00:12+00:00") == ["ue_r11_1", "ue_r10_1"]
    assert await ids(team="web", until=iso(1_800_000_001)) == ["ue_r0_1"]
    assert await ids(until="1d") == []


async def test_usage_is_summed(gateway):
    gateway.spend(id="a", time="2026-11-21T23:30:00.000Z")
    gateway.spend(id="b", time="2026-11-22T10:00:00.000Z")
    gateway.spend(
        id="c", time="2026-11-22T11:00:00.000Z", outcome="error", status=500, usage=Usage(), cost_nano_usd=0
    )
    gateway.spend(id="d", time="2026-11-22T12:00:00.000Z", model="=evil()", priced=False, cost_nano_usd=0)
    query = {"group_by": "key,model,day", "since": "2026-11-01", "until": "2026-12-01"}
    answer = await gateway.client.get("/api/usage", params=query)
    found = answer.json()
    rows = {(row["model"], row["day"]): row for row in found["data"]}
    assert set(rows) == {("fast", "2026-11-21"), ("fast", "2026-11-22"), ("=evil()", "2026-11-22")}
    assert (
        list(rows["fast", "2026-11-22"])[:3] == ["key", "model", "day"] or "key" in rows["fast", "2026-11-22"]
    )
    second = rows["fast", "2026-11-22"]
    assert (second["key"], second["requests"], second["errors"], second["input"], second["output"]) == (
        "ci",
        2,
        1,
        42,
        31,
    )
    assert second["cost_nano_usd"] == 24_900
    assert rows["=evil()", "2026-11-22"]["unpriced_requests"] == 1
    assert found["total"]["requests"] == 4
    assert found["total"]["cost_nano_usd"] == 49_800
    assert "key" not in found["total"]
    assert "team" not in second

    local = (await gateway.client.get("/api/usage", params={"group_by": "day", "tz": "Europe/Berlin"})).json()
    assert [(row["day"], row["requests"]) for row in local["data"]] == [("2026-11-22", 4)]

    answer = await gateway.client.get("/api/usage", params={**query, "format": "csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert sum(int(line["cost_nano_usd"]) for line in lines) == 49_800
    assert {line["model"] for line in lines} == {"fast", "'=evil()"}
    total = (await gateway.client.get("/api/usage")).json()
    assert total["total"] == total["data"][0]


async def test_usage_as_files(gateway, tmp_path):
    gateway.spend()
    gateway.spend(cost_nano_usd=100)
    before = set(Path(tempfile.gettempdir()).glob("tollway-*-[uf]*.*"))
    for format, name, media in (
        ("focus", "focus.csv", "text/csv"),
        ("focus-parquet", "focus.parquet", "application/vnd.apache.parquet"),
        ("parquet", "usage.parquet", "application/vnd.apache.parquet"),
    ):
        answer = await gateway.client.get("/api/usage", params={"group_by": "model", "format": format})
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(media)
        assert name in answer.headers["content-disposition"]
        path = tmp_path / name
        path.write_bytes(answer.content)
        if name == "focus.csv":
            (row,) = csv.DictReader(io.StringIO(answer.text))
            assert row["BilledCost"] == "0.000025"
        else:
            assert pyarrow.parquet.read_table(path).num_rows == 1
    async with asyncio.timeout(30):
        while set(Path(tempfile.gettempdir()).glob("tollway-*-[uf]*.*")) - before:
            await asyncio.sleep(0.01)
    refused = await gateway.client.get("/api/usage", params={"format": "xlsx"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "format")
    refused = await gateway.client.get("/api/keys", params={"format": "csv"})
    assert refused.status_code == 400


async def test_a_correction(gateway):
    gateway.spend()
    (wrong,) = (await gateway.client.get("/api/events")).json()["data"]
    body = {"corrects": wrong["id"], "cost_nano_usd": -900, "reference": "7", "note": "billed twice"}
    answer = await gateway.client.post("/api/events/corrections", json=body)
    assert answer.status_code == 201
    assert (answer.json()["corrects"], answer.json()["outcome"]) == (wrong["id"], "correction")
    assert (await gateway.client.post("/api/events/corrections", json=body)).status_code == 409
    total = (await gateway.client.get("/api/usage")).json()["total"]
    assert (total["cost_nano_usd"], total["corrections"]) == (wrong["cost_nano_usd"] - 900, 1)


async def test_spend_of_a_key_without_a_budget_comes_from_the_ledger(gateway):
    key = (await gateway.client.post("/api/keys", json={"name": "ci"})).json()
    gateway.spend(key_id=key["id"])
    gateway.spend(key_id=key["id"])
    assert (await gateway.client.get("/api/keys/ci")).json()["spent_nano_usd"] == 49_800
    for number in range(9):
        await gateway.client.post("/api/keys", json={"name": f"k{number}"})
    listed = (await gateway.client.get("/api/keys")).json()["data"]
    assert {each["name"]: each["spent_nano_usd"] for each in listed if each["spent_nano_usd"]} == {
        "ci": 49_800
    }


async def test_models_and_providers(gateway):
    model = (await gateway.client.get("/api/models")).json()["data"][0]
    assert (model["name"], model["strategy"], model["priced"]) == ("fast", "single", True)
    assert model["targets"][0]["price"]["usd_per_million"] == {"input": 0.15, "output": 0.6}
    assert (await gateway.client.get("/api/models?provider=azure")).json()["data"] == []
    provider = (await gateway.client.get("/api/providers")).json()["data"][0]
    assert provider["base_url"] == "http://***@127.0.0.1:8000/v1?***"
    assert (provider["has_api_key"], provider["headers"], provider["models"]) == (True, ["x-team-token"], 1)


async def test_no_answer_holds_a_secret(gateway):
    for method, path in (*PATHS, *BESIDE):
        if method == "GET":
            answer = await gateway.client.get(path)
            assert not [secret for secret in SECRETS if secret in answer.text], path


async def test_configuration_reload_and_status(gateway):
    client = gateway.client
    assert (await client.get("/api/config")).json()["source"] == "tollway.yaml"
    before = gateway.snapshot.generation
    assert (await client.post("/api/config/reload")).json()["generation"] == before + 1
    gateway.problems = ["tollway.yaml:3: unknown key modles: did you mean models?", "tollway.yaml:9: …"]
    refused = await client.post("/api/config/reload")
    assert refusal(refused) == (400, "invalid_request", None)
    assert refused.json()["error"]["problems"] == gateway.problems
    assert gateway.snapshot.generation == before + 1
    assert (await client.get("/api/status")).json()["status"] == "ok"
    gateway.degraded = {"database": "does not answer"}
    degraded = (await client.get("/api/status")).json()
    assert (degraded["status"], degraded["parts"]) == ("degraded", {"database": "does not answer"})


async def test_a_database_that_is_away_is_503(gateway):
    gateway.database.path.rename(gateway.database.path.with_suffix(".away"))
    for path in ("/api/keys", "/api/keys/ci", "/api/usage"):
        assert refusal(await gateway.client.get(path)) == (503, "store_unavailable", None)
    assert (await gateway.client.get("/api/models")).status_code == 200


async def test_a_failure_shows_no_inside(gateway, caplog):
    gateway.failure = RuntimeError("with a secret inside: hunter2")
    answer = await gateway.client.post("/api/config/reload")
    assert refusal(answer) == (500, "internal_error", None)
    assert "hunter2" not in answer.text
    assert answer.headers["x-tollway-request-id"] in caplog.text


async def test_document_matches_what_is_served(gateway):
    document = (await gateway.client.get("/api/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    operations = {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert set(operations) == {(action.method, "/api" + action.path) for action in ACTIONS}
    text = json.dumps(document)
    for reference in re.findall(r'"\$ref": "#/components/schemas/(\w+)"', text):
        assert reference in document["components"]["schemas"]
    assert len({operation["operationId"] for operation in operations.values()}) == len(operations)
    limit = next(p for p in operations["GET", "/api/events"]["parameters"] if p["name"] == "limit")
    assert limit["schema"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
    assert operations["POST", "/api/keys"]["requestBody"]["required"] is True
    assert operations["POST", "/api/keys/{key}/rotate"]["requestBody"]["required"] is False
    assert "http" not in text.replace('"type": "http"', "")
    for name, schema in document["components"]["schemas"].items():
        assert schema.get("title", name) == name


def missing(value: object, schema: dict[str, object], schemas: dict[str, dict[str, object]]) -> Iterator[str]:
    """Required fields that an answer lacks and fields that its schema does not know, however deep."""
    if "$ref" in schema:
        schema = schemas[str(schema["$ref"]).rpartition("/")[2]]
    for branch in schema.get("anyOf", ()):
        if isinstance(value, dict) and "$ref" in branch:
            schema = schemas[branch["$ref"].rpartition("/")[2]]
    if isinstance(value, list):
        for item in value:
            yield from missing(item, schema.get("items", {}), schemas)
    if isinstance(value, dict) and "properties" in schema:
        yield from set(value) ^ (set(schema["required"]) | set(value) & set(schema["properties"]))
        for name in set(value) & set(schema["properties"]):
            yield from missing(value[name], schema["properties"][name], schemas)


async def test_answers_have_every_declared_field(gateway):
    gateway.spend()
    await gateway.client.post("/api/keys", json={"name": "ci", "budget": "10usd/month"})
    schemas = (await gateway.client.get("/api/openapi.json")).json()
    made = {}
    for noun in ("organization", "team", "project", "user", "customer", "tag", "access_group"):
        body = {"name": f"a-{noun}"} | ({} if noun == "access_group" else {"budget": "5usd/day"})
        made[noun] = (await gateway.client.post(f"/api/{noun}s", json=body)).json()["id"]
    await gateway.client.post(f"/api/teams/{made['team']}/members", json={"user": made["user"]})
    await gateway.client.post(f"/api/users/{made['user']}/tokens", json={"name": "t"})
    for action in ACTIONS:
        if action.method != "GET" or action.name == "keys.self":
            continue
        path = "/api" + action.path
        declared = schemas["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        named = path.replace("{key}", "ci")
        for noun, id in made.items():
            named = named.replace("{" + noun + "}", id)
        answer = (await gateway.client.get(named)).json()
        assert not list(missing(answer, declared, schemas["components"]["schemas"])), path
        assert set(answer) == set(
            schemas["components"]["schemas"][declared["$ref"].rpartition("/")[2]]["properties"]
        )


class Outside(html.parser.HTMLParser):
    """Collects whatever would make a browser load or run something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.targets: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag in ("script", "link", "img", "iframe", "object", "embed") or "src" in given:
            self.found.append(tag)
        if "id" in given:
            self.targets.add(f"#{given['id']}")
        if "href" in given:
            self.links.add(given["href"] or "")


async def test_reference_page_needs_no_network_and_its_links_lead_somewhere(gateway):
    answer = await gateway.client.get("/api/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = Outside()
    page.feed(answer.text)
    assert page.found == []
    assert page.links
    assert page.links <= page.targets
    for action in ACTIONS:
        assert f"#{action.name}" in page.targets
    assert set(re.findall(r"https?://[^/\s<]+", answer.text)) == {"http://127.0.0.1:4000"}
    assert "url(" not in answer.text
    assert "@import" not in answer.text
