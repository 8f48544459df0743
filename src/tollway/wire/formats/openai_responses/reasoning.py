"""Proof of reasoning that this API has no field for, carried through its clients and back.

Clients hand reasoning items back unread. What another provider wants to see again (a thinking block's signature, the
thought signature of a tool call) travels in ``encrypted_content``, marked as ours, and is unpacked when it returns.
What carries no mark is the Responses API's own and is left alone.
"""

from __future__ import annotations

import base64
import binascii

import msgspec
from msgspec import Struct

from tollway.wire.conversation import Thinking
from tollway.wire.formats.openai_responses.shapes import FAMILY, encode

_MARK = "tollway.1."


class Sealed(Struct, omit_defaults=True):
    """What is packed. ``call`` names the tool call that ``signature`` belongs to; ``text`` is the thought where the
    item shows it in a place that clients do not hand back."""

    format: str = ""
    signature: str | None = None
    redacted: str | None = None
    text: str | None = None
    summary: bool = False
    call: str | None = None


_decode = msgspec.json.Decoder(Sealed).decode


def seal(sealed: Sealed) -> str:
    return _MARK + base64.urlsafe_b64encode(encode(sealed)).decode()


def unseal(encrypted: str) -> Sealed | None:
    """What ``seal`` packed; None where it was damaged on its way."""
    try:
        return _decode(base64.urlsafe_b64decode(encrypted[len(_MARK) :]))
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError):
        return None


def proof(block: Thinking, *, shown_as_summary: bool) -> str | None:
    """The ``encrypted_content`` of a reasoning item that tells ``block``. Text that nobody signed is marked as well:
    the API would look for an item it has never made, and by the mark we know it when it returns."""
    unsigned = block.signature is None and block.redacted is None
    if unsigned and not block.text:
        return None
    if not unsigned and block.format == FAMILY:
        return block.redacted or block.signature
    text = None if shown_as_summary or unsigned else block.text or None
    return seal(
        Sealed(
            format=block.format,
            signature=block.signature,
            redacted=block.redacted,
            text=text,
            summary=block.summary,
        )
    )


def thinking(summary: str, content: str, encrypted: str | None, item_id: str | None) -> list[Thinking]:
    """The blocks of a reasoning item as it stands: one for its summary, one for its content, one where it has neither.
    What proves the reasoning stands with the last."""
    blocks: list[Thinking] = []
    if summary and content:
        blocks.append(Thinking(text=summary, summary=True, id=item_id, format=FAMILY))
    text = content or summary
    if text or encrypted or item_id:
        blocks.append(
            Thinking(
                text=text,
                signature=(encrypted or None) if text else None,
                redacted=None if text else encrypted or None,
                summary=bool(summary) and not content,
                id=item_id,
                format=FAMILY,
            )
        )
    return blocks


def unpacked(
    summary: str, content: str, encrypted: str | None, item_id: str | None
) -> list[Thinking] | Sealed:
    """The same for an item that a client hands back: what we sealed is open again. A Sealed is proof that belongs to a
    tool call."""
    if encrypted is None or not encrypted.startswith(_MARK):
        return thinking(summary, content, encrypted, item_id)
    sealed = unseal(encrypted)
    if sealed is None:
        return thinking(summary, content, None, None)
    if sealed.call is not None:
        return sealed
    return [
        Thinking(
            text=summary or sealed.text or content,
            signature=sealed.signature,
            redacted=sealed.redacted,
            summary=sealed.summary,
            format=sealed.format,
        )
    ]
