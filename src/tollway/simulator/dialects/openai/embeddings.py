"""``POST /v1/embeddings``: unit vectors that depend on the text alone and lie close where texts share
words."""

from __future__ import annotations

from array import array
from base64 import b64encode
from functools import lru_cache
from sys import byteorder

import msgspec

from tollway.simulator.answer import Answer, Endpoint, Request, Stamp
from tollway.simulator.dialects.openai.errors import invalid
from tollway.simulator.dialects.openai.requests import EmbeddingRequest, decoded
from tollway.simulator.knobs import Knobs
from tollway.simulator.tokens import count
from tollway.simulator.vectors import vector

DIMENSIONS = {"text-embedding-3-large": 3072}

DEFAULT_DIMENSIONS = 1536

_decoder = msgspec.json.Decoder(EmbeddingRequest)
_json = msgspec.json.encode


def read(request: Request) -> EmbeddingRequest:
    return decoded(_decoder, request.body)


def answer(request: EmbeddingRequest, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    form = request.encoding_format or "float"
    if form not in ("float", "base64"):
        raise invalid(f"Unknown encoding format {form!r}.", "encoding_format", "invalid_value")
    dimensions = (
        request.dimensions or knobs.dimensions or DIMENSIONS.get(model.rpartition("/")[2], DEFAULT_DIMENSIONS)
    )
    inputs = inputs_of(request)
    tokens = sum(number for _, number in inputs) if knobs.prompt_tokens is None else knobs.prompt_tokens
    data = b",".join(
        b'{"object":"embedding","index":%d,"embedding":%b}' % (index, embedding(text, dimensions, form))
        for index, (text, _) in enumerate(inputs)
    )
    usage = None if knobs.no_usage else usage_json(knobs.usage, tokens)
    body = b'{"object":"list","data":[%b],"model":%b%b}' % (
        data,
        _json(knobs.answer_model or model),
        b"" if usage is None else b',"usage":' + usage,
    )
    return Answer("embd-" + stamp.serial, [body], usage=usage, prompt_tokens=tokens)


@lru_cache(maxsize=4096)
def usage_json(shape: str, tokens: int) -> bytes:
    return b"null" if shape == "null" else b'{"prompt_tokens":%d,"total_tokens":%d}' % (tokens, tokens)


def inputs_of(request: EmbeddingRequest) -> list[tuple[str, int]]:
    """Every input as text with its tokens; numbers are tokens as they stand."""
    given = request.input
    if isinstance(given, str):
        listed: list[str | list[int]] = [given]
    else:
        numbers = [one for one in given if isinstance(one, int)]
        listed = [numbers] if numbers else [one for one in given if not isinstance(one, int)]
    if not listed or not all(listed):
        raise invalid(
            "'input' must hold at least one input, and none may be empty.", "input", "invalid_value"
        )
    if len(listed) > 2048:
        raise invalid("'input' may hold at most 2048 inputs.", "input", "array_above_max_length")
    return [
        (one, count(one)) if isinstance(one, str) else (" ".join(map(str, one)), len(one)) for one in listed
    ]


@lru_cache(maxsize=256)
def embedding(text: str, dimensions: int, form: str) -> bytes:
    """The JSON of one vector: an array of numbers, or base64 of little-endian 32-bit floats."""
    values = vector(text, dimensions)
    if form == "float":
        return _json(values)
    floats = array("f", values)
    if byteorder == "big":
        floats.byteswap()
    return b'"' + b64encode(floats.tobytes()) + b'"'


EMBEDDINGS = Endpoint("embeddings", read, answer, repeatable=True)
