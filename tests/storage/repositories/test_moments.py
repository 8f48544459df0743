from __future__ import annotations

import pytest

from tollway.errors import BadRequest
from tollway.storage.repositories.moments import midnight, moment, next_day, zone


@pytest.mark.parametrize(
    ("text", "where", "expected"),
    [
        ("2026-11-22", "UTC", "2026-11-22T00:00:00.000Z"),
        ("2026-11-22", "Europe/Berlin", "2026-11-21T23:00:00.000Z"),
        ("2026-11-22T10:30:00Z", "Europe/Berlin", "2026-11-22T10:30:00.000Z"),
        ("2026-11-22T10:30:00 02:00", "UTC", "2026-11-22T08:30:00.000Z"),
        ("2026-11-22 10:30", "Asia/Kolkata", "2026-11-22T05:00:00.000Z"),
    ],
)
def test_moments_are_written_in_utc(text: str, where: str, expected: str) -> None:
    assert moment(text, "since", zone(where)) == expected


def test_a_zone_nobody_knows() -> None:
    with pytest.raises(BadRequest, match="Mars"):
        zone("Mars/Base")


def test_days_follow_one_another() -> None:
    assert next_day("2026-12-31") == "2027-01-01"
    assert midnight("2026-12-31") == "2026-12-31T00:00:00.000Z"
