"""OpenAI's older Completions format: a text is gone on with. To and from the hub, whole and as a stream.

``best_of``, ``echo`` and ``logit_bias`` are carried as fields only this format knows. An answer holds text only: what
a model thought, called, drew or cited is left out of it.
"""

from __future__ import annotations

from tollway.wire.codec import Codec
from tollway.wire.formats.openai_completions.answer import read_answer, write_answer
from tollway.wire.formats.openai_completions.request import read_request, write_request
from tollway.wire.formats.openai_completions.stream import CompletionStreamReader, CompletionStreamWriter
from tollway.wire.formats.openai_errors import error_body

CODEC = Codec(
    name="openai.completions",
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
    stream_reader=CompletionStreamReader,
    stream_writer=CompletionStreamWriter,
    write_error=error_body,
)
