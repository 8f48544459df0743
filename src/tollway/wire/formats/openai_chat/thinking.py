"""Reasoning that carries a proof, as entries of ``thinking_blocks``: the de-facto place for it in this format.

Plain reasoning is text in ``reasoning_content``; a client that sends these entries back with it lets the provider
that signed them check them. The ``format`` of an entry is left out where it is Anthropic's, whose shape they have.
"""

from __future__ import annotations

from tollway.wire.conversation import Thinking
from tollway.wire.formats.openai_chat.shapes import Wire


def thinking_block(block: Thinking) -> Wire:
    wire: Wire = {"type": "thinking", "thinking": block.text}
    if block.redacted and not block.text:
        wire = {"type": "redacted_thinking"}
    if block.redacted:
        wire["data"] = block.redacted
    if block.signature:
        wire["signature"] = block.signature
    if block.format != "anthropic":
        wire["format"] = block.format
    if block.id:
        wire["id"] = block.id
    if block.summary:
        wire["summary"] = True
    return wire
