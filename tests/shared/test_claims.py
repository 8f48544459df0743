from __future__ import annotations

from tollway.model.key import Budget, RateLimit, VirtualKey
from tollway.shared.claims import claims_of
from tollway.shared.interface import Claim


def key(budgets: tuple[Budget, ...] = (), limits: RateLimit = RateLimit()) -> VirtualKey:
    return VirtualKey(
        id="k1", name="ci", hash="0" * 64, hint="sk-…", budgets=budgets, limits=limits, created_at=5.0
    )


def test_a_key_without_ceilings_claims_nothing() -> None:
    assert claims_of(key()) == ()


def test_every_ceiling_is_claimed_and_cheap_ones_come_first() -> None:
    claims = claims_of(
        key(
            (
                Budget(limit=7, per="month"),
                Budget(limit=9, strict=True),
                Budget(limit=3, per="30d"),
            ),
            RateLimit(rpm=1, tpm=2, rpd=3, tpd=4, parallel=5),
        )
    )
    assert [(claim.counter, claim.unit, claim.limit, claim.label, claim.seconds) for claim in claims] == [
        ("key:k1:parallel", "parallel", 5, "parallel", 0),
        ("key:k1:rpm", "requests", 1, "rpm", 60),
        ("key:k1:rpd", "requests", 3, "rpd", 86400),
        ("key:k1:tpm", "tokens", 2, "tpm", 60),
        ("key:k1:tpd", "tokens", 4, "tpd", 86400),
        ("key:k1:usd:month", "nano_usd", 7, "budget per month", 0),
        ("key:k1:usd:total", "nano_usd", 9, "total budget", 0),
        ("key:k1:usd:30d", "nano_usd", 3, "budget per 30d", 0),
    ]
    assert {claim.subject for claim in claims} == {"key ci"}
    assert [(claim.per, claim.strict, claim.anchor) for claim in claims[5:]] == [
        ("month", False, 5.0),
        ("total", True, 5.0),
        ("30d", False, 5.0),
    ]


def test_a_limit_of_zero_is_a_limit() -> None:
    assert [claim.limit for claim in claims_of(key(limits=RateLimit(rpm=0, parallel=0)))] == [0, 0]


def test_counters_of_two_keys_differ() -> None:
    other = VirtualKey(id="k2", name="ci", hash="1" * 64, hint="sk-…", limits=RateLimit(rpm=1))

    def counters(claims: tuple[Claim, ...]) -> set[str]:
        return {claim.counter for claim in claims}

    assert not counters(claims_of(key(limits=RateLimit(rpm=1)))) & counters(claims_of(other))
