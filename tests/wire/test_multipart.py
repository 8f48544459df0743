from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollway.errors import BadRequest
from tollway.wire.multipart import (
    BEGINNING,
    MAX_FIELD,
    MAX_HEAD,
    MAX_PARTS,
    Begin,
    Content,
    Field,
    Form,
    Malformed,
    Scanner,
    boundary,
    content_type,
    read_head,
)

MARK = b"x-mark"


def part(name: str, value: bytes, filename: str | None = None, more: bytes = b"") -> bytes:
    file = b"" if filename is None else b'; filename="%b"' % filename.encode()
    head = b'--%b\r\nContent-Disposition: form-data; name="%b"%b\r\n%b\r\n' % (
        MARK,
        name.encode(),
        file,
        more,
    )
    return head + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--" + MARK + b"--\r\n"


WHOLE = form(
    part("language", b"en"),
    part("model", b"ear"),
    part("empty", b""),
    part("file", b"so\r\nund\r\n-\r\n--x-mar\r\n--", "a.wav", b"Content-Type: audio/wav\r\n"),
    part("last", "grüße".encode()),
)


def read(
    body: bytes, cuts: list[int], held: frozenset[str] = frozenset()
) -> tuple[Form, list[bytes | Field]]:
    found = Form(MARK, held)
    out: list[bytes | Field] = []
    edges = [0, *sorted(cuts), len(body)]
    for start, end in itertools.pairwise(edges):
        out += found.feed(body[start:end])
    found.finish()
    return found, out


def joined(out: list[bytes | Field], exchange: dict[str, str]) -> bytes:
    return b"".join(
        one if isinstance(one, bytes) else exchange.get(one.name, one.value).encode() for one in out
    )


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
@settings(max_examples=300, deadline=None)
def test_any_split_reads_alike_and_passes_every_byte(cuts: list[int]) -> None:
    found, out = read(WHOLE, cuts, frozenset(("model",)))
    assert found.fields == {"language": "en", "model": "ear", "empty": "", "last": "grüße"}
    assert [(one.name, one.filename, one.content_type, one.size) for one in found.files] == [
        ("file", "a.wav", "audio/wav", 23)
    ]
    assert joined(out, {}) == WHOLE
    assert joined(out, {"model": "whisper"}) == WHOLE.replace(b"\r\near\r\n", b"\r\nwhisper\r\n")
    assert found.ended


def test_every_single_cut() -> None:
    for cut in range(len(WHOLE) + 1):
        _, out = read(WHOLE, [cut])
        assert joined(out, {}) == WHOLE


@given(st.binary(max_size=300), st.integers(1, 7))
@settings(max_examples=300, deadline=None)
def test_any_content_comes_through(content: bytes, step: int) -> None:
    if b"--" + MARK in content:
        return
    body = form(part("file", content, "f"))
    found, out = read(body, list(range(0, len(body), step)))
    assert joined(out, {}) == body
    assert found.files[0].size == len(content)
    assert found.files[0].beginning == content[:BEGINNING]


@given(st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_what_is_no_form_is_refused_and_never_fails_otherwise(body: bytes) -> None:
    for whole in (body, b"--" + MARK + b"\r\n" + body, WHOLE[:200] + body):
        found = Form(MARK, frozenset(("model",)))
        try:
            found.feed(whole)
            found.finish()
        except BadRequest:
            continue
        assert found.ended


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x-mark--\r\n",
        b"\r\n" + WHOLE,
        b"preamble\r\n" + WHOLE,
        WHOLE + b"epilogue",
        WHOLE[:-20],
        form(part("a", b"1")).replace(b"--x-mark\r\n", b"--x-mark \r\n"),
        form(part("file", b"x\n--x-mark\r\ny", "f")),
        form(part("file", b"x--x-mark-more", "f")),
        form(part("a", b"1", more=b"Content-Transfer-Encoding: base64\r\n")),
        form(part("a", b"1", more=b"Content-Disposition: form-data; name=b\r\n")),
        form(part("a", b"1", more=b"X: y\r\n folded\r\n")),
        form(part("a", b"1", more=b"X: y\nZ: w\r\n")),
        form(part("a", b"1", more=b"X: " + b"y" * MAX_HEAD + b"\r\n")),
        form(part("a", b"1").replace(b'"a"', b'"\\a"')),
        form(part("a", b"1").replace(b'name="a"', b"name*=utf-8''a")),
        form(part("a", b"1").replace(b'name="a"', b'name="a"; name="b"')),
        form(part("a", b"1").replace(b'name="a"', b'name="a"; size=1')),
        form(part("a", b"1").replace(b'; name="a"', b"")),
        form(part("a", b"1").replace(b"form-data", b"attachment")),
        form(part("a", b"\xff")),
        form(*[part("a", b"1")] * (MAX_PARTS + 1)),
    ],
)
def test_what_parsers_read_differently_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        read(body, [])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (form(part("model", b"a"), part("model", b"b")), "more than once"),
        (form(part("model", b"a", "f")), "not a file"),
        (form(part("model", b"a" * (MAX_FIELD + 1))), "too long"),
    ],
)
def test_a_held_field_is_one_short_text(body: bytes, says: str) -> None:
    with pytest.raises(BadRequest, match=says) as refused:
        read(body, [], frozenset(("model",)))
    assert refused.value.param == "model"


def test_long_fields_pass_unread() -> None:
    body = form(part("prompt", b"a" * (MAX_FIELD + 1)), part("n", b"2"))
    found, out = read(body, [MAX_FIELD // 2])
    assert found.fields == {"n": "2"}
    assert joined(out, {}) == body


def test_of_a_repeated_field_the_first_counts_and_it_is_said() -> None:
    found, _ = read(form(part("include[]", b"a"), part("include[]", b"b")), [])
    assert found.fields == {"include[]": "a"}
    assert found.repeated == {"include[]"}


@pytest.mark.parametrize(
    ("said", "mark"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b'Multipart/Form-Data; boundary="a b"', b"a b"),
        (b"multipart/form-data; boundary=abc; charset=utf-8", b"abc"),
        (b"application/json", None),
        (b"", None),
    ],
)
def test_boundary(said: bytes, mark: bytes | None) -> None:
    assert boundary(said) == mark
    if mark is not None:
        assert boundary(content_type(mark)) == mark


@pytest.mark.parametrize(
    "said",
    [
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=a; boundary=b",
        b'multipart/form-data; boundary="a\r\n"',
        b"multipart/form-data; boundary=" + b"a" * 71,
        b'multipart/form-data; boundary="a "',
    ],
)
def test_no_plain_boundary(said: bytes) -> None:
    with pytest.raises(Malformed):
        boundary(said)


def test_heads_of_usual_clients() -> None:
    for head, name, filename in (
        (b'Content-Disposition: form-data; name="file"; filename="a b.wav"', "file", "a b.wav"),
        (b'content-disposition: form-data; name="image[]"; filename="x%22.png"', "image[]", "x%22.png"),
        (b"Content-Disposition: form-data; name=model", "model", None),
        (b'Content-Disposition: form-data; name="f"; filename="a"; filename*=utf-8\'\'a', "f", "a"),
    ):
        found = read_head(head)
        assert (found.name, found.filename) == (name, filename)


def test_nothing_is_kept_but_a_boundary() -> None:
    scanner = Scanner(MARK)
    scanner.feed(part("file", b"", "f")[:-2])
    for _ in range(100):
        pieces = scanner.feed(bytes(64 * 1024))
        assert all(isinstance(one, Content) for one in pieces)
        assert len(scanner._held) <= len(MARK) + 4
    assert isinstance(scanner.feed(b"\r\n" + part("a", b""))[1], Begin)
