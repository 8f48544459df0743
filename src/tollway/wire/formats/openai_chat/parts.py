"""Content parts: what stands inside a message, read into blocks. Used for requests and for answers that use parts."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from tollway.errors import BadRequest
from tollway.wire.conversation import (
    Audio,
    Block,
    Cache,
    Document,
    Image,
    Opaque,
    Refusal,
    Source,
    Text,
    Thinking,
    Video,
)
from tollway.wire.decoding import decode, given
from tollway.wire.formats.openai_chat.shapes import (
    AUDIO_TYPES,
    FAMILY,
    FILE_TYPES,
    Part,
    ThinkingBlock,
    decode_string,
)


class _Url(Struct):
    url: str
    detail: str | None = None


class _Sound(Struct):
    data: str
    format: str


class _File(Struct):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class _Mark(Struct):
    ttl: str | None = None


class _Thought(Struct):
    text: str | None = None


_url_decoder = msgspec.json.Decoder(_Url)
_sound_decoder = msgspec.json.Decoder(_Sound)
_file_decoder = msgspec.json.Decoder(_File)
_mark_decoder = msgspec.json.Decoder(_Mark)
_decode_thoughts = msgspec.json.Decoder(str | list[_Thought]).decode

_TEXTS = ("text", "input_text", "output_text")


def read_part(part: Part, path: str, raw: Raw | None) -> Block:
    """A part as a block; ``raw`` is its JSON if known, for kinds that are carried as they came.

    Raises BadRequest that names ``path`` and the field.
    """
    cache = None
    if given(part.cache_control):
        cache = read_cache(part.cache_control, f"{path}.cache_control")
    elif given(part.prompt_cache_breakpoint):
        cache = Cache()
    kind = part.type
    if kind in _TEXTS:
        if part.text is None:
            raise missing(f"{path}.text")
        return Text(text=part.text, cache=cache)
    if kind in ("image_url", "input_image"):
        found = _url(part.image_url, f"{path}.image_url")
        return Image(source=read_source(found.url), detail=found.detail or part.detail, cache=cache)
    if kind == "input_audio":
        return Audio(source=_sound(part.input_audio, f"{path}.input_audio"), cache=cache)
    if kind == "file":
        return _file(part.file, f"{path}.file", cache)
    if kind == "refusal":
        if part.refusal is None:
            raise missing(f"{path}.refusal")
        return Refusal(text=part.refusal)
    if kind == "video_url":
        return Video(source=read_source(_url(part.video_url, f"{path}.video_url").url), cache=cache)
    if kind == "thinking":
        # Signed reasoning is Anthropic's; Mistral has a list of texts in the same place.
        signature = part.signature or None
        return Thinking(
            text=_thought(part.thinking),
            signature=signature,
            format="anthropic" if signature else FAMILY,
        )
    return Opaque(format=FAMILY, kind=kind, raw=raw if raw is not None else Raw(b"{}"), cache=cache)


def read_source(address: str) -> Source:
    """Where bytes are: a data URL's content, or the address as it is."""
    if address[:5].lower() == "data:":
        head, comma, data = address[5:].partition(",")
        if comma and head.lower().endswith(";base64"):
            media = head[:-7].partition(";")[0].strip().lower()
            return Source(kind="data", value=_unbroken(data), media_type=media or None)
    return Source(kind="url", value=address)


def read_cache(raw: Raw, path: str) -> Cache | None:
    """``cache_control`` as Anthropic defines it; OpenRouter and others take it in this format too."""
    if not given(raw):
        return None
    return Cache(ttl="1h") if decode(_mark_decoder, raw, path).ttl == "1h" else Cache()


def read_thinking(block: ThinkingBlock) -> Thinking:
    """An entry of ``thinking_blocks``: of Anthropic unless it says otherwise."""
    return Thinking(
        text=block.thinking or "",
        signature=block.signature or None,
        redacted=block.data or None,
        summary=bool(block.summary),
        id=block.id,
        format=block.format or "anthropic",
    )


def missing(path: str) -> BadRequest:
    return BadRequest(f"'{path}' is missing. It is required.", param=path)


def _bytes_or_address(text: str) -> Source:
    """Base64 with or without a data URL around it, or an address."""
    source = read_source(text)
    if source.kind == "data" or text[:8].lower().startswith(
        ("http://", "https://", "gs://", "s3://", "file:")
    ):
        return source
    return Source(kind="data", value=_unbroken(text))


def _sound(raw: Raw, path: str) -> Source:
    if not given(raw):
        raise missing(path)
    sound = decode(_sound_decoder, raw, path)
    source = _bytes_or_address(sound.data)
    media = AUDIO_TYPES.get(sound.format, f"audio/{sound.format}")
    return Source(kind=source.kind, value=source.value, media_type=media)


def _file(raw: Raw, path: str, cache: Cache | None) -> Document:
    if not given(raw):
        raise missing(path)
    found = decode(_file_decoder, raw, path)
    if found.file_id:
        source = Source(kind="file", value=found.file_id)
    elif found.file_data:
        source = _bytes_or_address(found.file_data)
        if source.media_type is None:
            ending = (found.filename or "").rpartition(".")[2].lower()
            source = Source(kind=source.kind, value=source.value, media_type=FILE_TYPES.get(ending))
    else:
        raise BadRequest(f"'{path}' needs 'file_data' or 'file_id'.", param=path)
    return Document(source=source, title=found.filename, cache=cache)


def _url(raw: Raw, path: str) -> _Url:
    """``{"url": …}``, or the bare string that some clients send."""
    if not given(raw):
        raise missing(path)
    if bytes(raw).lstrip()[:1] == b'"':
        return _Url(url=decode_string(raw))
    return decode(_url_decoder, raw, path)


def _thought(raw: Raw) -> str:
    if not given(raw):
        return ""
    try:
        found = _decode_thoughts(raw)
    except (msgspec.DecodeError, RecursionError):
        return ""
    return found if isinstance(found, str) else "".join(thought.text or "" for thought in found)


def _unbroken(data: str) -> str:
    """Base64 without the line breaks some encoders put in."""
    return "".join(data.split()) if data and ("\n" in data or "\r" in data or " " in data) else data
