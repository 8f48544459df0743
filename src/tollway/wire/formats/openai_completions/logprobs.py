"""Log probabilities of the Completions format (parallel lists) into those of the chat format, and back.

The bytes of a token are known to the chat format only, and its place in the text to this one only: the place is
counted from the tokens.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from tollway.wire.formats.openai_completions.shapes import (
    ChatLogprobs,
    Logprobs,
    TokenLogprob,
    TopLogprob,
)

_decode = msgspec.json.Decoder(ChatLogprobs).decode
_encode = msgspec.json.Encoder().encode


def to_chat(found: Logprobs | None) -> Raw:
    """Empty where none were given."""
    if found is None or not found.tokens:
        return Raw()
    values = found.token_logprobs or []
    tops = found.top_logprobs or []
    content = []
    for place, token in enumerate(found.tokens):
        top = tops[place] if place < len(tops) else None
        content.append(
            TokenLogprob(
                token=token,
                logprob=values[place] if place < len(values) else None,
                top_logprobs=[TopLogprob(token=name, logprob=value) for name, value in (top or {}).items()],
            )
        )
    return Raw(_encode({"content": content, "refusal": None}))


def from_chat(raw: Raw, offset: int) -> Logprobs | None:
    """``offset`` is where the first token stands in the text."""
    if bytes(raw) in (b"", b"null"):
        return None
    try:
        content = _decode(raw).content
    except (msgspec.DecodeError, RecursionError):
        return None
    if not content:
        return None
    offsets = []
    for entry in content:
        offsets.append(offset)
        offset += len(entry.token)
    return Logprobs(
        tokens=[entry.token for entry in content],
        token_logprobs=[entry.logprob for entry in content],
        top_logprobs=[{top.token: top.logprob for top in entry.top_logprobs} for entry in content],
        text_offset=offsets,
    )
