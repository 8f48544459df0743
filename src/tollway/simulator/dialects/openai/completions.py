"""``POST /v1/completions``: the older text_completion, whole and streamed, any number of prompts."""

from __future__ import annotations

import msgspec

from tollway.simulator.answer import Answer, Endpoint, Request, Stamp
from tollway.simulator.dialects.openai.chat import FINGERPRINT, NO_OPTIONS
from tollway.simulator.dialects.openai.errors import invalid
from tollway.simulator.dialects.openai.requests import CompletionRequest, cut_at_stop, decoded
from tollway.simulator.dialects.openai.said import default_text
from tollway.simulator.dialects.openai.stream import stream
from tollway.simulator.dialects.openai.usage import Counts, counts
from tollway.simulator.knobs import Knobs
from tollway.simulator.tokens import TOKEN, count, pieces

DEFAULT_LIMIT = 16
"""``max_tokens`` where the request names none, as documented."""

_decoder = msgspec.json.Decoder(CompletionRequest)
_json = msgspec.json.encode


def read(request: Request) -> CompletionRequest:
    return decoded(_decoder, request.body)


def answer(request: CompletionRequest, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    if request.stream_options is not None and not request.stream:
        raise invalid("'stream_options' needs 'stream' to be true.", "stream_options")
    prompts = prompts_of(request)
    texts: list[tuple[str, str]] = []
    generated = 0
    for position, (prompt, _) in enumerate(prompts):
        for number in range(request.n or 1):
            text, finish = _text(request, model, knobs, prompt, position * 128 + number)
            generated += count(text)
            texts.append((prompt + text if request.echo else text, finish))
    tally = counts(sum(tokens for _, tokens in prompts), 0, generated, knobs)
    frame = b'"object":"text_completion","created":%d,"model":%b,%b' % (
        stamp.created,
        _json(knobs.answer_model or model),
        FINGERPRINT,
    )
    ident = "cmpl-" + stamp.serial
    if request.stream:
        made = _stream(request, texts, knobs, ident, frame, tally)
    else:
        made = _whole(request, texts, knobs, ident, frame, tally)
    made.prompt_tokens = tally.prompt
    made.cached_tokens = tally.cached
    made.completion_tokens = tally.completion
    made.reasoning_tokens = tally.reasoning
    return made


def prompts_of(request: CompletionRequest) -> list[tuple[str, int]]:
    """Every prompt as text (token numbers are shown, not decoded) with its tokens."""
    given = request.prompt
    if given is None:
        return [("", 0)]
    if isinstance(given, str):
        return [(given, count(given))]
    if not given:
        raise invalid("'prompt' must not be an empty list.", "prompt", "empty_array")
    numbers = [one for one in given if isinstance(one, int)]
    if numbers:
        return [(" ".join(map(str, numbers)), len(numbers))]
    prompts: list[tuple[str, int]] = []
    for one in given:
        if isinstance(one, str):
            prompts.append((one, count(one)))
        elif isinstance(one, list):
            prompts.append((" ".join(map(str, one)), len(one)))
    return prompts


def _text(request: CompletionRequest, model: str, knobs: Knobs, prompt: str, index: int) -> tuple[str, str]:
    limit = DEFAULT_LIMIT if request.max_tokens is None else request.max_tokens
    limit = max(0, limit - knobs.reasoning)
    if knobs.text is not None:
        text = knobs.text
    elif knobs.echo:
        text = prompt
    else:
        wanted = knobs.tokens if knobs.tokens is not None else knobs.events or DEFAULT_LIMIT
        text = default_text(model, request.seed, index, wanted)
    before = cut_at_stop(text, request.stop)
    text = text if before is None else before
    finish = "stop"
    if count(text) > limit:
        text, finish = text[: limit * TOKEN], "length"
    return text, knobs.finish or finish


def _logprobs(request: CompletionRequest, text: str, offset: int = 0) -> dict[str, object] | None:
    if request.logprobs is None:
        return None
    tokens = pieces(text)
    own = [-0.25] * len(tokens)
    rivals = [
        {token: -0.25, **{f"{token}{place}": -0.25 - place for place in range(1, request.logprobs)}}
        for token in tokens
    ]
    return {
        "tokens": tokens,
        "token_logprobs": own,
        "top_logprobs": rivals if request.logprobs else None,
        "text_offset": [offset + place * TOKEN for place in range(len(tokens))],
    }


def _choice(text: str, index: int, logprobs: object, finish: str | None) -> bytes:
    return _json({"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish})


def _whole(
    request: CompletionRequest,
    texts: list[tuple[str, str]],
    knobs: Knobs,
    ident: str,
    frame: bytes,
    tally: Counts,
) -> Answer:
    usage = None if knobs.no_usage else tally.usage(knobs.usage)
    choices = b",".join(
        _choice(text, index, _logprobs(request, text), finish) for index, (text, finish) in enumerate(texts)
    )
    ending = b"" if usage is None else b',"usage":' + usage
    body = b'{"id":"%b",%b,"choices":[%b]%b}' % (ident.encode(), frame, choices, ending)
    return Answer(ident, [body], usage=usage)


def _stream(
    request: CompletionRequest,
    texts: list[tuple[str, str]],
    knobs: Knobs,
    ident: str,
    frame: bytes,
    tally: Counts,
) -> Answer:
    options = request.stream_options or NO_OPTIONS
    every = not knobs.no_usage and (knobs.usage_every or bool(options.continuous_usage_stats))
    head = b'data: {"id":"%b",%b,"choices":[' % (ident.encode(), frame)
    tail = b'],"usage":null}\n\n' if options.include_usage else b"]}\n\n"
    fragments: list[tuple[bytes, int]] = []
    for index, (text, finish) in enumerate(texts):
        offset = 0
        for piece in pieces(text, knobs.events):
            logprobs = _logprobs(request, piece, offset)
            fragments.append((_choice(piece, index, logprobs, None), count(piece)))
            offset += len(piece)
        fragments.append((_choice("", index, None, finish), 0))
    tokens = [number for _, number in fragments]
    tokens[0] += tally.reasoning + tally.audio_out
    if request.echo:
        # The prompt's own pieces were not generated; the last event settles the difference.
        tokens[-1] += tally.completion - sum(tokens)
    events: list[bytes] = []
    so_far = 0
    for (fragment, _), number in zip(fragments, tokens, strict=True):
        so_far += number
        running = b'],"usage":' + _running(tally, so_far).usage(knobs.usage) + b"}\n\n" if every else tail
        events.append(head + fragment + running)
    usage, usage_at = None, 0
    if options.include_usage and not knobs.no_usage:
        usage, usage_at = tally.usage(knobs.usage), len(events)
        events.append(head + b'],"usage":' + usage + b"}\n\n")
    elif every:
        usage, usage_at = tally.usage(knobs.usage), len(events) - 1
    return stream(ident, events, tokens, usage, usage_at, knobs)


def _running(tally: Counts, completion: int) -> Counts:
    return Counts(tally.prompt, completion, tally.cached, tally.reasoning, tally.audio_in, tally.audio_out)


COMPLETIONS = Endpoint("completions", read, answer, repeatable=True)
