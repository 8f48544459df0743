"""What one answer counts, in classes that do not overlap, for every dialect but OpenAI's chat, which has its own.

A dialect says how many tokens the prompt and the answer have; the knobs say which of them were cached or audio.
"""

from __future__ import annotations

from msgspec import Struct

from tollway.simulator.answer import Answer
from tollway.simulator.knobs import Knobs


class Tally(Struct, gc=False):
    """``fresh``, ``read``, ``write_5m``, ``write_1h`` and ``audio_in`` add up to the prompt. ``output`` includes
    ``reasoning`` and ``audio_out``."""

    fresh: int
    output: int
    read: int = 0
    write_5m: int = 0
    write_1h: int = 0
    reasoning: int = 0
    audio_in: int = 0
    audio_out: int = 0

    @property
    def prompt(self) -> int:
        return self.fresh + self.read + self.write_5m + self.write_1h + self.audio_in

    @property
    def total(self) -> int:
        return self.prompt + self.output


def tally(prompt: int, output: int, reasoning: int, knobs: Knobs, audio: int = 0) -> Tally:
    """``prompt`` includes ``audio`` tokens of the request, ``output`` the ``reasoning``. Knobs pin or add."""
    audio_in = audio + knobs.audio_in
    prompt += knobs.audio_in
    if knobs.prompt_tokens is not None:
        prompt = knobs.prompt_tokens
        audio_in = min(audio_in, prompt)
    left = prompt - audio_in
    parts: list[int] = []
    for given in (knobs.cached, knobs.cache_write, knobs.cache_write_1h):
        part = min(share(given, prompt), left)
        left -= part
        parts.append(part)
    read, write_5m, write_1h = parts
    out = output + knobs.audio_out
    return Tally(left, out, read, write_5m, write_1h, reasoning, audio_in, knobs.audio_out)


def share(given: str | None, whole: int) -> int:
    """A number of tokens, or a percentage of ``whole``; None is nothing."""
    if given is None:
        return 0
    return int(whole * float(given[:-1]) / 100) if given.endswith("%") else int(given)


def billed(answer: Answer, counts: Tally) -> Answer:
    """The answer with its counts for the bill."""
    answer.prompt_tokens = counts.prompt
    answer.cached_tokens = counts.read
    answer.completion_tokens = counts.output
    answer.reasoning_tokens = counts.reasoning
    rarer = {
        "cache_write_5m": counts.write_5m,
        "cache_write_1h": counts.write_1h,
        "audio_input": counts.audio_in,
        "audio_output": counts.audio_out,
    }
    if any(rarer.values()):
        answer.units = {**(answer.units or {}), **{name: number for name, number in rarer.items() if number}}
    return answer
