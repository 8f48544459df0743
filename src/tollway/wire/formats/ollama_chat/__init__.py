"""Ollama's native ``/api/chat``: JSON whole, one JSON object a line in pieces; it streams unless told not to.

One text, one thought and a list of calls make a turn: blocks of the same kind flow together. Left out of answers
written in this dialect, which has no place for them: choices after the first, citations, images, audio, signatures
and other formats' opaque blocks.
"""

from __future__ import annotations

from tollway.wire.codec import Codec
from tollway.wire.formats.ollama_chat.answer import read_answer, write_answer, write_error
from tollway.wire.formats.ollama_chat.read_request import read_request
from tollway.wire.formats.ollama_chat.read_stream import Reader
from tollway.wire.formats.ollama_chat.shapes import CONTENT_TYPE
from tollway.wire.formats.ollama_chat.write_request import write_request
from tollway.wire.formats.ollama_chat.write_stream import Writer

CODEC = Codec(
    name="ollama.chat",
    content_type=CONTENT_TYPE,
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
    stream_reader=Reader,
    stream_writer=Writer,
    write_error=write_error,
)
