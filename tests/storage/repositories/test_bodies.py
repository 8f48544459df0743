from __future__ import annotations

from tollway.storage.engine import Database
from tollway.storage.repositories.bodies import Bodies, Body


async def test_bodies_come_and_go(database: Database) -> None:
    bodies = Bodies(database)
    await bodies.add([])
    kept = [Body(event_id=f"ue_{n}", request=b"ask", response=None, expires_at=100.0 + n) for n in range(10)]
    await bodies.add(kept)
    await bodies.add([Body(event_id="ue_3", request=b"other", expires_at=1e9)])
    assert await bodies.find("ue_3") == kept[3]
    assert await bodies.find("ue_99") is None
    assert await bodies.purge(104.0, 3) == 3
    assert await bodies.purge(104.0, 3) == 2
    assert await bodies.purge(104.0, 3) == 0
    assert await bodies.find("ue_4") is None
    assert await bodies.find("ue_5") == kept[5]
