"""``:generateContent``, ``:streamGenerateContent`` (server-sent events, or one JSON array) and
``:countTokens``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec

from tollway.simulator.answer import Answer, Endpoint, Stamp
from tollway.simulator.dialects.gemini.errors import invalid, stream_error
from tollway.simulator.dialects.gemini.requests import read, read_count, results_of
from tollway.simulator.knobs import Knobs
from tollway.simulator.media import PNG, silence
from tollway.simulator.reading import AUDIO_CHARACTERS, IMAGE_TOKENS, Body, Plain, texts, weight
from tollway.simulator.speech import Speech, Tool, Wish, seal, speak
from tollway.simulator.tally import Tally, billed, tally
from tollway.simulator.tokens import MESSAGE_OVERHEAD, REPLY_OVERHEAD, count, pieces
from tollway.simulator.track import Track, event

STOPS = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "function_call": "STOP",
    "stop_sequence": "STOP",
    "content_filter": "SAFETY",
    "refusal": "PROHIBITED_CONTENT",
    "pause": "OTHER",
}

CATEGORIES = ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT")

Turn = tuple[dict[str, Any], int]
"""One chunk's part and the tokens it finishes."""

_json = msgspec.json.encode


def generate(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    said, counts = _said(asked, model, knobs)
    frame = _frame(model, knobs, stamp)
    ident = stamp.serial
    if knobs.refusal:
        return _blocked(frame, ident, counts, knobs, asked, streamed=False)
    usage = None if knobs.no_usage else _json(usage_of(counts, knobs))
    candidates = [
        _candidate(index, [part for part, _ in _turns(one, model, ident, lambda text: [text])], one, knobs)
        for index, one in enumerate(said)
    ]
    whole: dict[str, Any] = {"candidates": [_media(asked.body, one) for one in candidates]}
    if usage is not None:
        whole["usageMetadata"] = msgspec.Raw(usage)
    made = Answer(ident, [_json({**whole, **frame})], usage=usage)
    if knobs.citations:
        made.units = {"searches": 1}
    return billed(made, counts)


def stream(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    said, counts = _said(asked, model, knobs)
    frame = _frame(model, knobs, stamp)
    if knobs.refusal:
        return _blocked(frame, stamp.serial, counts, knobs, asked, streamed=True)
    track = Track(stamp.serial, knobs)
    chunks: list[tuple[dict[str, Any], int]] = []
    for index, one in enumerate(said):
        turns = _turns(one, model, stamp.serial, lambda text: pieces(text, knobs.events))
        for place, (part, tokens) in enumerate(turns):
            last = place == len(turns) - 1
            candidate = _candidate(index, [part], one if last else None, knobs)
            chunks.append((_media(asked.body, candidate) if last else candidate, tokens))
    so_far = counts.audio_out
    for place, (candidate, tokens) in enumerate(chunks):
        so_far += tokens
        whole: dict[str, Any] = {"candidates": [candidate]}
        final = place == len(chunks) - 1
        usage = None
        if not knobs.no_usage:
            usage = _json(usage_of(counts, knobs, None if final else so_far))
            whole["usageMetadata"] = msgspec.Raw(usage)
        track.add(_json({**whole, **frame}), tokens, usage)
    made = _framed(track, asked, knobs, counts.reasoning + counts.audio_out)
    if knobs.citations:
        made.units = {"searches": 1}
    return billed(made, counts)


def _framed(track: Track, asked: Plain, knobs: Knobs, unseen: int) -> Answer:
    """Server-sent events where ``alt=sse`` asks for them, otherwise the elements of an array."""
    broken = stream_error(knobs)
    if "sse" in parse_qs(asked.request.query.decode("latin-1")).get("alt", []):
        track.events = [b"data: %b\r\n\r\n" % one for one in track.events]
        return track.answer(event(broken), content_type=b"text/event-stream", unseen=unseen)
    events = [b"[" + track.events[0], *(b",\r\n" + one for one in track.events[1:])]
    if not knobs.no_done:
        events[-1] += b"\n]\n"
    track.events = events
    opening = b"[" if knobs.error_event == 0 else b",\r\n"
    return track.answer(
        opening + _json(broken) + b"\n]\n",
        shape="array",
        content_type=b"application/json; charset=UTF-8",
        unseen=unseen,
    )


def count_tokens(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    prompt, audio = prompt_tokens(asked.body)
    counts = tally(prompt, 0, 0, knobs, audio)
    details = _modalities(counts.prompt, counts.audio_in)
    shown = {"totalTokens": counts.prompt, "promptTokensDetails": details}
    return Answer("count-" + stamp.serial, [_json(shown)])


def _said(asked: Plain, model: str, knobs: Knobs) -> tuple[list[Speech], Tally]:
    number = (asked.body.get("generationConfig") or {}).get("candidateCount") or 1
    if number not in range(1, 9):
        raise invalid("The valid range of candidate_count is [1, 8].")
    prompt, audio = prompt_tokens(asked.body)
    if knobs.refusal:
        return [], tally(prompt, 0, 0, knobs, audio)
    wish = _wish(asked.body, model)
    said = [
        speak(msgspec.structs.replace(wish, seed=(wish.seed or 0) + index), knobs) for index in range(number)
    ]
    # Thinking happens once, whatever the number of candidates.
    reasoning = said[0].reasoning
    return said, tally(prompt, sum(one.tokens for one in said) + reasoning, reasoning, knobs, audio)


def _frame(model: str, knobs: Knobs, stamp: Stamp) -> dict[str, Any]:
    return {"modelVersion": knobs.answer_model or model, "responseId": stamp.serial}


def _wish(body: Body, model: str) -> Wish:
    config = body.get("generationConfig") or {}
    declared = [one for tool in body.get("tools") or () for one in tool.get("functionDeclarations") or ()]
    offered = [
        Tool(one["name"], one.get("parametersJsonSchema") or lowered(one.get("parameters")))
        for one in declared
    ]
    calling = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    mode, allowed = calling.get("mode", "AUTO"), calling.get("allowedFunctionNames")
    if allowed:
        offered = [tool for tool in offered if tool.name in allowed]
    if mode == "NONE" or (mode != "ANY" and results_of(body["contents"][-1])):
        offered = []
    thinking = config.get("thinkingConfig") or {}
    schema = config.get("responseJsonSchema") or lowered(config.get("responseSchema"))
    if config.get("responseMimeType") == "application/json" and schema is None:
        schema = {"type": "object", "properties": {"answer": {"const": "the old cat sat"}}}
    users = [one for one in body["contents"] if one.get("role") != "model"]
    return Wish(
        model=model,
        last=texts(users[-1]["parts"]) if users else "",
        tools=offered,
        limit=config.get("maxOutputTokens"),
        stop=config.get("stopSequences") or [],
        schema=schema,
        seed=config.get("seed"),
        thinks=bool(thinking.get("includeThoughts")) and thinking.get("thinkingBudget") != 0,
    )


def lowered(schema: Any) -> Any:
    """A schema in OpenAPI's words as a JSON schema: types in lower case, ``nullable`` left out."""
    if isinstance(schema, list):
        return [lowered(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: lowered(inner) for name, inner in schema.items() if name != "nullable"}
    if isinstance(made.get("type"), str):
        made["type"] = made["type"].lower()
    return made


def prompt_tokens(body: Body) -> tuple[int, int]:
    """Tokens of the prompt, and how many of them are audio."""
    tokens = REPLY_OVERHEAD + count(texts((body.get("systemInstruction") or {}).get("parts")))
    audio = 0
    for content in body["contents"]:
        tokens += MESSAGE_OVERHEAD
        for part in content["parts"]:
            blob = part.get("inlineData") or part.get("fileData")
            if blob is None:
                held = next(
                    (part[name] for name in ("text", "functionCall", "functionResponse") if name in part),
                    None,
                )
                tokens += 0 if part.get("thought") else weight(held)
            elif str(blob.get("mimeType", "")).startswith("audio/"):
                audio += -(-len(blob.get("data", "")) // AUDIO_CHARACTERS) or 1
            else:
                tokens += IMAGE_TOKENS
    return tokens + weight(body.get("tools")) + audio, audio


def _turns(said: Speech, model: str, serial: str, cut: Callable[[str], list[str]]) -> list[Turn]:
    """One speech as parts; ``cut`` says into how many a text goes."""
    strict = "-3" in model
    turns: list[Turn] = []
    if said.thinking:
        turns += [({"text": one, "thought": True}, 0) for one in cut(said.thinking)]
    if said.text is not None:
        turns += [({"text": one}, count(one)) for one in cut(said.text) or [""]]
        if strict:
            # The signature of a text comes with its last part.
            turns[-1][0]["thoughtSignature"] = seal("gemini", "")
    for place, call in enumerate(said.calls):
        called: dict[str, Any] = {"name": call.name, "args": _arguments(call.arguments)}
        if strict:
            called["id"] = f"{serial}{place:02x}"
        part: dict[str, Any] = {"functionCall": called}
        if (strict or said.thinking) and place == 0:
            part["thoughtSignature"] = seal("gemini", call.name)
        turns.append((part, count(call.name) + count(call.arguments)))
    return turns


def _arguments(text: str) -> Any:
    """A call that was cut at the limit has no arguments that could be shown."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}


def _candidate(index: int, parts: list[dict[str, Any]], ended: Speech | None, knobs: Knobs) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": index}
    if ended is None:
        return candidate
    candidate["finishReason"] = STOPS[ended.finish]
    if ended.finish == "content_filter":
        candidate["safetyRatings"] = _ratings()
    if knobs.citations and ended.text:
        candidate["groundingMetadata"] = {
            "webSearchQueries": ["the old cat"],
            "groundingChunks": [{"web": {"uri": "https://example.com/cat", "title": "example.com"}}],
            "groundingSupports": [
                {
                    "segment": {"startIndex": 0, "endIndex": len(ended.text[:20]), "text": ended.text[:20]},
                    "groundingChunkIndices": [0],
                }
            ],
        }
    return candidate


def _media(body: Body, candidate: dict[str, Any]) -> dict[str, Any]:
    """A picture or a sound where the request asks for one; it costs no tokens but the knobs' own."""
    wanted = (body.get("generationConfig") or {}).get("responseModalities") or ()
    parts = candidate["content"]["parts"]
    if "IMAGE" in wanted:
        parts = [*parts, {"inlineData": {"mimeType": "image/png", "data": PNG}}]
    if "AUDIO" in wanted:
        parts = [{"inlineData": {"mimeType": "audio/L16;codec=pcm;rate=24000", "data": silence(240)}}]
    candidate["content"]["parts"] = parts
    return candidate


def _ratings() -> list[dict[str, Any]]:
    return [
        {"category": f"HARM_CATEGORY_{name}", "probability": "HIGH" if place == 3 else "NEGLIGIBLE"}
        for place, name in enumerate(CATEGORIES)
    ]


def _blocked(
    frame: dict[str, Any], ident: str, counts: Tally, knobs: Knobs, asked: Plain, streamed: bool
) -> Answer:
    """The prompt itself is refused: no candidates, only why."""
    whole: dict[str, Any] = {"promptFeedback": {"blockReason": "SAFETY", "safetyRatings": _ratings()}}
    usage = None
    if not knobs.no_usage:
        usage = _json(usage_of(counts, knobs))
        whole["usageMetadata"] = msgspec.Raw(usage)
    body = _json({**whole, **frame})
    if not streamed:
        return billed(Answer(ident, [body], usage=usage), counts)
    track = Track(ident, knobs)
    track.add(body, 0, usage)
    return billed(_framed(track, asked, knobs, 0), counts)


def usage_of(counts: Tally, knobs: Knobs, so_far: int | None = None) -> dict[str, Any] | None:
    """``so_far``: candidate tokens of a running chunk. Candidates exclude thoughts; the prompt includes what was
    cached."""
    if knobs.usage == "null":
        return None
    candidates = counts.output - counts.reasoning if so_far is None else so_far
    usage: dict[str, Any] = {
        "promptTokenCount": counts.prompt,
        "candidatesTokenCount": candidates,
        "totalTokenCount": counts.prompt + candidates + counts.reasoning,
    }
    if knobs.usage == "bare":
        return usage
    usage["promptTokensDetails"] = _modalities(counts.prompt, counts.audio_in)
    if counts.read:
        usage["cachedContentTokenCount"] = counts.read
        usage["cacheTokensDetails"] = _modalities(counts.read, 0)
    if counts.reasoning:
        usage["thoughtsTokenCount"] = counts.reasoning
    if counts.audio_out and so_far is None:
        usage["candidatesTokensDetails"] = _modalities(candidates, counts.audio_out)
    return usage


def _modalities(tokens: int, audio: int) -> list[dict[str, Any]]:
    shown = [{"modality": "TEXT", "tokenCount": tokens - audio}]
    return [*shown, {"modality": "AUDIO", "tokenCount": audio}] if audio else shown


GENERATE = Endpoint("generate_content", read, generate)
STREAM = Endpoint("generate_content", read, stream)
COUNT_TOKENS = Endpoint("count_tokens", read_count, count_tokens)
