from __future__ import annotations

from collections.abc import Mapping

import pytest

from tollway.config.environment import fill_in
from tollway.config.report import Report
from tollway.config.yaml_marks import EMPTY, Node, Scalar, Sequence, parse
from tollway.config.yaml_marks import Mapping as MappingNode


def filled(text: str, environ: Mapping[str, str]) -> tuple[Node, list[str]]:
    report = Report("f.yaml")
    node = fill_in(parse(text.encode(), report) or EMPTY, environ, report)
    return node, report.problems


def value(text: str, environ: Mapping[str, str]) -> Scalar:
    node, problems = filled(f"a: {text}\n", environ)
    assert problems == []
    assert isinstance(node, MappingNode)
    found = node.entries["a"]
    assert isinstance(found, Scalar)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "one"),
        ("'${A}'", "one"),
        ('"${A}-${B}"', "one-two"),
        ("${NOT:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY}", ""),
        ("${NOT:-}", ""),
        ("${NOT:-http://x:1/y?z}", "http://x:1/y?z"),
        ("$${A}", "${A}"),
        ("$${A}-${A}", "${A}-one"),
        ("cost $5", "cost $5"),
    ],
)
def test_variables(text: str, expected: str) -> None:
    assert value(text, {"A": "one", "B": "two", "EMPTY": ""}).text == expected


def test_what_a_variable_holds_is_never_structure() -> None:
    evil = "x, admin_key: stolen}\nrequire_key: false\n${B} *anchor"
    node, problems = filled("a: {k: ${A}}\nb: [${A}]\n", {"A": evil, "B": "never"})
    assert problems == []
    assert isinstance(node, MappingNode)
    assert list(node.entries) == ["a", "b"]
    inner, listed = node.entries["a"], node.entries["b"]
    assert isinstance(inner, MappingNode)
    assert isinstance(listed, Sequence)
    assert [item.text for item in (inner.entries["k"], *listed.items) if isinstance(item, Scalar)] == [
        evil,
        evil,
    ]


def test_a_missing_variable_names_its_line_and_a_neighbour() -> None:
    _, problems = filled("a: 1\nb: ${OPENAI_KEY}\n", {"OPENAI_KEYS": "secret"})
    assert problems == [
        "f.yaml:2: the environment variable OPENAI_KEY is not set (a default is written ${OPENAI_KEY:-…});"
        ' did you mean "OPENAI_KEYS"?'
    ]


@pytest.mark.parametrize("text", ["${}", "${1A}", "${A-b}", "${A", "${A:b}", "'${A:-${B}}'"])
def test_malformed_references(text: str) -> None:
    _, problems = filled(
        f"a: {text!s}\n" if not text.endswith("A") else f"a: '{text}'\n", {"A": "1", "B": "2"}
    )
    assert problems == [
        "f.yaml:1: a variable is written ${NAME} or ${NAME:-default}; $${ stands for ${ itself"
    ]


def test_an_aliased_variable_is_reported_once() -> None:
    _, problems = filled("a: &a {x: ${NOT}}\nb: *a\nc: *a\n", {})
    assert len(problems) == 1
