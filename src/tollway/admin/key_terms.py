"""What a key may be given (models, budgets, limits, expiry, labels): read from a request and checked."""

from __future__ import annotations

import re
import secrets
from typing import Annotated, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from tollway.admin.times import ahead
from tollway.config import units
from tollway.errors import BadRequest
from tollway.model.key import Budget, RateLimit, VirtualKey
from tollway.model.money import NANO, Money, to_usd

T = TypeVar("T")

MINTED = "sk-tw-"
SHORTEST_KEY, LONGEST_KEY = 16, 512
_LONGEST_NAME = 100
_MOST_ENTRIES = 1000
_MOST = 1_000_000_000 * NANO
_MOST_COUNT = 1_000_000_000_000
_PERIOD = re.compile(r"day|week|month|total|[1-9][0-9]{0,3}d", re.ASCII)
_KEY_VALUE = re.compile(r"[!-~]+", re.ASCII)

Usd = Annotated[int | float | str, Meta(description="US dollars, as a number or a decimal string.")]
Period = Annotated[
    str,
    Meta(
        description="`day`, `week`, `month`, `total`, or a number of days such as `30d`. UTC.",
        extra_json_schema={"pattern": "^(day|week|month|total|[1-9][0-9]{0,3}d)$"},
    ),
]
Name = Annotated[
    str,
    Meta(
        description="1 to 100 printable characters, none of `/ ? # %`. Unique among keys.",
        extra_json_schema={"minLength": 1, "maxLength": 100},
    ),
]
KeyValue = Annotated[
    str,
    Meta(
        description="A key value of your own: 16 to 512 visible ASCII characters. Left out: one is made.",
        extra_json_schema={"minLength": 16, "maxLength": 512, "writeOnly": True},
    ),
]
Expiry = Annotated[
    str, Meta(description="A span from now (`30d`, `12h`) or a future ISO 8601 time, UTC without an offset.")
]
Patterns = Annotated[
    tuple[str, ...],
    Meta(description="Model names, `provider/model` or wildcards such as `openai/*`. Empty: every model."),
]
ShortBudget = Annotated[str, Meta(description="A budget in short: `10usd/month`, `5usd/30d`, `100usd`.")]
Count = Annotated[int, Meta(extra_json_schema={"minimum": 1, "maximum": _MOST_COUNT})]


class BudgetTerms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ceiling on spend. In an update a field left out keeps its value and ``null`` takes the default."""

    usd: Usd | UnsetType = UNSET
    per: Period | UnsetType | None = UNSET
    strict: bool | UnsetType | None = UNSET


class LimitTerms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests and tokens per minute and per day, requests at once. ``null`` lifts a limit."""

    rpm: Count | UnsetType | None = UNSET
    tpm: Count | UnsetType | None = UNSET
    rpd: Count | UnsetType | None = UNSET
    tpd: Count | UnsetType | None = UNSET
    parallel: Count | UnsetType | None = UNSET


class NewKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to create. What is left out is not limited: no budget, every model, no expiry."""

    name: Name
    key: KeyValue | None = None
    models: Patterns = ()
    budget: BudgetTerms | tuple[BudgetTerms, ...] | ShortBudget | None = None
    limits: LimitTerms | None = None
    expires: Expiry | None = None
    team: str | None = None
    user: str | None = None
    customer: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = {}


class KeyPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A JSON merge patch (RFC 7396): left out stays, ``null`` clears, objects merge, lists are replaced."""

    name: Name | UnsetType = UNSET
    models: Patterns | UnsetType | None = UNSET
    budget: BudgetTerms | tuple[BudgetTerms, ...] | ShortBudget | UnsetType | None = UNSET
    limits: LimitTerms | UnsetType | None = UNSET
    expires: Expiry | UnsetType | None = UNSET
    team: str | UnsetType | None = UNSET
    user: str | UnsetType | None = UNSET
    customer: str | UnsetType | None = UNSET
    tags: tuple[str, ...] | UnsetType | None = UNSET
    metadata: dict[str, str | None] | UnsetType | None = UNSET


class Rotation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``key``: the new value, where it is not to be made here."""

    key: KeyValue | None = None


def minted() -> str:
    """A new key: 256 random bits behind ``sk-tw-``."""
    return MINTED + secrets.token_urlsafe(32)


def key_value(value: str) -> str:
    """A key value somebody chose. Raises BadRequest, which never repeats the value."""
    if not SHORTEST_KEY <= len(value) <= LONGEST_KEY:
        raise BadRequest(f"key must have {SHORTEST_KEY} to {LONGEST_KEY} characters", param="key")
    if not _KEY_VALUE.fullmatch(value):
        raise BadRequest("key must consist of visible ASCII characters, without spaces", param="key")
    return value


def name(text: str) -> str:
    written = text.strip()
    if not 1 <= len(written) <= _LONGEST_NAME:
        raise BadRequest(f"name must have 1 to {_LONGEST_NAME} characters", param="name")
    if not written.isprintable() or set(written) & set("/?#%"):
        raise BadRequest("name must be printable, without / ? # or %: it stands in addresses", param="name")
    if written.startswith(("key_", "sk-")):
        raise BadRequest("name must not begin with key_ or sk-: ids and secrets look like that", param="name")
    return written


def label(text: str | None, param: str) -> str | None:
    """A team, user or customer: 1 to 200 printable characters, or None."""
    if text is None:
        return None
    written = text.strip()
    if not 1 <= len(written) <= 200 or not written.isprintable():
        raise BadRequest(f"{param} must have 1 to 200 printable characters, or be null", param=param)
    return written


def words(texts: tuple[str, ...], param: str) -> tuple[str, ...]:
    """Models or tags: each stripped, not empty, named once, in the order given."""
    if len(texts) > _MOST_ENTRIES:
        raise BadRequest(f"{param} has more than {_MOST_ENTRIES} entries", param=param)
    for position, text in enumerate(texts):
        if not 1 <= len(text.strip()) <= 256 or not text.strip().isprintable():
            raise BadRequest(f"{param}[{position}] must have 1 to 256 printable characters", param=param)
    return tuple(dict.fromkeys(text.strip() for text in texts))


def metadata(given: dict[str, str]) -> dict[str, str]:
    if len(given) > 64:
        raise BadRequest("metadata has more than 64 entries", param="metadata")
    for key, value in given.items():
        if not 1 <= len(key) <= 64 or len(value) > 1024 or "\0" in key + value:
            raise BadRequest(
                "metadata takes names of 1 to 64 and values of up to 1024 characters", param="metadata"
            )
    return dict(given)


def budget(terms: BudgetTerms, old: Budget | None, param: str = "budget") -> Budget:
    """A budget from its terms, laid over ``old`` where there is one."""
    if terms.usd is UNSET and old is None:
        raise BadRequest(f"{param}.usd is missing: the amount in US dollars", param=f"{param}.usd")
    limit = old.limit if terms.usd is UNSET and old is not None else _amount(terms.usd, f"{param}.usd")
    per = _kept(terms.per, old.per if old is not None else "total", "total")
    strict = _kept(terms.strict, old.strict if old is not None else False, False)
    if not _PERIOD.fullmatch(per):
        raise BadRequest(
            f"{param}.per must be day, week, month, total or a number of days such as 30d",
            param=f"{param}.per",
        )
    return Budget(limit=limit, per=per, strict=strict)


def budgets(
    terms: BudgetTerms | tuple[BudgetTerms, ...] | str | None, old: tuple[Budget, ...] = ()
) -> tuple[Budget, ...]:
    """One budget, several, or none. An object is laid over a single budget, all else replaces them."""
    if terms is None:
        return ()
    if isinstance(terms, str):
        return (_written(terms),)
    if isinstance(terms, BudgetTerms):
        return (budget(terms, old[0] if len(old) == 1 else None),)
    if len(terms) > 10:
        raise BadRequest("budget has more than 10 entries", param="budget")
    made = tuple(budget(each, None, f"budget[{position}]") for position, each in enumerate(terms))
    if len({each.per for each in made}) < len(made):
        raise BadRequest("budget names the same period twice", param="budget")
    return made


def limits(terms: LimitTerms | None, old: RateLimit) -> RateLimit:
    if terms is None:
        return RateLimit()
    found: dict[str, int | None] = {}
    for field in LimitTerms.__struct_fields__:
        value: int | None = _kept(getattr(terms, field), getattr(old, field), None)
        if value is not None and not 1 <= value <= _MOST_COUNT:
            raise BadRequest(
                f"limits.{field} must be between 1 and {_MOST_COUNT}; null lifts it", param=f"limits.{field}"
            )
        found[field] = value
    return replace(old, **found)


def expiry(text: str | None, now: float) -> float | None:
    if text is None:
        return None
    moment = ahead(text, now, param="expires")
    if moment <= now:
        raise BadRequest("expires lies in the past; revoke the key to end it now", param="expires")
    return moment


def patched(key: VirtualKey, patch: KeyPatch, now: float) -> dict[str, object]:
    """The fields of ``key`` that ``patch`` sets, checked, ready for ``msgspec.structs.replace``."""
    changes: dict[str, object] = {}
    if patch.name is not UNSET:
        changes["name"] = name(patch.name)
    if patch.models is not UNSET:
        changes["models"] = words(patch.models or (), "models")
    if patch.budget is not UNSET:
        changes["budgets"] = budgets(patch.budget, key.budgets)
    if patch.limits is not UNSET:
        changes["limits"] = limits(patch.limits, key.limits)
    if patch.expires is not UNSET:
        changes["expires_at"] = expiry(patch.expires, now)
    for field in ("team", "user", "customer"):
        text = getattr(patch, field)
        if text is not UNSET:
            changes[field] = label(text, field)
    if patch.tags is not UNSET:
        changes["tags"] = words(patch.tags or (), "tags")
    if patch.metadata is not UNSET:
        merged = {**key.metadata, **patch.metadata} if patch.metadata is not None else {}
        changes["metadata"] = metadata({k: value for k, value in merged.items() if value is not None})
    return changes


def _kept(given: T | UnsetType | None, old: T, default: T) -> T:
    if isinstance(given, UnsetType):
        return old
    return default if given is None else given


def _written(text: str) -> Budget:
    try:
        found = units.budget(text)
    except ValueError as error:
        raise BadRequest(f"budget: {error}", param="budget") from None
    return Budget(limit=_bounded(found.limit, "budget"), per=found.per)


def _amount(usd: int | float | str | UnsetType, param: str) -> Money:
    try:
        return _bounded(units.dollars(str(usd)), param)
    except ValueError as error:
        raise BadRequest(f"{param}: {error}", param=param) from None


def _bounded(amount: Money, param: str) -> Money:
    # Sums of such amounts still fit the database's 64 bits.
    if amount > _MOST:
        raise BadRequest(f"{param} is more than {to_usd(_MOST)} US dollars", param=param)
    return amount
