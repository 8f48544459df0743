from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.errors import BadRequest, InvalidJson, NotFound, StoreUnavailable
from tollway.model.artifact import Artifact, Query
from tollway.model.key import ADMIN, ANONYMOUS, Principal, VirtualKey
from tollway.pipeline.ownership import AT_HAND, Remembered, Sealed, owner_of, references


def principal(name: str) -> Principal:
    return Principal(kind="key", key=VirtualKey(id=name, name=name, hash="00" * 32, hint=""))


ANN, BOB = principal("key_ann"), principal("key_bob")
FILE = "file-abc123def456ghi789"


def made(id: str, owner: str = "key_ann") -> Artifact:
    return Artifact(id=id, kind="file", provider="openai", owner=owner)


class Rows:
    """A table in memory, which may be away."""

    def __init__(self) -> None:
        self.rows: dict[str, Artifact] = {}
        self.away = False
        self.looks = 0

    def _open(self) -> None:
        if self.away:
            raise StoreUnavailable("away")

    async def find(self, id: str) -> Artifact | None:
        self._open()
        self.looks += 1
        return self.rows.get(id)

    async def put(self, artifacts: list[Artifact]) -> set[str]:
        self._open()
        taken = {one.id for one in artifacts if self.rows.get(one.id, one).owner != one.owner}
        self.rows.update((one.id, one) for one in artifacts if one.id not in taken)
        return taken

    async def remove(self, id: str) -> None:
        self._open()
        self.rows.pop(id, None)

    async def page(self, query: Query) -> tuple[list[Artifact], bool]:
        return list(self.rows.values()), False

    async def unsettled(self, kind: str, local: bool) -> list[Artifact]:
        return []

    async def purge(self, now: float, most: int) -> int:
        return 0


async def test_found_by_the_owner_and_the_administrator_alone() -> None:
    registry = Remembered(Rows())
    await registry.keep([made(FILE)])
    assert (await registry.find(FILE, ANN)).provider == "openai"
    assert (await registry.find(FILE, ADMIN)).id == FILE
    refusals = []
    for who, id in ((BOB, FILE), (ANONYMOUS, FILE), (BOB, FILE[::-1]), (ADMIN, "../x"), (ADMIN, "")):
        with pytest.raises(NotFound) as refused:
            await registry.find(id, who)
        refusals.append(refused.value.message.replace(repr(id), ""))
    assert len(set(refusals)) == 1


async def test_a_known_object_needs_no_look_at_the_table() -> None:
    rows = Rows()
    registry = Remembered(rows)
    await registry.keep([made(FILE)])
    for _ in range(3):
        await registry.find(FILE, ANN)
    assert rows.looks == 0
    other = Remembered(rows)
    for _ in range(3):
        await other.find(FILE, ANN)
    assert rows.looks == 1


async def test_the_table_may_be_away_meanwhile() -> None:
    rows = Rows()
    registry = Remembered(rows)
    rows.away = True
    await registry.keep([made(FILE)])
    assert (await registry.find(FILE, ANN)).id == FILE
    with pytest.raises(NotFound):
        await registry.find(FILE, BOB)
    with pytest.raises(StoreUnavailable):
        await registry.find("file-other1234567890", ANN)
    rows.away = False
    await registry.flush()
    assert rows.rows == {FILE: made(FILE)}


async def test_an_id_that_is_anothers_already_stays_theirs() -> None:
    rows = Rows()
    registry = Remembered(rows)
    await registry.keep([made(FILE)])
    await Remembered(rows).keep([made(FILE, "key_bob")])
    assert (await registry.find(FILE, ANN)).id == FILE
    with pytest.raises(NotFound):
        await Remembered(rows).find(FILE, BOB)


async def test_forgotten_and_added() -> None:
    rows = Rows()
    registry = Remembered(rows)
    await registry.keep([made(FILE)])
    await registry.add([made(FILE, "key_bob"), made("file-new00000000001")])
    assert rows.rows[FILE].owner == "key_ann"
    assert (await registry.find("file-new00000000001", ANN)).id
    await registry.forget(FILE)
    with pytest.raises(NotFound):
        await registry.find(FILE, ANN)


async def test_memory_is_bounded() -> None:
    registry = Remembered(Rows())
    for start in range(0, AT_HAND + 1000, 1000):
        await registry.keep([made(f"file-{n:020}") for n in range(start, start + 1000)])
    assert len(registry._known) == AT_HAND
    assert (await registry.find("file-" + "0" * 20, ANN)).id


def test_references() -> None:
    body = {
        "input_file_id": "any-id-at-all",
        "file_ids": [FILE, "x"],
        "tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}],
        "deep": {"list": [["batch_68abc0000000000000"]]},
        "purpose": "batch_output",
        "text": "file-abc123def456ghi789 is a file",
        "thread_id": None,
    }
    wanted = {"any-id-at-all", FILE, "x", "vs_1", "batch_68abc0000000000000"}
    assert set(references(json.dumps(body).encode())) == wanted
    escaped = f'{{"a": "\\u0066ile-{FILE[5:]}"}}'.encode()
    assert references(escaped) == [FILE]
    assert references(b"") == []
    with pytest.raises(InvalidJson):
        references(b"{")


async def test_sealed_ids_are_their_owners() -> None:
    registry = Sealed(b"secret")
    sealed = registry.seal(FILE, "openai", ANN)
    assert sealed.startswith("file-tw1-")
    place = await registry.find(sealed, ANN)
    assert (place.provider, place.id) == ("openai", FILE)
    assert (await registry.find(sealed, ADMIN)).id == FILE
    assert (await Sealed(b"secret").find(sealed, ANN)).id == FILE
    for id, who in ((sealed, BOB), (sealed, ANONYMOUS), (FILE, ANN), (FILE, ADMIN), ("vs" + sealed[4:], ANN)):
        with pytest.raises(NotFound):
            await registry.find(id, who)
    with pytest.raises(NotFound):
        await Sealed(b"other").find(sealed, ANN)
    with pytest.raises(BadRequest):
        await registry.page(Query(kind="file", owner="key_ann"))


@given(st.integers(0, 200), st.integers(0, 63))
def test_a_changed_seal_is_none(place: int, letter: int) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    registry = Sealed(b"secret")
    sealed = registry.seal(FILE, "openai", ANN)
    place = len("file-tw1-") + place % (len(sealed) - len("file-tw1-") - 1)
    changed = sealed[:place] + alphabet[letter] + sealed[place + 1 :]
    if changed == sealed:
        return
    with pytest.raises(NotFound):
        registry._open(changed, ANN)


def test_ids_are_exchanged_in_values_and_nowhere_else() -> None:
    registry = Sealed(b"secret")
    body = json.dumps(
        {
            "id": FILE,
            "file_ids": [FILE],
            FILE: 1,
            "object": "file",
            "text": f"see {FILE}",
            "note": 'a "quote" \\',
        }
    ).encode()
    outward = registry.outward(body, "openai", ANN)
    told = json.loads(outward)
    assert told["id"] == told["file_ids"][0] == registry.seal(FILE, "openai", ANN)
    assert (told[FILE], told["text"], told["note"]) == (1, f"see {FILE}", 'a "quote" \\')
    assert registry.inward(outward, ANN) == body
    with pytest.raises(NotFound):
        registry.inward(outward, BOB)


def test_owners() -> None:
    assert [owner_of(one) for one in (ANN, ADMIN, ANONYMOUS)] == ["key_ann", "admin", "anonymous"]
