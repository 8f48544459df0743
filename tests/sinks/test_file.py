from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest

from tollway.sinks.file import FileSink


async def test_one_line_for_each_event(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "logs" / "events.ndjson")
    pretty = b'{"id":"a","raw_usage":{\r\n  "tokens": 1,\n  "note": "a\\nb"\n}}'
    await sink.write([pretty, b'{"id":"b"}'])
    await sink.write([])
    await sink.write([b'{"id":"c"}'])
    await sink.close()
    lines = (tmp_path / "logs" / "events.ndjson").read_bytes().splitlines()
    assert [msgspec.json.decode(line)["id"] for line in lines] == ["a", "b", "c"]
    assert msgspec.json.decode(lines[0]) == msgspec.json.decode(pretty)


@pytest.mark.parametrize("how", ["moved", "removed"])
async def test_a_rotated_file_is_opened_again(tmp_path: Path, how: str) -> None:
    path = tmp_path / "events.ndjson"
    sink = FileSink(path)
    await sink.write([b"1"])
    if how == "moved":
        path.rename(tmp_path / "events.1")
    else:
        path.unlink()
    await sink.write([b"2"])
    await sink.write([b"3"])
    await sink.close()
    assert path.read_bytes() == b"2\n3\n"


def test_half_a_batch_does_not_stay(tmp_path: Path) -> None:
    """A real short write: the file may not grow beyond 50 bytes until the limit is raised."""
    path = tmp_path / "events.ndjson"
    code = f"""
        import asyncio, resource
        from pathlib import Path
        from tollway.sinks.file import FileSink
        async def main():
            sink = FileSink(Path({str(path)!r}))
            await sink.write([b"first"])
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))
            try:
                await sink.write([b"x" * 30, b"y" * 30])
            except OSError as error:
                print(error.strerror)
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            await sink.write([b"x" * 30, b"y" * 30])
        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "File too large\n"
    assert path.read_bytes() == b"first\n" + b"x" * 30 + b"\n" + b"y" * 30 + b"\n"


async def test_a_path_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    sink = FileSink(tmp_path)
    with pytest.raises(OSError, match=os.strerror(21)):
        await sink.write([b"1"])
