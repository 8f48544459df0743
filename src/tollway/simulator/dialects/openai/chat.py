"""``POST /v1/chat/completions``: chat.completion whole, chat.completion.chunk streamed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import zip_longest
from zlib import crc32

import msgspec

from tollway.simulator.answer import Answer, Endpoint, Request, Stamp
from tollway.simulator.dialects.openai.errors import check_user, invalid
from tollway.simulator.dialects.openai.requests import ChatRequest, StreamOptions, decoded
from tollway.simulator.dialects.openai.said import Said, prompt_tokens, say
from tollway.simulator.dialects.openai.stream import stream
from tollway.simulator.dialects.openai.usage import Counts, counts
from tollway.simulator.knobs import Knobs
from tollway.simulator.tokens import count, pieces

FINGERPRINT = b'"system_fingerprint":"fp_70117a1"'
"""One simulator, one backend configuration."""

_decoder = msgspec.json.Decoder(ChatRequest)
_json = msgspec.json.encode

NO_OPTIONS = StreamOptions()


def read(request: Request) -> ChatRequest:
    asked = decoded(_decoder, request.body)
    check_user(asked.user)
    return asked


def answer(request: ChatRequest, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    prompt, audio = prompt_tokens(request)
    if request.top_logprobs is not None and not request.logprobs:
        raise invalid("'top_logprobs' needs 'logprobs' to be true.", "top_logprobs")
    if request.stream_options is not None and not request.stream:
        raise invalid("'stream_options' needs 'stream' to be true.", "stream_options")
    said = [say(request, model, knobs, stamp.serial, index) for index in range(request.n or 1)]
    tally = counts(prompt, audio, sum(choice.tokens for choice in said), knobs)
    frame = _frame(stamp.created, knobs.answer_model or model, request.service_tier)
    ident = "chatcmpl-" + stamp.serial
    if request.stream:
        made = _stream(request, said, knobs, ident, frame, tally)
    else:
        made = _whole(request, said, knobs, ident, frame, tally)
    made.prompt_tokens = tally.prompt
    made.cached_tokens = tally.cached
    made.completion_tokens = tally.completion
    made.reasoning_tokens = tally.reasoning
    if tally.audio_in or tally.audio_out:
        made.units = {"audio_input": tally.audio_in, "audio_output": tally.audio_out}
    return made


# A second has many answers: what they share is made once.
@lru_cache(maxsize=256)
def _frame(created: int, model: str, tier: str | None) -> bytes:
    served = tier if tier in ("flex", "priority", "scale") else "default"
    return b'"created":%d,"model":%b,"service_tier":%b,%b' % (
        created,
        _json(model),
        _json(served),
        FINGERPRINT,
    )


def _whole(
    request: ChatRequest, said: list[Said], knobs: Knobs, ident: str, frame: bytes, tally: Counts
) -> Answer:
    usage = None if knobs.no_usage else tally.usage(knobs.usage)
    choices = b",".join(_choice(request, choice, index) for index, choice in enumerate(said))
    body = b'{"id":"%b","object":"chat.completion",%b,"choices":[%b]%b}' % (
        ident.encode(),
        frame,
        choices,
        b"" if usage is None else b',"usage":' + usage,
    )
    return Answer(ident, [body], usage=usage)


def _choice(request: ChatRequest, said: Said, index: int) -> bytes:
    content = said.content
    if content is not None and not request.logprobs and len(content) <= 4096:
        return _text_choice(index, content, said.finish)
    message: dict[str, object] = {"role": "assistant", "content": content, "refusal": said.refusal}
    if said.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in said.calls
        ]
    message["annotations"] = []
    return _json(
        {
            "index": index,
            "message": message,
            "logprobs": _logprobs(request, content, said.refusal),
            "finish_reason": said.finish,
        }
    )


@lru_cache(maxsize=2048)
def _text_choice(index: int, content: str, finish: str) -> bytes:
    return (
        b'{"index":%d,"message":{"role":"assistant","content":%b,"refusal":null,"annotations":[]},'
        b'"logprobs":null,"finish_reason":"%b"}'
    ) % (index, _json(content), finish.encode())


def _stream(
    request: ChatRequest, said: list[Said], knobs: Knobs, ident: str, frame: bytes, tally: Counts
) -> Answer:
    options = request.stream_options or NO_OPTIONS
    every = not knobs.no_usage and (knobs.usage_every or bool(options.continuous_usage_stats))
    with_usage = bool(options.include_usage) and not knobs.no_usage
    head = b'data: {"id":"%b","object":"chat.completion.chunk",%b,"choices":[' % (ident.encode(), frame)
    tail = b'],"usage":null}\n\n' if options.include_usage else b"]}\n\n"
    padded = knobs.obfuscation and options.include_obfuscation is not False
    lanes = [list(_deltas(request, choice, index, knobs)) for index, choice in enumerate(said)]
    turns = lanes[0] if len(lanes) == 1 else [part for turn in zip_longest(*lanes) for part in turn if part]
    events = [head + delta + tail for delta, _ in turns]
    tokens = [number for _, number in turns]
    # Reasoning and audio happened before the first visible word: they are billed with it.
    tokens[0] += tally.reasoning + tally.audio_out
    if every:
        events = _with_running_usage(head, turns, tokens, tally, knobs.usage)
    if padded:
        events = [_padded(event) for event in events]
    usage = None
    usage_at = 0
    if with_usage:
        usage, usage_at = tally.usage(knobs.usage), len(events)
        events.append(head + b'],"usage":' + usage + b"}\n\n")
    elif every:
        usage, usage_at = tally.usage(knobs.usage), len(events) - 1
    return stream(ident, events, tokens, usage, usage_at, knobs)


def _with_running_usage(
    head: bytes, turns: list[tuple[bytes, int]], tokens: list[int], tally: Counts, shape: str
) -> list[bytes]:
    events: list[bytes] = []
    so_far = 0
    for (delta, _), number in zip(turns, tokens, strict=True):
        so_far += number
        running = Counts(
            tally.prompt, so_far, tally.cached, tally.reasoning, tally.audio_in, tally.audio_out
        ).usage(shape)
        events.append(head + delta + b'],"usage":' + running + b"}\n\n")
    return events


def _padded(event: bytes) -> bytes:
    """Obfuscation: padding of a length that does not follow the text's."""
    length = crc32(event) % 16 + 1
    return event[:-3] + b',"obfuscation":"%b"}\n\n' % (b"x" * length)


def _deltas(request: ChatRequest, said: Said, index: int, knobs: Knobs) -> Iterator[tuple[bytes, int]]:
    """One choice's fragments and the tokens that each of them finishes."""
    content = '""' if said.content is not None else "null"
    yield _delta(index, f'{{"role":"assistant","content":{content},"refusal":null}}'.encode()), 0
    parts = knobs.events
    if said.content is not None:
        if not request.logprobs:
            for piece in pieces(said.content, parts):
                yield _content_delta(index, piece), count(piece)
        else:
            for piece in pieces(said.content, parts):
                logprobs = _json(_logprobs(request, piece, None))
                yield _delta(index, b'{"content":%b}' % _json(piece), logprobs), count(piece)
    elif said.refusal is not None:
        for piece in pieces(said.refusal, parts):
            logprobs = _json(_logprobs(request, None, piece))
            yield _delta(index, b'{"refusal":%b}' % _json(piece), logprobs), count(piece)
    for number, call in enumerate(said.calls):
        opened = (
            b'{"tool_calls":[{"index":%d,"id":%b,"type":"function","function":{"name":%b,"arguments":""}}]}'
        )
        yield _delta(index, opened % (number, _json(call.id), _json(call.name))), count(call.name)
        for piece in pieces(call.arguments, parts):
            more = b'{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}' % (number, _json(piece))
            yield _delta(index, more), count(piece)
    yield _delta(index, b"{}", finish=said.finish.encode()), 0


def _delta(index: int, delta: bytes, logprobs: bytes = b"null", finish: bytes = b"") -> bytes:
    reason = b'"%b"' % finish if finish else b"null"
    return b'{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}' % (index, delta, logprobs, reason)


@lru_cache(maxsize=8192)
def _content_delta(index: int, piece: str) -> bytes:
    return _delta(index, b'{"content":%b}' % _json(piece))


def _logprobs(request: ChatRequest, content: str | None, refusal: str | None) -> dict[str, object] | None:
    if not request.logprobs:
        return None
    top = request.top_logprobs or 0
    return {
        "content": None if content is None else [_logprob(piece, top) for piece in pieces(content)],
        "refusal": None if refusal is None else [_logprob(piece, top) for piece in pieces(refusal)],
    }


def _logprob(token: str, top: int) -> dict[str, object]:
    """Made-up but steady: the token's own logprob first, its rivals one nat apart."""
    own = -(crc32(token.encode()) % 1000) / 1000
    said = {"token": token, "bytes": list(token.encode()), "logprob": own}
    rivals = [
        {"token": f"{token}{place}", "bytes": list(f"{token}{place}".encode()), "logprob": own - place}
        for place in range(1, top)
    ]
    return {**said, "top_logprobs": [said, *rivals] if top else []}


CHAT = Endpoint("chat.completions", read, answer, repeatable=True)
