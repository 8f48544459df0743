"""The contract of counters, on the engine of one process: exact examples first, then laws over random histories."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tollway.errors import BudgetExceeded, GatewayError, RateLimitExceeded
from tollway.shared.interface import Amounts, Claim, Crossing, Standing
from tollway.shared.memory import MemoryCounters, MemoryHold
from tollway.shared.periods import period

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counters(clock: Clock) -> MemoryCounters:
    return MemoryCounters(clock)


def requests(limit: int, seconds: int = 60) -> Claim:
    label = "rpm" if seconds == 60 else "rpd"
    return Claim(
        counter=f"k:{label}", unit="requests", limit=limit, label=label, subject="key ci", seconds=seconds
    )


def tokens(limit: int, seconds: int = 60) -> Claim:
    label = "tpm" if seconds == 60 else "tpd"
    return Claim(
        counter=f"k:{label}", unit="tokens", limit=limit, label=label, subject="key ci", seconds=seconds
    )


def parallel(limit: int) -> Claim:
    return Claim(counter="k:parallel", unit="parallel", limit=limit, label="parallel", subject="key ci")


def budget(limit: int, per: str = "total", *, strict: bool = False, anchor: float = 0.0) -> Claim:
    return Claim(
        counter=f"k:usd:{per}",
        unit="nano_usd",
        limit=limit,
        label="total budget" if per == "total" else f"budget per {per}",
        subject="key ci",
        per=per,
        strict=strict,
        anchor=anchor,
    )


NOTHING = Amounts()


def taking(nano_usd: int = 0, *, worst: int | None = None, tokens: int = 0, sure: int = 0) -> Amounts:
    return Amounts(
        tokens=tokens,
        input_tokens=sure,
        nano_usd=nano_usd,
        worst_nano_usd=nano_usd if worst is None else worst,
    )


async def standing(counters: MemoryCounters, claim: Claim) -> Standing:
    (row,) = await counters.standing((claim,))
    return row


# ----------------------------------------------------------------------------------------------- budgets


async def test_a_budget_holds_settles_and_refuses(counters: MemoryCounters) -> None:
    claim = budget(100)
    first = await counters.reserve((claim,), taking(60))
    assert (await standing(counters, claim)).held == 60
    with pytest.raises(BudgetExceeded):
        await counters.reserve((claim,), taking(41))
    second = await counters.reserve((claim,), taking(40))
    first.settle(nano_usd=10, tokens=0)
    second.release()
    row = await standing(counters, claim)
    assert (row.spent, row.held, row.resets_at) == (10, 0, None)
    await counters.reserve((claim,), taking(90))


async def test_a_refusal_names_what_is_spent_held_and_when_it_resets(
    counters: MemoryCounters, clock: Clock
) -> None:
    claim = budget(5_000_000_000, "month")
    counters.seed(claim, 3_000_000_000)
    await counters.reserve((claim,), taking(1_500_000_000))
    with pytest.raises(BudgetExceeded) as refused:
        await counters.reserve((claim,), taking(600_000_000))
    error = refused.value
    assert error.http_status == 402
    assert error.message == (
        "key ci has a budget per month of $5.00: $3.00 is spent, $1.50 is held by running requests and this "
        "one needs $0.60. It resets at 2026-12-01T00:00:00Z."
    )
    assert error.details == {
        "budget": "budget per month",
        "limit": "budget per month",
        "subject": "key ci",
        "unit": "nano_usd",
        "free": 500_000_000,
        "clamp": False,
        "limit_nano_usd": 5_000_000_000,
        "spent_nano_usd": 3_000_000_000,
        "held_nano_usd": 1_500_000_000,
        "needed_nano_usd": 600_000_000,
        "resets_at": "2026-12-01T00:00:00Z",
    }
    with pytest.raises(BudgetExceeded, match="It does not reset"):
        await counters.reserve((budget(0),), NOTHING)


async def test_strict_holds_the_worst_case(counters: MemoryCounters) -> None:
    lax, strict = budget(100), budget(100, "month", strict=True)
    hold = await counters.reserve((lax, strict), taking(10, worst=70))
    assert [row.held for row in await counters.standing((lax, strict))] == [10, 70]
    with pytest.raises(BudgetExceeded, match="budget per month"):
        await counters.reserve((lax, strict), taking(10, worst=31))
    hold.settle(nano_usd=25, tokens=0)
    assert [(row.spent, row.held) for row in await counters.standing((lax, strict))] == [(25, 0), (25, 0)]


async def test_a_spent_budget_refuses_even_what_is_free(counters: MemoryCounters) -> None:
    claim = budget(100)
    counters.seed(claim, 100)
    with pytest.raises(BudgetExceeded):
        await counters.reserve((claim,), NOTHING)
    counters.seed(claim, 99)
    await counters.reserve((claim,), NOTHING)


@pytest.mark.parametrize(
    ("per", "anchor"),
    [
        ("day", 0.0),
        ("week", 0.0),
        ("month", 0.0),
        ("1d", 0.0),
        ("30d", NOON - 10 * 86400),
        ("7d", NOON + 86400),
    ],
)
async def test_a_period_ends(counters: MemoryCounters, clock: Clock, per: str, anchor: float) -> None:
    claim = budget(100, per, anchor=anchor)
    end = period(per, clock.now, anchor)[1]
    assert end is not None
    counters.seed(claim, 80)
    running = await counters.reserve((claim,), taking(20))
    assert (await standing(counters, claim)).resets_at == end
    clock.now = end - 0.001
    with pytest.raises(BudgetExceeded):
        await counters.reserve((claim,), taking(1))
    clock.now = end
    row = await standing(counters, claim)
    assert (row.spent, row.held) == (0, 20)
    assert row.resets_at == period(per, end, anchor)[1]
    running.settle(nano_usd=7, tokens=0)
    row = await standing(counters, claim)
    assert (row.spent, row.held) == (7, 0)


async def test_a_budget_that_slept_through_several_periods(counters: MemoryCounters, clock: Clock) -> None:
    claim = budget(100, "day")
    counters.seed(claim, 100)
    clock.now += 5 * 86400
    await counters.reserve((claim,), taking(100))
    assert (await standing(counters, claim)).resets_at == period("day", clock.now)[1]


async def test_seed_is_what_was_spent_before(counters: MemoryCounters) -> None:
    claim = budget(100)
    assert not counters.known(claim)
    counters.seed(claim, 30)
    assert counters.known(claim)
    assert (await standing(counters, claim)).spent == 30
    counters.seed(requests(5), 30)
    assert (await standing(counters, requests(5))).spent == 0


# ------------------------------------------------------------------------------------------------ windows


async def test_requests_of_a_minute(counters: MemoryCounters, clock: Clock) -> None:
    claim = requests(3)
    for _ in range(3):
        (await counters.reserve((claim,), NOTHING)).settle(nano_usd=0, tokens=0)
        clock.now += 1
    with pytest.raises(RateLimitExceeded) as refused:
        await counters.reserve((claim,), NOTHING)
    error = refused.value
    assert error.http_status == 429
    wait = int(error.headers["retry-after"])
    assert 57 <= wait <= 59
    assert 0 <= wait * 1000 - int(error.headers["retry-after-ms"]) < 1000
    assert error.headers["x-ratelimit-limit-requests"] == "3"
    assert error.headers["x-ratelimit-remaining-requests"] == "0"
    assert error.details["used"] == error.details["allowed"] == 3
    assert error.details["limit"] == "rpm"
    assert error.details["resets_at"] == datetime.fromtimestamp(
        clock.now + int(error.headers["retry-after-ms"]) / 1000, UTC
    ).isoformat(timespec="seconds").replace("+00:00", "Z")
    assert "3 requests per minute (rpm): 3 used, 1 more asked for" in error.message
    clock.now += int(error.headers["retry-after-ms"]) / 1000
    await counters.reserve((claim,), NOTHING)
    with pytest.raises(RateLimitExceeded):
        await counters.reserve((claim,), NOTHING)


async def test_a_released_request_stays_counted_and_its_tokens_do_not(counters: MemoryCounters) -> None:
    claims = (requests(1), tokens(100))
    (await counters.reserve(claims, taking(tokens=90))).release()
    assert [row.spent for row in await counters.standing(claims)] == [1, 0]
    with pytest.raises(RateLimitExceeded, match="rpm"):
        await counters.reserve(claims, NOTHING)


async def test_tokens_are_held_then_replaced_by_what_was_used(counters: MemoryCounters, clock: Clock) -> None:
    claim = tokens(100)
    hold = await counters.reserve((claim,), taking(tokens=80))
    with pytest.raises(RateLimitExceeded):
        await counters.reserve((claim,), taking(tokens=21))
    clock.now += 5
    hold.settle(nano_usd=0, tokens=30)
    assert (await standing(counters, claim)).spent == 30
    over = await counters.reserve((claim,), taking(tokens=70))
    over.settle(nano_usd=0, tokens=500)
    assert (await standing(counters, claim)).spent == 530
    with pytest.raises(RateLimitExceeded) as refused:
        await counters.reserve((claim,), taking(tokens=1))
    assert refused.value.headers["x-ratelimit-remaining-tokens"] == "0"
    clock.now += int(refused.value.headers["retry-after-ms"]) / 1000
    await counters.reserve((claim,), taking(tokens=1))


async def test_a_request_larger_than_the_limit(counters: MemoryCounters) -> None:
    claim = tokens(100)
    with pytest.raises(RateLimitExceeded, match="Shorten it or lower max_tokens") as refused:
        await counters.reserve((claim,), taking(tokens=300, sure=101))
    assert "retry-after" not in refused.value.headers
    # Only an expectation is too large: it takes all there is.
    hold = await counters.reserve((claim,), taking(tokens=300, sure=100))
    assert (await standing(counters, claim)).spent == 100
    hold.settle(nano_usd=0, tokens=120)
    assert (await standing(counters, claim)).spent == 120


@pytest.mark.parametrize("used", [10, 80, 200])
async def test_a_request_that_outlives_the_window(counters: MemoryCounters, clock: Clock, used: int) -> None:
    """What it takes beyond its hold counts when it ends; what it held has left the window already."""
    claim = tokens(1000)
    hold = await counters.reserve((claim,), taking(tokens=80))
    clock.now += 200
    assert (await standing(counters, claim)).spent == 0
    counters.prune(frozenset())
    hold.settle(nano_usd=0, tokens=used)
    assert (await standing(counters, claim)).spent == max(used - 80, 0)


async def test_headers_speak_of_the_tightest_limits(counters: MemoryCounters, clock: Clock) -> None:
    claims = (requests(100), requests(4, 86400), tokens(1000), tokens(100_000, 86400))
    hold = await counters.reserve(claims, taking(tokens=250))
    lines = dict(
        line.split(": ") for line in hold.ratelimit_headers().decode().split("\r\n")[:-1]
    )  # whole lines, so the last piece is empty
    assert lines["x-ratelimit-limit-requests"] == "4"
    assert lines["x-ratelimit-remaining-requests"] == "3"
    assert lines["x-ratelimit-limit-tokens"] == "1000"
    assert lines["x-ratelimit-remaining-tokens"] == "750"
    assert 0 < int(lines["x-ratelimit-reset-tokens"].rstrip("s")) <= 62
    assert 86400 - 1440 <= int(lines["x-ratelimit-reset-requests"].rstrip("s")) <= 86400 + 1440
    plain = await counters.reserve((budget(5), parallel(3)), taking(1))
    assert plain.ratelimit_headers() == b""


# ------------------------------------------------------------------------- units, thresholds, what is rare


def of(unit: str, limit: int, **more: object) -> Claim:
    fields: dict[str, object] = {
        "counter": f"k:{unit}:{more.get('seconds', more.get('per', ''))}",
        "unit": unit,
        "limit": limit,
        "label": "limit",
        "subject": "team search",
        **more,
    }
    return Claim(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "cached", "held", "spent"),
    [
        ("all", True, 100, 90),
        ("all", False, 100, 70),
        ("input", True, 60, 50),
        ("input", False, 60, 30),
        ("output", True, 40, 40),
        ("output", False, 40, 40),
    ],
)
async def test_which_tokens_count(
    counters: MemoryCounters, count: str, cached: bool, held: int, spent: int
) -> None:
    window = of("tokens", 1000, seconds=60, count=count, cached=cached)
    purse = of("tokens", 1000, per="day", count=count, cached=cached)
    hold = await counters.reserve((window, purse), taking(tokens=100, sure=60))
    rows = await counters.standing((window, purse))
    assert [(row.spent, row.held) for row in rows] == [(held, 0), (0, held)]
    hold.settle(nano_usd=5, tokens=90, input_tokens=50, cached_tokens=20)
    rows = await counters.standing((window, purse))
    assert [(row.spent, row.held) for row in rows] == [(spent, 0), (spent, 0)]


async def test_a_budget_of_requests(counters: MemoryCounters) -> None:
    claim = of("requests", 2, per="month")
    (await counters.reserve((claim,), NOTHING)).settle(nano_usd=1, tokens=1)
    (await counters.reserve((claim,), NOTHING)).release()
    assert (await standing(counters, claim)).spent == 1
    await counters.reserve((claim,), NOTHING)
    with pytest.raises(BudgetExceeded, match=r"of 2 requests: 1 is spent, 1 is held .* needs 1") as refused:
        await counters.reserve((claim,), NOTHING)
    assert refused.value.details == {
        "budget": "limit",
        "limit": "limit",
        "subject": "team search",
        "unit": "requests",
        "allowed": 2,
        "spent": 1,
        "held": 1,
        "needed": 1,
        "free": 0,
        "clamp": False,
        "resets_at": "2026-12-01T00:00:00Z",
    }


async def test_a_threshold_is_crossed_once_a_period(clock: Clock) -> None:
    told: list[Crossing] = []
    counters = MemoryCounters(clock, told.append)
    claim = of("nano_usd", 100, per="day", alerts=(50, 80))
    first = await counters.reserve((claim,), taking(10))
    assert first.warnings() == ()
    first.settle(nano_usd=55, tokens=0)
    assert first.warnings() == (Crossing(claim=claim, at=50, used=55),)
    second = await counters.reserve((claim,), taking(25))
    assert second.warnings() == (Crossing(claim=claim, at=80, used=80),)
    second.settle(nano_usd=30, tokens=0)
    third = await counters.reserve((claim,), taking(5))
    third.settle(nano_usd=5, tokens=0)
    assert third.warnings() == ()
    assert [crossing.at for crossing in told] == [50, 80]
    clock.now += 86400
    again = await counters.reserve((claim,), taking(90))
    assert [crossing.at for crossing in again.warnings()] == [80]
    assert len(told) == 3


async def test_what_was_spent_before_warned_before(counters: MemoryCounters) -> None:
    claim = of("nano_usd", 100, per="day", alerts=(50, 80))
    counters.seed(claim, 60)
    hold = await counters.reserve((claim,), taking(5))
    assert hold.warnings() == ()
    hold.settle(nano_usd=20, tokens=0)
    assert [crossing.at for crossing in hold.warnings()] == [80]


async def test_the_worst_case_warns_nobody(counters: MemoryCounters) -> None:
    claim = of("nano_usd", 100, per="day", alerts=(50,), strict=True)
    hold = await counters.reserve((claim,), taking(1, worst=90))
    assert hold.warnings() == ()


async def test_a_limit_that_is_only_watched(counters: MemoryCounters) -> None:
    claims = (
        of("nano_usd", 10, per="day", enforce=False),
        of("requests", 1, seconds=60, enforce=False),
        of("tokens", 10, seconds=60, enforce=False),
        of("parallel", 1, enforce=False),
    )
    assert (await counters.reserve(claims, taking(10, tokens=10))).warnings() == ()
    hold = await counters.reserve(claims, taking(10, tokens=10))
    assert [(crossing.claim, crossing.shadow) for crossing in hold.warnings()] == [
        (claim, True) for claim in claims
    ]
    hold.settle(nano_usd=7, tokens=7)
    rows = await counters.standing(claims)
    assert [(row.spent, row.held) for row in rows] == [(7, 10), (2, 0), (17, 0), (0, 1)]


async def test_a_limit_raised_for_a_while(counters: MemoryCounters, clock: Clock) -> None:
    claims = (
        of("nano_usd", 10, per="total", raised_by=5, raised_until=NOON + 60),
        of("requests", 1, seconds=3600, raised_by=1, raised_until=NOON + 60),
    )
    await counters.reserve(claims, taking(10))
    (await counters.reserve(claims, taking(5))).release()
    clock.now += 60
    with pytest.raises(BudgetExceeded) as refused:
        await counters.reserve(claims[:1], taking(1))
    assert refused.value.details["limit_nano_usd"] == 10
    with pytest.raises(RateLimitExceeded):
        await counters.reserve(claims[1:], NOTHING)


async def test_a_hold_grows_until_a_ceiling(counters: MemoryCounters) -> None:
    claims = (
        of("nano_usd", 100, per="day"),
        of("tokens", 50, seconds=60),
        of("tokens", 10, seconds=3600, count="input"),
    )
    hold = await counters.reserve(claims, taking(40, tokens=20, sure=10))
    assert hold.extend(nano_usd=40, tokens=20)
    before = await counters.standing(claims)
    assert [(row.spent, row.held) for row in before] == [(0, 80), (40, 0), (10, 0)]
    assert not hold.extend(nano_usd=10, tokens=11)
    assert not hold.extend(nano_usd=21, tokens=1)
    assert await counters.standing(claims) == before
    hold.settle(nano_usd=70, tokens=35, input_tokens=10)
    rows = await counters.standing(claims)
    assert [(row.spent, row.held) for row in rows] == [(70, 0), (35, 0), (10, 0)]
    assert not hold.extend(nano_usd=1, tokens=1)


async def test_what_grew_never_leaves_less_than_nothing(counters: MemoryCounters, clock: Clock) -> None:
    claim = of("tokens", 100, seconds=60)
    hold = await counters.reserve((claim,), taking(tokens=50))
    clock.now += 30
    assert hold.extend(nano_usd=0, tokens=40)
    hold.settle(nano_usd=0, tokens=20)
    assert (await standing(counters, claim)).spent == 20
    clock.now += 40
    assert (await standing(counters, claim)).spent == 0


async def test_a_restart_within_a_minute(counters: MemoryCounters, clock: Clock) -> None:
    claim = requests(3)
    counters.seed_window(claim, [(NOON - 10, 1), (NOON - 70, 5), (NOON - 50, 1), (NOON - 10.2, 1)])
    assert (await standing(counters, claim)).spent == 3
    with pytest.raises(RateLimitExceeded) as refused:
        await counters.reserve((claim,), NOTHING)
    assert 8 <= int(refused.value.headers["retry-after"]) <= 12
    clock.now += 12
    await counters.reserve((claim,), NOTHING)
    with pytest.raises(RateLimitExceeded):
        await counters.reserve((claim,), NOTHING)


async def test_a_budget_follows_a_changed_calendar(counters: MemoryCounters, clock: Clock) -> None:
    await counters.reserve((of("nano_usd", 100, per="month"),), taking(5))
    claim = of("nano_usd", 100, per="month", first_day=15, zone="Asia/Tokyo")
    await counters.reserve((claim,), taking(5))
    row = await standing(counters, claim)
    assert row.held == 10
    assert row.resets_at == datetime(2026, 12, 14, 15, tzinfo=UTC).timestamp()
    await counters.reset(claim, 42)
    assert (await standing(counters, claim)).spent == 42


# ------------------------------------------------------------------------------------------ parallel, holds


async def test_parallel_slots(counters: MemoryCounters) -> None:
    claim = parallel(2)
    holds = [await counters.reserve((claim,), NOTHING) for _ in range(2)]
    with pytest.raises(RateLimitExceeded, match="2 requests at the same time and 2 are running") as refused:
        await counters.reserve((claim,), NOTHING)
    assert refused.value.headers["retry-after"] == "1"
    holds[0].release()
    await counters.reserve((claim,), NOTHING)
    with pytest.raises(RateLimitExceeded):
        await counters.reserve((claim,), NOTHING)


async def test_a_hold_ends_exactly_once(counters: MemoryCounters) -> None:
    claims = (parallel(5), requests(5), tokens(100), budget(100))
    hold = await counters.reserve(claims, taking(50, tokens=50))
    assert counters.held() == 1
    hold.settle(nano_usd=20, tokens=30)
    hold.settle(nano_usd=20, tokens=30)
    hold.release()
    assert counters.held() == 0
    rows = await counters.standing(claims)
    assert [(row.spent, row.held) for row in rows] == [(0, 0), (1, 0), (30, 0), (20, 0)]


async def test_a_hold_left_by_an_error_is_released(counters: MemoryCounters) -> None:
    claims = (parallel(1), budget(100))
    with pytest.raises(ZeroDivisionError), counters.reserve_now(claims, taking(100)):
        _ = 1 // 0
    assert [(row.spent, row.held) for row in await counters.standing(claims)] == [(0, 0), (0, 0)]
    with counters.reserve_now(claims, taking(100)) as hold:
        hold.settle(nano_usd=40, tokens=0)
    assert (await standing(counters, claims[1])).spent == 40


@pytest.mark.parametrize("last", range(5))
async def test_all_claims_or_none(counters: MemoryCounters, last: int) -> None:
    """Whichever claim refuses, and wherever it stands, the others are as they were."""
    full: tuple[Claim, ...] = (parallel(0), requests(0), tokens(0), budget(0), budget(1, "day", strict=True))
    refusing = full[last]
    open_claims = tuple(
        claim
        for claim in (parallel(9), requests(9), tokens(900), budget(900), budget(900, "day"))
        if claim.counter != refusing.counter
    )
    before = await counters.standing(open_claims)
    with pytest.raises(GatewayError):
        await counters.reserve((*open_claims, refusing), taking(5, worst=5, tokens=5, sure=5))
    with pytest.raises(GatewayError):
        await counters.reserve((refusing, *open_claims), taking(5, worst=5, tokens=5, sure=5))
    assert await counters.standing(open_claims) == before
    assert counters.held() == 0


async def test_prune_forgets_what_says_nothing(counters: MemoryCounters, clock: Clock) -> None:
    gone, kept, running = budget(9, "day"), budget(9, "week"), parallel(2)
    counters.seed(gone, 5)
    counters.seed(kept, 5)
    hold = await counters.reserve((running, requests(5)), NOTHING)
    counters.prune({kept.counter})
    assert not counters.known(gone)
    assert counters.known(kept)
    assert counters.known(running)
    assert counters.known(requests(5))
    hold.release()
    clock.now += 62
    counters.prune({kept.counter})
    assert not counters.known(running)
    assert not counters.known(requests(5))
    assert (await standing(counters, kept)).spent == 5


# --------------------------------------------------------------------------------------------------- laws

GAPS = st.floats(0, 20) | st.sampled_from([0.0, 0.999, 1.0, 59.0, 59.999, 60.0, 60.001, 61.0])


@given(limit=st.integers(1, 8), gaps=st.lists(GAPS, max_size=80), start=st.floats(0, 120))
@settings(max_examples=150, deadline=None)
async def test_no_minute_ever_has_more_than_the_limit(limit: int, gaps: list[float], start: float) -> None:
    clock = Clock(NOON + start)
    counters = MemoryCounters(clock)
    admitted: list[float] = []
    for gap in gaps:
        clock.now += gap
        in_reach = sum(1 for at in admitted if at > clock.now - 61)
        try:
            counters.reserve_now((requests(limit),), NOTHING).release()
        except RateLimitExceeded:
            assert in_reach >= limit, "refused though the last 61 seconds had room"
        else:
            admitted.append(clock.now)
    for first, beyond in zip(admitted, admitted[limit:], strict=False):
        assert beyond - first >= 60


@given(
    limit=st.integers(50, 2000),
    asked=st.lists(st.tuples(GAPS, st.integers(0, 400)), max_size=80),
)
@settings(max_examples=150, deadline=None)
async def test_no_minute_ever_has_more_tokens(limit: int, asked: list[tuple[float, int]]) -> None:
    clock = Clock()
    counters = MemoryCounters(clock)
    admitted: list[tuple[float, int]] = []
    for gap, amount in asked:
        clock.now += gap
        try:
            hold = counters.reserve_now((tokens(limit),), taking(tokens=amount, sure=amount))
        except RateLimitExceeded:
            assert sum(taken for at, taken in admitted if at > clock.now - 61) + amount > limit
        else:
            hold.settle(nano_usd=0, tokens=amount)
            admitted.append((clock.now, amount))
    for index, (at, _) in enumerate(admitted):
        assert sum(taken for other, taken in admitted[index:] if other - at < 60) <= limit


@given(limit=st.integers(1, 600), phase=st.floats(0, 60), seconds=st.sampled_from([60, 86400]))
@settings(max_examples=60, deadline=None)
async def test_a_client_paced_at_95_percent_is_never_refused(limit: int, phase: float, seconds: int) -> None:
    clock = Clock(NOON + phase)
    counters = MemoryCounters(clock)
    pace = seconds / (limit * 0.95)
    for _ in range(3 * limit):
        counters.reserve_now((requests(limit, seconds),), NOTHING).release()
        clock.now += pace


@given(gaps=st.lists(GAPS, min_size=3, max_size=40), limit=st.integers(1, 4))
@settings(max_examples=100, deadline=None)
async def test_who_waits_as_told_is_admitted_and_not_told_too_long(gaps: list[float], limit: int) -> None:
    clock = Clock()
    counters = MemoryCounters(clock)
    for gap in gaps:
        clock.now += gap
        try:
            counters.reserve_now((requests(limit),), NOTHING)
        except RateLimitExceeded as refused:
            wait = int(refused.headers["retry-after-ms"]) / 1000
            assert 0 < wait <= 62
            clock.now += wait
            counters.reserve_now((requests(limit),), NOTHING)


class Ledger(RuleBasedStateMachine):
    """Random reservations over every kind of claim, compared with sums over what was admitted."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.counters = MemoryCounters(self.clock)
        self.open: list[tuple[MemoryHold, Amounts]] = []
        self.spent = {"total": 0, "day": 0}
        self.day_ends = period("day", NOON)[1] or 0.0
        self.requested: list[float] = []

    @initialize(
        limit=st.integers(0, 500), daily=st.integers(0, 300), slots=st.integers(1, 4), rpm=st.integers(1, 12)
    )
    def ceilings(self, limit: int, daily: int, slots: int, rpm: int) -> None:
        self.claims = (parallel(slots), requests(rpm), budget(limit, strict=True), budget(daily, "day"))

    def roll(self) -> None:
        if self.clock.now >= self.day_ends:
            self.spent["day"] = 0
            self.day_ends = period("day", self.clock.now)[1] or 0.0

    @rule(expected=st.integers(0, 60), worst=st.integers(0, 120))
    def reserve(self, expected: int, worst: int) -> None:
        self.roll()
        amounts = taking(expected, worst=max(expected, worst))
        slots, rpm, total, day = (claim.limit for claim in self.claims)
        held_worst = sum(taken.worst_nano_usd for _, taken in self.open)
        held = sum(taken.nano_usd for _, taken in self.open)
        fits = (
            len(self.open) < slots
            and self.spent["total"] + held_worst + amounts.worst_nano_usd <= total
            and self.spent["day"] + held + amounts.nano_usd <= day
            and not (self.spent["total"] >= total and not amounts.worst_nano_usd)
            and not (self.spent["day"] >= day and not amounts.nano_usd)
        )
        surely_free = sum(1 for at in self.requested if at > self.clock.now - 61) < rpm
        try:
            hold = self.counters.reserve_now(self.claims, amounts)
        except BudgetExceeded:
            assert not fits
        except RateLimitExceeded as refused:
            by_rate = refused.details["limit"] == "rpm"
            assert not surely_free if by_rate else len(self.open) >= slots
        else:
            assert fits
            self.open.append((hold, amounts))
            self.requested.append(self.clock.now)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 10), share=st.floats(0, 1))
    def settle(self, which: int, share: float) -> None:
        self.roll()
        hold, amounts = self.open.pop(which % len(self.open))
        used = int(amounts.worst_nano_usd * share)
        hold.settle(nano_usd=used, tokens=0)
        hold.settle(nano_usd=used, tokens=0)
        self.spent["total"] += used
        self.spent["day"] += used

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 10))
    def release(self, which: int) -> None:
        self.open.pop(which % len(self.open))[0].release()

    @rule(seconds=st.sampled_from([0.1, 1.0, 7.5, 60.0, 61.0, 3600.0, 43_200.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def prune(self) -> None:
        self.counters.prune({claim.counter for claim in self.claims})

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "claims"):
            return
        self.roll()
        assert self.counters.held() == len(self.open)
        slots, _, total, day = (_row(self.counters, claim) for claim in self.claims)
        assert slots.held == len(self.open) <= slots.claim.limit
        assert (total.spent, total.held) == (
            self.spent["total"],
            sum(taken.worst_nano_usd for _, taken in self.open),
        )
        assert total.spent + total.held <= total.claim.limit, "a strict budget was overshot"
        assert (day.spent, day.held) == (self.spent["day"], sum(taken.nano_usd for _, taken in self.open))
        limit = self.claims[1].limit
        for first, beyond in zip(self.requested, self.requested[limit:], strict=False):
            assert beyond - first >= 60


def _row(counters: MemoryCounters, claim: Claim) -> Standing:
    """``standing`` never waits in this engine, so it can be read outside a loop."""
    try:
        counters.standing((claim,)).send(None)
    except StopIteration as done:
        rows: list[Standing] = done.value
        return rows[0]
    raise AssertionError("standing waited")


TestLedger = Ledger.TestCase
TestLedger.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


@given(
    anchor=st.floats(0, 2e9), days=st.integers(1, 90), gaps=st.lists(st.floats(0, 40 * 86400), max_size=20)
)
@settings(max_examples=60, deadline=None)
async def test_a_budget_starts_anew_exactly_at_each_end(anchor: float, days: int, gaps: list[float]) -> None:
    clock = Clock()
    counters = MemoryCounters(clock)
    claim = budget(10, f"{days}d", anchor=anchor)
    moments = [clock.now]
    for gap in gaps:
        moments.append(moments[-1] + gap)
    assume(len(moments) > 1)
    counters.reserve_now((claim,), taking(10)).settle(nano_usd=10, tokens=0)
    for before, now in pairwise(moments):
        clock.now = now
        anew = period(claim.per, before, anchor) != period(claim.per, now, anchor)
        try:
            counters.reserve_now((claim,), taking(10)).settle(nano_usd=10, tokens=0)
        except BudgetExceeded:
            assert not anew
        else:
            assert anew
