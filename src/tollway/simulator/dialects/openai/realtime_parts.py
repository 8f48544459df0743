"""Parts of a realtime session: a response under way, the pieces its content is told in, and what a conversation
weighs."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Struct

from tollway.simulator.knobs import Knobs
from tollway.simulator.media import silence
from tollway.simulator.reading import AUDIO_CHARACTERS, IMAGE_TOKENS, Body, weight
from tollway.simulator.tally import Tally
from tollway.simulator.tokens import MESSAGE_OVERHEAD, REPLY_OVERHEAD, count, pieces

SAMPLES = 1200
"""Of one token of speech, at 24 kHz."""


class Served(Struct):
    """One response for the bill. ``usage`` is None where it never reached the client."""

    id: str
    complete: bool
    events: int
    usage: bytes | None
    counts: Tally


class Running:
    """A response under way: what of it has been told."""

    def __init__(self, ident: str, counts: Tally) -> None:
        self.id = ident
        self.counts = counts
        self.events = 0
        self.tokens = 0

    def tell(self, tokens: int) -> None:
        self.events += 1
        self.tokens += tokens

    def so_far(self) -> Tally:
        spoken = min(self.counts.audio_out, self.tokens)
        return msgspec.structs.replace(self.counts, output=self.tokens, audio_out=spoken)

    def broken(self) -> Served:
        return Served(self.id, False, self.events, None, self.so_far())


def tell_content(add: Callable[..., None], part: Body, where: Body, knobs: Knobs) -> None:
    here = {**where, "content_index": 0}
    text: str = part["text"] if "text" in part else part["transcript"]
    aloud = "transcript" in part
    add("response.content_part.added", **here, part={**part, "transcript" if aloud else "text": ""})
    for piece in pieces(text, knobs.events):
        if aloud:
            add("response.output_audio_transcript.delta", **here, delta=piece)
            add("response.output_audio.delta", count(piece), **here, delta=silence(SAMPLES * count(piece)))
        else:
            add("response.output_text.delta", count(piece), **here, delta=piece)
    if aloud:
        add("response.output_audio.done", **here)
        add("response.output_audio_transcript.done", **here, transcript=text)
    else:
        add("response.output_text.done", **here, text=text)
    add("response.content_part.done", **here, part=part)


def text_of(item: Body) -> str:
    return "".join(part.get("text") or part.get("transcript") or "" for part in item.get("content") or ())


def prompt_tokens(asked: Body, items: list[Body]) -> tuple[int, int]:
    """Tokens of the conversation, and how many of them are audio."""
    tokens = REPLY_OVERHEAD + weight(asked.get("instructions")) + weight(asked.get("tools"))
    audio = 0
    for item in items:
        tokens += MESSAGE_OVERHEAD + weight(item.get("arguments")) + weight(item.get("output"))
        tokens += count(item.get("name", ""))
        for part in item.get("content") or ():
            if part.get("type") == "input_image":
                tokens += IMAGE_TOKENS
            elif part.get("type") == "input_audio":
                audio += -(-(part.get("heard") or len(part.get("audio") or "")) // AUDIO_CHARACTERS)
            else:
                tokens += count(part.get("text") or part.get("transcript") or "")
    return tokens + audio, audio
