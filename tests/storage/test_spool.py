from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import msgspec
import pytest

from tollway.config.settings import SpoolSettings
from tollway.errors import ConfigError, StoreUnavailable
from tollway.storage.segments import SLOT
from tollway.storage.spool import BEGINNING, RECORD_LIMIT, Position, Spool


def put(spool: Spool, *records: bytes) -> None:
    for record in records:
        spool.enter()
        spool.append(record)
        spool.leave()


def everything(spool: Spool, position: Position = BEGINNING, **limits: int) -> tuple[list[bytes], Position]:
    found: list[bytes] = []
    while True:
        records, after = spool.read(position, **limits)
        found += records
        if after == position:
            return found, position
        position = after


def wait_until(condition, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def until_refused(spool: Spool, size: int) -> tuple[list[bytes], str]:
    """Append until admission is refused: what was appended, and the refusal."""
    sent: list[bytes] = []
    while True:
        try:
            spool.enter()
        except StoreUnavailable as error:
            return sent, error.message
        sent.append(b"%05d" % len(sent) * size)
        spool.append(sent[-1])
        spool.leave()


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def disk_bytes(spool: Spool) -> int:
    total = 0
    for path in spool.directory.glob("*.spool"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def test_records_come_back_in_order_across_segments(make_spool) -> None:
    spool = make_spool()
    sent = [f"record {n} ".encode() * random.Random(n).randint(1, 300) for n in range(300)]
    put(spool, *sent)
    assert spool.end.segment > 2
    assert everything(spool)[0] == sent
    assert everything(spool, max_records=7)[0] == sent
    assert everything(spool, max_bytes=1)[0] == sent
    assert everything(spool)[1] == spool.end


def test_a_reader_follows_a_writer(make_spool) -> None:
    spool = make_spool()
    position, seen, sent = BEGINNING, [], []
    for n in range(400):
        sent.append(b"%d " % n * 100)
        put(spool, sent[-1])
        if n % 7 == 0:
            records, position = spool.read(position, max_records=5)
            seen += records
            spool.release(position)
    seen += everything(spool, position)[0]
    assert seen == sent


def test_another_process_takes_over_where_the_first_stopped(make_spool) -> None:
    spool = make_spool()
    put(spool, b"one", b"two")
    _, position = spool.read(BEGINNING, max_records=1)
    identity = spool.id
    spool.close()
    again = make_spool()
    assert again.id == identity
    put(again, b"three")
    assert everything(again, position)[0] == [b"two", b"three"]
    assert (again.torn, again.damaged) == (0, 0)


def test_a_directory_has_one_owner(make_spool) -> None:
    spool = make_spool()
    code = f"""
        from pathlib import Path
        from tollway.config.settings import SpoolSettings
        from tollway.errors import StoreUnavailable
        from tollway.storage.spool import Spool
        try:
            Spool(Path({str(spool.directory)!r}), SpoolSettings())
        except StoreUnavailable as error:
            print(error.message)
    """
    said = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    ).stdout
    assert str(os.getpid()) in said
    assert str(spool.directory) in said


def test_importing_the_spool_does_not_import_the_database() -> None:
    code = "import sys, tollway.storage.spool; print('sqlalchemy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_records_have_a_size(make_spool) -> None:
    spool = make_spool()
    assert spool.fits(b"x" * RECORD_LIMIT)
    assert not spool.fits(b"x" * (RECORD_LIMIT + 1))
    assert not spool.fits(b"")
    for payload in (b"", b"x" * (RECORD_LIMIT + 1)):
        with pytest.raises(ValueError, match="a record takes 1 to 8192 bytes"):
            spool.append(payload)


@pytest.mark.parametrize(
    "settings", [{"segment_bytes": 1000}, {"segment_bytes": 1 << 20, "max_bytes": 1 << 20}]
)
def test_settings_without_room_are_refused(tmp_path: Path, settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="spool"):
        Spool(tmp_path / "spool", SpoolSettings(**settings))


def test_at_its_bound_it_refuses_before_the_work_and_recovers(make_spool) -> None:
    spool = make_spool(segments=3)
    sent, refusal = until_refused(spool, 1000)
    assert re.search(r"spool\.max_bytes.*not sent", refusal)
    assert len(sent) > 30
    assert disk_bytes(spool) <= 3 * 80 * 1024
    assert "spool.max_bytes" in (spool.degraded or "")
    records, position = everything(spool)
    assert records == sent
    spool.release(position)
    put(spool, b"again")
    assert everything(spool, position)[0] == [b"again"]
    wait_until(lambda: spool.degraded is None)


@pytest.mark.parametrize("seed", range(8))
def test_what_was_admitted_always_fits(make_spool, seed: int) -> None:
    """Many at a time, of any size, in any order, up to the bound, with a reader that comes and goes."""
    choose = random.Random(seed)
    spool = make_spool(segments=choose.choice((2, 3, 5)))
    held = 0
    position, sent, seen = BEGINNING, [], []
    for n in range(1500):
        if choose.random() < 0.55:
            try:
                spool.enter()
                held += 1
            except StoreUnavailable:
                pass
        elif held:
            if choose.random() < 0.9:
                size = choose.choice((10, 700, RECORD_LIMIT - 5))
                sent.append(b"%05d" % n + bytes(choose.choices(b"abc", k=size)))
                spool.append(sent[-1])
            spool.leave()
            held -= 1
        if choose.random() < 0.02:
            records, position = everything(spool, position)
            seen += records
            spool.release(position)
        assert not spool._kept
    assert spool.write_errors == 0
    assert disk_bytes(spool) <= spool._max_bytes
    assert seen + everything(spool, position)[0] == sent


def test_ten_thousand_requests_at_once_are_admitted(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", SpoolSettings())
    try:
        for _ in range(10_000):
            spool.enter()
        for n in range(10_000):
            spool.append(b"%d" % n)
            spool.leave()
        assert len(everything(spool)[0]) == 10_000
    finally:
        spool.close()


def test_a_full_disk_refuses_admission_and_keeps_what_was_admitted(make_spool, small_disk: Path) -> None:
    spool = make_spool(small_disk / "spool", segments=1000)
    filler = small_disk / "filler"
    fill(filler)
    sent, refusal = until_refused(spool, 500)
    assert re.search(r"no room.*Free disk space.*not sent", refusal)
    assert len(sent) > 20
    assert spool.write_errors == 0
    assert everything(spool)[0] == sent
    assert "no room" in (spool.degraded or "")
    filler.unlink()
    time.sleep(0.15)
    put(spool, b"after")
    assert everything(spool)[0] == [*sent, b"after"]
    wait_until(lambda: spool.degraded is None)


def test_a_disk_full_at_the_start_is_no_crash(make_spool, small_disk: Path) -> None:
    (small_disk / "spool").mkdir()
    (small_disk / "filler").write_bytes(b"x" * 1000 * 1024)
    spool = make_spool(small_disk / "spool")
    with pytest.raises(StoreUnavailable, match="no room"):
        spool.enter()
    (small_disk / "filler").unlink()
    wait_until(lambda: spool.degraded is None)
    put(spool, b"fine")
    assert everything(spool)[0] == [b"fine"]


def test_a_failing_write_is_kept_and_made_good(tmp_path: Path) -> None:
    """A real write error: the process may not write beyond 20 kB of a file until its limit is raised."""
    code = f"""
        import resource
        from pathlib import Path
        from tollway.config.settings import SpoolSettings
        from tollway.errors import StoreUnavailable
        from tollway.storage.spool import BEGINNING, KEPT_LIMIT, Spool
        settings = SpoolSettings(segment_bytes=4 << 20, max_bytes=40 << 20)
        spool = Spool(Path({str(tmp_path / "spool")!r}), settings)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        sent = []
        refusal = ""
        for n in range(KEPT_LIMIT + 100):
            try:
                spool.enter()
            except StoreUnavailable as error:
                refusal = error.message
                break
            sent.append(b"%06d " % n * 100)
            spool.append(sent[-1])
            spool.leave()
        print(len(sent) > KEPT_LIMIT, "cannot be written" in refusal, "wait in memory" in spool.degraded)
        spool.retry()
        print(len(spool._kept) == KEPT_LIMIT, spool.write_errors > KEPT_LIMIT)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        spool.retry()
        spool.enter()
        spool.append(b"last")
        spool.leave()
        found, position = [], BEGINNING
        while True:
            records, after = spool.read(position)
            found += records
            if after == position:
                break
            position = after
        print(found == [*sent, b"last"], spool.degraded, spool.torn, spool.damaged)
        spool.close()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.stdout.split("\n")[:3] == ["True True True", "True True", "True None 0 0"], done.stderr


def last_record(make_spool, tmp_path: Path) -> tuple[Path, int, int, list[bytes]]:
    """A closed spool, its segment, and where its last record begins and ends."""
    spool = make_spool(tmp_path / "whole")
    records = [b'{"id":"ue_%d","raw":"%s"}' % (n, b"x" * 20) for n in range(4)]
    put(spool, *records[:-1])
    start = spool.end.offset
    put(spool, records[-1])
    end = spool.end.offset
    spool.close()
    return spool.directory, start, end, records


def test_a_tail_cut_at_any_byte_loses_the_last_record_only(make_spool, tmp_path: Path) -> None:
    whole, start, end, records = last_record(make_spool, tmp_path)
    for cut in range(start, end + 1):
        copy = tmp_path / f"cut{cut}"
        shutil.copytree(whole, copy)
        os.truncate(copy / "00000001.spool", cut)
        spool = make_spool(copy)
        put(spool, b"next")
        expected = records if cut == end else records[:-1]
        assert everything(spool)[0] == [*expected, b"next"], cut
        assert spool.torn == (start < cut < end), cut
        assert spool.damaged == 0
        spool.close()


def test_a_tail_garbled_at_any_byte_is_never_believed(make_spool, tmp_path: Path) -> None:
    whole, start, end, records = last_record(make_spool, tmp_path)
    for at in range(start, end):
        # From this byte on the record was not written yet, or one byte of it is wrong.
        for case, garble in (("unwritten", bytes(end - at)), ("wrong", None)):
            copy = tmp_path / f"{case}{at}"
            shutil.copytree(whole, copy)
            with (copy / "00000001.spool").open("r+b") as file:
                file.seek(at)
                if garble is None:
                    byte = file.read(1)[0]
                    file.seek(at)
                    garble = bytes([byte ^ 0x5A])
                file.write(garble)
            spool = make_spool(copy)
            put(spool, b"next")
            assert everything(spool)[0] == [*records[:-1], b"next"], (case, at)
            spool.close()


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("where", ["length", "checksum", "payload", "hole"])
def test_damage_in_the_middle_costs_one_record(make_spool, where: str, live: bool) -> None:
    spool = make_spool()
    put(spool, b"first" * 50)
    at = spool.end.offset
    put(spool, b"second" * 50, *[b"third %d" % n for n in range(100)])
    if not live:
        spool.close()
    with (spool.directory / "00000001.spool").open("r+b") as file:
        file.seek(at + {"length": 0, "checksum": 5, "payload": 30, "hole": 0}[where])
        file.write(bytes(200) if where == "hole" else b"\xff\xff\xff")
    if not live:
        spool = make_spool()
    assert everything(spool)[0] == [b"first" * 50, *[b"third %d" % n for n in range(100)]]
    assert (spool.damaged, spool.torn, spool.quarantine.count) == (1, 0, 1)
    line = msgspec.json.decode((spool.directory / "quarantine.ndjson").read_bytes())
    assert line["why"].startswith("damaged, segment 1")


def test_used_segments_are_blank_when_they_come_back(make_spool) -> None:
    spool = make_spool(segments=4)
    position = BEGINNING
    for n in range(600):
        put(spool, b"%04d" % n * 500)
        if n % 10 == 9:
            _, position = everything(spool, position)
            spool.release(position)
    wait_until(lambda: len(list(spool.directory.glob("*.spool"))) <= 3)
    spool.close()
    again = make_spool(segments=4)
    assert len(everything(again, position)[0]) == 0
    assert (again.torn, again.damaged) == (0, 0)
    assert again.end.segment > position.segment


def test_a_backlog_is_freed_again(make_spool) -> None:
    spool = make_spool(segments=40)
    put(spool, *[b"x" * 8000 for _ in range(200)])
    assert disk_bytes(spool) > 19 * 80 * 1024
    assert spool.backlog(BEGINNING) > 200 * 8000
    _, position = everything(spool)
    spool.release(position)
    assert spool.backlog(position) == 0
    wait_until(lambda: disk_bytes(spool) <= 3 * 80 * 1024)


def test_every_holder_is_waited_for_but_soft_ones_only_so_long(make_spool) -> None:
    spool = make_spool(segments=12)
    spool.release(BEGINNING)
    spool.release(BEGINNING, "sinks", soft=True)
    put(spool, *[b"x" * 8000 for _ in range(60)])
    _, position = everything(spool)
    closed = position.segment - 1
    spool.release(position)
    assert spool.overrun == closed - 3
    missed = everything(spool)[0]
    assert len(missed) == 60 - (closed - 3) * 10
    spool.release(position, "sinks", soft=True)
    assert spool.overrun == closed - 3
    wait_until(lambda: disk_bytes(spool) <= 3 * 80 * 1024)


def test_a_reservation_takes_the_room_of_the_largest_record(make_spool) -> None:
    spool = make_spool(segments=2)
    admitted = 0
    with contextlib.suppress(StoreUnavailable):
        while admitted < 1000:
            spool.enter()
            admitted += 1
    assert admitted == 2 * (80 * 1024 // SLOT)
    for _ in range(admitted):
        spool.append(b"x" * RECORD_LIMIT)
        spool.leave()
    assert spool.write_errors == 0
    assert len(everything(spool)[0]) == admitted
