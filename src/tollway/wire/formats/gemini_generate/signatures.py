"""Thought signatures: Gemini's own are passed on as they are, other makers' are wrapped so that they survive a client
of this format, and calls without one get the value Google documents for them.
"""

from __future__ import annotations

import base64
import binascii

import msgspec
from msgspec import Struct

from tollway.wire.conversation import Thinking
from tollway.wire.formats.gemini_generate.shapes import FAMILY

FOREIGN_CALL = "skip_thought_signature_validator"
"""What Gemini 3 takes on the first function call of a step that it did not make itself (documented for the Gemini API
and for Vertex AI); without any signature it answers 400."""

_MARK = b"tw1:"
_MARKED = base64.b64encode(_MARK)[:5].decode()  # the fifth letter still depends on the mark alone


class _Sealed(Struct, omit_defaults=True):
    format: str
    signature: str | None = None
    redacted: str | None = None
    id: str | None = None
    summary: bool = False
    ends: bool = False


_decode = msgspec.json.Decoder(_Sealed).decode
_encode = msgspec.json.Encoder().encode


def seal(thinking: Thinking, *, ends: bool = False) -> str | None:
    """The ``thoughtSignature`` to give a client for ``thinking``: base64, as the field demands.

    Another maker's names the maker too, so that what comes back is its thinking again. In a stream the first part of
    such a thought says whose it is, and one that ``ends`` it brings the signature.
    """
    if thinking.format in (FAMILY, ""):
        return thinking.signature if thinking.format else None
    sealed = _Sealed(
        thinking.format, thinking.signature, thinking.redacted, thinking.id, thinking.summary, ends
    )
    return base64.b64encode(_MARK + _encode(sealed)).decode()


def unseal(text: str, signature: str | None) -> tuple[Thinking, bool]:
    """The thinking that a thought part means, another maker's where ``seal`` wrapped one, and whether it ends the
    thinking before it."""
    if signature is not None and signature.startswith(_MARKED):
        try:
            sealed = _decode(base64.b64decode(signature)[len(_MARK) :])
        except (binascii.Error, msgspec.DecodeError):
            pass
        else:
            thinking = Thinking(
                text=text,
                signature=sealed.signature,
                redacted=sealed.redacted,
                id=sealed.id,
                summary=sealed.summary,
                format=sealed.format,
            )
            return thinking, sealed.ends
    return Thinking(text=text, signature=signature, summary=True, format=FAMILY), False


def continues(before: Thinking, more: Thinking, ends: bool) -> bool:
    """Whether ``more`` is a later piece of ``before``, which another maker thought and a stream told in pieces."""
    if before.format == FAMILY or before.signature is not None or before.redacted is not None:
        return False
    if ends:
        return more.format == before.format
    return more.format == FAMILY and more.signature is None
