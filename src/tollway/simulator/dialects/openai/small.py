"""Small operations of one answer each: moderations, rerank, web search and document recognition."""

from __future__ import annotations

from typing import Any

import msgspec

from tollway.simulator.answer import Answer, Endpoint, Request, Stamp
from tollway.simulator.dialects.openai.errors import invalid
from tollway.simulator.dialects.openai.kept import missing, named
from tollway.simulator.knobs import Knobs
from tollway.simulator.reading import Body, Plain, json_object, texts
from tollway.simulator.tokens import count, prose, start_of
from tollway.simulator.vectors import closeness

CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)

_json = msgspec.json.encode


def _answer(ident: str, shown: Body, usage: Any, name: str, knobs: Knobs) -> Answer:
    """``usage`` goes into the body below ``name``, unless a knob says otherwise."""
    told = None
    if not knobs.no_usage and usage is not None:
        told = _json(None if knobs.usage == "null" else usage)
        shown[name] = msgspec.Raw(told)
    return Answer(ident, [_json(shown)], usage=told)


def read_moderation(request: Request) -> Plain:
    body = json_object(request, invalid)
    if not body.get("input"):
        raise missing("input")
    return Plain(body.get("model") or "omni-moderation-latest", body, request)


def moderate(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    """A text is flagged for violence where it speaks of killing, and where the knob ``refusal`` says so."""
    given = asked.body["input"]
    single = isinstance(given, str) or any(isinstance(one, dict) for one in given)
    inputs = [texts(given)] if single else given
    results = [_moderated(text, knobs) for text in inputs]
    shown = {"id": "modr-" + stamp.serial, "model": knobs.answer_model or model, "results": results}
    return Answer("modr-" + stamp.serial, [_json(shown)])


def _moderated(text: str, knobs: Knobs) -> Body:
    flagged = knobs.refusal or "kill" in text.lower()
    hit = {name: flagged and name == "violence" for name in CATEGORIES}
    return {
        "flagged": flagged,
        "categories": hit,
        "category_scores": {name: 0.98 if one else 0.001 for name, one in hit.items()},
        "category_applied_input_types": {name: ["text"] for name in CATEGORIES},
    }


def read_rerank(request: Request) -> Plain:
    asked = named(request)
    for name in ("query", "documents"):
        if not asked.body.get(name):
            raise missing(name)
    return asked


def rerank(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    body = asked.body
    documents = [one if isinstance(one, str) else texts(one) for one in body["documents"]]
    scores = [closeness(texts(body["query"]), text) for text in documents]
    order = sorted(range(len(documents)), key=lambda place: -scores[place])
    results: list[Body] = []
    for place in order[: body.get("top_n") or len(order)]:
        result: Body = {"index": place, "relevance_score": scores[place]}
        if body.get("return_documents", True):
            result["document"] = {"text": documents[place]}
        results.append(result)
    tokens = count(texts(body["query"])) + sum(map(count, documents))
    if knobs.prompt_tokens is not None:
        tokens = knobs.prompt_tokens
    ident = "rerank-" + stamp.serial
    shown = {"id": ident, "model": knobs.answer_model or model, "results": results}
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    made = _answer(ident, shown, usage, "usage", knobs)
    made.prompt_tokens = tokens
    made.units = {"searches": 1}
    return made


def read_search(request: Request) -> Plain:
    body = json_object(request, invalid)
    if not body.get("query"):
        raise missing("query")
    return Plain(str(body.get("model") or "search"), body, request)


def search(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    """Perplexity's shape: results with title, url and snippet."""
    given = asked.body["query"]
    queries = given if isinstance(given, list) else [given]
    found = [
        {
            "title": f"{query} {place + 1}",
            "url": f"https://example.com/{start_of(query) % 1000}/{place + 1}",
            "snippet": prose(8, start_of(query, place)),
            "date": "2026-01-02",
            "last_updated": "2026-01-02",
        }
        for query in queries
        for place in range(min(asked.body.get("max_results") or 3, 20))
    ]
    ident = "search-" + stamp.serial
    made = Answer(ident, [_json({"id": ident, "object": "search", "results": found})])
    made.units = {"searches": len(queries)}
    return made


def read_ocr(request: Request) -> Plain:
    asked = named(request)
    document = asked.body.get("document")
    if not isinstance(document, dict) or document.get("type") not in ("document_url", "image_url", "file"):
        raise invalid("Invalid 'document': expected a document_url, an image_url or a file.", "document")
    return asked


def ocr(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    """Mistral's shape: a page of markdown for each that was asked for (one, where none was)."""
    wanted = asked.body.get("pages") or [0]
    pages = [
        {
            "index": page,
            "markdown": knobs.text or "# Page\n\n" + prose(knobs.tokens or 32, start_of(model, page)),
            "images": [],
            "dimensions": {"dpi": 200, "height": 2200, "width": 1700},
        }
        for page in wanted
    ]
    shown = {"pages": pages, "model": knobs.answer_model or model, "document_annotation": None}
    usage = {"pages_processed": len(pages), "doc_size_bytes": len(_json(asked.body["document"]))}
    made = _answer("ocr-" + stamp.serial, shown, usage, "usage_info", knobs)
    made.units = {"pages": len(pages)}
    return made


MODERATIONS = Endpoint("moderations", read_moderation, moderate)
RERANK = Endpoint("rerank", read_rerank, rerank)
SEARCH = Endpoint("search", read_search, search)
OCR = Endpoint("ocr", read_ocr, ocr)
