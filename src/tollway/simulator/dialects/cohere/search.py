"""``POST /v2/embed`` and ``POST /v2/rerank``."""

from __future__ import annotations

from array import array
from base64 import b64encode
from typing import Any

import msgspec

from tollway.simulator.answer import Answer, Endpoint, Request, Stamp
from tollway.simulator.dialects.cohere.errors import invalid, opened
from tollway.simulator.knobs import Knobs
from tollway.simulator.reading import IMAGE_TOKENS, Plain, texts
from tollway.simulator.tokens import count
from tollway.simulator.vectors import closeness, vector

EMBED_FIELDS = frozenset(
    (
        "embedding_types",
        "images",
        "input_type",
        "inputs",
        "max_tokens",
        "model",
        "output_dimension",
        "priority",
        "texts",
        "truncate",
    )
)

RERANK_FIELDS = frozenset(("documents", "max_tokens_per_doc", "model", "priority", "query", "top_n"))

TYPES = ("float", "int8", "uint8", "binary", "ubinary", "base64")

DEFAULT_DIMENSIONS = 1536

MOST_TEXTS = 96
DOCUMENTS_A_SEARCH = 100

_json = msgspec.json.encode


def read_embed(request: Request) -> Plain:
    asked = opened(request, EMBED_FIELDS, ("model", "input_type"))
    body = asked.body
    given = [name for name in ("texts", "images", "inputs") if body.get(name)]
    if len(given) != 1:
        raise invalid("invalid request: exactly one of texts, images and inputs must be given")
    if len(body[given[0]]) > MOST_TEXTS:
        raise invalid(f"invalid request: total number of {given[0]} must be at most {MOST_TEXTS}")
    for kind in body.get("embedding_types") or ():
        if kind not in TYPES:
            raise invalid(f"invalid request: embedding_types must be of {', '.join(TYPES)}")
    return asked


def embed(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    body = asked.body
    size = body.get("output_dimension") or knobs.dimensions or DEFAULT_DIMENSIONS
    shown_texts = body.get("texts") or [texts(one.get("content")) for one in body.get("inputs") or ()]
    images = len(body.get("images") or ())
    sources = shown_texts or body["images"]
    vectors = [vector(one or "image", size) for one in sources]
    tokens = sum(count(one) for one in shown_texts) if knobs.prompt_tokens is None else knobs.prompt_tokens
    units: dict[str, int] = (
        {"images": images, "image_tokens": images * IMAGE_TOKENS} if images else {"input_tokens": tokens}
    )
    kinds = body.get("embedding_types") or ["float"]
    made = _answer(
        {
            "id": stamp.serial,
            "embeddings": {kind: [_typed(one, kind) for one in vectors] for kind in kinds},
            "texts": shown_texts,
            "response_type": "embeddings_by_type",
        },
        units,
        knobs,
        stamp,
    )
    made.prompt_tokens = 0 if images else tokens
    made.units = {"images": images} if images else None
    return made


def _typed(values: list[float], kind: str) -> Any:
    match kind:
        case "int8":
            return [max(-128, min(127, round(value * 127))) for value in values]
        case "uint8":
            return [max(0, min(255, round(value * 127) + 128)) for value in values]
        case "binary" | "ubinary":
            bits = [value > 0 for value in values]
            octets = [
                sum(bit << (7 - place) for place, bit in enumerate(bits[at : at + 8]))
                for at in range(0, len(bits), 8)
            ]
            return octets if kind == "ubinary" else [octet - 128 for octet in octets]
        case "base64":
            return b64encode(array("f", values).tobytes()).decode()
        case _:
            return values


def read_rerank(request: Request) -> Plain:
    asked = opened(request, RERANK_FIELDS, ("model", "query", "documents"))
    if not all(isinstance(one, str) for one in asked.body["documents"]):
        raise invalid("invalid type: parameter 'documents' must be a list of strings")
    top = asked.body.get("top_n")
    if top is not None and (not isinstance(top, int) or top < 1):
        raise invalid("invalid request: top_n must be at least 1")
    return asked


def rerank(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    documents = asked.body["documents"]
    ranked = rank(asked.body["query"], documents)[: asked.body.get("top_n") or len(documents)]
    results = [{"index": place, "relevance_score": score} for place, score in ranked]
    searches = -(-len(documents) // DOCUMENTS_A_SEARCH)
    made = _answer({"id": stamp.serial, "results": results}, {"search_units": searches}, knobs, stamp)
    made.units = {"searches": searches}
    return made


def rank(query: str, documents: list[str]) -> list[tuple[int, float]]:
    """Place and score of every document, the best first; equal ones in their order."""
    scored = [(place, closeness(query, text)) for place, text in enumerate(documents)]
    return sorted(scored, key=lambda one: -one[1])


def _answer(shown: dict[str, Any], units: dict[str, int], knobs: Knobs, stamp: Stamp) -> Answer:
    """``meta`` is what the bill calls usage."""
    usage = None
    if not knobs.no_usage:
        meta = {"api_version": {"version": "2"}, "billed_units": units}
        usage = _json(None if knobs.usage == "null" else meta)
        shown["meta"] = msgspec.Raw(usage)
    return Answer(stamp.serial, [_json(shown)], usage=usage)


EMBED = Endpoint("cohere.embed", read_embed, embed)
RERANK = Endpoint("cohere.rerank", read_rerank, rerank)
