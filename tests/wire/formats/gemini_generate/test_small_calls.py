"""Errors, token counts, embeddings and the model list in Google's shapes."""

from __future__ import annotations

import base64
import struct
from typing import Any

import msgspec
import pytest

from tollway.errors import (
    BadRequest,
    BudgetExceeded,
    Forbidden,
    GatewayError,
    InternalError,
    InvalidJson,
    InvalidKey,
    ModelNotFound,
    NoHealthyDeployment,
    RequestTooLarge,
    UpstreamError,
    UpstreamTimeout,
)
from tollway.wire.codec import Unreadable
from tollway.wire.conversation import Text, Tool
from tollway.wire.formats.gemini_generate import (
    CODEC,
    count_request,
    read_embed,
    read_embed_answer,
    write_count,
    write_embed,
    write_embed_request,
)


def shown(error: GatewayError) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(CODEC.write_error(error))
    assert found.keys() == {"error"}
    inner: dict[str, Any] = found["error"]
    return inner


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (BadRequest("x"), 400, "INVALID_ARGUMENT"),
        (InvalidKey("x"), 401, "UNAUTHENTICATED"),
        (BudgetExceeded("x"), 402, "RESOURCE_EXHAUSTED"),
        (Forbidden("x"), 403, "PERMISSION_DENIED"),
        (ModelNotFound("x"), 404, "NOT_FOUND"),
        (RequestTooLarge("x"), 413, "INVALID_ARGUMENT"),
        (InternalError("x"), 500, "INTERNAL"),
        (NoHealthyDeployment("x"), 503, "UNAVAILABLE"),
        (UpstreamTimeout("x", provider="p", clock="idle"), 504, "DEADLINE_EXCEEDED"),
        (UpstreamError("x", provider="p", upstream_status=418), 418, "INVALID_ARGUMENT"),
        (UpstreamError("x", provider="p", upstream_status=529), 529, "INTERNAL"),
        (
            UpstreamError("x", provider="p", upstream_status=400, upstream_code="FAILED_PRECONDITION"),
            400,
            "FAILED_PRECONDITION",
        ),
        (UpstreamError("x", provider="p", upstream_status=400, upstream_code="odd"), 400, "INVALID_ARGUMENT"),
    ],
)
def test_statuses(error: GatewayError, code: int, status: str) -> None:
    found = shown(error)
    assert (found["code"], found["message"], found["status"]) == (code, "x", status)
    assert found["details"][0]["reason"] == error.error_code.upper()


def test_details() -> None:
    error = BudgetExceeded("x", details={"budget": "team", "spent": 12, "resets_at": None})
    (info,) = shown(error)["details"]
    assert info == {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "BUDGET_EXCEEDED",
        "domain": "tollway",
        "metadata": {"budget": "team", "spent": "12"},
    }
    _, violated = shown(BadRequest("must be a number", param="generationConfig.topK"))["details"]
    assert violated["fieldViolations"] == [
        {"field": "generationConfig.topK", "description": "must be a number"}
    ]
    retried = shown(UpstreamError("x", provider="p", upstream_status=429, retry_after=1.5))["details"][1]
    assert retried == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.5s"}


# ------------------------------------------------------------------ countTokens


def test_counting_contents_or_a_whole_request() -> None:
    plain = count_request(b'{"contents":[{"parts":[{"text":"a"}]}],"model":"m"}')
    assert plain.model == "m"
    whole = count_request(
        b'{"generate_content_request":{"model":"models/g","contents":[{"parts":[{"text":"a"}]}],'
        b'"system_instruction":{"parts":[{"text":"s"}]},"tools":[{"function_declarations":[{"name":"f"}]}]}}'
    )
    assert whole.model == "g"
    assert [message.role for message in whole.messages] == ["system", "user"]
    assert whole.messages[1].blocks == (Text(text="a"),)
    assert whole.tools == (Tool(name="f"),)
    outer = count_request(
        b'{"model":"door","generateContentRequest":{"contents":[{"parts":[{"text":"a"}]}]}}'
    )
    assert outer.model == "door"
    with pytest.raises(BadRequest):
        count_request(b"{}")
    with pytest.raises(BadRequest):
        count_request(b'{"generateContentRequest":[]}')


def test_counts() -> None:
    assert write_count(5) == b'{"totalTokens":5}'
    assert msgspec.json.decode(write_count(5, 2)) == {"totalTokens": 5, "cachedContentTokenCount": 2}


# ------------------------------------------------------------------ embeddings


def test_one_content() -> None:
    body, batch, lost = read_embed(
        b'{"model":"models/e","content":{"parts":[{"text":"a"},{"text":"b"}]},"task_type":"X","title":"t","output_dimensionality":3}'
    )
    assert not batch
    assert msgspec.json.decode(body) == {
        "model": "e",
        "input": ["a\nb"],
        "encoding_format": "float",
        "dimensions": 3,
    }
    assert {loss.field for loss in lost} == {"taskType", "title"}
    answer = b'{"data":[{"embedding":[1,2]}]}'
    assert msgspec.json.decode(write_embed(answer, batch)) == {"embedding": {"values": [1.0, 2.0]}}


def test_embeddings_packed_in_base64() -> None:
    packed = base64.b64encode(struct.pack("<2f", 1.5, -2)).decode()
    answer = msgspec.json.encode(
        {"data": [{"embedding": packed}], "usage": {"prompt_tokens": 3, "total_tokens": 3}}
    )
    assert msgspec.json.decode(write_embed(answer, True)) == {
        "embeddings": [{"values": [1.5, -2.0]}],
        "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3},
    }


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{}", "content"),
        (b'{"requests":[]}', "requests"),
        (b'{"requests":[{}]}', "requests.0.content"),
        (b'{"requests":[{"content":{}}]}', "requests.0.content.parts"),
        (b'{"content":{"parts":[{"inlineData":{}}]}}', "content.parts.0.text"),
        (b'{"content":{"parts":[{"text":1}]}}', "content.parts.0.text"),
        (b'{"content":{"parts":[{"text":"a"}]},"outputDimensionality":"x"}', "outputDimensionality"),
        (
            b'{"requests":[{"content":{"parts":{"text":"a"}},"outputDimensionality":1},{"content":{"parts":{"text":"a"}}}]}',
            "requests",
        ),
    ],
)
def test_what_is_wrong_with_an_embedding_request(body: bytes, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_embed(body)
    assert refused.value.param == param


@pytest.mark.parametrize(
    "answer",
    [b"", b"{}", b'{"data":[]}', b'{"data":[{"embedding":"!"}]}', b'{"data":[{"embedding":"YWJj"}]}'],
)
def test_what_is_no_embedding(answer: bytes) -> None:
    with pytest.raises(Unreadable):
        write_embed(answer, True)


def test_openais_request_for_google() -> None:
    body, lost = write_embed_request(
        b'{"model":"x","input":["a","b"],"dimensions":4,"user":"u","encoding_format":"float"}', "e"
    )
    request = {"model": "models/e", "content": {"parts": [{"text": "a"}]}, "outputDimensionality": 4}
    assert msgspec.json.decode(body)["requests"][0] == request
    assert [loss.field for loss in lost] == ["user"]
    inner, batch, _ = read_embed(body)
    assert batch
    assert msgspec.json.decode(inner)["input"] == ["a", "b"]
    assert len(msgspec.json.decode(write_embed_request(b'{"input":"a"}', "e")[0])["requests"]) == 1


@pytest.mark.parametrize("body", [b"{}", b'{"input":[]}', b'{"input":[1,2]}', b'{"input":7}'])
def test_input_that_is_no_text(body: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        write_embed_request(body, "e")
    assert refused.value.param == "input"


def test_googles_answer_for_openai() -> None:
    told = b'{"embeddings":[{"values":[1,2]},{"values":[3]}],"usageMetadata":{"promptTokenCount":5}}'
    assert msgspec.json.decode(read_embed_answer(told, "e")) == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [1.0, 2.0]},
            {"object": "embedding", "index": 1, "embedding": [3.0]},
        ],
        "model": "e",
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }
    single = msgspec.json.decode(
        read_embed_answer(b'{"embedding":{"values":[1.5]}}', "e", base64_wanted=True)
    )
    assert struct.unpack("<f", base64.b64decode(single["data"][0]["embedding"])) == (1.5,)
    assert single["usage"] == {"prompt_tokens": 0, "total_tokens": 0}
    for broken in (b"", b"{}", b'{"embeddings":[]}', b'{"embeddings":[{}]}'):
        with pytest.raises(Unreadable):
            read_embed_answer(broken, "e")


def test_deep_nesting_never_breaks() -> None:
    deep = b'{"a":' * 9000 + b"1" + b"}" * 9000
    for call in (count_request, read_embed, lambda body: write_embed_request(body, "e")):
        with pytest.raises(InvalidJson):
            call(b'{"contents":%s}' % deep)
