"""``groundingMetadata`` and ``citationMetadata`` read as citations of the text, and citations written as the former.

Google counts positions in UTF-8 bytes, within a part; the hub in characters, within a block. A stream's positions are
those of the whole text, so every place is checked against the words the segment quotes.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Raw, Struct

from tollway.wire.conversation import Citation
from tollway.wire.formats.gemini_generate.shapes import FAMILY, given


class _Place(Struct, rename="camel"):
    uri: str | None = None
    title: str | None = None
    text: str | None = None
    source_uri: str | None = None


class _Chunk(Struct, rename="camel"):
    web: _Place | None = None
    retrieved_context: _Place | None = None
    maps: _Place | None = None
    image: _Place | None = None


class _Segment(Struct, rename="camel"):
    start_index: int = 0
    end_index: int | None = None
    part_index: int = 0
    text: str | None = None


class _Support(Struct, rename="camel"):
    segment: _Segment | None = None
    grounding_chunk_indices: list[int] | None = None


class _Grounding(Struct, rename="camel"):
    grounding_chunks: list[_Chunk] | None = None
    grounding_supports: list[_Support] | None = None
    web_search_queries: list[str] | None = None


class _Cited(Struct, rename="camel"):
    start_index: int = 0
    end_index: int | None = None
    uri: str | None = None
    title: str | None = None


class _Citations(Struct, rename="camel"):
    citations: list[_Cited] | None = None
    citation_sources: list[_Cited] | None = None


_decode_grounding = msgspec.json.Decoder(_Grounding).decode
_decode_citations = msgspec.json.Decoder(_Citations).decode

Begun = tuple[int, int]
"""A text part: the number of its text block, and the character where it begins there."""


def searches(raw: Raw) -> int:
    """How many web searches ``groundingMetadata`` tells of."""
    if not given(raw):
        return 0
    try:
        return len(_decode_grounding(raw).web_search_queries or ())
    except (msgspec.DecodeError, RecursionError):
        return 0


def read_citations(
    grounding: Raw, cited: Raw, texts: Sequence[str], begun: Sequence[Begun | None]
) -> list[tuple[int, Citation]]:
    """Citations, each with the number of the text block it belongs to. ``begun`` are the parts of the last content.
    Metadata that cannot be read gives none."""
    found: list[tuple[int, Citation]] = []
    if given(grounding):
        try:
            found += _grounded(_decode_grounding(grounding), texts, begun)
        except (msgspec.DecodeError, RecursionError):
            pass
    if given(cited):
        try:
            told = _decode_citations(cited)
        except (msgspec.DecodeError, RecursionError):
            return found
        for one in (*(told.citations or ()), *(told.citation_sources or ())):
            segment = _Segment(start_index=one.start_index, end_index=one.end_index)
            number, start, end = _found(segment, texts, begun)
            found.append(
                (number, Citation(url=one.uri, title=one.title, start=start, end=end, format=FAMILY))
            )
    return found


def _grounded(
    told: _Grounding, texts: Sequence[str], begun: Sequence[Begun | None]
) -> list[tuple[int, Citation]]:
    chunks = told.grounding_chunks or []
    if not told.grounding_supports:
        return [(0, _citation(chunk, None, None)) for chunk in chunks]
    found = []
    for support in told.grounding_supports:
        number, start, end = _found(support.segment or _Segment(), texts, begun)
        for index in support.grounding_chunk_indices or ():
            if 0 <= index < len(chunks):
                found.append((number, _citation(chunks[index], start, end)))
    return found


def _citation(chunk: _Chunk, start: int | None, end: int | None) -> Citation:
    place = chunk.web or chunk.retrieved_context or chunk.maps or chunk.image or _Place()
    return Citation(
        url=place.source_uri or place.uri,
        title=place.title,
        cited=place.text,
        start=start,
        end=end,
        format=FAMILY,
    )


def _found(
    segment: _Segment, texts: Sequence[str], begun: Sequence[Begun | None]
) -> tuple[int, int | None, int | None]:
    """The text block and the characters a segment means; no characters where it cannot be told."""
    if segment.end_index is None or not texts:
        return 0, None, None
    place = begun[segment.part_index] if 0 <= segment.part_index < len(begun) else None
    tries: list[Begun] = [place] if place is not None else []
    tries += [(number, 0) for number in range(len(texts))]
    for number, at in tries:
        inner = texts[number][at:].encode()
        words = inner[segment.start_index : segment.end_index]
        if segment.end_index <= len(inner) and (segment.text is None or words == segment.text.encode()):
            start = at + len(inner[: segment.start_index].decode(errors="ignore"))
            return number, start, start + len(words.decode(errors="ignore"))
    if segment.text:
        for number, text in enumerate(texts):
            at = text.find(segment.text)
            if at >= 0:
                return number, at, at + len(segment.text)
    return 0, None, None


def write_grounding(cited: Sequence[tuple[int | None, str, Sequence[Citation]]]) -> dict[str, object] | None:
    """``groundingMetadata`` for the citations of text blocks: each its part's index (None in a stream, where the
    positions are those of the whole text), its text and its citations."""
    chunks: list[dict[str, object]] = []
    supports: list[dict[str, object]] = []
    numbers: dict[tuple[str | None, str | None, str | None], int] = {}
    for index, text, citations in cited:
        segments: dict[tuple[int, int], list[int]] = {}
        for citation in citations:
            key = (citation.url, citation.title, citation.cited if citation.url is None else None)
            number = numbers.get(key)
            if number is None:
                number = numbers[key] = len(chunks)
                chunks.append(_chunk(citation))
            if citation.start is not None and citation.end is not None:
                held = segments.setdefault((citation.start, citation.end), [])
                if number not in held:
                    held.append(number)
        for (start, end), indices in segments.items():
            words = text[start:end]
            first = len(text[:start].encode())
            segment: dict[str, object] = {
                "startIndex": first,
                "endIndex": first + len(words.encode()),
                "text": words,
            }
            if index:
                segment["partIndex"] = index
            supports.append({"segment": segment, "groundingChunkIndices": indices})
    if not chunks:
        return None
    told: dict[str, object] = {"groundingChunks": chunks}
    if supports:
        told["groundingSupports"] = supports
    return told


def _chunk(citation: Citation) -> dict[str, object]:
    place: dict[str, object] = {}
    if citation.url:
        place["uri"] = citation.url
    if citation.title:
        place["title"] = citation.title
    if citation.url and not citation.cited:
        return {"web": place}
    if citation.cited:
        place["text"] = citation.cited
    if citation.url is None and citation.file_id:
        place["uri"] = citation.file_id
    return {"retrievedContext": place}
