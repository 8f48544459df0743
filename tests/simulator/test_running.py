"""The simulator as a process and as a thread."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from tollway.simulator.knobs import Knobs
from tollway.simulator.running import start_in_thread


def fetch(url: str, body: object = None) -> object:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=5) as answer:
        return json.load(answer)


CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def test_in_a_thread():
    with start_in_thread(Knobs(tokens=3)) as running:
        assert running.url == f"http://127.0.0.1:{running.port}/v1"
        answer = fetch(f"{running.url}/chat/completions", CHAT)
        assert answer["usage"]["completion_tokens"] == 3
        assert running.simulator.bill.requests == 1
    running.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", running.port), timeout=1)


def test_a_thread_that_cannot_listen_says_so():
    with start_in_thread() as running, pytest.raises(OSError, match=str(running.port)):
        start_in_thread(port=running.port)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, None])
def test_as_a_process(end):
    command = [sys.executable, "-m", "tollway.simulator", "--port", "0", "--tokens", "5", "--crlf"]
    command += ["--stop-after", "10" if end else "300ms"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:")
        url = line.split()[-1]
        if end:
            assert fetch(f"{url}/chat/completions", CHAT)["usage"]["completion_tokens"] == 5
            process.send_signal(end)
        assert process.wait(5) == 0
        assert process.stderr.read() == ""


def test_a_process_that_is_asked_for_the_impossible():
    with start_in_thread() as running:
        for arguments, code, says in (
            (["--port", str(running.port)], 1, "cannot listen"),
            (["--latency", "soon"], 2, "duration"),
            (["--stop-after", "soon"], 2, "duration"),
        ):
            command = [sys.executable, "-m", "tollway.simulator", *arguments]
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
            assert done.returncode == code
            assert says in done.stderr


def test_a_cheap_start_imports_no_command_line_library():
    script = (
        "import sys, tollway.simulator.__main__\n"
        "print([name for name in ('click', 'rich', 'pydantic', 'sqlalchemy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=10)
    assert done.stdout.strip() == "[]"


async def test_beside_other_work_on_the_same_loop(simulator, chat):
    answer = await asyncio.to_thread(fetch, f"{simulator.url}/chat/completions", chat())
    assert answer["object"] == "chat.completion"
