"""``anthropic.messages``: Anthropic's Messages API, as clients (Claude Code, the SDKs) and as providers speak it.

Signed thinking goes back to the API only when the API signed it; reasoning of other providers travels through clients
of this dialect sealed (``proof``). Of a call, ``caller`` and ``toolset_name`` are not kept: they serve the API alone,
and where it is on both sides the bytes are relayed and never come here. The same goes for ``container`` in answers,
``stop_details`` and the scaling of images. A system message behind other turns goes to the front unless the profile
says that the model takes it in its place.

Sources: the API reference, its guides (streaming, thinking, tool use, structured outputs, prompt caching, errors) and
the types of the official Python SDK.
"""

from __future__ import annotations

import msgspec

from tollway.wire.codec import Codec
from tollway.wire.formats.anthropic_messages.answer import read_answer, write_answer
from tollway.wire.formats.anthropic_messages.errors import write_error
from tollway.wire.formats.anthropic_messages.read_request import count_request, read_request
from tollway.wire.formats.anthropic_messages.read_stream import StreamReader
from tollway.wire.formats.anthropic_messages.write_request import write_request
from tollway.wire.formats.anthropic_messages.write_stream import StreamWriter

__all__ = ["CODEC", "count_answer", "count_request"]

CODEC = Codec(
    name="anthropic.messages",
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
    stream_reader=StreamReader,
    stream_writer=StreamWriter,
    write_error=write_error,
)


def count_answer(tokens: int) -> bytes:
    """The answer of ``/v1/messages/count_tokens``."""
    return msgspec.json.encode({"input_tokens": tokens})
