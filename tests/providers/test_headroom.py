from tollway.providers.headroom import Headroom, Left

OPENAI = {
    b"x-ratelimit-limit-requests": b"60",
    b"x-ratelimit-remaining-requests": b"0",
    b"x-ratelimit-reset-requests": b"1m30s",
    b"x-ratelimit-limit-tokens": b"150000",
    b"x-ratelimit-remaining-tokens": b"149984",
    b"x-ratelimit-reset-tokens": b"6ms",
}
ANTHROPIC = {
    b"date": b"Sun, 22 Nov 2026 10:00:00 GMT",
    b"anthropic-ratelimit-requests-limit": b"50",
    b"anthropic-ratelimit-requests-remaining": b"49",
    b"anthropic-ratelimit-requests-reset": b"2026-11-22T10:00:02Z",
    b"anthropic-ratelimit-input-tokens-remaining": b"0",
    b"anthropic-ratelimit-input-tokens-reset": b"2026-11-22T10:00:40Z",
}


def test_nothing_heard_is_room() -> None:
    assert Headroom().exhausted(5.0) == 0
    assert Headroom().left(5.0) == ()


def test_openai() -> None:
    room = Headroom()
    room.heard(OPENAI, 100.0)
    assert room.exhausted(100.0) == 90
    assert room.exhausted(150.0) == 40
    assert room.exhausted(190.0) == 0
    assert Left(unit="requests", limit=60, remaining=0, resets_in=80.0) in room.left(110.0)
    assert [one.unit for one in room.left(100.0)] == ["requests", "tokens"]


def test_anthropic_by_the_answers_own_date() -> None:
    room = Headroom()
    room.heard(ANTHROPIC, 0.0)
    assert room.exhausted(0.0) == 40
    assert Left(unit="requests", limit=50, remaining=49, resets_in=2.0) in room.left(0.0)


def test_a_refusal_counts_until_its_time_and_is_news_once() -> None:
    room = Headroom()
    assert room.refused(20, 0.0)
    assert not room.refused(20, 0.5)
    assert room.exhausted(10.0) == 10.5
    assert room.refused(1e9, 0.5)
    assert room.exhausted(0.5) == 3600


def test_what_cannot_be_read_is_nothing() -> None:
    room = Headroom()
    room.heard({b"x-ratelimit-remaining-requests": b"many", b"x-ratelimit-remaining-tokens": b"0"}, 0.0)
    assert room.exhausted(0.0) == 0
    assert room.left(0.0) == (Left(unit="tokens", limit=None, remaining=0, resets_in=None),)
