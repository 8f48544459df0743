"""Reasoning of other providers in the one place the API has for opaque proof, and out of it again.

Clients of this dialect send thinking blocks back as they got them. So the signature, the encrypted content and the
item id of another provider's reasoning travel as the ``signature`` of a thinking block (or as the ``data`` of a
redacted one), and a call's own signature as a redacted block in front of it. Only we read them: to the API itself
they mean nothing, and ``write_request`` leaves them out.
"""

from __future__ import annotations

import base64
import binascii

import msgspec

from tollway.wire.conversation import Thinking

FAMILY = "anthropic"
_REASONING = "tollway-reasoning."
_CALL = "tollway-call."

_encode = msgspec.json.Encoder().encode
_decode_reasoning = msgspec.json.Decoder(tuple[str, str | None, str | None, str | None, bool]).decode
_decode_call = msgspec.json.Decoder(tuple[str, str]).decode


def seal(block: Thinking) -> str:
    """All of ``block`` but its text, as one opaque word; empty when there is nothing to keep. Text without proof is
    marked as well: the API refuses a history with thinking that it has not signed, and by the mark we know it."""
    if not (block.signature or block.redacted or block.id or block.text):
        return ""
    return _pack(_REASONING, (block.format, block.signature, block.redacted, block.id, block.summary))


def unseal(proof: str, text: str = "") -> Thinking | None:
    """The block that ``seal`` made ``proof`` of; None when it is not of ours."""
    if not proof.startswith(_REASONING):
        return None
    try:
        name, signature, redacted, item, summary = _decode_reasoning(_unpack(_REASONING, proof))
    except (msgspec.DecodeError, binascii.Error, ValueError):
        return None
    return Thinking(text=text, signature=signature, redacted=redacted, id=item, summary=summary, format=name)


def seal_call(call_id: str, signature: str) -> str:
    """A tool call's signature with the call it belongs to."""
    return _pack(_CALL, (call_id, signature))


def unseal_call(proof: str) -> tuple[str, str] | None:
    """Call id and signature; None when it is not of ours."""
    if not proof.startswith(_CALL):
        return None
    try:
        return _decode_call(_unpack(_CALL, proof))
    except (msgspec.DecodeError, binascii.Error, ValueError):
        return None


def _pack(prefix: str, value: tuple[object, ...]) -> str:
    return prefix + base64.urlsafe_b64encode(_encode(value)).decode()


def _unpack(prefix: str, proof: str) -> bytes:
    return base64.urlsafe_b64decode(proof[len(prefix) :].encode())
