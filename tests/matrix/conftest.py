"""One gateway and one simulated provider for each module of the matrix."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
sys.path.insert(0, str(Path(__file__).parent))

from stand import Stand, configuration

from running import Gateway, simulator


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with simulator() as running:
        served = Gateway(tmp_path_factory.mktemp("matrix"), configuration(running.port))
        asyncio.run(served.start())
        made = Stand(served, running.simulator)
        try:
            yield made
        finally:
            made.close()
            served.kill()
