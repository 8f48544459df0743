# ruff: noqa: E501  (the tables hold whole messages)
from __future__ import annotations

from collections.abc import Callable

import pytest

from tollway.config.settings import Settings

HEAD = "providers: {openai: {api_key: a}, vllm: {type: openai-compatible}}\nmodels:\n"


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("a: openai", 'model a: a target is provider/model, not "openai"'),
        ("a: opena/x", 'model a: there is no provider "opena"; add it under providers, with a type; did you mean "openai"?'),
        ("a: groq/x", "model a: provider groq is in the catalogue but not configured; add it under providers, for example `groq: {api_key: ${…}}`"),
        ("a: a", "model a: would fall back to itself; a target is provider/model"),
        ("a: [openai/x, openai/x]", 'model a: "openai/x" is named twice, so it would fall back to itself; remove one, or tell them apart by id'),
        ("a: {targets: []}", "model a: names no target"),
        ("a: {}", "model a: names no target; add model: or targets:"),
        ("a: null", 'model "a": names no target; write provider/model'),
        ("a: {target: openai/x, model: openai/y}", 'unknown setting "target" in model a; did you mean "targets"?'),
        ("a: {strategy: sticky, model: openai/x}", "model a: strategy sticky is not part of this version; available are single, fallback, loadbalance"),
        ("a: {strategy: fallbak, model: openai/x}", 'model a: strategy: expected single or fallback or loadbalance, not "fallbak"; did you mean "fallback"?'),
        ("a: {strategy: single, targets: [openai/x, openai/y]}", "model a: strategy single serves one target and 2 are given; use fallback or loadbalance"),
        ("a: {targets: [{model: openai/x, weight: -1}]}", 'a target of model a: weight: expected a whole number from 0 to 1000000, not "-1"'),
        ("a: {targets: [{model: openai/x, weight: 0}]}", "model a: every target has weight 0, so none would be chosen"),
        ("a: {model: openai/x, retry: {on: [4xx]}}", 'retry.on: expected a status such as 429, 5xx, connect or timeout, not "4xx"; did you mean "5xx"?'),
        ("a: {model: openai/x, timeouts: {idle: 0}}", "model a: timeouts: idle: must be longer than nothing"),
        ("a: {model: openai/x, timeouts: {idle: soon}}", 'model a: timeouts: idle: expected a duration such as 200ms, 30s, 2m, 1h or 30d (a number counts seconds), not "soon"'),
        ("a: {model: openai/x, timeout: 1s, timeouts: {idle: 2s}}", "model a: timeout: give timeout or timeouts, not both"),
        ("a: {model: openai/x, price: {input: -1}}", 'price.input: an amount in USD must not be negative, not "-1"'),
        ("a: {model: openai/x, price: {inptu: 1, output: 2}}", 'unknown setting "inptu" in price; did you mean "input"?'),
        ("a b: openai/x", 'model "a b": "a b" is no usable name (1 to 200 characters, without blanks)'),
    ],
)  # fmt: skip
def test_refused(problems: Callable[..., list[str]], entry: str, problem: str) -> None:
    assert problems(f"{HEAD}  {entry}\n") == [f"tollway.yaml:3: {problem}"]


def test_another_public_name_is_no_target(problems: Callable[..., list[str]]) -> None:
    assert problems(f"{HEAD}  fast: openai/x\n  b: [fast]\n") == [
        'tollway.yaml:4: model b: a target is provider/model; "fast" is another entry of models'
    ]


def test_a_provider_without_a_key_in_the_environment(problems: Callable[..., list[str]]) -> None:
    (problem,) = problems("models: {fast: groq/x}\n")
    assert "provider groq has no key in the environment; set its variable, or add it" in problem


def test_shapes(load: Callable[..., Settings]) -> None:
    found = load(
        f"{HEAD}  one: openai/x\n  list: [openai/x, vllm/org/y]\n  target: {{targets: openai/x}}\n"
        "  twice: {strategy: loadbalance, targets: [{model: openai/x, id: a}, {model: openai/x, id: b, weight: 3}]}\n"
        "  org/name: {model: openai/x, unpriced: refuse, retry: {attempts: 1, max_wait: 0}}\n"
    ).models
    assert [(m.name, m.strategy, len(m.targets)) for m in found] == [
        ("one", "single", 1),
        ("list", "fallback", 2),
        ("target", "single", 1),
        ("twice", "loadbalance", 2),
        ("org/name", "single", 1),
    ]
    assert found[1].targets[1].model == "vllm/org/y"
    assert [(t.id, t.weight) for t in found[3].targets] == [("a", 1), ("b", 3)]
    assert (found[4].unpriced, found[4].retry.attempts, found[4].retry.max_wait) == ("refuse", 1, 0)


def test_prices_are_exact(load: Callable[..., Settings]) -> None:
    (model,) = load(
        f"{HEAD}  a: {{model: openai/x, price: {{input: 0.1, output: 1.000000001, requests: 1e4}}}}\n"
    ).models
    rates = model.targets[0].rates
    assert rates is not None
    assert (rates.input, rates.output, rates.requests) == (100_000_000, 1_000_000_001, 10_000 * 10**9)
