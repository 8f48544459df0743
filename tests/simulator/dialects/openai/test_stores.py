"""Vector stores: files in and out, and a search over them."""

import pytest

openai = pytest.importorskip("openai")


def test_a_store(sdk, checked, last_line):
    files = [
        sdk.files.create(file=(f"{name}.txt", text), purpose="assistants").id
        for name, text in (("sea", b"the deep sea"), ("fox", b"a red fox"))
    ]
    store = checked(sdk.vector_stores.create(name="mine", file_ids=files[:1]))
    assert store.file_counts.completed == 1
    added = checked(sdk.vector_stores.files.create(store.id, file_id=files[1], attributes={"n": 1}))
    assert (added.id, added.status) == (files[1], "completed")
    assert [one.id for one in sdk.vector_stores.files.list(store.id)] == files[::-1]
    found = checked(sdk.vector_stores.search(store.id, query="red fox").data[0])
    assert (found.file_id, found.content[0].text) == (files[1], "a red fox")
    assert (last_line().endpoint, last_line().tokens["searches"]) == ("vector_stores.search", 1)
    assert sdk.vector_stores.update(store.id, name="yours").name == "yours"
    assert sdk.vector_stores.files.delete(files[0], vector_store_id=store.id).deleted
    assert checked(sdk.vector_stores.retrieve(store.id)).file_counts.total == 1
    with pytest.raises(openai.NotFoundError):
        sdk.vector_stores.files.retrieve(files[0], vector_store_id=store.id)
    assert sdk.vector_stores.delete(store.id).deleted
    with pytest.raises(openai.NotFoundError):
        sdk.vector_stores.retrieve(store.id)
