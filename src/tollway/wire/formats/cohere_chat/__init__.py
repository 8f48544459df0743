"""Cohere's ``/v2/chat``: JSON whole, server-sent events in pieces.

A tool plan, which Cohere keeps beside the content, is a thought with the id ``tool_plan``. Left out where the format
has no place for them: on reading, citations of thoughts and plans; in answers written in this dialect, choices after
the first, redacted thoughts, images, audio and other formats' opaque blocks.
"""

from __future__ import annotations

from tollway.wire.codec import Codec
from tollway.wire.formats.cohere_chat.answer import read_answer, write_answer, write_error
from tollway.wire.formats.cohere_chat.read_request import read_request
from tollway.wire.formats.cohere_chat.read_stream import Reader
from tollway.wire.formats.cohere_chat.write_request import write_request
from tollway.wire.formats.cohere_chat.write_stream import Writer

CODEC = Codec(
    name="cohere.chat",
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
    stream_reader=Reader,
    stream_writer=Writer,
    write_error=write_error,
)
