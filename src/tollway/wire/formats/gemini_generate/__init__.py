"""Google's generateContent (Gemini API and Vertex AI): requests, answers, streams, and the small calls beside them.

Here stand the names others use; the work is in the modules of this package.
"""

from __future__ import annotations

from tollway.wire.codec import Codec
from tollway.wire.formats.gemini_generate.counting import count_request, write_count
from tollway.wire.formats.gemini_generate.embed import (
    read_embed,
    read_embed_answer,
    write_embed,
    write_embed_request,
)
from tollway.wire.formats.gemini_generate.errors import write_error
from tollway.wire.formats.gemini_generate.listing import write_model, write_models
from tollway.wire.formats.gemini_generate.read_answer import read_answer
from tollway.wire.formats.gemini_generate.read_request import read_request
from tollway.wire.formats.gemini_generate.read_stream import Reader
from tollway.wire.formats.gemini_generate.shapes import NAME
from tollway.wire.formats.gemini_generate.write_answer import write_answer
from tollway.wire.formats.gemini_generate.write_request import write_request
from tollway.wire.formats.gemini_generate.write_stream import array_writer, stream_writer

CODEC = Codec(
    name=NAME,
    content_type=b"text/event-stream",
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
    stream_reader=Reader,
    stream_writer=stream_writer,
    write_error=write_error,
)

__all__ = [
    "CODEC",
    "array_writer",
    "count_request",
    "read_embed",
    "read_embed_answer",
    "write_count",
    "write_embed",
    "write_embed_request",
    "write_model",
    "write_models",
]
