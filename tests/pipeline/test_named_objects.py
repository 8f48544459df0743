"""Which words of a body are worth a look, and which strings are names."""

from __future__ import annotations

import json
import time

import pytest

from tollway.errors import InvalidJson
from tollway.pipeline.client import ModelRequest
from tollway.pipeline.named_objects import may_name, named


def asked(body: bytes, dialect: str = "openai") -> ModelRequest:
    return ModelRequest(
        endpoint="chat.completions", headers={}, body=body, id="r", started=0.0, dialect=dialect
    )


@pytest.mark.parametrize(
    ("body", "looked_at"),
    [
        (b'{"messages": [{"role": "user", "content": "my profile is a file"}]}', False),
        (b'{"messages": [{"role": "user", "content": "caf\\u00e9"}]}', False),
        (b'{"file_id": "x"}', True),
        (b'{"fileData": {}}', True),
        (b'{"\\u0066ile_id": "x"}', True),
        (b'{"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}', True),
    ],
)
def test_what_is_worth_a_look(body: bytes, looked_at: bool) -> None:
    assert may_name(asked(body)) is looked_at


def test_cached_contents_are_geminis_alone() -> None:
    body = b'{"cachedContent": "cachedContents/x"}'
    assert may_name(asked(body, "gemini"))
    assert not may_name(asked(body))


def test_names_wherever_they_stand() -> None:
    body = {
        "messages": [{"content": [{"type": "file", "file": {"file_id": "file-1"}}]}],
        "input": [{"content": [{"type": "input_image", "file_id": "file-2"}]}],
        "tools": [
            {"type": "file_search", "vector_store_ids": ["vs_1", "vs_2"]},
            {"type": "code_interpreter", "container": {"file_ids": ["file-3"]}},
            {"fileSearch": {"fileSearchStoreNames": ["fileSearchStores/s"]}},
        ],
        "prompt": {"id": "p", "variables": {"doc": {"type": "input_file", "file_id": "file-4"}}},
        "contents": [
            {"parts": [{"functionResponse": {"name": "f", "parts": [{"fileData": {"fileUri": "files/5"}}]}}]}
        ],
    }
    assert sorted(named(json.dumps(body).encode())) == [
        "file-1", "file-2", "file-3", "file-4", "fileSearchStores/s", "files/5", "vs_1", "vs_2",
    ]  # fmt: skip


def test_both_of_two_fields_of_one_name() -> None:
    assert sorted(
        named(b'{"file_id": "file-1", "file_id": "file-2", "a": {"type": "x", "type": "tool_use"}}')
    ) == [
        "file-1",
        "file-2",
    ]


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"a": "\x01"}', b"[" * 200_000, b'{"a": 1}{'])
def test_what_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        named(body)


def test_a_plain_chat_pays_next_to_nothing() -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "word " * 200}]}).encode()
    request = asked(body)
    began = time.perf_counter()
    for _ in range(10_000):
        may_name(request)
    assert (time.perf_counter() - began) / 10_000 < 5e-6
