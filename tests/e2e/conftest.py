"""One simulated provider for each test of real processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from running import simulator
from tollway.simulator.running import RunningSimulator


@pytest.fixture
def upstream() -> Iterator[RunningSimulator]:
    with simulator() as running:
        yield running
