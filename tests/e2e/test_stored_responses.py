"""OpenAI's own SDK and its stored responses through a real gateway: before a provider that knows chat only, where the
gateway keeps them, and before one that keeps its own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from served import PRICE, Served, fetch, served, served_with, wait_until

from running import provider, simulator
from tollway.simulator.running import RunningSimulator

SMALL = "gpt-4o-mini"


def configuration(upstream: RunningSimulator, **more: object) -> dict[str, object]:
    def model(name: str) -> dict[str, object]:
        return {"targets": [{"model": name, "price": PRICE}]}

    return {
        "providers": {
            "mock": provider(upstream),
            "native": provider(upstream, languages=["openai.responses"]),
            "local": {
                "type": "ollama",
                "base_url": upstream.url.removesuffix("/v1"),
                "languages": ["ollama.chat"],
            },
        },
        "models": {
            "chat": model(f"mock/{SMALL}"),
            "echo": model(f"mock/{SMALL}+echo"),
            "thinker": model("local/qwen3+reasoning=20"),
            "native": model(f"native/{SMALL}"),
            "native-echo": model(f"native/{SMALL}+echo"),
            "stalled": {**model(f"mock/{SMALL}+stall=headers"), "retry": {"attempts": 1}},
            "slow": model(f"mock/{SMALL}+events=40+pace=40ms"),
            "slow-native": model(f"native/{SMALL}+events=40+pace=40ms"),
            "broken": {**model(f"mock/{SMALL}+status=500"), "retry": {"attempts": 1}},
        },
        **more,
    }


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with (
        simulator() as upstream,
        served_with(tmp_path_factory.mktemp("responses"), upstream, configuration(upstream)) as running,
    ):
        yield running


@pytest.fixture
def client(gateway: Served, request: pytest.FixtureRequest) -> OpenAI:
    return as_key(gateway, gateway.key(f"k-{request.node.name}-{time.time_ns()}"))


def as_key(gateway: Served, key: str) -> OpenAI:
    return OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0, timeout=20)


def sent(gateway: Served) -> dict[str, Any]:
    """The body of the latest request that reached the provider."""
    found: dict[str, Any] = json.loads(gateway.upstream.received[-1].body)
    return found


def texts(items: list[Any]) -> list[str]:
    return [item.content[0].text for item in items]


def ended(client: OpenAI, id: str, status: str = "completed") -> Any:
    wait_until(lambda: client.responses.retrieve(id).status not in ("queued", "in_progress"), what="its end")
    found = client.responses.retrieve(id)
    assert found.status == status, found
    return found


# -------------------------------------------------------------------------------------- kept by the gateway


def test_a_translated_answer_is_found_again(client: OpenAI) -> None:
    made = client.responses.create(model="chat", input="Hello there", metadata={"trip": "7"})
    found = client.responses.retrieve(made.id)
    assert found.to_dict() == made.to_dict()
    assert found.output_text
    assert found.metadata == {"trip": "7"}
    assert found.usage is not None


def test_two_answers_never_share_an_id(client: OpenAI) -> None:
    ids = {client.responses.create(model="echo", input=str(number)).id for number in range(5)}
    assert len(ids) == 5
    assert all(id.startswith("resp_") for id in ids)


def test_a_stream_is_found_again_whole_and_in_part(client: OpenAI) -> None:
    with client.responses.stream(model="chat", input="Hello there") as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert client.responses.retrieve(final.id).output_text == final.output_text
    again = list(client.responses.retrieve(final.id, stream=True))
    assert [one.sequence_number for one in again] == [one.sequence_number for one in events]
    assert again[-1].type == "response.completed"
    middle = events[3].sequence_number
    rest = list(client.responses.retrieve(final.id, stream=True, starting_after=middle))
    assert [one.sequence_number for one in rest] == [
        n.sequence_number for n in again if n.sequence_number > middle
    ]


def test_a_whole_answer_can_be_had_as_a_stream(client: OpenAI) -> None:
    made = client.responses.create(model="chat", input="Hello there", instructions="Be brief.")
    events = list(client.responses.retrieve(made.id, stream=True))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert events[-1].response.to_dict() == made.to_dict()
    assert (
        "".join(one.delta for one in events if one.type == "response.output_text.delta") == made.output_text
    )
    assert [one.sequence_number for one in events] == list(range(len(events)))
    assert made.instructions == "Be brief."


def test_what_ended_badly_can_be_had_as_a_stream(client: OpenAI) -> None:
    cases = (("broken", "failed", "response.failed"), ("stalled", "cancelled", "response.incomplete"))
    for model, status, last in cases:
        queued = client.responses.create(model=model, input="Hello there", background=True)
        if status == "cancelled":
            client.responses.cancel(queued.id)
        ended(client, queued.id, status)
        events = list(client.responses.retrieve(queued.id, stream=True))
        assert [one.type for one in events] == ["response.created", last]
        assert events[-1].response.status == status  # type: ignore[union-attr]


def test_a_stream_that_its_client_left_is_not_kept(gateway: Served, client: OpenAI) -> None:
    for model, kept in (("slow", False), ("slow-native", True)):
        stream = client.responses.create(model=model, input="Hello there", stream=True)
        first = next(iter(stream))
        opened = gateway.upstream.open
        stream.close()
        wait_until(lambda before=opened: gateway.upstream.open < before, what="the provider is let go")  # type: ignore[misc]
        id = first.response.id  # type: ignore[union-attr]
        if kept:  # by the provider, which can be asked what became of it
            assert client.responses.retrieve(id).id == id
        else:
            with pytest.raises(openai.NotFoundError):
                client.responses.retrieve(id)


@pytest.mark.parametrize("knobs", ["", "+split=7", "+crlf", "+comments=1"])
def test_a_native_stream_that_goes_on_from_here(client: OpenAI, knobs: str) -> None:
    first = client.responses.create(model="chat", input="My name is Ada.")
    with client.responses.stream(
        model=f"native/{SMALL}+echo{knobs}", input="What is it?", previous_response_id=first.id
    ) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert final.output_text == "What is it?"
    assert events[0].response.previous_response_id == first.id  # type: ignore[union-attr]
    assert final.previous_response_id == first.id
    assert client.responses.retrieve(final.id).id == final.id


def test_a_cancelled_background_stream_ends_for_who_follows_it(client: OpenAI) -> None:
    stream = client.responses.create(model="slow", input="Hello there", background=True, stream=True)
    events = iter(stream)
    first = next(events)
    next(events)
    cancelled = client.responses.cancel(first.response.id)  # type: ignore[union-attr]
    rest = list(events)
    assert rest[-1].type == "response.incomplete"
    assert rest[-1].response.status == "cancelled"
    assert rest[-1].sequence_number == (rest[-2].sequence_number if len(rest) > 1 else 1) + 1
    assert cancelled.status == "cancelled"
    again = list(client.responses.retrieve(cancelled.id, stream=True))
    assert again[-1].sequence_number == rest[-1].sequence_number


def test_background_work_of_a_key_is_bounded(gateway: Served) -> None:
    client = as_key(gateway, gateway.key("busy"))

    def begin() -> Any:
        try:
            return client.responses.create(model="stalled", input="Hello there", background=True).id
        except openai.RateLimitError as error:
            return error

    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: begin(), range(70)))
    begun = [one for one in made if isinstance(one, str)]
    refused = [one for one in made if not isinstance(one, str)]
    assert len(begun) == 64
    assert all(one.response.headers["retry-after"] for one in refused)
    for id in begun:
        assert client.responses.cancel(id).status == "cancelled"
    assert isinstance(begin(), str)


def test_deleted_is_gone(client: OpenAI) -> None:
    made = client.responses.create(model="chat", input="Hello there")
    client.responses.delete(made.id)
    for ask in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
        with pytest.raises(openai.NotFoundError):
            ask(made.id)


def test_what_is_not_to_be_stored_is_not(gateway: Served, client: OpenAI) -> None:
    made = client.responses.create(model="chat", input="Hello there", store=False)
    assert made.to_dict()["store"] is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    with pytest.raises(openai.NotFoundError) as refused:
        client.responses.create(model="chat", input="And?", previous_response_id=made.id)
    assert refused.value.code == "previous_response_not_found"
    assert refused.value.param == "previous_response_id"


def test_store_is_not_passed_on_to_a_provider_that_was_translated_to(gateway: Served, client: OpenAI) -> None:
    client.responses.create(model="chat", input="Hello there", store=True)
    assert "store" not in sent(gateway)


def test_a_conversation_goes_on(gateway: Served, client: OpenAI) -> None:
    first = client.responses.create(model="echo", input="My name is Ada.", instructions="Be kind.")
    second = client.responses.create(model="echo", input="What is it?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert [(one["role"], one["content"]) for one in sent(gateway)["messages"]] == [
        ("user", "My name is Ada."),
        ("assistant", "My name is Ada."),
        ("user", "What is it?"),
    ]
    with client.responses.stream(model="echo", input="Sure?", previous_response_id=second.id) as stream:
        events = list(stream)
        third = stream.get_final_response()
    assert third.previous_response_id == second.id
    assert events[0].response.previous_response_id == second.id  # type: ignore[union-attr]
    assert [one["content"] for one in sent(gateway)["messages"]] == [
        "My name is Ada.", "My name is Ada.", "What is it?", "What is it?", "Sure?",
    ]  # fmt: skip
    assert client.responses.retrieve(third.id).previous_response_id == second.id
    # From any response of it more than one may go on.
    client.responses.create(model="echo", input="Else?", previous_response_id=first.id)
    assert len(sent(gateway)["messages"]) == 3


def test_tools_are_called_across_responses(gateway: Served, client: OpenAI) -> None:
    tool: Any = {
        "type": "function", "name": "weather", "description": "Of a city.", "strict": True,
        "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
            "additionalProperties": False,
        },
    }  # fmt: skip
    first = client.responses.create(model="chat", input="Paris?", tools=[tool], tool_choice="required")
    call = next(item for item in first.output if item.type == "function_call")
    answer: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny"}
    client.responses.create(model="chat", input=[answer], previous_response_id=first.id, tools=[tool])
    messages = sent(gateway)["messages"]
    assert [one["role"] for one in messages] == ["user", "assistant", "tool"]
    assert messages[1]["tool_calls"][0]["id"] == messages[2]["tool_call_id"]
    assert messages[2]["content"] == "Sunny"


def test_the_whole_conversation_is_held_and_paid_for(gateway: Served, client: OpenAI) -> None:
    first = client.responses.create(model="chat", input="A long story. " * 400)
    second = client.responses.create(model="chat", input="And?", previous_response_id=first.id)
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens
    poor = as_key(gateway, gateway.key("thrifty", limits={"tpm": 2500}))
    begun = poor.responses.create(model="echo", input="A long story. " * 400, max_output_tokens=16)
    with pytest.raises(openai.RateLimitError):
        poor.responses.create(model="chat", input="And?", previous_response_id=begun.id)


def test_input_items_are_paged(client: OpenAI) -> None:
    first = client.responses.create(model="echo", input="one")
    two: Any = [{"role": "user", "content": "two"}, {"role": "assistant", "content": "II"}]
    second = client.responses.create(
        model="echo", input=[*two, {"role": "user", "content": "three"}], previous_response_id=first.id
    )
    assert texts(client.responses.input_items.list(second.id, order="asc").data) == [
        "one",
        "one",
        "two",
        "II",
        "three",
    ]
    newest = client.responses.input_items.list(second.id, limit=2)
    assert texts(newest.data) == ["three", "II"]
    assert newest.has_more
    assert texts(list(newest)) == ["three", "II", "two", "one", "one"]  # the SDK turns the pages itself
    after = newest.data[-1].id
    rest = client.responses.input_items.list(second.id, after=after, limit=100)
    assert texts(rest.data) == ["two", "one", "one"]
    assert not rest.has_more
    for wrong in ({"limit": 0}, {"limit": 101}, {"after": "msg_none"}, {"order": "up"}):
        with pytest.raises(openai.BadRequestError):
            client.responses.input_items.list(second.id, **wrong)


# -------------------------------------------------------------------------------------- kept by the provider


def test_a_provider_that_keeps_its_own_is_asked(gateway: Served, client: OpenAI) -> None:
    made = client.responses.create(model="native", input="Hello there")
    assert client.responses.retrieve(made.id).output_text == made.output_text
    latest = gateway.upstream.received[-1]
    assert (latest.method, latest.path) == (b"GET", f"/v1/responses/{made.id}".encode())
    assert texts(client.responses.input_items.list(made.id).data) == ["Hello there"]
    second = client.responses.create(model="native-echo", input="And?", previous_response_id=made.id)
    assert sent(gateway)["previous_response_id"] == made.id
    assert second.previous_response_id == made.id
    client.responses.delete(made.id)
    assert gateway.upstream.received[-1].method == b"DELETE"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_a_stream_of_a_provider_that_keeps_its_own(gateway: Served, client: OpenAI) -> None:
    with client.responses.stream(model="native", input="Hello there") as stream:
        list(stream)
        final = stream.get_final_response()
    assert client.responses.retrieve(final.id).output_text == final.output_text
    with pytest.raises(
        openai.BadRequestError, match="provider native"
    ):  # it streams background work again only
        list(client.responses.retrieve(final.id, stream=True, starting_after=1))
    assert gateway.upstream.received[-1].query == b"starting_after=1&stream=true"


def test_a_conversation_moves_to_a_provider_that_keeps_its_own_but_not_away(
    gateway: Served, client: OpenAI
) -> None:
    first = client.responses.create(model="thinker", input="My name is Ada.", reasoning={"effort": "high"})
    assert any(item.type == "reasoning" for item in first.output)
    moved = client.responses.create(model="native-echo", input="What is it?", previous_response_id=first.id)
    assert moved.previous_response_id == first.id
    body = sent(gateway)
    assert "previous_response_id" not in body
    assert [item["type"] for item in body["input"]] == ["message", "message", "message"]
    # Another maker's sealed thoughts took it through the hub, so it is kept here and may move on.
    assert client.responses.create(model="chat", input="And?", previous_response_id=moved.id).output_text

    plain = client.responses.create(model="chat", input="My name is Ada.")
    stays = client.responses.create(model="native-echo", input="What is it?", previous_response_id=plain.id)
    with pytest.raises(openai.BadRequestError, match="kept by provider native"):
        client.responses.create(model="chat", input="And?", previous_response_id=stays.id)


# ------------------------------------------------------------------------------------------ to whom they belong


@pytest.mark.parametrize("model", ["chat", "native"])
def test_what_is_anothers_does_not_exist(gateway: Served, client: OpenAI, model: str) -> None:
    made = client.responses.create(model=model, input="A secret of mine")
    other = as_key(gateway, gateway.key(f"other-{model}-{time.time_ns()}"))
    requests = gateway.upstream.requests
    unknown = "resp_0123456789abcdef"
    surfaces: dict[str, Any] = {
        "retrieve": lambda id: other.responses.retrieve(id),
        "stream": lambda id: list(other.responses.retrieve(id, stream=True)),
        "delete": lambda id: other.responses.delete(id),
        "cancel": lambda id: other.responses.cancel(id),
        "input_items": lambda id: other.responses.input_items.list(id),
        "previous": lambda id: other.responses.create(model=model, input="And?", previous_response_id=id),
        "background": lambda id: other.responses.create(
            model=model, input="And?", previous_response_id=id, background=True
        ),
    }
    for name, ask in surfaces.items():
        said = []
        for id in (made.id, unknown):
            with pytest.raises(openai.NotFoundError) as refused:
                ask(id)
            assert isinstance(refused.value.body, dict)
            said.append(json.dumps(refused.value.body).replace(id, "ID"))
        assert said[0] == said[1], name
    assert gateway.upstream.requests == requests  # nobody upstream was asked either
    assert client.responses.retrieve(made.id).id == made.id


def test_paths_without_the_prefix_and_methods_that_are_none(gateway: Served, client: OpenAI) -> None:
    made = client.responses.create(model="chat", input="Hello there")
    assert fetch(f"{gateway.url}/responses/{made.id}", key=client.api_key).json()["id"] == made.id
    assert fetch(f"{gateway.url}/v1/responses/{made.id}", body={}, key=client.api_key).status == 405
    assert fetch(f"{gateway.url}/v1/responses/{made.id}").status == 401
    assert fetch(f"{gateway.url}/v1/responses/{made.id}%2F..%2Fmodels", key=client.api_key).status == 404


# ----------------------------------------------------------------------------------------------- in the background


@pytest.mark.parametrize("model", ["chat", "native"])
def test_background_work_is_answered_at_once_and_done(gateway: Served, client: OpenAI, model: str) -> None:
    asked = client.responses.with_raw_response.create(model=model, input="Hello there", background=True)
    queued = asked.parse()
    assert queued.status == "queued"
    assert queued.background is True
    assert queued.output == []
    done = ended(client, queued.id)
    assert done.background is True
    assert done.to_dict()["store"] is True
    assert sent(gateway).get("store") is (False if model == "native" else None)  # nobody else has a copy
    assert done.output_text
    event = gateway.event(asked.headers["x-tollway-request-id"])
    assert event["outcome"] == "ok"
    assert done.usage is not None
    assert event["usage"]["input"] == done.usage.input_tokens
    assert event["cost_nano_usd"] > 0
    going_on = client.responses.create(model="echo", input="And?", previous_response_id=done.id)
    assert going_on.previous_response_id == done.id
    assert client.responses.cancel(done.id).status == "completed"


def test_background_work_is_seen_in_progress_and_cancelled(gateway: Served, client: OpenAI) -> None:
    asked = client.responses.with_raw_response.create(model="stalled", input="Hello there", background=True)
    queued = asked.parse()
    assert client.responses.retrieve(queued.id).status == "in_progress"
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="chat", input="And?", previous_response_id=queued.id)
    open_before = gateway.upstream.open
    assert open_before > 0
    cancelled = client.responses.cancel(queued.id)
    assert cancelled.status == "cancelled"
    assert cancelled.id == queued.id
    wait_until(lambda: gateway.upstream.open < open_before, what="the provider is let go")
    assert gateway.event(asked.headers["x-tollway-request-id"])["outcome"] == "cancelled"
    assert client.responses.retrieve(queued.id).status == "cancelled"
    client.responses.delete(queued.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(queued.id)


def test_only_background_work_can_be_cancelled(client: OpenAI) -> None:
    made = client.responses.create(model="chat", input="Hello there")
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(made.id)


def test_a_background_stream_goes_on_without_its_client(client: OpenAI) -> None:
    stream = client.responses.create(model="slow", input="Hello there", background=True, stream=True)
    seen = [next(iter(stream)) for _ in range(1)] + [
        event for _, event in zip(range(6), stream, strict=False)
    ]
    id = seen[0].response.id  # type: ignore[union-attr]
    last = seen[-1].sequence_number
    stream.close()
    assert client.responses.retrieve(id).status == "in_progress"
    rest = list(client.responses.retrieve(id, stream=True, starting_after=last))
    assert [one.sequence_number for one in rest] == list(range(last + 1, last + 1 + len(rest)))
    assert rest[-1].type == "response.completed"
    assert rest[-1].response.id == id
    assert rest[-1].response.background is True
    found = ended(client, id)
    assert found.output_text == rest[-1].response.output_text
    again = list(client.responses.retrieve(id, stream=True))
    assert [one.sequence_number for one in again] == list(range(last + 1 + len(rest)))


def test_background_work_that_fails_says_why(gateway: Served, client: OpenAI) -> None:
    queued = client.responses.create(model="broken", input="Hello there", background=True)
    failed = ended(client, queued.id, "failed")
    assert failed.error is not None
    assert failed.error.message
    asked = fetch(
        f"{gateway.url}/v1/responses",
        {"model": "broken", "input": "Hi", "background": True, "stream": True},
        key=client.api_key,
    )
    said = [json.loads(line[6:]) for line in asked.body.decode().split("\n") if line.startswith("data: ")]
    assert [one["type"] for one in said][-2:] == ["error", "response.failed"]
    assert client.responses.retrieve(said[-1]["response"]["id"]).status == "failed"


def test_background_work_is_refused_at_once_where_its_key_may_not(gateway: Served, client: OpenAI) -> None:
    poor = as_key(gateway, gateway.key("poor", budget={"usd": 0.0000001}))
    with pytest.raises(openai.APIStatusError) as refused:
        poor.responses.create(model="chat", input="Hello there", background=True)
    assert refused.value.status_code == 402
    bounded = as_key(gateway, gateway.key("bounded", models=["chat"]))
    with pytest.raises(openai.PermissionDeniedError):
        bounded.responses.create(model="echo", input="Hello there", background=True)
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="chat", input="Hello there", background=True, store=False)
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="chat", input=[{"role": "nobody"}], background=True)  # type: ignore[list-item]


# ------------------------------------------------------------------------------------------------ restarts


def test_responses_survive_a_restart_and_work_in_progress_has_failed(tmp_path: Path) -> None:
    with simulator() as upstream:
        config = configuration(upstream)
        with served_with(tmp_path, upstream, config) as running:
            client = as_key(running, running.key("lasting"))
            kept = client.responses.create(model="echo", input="My name is Ada.")
            native = client.responses.create(model="native", input="Hello there")
            stopped = client.responses.create(model="stalled", input="Hello", background=True)
        with served_with(tmp_path, upstream, config) as running:
            client = as_key(running, client.api_key)
            assert client.responses.retrieve(kept.id).to_dict() == kept.to_dict()
            assert client.responses.retrieve(native.id).output_text == native.output_text
            client.responses.create(model="echo", input="What is it?", previous_response_id=kept.id)
            assert len(sent(running)["messages"]) == 3
            failed = client.responses.retrieve(stopped.id)
            assert failed.status == "failed"
            assert failed.error is not None
            killed = client.responses.create(model="stalled", input="Hello", background=True)
            time.sleep(0.6)  # the row is written behind the answer
            running.gateway.kill()
        with served_with(tmp_path, upstream, config) as running:
            client = as_key(running, client.api_key)
            assert client.responses.retrieve(killed.id).status == "failed"
            with pytest.raises(openai.NotFoundError):
                as_key(running, running.key("new")).responses.retrieve(kept.id)


# ---------------------------------------------------------------------------------------- where nothing is kept


@pytest.mark.parametrize("more", [{"database": "none"}, {"logs": {"responses": "off"}}])
def test_where_nothing_is_kept_it_is_said(tmp_path: Path, more: dict[str, object]) -> None:
    key = "sk-tw-of-the-file-0123456789"
    with served(tmp_path, {**more, "keys": [{"name": "file", "key": key}]}) as running:
        client = as_key(running, key)
        made = client.responses.create(model="small", input="Hello there")
        assert made.output_text
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(made.id)
        for asked in ({"previous_response_id": made.id}, {"background": True}):
            with pytest.raises(openai.BadRequestError, match="keeps responses") as refused:
                client.responses.create(model="small", input="And?", **asked)
            assert refused.value.param in asked
