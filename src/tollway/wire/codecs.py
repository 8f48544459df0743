"""The list of wire formats. Each is imported when it is first spoken: a gateway that only relays needs none."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Final

from tollway.wire.codec import Codec

FORMATS: Final = {
    "openai.chat": "openai_chat",
    "openai.responses": "openai_responses",
    "openai.completions": "openai_completions",
    "anthropic.messages": "anthropic_messages",
    "gemini.generate": "gemini_generate",
    "bedrock.converse": "bedrock_converse",
    "cohere.chat": "cohere_chat",
    "ollama.chat": "ollama_chat",
}
"""Names to modules of ``wire/formats``."""

SEALS: Final = (b"tollway.1.", b"dHcxO", b"tollway-reasoning.", b"tollway-call.")
"""What a client's history holds where another provider's signatures travel in it: ours to open, nobody else's to read.
The second is base64 of the first letters of a wrapped signature."""


@cache
def codec(name: str) -> Codec:
    """The codec of a format. KeyError for a name that is none."""
    found: Codec = import_module(f"tollway.wire.formats.{FORMATS[name]}").CODEC
    return found
