"""Both doors, started once for all tests of this folder that only ask them things."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from doors import Door, open_doors


@pytest.fixture(scope="session")
def doors() -> Iterator[dict[str, Door]]:
    with open_doors() as opened:
        yield opened


@pytest.fixture(params=["lane", "asgi"])
def door(request: pytest.FixtureRequest, doors: dict[str, Door]) -> Door:
    return doors[request.param]
