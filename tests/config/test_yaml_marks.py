from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollway.config.report import Report
from tollway.config.yaml_marks import MAX_BYTES, Mapping, Node, Scalar, Sequence, core_value, parse


def read(text: str | bytes) -> tuple[Node | None, list[str]]:
    report = Report("f.yaml")
    return parse(text if isinstance(text, bytes) else text.encode(), report), report.problems


def plain(node: Node | None) -> object:
    match node:
        case Scalar():
            return node.value
        case Sequence():
            return [plain(item) for item in node.items]
        case Mapping():
            return {key: plain(value) for key, value in node.entries.items()}
    return "nothing"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("Off", "Off"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("0o17", 15),
        ("017", 17),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2026-11-22", "2026-11-22"),
        ("5xx", "5xx"),
        ("4.10", 4.1),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("9" * 41, 1e41),
        ("9" * 101, "9" * 101),
        ("=", "="),
    ],
)
def test_core_schema(text: str, value: object) -> None:
    assert core_value(text) == value
    assert type(core_value(text)) is type(value)


def test_quotes_make_text() -> None:
    node, problems = read("a: 'true'\nb: \"1\"\nc: !!str 2\nd: |\n  3\n")
    assert plain(node) == {"a": "true", "b": "1", "c": "2", "d": "3\n"}
    assert problems == []


def test_every_node_knows_its_line() -> None:
    node, _ = read("a: 1\nb:\n  c: 2\n  d: [x,\n      y]\n")
    assert isinstance(node, Mapping)
    assert node.lines == {"a": 1, "b": 2}
    inner = node.entries["b"]
    assert isinstance(inner, Mapping)
    assert inner.lines == {"c": 3, "d": 4}
    listed = inner.entries["d"]
    assert isinstance(listed, Sequence)
    assert [item.line for item in listed.items] == [4, 5]


def test_a_variable_may_stand_inside_braces_and_brackets() -> None:
    node, problems = read("a: {b: ${NAME}, c: [${X:-y, z}, $${W}]}\n${K}: 1\n'q ${N}': ${A}/${B}\n")
    assert problems == []
    assert plain(node) == {
        "a": {"b": "${NAME}", "c": ["${X:-y, z}", "$${W}"]},
        "${K}": 1,
        "q ${N}": "${A}/${B}",
    }


def test_duplicate_keys_are_named_with_both_lines() -> None:
    _, problems = read("a: 1\nb: 2\na: 3\n")
    assert problems == ['f.yaml:3: "a" is given twice (first on line 1)']


def test_anchors_and_merges() -> None:
    node, problems = read("base: &b {x: 1, y: 2}\none: {<<: *b, y: 3}\ntwo: [*b, *b]\n")
    assert problems == []
    assert plain(node) == {
        "base": {"x": 1, "y": 2},
        "one": {"x": 1, "y": 3},
        "two": [{"x": 1, "y": 2}, {"x": 1, "y": 2}],
    }


def test_billion_laughs_are_refused_without_being_built() -> None:
    lines = ["l0: &l0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12)]
    node, problems = read("\n".join(lines))
    assert node is None
    assert problems == ["f.yaml:6: expands to more than 200000 values"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: *nowhere\n", "f.yaml:1: alias *nowhere names no anchor finished above it"),
        ("a: &a [*a]\n", "f.yaml:1: alias *a names no anchor finished above it"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: a second document starts here; a configuration is one document"),
        ("x: !!python/object:os.system {}\n", "f.yaml:1: YAML tags are not used in a configuration"),
        ("x: !env A\n", "f.yaml:1: YAML tags are not used in a configuration"),
        ("? [a]\n: 1\n", "f.yaml:1: a key must be a single word"),
        ("a: {<<: 3}\n", "f.yaml:1: << merges mappings only"),
        ("\n\na: \ue0000\ue001\n", "f.yaml:3: a character of Unicode's private use area is not accepted"),
        ("[" * 50, "f.yaml:1: nested deeper than 40 levels"),
    ],
)
def test_what_is_refused(text: str, problem: str) -> None:
    node, problems = read(text)
    assert node is None
    assert problems == [problem]


def test_a_syntax_error_names_its_line() -> None:
    node, problems = read("a: 1\nb: [1, 2\nc: 3\n")
    assert node is None
    assert problems[0].startswith("f.yaml:3: not valid YAML:")


def test_a_tab_is_called_a_tab() -> None:
    _, problems = read("models:\n  a: x\n\tb: y\n")
    assert problems == ["f.yaml:3: not valid YAML: a line begins with a tab; YAML is indented with blanks"]


def test_bytes_that_are_no_text() -> None:
    assert read(b"a: 1\nb: \xff\n")[1] == ["f.yaml:2: the file is not UTF-8 text"]
    assert read(b"a: \x00\n")[1][0].startswith("f.yaml:1: not valid YAML")
    assert read(b"#" * (MAX_BYTES + 1))[1] == [
        "f.yaml:1: the file is larger than 4 MiB, which no configuration needs"
    ]


def test_an_empty_file_is_an_empty_configuration() -> None:
    for text in ("", "\n# nothing\n", "---\n", "\ufeff"):
        node, problems = read(text)
        assert problems == []
        assert plain(node) in ({}, None)


printable = st.text(st.characters(categories=("L", "N", "P", "S")))
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
)
leaves |= printable


@settings(max_examples=25, deadline=None, database=None)
@given(
    st.dictionaries(
        st.text("abcdefgh ", min_size=1),
        st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text("xyz "), inner)),
    )
)
def test_json_reads_as_json(value: dict[str, object]) -> None:
    node, problems = read(json.dumps(value, ensure_ascii=False, indent=2))
    assert problems == []
    assert plain(node) == value
