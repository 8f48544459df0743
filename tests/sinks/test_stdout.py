from __future__ import annotations

import asyncio
import os
import subprocess
import sys

from tollway.sinks.stdout import StdoutSink


def test_events_go_to_the_standard_output() -> None:
    code = (
        "import asyncio\n"
        "from tollway.sinks.stdout import StdoutSink\n"
        "asyncio.run(StdoutSink().write([b'{\"a\":\\n1}', b'{}']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b'{"a": 1}\n{}\n'


async def test_a_reader_that_stalls_does_not_stop_the_loop() -> None:
    read, write = os.pipe()
    batch = [b"x" * 1000] * 300
    writing = asyncio.create_task(StdoutSink(write).write(batch))
    for _ in range(20):
        await asyncio.sleep(0.005)
    assert not writing.done()
    got = bytearray()
    while len(got) < 300 * 1001:
        got += await asyncio.to_thread(os.read, read, 65536)
    await writing
    assert bytes(got) == b"\n".join(batch) + b"\n"
    os.close(read)
    os.close(write)
