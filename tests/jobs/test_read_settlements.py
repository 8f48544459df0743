from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tollway.config.settings import SpoolSettings
from tollway.jobs.read_settlements import settlements
from tollway.shared.claims import Ceiling
from tollway.shared.interface import Claim
from tollway.storage.spool import BEGINNING, Spool


def ceiling(counter: str, *of: tuple[str, str], models: tuple[str, ...] = ()) -> Ceiling:
    claim = Claim(counter=counter, unit="nano_usd", limit=1, label="", subject="", per="month")
    return Ceiling(claim=claim, models=models, of=of)


def append(spool: Spool, **fields: Any) -> None:
    spool.enter()
    spool.append(msgspec.json.encode({"time": "2026-01-02T03:04:05.500Z", "model": "gpt", **fields}))
    spool.leave()


def counters(found: Any) -> set[str]:
    return {claim.counter for claim in found.claims}


@pytest.fixture
def spool(tmp_path: Path) -> Any:
    made = Spool(tmp_path / "spool", SpoolSettings())
    yield made
    made.close()


def test_each_event_is_counted_where_it_belongs(spool: Spool) -> None:
    ceilings = [
        ceiling("key", ("key_id", "k1")),
        ceiling("team", ("team", "t1")),
        ceiling("member", ("team", "t1"), ("user", "u1")),
        ceiling("tag a", ("tags", "a")),
        ceiling("tag b", ("tags", "b")),
        ceiling("some", ("key_id", "k1"), models=("openai/*", "x*y*z")),
        ceiling("nobody's"),
    ]
    usage = {"input": 7, "cache_read": 3, "output": 5}
    append(spool, key_id="k1", team="t1", user="u1", cost_nano_usd=11, usage=usage)
    append(spool, key_id="k2", team="t1", tags=["a", "b", "a"], cost_nano_usd=5)
    append(spool, key_id="k3")
    append(spool, key_id="k1", model="openai/gpt")
    append(spool, key_id="k1", model="x-y-z")
    append(spool, key_id="k1", model="x-z-y")
    first, second, *others = settlements(spool, BEGINNING, spool.end, ceilings)
    assert counters(first) == {"key", "team", "member"}
    assert (first.nano_usd, first.tokens, first.input_tokens, first.cached_tokens) == (11, 15, 10, 3)
    assert first.at == 1767323045.5
    assert counters(second) == {"team", "tag a", "tag b"}
    assert len(second.claims) == 3, "a tag that was sent twice counts once"
    assert [counters(one) for one in others] == [{"key", "some"}, {"key", "some"}, {"key"}]


def test_only_what_lies_between_the_positions(spool: Spool) -> None:
    ceilings = [ceiling("key", ("key_id", "k1"))]
    append(spool, key_id="k1", cost_nano_usd=1)
    after = spool.end
    append(spool, key_id="k1", cost_nano_usd=2)
    spool.enter()
    spool.append(b"no event")
    spool.leave()
    append(spool, key_id="k1", cost_nano_usd=3)
    found = settlements(spool, after, spool.end, ceilings)
    assert [one.nano_usd for one in found] == [2, 3]
    assert settlements(spool, spool.end, spool.end, ceilings) == []
    until = spool.end
    for _ in range(5):
        append(spool, key_id="k1", cost_nano_usd=100)
    found = settlements(spool, after, until, ceilings)
    assert [one.nano_usd for one in found] == [2, 3], "what was written since is no part of it"
