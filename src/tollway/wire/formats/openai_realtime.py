"""The realtime API's events, as far as the gateway reads them: usage, errors and how much was said.

Sources: the OpenAI API reference (realtime client and server events, in their general and their beta names). Reading
and writing only; who may do what is decided elsewhere.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
from msgspec import Raw, Struct

from tollway.errors import GatewayError
from tollway.model.usage import NOTHING, Usage
from tollway.wire.formats.openai_errors import error_body
from tollway.wire.formats.openai_shapes import Count

BYTES_A_SECOND = 48_000
"""Of 16-bit sound at 24 kHz, which sessions carry unless told otherwise."""

BYTES_A_SECOND_TELEPHONY = 8_000
"""Of the G.711 encodings."""

SPOKEN_TOKENS_A_SECOND = 20
"""One audio token of an answer is 50 ms of sound, one of the user's 100 ms."""

HEARD_TOKENS_A_SECOND = 10

RESPONSE_CREATED = "response.created"
RESPONSE_DONE = "response.done"
TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
ERROR = "error"
SESSION_EVENTS = frozenset(
    (
        "session.created",
        "session.updated",
        "transcription_session.created",
        "transcription_session.updated",
    )
)
_SOUND = frozenset(("response.output_audio.delta", "response.audio.delta"))


class ServerEvent(Struct):
    """An event of the provider's. Everything but ``type`` stays bytes until it is needed."""

    type: str = ""
    response: Raw = Raw()
    session: Raw = Raw()
    usage: Raw = Raw()
    delta: Raw = Raw()
    response_id: Raw = Raw()


class Response(Struct):
    """The response of ``response.created`` and ``response.done``."""

    id: str = ""
    status: str | None = None
    usage: Raw = Raw()


class _Cached(Struct):
    audio_tokens: Count | None = None


class _Input(Struct):
    audio_tokens: Count | None = None
    cached_tokens: Count | None = None
    cached_tokens_details: _Cached | None = None


class _Output(Struct):
    audio_tokens: Count | None = None
    reasoning_tokens: Count | None = None


class _Reported(Struct):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    input_token_details: _Input | None = None
    output_token_details: _Output | None = None
    seconds: float | None = None


_decode_event = msgspec.json.Decoder(ServerEvent).decode
_decode_response = msgspec.json.Decoder(Response).decode
_decode_usage = msgspec.json.Decoder(_Reported).decode
_decode_any = msgspec.json.Decoder().decode
_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


def read_event(message: str | bytes) -> ServerEvent | None:
    """None for what is no event: it is passed on all the same."""
    try:
        return _decode_event(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def read_response(raw: Raw) -> Response:
    """Empty where it is not one."""
    try:
        return _decode_response(raw)
    except (msgspec.DecodeError, RecursionError):
        return Response()


def read_id(raw: Raw) -> str:
    try:
        return _decode_text(raw)
    except msgspec.DecodeError:
        return ""


def read_usage(raw: Raw) -> Usage | None:
    """Disjoint classes of a response's or a transcription's usage; None where none is reported.

    Cached tokens are a part of the input and cached sound a part of both the cached and the audio tokens.
    Transcriptions that are billed by duration report seconds, of which each begun one counts.
    """
    try:
        wire = _decode_usage(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    if wire.input_tokens is None and wire.output_tokens is None:
        if wire.seconds is None or not 0 <= wire.seconds < 1e9:
            return None
        return Usage(seconds=math.ceil(wire.seconds))
    read = max(wire.input_tokens or 0, 0)
    written = max(wire.output_tokens or 0, 0)
    cached = heard = spoken = thought = 0
    into, out = wire.input_token_details, wire.output_token_details
    if into is not None:
        cached = min(max(into.cached_tokens or 0, 0), read)
        again = into.cached_tokens_details.audio_tokens if into.cached_tokens_details else None
        heard = min(max((into.audio_tokens or 0) - (again or 0), 0), read - cached)
    if out is not None:
        spoken = min(max(out.audio_tokens or 0, 0), written)
        thought = min(max(out.reasoning_tokens or 0, 0), written - spoken)
    return Usage(
        input=read - cached - heard,
        cache_read=cached,
        audio_input=heard,
        output=written - spoken,
        reasoning=thought,
        audio_output=spoken,
    )


def spoken(event: ServerEvent, bytes_a_second: int) -> Usage:
    """How much of an answer a delta brought, by its size: for responses whose usage never came."""
    size = max(len(memoryview(event.delta)) - 2, 0)
    if not size or not event.type.endswith(".delta") or not event.type.startswith("response."):
        return NOTHING
    if event.type in _SOUND:
        tokens = size * 3 // 4 * SPOKEN_TOKENS_A_SECOND / bytes_a_second
        return Usage(audio_output=max(round(tokens), 1))
    return Usage(output=max(round(size / 4), 1))


def heard(fields: dict[str, Raw], kind: str, bytes_a_second: int) -> Usage:
    """How much a client's event adds to the conversation, by its size."""
    if kind == "input_audio_buffer.append":
        size = max(len(memoryview(fields.get("audio", Raw(b'""')))) - 2, 0)
        return Usage(audio_input=round(size * 3 // 4 * HEARD_TOKENS_A_SECOND / bytes_a_second))
    if kind == "conversation.item.create":
        return Usage(input=len(memoryview(fields.get("item", Raw()))) // 4)
    return NOTHING


def speed(session: Raw) -> int:
    """Bytes a second of the session's sound."""
    words = bytes(session)
    if b"g711" in words or b"audio/pcmu" in words or b"audio/pcma" in words:
        return BYTES_A_SECOND_TELEPHONY
    return BYTES_A_SECOND


def transcription_model(session: Raw) -> str | None:
    """The model that a session's input is transcribed with."""
    try:
        found = _decode_any(session)
    except (msgspec.DecodeError, RecursionError):
        return None
    for path in (("audio", "input", "transcription", "model"), ("input_audio_transcription", "model")):
        value: Any = found
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, str) and value:
            return value
    return None


def error_event(error: GatewayError, event_id: str, cause: str | None = None) -> str:
    """An ``error`` event of ours. ``cause`` is the id of the client's event that is refused."""
    inner = _decode_any(error_body(error))["error"]
    return _encode({"type": ERROR, "event_id": event_id, "error": {**inner, "event_id": cause}}).decode()
