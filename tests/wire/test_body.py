"""Bodies as views: values keep their bytes, a model given twice is found however it is spelled, nothing else raises."""

# ruff: noqa: PT017 - a refusal is one of two right outcomes

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from tollway.errors import BadRequest, GatewayError, InvalidJson
from tollway.wire import body

SPACES = st.text(alphabet=" \t\r\n", max_size=3)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=12,
)


@st.composite
def spelled_string(draw: st.DrawFn, text: str) -> str:
    """A JSON string of ``text``, each character plain or escaped as it pleases."""
    out = ""
    for character in text:
        units = character.encode("utf-16-be")
        escaped = "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
        plain = json.dumps(character, ensure_ascii=False)[1:-1]
        out += draw(st.sampled_from((plain, escaped, escaped.upper().replace("\\U", "\\u"))))
    return f'"{out}"'


@st.composite
def spelled(draw: st.DrawFn, value: Any) -> str:
    """``value`` as one of its many spellings: white space anywhere, escapes, forms of numbers."""
    before, after = draw(SPACES), draw(SPACES)
    if isinstance(value, str):
        return before + draw(spelled_string(value)) + after
    if isinstance(value, list):
        return f"{before}[{','.join(draw(spelled(item)) for item in value) or draw(SPACES)}]{after}"
    if isinstance(value, dict):
        pairs = [
            f"{draw(SPACES)}{draw(spelled_string(k))}{draw(SPACES)}:{draw(spelled(v))}"
            for k, v in value.items()
        ]
        return f"{before}{{{','.join(pairs) or draw(SPACES)}}}{after}"
    return before + json.dumps(value) + after


@st.composite
def document(draw: st.DrawFn) -> tuple[dict[str, Any], str]:
    value = draw(st.dictionaries(TEXT, JSON, max_size=6))
    return value, draw(spelled(value))


@given(document())
def test_parsing_and_encoding_keep_every_value_byte_for_byte(made: tuple[dict[str, Any], str]) -> None:
    value, text = made
    fields = body.parse(text.encode())
    assert {name: json.loads(bytes(raw)) for name, raw in fields.items()} == value
    again = body.parse(body.encode(fields))
    assert {name: bytes(raw) for name, raw in again.items()} == {
        name: bytes(raw) for name, raw in fields.items()
    }
    for raw in fields.values():
        assert bytes(raw) in text.encode(), "not the bytes it came in"


@given(document(), st.data())
def test_a_changed_field_changes_nothing_else(made: tuple[dict[str, Any], str], data: st.DataObject) -> None:
    fields = body.parse(made[1].encode())
    kept = {name: bytes(raw) for name, raw in fields.items() if name != "model"}
    fields["model"] = body.raw("another")
    again = {name: bytes(raw) for name, raw in body.parse(body.encode(fields)).items()}
    assert again.pop("model") == b'"another"'
    assert again == kept


@given(
    st.lists(st.tuples(st.one_of(st.just("model"), TEXT), JSON), min_size=1, max_size=5),
    st.data(),
)
def test_a_name_given_twice_is_found_however_it_is_spelled(
    pairs: list[tuple[str, Any]], data: st.DataObject
) -> None:
    members = [
        f"{data.draw(SPACES)}{data.draw(spelled_string(name))}{data.draw(SPACES)}:{data.draw(spelled(value))}"
        for name, value in pairs
    ]
    text = ("{" + ",".join(members) + "}").encode()
    twice = sum(name == "model" for name, _ in pairs) > 1
    fields = body.parse(text)
    if not twice:
        body.refuse_duplicate(text, fields, "model")
        return
    with pytest.raises(BadRequest, match="more than once"):
        body.refuse_duplicate(text, fields, "model")


def test_the_same_name_deeper_down_is_another() -> None:
    for text in (
        b'{"model": "a", "x": {"model": "b", "model": "c"}}',
        b'{"x": [{"model": 1}, {"model": 2}], "model": "a"}',
        b'{"model": "\\"model\\": ", "y": "\\u006dodel"}',
    ):
        body.refuse_duplicate(text, body.parse(text), "model")


def test_large_bodies_are_not_searched() -> None:
    text = b'{"model": "a", "model": "b", "x": "' + b"x" * body.CHECK_DUPLICATES_BELOW + b'"}'
    fields = body.parse(text)
    body.refuse_duplicate(text, fields, "model")
    assert body.text(fields, "model") == "b"
    assert body.encode(fields).count(b'"model"') == 1, "the provider reads what was judged"


def test_a_duplicate_does_not_hide_behind_what_the_search_cannot_read() -> None:
    """Numbers too long for an int, and nesting that one parser follows further than the other."""
    long = b'{"model": "a", "model": "b", "x": ' + b"9" * 6000 + b"}"
    with pytest.raises(BadRequest, match="more than once"):
        body.refuse_duplicate(long, body.parse(long), "model")
    for depth in range(sys.getrecursionlimit() - 120, sys.getrecursionlimit() + 20):
        deep = b'{"model": "a", "model": "b", "x": ' + b"[" * depth + b"]" * depth + b"}"
        with pytest.raises(BadRequest):
            body.refuse_duplicate(deep, body.parse(deep), "model")


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":[', b" [ "])
@pytest.mark.parametrize("closed", [True, False])
def test_nesting_past_all_reason(opening: bytes, closed: bool) -> None:
    deep = b'{"x": ' + opening * 100_000
    if closed:
        deep += {b"[": b"]", b'{"a":': b"1}", b'[{"a":[': b"]}]", b" [ ": b"]"}[opening] * 100_000 + b"}"
    with pytest.raises(InvalidJson, match=r"nested too deeply|ends too early|not valid JSON"):
        body.parse(deep)


def test_ordinary_nesting_is_served() -> None:
    assert "x" in body.parse(b'{"x": ' + b"[" * 200 + b"]" * 200 + b"}")


@given(st.binary(max_size=60))
@example(b'{"a":"\xed\xa0\x80"}')
@example(b"\xef\xbb\xbf{}")
@example(b'{"a":1}\x00')
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        fields = body.parse(data)
    except InvalidJson as error:
        assert error.message.startswith("The request body ")
        assert error.message.endswith(".")
        return
    assert json.loads(data.decode()) is not None
    body.encode(fields)


@settings(max_examples=300)
@given(st.integers(0, 200), st.binary(min_size=1, max_size=3))
def test_a_valid_body_with_bytes_changed_is_read_or_refused(at: int, change: bytes) -> None:
    whole = json.dumps(
        {"model": "fast", "messages": [{"role": "user", "content": "Grüße"}], "n": 1}, ensure_ascii=False
    )
    data = whole.encode()
    at %= len(data)
    data = data[:at] + change + data[at + len(change) :]
    try:
        fields = body.parse(data)
        body.refuse_duplicate(data, fields, "model")
        body.text(fields, "model")
        body.count(fields, "n")
        body.flag(fields, "stream")
        body.mapping(fields, "stream_options")
    except GatewayError as error:
        assert error.http_status == 400


@given(st.binary(max_size=8))
def test_invalid_utf8_is_refused_with_its_place(junk: bytes) -> None:
    data = b'{"a": "' + junk + b'\xff"}'
    with pytest.raises(InvalidJson) as caught:
        body.parse(data)
    if b"\0" not in junk:
        try:
            data.decode()
        except UnicodeDecodeError as error:
            assert f"at byte {error.start}." in caught.value.message


@given(JSON)
def test_reading_a_field_gives_its_value_or_says_what_it_is(value: Any) -> None:
    fields = {"x": Raw(json.dumps(value).encode())}
    wanted: dict[Any, tuple[Any, bool]] = {
        body.text: (None, value is None or isinstance(value, str)),
        body.flag: (False, value is None or isinstance(value, bool)),
        body.count: (None, value is None or (type(value) is int and 0 <= value <= body.MAX_COUNT)),
    }
    for read, (absent, fits) in wanted.items():
        if fits:
            assert read(fields, "x") == (absent if value is None else value)
            continue
        with pytest.raises(BadRequest) as caught:
            read(fields, "x")
        assert caught.value.param == "x"
        assert caught.value.message.startswith("'x' ")
    assert body.text({}, "x") is None
    assert body.flag({}, "x") is False
    assert body.count({}, "x") is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"{}", "an object"), (b"[]", "an array"), (b'"x"', "a string"), (b"true", "a boolean"),
        (b"false", "a boolean"), (b"1", "a number"), (b"-1.5", "a number"), (b"null", "null"),
    ],
)  # fmt: skip
def test_what_a_value_is_called(value: bytes, words: str) -> None:
    assert body.kind(Raw(value)) == words


@pytest.mark.parametrize("value", [b"9007199254740993", b"1" + b"0" * 30, b"1" + b"0" * 5000])
def test_counts_beyond_all_counting_are_refused(value: bytes) -> None:
    with pytest.raises(BadRequest, match=r"too large|an integer"):
        body.count({"n": Raw(value)}, "n")
    assert body.count({"n": Raw(b"9007199254740992")}, "n") == 2**53


def test_what_is_wrong_is_said_in_words() -> None:
    said = {
        b"": "The request body is empty. Send a JSON object.",
        b'{"a": 1': "The request body is not valid JSON: it ends too early.",
        b'{"a": 1,}': "The request body is not valid JSON: trailing comma in object (byte 8).",
        b"{'a': 1}": "The request body is not valid JSON: object keys must be strings (byte 1).",
        b"[1]": 'The request body must be a JSON object, such as {"model": …}.',
    }
    for data, words in said.items():
        with pytest.raises(InvalidJson) as caught:
            body.parse(data)
        assert caught.value.message == words
