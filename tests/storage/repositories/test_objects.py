from __future__ import annotations

from msgspec.structs import replace

from tollway.model.artifact import LOCAL, Artifact, Query
from tollway.storage.engine import Database
from tollway.storage.repositories.objects import Objects


def made(number: int, **changes: object) -> Artifact:
    one = Artifact(
        id=f"file-{number}", kind="file", provider="openai", owner="key_a", purpose="batch", created=float(number),
        shown=b'{"id": "x"}',
    )  # fmt: skip
    return replace(one, **changes)


async def test_put_find_and_remove(database: Database) -> None:
    objects = Objects(database)
    assert await objects.put([]) == set()
    first = made(1, team="t", model="m", deployment="d", expires=9.0, settled=False, state=b"s")
    assert await objects.put([first, made(2)]) == set()
    assert await objects.find("file-1") == first
    assert await objects.find("file-3") is None
    await objects.put([replace(first, shown=b"{}", settled=True, created=5.0)])
    assert await objects.find("file-1") == replace(first, shown=b"{}", settled=True)
    await objects.remove("file-1")
    assert await objects.find("file-1") is None


async def test_another_owners_row_stays(database: Database) -> None:
    objects = Objects(database)
    await objects.put([made(1)])
    assert await objects.put([made(1, owner="key_b", shown=b"mine"), made(2, owner="key_b")]) == {"file-1"}
    found = await objects.find("file-1")
    assert found == made(1)
    assert await objects.put([made(1, provider="other", shown=b"{}")]) == set()
    assert await objects.find("file-1") == made(1), "nor does it move to another provider"


async def test_pages(database: Database) -> None:
    objects = Objects(database)
    await objects.put([made(n, created=float(n // 2)) for n in range(10)])
    await objects.put([made(20, owner="key_b"), made(21, kind="batch"), made(22, purpose="vision")])
    mine = Query(kind="file", owner="key_a", limit=4, purpose="batch")
    page, more = await objects.page(mine)
    assert ([one.id for one in page], more) == (["file-9", "file-8", "file-7", "file-6"], True)
    seen = [one.id for one in page]
    while more:
        page, more = await objects.page(replace(mine, after=seen[-1]))
        seen += [one.id for one in page]
    assert seen == [f"file-{n}" for n in range(9, -1, -1)]
    upward, _ = await objects.page(replace(mine, limit=20, ascending=True))
    assert [one.id for one in upward] == seen[::-1]
    upward, _ = await objects.page(replace(mine, ascending=True, after="file-5"))
    assert [one.id for one in upward] == ["file-6", "file-7", "file-8", "file-9"]
    assert await objects.page(replace(mine, after="file-20")) == ([], False), "another's id marks no place"
    everybody, _ = await objects.page(Query(kind="file", owner=None, limit=50))
    assert len(everybody) == 12


async def test_unsettled_and_purge(database: Database) -> None:
    objects = Objects(database)
    await objects.put(
        [
            made(1, kind="batch", settled=False),
            made(2, kind="batch", settled=False, provider=LOCAL),
            made(3, kind="batch"),
            made(4, expires=50.0),
            made(5, expires=500.0),
            made(6, expires=50.0, provider=LOCAL),
        ]
    )
    assert [one.id for one in await objects.unsettled("batch", local=False)] == ["file-1"]
    assert [one.id for one in await objects.unsettled("batch", local=True)] == ["file-2"]
    assert await objects.purge(100.0, 10) == 1
    assert await objects.find("file-4") is None
    assert await objects.find("file-6") is not None
