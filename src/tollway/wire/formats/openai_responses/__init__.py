"""OpenAI's Responses API: what Codex, the Agents SDK and ``client.responses`` speak, and some providers answer in."""

from __future__ import annotations

from tollway.wire.codec import Codec
from tollway.wire.formats.openai_errors import error_body
from tollway.wire.formats.openai_responses.read_answer import read_answer
from tollway.wire.formats.openai_responses.read_request import read_request
from tollway.wire.formats.openai_responses.read_stream import ResponseReader
from tollway.wire.formats.openai_responses.write_request import write_request
from tollway.wire.formats.openai_responses.write_stream import ResponseWriter, write_answer

CODEC = Codec(
    name="openai.responses",
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
    stream_reader=ResponseReader,
    stream_writer=ResponseWriter,
    write_error=error_body,
)
