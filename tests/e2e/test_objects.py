"""What providers keep for clients, through OpenAI's SDK: made, shown, listed, handed out and removed by their owner
only; batches at a provider that has them and, where it has none, run by the gateway itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from served import PRICE, Served, fetch, served, served_with, wait_until

from running import ADMIN, provider, simulator

MODELS = {
    "small": {"targets": [{"model": "mock/gpt-4o-mini", "price": PRICE}]},
    "plain": {"targets": [{"model": "plain/deepseek-chat", "price": PRICE}]},
    "busy": {"targets": [{"model": "plain/deepseek-chat+latency=300ms", "price": PRICE}]},
    "broken": {"targets": ["plain/deepseek-chat+status=400"]},
    "director": {"targets": [{"model": "mock/sora-2+job=0ms", "price": {"video_seconds": 100_000}}]},
    "tutor": {"targets": [{"model": "mock/gpt-4o", "price": PRICE}]},
}


@contextmanager
def serving(directory: Path, models: dict[str, Any]) -> Iterator[Served]:
    """Provider ``mock`` has files and batches, ``plain`` has neither; both are one simulator."""
    with simulator() as upstream:
        plain = {"type": "deepseek", "base_url": upstream.url, "api_key": "sk-of-the-simulator"}
        config = {"providers": {"mock": provider(upstream), "plain": plain}, "models": models}
        with served_with(directory, upstream, config) as running:
            yield running


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("gateway"), MODELS) as running:
        yield running


def sdk(gateway: Served, key: str) -> OpenAI:
    return OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0)


@pytest.fixture(scope="module")
def ann(gateway: Served) -> Iterator[OpenAI]:
    with sdk(gateway, gateway.key("ann")) as client:
        yield client


@pytest.fixture(scope="module")
def bob(gateway: Served) -> Iterator[OpenAI]:
    with sdk(gateway, gateway.key("bob")) as client:
        yield client


@pytest.fixture(scope="module")
def admin(gateway: Served) -> Iterator[OpenAI]:
    with sdk(gateway, ADMIN) as client:
        yield client


def missing(call: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(openai.NotFoundError) as refused:
        call(*arguments, **named)
    return str(refused.value.body["message"])  # type: ignore[index]


def lines(model: str, count: int = 3, **more: object) -> bytes:
    return b"".join(
        json.dumps(
            {
                "custom_id": f"line-{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {
                    "model": model,
                    "messages": [{"role": "user", "content": f"Number {number}"}],
                    **more,
                },
            }
        ).encode()
        + b"\n"
        for number in range(count)
    )


def ended(client: OpenAI, id: str, seconds: float = 20.0) -> Any:
    found: list[Any] = []

    def over() -> bool:
        found[:] = [client.batches.retrieve(id)]
        return found[0].status in ("completed", "failed", "cancelled", "expired")

    wait_until(over, seconds, f"the batch ends: {found}")
    return found[0]


def test_a_file_from_first_to_last(ann: OpenAI, bob: OpenAI, admin: OpenAI) -> None:
    made = ann.files.create(file=("notes.txt", b"pay at the gate"), purpose="assistants")
    assert ann.files.retrieve(made.id).filename == "notes.txt"
    assert ann.files.content(made.id).read() == b"pay at the gate"
    assert made.id in [one.id for one in ann.files.list()]
    assert made.id not in [one.id for one in bob.files.list()]
    assert made.id in [one.id for one in admin.files.list()]
    assert admin.files.retrieve(made.id).id == made.id
    never = "file-" + "0" * len(made.id.removeprefix("file-"))
    for call in (bob.files.retrieve, bob.files.content, bob.files.delete):
        assert missing(call, made.id).replace(made.id, "") == missing(call, never).replace(never, "")
    assert ann.files.delete(made.id).deleted
    missing(ann.files.retrieve, made.id)


def test_lists_come_in_pages(gateway: Served) -> None:
    with sdk(gateway, gateway.key("pages")) as client:
        ids = [client.files.create(file=(f"{n}.txt", b"x"), purpose="user_data").id for n in range(5)]
        assert sorted(one.id for one in client.files.list(limit=2)) == sorted(ids)
        first = client.files.list(limit=2, order="asc")
        assert len(first.data) == 2
        assert first.has_more
        assert [one.id for one in client.files.list(purpose="batch")] == []
        assert len(client.files.list(purpose="user_data", limit=10).data) == 5


def test_ids_in_bodies_must_be_the_callers(ann: OpenAI, bob: OpenAI) -> None:
    file = ann.files.create(file=("a.txt", b"the toll is five"), purpose="assistants")
    store = ann.vector_stores.create(name="tolls", file_ids=[file.id])
    mine = bob.vector_stores.create(name="mine")
    missing(bob.vector_stores.create, file_ids=[file.id])
    missing(bob.vector_stores.files.create, vector_store_id=mine.id, file_id=file.id)
    missing(bob.vector_stores.search, store.id, query="toll")
    missing(bob.vector_stores.files.retrieve, file.id, vector_store_id=mine.id)
    found = ann.vector_stores.search(store.id, query="toll")
    assert found.data[0].file_id == file.id
    assert [one.id for one in ann.vector_stores.files.list(store.id)] == [file.id]
    assert [one.id for one in bob.vector_stores.list()] == [mine.id]


def test_an_escaped_id_is_an_id(gateway: Served, ann: OpenAI, bob: OpenAI) -> None:
    file = ann.files.create(file=("a.txt", b"x"), purpose="assistants")
    hidden = "".join(f"\\u{ord(letter):04x}" for letter in file.id)
    body = f'{{"file_ids": ["{hidden}"]}}'.encode()
    assert fetch(gateway.url + "/v1/vector_stores", body, bob.api_key).status == 404
    assert fetch(gateway.url + "/v1/vector_stores", body, ann.api_key).status == 200


def test_uploads_in_parts(ann: OpenAI, bob: OpenAI) -> None:
    upload = ann.uploads.create(bytes=6, filename="a.txt", mime_type="text/plain", purpose="assistants")
    parts = [ann.uploads.parts.create(upload.id, data=piece).id for piece in (b"abc", b"def")]
    missing(bob.uploads.parts.create, upload.id, data=b"x")
    done = ann.uploads.complete(upload.id, part_ids=parts)
    assert done.file is not None
    assert ann.files.content(done.file.id).read() == b"abcdef"
    missing(bob.files.content, done.file.id)


def test_videos(gateway: Served, ann: OpenAI, bob: OpenAI) -> None:
    raw = ann.videos.with_raw_response.create(model="director", prompt="a gate opens", seconds="8")
    video = raw.parse()
    event = gateway.event(raw.headers["x-tollway-request-id"])
    assert event["usage"]["video_seconds"] == 8
    assert event["cost_nano_usd"] == 8 * 100_000_000
    wait_until(lambda: ann.videos.retrieve(video.id).status == "completed")
    assert ann.videos.download_content(video.id).read().startswith(b"\0\0\0\x18ftyp")
    raw = ann.videos.with_raw_response.remix(video.id, prompt="it closes")
    assert gateway.event(raw.headers["x-tollway-request-id"])["cost_nano_usd"] == 8 * 100_000_000
    missing(bob.videos.retrieve, video.id)
    missing(bob.videos.remix, video.id, prompt="mine")
    assert {one.id for one in ann.videos.list()} == {video.id, raw.parse().id}
    assert ann.videos.delete(video.id).deleted


def test_fine_tuning(ann: OpenAI, bob: OpenAI) -> None:
    file = ann.files.create(file=("t.jsonl", b'{"messages": []}\n'), purpose="fine-tune")
    job = ann.fine_tuning.jobs.create(model="tutor", training_file=file.id)
    assert job.model == "gpt-4o"
    assert ann.fine_tuning.jobs.list_events(job.id).data
    missing(bob.fine_tuning.jobs.retrieve, job.id)
    missing(bob.fine_tuning.jobs.create, model="tutor", training_file=file.id)


def test_assistants_and_threads(ann: OpenAI, bob: OpenAI) -> None:
    beta = ann.beta
    assistant = beta.assistants.create(model="small", instructions="Be short.")
    assert assistant.model == "gpt-4o-mini"
    thread = beta.threads.create()
    beta.threads.messages.create(thread.id, role="user", content="Hello")
    run = beta.threads.runs.create(thread.id, assistant_id=assistant.id)
    assert beta.threads.runs.retrieve(run.id, thread_id=thread.id).id == run.id
    assert len(beta.threads.messages.list(thread.id).data) >= 1
    missing(bob.beta.threads.messages.list, thread.id)
    other = bob.beta.threads.create()
    missing(bob.beta.threads.runs.create, other.id, assistant_id=assistant.id)


def test_native_batch_is_paid_once_it_is_over(gateway: Served, ann: OpenAI, bob: OpenAI) -> None:
    file = ann.files.create(file=("in.jsonl", lines("small")), purpose="batch")
    sent = json.loads(ann.files.content(file.id).read().splitlines()[0])
    assert sent["body"]["model"] == "gpt-4o-mini", "the provider's own name of the model"
    batch = ann.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    missing(
        bob.batches.create, input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    missing(bob.batches.retrieve, batch.id)
    missing(bob.batches.cancel, batch.id)
    done = ended(ann, batch.id)
    assert (done.status, done.request_counts.completed) == ("completed", 3)
    assert len(ann.files.content(done.output_file_id).read().splitlines()) == 3
    missing(bob.files.content, done.output_file_id)
    ann.batches.retrieve(batch.id)
    assert batch.id in [one.id for one in ann.batches.list()]

    def paid() -> list[Any]:
        events = gateway.events("key=ann")
        return [one for one in events if one["endpoint"] == "batches" and one["usage"]["output"]]

    wait_until(paid, what="the batch's event")
    usage = done.usage
    assert len(paid()) == 1
    assert paid()[0]["usage"]["output"] == usage.output_tokens
    assert paid()[0]["cost_nano_usd"] == usage.input_tokens * 150 + usage.output_tokens * 600
    assert gateway.api("/keys/ann")["spent_nano_usd"] >= paid()[0]["cost_nano_usd"]


def test_a_batch_of_the_gateway(gateway: Served, ann: OpenAI, bob: OpenAI) -> None:
    content = lines("plain", 20) + lines("broken", 1).replace(b"line-", b"b")
    file = ann.files.create(file=("in.jsonl", content), purpose="batch")
    assert ann.files.retrieve(file.id).purpose == "batch"
    batch = ann.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    missing(bob.batches.retrieve, batch.id)
    done = ended(ann, batch.id)
    counts = done.request_counts
    assert (done.status, counts.total, counts.completed, counts.failed) == ("completed", 21, 20, 1)
    results = [json.loads(one) for one in ann.files.content(done.output_file_id).read().splitlines()]
    assert {one["custom_id"] for one in results} == {f"line-{number}" for number in range(20)}
    assert results[0]["response"]["body"]["choices"]
    errors = [json.loads(one) for one in ann.files.content(done.error_file_id).read().splitlines()]
    assert [(one["custom_id"], one["response"]["status_code"]) for one in errors] == [("b0", 400)]
    for one in results:
        event = gateway.event(one["response"]["request_id"])
        assert (event["key"], event["model"], event["outcome"]) == ("ann", "plain", "ok")
    missing(bob.files.content, done.output_file_id)


def test_a_batch_keeps_within_its_budget(gateway: Served) -> None:
    with sdk(
        gateway, gateway.key("thrifty", budget={"usd": 0.0002, "per": "total", "strict": True})
    ) as client:
        file = client.files.create(file=("in.jsonl", lines("plain", 30, max_tokens=100)), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        done = ended(client, batch.id)
        assert done.request_counts.failed > 0
        assert done.request_counts.completed > 0
        assert gateway.api("/keys/thrifty")["spent_nano_usd"] <= 200_000
        errors = [json.loads(one) for one in client.files.content(done.error_file_id).read().splitlines()]
        assert {one["response"]["status_code"] for one in errors} == {402}


def test_a_batch_is_cancelled(gateway: Served, ann: OpenAI) -> None:
    file = ann.files.create(file=("in.jsonl", lines("busy", 200)), purpose="batch")
    batch = ann.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    wait_until(lambda: ann.batches.retrieve(batch.id).status == "in_progress")
    assert ann.batches.cancel(batch.id).status == "cancelling"
    done = ended(ann, batch.id)
    assert done.status == "cancelled"
    assert done.request_counts.completed < 200


def test_a_batch_goes_on_after_a_restart(tmp_path: Path) -> None:
    models = {"busy": {"targets": [{"model": "plain/deepseek-chat+latency=150ms", "price": PRICE}]}}
    with serving(tmp_path, models) as gateway, sdk(gateway, gateway.key("late")) as client:
        file = client.files.create(file=("in.jsonl", lines("busy", 60)), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed >= 8)
        gateway.gateway.kill()
        before = gateway.upstream.bill.requests
        asyncio.run(gateway.gateway.start())
        done = ended(client, batch.id)
        assert (done.request_counts.total, done.request_counts.completed) == (60, 60)
        results = [json.loads(one) for one in client.files.content(done.output_file_id).read().splitlines()]
        assert sorted(one["custom_id"] for one in results) == sorted(f"line-{n}" for n in range(60))
        assert gateway.upstream.bill.requests - before < 60, "what was done is not done again"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"not json\n", "Line 1"),
        (lines("small", 1) + lines("nobody", 1).replace(b"line-0", b"x"), "nobody"),
        (lines("small", 1) * 2, "repeats"),
        (b"", "empty"),
        (lines("small", 1).replace(b"/v1/chat/completions", b"/v1/files"), "no batch serves"),
    ],
)
def test_a_batch_file_is_read_through(ann: OpenAI, content: bytes, says: str) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        ann.files.create(file=("in.jsonl", content), purpose="batch")
    assert refused.value.status_code in (400, 404)
    assert says in str(refused.value)


def test_a_batch_may_not_name_what_the_key_may_not(gateway: Served) -> None:
    with sdk(gateway, gateway.key("narrow", models=["small"])) as client:
        with pytest.raises(openai.PermissionDeniedError):
            client.files.create(file=("in.jsonl", lines("plain", 1)), purpose="batch")
        assert client.files.create(file=("in.jsonl", lines("small", 1)), purpose="batch").id


def test_nothing_of_a_provider_the_key_may_not_use(gateway: Served) -> None:
    with (
        sdk(gateway, gateway.key("elsewhere", models=["plain"])) as client,
        pytest.raises(openai.PermissionDeniedError),
    ):
        client.files.create(file=("a.txt", b"x"), purpose="assistants")


def test_objects_outlive_a_restart(gateway: Served, ann: OpenAI, bob: OpenAI) -> None:
    file = ann.files.create(file=("a.txt", b"kept"), purpose="assistants")
    assert asyncio.run(gateway.gateway.stop()) == 0
    asyncio.run(gateway.gateway.start())
    assert ann.files.content(file.id).read() == b"kept"
    missing(bob.files.content, file.id)


def test_without_a_database_the_id_says_it(tmp_path: Path) -> None:
    keys = [
        {"name": "ann", "key": "sk-tw-ann-of-the-objects"},
        {"name": "bob", "key": "sk-tw-bob-of-the-objects"},
    ]
    config = {"database": "none", "keys": keys, "sinks": [{"type": "file", "path": "events.ndjson"}]}
    with (
        served(tmp_path, config) as gateway,
        sdk(gateway, keys[0]["key"]) as ann,
        sdk(gateway, keys[1]["key"]) as bob,
        sdk(gateway, ADMIN) as admin,
    ):
        file = ann.files.create(file=("a.txt", b"kept"), purpose="assistants")
        assert ann.files.content(file.id).read() == b"kept"
        assert ann.files.retrieve(file.id).id == file.id
        missing(bob.files.content, file.id)
        assert admin.files.content(file.id).read() == b"kept"
        store = ann.vector_stores.create(file_ids=[file.id])
        assert ann.vector_stores.files.list(store.id).data[0].id == file.id
        missing(bob.vector_stores.create, file_ids=[file.id])
        tampered = file.id[:-2] + ("aa" if not file.id.endswith("aa") else "bb")
        missing(ann.files.content, tampered)
        raw = next(iter(gateway.upstream.shelf.all("file"))).shown["id"]
        missing(ann.files.content, raw)
        with pytest.raises(openai.BadRequestError):
            ann.files.list()


def test_the_providers_own_path_leads_to_the_same_objects(gateway: Served, ann: OpenAI, bob: OpenAI) -> None:
    file = ann.files.create(file=("a.txt", b"0123456789"), purpose="assistants")
    for path in (f"/mock/files/{file.id}", f"/mock/v1/files/{file.id}/content"):
        assert fetch(gateway.url + path, key=ann.api_key).status == 200
        assert fetch(gateway.url + path, key=bob.api_key).status == 404
    assert file.id not in fetch(gateway.url + "/mock/files", key=bob.api_key).body.decode()
    part = fetch(gateway.url + f"/v1/files/{file.id}/content", key=ann.api_key, range="bytes=0-3")
    assert part.status in (200, 206)


def test_an_object_of_another_kind_is_not_one(ann: OpenAI) -> None:
    file = ann.files.create(file=("a.txt", b"x"), purpose="assistants")
    missing(ann.batches.retrieve, file.id)
    missing(ann.vector_stores.retrieve, file.id)
    missing(ann.files.retrieve, "../../v1/models")
