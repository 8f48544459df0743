"""Counts arrive in time, whole or as estimates that say so, whatever text, load and callers do."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import shutil
import signal
import string
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from msgspec import Raw

from tollway.tokens.contents import Contents
from tollway.tokens.counter import Count, Counter
from tollway.tokens.family import estimate, family
from tollway.tokens.vocabulary import FOLDER, load
from tollway.tokens.worker import Job, Worker
from tollway.wire.conversation import Conversation, Image, Message, Opaque, Source, Text

from .conversations import JARGON, WEATHER

LONG = (Path(__file__).resolve().parents[2] / "ARCHITECTURE.md").read_text(encoding="utf-8")
PATIENT = 30.0
SOME = 2_048


@pytest.fixture
def counter() -> Iterator[Counter]:
    made = Counter()
    yield made
    made.close()


@pytest.fixture(scope="module")
def loaded() -> Iterator[Counter]:
    """One whose vocabularies are there, shared since loading takes its time."""
    made = Counter()
    assert asyncio.run(made.load("gpt-4o", "gpt-4"))
    yield made
    made.close()


@pytest.fixture
async def lag() -> AsyncIterator[list[float]]:
    """How long the loop stood still, longest first, once the test's own work is over."""
    seen: list[float] = []

    async def watch() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            seen.append(time.perf_counter() - before - 0.001)

    task = asyncio.create_task(watch())
    yield seen
    task.cancel()


async def test_counts_of_the_cookbook_come_out_exactly(loaded: Counter) -> None:
    assert await loaded.count_conversation(JARGON, "gpt-4o") == Count(124, exact=True)
    assert await loaded.count_conversation(JARGON, "azure/gpt-4") == Count(129, exact=True)
    assert await loaded.count_conversation(WEATHER, "gpt-4o") == Count(101, exact=False, estimated_by="rules")
    assert await loaded.count_text("tiktoken is great!", "gpt-4") == Count(6, exact=True)
    assert await loaded.count_text("", "gpt-4o") == Count(0, exact=True)


async def test_what_a_count_rests_on_is_said(loaded: Counter) -> None:
    picture = Conversation(
        model="m",
        messages=(Message(role="user", blocks=(Image(source=Source(kind="url", value="https://x/y")),)),),
    )
    assert await loaded.count_conversation(picture, "gpt-4o") == Count(
        3 + 4 + 765, exact=False, estimated_by="rules"
    )
    exact = (await loaded.count_text(LONG, "gpt-4o")).tokens
    claude = await loaded.count_text(LONG, "claude-sonnet-4-5")
    assert (claude.exact, claude.estimated_by) == (False, "factor")
    assert claude.tokens == pytest.approx(exact * 1.2, abs=1)
    assert (await loaded.count_conversation(JARGON, "gpt-5")).estimated_by == "rules"
    assert (await loaded.count_text("hello", "gpt-5")).exact


async def test_small_and_large_texts_count_the_same_way(loaded: Counter) -> None:
    encoding = load("o200k_base")
    for text in (LONG[:100], LONG[:SOME], LONG[: 4 * SOME], LONG):
        assert (await loaded.count_text(text, "gpt-4o")).tokens == len(encoding.encode_ordinary(text))


async def test_the_first_count_loads_and_those_after_it_are_exact(counter: Counter) -> None:
    first = await counter.count_text("hello there", "gpt-4o", deadline=0.001)
    assert first == Count(estimate(11, family("gpt-4o")), exact=False, estimated_by="bytes")
    assert counter.tally.late == 1
    assert await counter.count_text("hello there", "gpt-4o", deadline=PATIENT) == Count(2, exact=True)
    assert await counter.count_text("hello there", "gpt-4o") == Count(2, exact=True)
    assert counter.tally.counted == 2


HOSTILE = {
    "a million spaces": " " * 1_000_000,
    "two million letters": "a" * 2_000_000,
    "two million line ends": "\n" * 2_000_000,
    "combining marks": "a" + "\u0301" * 500_000,
    "lone surrogates": "\ud800" * 300_000,
    "special tokens": "<|endoftext|><|im_start|>" * 40_000,
    "random letters": "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=1_000_000)),
    "one character of four bytes": "😀" * 300_000,
    "nul": "\0" * 500_000,
    "apostrophes": "'" * 700_000,
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_texts_are_answered_in_time_without_stopping_the_loop(
    loaded: Counter, lag: list[float], name: str
) -> None:
    started = time.perf_counter()
    answer = await loaded.count_text(HOSTILE[name], "gpt-4o")
    assert time.perf_counter() - started < 1.0
    assert answer.tokens > 0
    if answer.exact:
        assert name == "special tokens"
    # The thread is there for the next, and soon: what nobody waits for is dropped at the next piece.
    started = time.perf_counter()
    assert await loaded.count_text(LONG[: SOME * 3], "gpt-4o", deadline=PATIENT)
    assert time.perf_counter() - started < 0.5
    assert max(lag) < 0.25


async def test_special_tokens_are_plain_text(loaded: Counter) -> None:
    assert (await loaded.count_text("<|endoftext|>", "gpt-4o")).tokens == 7
    assert (await loaded.count_text("<|endoftext|>" * 1_000, "gpt-4o")).tokens > 5_000


async def test_a_body_of_five_megabytes(loaded: Counter, lag: list[float]) -> None:
    text = (LONG * (5_000_000 // len(LONG) + 1))[:5_000_000]
    exact = await loaded.count_text(text, "gpt-4o", deadline=PATIENT)
    assert exact.exact
    hurried = await loaded.count_text(text, "gpt-4o", deadline=0.02)
    assert hurried.estimated_by == "bytes"
    assert hurried.tokens == pytest.approx(exact.tokens, rel=0.35)
    many = Conversation(
        model="m",
        messages=tuple(Message(role="user", blocks=(Text(text=LONG[:5_000]),)) for _ in range(1_000)),
    )
    whole = await loaded.count_conversation(many, "gpt-4o", deadline=PATIENT)
    one = (await loaded.count_text(LONG[:5_000], "gpt-4o")).tokens
    assert whole == Count(3 + 1_000 * (4 + one), exact=True)
    assert max(lag) < 0.25


async def test_a_cancelled_caller_leaves_nothing_behind(loaded: Counter) -> None:
    before = loaded.tally.cancelled
    text = "word " * 16_000_000
    task = asyncio.create_task(loaded.count_text(text, "gpt-4o", deadline=PATIENT))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert loaded.tally.cancelled == before + 1
    # Eighty megabytes would take over a second; the thread let go of them after the piece it was at.
    started = time.perf_counter()
    assert (await loaded.count_text(LONG, "gpt-4o", deadline=PATIENT)).exact
    assert time.perf_counter() - started < 0.6


async def test_a_full_queue_answers_at_once_from_size() -> None:
    counter = Counter(limit=2)
    try:
        assert await counter.load("gpt-4o")
        blocker = asyncio.create_task(counter.count_text("word " * 1_000_000, "gpt-4o", deadline=PATIENT))
        await asyncio.sleep(0.03)  # the thread has taken it, so the queue is empty again
        waiting = [
            asyncio.create_task(counter.count_text(LONG, "gpt-4o", deadline=PATIENT)) for _ in range(2)
        ]
        await asyncio.sleep(0)
        started = time.perf_counter()
        refused = await counter.count_text(LONG, "gpt-4o", deadline=PATIENT)
        assert time.perf_counter() - started < 0.02
        assert refused.estimated_by == "bytes"
        assert counter.tally.refused == 1
        assert (await blocker).tokens > 1_000_000
        assert all(count.exact for count in await asyncio.gather(*waiting))
    finally:
        counter.close()


async def test_two_hundred_at_once_are_all_answered(loaded: Counter) -> None:
    started = time.perf_counter()
    answers = await asyncio.gather(*(loaded.count_text(LONG, "gpt-4o") for _ in range(200)))
    assert time.perf_counter() - started < 2.0
    exact = {answer.tokens for answer in answers if answer.exact}
    assert len(exact) == 1
    assert all(answer.exact or answer.estimated_by == "bytes" for answer in answers)


async def test_a_damaged_vocabulary_means_estimates_and_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(FOLDER / "cl100k_base.tiktoken.gz", tmp_path)
    (tmp_path / "o200k_base.tiktoken.gz").write_bytes(b"not gzip")
    counter = Counter(folder=tmp_path)
    try:
        with caplog.at_level(logging.ERROR):
            for _ in range(3):
                answer = await counter.count_text(LONG, "gpt-4o", deadline=PATIENT)
                assert answer.estimated_by == "bytes"
        assert [record.message for record in caplog.records].count(caplog.records[0].message) == 1
        assert "o200k_base.tiktoken.gz cannot be read" in caplog.text
        assert counter.tally.failed == 3
        assert not await counter.load("gpt-4o")
        assert await counter.load("gpt-4")
    finally:
        counter.close()


async def test_one_broken_job_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker(limit=4)
    try:
        broken = Job("o200k_base", Contents(texts=[7]))  # type: ignore[list-item]
        assert worker.submit(broken)
        assert await broken.outcome is None
        assert "counting failed" in caplog.text
        unknown, sound = Job("gpt2", Contents(texts=["hello"])), Job("o200k_base", Contents(texts=["hello"]))
        assert worker.submit(unknown)
        assert worker.submit(sound)
        assert await unknown.outcome is None
        assert await sound.outcome == (1, True)
    finally:
        worker.close()


async def test_json_that_is_no_text_is_counted(loaded: Counter) -> None:
    opaque = Message(role="user", blocks=(Opaque(format="f", kind="k", raw=Raw(b"\xff\xfe" * SOME)),))
    counted = await loaded.count_conversation(
        Conversation(model="m", messages=(opaque,)), "gpt-4o", deadline=PATIENT
    )
    assert counted.estimated_by == "rules"
    assert counted.tokens > 500  # as replacement characters


async def test_after_closing_counts_are_estimates() -> None:
    counter = Counter()
    assert await counter.load("gpt-4o")
    pending = asyncio.create_task(counter.count_text("word " * 4_000_000, "gpt-4o", deadline=PATIENT))
    await asyncio.sleep(0.02)
    started = time.perf_counter()
    counter.close()
    assert time.perf_counter() - started < 0.6
    assert (await pending).estimated_by == "bytes"
    assert (await counter.count_text(LONG, "gpt-4o")).estimated_by == "bytes"
    assert counter.tally.refused == 1
    counter.close()
    assert not await counter.load("gpt-4o")


async def test_loading_a_vocabulary_does_not_stop_the_loop(counter: Counter, lag: list[float]) -> None:
    """In this process it would, for 150 ms: it holds Python's lock."""
    assert await counter.load("gpt-4o", "gpt-4")
    assert max(lag) < 0.12


async def test_a_process_that_died_is_started_again(
    counter: Counter, caplog: pytest.LogCaptureFixture
) -> None:
    assert await counter.load("gpt-4o")
    first = counter._worker.tokenizer.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await asyncio.sleep(0.05)
    assert (await counter.count_text(LONG, "gpt-4o", deadline=PATIENT)).exact
    second = counter._worker.tokenizer.pid
    assert second not in (None, first)
    blocked = asyncio.create_task(counter.count_text("word " * 2_000_000, "gpt-4o", deadline=PATIENT))
    await asyncio.sleep(0.05)
    os.kill(second or 0, signal.SIGKILL)
    assert (await blocked).estimated_by == "bytes"
    assert "the process that counts has ended" in caplog.text
    assert (await counter.count_text(LONG, "gpt-4o", deadline=PATIENT)).exact
    third = counter._worker.tokenizer.pid
    counter.close()
    with pytest.raises(ProcessLookupError):
        os.kill(third or 0, 0)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tollway-tokens"]


async def test_there_is_no_thread_before_the_first_count_nor_after_the_counter_is_gone(
    tmp_path: Path,
) -> None:
    before = len(threads())
    counter = Counter(folder=tmp_path)
    assert counter.estimate_now(3_500, "gpt-4o") == 1_000
    assert await counter.count_text("", "gpt-4o") == Count(0, exact=True)
    assert len(threads()) == before
    await asyncio.gather(*(counter.count_text("hello", "gpt-4o", deadline=PATIENT) for _ in range(20)))
    assert len(threads()) == before + 1
    gone = weakref.ref(counter)
    del counter
    gc.collect()
    assert gone() is None
    assert len(threads()) == before


def test_a_loop_that_closes_under_a_count_is_survived(loaded: Counter) -> None:
    async def leave() -> None:
        asyncio.get_running_loop().create_task(
            loaded.count_text("word " * 500_000, "gpt-4o", deadline=PATIENT)
        )
        await asyncio.sleep(0.01)

    asyncio.run(leave())
    assert asyncio.run(loaded.count_text(LONG, "gpt-4o", deadline=PATIENT)).exact


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize("wait", [0.0, 0.05, 0.7])
def test_a_process_may_end_while_the_thread_loads_or_counts(wait: float) -> None:
    code = f"""
import asyncio
from tollway.tokens.contents import Contents
from tollway.tokens.counter import Counter
counter = Counter()
async def main():
    await counter.count_text("word " * 4_000_000, "gpt-4o", deadline={wait})
    asyncio.get_running_loop().create_task(counter.count_text("a" * 4_000_000, "gpt-4o", deadline=30))
    await asyncio.sleep(0.02)
asyncio.run(main())
"""
    ended = run(code)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_nothing_is_downloaded_and_little_memory_is_taken(tmp_path: Path) -> None:
    code = f"""
import asyncio, os, socket, sys
os.environ["TIKTOKEN_CACHE_DIR"] = {str(tmp_path)!r}
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        print("NETWORK", event, arguments)
sys.addaudithook(refuse)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20
from tollway.tokens.contents import Contents
from tollway.tokens.counter import Counter
counter = Counter()
before = resident()
async def main():
    assert await counter.load("gpt-4o")
    assert (await counter.count_text("hello " * 10_000, "gpt-4o", deadline=9)).exact
asyncio.run(main())
print(resident() - before, "requests" in sys.modules)
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("reads its own size from /proc")
    ended = run(code)
    assert ended.returncode == 0, ended.stderr
    grown, requests = ended.stdout.split()
    assert int(grown) < 110
    assert requests == "False"
    assert not list(tmp_path.iterdir())
