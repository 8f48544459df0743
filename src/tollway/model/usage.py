"""What a request consumed, in disjoint classes, so that no unit is ever priced twice."""

from __future__ import annotations

from msgspec import Struct


class Usage(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Units by class. Disjoint, save that ``reasoning`` is a part of ``output``.

    ``input`` excludes cached and audio tokens, ``output`` excludes audio tokens. Tokens unless the name says
    otherwise; ``characters`` of speech or text, ``seconds`` of audio, ``video_seconds`` of video, ``pages`` of
    documents, ``searches`` of the web or of documents, ``requests`` for services priced by the call.
    """

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0
    images: int = 0
    video_seconds: int = 0
    characters: int = 0
    seconds: int = 0
    pages: int = 0
    searches: int = 0
    requests: int = 0

    def prompt_tokens(self) -> int:
        """Every token that was read: the number context tiers look at."""
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h + self.audio_input

    def tokens(self) -> int:
        """Tokens read and written: the number token rate limits count."""
        return self.prompt_tokens() + self.output + self.audio_output


NOTHING = Usage()
