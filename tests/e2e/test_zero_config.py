"""The first minutes: ``tollway serve`` in an empty directory, with and without a provider's key in the environment."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

from served import Command, bare, fetch, serving, wait_until

from running import free_port


def pasted(command: Command, directory: Path) -> str:
    """The banner's curl as a person pastes it, with the key it shows or the variable it names."""
    found = re.search(r"^  try it:\n((?:.*\\\n)*.*)\n", command.stdout, re.MULTILINE)
    assert found, command.stdout
    return found[1]


def run_pasted(text: str, directory: Path, **environ: str) -> Any:
    done = subprocess.run(
        ["bash", "-c", text], env=bare(directory, **environ), capture_output=True, timeout=20, check=True
    )
    return json.loads(done.stdout)


def test_nothing_configured(tmp_path: Path) -> None:
    with serving(tmp_path) as (command, url):
        assert "simulated provider named 'mock'" in command.stdout
        key = command.says(r"admin key +(sk-tw-\S+)")[1]
        answer = run_pasted(pasted(command, tmp_path), tmp_path)
        assert answer["choices"][0]["message"]["content"]
        assert answer["usage"]["total_tokens"] > 0
        events = fetch(f"{url}/api/events", key=key).json()["data"]
        assert [event["provider"] for event in events] == ["mock"]
        assert fetch(f"{url}/api/events", key="sk-tw-other").status == 401
        # Keys, as the next thing a person does.
        made = subprocess.run(
            ["tollway", "keys", "create", "--name", "me", "--budget", "1usd/day"],
            env=bare(tmp_path),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        virtual = made.stdout.split()[-1]
        wait_until(
            lambda: fetch(f"{url}/v1/models", key=virtual).status == 200, 2, "the server learns of the key"
        )
        model = fetch(f"{url}/v1/models", key=virtual).json()["data"][0]["id"]
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        assert fetch(f"{url}/v1/chat/completions", body, key=virtual).status == 200
        status = (tmp_path / "data").stat().st_mode & 0o777
        assert status == 0o700, "the data directory is open to others"
    assert key not in command.stderr
    for path in (tmp_path / "data").rglob("*"):
        assert path.is_dir() or key.encode() not in path.read_bytes(), f"{path} holds the admin key"
        assert path.is_dir() or virtual.encode() not in path.read_bytes(), f"{path} holds a virtual key"


def test_the_admin_key_is_shown_once(tmp_path: Path) -> None:
    with serving(tmp_path) as (first, _):
        key = first.says(r"admin key +(sk-tw-\S+)")[1]
    with serving(tmp_path) as (second, url):
        assert "sk-tw-" not in second.stdout
        assert str(tmp_path / "data" / "admin_key.sha256") in second.stdout, "what to do when it is lost"
        assert "$TOLLWAY_ADMIN_KEY" in pasted(second, tmp_path)
        answer = run_pasted(pasted(second, tmp_path), tmp_path, TOLLWAY_ADMIN_KEY=key)
        assert answer["choices"], "the key of the first start still serves, and the variable is filled in"
        assert fetch(f"{url}/api/status", key=key).status == 200


def test_an_admin_key_of_ones_own(tmp_path: Path) -> None:
    with serving(tmp_path, TOLLWAY_ADMIN_KEY="sk-my-own-admin-key-123456") as (command, url):
        assert "admin key" not in command.stdout
        assert "sk-my-own" not in command.stdout
        own = {"TOLLWAY_ADMIN_KEY": "sk-my-own-admin-key-123456"}
        assert run_pasted(pasted(command, tmp_path), tmp_path, **own)["choices"]
        assert fetch(f"{url}/api/status", key="sk-my-own-admin-key-123456").status == 200
    assert not (tmp_path / "data" / "admin_key.sha256").exists()


def discovered(directory: Path, **environ: str) -> tuple[str, list[dict[str, Any]], list[str]]:
    """Banner, providers of the API and models listed; every way out leads to a socket that must stay silent."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0)
        proxy = f"http://127.0.0.1:{trap.getsockname()[1]}"
        ways = {"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy, "https_proxy": proxy, "http_proxy": proxy}
        with serving(directory, **ways, **environ) as (command, url):
            key = command.says(r"admin key +(sk-tw-\S+)")[1]
            providers = fetch(f"{url}/api/providers", key=key).json()["data"]
            models = [one["id"] for one in fetch(f"{url}/v1/models", key=key).json()["data"]]
        try:
            trap.accept()
        except BlockingIOError:
            pass
        else:
            raise AssertionError("the start asked somebody on the network")
        for value in environ.values():
            assert value.startswith("http") or value not in command.stdout + command.stderr
        return command.stdout, providers, models


def test_openai_is_found(tmp_path: Path) -> None:
    banner, providers, models = discovered(tmp_path, OPENAI_API_KEY="sk-never-used-1234567890")
    assert [one["name"] for one in providers] == ["openai"]
    assert providers[0]["has_api_key"] is True
    assert "simulated" not in banner
    assert re.search(r"^  providers +openai$", banner, re.MULTILINE)
    suggested = re.search(r'"model": "([^"]+)"', banner)
    assert suggested
    assert suggested[1] in models
    assert "openai/gpt-4o-mini" in models


def test_azure_is_found_by_two_variables(tmp_path: Path) -> None:
    address = "https://mine.openai.azure.com"
    _, providers, _ = discovered(
        tmp_path, AZURE_OPENAI_API_KEY="azure-never-used-123456", AZURE_OPENAI_ENDPOINT=address
    )
    assert [one["name"] for one in providers] == ["azure"]
    assert providers[0]["base_url"].startswith(address)


def test_azure_with_half_of_it(tmp_path: Path) -> None:
    with serving(tmp_path, AZURE_OPENAI_API_KEY="azure-never-used-123456") as (command, _):
        assert "AZURE_OPENAI_ENDPOINT" in command.stderr
        assert re.search(r"^  providers +mock$", command.stdout, re.MULTILINE)


def test_several_at_once(tmp_path: Path) -> None:
    _, providers, models = discovered(
        tmp_path, OPENAI_API_KEY="sk-never-used-1234567890", GROQ_API_KEY="gsk-never-used-1234567890"
    )
    assert {one["name"] for one in providers} == {"openai", "groq"}
    assert {model.partition("/")[0] for model in models} == {"openai", "groq"}


# Starts that cannot be


def fails(directory: Path, *arguments: str, **environ: str) -> str:
    command = Command(directory, "serve", *arguments, **environ)
    assert command.ends() == 1, command.stdout
    assert "Traceback" not in command.stderr, command.stderr
    return command.stderr


def test_the_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = fails(tmp_path, "--port", str(port))
    assert str(port) in said
    assert "--port" in said, "it does not say what to do"
    assert not (tmp_path / "data").exists(), "it began to work before it knew that it can serve"


def test_any_port(tmp_path: Path) -> None:
    command = Command(tmp_path, "serve", "--port", "0")
    try:
        url = command.says(r"is ready at (http://127\.0\.0\.1:[1-9]\d*)$")[1]
        assert fetch(f"{url}/health/liveness").status == 200
    finally:
        command.process.terminate()
        assert command.ends() == 0


def test_a_data_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said = fails(tmp_path, "--port", str(free_port()), TOLLWAY_DATA_DIR=str(tmp_path / "file" / "data"))
    assert str(tmp_path / "file") in said
    assert "TOLLWAY_DATA_DIR" in said, "it does not say what to change"


def test_a_typing_mistake_in_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "tollway.yaml").write_text("providers:\n  openai: {api_kye: sk-x}\nmodles: {}\n")
    said = fails(tmp_path, "--config", "tollway.yaml")
    assert re.search(r"tollway\.yaml:2: .*api_kye.*did you mean \"api_key", said, re.IGNORECASE)
    assert re.search(r"tollway\.yaml:3: .*modles.*did you mean \"models", said, re.IGNORECASE)
    said = fails(tmp_path, "--config", "absent.yaml")
    assert "absent.yaml" in said


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for cert, reason in (("absent.pem", "cannot be read"), ("empty.pem", "no certificate")):
        (tmp_path / "tollway.yaml").write_text(f"server: {{tls_cert: {cert}, tls_key: {cert}}}\n")
        said = fails(tmp_path, "--port", str(free_port()))
        assert cert in said
        assert reason in said
