"""Moments in both directions."""

from __future__ import annotations

import pytest

from tollway.admin.times import ago, ahead, iso
from tollway.errors import BadRequest

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("7d", NOW - 7 * 86400),
        (" 90m ", NOW - 5400),
        ("2w", NOW - 14 * 86400),
        ("2027-01-15", 1_799_971_200.0),
        ("2027-01-15T08:00:00.250Z", 1_800_000_000.25),
        ("2027-01-15T10:00:00+02:00", 1_800_000_000.0),
    ],
)
def test_reading(text, moment):
    assert ago(text, NOW, param="since") == moment


def test_spans_go_forward_too():
    assert ahead("12h", NOW, param="expires") == NOW + 12 * 3600


@pytest.mark.parametrize(
    "text", ["", "soon", "-7d", "7 d", "٧d", "1969-01-01", "9999999w", "0001-01-01T00:00+14:00"]
)
def test_what_is_no_moment_names_its_parameter(text):
    with pytest.raises(BadRequest) as refused:
        ago(text, NOW, param="since")
    assert refused.value.param == "since"


def test_writing():
    assert iso(1_800_000_000.1239) == "2027-01-15T08:00:00.123Z"
    assert ago(iso(NOW), 0, param="since") == NOW
