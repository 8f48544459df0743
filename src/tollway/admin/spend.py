"""Forgiving and correcting what counters have counted. Never an edit: each correction is an entry beside the ledger,
with its reason and its author, and counters are what the ledger and the entries add up to."""

from __future__ import annotations

import secrets

from msgspec import Struct
from msgspec.structs import replace

from tollway.admin.context import Context
from tollway.admin.events import caught_up
from tollway.admin.standing import standings_of
from tollway.admin.terms import RaiseTerms, increase
from tollway.admin.times import iso
from tollway.config.term_rules import AMOUNTS
from tollway.errors import BadRequest, Conflict
from tollway.model.terms import Budget
from tollway.shared.claims import Ceiling
from tollway.storage.repositories.adjustments import Adjustment

_LONGEST_REASON = 500


class ResetSpend(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``per`` narrows it to the budgets of that period; ``reason`` is kept with the entries."""

    reason: str = ""
    per: str | None = None


class AdjustmentView(Struct, frozen=True, kw_only=True):
    """One correction: ``amount`` in the counter's unit, negative where something was forgiven."""

    id: str
    time: str
    counter: str
    amount: int
    reason: str
    actor: str


class SpendReset(Struct, frozen=True, kw_only=True):
    """The entries that were made: one for each budget that had spent something."""

    data: tuple[AdjustmentView, ...]


async def forgive(context: Context, ceilings: tuple[Ceiling, ...], body: ResetSpend) -> SpendReset:
    """Set what budgets have spent in their current period back to nothing, by entries."""
    if context.adjustments is None:
        raise Conflict("this gateway runs without a database and cannot keep corrections")
    if len(body.reason) > _LONGEST_REASON or (
        not body.reason.replace("\n", " ").isprintable() and body.reason
    ):
        raise BadRequest(f"reason must have at most {_LONGEST_REASON} printable characters", param="reason")
    budgets = tuple(each for each in ceilings if each.claim.per and body.per in (None, each.claim.per))
    if not budgets:
        raise Conflict("there is no such budget here, so nothing is counted that could be reset")
    await caught_up(context)
    (found,) = await standings_of(context, [budgets])
    now = context.clock()
    forgiven = [(each, each.spent) for each in found if each.spent]
    entries = tuple(
        Adjustment(
            id="adj_" + secrets.token_hex(10),
            time=iso(now),
            counter=each.claim.counter,
            amount=-spent,
            reason=body.reason,
            actor=context.actor.name,
        )
        for each, spent in forgiven
    )
    if entries:
        await context.adjustments.add(entries)
        for each, amount in forgiven:
            (now_at,) = await context.counters.standing((each.claim,))
            await context.counted(each.claim, max(0, now_at.spent - amount))
        await context.changed()
    return SpendReset(data=tuple(shown(each) for each in entries))


class Raise(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A temporary increase: ``usd``, ``tokens`` or ``requests`` more ``until`` a time or for a span. ``per`` says which
    budget, where there are several; an amount of null (none given) ends the increase."""

    usd: int | float | str | None = None
    tokens: int | None = None
    requests: int | None = None
    until: str | None = None
    per: str | None = None


def raised(budgets: tuple[Budget, ...], body: Raise, now: float) -> tuple[Budget, ...]:
    """The budgets with the one that ``body`` means raised, or no longer raised. Raises BadRequest."""
    units = {AMOUNTS[name] for name in AMOUNTS if getattr(body, name) is not None}
    meant = [
        at
        for at, each in enumerate(budgets)
        if body.per in (None, each.per) and (not units or each.unit in units) and not each.models
    ]
    if not meant:
        raise BadRequest("there is no such budget here", param="per")
    if len(meant) > 1:
        raise BadRequest("several budgets are meant: say which by per, or by the unit", param="per")
    at = meant[0]
    by, until = 0, None
    if units:
        if body.until is None:
            raise BadRequest("until is missing: when does the increase end?", param="until")
        given = RaiseTerms(usd=body.usd, tokens=body.tokens, requests=body.requests, until=body.until)
        by, until = increase(given, budgets[at].unit, now, "raise")
    new = replace(budgets[at], raised_by=by, raised_until=until)
    return (*budgets[:at], new, *budgets[at + 1 :])


def shown(entry: Adjustment) -> AdjustmentView:
    return AdjustmentView(**{name: getattr(entry, name) for name in AdjustmentView.__struct_fields__})
