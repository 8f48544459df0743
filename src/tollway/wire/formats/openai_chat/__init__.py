"""The Chat Completions format of OpenAI and of all who copied it: requests, answers and streams, to and from the hub.

De-facto places are used where the reference has none: thoughts are ``reasoning_content``, signed ones also
``thinking_blocks``, pictures a model made ``images``, a call's thought signature ``extra_content``. An answer cannot
say, and leaves out: what a server tool of another format did, citations that rest on no URL, documents and videos
made by a model, the stop sequence that matched, a text's signature.

A writer of requests adds ``stream_options.include_usage`` to every stream. Names of tools are not judged here:
OpenAI's limit (64 of letters, digits, ``_`` and ``-``) is not everybody's, and it says itself which name it refuses.
Arguments of earlier calls are written as the model wrote them, as the format holds them in a string; none are ``{}``.
Ids of calls longer than OpenAI's 40 characters are shortened alike in call and result.
"""

from __future__ import annotations

from tollway.wire.codec import Codec
from tollway.wire.formats.openai_chat.read_answer import read_answer
from tollway.wire.formats.openai_chat.read_request import read_request
from tollway.wire.formats.openai_chat.read_stream import ChatStreamReader
from tollway.wire.formats.openai_chat.write_answer import write_answer
from tollway.wire.formats.openai_chat.write_request import write_request
from tollway.wire.formats.openai_chat.write_stream import ChatStreamWriter
from tollway.wire.formats.openai_errors import error_body

CODEC = Codec(
    name="openai.chat",
    read_request=read_request,
    write_request=write_request,
    read_answer=read_answer,
    write_answer=write_answer,
    stream_reader=ChatStreamReader,
    stream_writer=ChatStreamWriter,
    write_error=error_body,
)
