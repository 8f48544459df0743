"""Files and uploads: counted and hashed as they come, kept where they are small."""

import hashlib
import io

import pytest

openai = pytest.importorskip("openai")


def test_a_file_from_upload_to_deletion(sdk, checked):
    made = checked(sdk.files.create(file=("a.jsonl", b'{"a": 1}\n'), purpose="batch"))
    assert (made.bytes, made.filename, made.purpose, made.status) == (9, "a.jsonl", "batch", "processed")
    assert checked(sdk.files.retrieve(made.id)) == made
    assert sdk.files.content(made.id).read() == b'{"a": 1}\n'
    assert made.id in [one.id for one in sdk.files.list(purpose="batch")]
    assert sdk.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        sdk.files.retrieve(made.id)


def test_pages(sdk):
    ids = [sdk.files.create(file=(f"{n}.txt", b"x"), purpose="vision").id for n in range(3)]
    listed = sdk.files.list(purpose="vision", limit=2)
    assert [one.id for one in listed.data] == ids[:0:-1]
    assert listed.has_more
    assert [one.id for one in sdk.files.list(purpose="vision", order="asc")] == ids


def test_a_large_file_is_only_counted_and_hashed(sdk):
    content = b"0123456789abcdef" * (5 * 1024 * 1024 // 16) + b"the end"
    made = sdk.files.create(file=("large.bin", io.BytesIO(content)), purpose="user_data")
    assert made.bytes == len(content)
    assert made.sha256 == hashlib.sha256(content).hexdigest()
    with pytest.raises(openai.BadRequestError, match=made.sha256):
        sdk.files.content(made.id)


def test_an_upload_in_parts(sdk, checked):
    fields = {"bytes": 11, "filename": "a.txt", "mime_type": "text/plain", "purpose": "assistants"}
    upload = checked(sdk.uploads.create(**fields))
    parts = [sdk.uploads.parts.create(upload.id, data=data).id for data in (b"world", b"Hello ")]
    with pytest.raises(openai.BadRequestError, match="announced with 11"):
        sdk.uploads.complete(upload.id, part_ids=parts[:1])
    done = checked(sdk.uploads.complete(upload.id, part_ids=parts[::-1]))
    assert done.status == "completed"
    assert sdk.files.content(done.file.id).read() == b"Hello world"
    with pytest.raises(openai.BadRequestError, match="already completed"):
        sdk.uploads.cancel(upload.id)
    assert sdk.uploads.cancel(sdk.uploads.create(**fields).id).status == "cancelled"
