"""Files that conversations name, and what providers keep under their own paths: seen by their owner only, over both
doors and in every dialect, with the vendors' own SDKs where they have files."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic
from google import genai
from google.genai import errors as google_errors
from openai import OpenAI
from served import Served, fetch, served_with

from running import provider, simulator

CHAT = [{"type": "text", "text": "What does it say?"}]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with simulator() as upstream:
        root = upstream.url.removesuffix("/v1")
        claude = {"type": "anthropic", "base_url": root, "api_key": "sk-of-the-simulator"}
        google = {"type": "gemini", "base_url": root, "api_key": "sk-of-the-simulator"}
        config: dict[str, Any] = {
            "providers": {
                "mock": {
                    **provider(upstream),
                    "type": "openai",
                    "languages": ["openai.responses", "openai.chat"],
                },
                "chatty": provider(upstream),
                "claude": claude,
                "google": google,
                "open": {**claude, "unknown_objects": "pass"},
            },
            "models": {
                "gpt": "mock/gpt-4o",
                "gpt-chat": "chatty/gpt-4o",
                "opus": "claude/claude-opus-4-5",
                "opus-open": "open/claude-opus-4-5",
                "flash": "google/gemini-2.5-flash",
            },
        }
        with served_with(tmp_path_factory.mktemp("gateway"), upstream, config) as running:
            yield running


@pytest.fixture(scope="module")
def ann(gateway: Served) -> str:
    return gateway.key("ann")


@pytest.fixture(scope="module")
def bob(gateway: Served) -> str:
    return gateway.key("bob")


@pytest.fixture(scope="module")
def file(gateway: Served, ann: str) -> str:
    """A file of ann's at provider ``mock``."""
    with OpenAI(base_url=gateway.base_url, api_key=ann, max_retries=0) as client:
        path = f"{gateway.url}/mock/v1"
        with client.with_options(base_url=path) as native:
            return native.files.create(file=("a.txt", b"the toll is two"), purpose="assistants").id


def say(model: str, *parts: object) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": [*CHAT, *parts]}]}


def asked(file: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """One request in each dialect, and each place in it, that names a file."""
    answer = [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]
    return {
        "chat-file": ("/v1/chat/completions", say("gpt", {"type": "file", "file": {"file_id": file}})),
        "responses-file": (
            "/v1/responses",
            {"model": "gpt", "input": [{"role": "user", "content": [{"type": "input_file", "file_id": file}]}]},
        ),
        "responses-image": (
            "/v1/responses",
            {"model": "gpt", "input": [{"role": "user", "content": [{"type": "input_image", "file_id": file}]}]},
        ),
        "responses-container": (
            "/v1/responses",
            {
                "model": "gpt", "input": answer,
                "tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": [file]}}],
            },
        ),
        "responses-tool-output": (
            "/v1/responses",
            {
                "model": "gpt",
                "input": [
                    *answer,
                    {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
                    {
                        "type": "function_call_output", "call_id": "c1",
                        "output": [{"type": "input_file", "file_id": file}],
                    },
                ],
            },
        ),
        "messages-document": (
            "/v1/messages",
            {**say("opus", {"type": "document", "source": {"type": "file", "file_id": file}}), "max_tokens": 50},
        ),
        "messages-image": (
            "/v1/messages",
            {**say("opus", {"type": "image", "source": {"type": "file", "file_id": file}}), "max_tokens": 50},
        ),
        "messages-container": (
            "/v1/messages",
            {**say("opus", {"type": "container_upload", "file_id": file}), "max_tokens": 50},
        ),
        "messages-count": (
            "/v1/messages/count_tokens",
            say("opus", {"type": "document", "source": {"type": "file", "file_id": file}}),
        ),
        "gemini-file": (
            "/v1beta/models/flash:generateContent",
            {"contents": [{"role": "user", "parts": [{"fileData": {"fileUri": file, "mimeType": "text/plain"}}]}]},
        ),
        "gemini-snake": (
            "/v1beta/models/flash:streamGenerateContent?alt=sse",
            {"contents": [{"role": "user", "parts": [{"file_data": {"file_uri": file, "mime_type": "text/plain"}}]}]},
        ),
        "gemini-cache": (
            "/v1beta/models/flash:generateContent",
            {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], "cachedContent": f"cachedContents/{file}"},
        ),
        "azure": (
            "/openai/deployments/gpt/chat/completions?api-version=2024-10-21",
            say("gpt", {"type": "file", "file": {"file_id": file}}),
        ),
        "passed-chat": ("/mock/v1/chat/completions", say("gpt-4o", {"type": "file", "file": {"file_id": file}})),
        "passed-messages": (
            "/claude/v1/messages",
            {
                **say("claude-opus-4-5", {"type": "document", "source": {"type": "file", "file_id": file}}),
                "max_tokens": 50,
            },
        ),
        "passed-gemini": (
            "/google/v1beta/models/gemini-2.5-flash:generateContent",
            {"contents": [{"role": "user", "parts": [{"fileData": {"fileUri": f"files/{file}"}}]}]},
        ),
        "ocr": ("/v1/ocr", {"model": "gpt", "document": {"type": "file", "file_id": file}}),
    }  # fmt: skip


@pytest.mark.parametrize("door", ["lane", "asgi"])
@pytest.mark.parametrize("where", asked("file-0"))
def test_anothers_file_is_not_found_in_the_dialects_own_words(
    gateway: Served, file: str, bob: str, where: str, door: str
) -> None:
    """The lane serves what is asked for by the plain path; any query sends a request to the other door."""
    path, body = asked(file)[where]
    if door == "asgi":
        path += ("&" if "?" in path else "?") + "door=asgi"
    before = gateway.upstream.requests
    never = file[:-4] + "0000"
    refused = fetch(gateway.url + path, body, key=bob)
    unknown = fetch(gateway.url + path, asked(never)[where][1], key=bob)
    assert refused.status == unknown.status == 404, refused.body
    assert refused.body.decode().replace(file, "") == unknown.body.decode().replace(never, "")
    told = json.loads(refused.body)
    if path.startswith("/v1/messages"):
        assert told["error"]["type"] == "not_found_error"
    elif path.startswith("/v1beta"):
        assert told["error"]["status"] == "NOT_FOUND"
    else:
        assert told["error"]["code"] == "not_found"
    assert gateway.upstream.requests == before, "the provider was asked all the same"


def test_the_owners_file_goes_on(gateway: Served, file: str, ann: str) -> None:
    for where in ("chat-file", "responses-file", "passed-chat"):
        path, body = asked(file)[where]
        before = gateway.upstream.requests
        fetch(gateway.url + path, body, key=ann)
        assert gateway.upstream.requests == before + 1, where


def test_escaped_letters_hide_nothing(gateway: Served, file: str, bob: str) -> None:
    plain = json.dumps(say("gpt", {"type": "file", "file": {"file_id": file}}))
    hidden = {
        "name": plain.replace('"file_id"', '"\\u0066ile_id"'),
        "both": plain.replace('"file', '"\\u0066ile'),
        "value": plain.replace(file, "\\u0066" + file[1:]),
        "twice": plain.replace('"file_id"', '"file_id": "file-mine", "file_id"'),
        "first": plain.replace(f'"file_id": "{file}"', f'"file_id": "{file}", "file_id": []'),
        "deep": plain[:-1] + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}",
        "digits": plain[:-1] + ', "x": ' + "1" * 5000 + "}",
    }
    before = gateway.upstream.requests
    for name, body in hidden.items():
        answer = fetch(f"{gateway.url}/v1/chat/completions", body.encode(), key=bob)
        assert answer.status in (400, 404), (name, answer.body)
    assert gateway.upstream.requests == before


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/octet-stream",
        "",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ],
)
def test_a_body_by_another_name_hides_nothing(gateway: Served, file: str, bob: str, kind: str) -> None:
    before = gateway.upstream.requests
    for where in ("passed-chat", "passed-messages", "passed-gemini", "chat-file"):
        path, body = asked(file)[where]
        answer = fetch(gateway.url + path, json.dumps(body).encode(), key=bob, content_type=kind)
        assert answer.status in (404, 415), (where, answer.body)
    assert gateway.upstream.requests == before


def test_what_names_no_object_is_nobodys_business(gateway: Served, file: str, bob: str) -> None:
    """Words, a tool's own fields, what a tool was given and what it said, citations: none of that asks for a file."""
    schema = {"type": "object", "properties": {"file_id": {"type": "string", "default": file}}}
    chat = {
        "model": "gpt-chat",
        "messages": [
            {"role": "user", "content": file},
            {
                "role": "assistant", "content": None,
                "tool_calls": [
                    {
                        "id": "c1", "type": "function",
                        "function": {"name": "look", "arguments": json.dumps({"file_id": file})},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": json.dumps({"file_id": file})},
        ],
        "tools": [{"type": "function", "function": {"name": "look", "parameters": schema}}],
        "metadata": {"file_id": file},
    }  # fmt: skip
    messages = {
        "model": "opus",
        "max_tokens": 50,
        "messages": [
            {"role": "user", "content": "Look"},
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"file_id": file}}
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "ok"}]},
        ],
        "tools": [{"name": "look", "input_schema": schema}],
    }
    gemini = {
        "contents": [
            {"role": "user", "parts": [{"text": "Look"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "look", "args": {"file_id": file}}}]},
            {
                "role": "user",
                "parts": [{"functionResponse": {"name": "look", "response": {"file_id": file}}}],
            },
        ],
        "tools": [{"functionDeclarations": [{"name": "look", "parameters": schema}]}],
    }
    address = {"fileData": {"fileUri": "https://example.com/files/a.pdf", "mimeType": "application/pdf"}}
    outside = {"contents": [{"role": "user", "parts": [{"text": "Read"}, address]}]}
    for path, body in (
        ("/v1/chat/completions", chat), ("/v1/messages", messages),
        ("/v1beta/models/flash:generateContent", gemini), ("/v1beta/models/flash:generateContent", outside),
    ):  # fmt: skip
        answer = fetch(gateway.url + path, body, key=bob)
        assert answer.status == 200, (path, answer.body)


def test_unknown_objects_pass_where_that_is_configured(gateway: Served, bob: str) -> None:
    part = {"type": "document", "source": {"type": "file", "file_id": "file_011somebodyelse"}}
    for model, status in (("opus", 404), ("opus-open", 200)):
        answer = fetch(f"{gateway.url}/v1/messages", {**say(model, part), "max_tokens": 50}, key=bob)
        assert answer.status == status, answer.body


def claude(gateway: Served, key: str, name: str = "claude") -> Anthropic:
    return Anthropic(base_url=f"{gateway.url}/{name}", api_key=key, max_retries=0)


def test_files_of_anthropic_have_owners(gateway: Served, ann: str, bob: str) -> None:
    with claude(gateway, ann) as hers, claude(gateway, bob) as his:
        made = hers.beta.files.upload(file=("toll.txt", b"two", "text/plain"))
        assert [one.id for one in hers.beta.files.list()] == [made.id]
        assert list(his.beta.files.list()) == []
        assert hers.beta.files.retrieve_metadata(made.id).filename == "toll.txt"
        assert hers.beta.files.download(made.id).read() == b"two"
        for call in (his.beta.files.retrieve_metadata, his.beta.files.download, his.beta.files.delete):
            with pytest.raises(anthropic.NotFoundError):
                call(made.id)
        part = {"type": "document", "source": {"type": "file", "file_id": made.id}}
        body = {**say("opus", part), "max_tokens": 50}
        assert fetch(f"{gateway.url}/v1/messages", body, key=ann).status == 200
        assert fetch(f"{gateway.url}/v1/messages", body, key=bob).status == 404
        # Known to be another's: that stays so where unknown ones pass.
        body = {**say("opus-open", part), "max_tokens": 50}
        assert fetch(f"{gateway.url}/v1/messages", body, key=bob).status == 404
        hers.beta.files.delete(made.id)
        with pytest.raises(anthropic.NotFoundError):
            hers.beta.files.retrieve_metadata(made.id)


def google(gateway: Served, key: str) -> genai.Client:
    return genai.Client(api_key=key, http_options={"base_url": f"{gateway.url}/google"})


def test_files_of_gemini_have_owners(gateway: Served, ann: str, bob: str) -> None:
    hers, his = google(gateway, ann), google(gateway, bob)
    data = b"two" * 1000
    made = hers.files.upload(file=io.BytesIO(data), config={"mime_type": "text/plain", "name": "toll"})
    assert made.name == "files/toll"
    assert made.uri
    assert int(made.size_bytes or 0) == len(data)
    assert [one.name for one in hers.files.list()] == ["files/toll"]
    assert list(his.files.list()) == []
    assert hers.files.get(name="files/toll").uri == made.uri
    for call in (his.files.get, his.files.delete):
        with pytest.raises(google_errors.ClientError) as refused:
            call(name="files/toll")
        assert refused.value.code == 404
    part = {"fileData": {"fileUri": made.uri, "mimeType": "text/plain"}}
    body = {"contents": [{"role": "user", "parts": [{"text": "Read"}, part]}]}
    for path in (
        "/v1beta/models/flash:generateContent",
        "/google/v1beta/models/gemini-2.5-flash:generateContent",
    ):
        assert fetch(gateway.url + path, body, key=ann).status == 200
        assert fetch(gateway.url + path, body, key=bob).status == 404
    hers.files.delete(name="files/toll")
    with pytest.raises(google_errors.ClientError):
        hers.files.get(name="files/toll")


def test_caches_of_gemini_have_owners(gateway: Served, ann: str, bob: str) -> None:
    hers, his = google(gateway, ann), google(gateway, bob)
    made = hers.caches.create(
        model="gemini-2.5-flash", config={"contents": [{"role": "user", "parts": [{"text": "Long " * 50}]}]}
    )
    assert made.name
    assert [one.name for one in hers.caches.list()] == [made.name]
    assert list(his.caches.list()) == []
    body = {"contents": [{"role": "user", "parts": [{"text": "Read"}]}], "cachedContent": made.name}
    path = f"{gateway.url}/v1beta/models/flash:generateContent"
    assert fetch(path, body, key=ann).status == 200
    assert fetch(path, body, key=bob).status == 404
    with pytest.raises(google_errors.ClientError):
        his.caches.delete(name=made.name)
    hers.caches.delete(name=made.name)


@pytest.mark.parametrize(
    "path",
    [
        "/claude/v1/organizations/users", "/claude/v1/%66iles", "/claude/v1/files/file_011x/",
        "/mock/v1/chat/completions", "/mock/v1/containers", "/google/v1beta/corpora", "/google/v1beta/operations/x",
        "/mock/v1/evals", "/claude/v1/skills", "/mock/v1/conversations/c1",
    ],
)  # fmt: skip
def test_paths_without_owners_are_the_administrators(gateway: Served, bob: str, path: str) -> None:
    before = gateway.upstream.requests
    answer = fetch(gateway.url + path, key=bob)
    if "%66iles" in path:
        assert json.loads(answer.body)["data"] == []
    else:
        assert answer.status in (403, 404), answer.body
    assert gateway.upstream.requests == before


def test_without_a_database_they_are_the_administrators_too(tmp_path: Path) -> None:
    with simulator() as upstream:
        root = upstream.url.removesuffix("/v1")
        key = "sk-tw-client-of-a-file-1"
        config = {
            "database": "none",
            "providers": {
                "mock": {**provider(upstream), "type": "openai"},
                "claude": {"type": "anthropic", "base_url": root, "api_key": "sk-of-the-simulator"},
            },
            "models": {"gpt": "mock/gpt-4o"},
            "keys": [{"name": "ann", "key": key}, {"name": "bob", "key": key + "b"}],
        }
        with served_with(tmp_path, upstream, config) as running:
            assert (
                fetch(f"{running.url}/claude/v1/files", key=key, anthropic_version="2023-06-01").status == 400
            )
            with OpenAI(base_url=running.base_url, api_key=key, max_retries=0) as client:
                file = client.files.create(file=("a.txt", b"two"), purpose="assistants").id
            body = say("gpt", {"type": "file", "file": {"file_id": file}})
            path = f"{running.url}/v1/chat/completions"
            assert fetch(path, body, key=key + "b").status == 404
            asked = fetch(path, body, key=key)
            assert asked.status == 200, asked.body
            seen = fetch(root + "/requests").json()
            assert file not in str(seen), "the provider got the name it does not know"
