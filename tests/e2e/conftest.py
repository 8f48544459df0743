"""One simulated provider for each test of real processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from running import simulator
from tollway.simulator.running import RunningSimulator


@pytest.fixture
def upstream() -> Iterator[RunningSimulator]:
    with simulator() as running:
        yield running
