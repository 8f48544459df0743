"""OpenAI's usage object, from the request's numbers and the knobs."""

from __future__ import annotations

from functools import lru_cache

from msgspec import Struct

from tollway.simulator.knobs import Knobs


class Counts(Struct, gc=False):
    """Tokens of one answer. Cached and audio are parts of the prompt, reasoning and audio of the
    completion."""

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0
    audio_in: int = 0
    audio_out: int = 0

    def usage(self, shape: str) -> bytes:
        return usage_json(
            shape, self.prompt, self.completion, self.cached, self.reasoning, self.audio_in, self.audio_out
        )


def counts(prompt: int, audio: int, completion: int, knobs: Knobs) -> Counts:
    """``prompt`` includes ``audio`` tokens found in the request; knobs pin or add what they name."""
    audio_in = audio + knobs.audio_in
    prompt += knobs.audio_in
    if knobs.prompt_tokens is not None:
        prompt = knobs.prompt_tokens
        audio_in = min(audio_in, prompt)
    cached = 0
    if knobs.cached is not None:
        given = knobs.cached
        cached = int(prompt * float(given[:-1]) / 100) if given.endswith("%") else int(given)
        cached = min(cached, prompt - audio_in)
    completion += knobs.reasoning + knobs.audio_out
    return Counts(prompt, completion, cached, knobs.reasoning, audio_in, knobs.audio_out)


# Equal usage is one bytes object: a bill of many lines stays small.
@lru_cache(maxsize=4096)
def usage_json(
    shape: str, prompt: int, completion: int, cached: int, reasoning: int, audio_in: int, audio_out: int
) -> bytes:
    if shape == "null":
        return b"null"
    sums = b'"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d' % (
        prompt,
        completion,
        prompt + completion,
    )
    if shape == "bare":
        return b"{" + sums + b"}"
    return (
        b'{%b,"prompt_tokens_details":{"cached_tokens":%d,"audio_tokens":%d},"completion_tokens_details":'
        b'{"reasoning_tokens":%d,"audio_tokens":%d,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}'
    ) % (sums, cached, audio_in, reasoning, audio_out)
