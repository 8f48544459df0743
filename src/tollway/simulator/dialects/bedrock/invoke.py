"""``/model/{id}/invoke`` and its stream for Anthropic's messages and Titan's embeddings, and ``count-tokens``.

The messages are the Anthropic dialect's own, without a model in the body and wrapped in binary events.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import msgspec

from tollway.simulator.answer import Answer, Endpoint, Request, Stamp
from tollway.simulator.dialects.anthropic.messages import answer as message
from tollway.simulator.dialects.anthropic.messages import prompt_tokens as message_tokens
from tollway.simulator.dialects.anthropic.requests import check
from tollway.simulator.dialects.bedrock.errors import exception, invalid, request_id
from tollway.simulator.dialects.bedrock.frames import CONTENT_TYPE, event
from tollway.simulator.dialects.bedrock.requests import model_of, prompt_tokens
from tollway.simulator.dialects.bedrock.requests import read as read_converse
from tollway.simulator.knobs import Knobs
from tollway.simulator.reading import Body, Plain, json_object
from tollway.simulator.tokens import count
from tollway.simulator.vectors import vector

VERSION = "bedrock-2023-05-31"

TITAN_DIMENSIONS = 1024

_json = msgspec.json.encode


def read(request: Request) -> Plain:
    body = json_object(request, invalid)
    model = model_of(request)
    if "inputText" in body:
        if not isinstance(body["inputText"], str) or not body["inputText"]:
            raise invalid(
                "Malformed input request: expected minLength: 1, actual: 0, please reformat your input."
            )
        return Plain(model, body, request)
    if body.get("anthropic_version") != VERSION:
        raise invalid(f"anthropic_version: Input should be '{VERSION}'")
    inner = {
        name: value for name, value in body.items() if name not in ("anthropic_version", "anthropic_beta")
    }
    for name in ("model", "stream"):
        if name in inner:
            raise invalid(f"{name}: Extra inputs are not permitted")
    inner["model"] = model
    check(inner, ("max_tokens", "messages"))
    return Plain(model, inner, request)


def invoke(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    made = _titan(asked, knobs, stamp) if "inputText" in asked.body else message(asked, model, knobs, stamp)
    made.headers = request_id(stamp.serial)
    if made.usage is not None:
        made.headers += b"x-amzn-bedrock-input-token-count: %d\r\n" % made.prompt_tokens
        made.headers += b"x-amzn-bedrock-output-token-count: %d\r\n" % made.completion_tokens
    return made


def _titan(asked: Plain, knobs: Knobs, stamp: Stamp) -> Answer:
    text = asked.body["inputText"]
    tokens = count(text) if knobs.prompt_tokens is None else knobs.prompt_tokens
    values = vector(text, asked.body.get("dimensions") or knobs.dimensions or TITAN_DIMENSIONS)
    shown: dict[str, Any] = {"embedding": values, "embeddingsByType": {"float": values}}
    usage = None
    if not knobs.no_usage:
        usage = _json(None if knobs.usage == "null" else tokens)
        shown["inputTextTokenCount"] = msgspec.Raw(usage)
    return Answer("embd-" + stamp.serial, [_json(shown)], usage=usage, prompt_tokens=tokens)


def invoke_stream(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    if "inputText" in asked.body:
        raise invalid("The model is unsupported for streaming.")
    asked.body["stream"] = True
    plain = msgspec.structs.replace(knobs, error_event=None)
    made = message(asked, model, plain, stamp)
    events = [_data(one) for one in made.pieces]
    if events and events[-1].get("type") == "message_stop" and made.usage is not None:
        events[-1]["amazon-bedrock-invocationMetrics"] = {
            "inputTokenCount": made.prompt_tokens,
            "outputTokenCount": made.completion_tokens,
            "invocationLatency": 1,
            "firstByteLatency": 1,
        }
    made.pieces = [event("chunk", {"bytes": b64encode(_json(one)).decode()}) for one in events]
    made.shape, made.content_type, made.headers = "frames", CONTENT_TYPE, request_id(stamp.serial)
    place = knobs.error_event
    if place is not None:
        made.pieces = [*made.pieces[:place], exception(knobs)]
        made.event_tokens = made.event_tokens[:place]
        if made.usage_at >= place:
            made.usage = None
    return made


def _data(piece: bytes) -> Body:
    """The JSON of one server-sent event."""
    found: Body = msgspec.json.decode(piece.partition(b"data: ")[2])
    return found


def read_count(request: Request) -> Plain:
    """Either a converse request or the body of an invoke, in base64."""
    body = json_object(request, invalid)
    given = body.get("input") or {}
    if "converse" in given:
        inner = msgspec.structs.replace(request, body=_json(given["converse"]))
        return read_converse(inner)
    if "invokeModel" in given:
        return read(msgspec.structs.replace(request, body=b64decode(given["invokeModel"].get("body", ""))))
    raise invalid("The input must be one of invokeModel, converse.")


def count_tokens(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    weigh = message_tokens if "model" in asked.body else prompt_tokens
    tokens = weigh(asked.body) if knobs.prompt_tokens is None else knobs.prompt_tokens
    made = Answer("count-" + stamp.serial, [_json({"inputTokens": tokens})])
    made.headers = request_id(stamp.serial)
    return made


INVOKE = Endpoint("invoke", read, invoke)
INVOKE_STREAM = Endpoint("invoke", read, invoke_stream)
COUNT_TOKENS = Endpoint("invoke.count_tokens", read_count, count_tokens)
