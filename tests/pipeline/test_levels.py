"""Every level's terms are met by each request, over both doors: budgets and limits, allow- and deny-lists, blocks, end
users and tags; thresholds, shortened answers, streams that grow past a budget.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from doors import ADMIN, Answer, Door, post
from tollway.simulator.running import RunningSimulator, start_in_thread

PRICE = {"input": 1000, "output": 1000}  # USD a million tokens: a tenth of a cent a token


def value(name: str) -> str:
    return f"sk-tw-levels-{name}-0123456789"


def configuration(upstream: RunningSimulator) -> dict[str, Any]:
    def key(name: str, **more: object) -> dict[str, object]:
        return {"name": name, "key": value(name), **more}

    target = {"model": "mock/m+tokens=50", "price": PRICE}
    return {
        "admin_key": ADMIN,
        "database": "none",
        "providers": {"mock": {"type": "openai-compatible", "base_url": upstream.url, "api_key": "up"}},
        "models": {
            "a": {"targets": [target]},
            "b": {"targets": [target]},
            "backed": {
                "targets": ["mock/full+status=429+retry_after=120", "mock/m"],
                "retry": {"attempts": 1},
            },
            "long": {"targets": [{"model": "mock/m+tokens=4000", "price": PRICE}]},
        },
        "organizations": [
            {"name": "acme", "models": ["a", "b", "group:all"], "limits": {"rpd": 10_000}},
            {"name": "halted", "blocked": True},
            {"name": "other"},
        ],
        "access_groups": [{"name": "all", "models": ["*"]}, {"name": "one", "models": ["b"]}],
        "teams": [
            {"name": "poor", "organization": "acme", "budget": {"usd": 0.0001}},
            {"name": "rated", "organization": "acme", "limits": {"rpm": 3}},
            {"name": "picky", "organization": "acme", "denied_models": ["group:one"]},
            {"name": "shared", "organization": "acme", "members": {"limits": {"rpm": 2}}},
            {"name": "stopped", "organization": "halted"},
            {"name": "only-a", "organization": "acme", "models": ["a"]},
            {"name": "not-b", "organization": "acme", "denied_models": ["b"]},
        ],
        "users": [{"name": "ann", "teams": ["shared"]}, {"name": "ben", "teams": ["shared"]}],
        "customers": [
            {"name": "default", "limits": {"rpm": 2}},
            {"name": "banned", "blocked": True},
            {"name": "vip", "limits": {"rpm": 100}},
            {"name": "rich", "id": "other.rich", "organization": "other", "budget": {"usd": 0.0001}},
            {"name": "gone", "id": "other.gone", "organization": "other", "blocked": True},
        ],
        "tags": [{"name": "batch", "limits": {"rpm": 1}}],
        "keys": [
            key("plain", organization="acme"),
            key("poor", team="poor"),
            key("rated1", team="rated"),
            key("rated2", team="rated"),
            key("picky", team="picky"),
            key("ann", team="shared", user="ann"),
            key("ann2", team="shared", user="ann"),
            key("ben", team="shared", user="ben"),
            key("stopped", team="stopped"),
            key("bound", customer="theirs"),
            key("scoped", limits=[{"models": ["a"], "rpm": 1}]),
            key("routes", routes=["embeddings"]),
            key("alias", aliases={"fast": "a"}),
            key("info", routes=["info"]),
            key("no-responses", denied_routes=["responses"]),
            key("renamed", team="only-a", aliases={"b": "b", "mine": "b"}),
            key("renamed2", team="not-b", aliases={"a": "b"}),
            key("direct", denied_models=["long", "mock/m"]),
            key("scoped2", limits=[{"models": ["a"], "rpm": 1}]),
            key("other", organization="other"),
            key("strict", budget={"usd": 5, "strict": True}),
            key("watched", limits={"rpm": 1, "enforce": False}),
            key("warned", budget={"usd": 1, "alert_at": [1]}),
            key("tight", budget={"usd": 0.4, "on_tight": "clamp", "strict": True}),
            key("words", budget={"tokens": 120}),
            key("cut", budget={"usd": 1.2, "on_outgrown": "cut"}),
            key("outgrown", budget={"usd": 1.2}),
        ],
    }


@pytest.fixture(scope="module", params=["lane", "asgi"])
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with start_in_thread() as upstream:
        opened = Door(request.param, tmp_path_factory.mktemp("levels"), upstream, configuration(upstream))
        try:
            opened.wait()
            yield opened
            assert "Traceback" not in opened.log, opened.log
        finally:
            opened.stop()


def chat(door: Door, name: str, *lines: str, model: str = "a", **more: object) -> Answer:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello there"}], **more}
    return door.ask(post(body, *lines, key=value(name)))


def codes(answers: list[Answer]) -> list[int]:
    return [answer.status for answer in answers]


def test_a_teams_budget_refuses_and_is_named(door: Door) -> None:
    answer = chat(door, "poor")
    assert (answer.status, answer.code) == (402, "budget_exceeded")
    error = answer.json()["error"]
    assert error["subject"] == "team poor"
    assert error["limit_nano_usd"] == 100_000
    assert error["spent_nano_usd"] == 0


def test_keys_of_a_team_share_its_limits(door: Door) -> None:
    answers = [chat(door, name) for name in ("rated1", "rated2", "rated1", "rated2")]
    assert codes(answers) == [200, 200, 200, 429]
    assert "team rated" in answers[-1].json()["error"]["message"]
    assert answers[0].headers["x-ratelimit-limit-requests"] == "3"


def test_members_have_limits_of_their_own(door: Door) -> None:
    assert codes([chat(door, "ann"), chat(door, "ann2"), chat(door, "ann"), chat(door, "ben")]) == [
        200, 200, 429, 200,
    ]  # fmt: skip


def test_deny_lists_and_groups(door: Door) -> None:
    assert chat(door, "picky", model="a").status == 200
    refused = chat(door, "picky", model="b")
    assert (refused.status, refused.code) == (403, "model_not_allowed")
    assert chat(door, "plain", model="mock/anything").status == 200  # the organization's group allows all


def test_a_blocked_organization_stops_its_teams_keys(door: Door) -> None:
    refused = chat(door, "stopped")
    assert (refused.status, refused.code) == (403, "key_blocked")
    assert "organization halted" in refused.json()["error"]["message"]


def test_end_users_meet_their_own_limits(door: Door) -> None:
    alone = [chat(door, "plain", user="u1") for _ in range(3)]
    assert codes(alone) == [200, 200, 429]
    assert "customer u1" in alone[-1].json()["error"]["message"]
    assert chat(door, "plain", user="u2").status == 200
    assert codes([chat(door, "plain", "x-tollway-customer: vip") for _ in range(4)]) == [200] * 4
    assert chat(door, "plain", user="banned").code == "key_blocked"
    assert chat(door, "plain", "x-litellm-end-user-id: banned").code == "key_blocked"
    event = door.event(alone[0].headers["x-tollway-request-id"])
    assert (event["customer"], event["organization"]) == ("u1", "acme")


def test_a_key_of_a_customer_stays_with_it(door: Door) -> None:
    answers = [
        chat(door, "bound", user="vip"),
        chat(door, "bound", "x-tollway-customer: vip"),
        chat(door, "bound"),
    ]
    assert codes(answers) == [200, 200, 429]
    assert door.event(answers[0].headers["x-tollway-request-id"])["customer"] == "theirs"


def test_tags_come_by_header_and_have_limits(door: Door) -> None:
    first = chat(door, "plain", "x-tollway-tags: batch, nightly")
    assert first.status == 200
    assert door.event(first.headers["x-tollway-request-id"])["tags"] == ["batch", "nightly"]
    again = chat(door, "plain", "x-tollway-tags: batch")
    assert again.status == 429
    assert "tag batch" in again.json()["error"]["message"]
    assert chat(door, "plain", "x-tollway-tags: nightly").status == 200
    assert chat(door, "plain", "x-tollway-tags: " + ",".join(f"t{n}" for n in range(30))).status == 400


def test_ceilings_of_some_models(door: Door) -> None:
    assert codes([chat(door, "scoped"), chat(door, "scoped"), chat(door, "scoped", model="b")]) == [
        200,
        429,
        200,
    ]


def test_routes_and_aliases(door: Door) -> None:
    refused = chat(door, "routes")
    assert (refused.status, refused.code) == (403, "route_not_allowed")
    assert (
        door.ask(post({"model": "a", "input": "x"}, path="/v1/embeddings", key=value("routes"))).status == 200
    )
    assert chat(door, "alias", model="fast").headers["x-tollway-model"] == "a"


def test_a_watched_limit_warns_and_serves(door: Door) -> None:
    first, second = chat(door, "watched"), chat(door, "watched")
    assert codes([first, second]) == [200, 200]
    assert "x-tollway-warning" not in first.headers
    assert second.headers["x-tollway-warning"].startswith("key watched: rpm would refuse")
    assert door.event(second.headers["x-tollway-request-id"])["warnings"]


def test_a_threshold_warns_once(door: Door) -> None:
    first, second = chat(door, "warned"), chat(door, "warned")
    assert "key warned: total budget at 1 %" in first.headers["x-tollway-warning"]
    assert "x-tollway-warning" not in second.headers
    assert door.log.count(":key warned") + door.log.count(": key warned") == 1


def test_an_answer_is_shortened_to_what_a_budget_affords(door: Door) -> None:
    answer = chat(door, "tight", model="long")
    assert answer.status == 200, answer.raw
    event = door.event(answer.headers["x-tollway-request-id"])
    assert 16 <= event["usage"]["output"] < 400
    assert event["cost_nano_usd"] <= 400_000_000
    refused = chat(door, "tight", model="long")
    assert (refused.status, refused.code) == (402, "budget_exceeded")


def test_a_budget_of_tokens(door: Door) -> None:
    answers = [chat(door, "words", max_tokens=40) for _ in range(4)]
    assert codes(answers)[0] == 200
    assert codes(answers)[-1] == 402
    assert answers[-1].json()["error"]["unit"] == "tokens"


def test_a_stream_that_outgrows_a_budget(door: Door) -> None:
    cut = chat(door, "cut", model="long", stream=True)
    assert cut.status == 200
    assert b'"budget_exceeded"' in cut.body
    assert cut.body.count(b"[DONE]") == 1
    event = door.event(cut.headers["x-tollway-request-id"])
    assert (event["outcome"], event["status"], event["estimated"]) == ("error", 402, True)
    assert event["cost_nano_usd"] < 2_500_000_000
    whole = chat(door, "outgrown", model="long", stream=True)
    assert b'"budget_exceeded"' not in whole.body
    assert door.event(whole.headers["x-tollway-request-id"])["usage"]["output"] == 4000
    assert chat(door, "outgrown").status == 402


def test_a_full_provider_is_passed_over_until_it_has_room(door: Door) -> None:
    """The first answer falls back; the next goes straight to where there is room."""
    first = chat(door, "plain", model="backed", user="vip")
    second = chat(door, "plain", model="backed", user="vip")
    assert codes([first, second]) == [200, 200]
    assert first.headers["x-tollway-attempts"] == "2"
    assert second.headers["x-tollway-attempts"] == "1"
    assert second.headers["x-tollway-deployment"] == first.headers["x-tollway-deployment"]


def test_an_alias_is_no_way_around_a_list_above_it(door: Door) -> None:
    """What is served must be allowed by each list outside the level that has the alias, and denied by none."""
    for name, model in (("renamed", "b"), ("renamed", "mine"), ("renamed2", "a"), ("renamed2", "b")):
        refused = chat(door, name, model=model)
        assert (refused.status, refused.code) == (403, "model_not_allowed"), (name, model)
    assert chat(door, "renamed", model="a").status == 200


def test_a_denied_model_is_denied_by_every_name(door: Door) -> None:
    for model in ("long", "mock/m+tokens=4000"):
        refused = chat(door, "direct", model=model)
        assert (refused.status, refused.code) == (403, "model_not_allowed"), model
    assert chat(door, "direct", model="backed").status == 403, "one of its targets is denied by its own name"
    assert chat(door, "direct", model="a").status == 200
    answer = door.ask(
        b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n\r\n" % value("direct").encode()
    )
    assert {each["id"] for each in answer.json()["data"]} == {"a", "b"}


def test_a_limit_of_some_models_holds_by_every_name(door: Door) -> None:
    answers = [chat(door, "scoped2"), chat(door, "scoped2", model="mock/m+tokens=50")]
    assert codes(answers) == [200, 429]


def test_another_organizations_customer_is_nobody_here(door: Door) -> None:
    """It is not charged, not blocked and not told of; the usual terms of end users hold."""
    answers = [
        chat(door, "plain", user=name) for name in ("other.rich", "other.gone", "other.rich", "other.rich")
    ]
    assert codes(answers) == [200, 200, 200, 429]
    assert "customer other.rich has reached its limit of 2 requests" in answers[-1].json()["error"]["message"]
    assert chat(door, "other", user="other.rich").status == 402
    assert chat(door, "other", user="other.gone").code == "key_blocked"


def test_the_larger_of_two_lengths_is_held(door: Door) -> None:
    refused = chat(door, "strict", max_completion_tokens=1, max_tokens=100_000)
    assert (refused.status, refused.code) == (402, "budget_exceeded")
    body = {"model": "a", "prompt": "x", "max_tokens": 16, "best_of": 10_000}
    refused = door.ask(post(body, path="/v1/completions", key=value("strict")))
    assert (refused.status, refused.code) == (402, "budget_exceeded")
    assert chat(door, "strict", max_tokens=2**53, n=2**53).code == "budget_exceeded"
    assert chat(door, "strict", max_tokens=16).status == 200


def test_a_body_names_its_end_user_on_every_endpoint(door: Door) -> None:
    for path, body in (
        ("/v1/images/generations", {"model": "a", "prompt": "x"}),
        ("/v1/moderations", {"model": "a", "input": "x"}),
        ("/v1/audio/speech", {"model": "a", "input": "x", "voice": "alloy"}),
        ("/mock/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "x"}]}),
    ):
        refused = door.ask(post({**body, "user": "banned"}, path=path, key=value("plain")))
        assert (refused.status, refused.code) == (403, "key_blocked"), path
        assert door.ask(post({**body, "user": "vip"}, path=path, key=value("plain"))).status == 200, path


def test_routes_of_what_only_tells(door: Door) -> None:
    def get(name: str, path: str) -> Answer:
        return door.ask(
            f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {value(name)}\r\n\r\n".encode()
        )

    assert get("info", "/v1/models").status == get("info", "/v1/models/a").status == 200
    assert chat(door, "info").code == "route_not_allowed"
    assert get("routes", "/v1/models").code == "route_not_allowed"
    assert get("no-responses", "/v1/responses/resp_1").code == "route_not_allowed"
    assert get("plain", "/v1/responses/resp_1").status == 404
