"""Reports as actions give them: whose, of what, with which names, and as files."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import msgspec
import pyarrow.parquet
import pytest

from tollway.admin import events, focus, usage
from tollway.admin.context import Actor
from tollway.admin.events import EventQuery
from tollway.admin.usage import UsageQuery
from tollway.config.settings import Settings
from tollway.errors import BadRequest, Forbidden
from tollway.model.event import UsageEvent
from tollway.model.key import ANONYMOUS, Principal, VirtualKey
from tollway.model.role import Assignment, Scope
from tollway.model.tenant import Directory, Tenant
from tollway.model.usage import Usage
from tollway.storage.repositories.ledger import Ledger, read_entry
from tollway.storage.segments import BEGINNING, Position

ORGANIZATIONS, TEAMS, USERS = ("acme", "corp"), ("search", "ads", "sales"), ("ada", "bob", "eve")


def made(n: int) -> UsageEvent:
    return UsageEvent(
        id=f"ue_r{n:03d}_1",
        request_id=f"r{n:03d}",
        time=f"2026-11-{20 + n % 3}T{n % 24:02d}:10:00.000Z",
        key=f"key {n % 4}",
        key_id=f"key_{n % 4}",
        organization=ORGANIZATIONS[n % 2],
        team=TEAMS[n % 3],
        user=USERS[n % 3] if n % 5 else None,
        customer='=SUM("x")' if n % 7 == 0 else None,
        tags=(("web", "prod"), ("prod",), ())[n % 3],
        endpoint="chat.completions",
        model="fast",
        provider="openai",
        upstream_model="gpt-5-mini",
        deployment="openai/gpt-5-mini",
        status=200,
        outcome="ok",
        usage=Usage(input=n, output=2),
        cost_nano_usd=1000 + n,
    )


EVENTS = [made(n) for n in range(100)]


@pytest.fixture
async def filled(world):
    """The world's context with a hundred events, and a directory that names some of what they name."""
    entries = [read_entry(msgspec.json.encode(event)) for event in EVENTS]
    await Ledger(world.database).append(entries, "spool", BEGINNING, Position(1, 1))
    tenants = (
        Tenant(level="organization", id="acme", name="Acme Inc"),
        Tenant(level="team", id="search", name="Search", organization="acme"),
        Tenant(level="user", id="ada", name="Ada"),
    )
    settings = msgspec.structs.replace(world.settings, directory=Directory(tenants=tenants))
    return replace(world.context, settings=lambda: settings)


def acting(context, *assignments: Assignment, user: str | None = None):
    tenant = Tenant(level="user", id=user or "nobody", name=user or "nobody")
    actor = Actor(principal=ANONYMOUS, via="api", user=tenant, assignments=assignments)
    return context.acting(actor)


def held(role: str, level: str, id: str | None = None) -> Assignment:
    return Assignment(role=role, scope=Scope(level=level, id=id))


KEY = VirtualKey(id="key_1", name="key 1", hash="0" * 64, hint="")
SIGHTS = [
    (lambda c: c, lambda e: True),
    (lambda c: acting(c, held("auditor", "everywhere")), lambda e: True),
    (lambda c: acting(c, held("org_admin", "organization", "acme")), lambda e: e.organization == "acme"),
    (lambda c: acting(c, held("team_admin", "team", "ads")), lambda e: e.team == "ads"),
    (
        lambda c: acting(c, held("org_admin", "organization", "acme"), held("team_admin", "team", "ads")),
        lambda e: e.organization == "acme" or e.team == "ads",
    ),
    (
        lambda c: acting(c, held("member", "team", "search"), user="ada"),
        lambda e: e.team == "search" and e.user == "ada",
    ),
    (lambda c: acting(c, held("member", "own"), user="bob"), lambda e: e.user == "bob"),
    (lambda c: c.acting(Actor(principal=Principal(kind="key", key=KEY), via="api")), lambda e: e.key_id == "key_1"),
]  # fmt: skip


@pytest.mark.parametrize(("who", "sees"), SIGHTS)
async def test_everybody_sees_what_lies_within_sight_and_nothing_else(filled, who, sees) -> None:
    context = who(filled)
    mine = [event for event in EVENTS if sees(event)]
    report = await usage.report(context, UsageQuery(group_by=("key",)))
    assert report.total.requests == len(mine) > 0
    assert report.total.cost_nano_usd == sum(event.cost_nano_usd for event in mine)
    assert {row.key for row in report.data} == {event.key for event in mine}
    found, cursor = [], None
    while True:
        page = await events.list_(context, EventQuery(limit=7, cursor=cursor))
        found += [event.id for event in page.data]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == [e.id for e in sorted(mine, key=lambda e: (e.time, EVENTS.index(e)), reverse=True)]
    one = next((event for event in EVENTS if not sees(event)), None)
    if one is not None:
        assert (await events.list_(context, EventQuery(request_id=one.request_id))).data == ()
        assert (await usage.report(context, UsageQuery(tz="Asia/Kolkata"))).total.requests == len(mine)
    charges = await rows_of(await usage.as_focus(context, UsageQuery()))
    assert sum(Decimal(row["BilledCost"]) for row in charges) * 10**9 == report.total.cost_nano_usd


async def test_nobody_else_sees_anything(filled) -> None:
    context = filled.acting(Actor(principal=ANONYMOUS, via="api"))
    for asked in (
        usage.report(context, UsageQuery()),
        events.list_(context, EventQuery()),
        usage.report.file("focus", context, query=UsageQuery()),
    ):
        with pytest.raises(Forbidden):
            await asked


async def test_rows_have_the_names_of_today(filled) -> None:
    report = await usage.report(filled, UsageQuery(group_by=("organization", "team"), order="name"))
    shown = msgspec.json.decode(msgspec.json.encode(report))["data"]
    assert {(row["organization"], row["organization_name"]) for row in shown} == {
        ("acme", "Acme Inc"),
        ("corp", None),
    }
    assert {(row["team"], row["team_name"]) for row in shown} == {
        ("search", "Search"),
        ("ads", None),
        ("sales", None),
    }
    assert list(shown[0])[-4:] == ["organization", "organization_name", "team", "team_name"]


async def test_filters_order_and_limit(filled) -> None:
    query = UsageQuery(group_by=("user",), team=("search", "ads"), tag=("web", "prod"), limit=1)
    report = await usage.report(filled, query)
    mine = [event for event in EVENTS if event.team in ("search", "ads")]
    assert report.total.requests == len(mine)
    assert (len(report.data), report.groups) == (1, 3)
    with pytest.raises(BadRequest, match="order"):
        await usage.report(filled, UsageQuery(order="colour"))


async def rows_of(file) -> list[dict[str, str]]:
    path = Path(file.path)
    try:
        return list(csv.DictReader(io.StringIO(path.read_text())))
    finally:
        path.unlink()


async def test_parquet(filled) -> None:
    query = UsageQuery(group_by=("day", "team"))
    report = await usage.report(filled, query)
    file = await usage.as_parquet(filled, query)
    table = pyarrow.parquet.read_table(file.path)
    Path(file.path).unlink()
    assert table.num_rows == len(report.data) == 3
    assert table.column("cost_nano_usd").to_pylist() == [row.cost_nano_usd for row in report.data]
    assert table.column("day").to_pylist() == [row.day for row in report.data]
    assert table.schema.names[:3] == ["day", "team", "team_name"]


async def test_focus(filled) -> None:
    query = UsageQuery(since="2026-11-21", until="2026-11-23")
    rows = await rows_of(await usage.as_focus(filled, query))
    inside = [event for event in EVENTS if event.time[:10] in ("2026-11-21", "2026-11-22")]
    assert list(rows[0]) == list(focus.COLUMNS)
    assert sum(Decimal(row["BilledCost"]) for row in rows) * 10**9 == sum(e.cost_nano_usd for e in inside)
    assert sum(int(row["ConsumedQuantity"]) for row in rows) == sum(e.usage.tokens() for e in inside)
    for row in rows:
        assert row["BillingCurrency"] == "USD"
        assert row["BillingPeriodStart"] == "2026-11-01T00:00:00Z"
        assert row["BillingPeriodEnd"] == "2026-12-01T00:00:00Z"
        assert row["ChargePeriodStart"] in ("2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z")
        assert row["BilledCost"] == row["EffectiveCost"] == row["ListCost"] == row["ContractedCost"]
        assert row["BillingAccountName"] == {"acme": "Acme Inc", "corp": "corp"}[row["BillingAccountId"]]
        assert row["SubAccountType"] == "Team"
        # No spreadsheet runs what a client wrote.
        assert not row["x_Customer"].startswith("=")
        assert set(json.loads(row["Tags"])) <= {"web", "prod"}
    file = await usage.as_focus_parquet(filled, query)
    table = pyarrow.parquet.read_table(file.path)
    Path(file.path).unlink()
    assert table.schema.names == list(focus.COLUMNS)
    assert sum(table.column("BilledCost").to_pylist()) * 10**9 == sum(e.cost_nano_usd for e in inside)
    assert table.column("ChargePeriodStart").to_pylist()[0].tzinfo is not None
    assert set(table.column("x_Customer").to_pylist()) == {None, '=SUM("x")'}


async def test_every_column_of_focus_is_filled_from_one_place(filled) -> None:
    row = focus.charge(dict.fromkeys(
        ("day", "provider", "organization", "team", "project", "user", "customer", "tags", "endpoint", "model",
         "upstream_model", "key", "key_id"), "2026-12-31",
    ) | dict.fromkeys(usage.Sums.__struct_fields__, 0) | {
        "tags": '["a"]', "corrections": 1, "cost_nano_usd": -5,
    }, {})  # fmt: skip
    assert set(row) <= set(focus.COLUMNS)
    assert row["ChargeClass"] == "Correction"
    assert row["BilledCost"] == Decimal("-5e-9")
    assert row["BillingPeriodEnd"] == "2027-01-01T00:00:00Z"
    assert row["Tags"] == '{"a": true}'


def test_settings_have_a_directory() -> None:
    assert Settings().directory == Directory()
