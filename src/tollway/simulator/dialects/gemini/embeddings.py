"""``:embedContent`` and ``:batchEmbedContents``."""

from __future__ import annotations

from typing import Any

import msgspec

from tollway.simulator.answer import Answer, Endpoint, Request, Stamp
from tollway.simulator.dialects.gemini.errors import invalid
from tollway.simulator.dialects.gemini.requests import opened
from tollway.simulator.knobs import Knobs
from tollway.simulator.reading import Body, Plain, texts
from tollway.simulator.tokens import count
from tollway.simulator.vectors import vector

FIELDS = frozenset(("content", "model", "taskType", "title", "outputDimensionality", "embedContentConfig"))

DEFAULT_DIMENSIONS = 3072


def read(request: Request) -> Plain:
    asked = opened(request, FIELDS)
    _text(asked.body)
    return asked


def read_batch(request: Request) -> Plain:
    asked = opened(request, frozenset(("requests", "model")))
    listed = asked.body.get("requests")
    if not isinstance(listed, list) or not listed:
        raise invalid("* BatchEmbedContentsRequest.requests: requests is not specified\n")
    if len(listed) > 100:
        raise invalid("* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch\n")
    for one in listed:
        _text(one)
    return asked


def _text(body: Body) -> str:
    content = body.get("content")
    if not isinstance(content, dict) or not content.get("parts"):
        raise invalid("* EmbedContentRequest.content: contents is not specified\n")
    return texts(content["parts"])


def _values(body: Body, knobs: Knobs) -> list[float]:
    inner = body.get("embedContentConfig") or {}
    wanted = body.get("outputDimensionality") or inner.get("outputDimensionality")
    if wanted is not None and wanted not in range(1, 8193):
        raise invalid("* EmbedContentRequest.output_dimensionality: must be from 1 to 8192\n")
    return vector(_text(body), wanted or knobs.dimensions or DEFAULT_DIMENSIONS)


def answer(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    return _answer({"embedding": {"values": _values(asked.body, knobs)}}, [asked.body], knobs, stamp)


def answer_batch(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    listed = asked.body["requests"]
    return _answer({"embeddings": [{"values": _values(one, knobs)} for one in listed]}, listed, knobs, stamp)


def _answer(shown: dict[str, Any], bodies: list[Body], knobs: Knobs, stamp: Stamp) -> Answer:
    tokens = sum(count(_text(one)) for one in bodies) if knobs.prompt_tokens is None else knobs.prompt_tokens
    usage = None
    if not knobs.no_usage:
        details = [{"modality": "TEXT", "tokenCount": tokens}]
        full = {"promptTokenCount": tokens, "promptTokensDetails": details}
        told = (
            None if knobs.usage == "null" else full if knobs.usage == "full" else {"promptTokenCount": tokens}
        )
        usage = msgspec.json.encode(told)
        shown["usageMetadata"] = msgspec.Raw(usage)
    return Answer("embd-" + stamp.serial, [msgspec.json.encode(shown)], usage=usage, prompt_tokens=tokens)


EMBED = Endpoint("embed_content", read, answer)
BATCH_EMBED = Endpoint("embed_content", read_batch, answer_batch)
