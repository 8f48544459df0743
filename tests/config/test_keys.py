# ruff: noqa: E501  (the tables hold whole messages)
from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from tollway.config.keys import key_hint
from tollway.config.settings import Settings
from tollway.model.key import Budget


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("{name: a}", "key a: key is missing"),
        ("{key: abc}", "a key: name is missing"),
        ("{name: a, key: 'a b'}", "key a: key: a credential holds visible ASCII characters only"),
        ("{name: a/b, key: x}", "key.name: expected 1 to 100 characters without / ? # or %, because the name stands in addresses"),
        ("{name: key_1, key: x}", "key.name: must not begin with key_ or sk-: ids and secrets look like that"),
        ("{name: a, key: x, limit: {rpm: 1}}", 'unknown setting "limit" in key a; did you mean "limits"?'),
        ("{name: a, key: x, limits: {rpm: 0}}", 'limits.rpm: expected a whole number from 1 to 1000000000000, not "0"'),
        ("{name: a, key: x, budget: {per: day}}", "budget.usd is missing: how many dollars?"),
        ("{name: a, key: x, budget: {usd: 1, per: mounth}}", 'budget.per: expected day, week, month, quarter, year, total or a number of days such as 30d, not "mounth"'),
        ("{name: a, key: x, budget: [1usd/day, 2usd/day]}", "key a: budget: names the same period twice"),
        ("{name: a, key: x, expires: 30d}", "key a: expires: expected a date such as 2027-01-31 or 2027-01-31T12:00:00Z (a file has no moment to count from)"),
        ("{name: a, key: x, expires: 9999-12-31T23:59:59-14:00}", "key a: expires: a date lies in the years 1970 to 9999"),
        ("{name: a, key: x, models: [fats]}", 'key a: models names "fats", which is not under models; did you mean "fast"?'),
        ("{name: a, key: adminadmin}", "key a: has the same value as the admin key"),
        ("nonsense", "keys: expected an item such as {name: ci, key: ${CI_KEY}}"),
    ],
)  # fmt: skip
def test_refused(problems: Callable[..., list[str]], entry: str, problem: str) -> None:
    head = "admin_key: adminadmin\nproviders: {openai: {}}\nmodels: {fast: openai/x}\nkeys:\n"
    found = problems(f"{head}  - {entry}\n")
    assert found[0] == f"tollway.yaml:5: {problem}"


def test_names_and_values_are_unique(problems: Callable[..., list[str]]) -> None:
    assert problems("keys:\n- {name: a, key: one}\n- {name: a, key: two}\n- {name: b, key: one}\n") == [
        "tollway.yaml:3: keys: the name a is used twice (first on line 2)",
        "tollway.yaml:4: key b: has the same value as key a",
    ]


def test_a_key(load: Callable[..., Settings]) -> None:
    text = (
        "keys:\n- name: ci runner\n  key: sk-tw-0123456789wxyz\n  budget: [10usd/month, {usd: 0.5, per: day}]\n"
        "  tags: [a, b c]\n  metadata: {owner: x, n: 4.10}\n  user: u\n  customer: c\n  blocked: true\n"
    )
    (key,) = load(text).keys
    assert key.hash == hashlib.sha256(b"sk-tw-0123456789wxyz").hexdigest()
    assert key.budgets == (Budget(limit=10**10, per="month"), Budget(limit=5 * 10**8, per="day"))
    assert (key.tags, key.metadata, key.blocked) == (("a", "b c"), {"owner": "x", "n": "4.10"}, True)
    assert key.id == load(text.replace("wxyz", "abcd")).keys[0].id, "the id follows the name, not the value"
    assert key.id != load(text.replace("ci runner", "ci")).keys[0].id


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("sk-tw-0123456789wxyz", "sk-tw-…wxyz"),
        ("sk-0123456789abcdefgh", "sk-…efgh"),
        ("0123456789abcdef", "…cdef"),
        ("sk-1234", "…"),
    ],
)
def test_hints_never_give_a_key_away(value: str, hint: str) -> None:
    assert key_hint(value) == hint
