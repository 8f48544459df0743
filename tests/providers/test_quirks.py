from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from msgspec import Raw

from tollway.providers.quirks import WORDS, apply, read_quirks


def applied(table: Mapping[str, object], body: str) -> object:
    fields = msgspec.json.decode(body, type=dict[str, Raw])
    before = {name: bytes(value) for name, value in fields.items()}
    after = apply(read_quirks([table]), fields)
    assert {name: bytes(value) for name, value in fields.items()} == before, (
        "the client's body is not touched"
    )
    return msgspec.json.decode(msgspec.json.encode(after))


CASES: list[tuple[dict[str, object], str, str]] = [
    ({"drop": "user"}, '{"model":"m","user":"u"}', '{"model":"m"}'),
    ({"drop": "user"}, '{"model":"m"}', '{"model":"m"}'),
    ({"rename": "a", "to": "b"}, '{"a":1}', '{"b":1}'),
    ({"rename": "a", "to": "b"}, '{"a":null}', '{"b":null}'),
    ({"rename": "a", "to": "b"}, '{"a":1,"b":2}', '{"b":2}'),
    ({"rename": "a", "to": "b"}, '{"c":1}', '{"c":1}'),
    ({"clamp": "t", "min": 0, "max": 1}, '{"t":1.5}', '{"t":1}'),
    ({"clamp": "t", "min": 0.01, "max": 1}, '{"t":0}', '{"t":0.01}'),
    ({"clamp": "t", "min": 0, "max": 1}, '{"t":0.5}', '{"t":0.5}'),
    ({"clamp": "t", "max": 1.99}, '{"t":-3}', '{"t":-3}'),
    ({"clamp": "t", "max": 1}, '{"t":"2"}', '{"t":"2"}'),
    ({"clamp": "t", "max": 0}, '{"t":true}', '{"t":true}'),
    ({"clamp": "t", "max": 1}, '{"t":null}', '{"t":null}'),
    ({"clamp": "t", "max": 1}, "{}", "{}"),
    ({"set": "store", "value": False}, '{"store":true}', '{"store":false}'),
    ({"set": "store", "value": False}, "{}", '{"store":false}'),
    ({"map": "e", "values": {"minimal": "low"}}, '{"e":"minimal"}', '{"e":"low"}'),
    ({"map": "e", "values": {"minimal": "low"}}, '{"e":"high"}', '{"e":"high"}'),
    ({"map": "e", "values": {"minimal": "low"}}, '{"e":3}', '{"e":3}'),
    ({"map": "e", "values": {"minimal": "low"}}, "{}", "{}"),
    (
        {"role": "developer", "to": "system"},
        '{"messages":[{"role":"developer","content":"a","n":1.0},{"role":"user","content":"developer"}]}',
        '{"messages":[{"role":"system","content":"a","n":1.0},{"role":"user","content":"developer"}]}',
    ),
    ({"role": "developer", "to": "system"}, '{"messages":"x"}', '{"messages":"x"}'),
    ({"role": "developer", "to": "system"}, '{"input":[]}', '{"input":[]}'),
    (
        {"flatten": "messages"},
        '{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"ß\\n"}]}]}',
        '{"messages":[{"role":"user","content":"aß\\n"}]}',
    ),
    (
        {"flatten": "messages"},
        '{"messages":[{"content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{}}]},{"content":[]}]}',
        '{"messages":[{"content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{}}]},{"content":""}]}',
    ),
    (
        {"flatten": "messages"},
        '{"messages":[{"content":[{"type":"text","text":"a","cache_control":{}}]},{"content":null},{"role":"x"}]}',
        '{"messages":[{"content":[{"type":"text","text":"a","cache_control":{}}]},{"content":null},{"role":"x"}]}',
    ),
    ({"flatten": "messages"}, '{"messages":[1,2]}', '{"messages":[1,2]}'),
    (
        {"strip": "messages", "names": ["reasoning_content"]},
        '{"messages":[{"role":"assistant","content":"a","reasoning_content":"b"},{"role":"user","content":"c"}]}',
        '{"messages":[{"role":"assistant","content":"a"},{"role":"user","content":"c"}]}',
    ),
    (
        {"strip": "messages", "names": ["reasoning_content"]},
        '{"messages":[{"role":"user","content":"what is reasoning_content?"}]}',
        '{"messages":[{"role":"user","content":"what is reasoning_content?"}]}',
    ),
    (
        {"ids": "messages", "length": 9},
        '{"messages":[{"tool_calls":[{"id":"call_1"},{"id":"AbCdEf123"}]},{"tool_call_id":"call_1"},'
        '{"tool_call_id":"AbCdEf123"}]}',
        '{"messages":[{"tool_calls":[{"id":"rKSxKBV4V"},{"id":"AbCdEf123"}]},{"tool_call_id":"rKSxKBV4V"},'
        '{"tool_call_id":"AbCdEf123"}]}',
    ),
]


@pytest.mark.parametrize(("table", "body", "expected"), CASES)
def test_words(table: dict[str, object], body: str, expected: str) -> None:
    assert applied(table, body) == msgspec.json.decode(expected)


@pytest.mark.parametrize("table", [table for table, _, _ in CASES])
def test_nesting_past_all_reason_is_left_alone(table: dict[str, object]) -> None:
    """Whatever a word meets, it never raises: a value it cannot read is the provider's to judge."""
    nested = Raw(b"[" * 100_000 + b"]" * 100_000)
    names = ("user", "a", "t", "e", "messages", "store")
    for value in (nested, Raw(b'[{"content":' + bytes(nested) + b"}]"), Raw(b'[{"role":["developer"]}]')):
        after = apply(read_quirks([table]), dict.fromkeys(names, value))
        assert set(map(bytes, after.values())) <= {bytes(value), b"false"}


def test_every_word_is_tested() -> None:
    assert {word for table, _, _ in CASES for word in WORDS if word in table} == set(WORDS)


def test_untouched_values_keep_their_bytes() -> None:
    """Only what a quirk names is encoded again: everything else stays as the client wrote it."""
    fields = msgspec.json.decode(b'{"seed": 1.0e3, "user": "u", "tools": [ {"x":  1} ]}', type=dict[str, Raw])
    after = apply(read_quirks([{"drop": "user"}]), fields)
    assert {name: bytes(value) for name, value in after.items()} == {
        "seed": b"1.0e3",
        "tools": b'[ {"x":  1} ]',
    }


def test_order_matters() -> None:
    quirks = read_quirks([{"rename": "a", "to": "b"}, {"clamp": "b", "max": 1}, {"drop": "c"}])
    after = apply(quirks, msgspec.json.decode(b'{"a":5,"c":1}', type=dict[str, Raw]))
    assert msgspec.json.decode(msgspec.json.encode(after)) == {"b": 1}


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"mend": "x"},
        {"drop": "x", "rename": "y", "to": "z"},
        {"drop": 1},
        {"rename": "x"},
        {"drop": "x", "value": 1},
        {"map": "x", "values": {"a": 1}},
        {"clamp": "x", "min": "0"},
    ],
)
def test_what_is_no_quirk_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="quirk"):
        read_quirks([table])


def test_ids_keep_calls_and_results_together() -> None:
    """Whatever an id was, both sides of it become the same nine letters and digits, and no two the same."""
    quirks = read_quirks([{"ids": "messages", "length": 9}])
    names = [f"toolu_{number}" for number in range(200)] + ["call-x/ü", "", "12345678é"]
    messages = [{"role": "assistant", "tool_calls": [{"id": name, "type": "function"} for name in names]}]
    messages += [{"role": "tool", "tool_call_id": name} for name in names]  # type: ignore[dict-item]
    body = msgspec.json.decode(msgspec.json.encode({"messages": messages}), type=dict[str, Raw])
    after = msgspec.json.decode(apply(quirks, body)["messages"])
    ids = [call["id"] for call in after[0]["tool_calls"]]
    assert ids == [message["tool_call_id"] for message in after[1:]]
    assert len(set(ids)) == len(names)
    assert all(len(id) == 9 and id.isascii() and id.isalnum() for id in ids)
    assert apply(quirks, apply(quirks, body)) == apply(quirks, body)
