"""Amazon Bedrock's Converse and ConverseStream: JSON whole, Amazon's binary event stream in pieces.

The model stands in the URL, and so does the wish to stream: the body has neither; a reader takes both from the
body's ``model`` and ``stream`` where a caller put them there. Answers name no id and no model. Left out of answers
written in this dialect: choices after the first, images by URL, audio, and other formats' opaque blocks, for which
Converse has no place.
"""

from __future__ import annotations

from tollway.wire import event_stream
from tollway.wire.codec import Codec
from tollway.wire.formats.bedrock_converse.errors import write_error
from tollway.wire.formats.bedrock_converse.read_answer import read_answer
from tollway.wire.formats.bedrock_converse.read_request import read_request
from tollway.wire.formats.bedrock_converse.read_stream import Reader
from tollway.wire.formats.bedrock_converse.write_answer import write_answer
from tollway.wire.formats.bedrock_converse.write_request import write_request
from tollway.wire.formats.bedrock_converse.write_stream import Writer

CODEC = Codec(
    name="bedrock.converse",
    content_type=event_stream.CONTENT_TYPE,
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
    stream_reader=Reader,
    stream_writer=Writer,
    write_error=write_error,
)
