"""``tollway mock`` as a process, through its command."""

import json
import signal
import subprocess
import sys
import urllib.request

COMMAND = [sys.executable, "-c", "from tollway.cli.mock import mock; mock()"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=15)


def test_a_machine_gets_one_line_and_a_clean_stop():
    arguments = ["--port", "0", "--json", "--tokens", "4", "--errors", "0", "--stop-after", "20s"]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True) as process:
        line = json.loads(process.stdout.readline())
        assert line["pid"] == process.pid
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
        with urllib.request.urlopen(line["url"] + "/chat/completions", body, timeout=5) as answer:
            assert json.load(answer)["usage"]["completion_tokens"] == 4
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == ""
        assert process.wait(5) == 0


def test_a_person_gets_a_table_and_a_curl():
    done = run("--port", "0", "--stop-after", "100ms", "--latency", "20ms", "--crlf", "--error-event")
    assert done.returncode == 0
    for words in (
        "base URL",
        "POST /v1/embeddings",
        "latency=20ms",
        "error_event=2",
        "crlf=on",
        "Stopped after 0",
    ):
        assert words in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("curl ")]
    assert line.endswith("\\")


def test_help_has_an_example_and_every_knob():
    done = run("--help")
    assert "Example: tollway mock" in done.stdout
    for option in ("--latency", "--fail-first", "--no-done", "--require-key", "--json"):
        assert option in done.stdout


def test_wrong_use_is_said_and_has_its_exit_code():
    for arguments, says in (
        (["--latency", "soon"], "duration"),
        (["--latency"], "requires an argument"),
        (["--port", "99999"], "65535"),
        (["--stop-after", "soon"], "duration"),
        (["--aws-keys", "id"], "ID:SECRET"),
        (["--malformed", "all"], "status_line"),
    ):
        done = run(*arguments)
        assert done.returncode == 2
        assert says in done.stderr
    failed = run("--host", "192.0.2.1", "--port", "0")
    assert failed.returncode == 1
    assert "cannot listen on 192.0.2.1" in failed.stderr
