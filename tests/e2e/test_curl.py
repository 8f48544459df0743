"""The curl binary against a real gateway: README's commands, streams as they arrive, old and awkward HTTP."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import Served, bare, served

README = Path(__file__).resolve().parents[2] / "README.md"
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
HELLO = [{"role": "user", "content": "Say hello."}]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models = {"fast": "mock/gpt-4o-mini", "slow": "mock/gpt-4o-mini+events=10+pace=60ms"}
    server = {"max_body": 4 << 20}
    with served(tmp_path_factory.mktemp("gateway"), {"models": models, "server": server}) as running:
        yield running


@pytest.fixture(scope="module")
def key(gateway: Served) -> str:
    return gateway.key("curl")


class Said:
    """What curl was answered. ``heads`` are all of them, interim answers included; the last one is the answer's."""

    def __init__(self, output: bytes) -> None:
        self.heads: list[str] = []
        while re.match(rb"HTTP/[\d.]+ \d{3}", output):
            head, _, output = output.partition(b"\r\n\r\n")
            self.heads.append(head.decode())
        self.body = output
        self.status = int(self.heads[-1].split(" ")[1])

    def json(self) -> Any:
        return json.loads(self.body)


def curl(
    gateway: Served, key: str, *arguments: str, body: object = None, path: str = "/chat/completions"
) -> Said:
    command = ["curl", "-sS", "-i", "--noproxy", "*", "--max-time", "20", *arguments, gateway.base_url + path]
    command += ["-H", f"Authorization: Bearer {key}"]
    data = None
    if body is not None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        command += ["-H", "Content-Type: application/json", "--data-binary", "@-"]
    done = subprocess.run(command, input=data, capture_output=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return Said(done.stdout)


def test_the_commands_of_the_readme(gateway: Served, key: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```bash\n(curl .*?)```", README.read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        variables = {"TOLLWAY_URL": gateway.url, "TOLLWAY_KEY": key}
        done = subprocess.run(
            ["bash", "-euc", block],
            env=bare(tmp_path, **variables),
            capture_output=True,
            check=False,
            timeout=30,
        )
        assert json.loads(done.stdout)["choices"][0]["message"]["content"], done


def test_a_stream_arrives_as_it_is_said(gateway: Served, key: str) -> None:
    command = ["curl", "-sSN", "--noproxy", "*", "--max-time", "20", gateway.base_url + "/chat/completions"]
    command += ["-H", f"Authorization: Bearer {key}", "-H", "Content-Type: application/json"]
    command += ["-d", json.dumps({"model": "slow", "messages": HELLO, "stream": True})]
    times = []
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip():
                times.append(time.monotonic())
                lines.append(line.strip())
    assert process.returncode == 0
    assert lines[-1] == b"data: [DONE]"
    assert all(line.startswith(b"data: ") for line in lines)
    assert times[-1] - times[0] > 0.4, "ten events 60 ms apart came at once"
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 0.4


def test_http_1_0(gateway: Served, key: str) -> None:
    whole = curl(gateway, key, "--http1.0", body={"model": "fast", "messages": HELLO})
    assert whole.status == 200
    assert whole.json()["choices"]
    streamed = curl(gateway, key, "--http1.0", body={"model": "fast", "messages": HELLO, "stream": True})
    assert streamed.status == 200
    assert "chunked" not in streamed.heads[-1].lower(), "HTTP/1.0 knows no chunks"
    assert streamed.body.rstrip().endswith(b"data: [DONE]")
    assert streamed.body.startswith(b"data: {")


def test_a_large_body_is_awaited(gateway: Served, key: str) -> None:
    """curl asks first from a megabyte on, and waits a second where it gets no answer."""
    body = {"model": "fast", "messages": [{"role": "user", "content": "hello " * 300_000}]}
    began = time.monotonic()
    said = curl(
        gateway, key, "--http1.1", "-H", "Expect: 100-continue", "--expect100-timeout", "10", body=body
    )
    assert time.monotonic() - began < 5, "curl waited in vain"
    assert said.heads[0].startswith("HTTP/1.1 100")
    assert said.status == 200
    assert said.json()["usage"]["prompt_tokens"] > 400_000


def test_a_body_beyond_the_limit(gateway: Served, key: str) -> None:
    said = curl(gateway, key, "--http1.1", body=b'{"x": "' + b"a" * (5 << 20) + b'"}')
    assert said.status == 413
    assert said.json()["error"]["code"] == "request_too_large"


def test_a_chunked_body(gateway: Served, key: str) -> None:
    body = {"model": "fast", "messages": HELLO}
    said = curl(gateway, key, "-H", "Transfer-Encoding: chunked", body=body)
    assert said.status == 200
    assert said.json()["choices"]


def test_two_requests_on_one_connection(gateway: Served, key: str) -> None:
    url = gateway.base_url + "/models"
    command = ["curl", "-sSv", "--noproxy", "*", "-H", f"Authorization: Bearer {key}", url, url, url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.count('"object":"list"') == 3
    assert done.stderr.count("Re-using existing connection") == 2, done.stderr


def test_head_and_options(gateway: Served, key: str) -> None:
    assert curl(gateway, key, "--head", path="/models").status == 200
    refused = curl(gateway, key, "-X", "DELETE", path="/chat/completions")
    assert refused.status == 405
    assert "allow: POST" in refused.heads[-1].lower().replace("post", "POST")
    assert refused.json()["error"]["code"] == "method_not_allowed"
    assert curl(gateway, key, path="/nothing").status == 404


def test_curl_without_a_content_type(gateway: Served, key: str) -> None:
    """``curl -d`` says it sends a form. Who forgets the header is told so."""
    command = ["curl", "-sS", "--noproxy", "*", "-H", f"Authorization: Bearer {key}"]
    command += [
        "-d",
        json.dumps({"model": "fast", "messages": HELLO}),
        gateway.base_url + "/chat/completions",
    ]
    done = subprocess.run(command, capture_output=True, check=True, timeout=30)
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "unsupported_media_type"
    assert "application/json" in error["message"]
