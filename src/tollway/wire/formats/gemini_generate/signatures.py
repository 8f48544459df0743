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


_decode = msgspec.json.Decoder(_Sealed).decode
_encode = msgspec.json.Encoder().encode


def seal(thinking: Thinking) -> str | None:
    """The ``thoughtSignature`` to give a client for ``thinking``: base64, as the field demands. None when there is
    nothing that would have to come back."""
    if thinking.format == FAMILY:
        return thinking.signature
    if thinking.signature is None and thinking.redacted is None and thinking.id is None:
        return None
    sealed = _Sealed(thinking.format, thinking.signature, thinking.redacted, thinking.id, thinking.summary)
    return base64.b64encode(_MARK + _encode(sealed)).decode()


def unseal(text: str, signature: str | None) -> Thinking:
    """The thinking that a thought part means, another maker's where ``seal`` wrapped one."""
    if signature is not None and signature.startswith(_MARKED):
        try:
            sealed = _decode(base64.b64decode(signature)[len(_MARK) :])
        except (binascii.Error, msgspec.DecodeError):
            pass
        else:
            return Thinking(
                text=text,
                signature=sealed.signature,
                redacted=sealed.redacted,
                id=sealed.id,
                summary=sealed.summary,
                format=sealed.format,
            )
    return Thinking(text=text, signature=signature, summary=True, format=FAMILY)
