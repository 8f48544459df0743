"""Putting right what an event says wrongly: by another event, never by an edit."""

from __future__ import annotations

import re
import secrets
from hashlib import blake2b
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from tollway.admin.action import action
from tollway.admin.context import Context
from tollway.admin.events import Event, caught_up, ledger_of, shown
from tollway.admin.standing import standings_of
from tollway.admin.times import iso
from tollway.errors import BadRequest, Conflict, NotFound
from tollway.model.event import NO_RAW_USAGE, UsageEvent
from tollway.model.usage import Usage
from tollway.shared.claims import Ceiling, every_ceiling

_MOST = 1 << 50
_LONGEST_NOTE = 500

_decode = msgspec.json.Decoder(UsageEvent).decode
_encode = msgspec.json.Encoder().encode

Amount = Annotated[int, Meta(ge=-_MOST, le=_MOST)]


class UnitsChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is added to each class of units; negative where there were fewer."""

    input: Amount = 0
    cache_read: Amount = 0
    cache_write_5m: Amount = 0
    cache_write_1h: Amount = 0
    output: Amount = 0
    reasoning: Amount = 0
    audio_input: Amount = 0
    audio_output: Amount = 0
    images: Amount = 0
    video_seconds: Amount = 0
    characters: Amount = 0
    seconds: Amount = 0
    pages: Amount = 0
    searches: Amount = 0
    requests: Amount = 0


class NewCorrection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is added to the event ``corrects``: cost and units, negative where there was less."""

    corrects: Annotated[str, Meta(description="The id of an event that is no correction itself.")]
    cost_nano_usd: Amount = 0
    usage: UnitsChange = UnitsChange()
    note: Annotated[str, Meta(description="Why; kept with the event. At most 500 characters.")] = ""
    reference: (
        Annotated[
            str,
            Meta(description="Yours, such as an invoice number: the same one corrects an event only once."),
        ]
        | None
    ) = None


@action(permission="events.correct", audit=True, route=("POST", "/events/corrections"), status=201)
async def create(context: Context, body: NewCorrection) -> Event:
    """Correct an event by an entry of its own.

    It has the time of the correction and everything else of the event it corrects, the outcome `correction`, and is in
    every sum from then on; past reports of closed days stay as they were. Budgets of
    the current period follow it. It is no request and counts as none.
    """
    ledger = ledger_of(context)
    if body.cost_nano_usd == 0 and body.usage == UnitsChange():
        raise BadRequest("nothing would be corrected: give cost_nano_usd or usage", param="cost_nano_usd")
    note = body.note.strip()
    if len(note) > _LONGEST_NOTE or not note.replace("\n", " ").isprintable():
        raise BadRequest(f"note must have at most {_LONGEST_NOTE} printable characters", param="note")
    await caught_up(context)
    record = await ledger.find(body.corrects)
    if record is None:
        raise NotFound(f"there is no event {body.corrects[:100]}", param="corrects")
    wrong = _decode(record)
    if wrong.outcome == "correction":
        raise BadRequest("that event is a correction: correct the event it corrects", param="corrects")
    event = replace(
        wrong,
        id=f"{_stem(wrong)}_c{_name(body)}",
        time=iso(context.clock()),
        outcome="correction",
        corrects=wrong.id,
        note=note or None,
        cost_nano_usd=body.cost_nano_usd,
        usage=Usage(**msgspec.structs.asdict(body.usage)),
        priced=True,
        estimated=False,
        streamed=False,
        latency_ms=0,
        first_token_ms=None,
        overhead_ms=0.0,
        raw_usage=NO_RAW_USAGE,
        error=None,
        warnings=(),
    )
    if not await ledger.add(_encode(event), wrong.id):
        raise Conflict(f"this reference has corrected the event already: see {event.id}")
    await _count(context, event)
    return shown(_encode(event))


async def _count(context: Context, event: UsageEvent) -> None:
    """Budgets that the event counts in follow at once; whoever starts later reads the ledger."""
    directory = (await context.society()).directory
    customers = (event.customer,) if event.customer is not None else ()
    mine = tuple(
        ceiling
        for ceiling in every_ceiling(context.snapshot().keys(), directory, customers)
        if ceiling.claim.per and ceiling.claim.unit != "requests" and _counts_in(ceiling, event)
    )
    (found,) = await standings_of(context, [mine])
    for standing in found:
        amount = event.cost_nano_usd if standing.claim.unit == "nano_usd" else event.usage.tokens()
        if amount:
            await context.counted(standing.claim, standing.spent + amount)


def _counts_in(ceiling: Ceiling, event: UsageEvent) -> bool:
    if ceiling.models and not any(_matches(name, event.model) for name in ceiling.models):
        return False
    return bool(ceiling.of) and all(
        value in event.tags if name == "tags" else getattr(event, name) == value for name, value in ceiling.of
    )


def _matches(pattern: str, model: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), model, re.DOTALL) is not None


def _stem(event: UsageEvent) -> str:
    """Corrections stand among the events of their request."""
    return event.id if event.id.startswith(f"ue_{event.request_id}_") else f"ue_{event.request_id}_{event.id}"


def _name(body: NewCorrection) -> str:
    if body.reference is None:
        return secrets.token_hex(6)
    return blake2b(body.reference.encode(), digest_size=8).hexdigest()
