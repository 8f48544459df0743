from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec
import pytest

from tollway.admin import corrections, events, usage
from tollway.admin.corrections import NewCorrection, UnitsChange
from tollway.admin.events import EventQuery
from tollway.admin.standing import standings_of
from tollway.admin.usage import UsageQuery
from tollway.errors import BadRequest, Conflict, NotFound
from tollway.model.event import UsageEvent
from tollway.model.tenant import Directory, Tenant
from tollway.model.terms import Budget, Terms
from tollway.model.usage import Usage
from tollway.shared.claims import every_ceiling
from tollway.storage.repositories import rollups
from tollway.storage.repositories.ledger import Ledger, read_entry
from tollway.storage.segments import BEGINNING, Position

WRONG = UsageEvent(
    id="ue_r1_1",
    request_id="r1",
    time="2026-11-02T10:00:00.123Z",
    key="ci",
    key_id="key_1",
    organization="acme",
    team="search",
    tags=("b", "a"),
    endpoint="chat.completions",
    model="fast",
    provider="openai",
    upstream_model="gpt-5-mini",
    deployment="openai/gpt-5-mini",
    status=500,
    outcome="error",
    usage=Usage(input=42, output=31),
    cost_nano_usd=24_900,
    priced=False,
    error="it broke",
    raw_usage=msgspec.Raw(b'{"prompt_tokens":42}'),
)


@pytest.fixture
async def context(world):
    entry = read_entry(msgspec.json.encode(WRONG))
    await Ledger(world.database).append([entry], "spool", BEGINNING, Position(1, 1))
    world.now = 1_795_345_200.0  # 2026-11-22T11:00:00Z
    return world.context


async def test_a_correction_is_an_event_beside_the_one_it_corrects(world, context) -> None:
    body = NewCorrection(
        corrects="ue_r1_1", cost_nano_usd=-900, usage=UnitsChange(input=-2, pages=1), note=" billed twice "
    )
    made = await corrections.create(context, body)
    assert (made.outcome, made.corrects, made.note) == ("correction", "ue_r1_1", "billed twice")
    assert (made.time, made.cost_nano_usd) == ("2026-11-22T11:00:00.000Z", -900)
    assert (made.organization, made.team, made.tags, made.key_id) == ("acme", "search", ("b", "a"), "key_1")
    assert (made.error, bytes(made.raw_usage), made.priced) == (None, b"null", True)
    page = await events.list_(context, EventQuery(request_id="r1"))
    assert [event.id for event in page.data] == [made.id, "ue_r1_1"]
    untouched = page.data[1]
    assert (untouched.cost_nano_usd, untouched.usage.input) == (24_900, 42)
    assert (await events.list_(context, EventQuery(outcome="correction"))).data == page.data[:1]
    total = (await usage.report(context, UsageQuery(group_by=("tag",)))).total
    assert (total.requests, total.errors, total.corrections) == (1, 1, 1)
    assert (total.cost_nano_usd, total.input, total.pages) == (24_000, 40, 1)
    by_day = await usage.report(context, UsageQuery(group_by=("day",)))
    assert [(row.day, row.cost_nano_usd) for row in by_day.data] == [
        ("2026-11-02", 24_900),
        ("2026-11-22", -900),
    ]
    assert await rollups.verify(world.database) == []


async def test_a_reference_corrects_once(context) -> None:
    body = NewCorrection(corrects="ue_r1_1", cost_nano_usd=5, reference="invoice 7")
    results = await asyncio.gather(
        *(corrections.create(context, body) for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(each, Conflict) for each in results) == 4
    await corrections.create(
        context, NewCorrection(corrects="ue_r1_1", cost_nano_usd=5, reference="invoice 8")
    )
    for _ in range(2):
        await corrections.create(context, NewCorrection(corrects="ue_r1_1", cost_nano_usd=5))
    total = (await usage.report(context, UsageQuery())).total
    assert (total.corrections, total.cost_nano_usd) == (4, 24_900 + 20)


@pytest.mark.parametrize(
    ("body", "error", "param"),
    [
        (NewCorrection(corrects="ue_nobody_1", cost_nano_usd=1), NotFound, "corrects"),
        (NewCorrection(corrects="ue_r1_1"), BadRequest, "cost_nano_usd"),
        (NewCorrection(corrects="ue_r1_1", cost_nano_usd=1, note="x" * 501), BadRequest, "note"),
    ],
)
async def test_what_corrects_nothing_is_refused(context, body, error, param) -> None:
    with pytest.raises(error) as caught:
        await corrections.create(context, body)
    assert caught.value.param == param


async def test_corrections_are_not_corrected(context) -> None:
    made = await corrections.create(context, NewCorrection(corrects="ue_r1_1", cost_nano_usd=1))
    with pytest.raises(BadRequest, match="is a correction"):
        await corrections.create(context, NewCorrection(corrects=made.id, cost_nano_usd=1))


async def test_budgets_follow_at_once(world, context) -> None:
    budgets = (
        Budget(limit=10**9, per="month"),
        Budget(limit=10**6, unit="tokens"),
        Budget(limit=100, unit="requests"),
        Budget(limit=10**9, models=("f*",)),
        Budget(limit=10**9, models=("slow",)),
    )
    tenants = (
        Tenant(level="team", id="search", name="Search", terms=Terms(budgets=budgets)),
        Tenant(level="tag", id="a", name="a", terms=Terms(budgets=budgets[:1])),
        Tenant(level="team", id="other", name="Other", terms=Terms(budgets=budgets[:1])),
    )
    directory = Directory(tenants=tenants)
    settings = msgspec.structs.replace(world.settings, directory=directory)
    context = replace(context, settings=lambda: settings)
    ceilings = list(every_ceiling((), directory))
    for ceiling in ceilings:
        world.counters.seed(ceiling.claim, 1000)
    body = NewCorrection(corrects="ue_r1_1", cost_nano_usd=-900, usage=UnitsChange(input=-2, output=10))
    await corrections.create(context, body)
    (found,) = await standings_of(context, [tuple(ceilings)])
    assert {each.claim.counter: each.spent for each in found} == {
        "team:search:usd:month": 100,
        "team:search:tokens:total": 1008,
        "team:search:requests:total": 1000,
        "team:search:usd:total@f*": 100,
        "team:search:usd:total@slow": 1000,
        "tag:a:usd:month": 100,
        "team:other:usd:month": 1000,
    }
