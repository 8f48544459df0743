"""Names this API knows and the hub does not: item ids, and functions inside a namespace.

Ids are made from the answer's own id, so that a stream and its whole form agree. A namespaced function gets one flat
name that other providers accept, and gets its two names back when the model calls it.
"""

from __future__ import annotations

import hashlib
import re

import msgspec

from tollway.wire.conversation import Conversation
from tollway.wire.formats.openai_responses.shapes import FAMILY, Namespace

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_PREFIXES = ("resp_", "chatcmpl-", "msg_")
_LONGEST_CORE = 48
_LONGEST_NAME = 64
NAMESPACES = "namespaces"
"""The Extra in which a conversation keeps the namespaces of its tools."""

_decode_namespaces = msgspec.json.Decoder(list[Namespace]).decode


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def response_id(answer_id: str) -> str:
    """An answer's id as this API writes it; its own ids stay as they are."""
    return answer_id if answer_id.startswith("resp_") else "resp_" + _core(answer_id)


def item_id(prefix: str, answer_id: str, index: int) -> str:
    """The id of an output item: ``prefix`` is ``msg``, ``fc``, ``ctc``, ``rs`` or ``ig``."""
    return f"{prefix}_{_core(answer_id)}_{index}"


def _core(answer_id: str) -> str:
    """What ids are made of: the answer's id without its format's prefix where it can stand as it is, else a digest."""
    text = answer_id
    for prefix in _PREFIXES:
        text = text.removeprefix(prefix)
    if text and len(text) <= _LONGEST_CORE and not _UNSAFE.search(text):
        return text
    return _digest(answer_id)[:_LONGEST_CORE]


def flat_name(namespace: str | None, name: str) -> str:
    """One name for a function of a namespace, at most 64 characters."""
    if not namespace:
        return name
    joined = namespace + name if namespace.endswith("__") else f"{namespace}__{name}"
    if len(joined) <= _LONGEST_NAME:
        return joined
    return f"{joined[: _LONGEST_NAME - 9]}_{_digest(joined)[:8]}"


def namespaces(conversation: Conversation) -> list[Namespace]:
    for found in conversation.extra:
        if found.format == FAMILY and found.name == NAMESPACES:
            return _decode_namespaces(found.raw)
    return []


def by_flat_name(conversation: Conversation) -> dict[str, tuple[str, str]]:
    """Namespace and own name of every namespaced function, by its flat name."""
    return {
        flat: (space.name, name) for space in namespaces(conversation) for flat, name in space.tools.items()
    }
