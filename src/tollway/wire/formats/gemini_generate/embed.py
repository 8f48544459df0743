"""embedContent and batchEmbedContents, to and from the embeddings of OpenAI's API.

``read_embed`` and ``write_embed`` serve a client of Google's API, ``write_embed_request`` and ``read_embed_answer`` a
provider of it. Text only: OpenAI's embeddings know nothing else.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Sequence

import msgspec
from msgspec import Raw, Struct

from tollway.errors import BadRequest
from tollway.wire.body import Fields, count, parse, text
from tollway.wire.codec import Unreadable
from tollway.wire.conversation import Loss
from tollway.wire.formats.gemini_generate.reading import each, fields_of, read
from tollway.wire.formats.gemini_generate.shapes import Content, given
from tollway.wire.formats.gemini_generate.spelling import EMBED, respelled
from tollway.wire.turns import Losses

Object = dict[str, object]


class _Text(Struct):
    text: str


class _Item(Struct):
    embedding: list[float] | str
    index: int = 0


class _Tokens(Struct):
    prompt_tokens: int = 0
    total_tokens: int = 0


class _Answer(Struct):
    data: list[_Item]
    model: str = ""
    usage: _Tokens | None = None


class _Values(Struct):
    values: list[float]


class _Usage(Struct, rename="camel"):
    prompt_token_count: int | None = None
    total_token_count: int | None = None


class _Embedded(Struct, rename="camel"):
    embeddings: list[_Values] | None = None
    embedding: _Values | None = None
    usage_metadata: _Usage | None = None


_encode = msgspec.json.Encoder().encode
_content = msgspec.json.Decoder(Content).decode
_text = msgspec.json.Decoder(_Text).decode
_answer = msgspec.json.Decoder(_Answer).decode
_embedded = msgspec.json.Decoder(_Embedded, strict=False).decode
_input = msgspec.json.Decoder(str | list[str]).decode


def read_embed(body: bytes) -> tuple[bytes, bool, tuple[Loss, ...]]:
    """A client's embedContent or batchEmbedContents as OpenAI's embeddings request, whether it was a batch, and what
    the request no longer says (``taskType``, ``title``). ``model`` is taken from the top level, where the door puts
    the URL's. Raises InvalidJson, BadRequest."""
    fields = parse(respelled(body, EMBED))
    lost = Losses()
    raw = fields.get("requests")
    batch = raw is not None and given(raw)
    if raw is not None and batch:
        path = "requests"
        requests = [
            (read(fields_of, one, f"{path}.{place}"), f"{path}.{place}.")
            for place, one in enumerate(each(raw, path))
        ]
        if not requests:
            raise BadRequest("'requests' is empty. Send at least one content to embed.", param=path)
    else:
        requests = [(fields, "")]
    model = text(fields, "model") or text(requests[0][0], "model") or ""
    sizes = {count(one, "outputDimensionality") for one, _ in requests}
    if len(sizes) > 1:
        raise BadRequest(
            "The requests of a batch ask for different sizes. Send one 'outputDimensionality' for all.",
            param="requests",
        )
    told: Object = {
        "model": model.removeprefix("models/"),
        "input": [_words(one, path, lost) for one, path in requests],
        "encoding_format": "float",
    }
    size = sizes.pop()
    if size:
        told["dimensions"] = size
    return _encode(told), batch, lost.all()


def _words(fields: Fields, path: str, lost: Losses) -> str:
    raw = fields.get("content")
    if raw is None or not given(raw):
        raise BadRequest(f"'{path}content' is missing. Send the text to embed.", param=f"{path}content")
    for name in ("taskType", "title"):
        if name in fields and given(fields[name]):
            lost.hint(name)
    content = read(_content, raw, f"{path}content")
    if not given(content.parts):
        raise BadRequest(f"'{path}content.parts' is missing.", param=f"{path}content.parts")
    inner = f"{path}content.parts"
    pieces = [
        read(_text, part, f"{inner}.{place}").text for place, part in enumerate(each(content.parts, inner))
    ]
    return "\n".join(pieces)


def write_embed(answer: bytes, batch: bool) -> bytes:
    """OpenAI's embeddings answer as that of batchEmbedContents or embedContent. Raises Unreadable."""
    try:
        told = _answer(answer)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unreadable(f"an embeddings answer cannot be read: {error}") from None
    vectors = [
        {"values": _numbers(item.embedding)} for item in sorted(told.data, key=lambda item: item.index)
    ]
    if not vectors:
        raise Unreadable("an embeddings answer holds no embedding")
    written: Object = {"embeddings": vectors} if batch else {"embedding": vectors[0]}
    if told.usage is not None:
        tokens = told.usage.prompt_tokens or told.usage.total_tokens
        written["usageMetadata"] = {"promptTokenCount": tokens, "totalTokenCount": tokens}
    return _encode(written)


def _numbers(embedding: Sequence[float] | str) -> Sequence[float]:
    if not isinstance(embedding, str):
        return embedding
    try:
        packed = base64.b64decode(embedding, validate=True)
        return struct.unpack(f"<{len(packed) // 4}f", packed)
    except (binascii.Error, struct.error):
        raise Unreadable("an embedding is neither numbers nor base64") from None


def write_embed_request(body: bytes, model: str) -> tuple[bytes, tuple[Loss, ...]]:
    """OpenAI's embeddings request as batchEmbedContents for ``model``, and what it does not say. Raises BadRequest."""
    fields = parse(body)
    lost = Losses()
    raw = fields.get("input", Raw())
    if not given(raw):
        raise BadRequest("'input' is missing. Send a text or a list of texts.", param="input")
    try:
        words = _input(raw)
    except (msgspec.DecodeError, RecursionError):
        raise BadRequest("'input' must be a text or a list of texts for this model.", param="input") from None
    texts = [words] if isinstance(words, str) else words
    if not texts:
        raise BadRequest("'input' is empty. Send at least one text.", param="input")
    size = count(fields, "dimensions")
    requests: list[Object] = []
    for piece in texts:
        request: Object = {"model": f"models/{model}", "content": {"parts": [{"text": piece}]}}
        if size is not None:
            request["outputDimensionality"] = size
        requests.append(request)
    for name in fields:
        if name not in ("model", "input", "dimensions", "encoding_format") and given(fields[name]):
            lost.hint(name)
    return _encode({"requests": requests}), lost.all()


def read_embed_answer(answer: bytes, model: str, *, base64_wanted: bool = False) -> bytes:
    """The answer of batchEmbedContents or embedContent as OpenAI's. ``base64_wanted`` packs the numbers as
    ``encoding_format: base64`` asks. Counts are 0 where Google reports none. Raises Unreadable."""
    try:
        told = _embedded(answer)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unreadable(f"an embeddings answer of Gemini cannot be read: {error}") from None
    vectors = told.embeddings or ([told.embedding] if told.embedding else [])
    if not vectors:
        raise Unreadable("an embeddings answer of Gemini holds no embedding")
    data = [
        {
            "object": "embedding",
            "index": place,
            "embedding": _packed(vector.values) if base64_wanted else vector.values,
        }
        for place, vector in enumerate(vectors)
    ]
    usage = told.usage_metadata or _Usage()
    tokens = usage.prompt_token_count or usage.total_token_count or 0
    return _encode(
        {
            "object": "list",
            "data": data,
            "model": model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def _packed(values: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
