"""Forms read as they arrive: any split of the bytes gives the same parts, and nothing large is kept."""

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollway.simulator.multipart import KEPT, Form, Reader, boundary

BODY = (
    b'--b0\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    b'--b0\r\ncontent-disposition: form-data; name="file"; filename="a \\"b\\".wav"\r\n'
    b"Content-Type: audio/wav\r\n\r\n\r\n--b\r\n\r\n--b0x is no boundary yet\r\n"
    b'--b0\r\nContent-Disposition: form-data; name="empty"\r\n\r\n\r\n'
    b"--b0--\r\nepilogue"
)


def read(body: bytes, *cuts: int, mark: bytes = b"b0") -> Form:
    reader = Reader(mark)
    edges = [0, *sorted(cuts), len(body)]
    for low, high in pairwise(edges):
        reader.feed(body[low:high])
    return reader.finish()


def test_parts():
    body = BODY.replace(b"\r\n--b0x is no boundary yet", b"")
    form = read(body)
    assert form.broken is None
    assert form.field("model") == "whisper-1"
    assert form.field("empty") == ""
    file = form.file("file")
    assert (file.filename, file.content_type) == ('a "b".wav', "audio/wav")
    assert file.content == b"\r\n--b\r\n"
    assert file.size == 7
    assert file.digest == hashlib.sha256(b"\r\n--b\r\n").hexdigest()


@given(st.lists(st.integers(0, len(BODY)), max_size=8))
def test_any_split_gives_the_same(cuts):
    assert read(BODY, *cuts) == read(BODY)


@given(st.binary(max_size=300), st.integers(1, 40))
def test_any_content_comes_through(content, step):
    body = b'--b0\r\ncontent-disposition: form-data; name="f"; filename="x"\r\n\r\n' + content + b"\r\n--b0--"
    form = read(body, *range(step, len(body), step))
    if b"\r\n--b0" not in b"\r\n" + content:
        assert form.file("f").content == content


def test_large_parts_are_counted_and_hashed_only():
    reader = Reader(b"b0")
    reader.feed(b'--b0\r\ncontent-disposition: form-data; name="f"; filename="x"\r\n\r\n')
    digest = hashlib.sha256()
    piece = bytes(range(256)) * 256
    for _ in range(2 * KEPT // len(piece)):
        reader.feed(piece)
        digest.update(piece)
        assert len(reader._held) < 100
        assert sum(map(len, reader._kept)) <= KEPT
    reader.feed(b"\r\n--b0--\r\n")
    (part,) = reader.finish().parts
    assert (part.content, part.size, part.digest) == (None, 2 * KEPT, digest.hexdigest())


def test_many_parts_together_are_bounded_too():
    head = b'--b0\r\ncontent-disposition: form-data; name="f"; filename="x"\r\n\r\n'
    reader = Reader(b"b0")
    for _ in range(12):
        reader.feed(head + b"x" * KEPT + b"\r\n")
    reader.feed(b"--b0--")
    parts = reader.finish().parts
    assert [part.content is None for part in parts] == [False] * 8 + [True] * 4
    assert {part.size for part in parts} == {KEPT}


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (b"", "ended before"),
        (b"--b0\r\n", "ended before"),
        (b"--b0\r\ncontent-type: a/b\r\n\r\nx\r\n--b0--", "no name"),
        (b"--b0\r\n" + b"x" * 20_000, "too large"),
        (b"--b0" + b"x" * 200, "neither a line end"),
        (b'--b0\r\ncontent-disposition: form-data; name="f"\r\n\r\n\r\n' * 1100, "more than"),
    ],
)
def test_what_is_broken(body, wrong):
    assert wrong in read(body).broken


def test_boundaries():
    assert boundary(b'multipart/form-data; boundary="a b"') == b"a b"
    assert boundary(b"Multipart/Form-Data;boundary=x; charset=utf-8") == b"x"
    assert boundary(b"multipart/form-data") == b""
    assert boundary(b"multipart/mixed; boundary=x") is None
    assert "Missing boundary" in read(b"", mark=b"").broken
