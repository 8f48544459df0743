"""Client secrets: bounded, expiring, and kept by digest."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tollway.errors import RateLimitExceeded
from tollway.model.secret import Secret
from tollway.pipeline import client_secrets
from tollway.pipeline.client_secrets import Bound, ClientSecrets

BOUND = Bound(
    key=b"k",
    model="voice",
    provider="openai",
    upstream_model="gpt-realtime",
    secret=Secret("ek_theirs"),
    transcribes=False,
    expires_at=100.0,
)


def test_a_secret_leads_to_what_it_stands_for_until_it_expires() -> None:
    kept = ClientSecrets()
    token = kept.issue(BOUND, 0.0)
    assert token.startswith("ek_tw_")
    assert len(token) > 40
    assert kept.find(token.encode(), 99.9) is BOUND
    assert kept.find(token.encode(), 99.9) is BOUND
    assert kept.find(token.encode(), 100.0) is None
    assert kept.find(b"ek_tw_other", 0.0) is None
    assert kept.issue(BOUND, 0.0) != token
    assert token not in repr(vars(kept))
    assert "ek_theirs" not in repr(vars(kept))


def test_expired_ones_are_forgotten() -> None:
    kept = ClientSecrets()
    for at in range(100):
        kept.issue(replace(BOUND, expires_at=at + 10.0, key=b"%d" % (at % 7)), float(at))
    assert len(kept) < 60
    kept.issue(replace(BOUND, expires_at=1e9), 1e6)
    assert len(kept) == 1


def test_a_key_that_asks_for_too_many_loses_its_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_secrets, "OF_A_KEY", 3)
    monkeypatch.setattr(client_secrets, "IN_ALL", 5)
    kept = ClientSecrets()
    other = kept.issue(replace(BOUND, key=None), 0.0)
    tokens = [kept.issue(BOUND, 0.0) for _ in range(5)]
    assert [kept.find(token.encode(), 1.0) is not None for token in tokens] == [
        False,
        False,
        True,
        True,
        True,
    ]
    assert kept.find(other.encode(), 1.0) is not None
    kept.issue(replace(BOUND, key=b"third"), 0.0)
    with pytest.raises(RateLimitExceeded):
        kept.issue(replace(BOUND, key=b"fourth"), 0.0)
    kept.issue(BOUND, 0.0)  # its own oldest makes room
    assert len(kept) == 5
    kept.issue(replace(BOUND, key=b"fourth", expires_at=200.0), 150.0)
    assert len(kept) == 1


class Kept:
    """A vault that several stores share; ``texts`` is what somebody sees who looks into it."""

    def __init__(self) -> None:
        self.texts: dict[str, bytes] = {}

    async def put(self, name: str, value: bytes, seconds: float) -> bool:
        self.texts[name] = value
        return True

    async def get(self, name: str) -> bytes | None:
        return self.texts.get(name)


async def test_what_one_process_issued_another_finds_and_nobody_else_reads() -> None:
    vault = Kept()
    here, there = ClientSecrets(vault), ClientSecrets(vault)
    token = here.issue(BOUND, 0.0)
    await here.share(token, BOUND, 0.0)
    assert there.find(token.encode(), 1.0) is None
    assert await there.fetch(token.encode(), 1.0) == BOUND
    assert await there.fetch(token.encode(), 100.0) is None, "it has ended"
    assert await there.fetch(b"ek_tw_other", 1.0) is None
    ((name, sealed),) = vault.texts.items()
    assert token.encode() not in sealed
    assert BOUND.secret.reveal().encode() not in sealed
    assert token not in name
    vault.texts[name] = sealed[:-1] + bytes([sealed[-1] ^ 1])
    assert await there.fetch(token.encode(), 1.0) is None, "somebody changed it"
    assert await ClientSecrets().fetch(token.encode(), 1.0) is None
