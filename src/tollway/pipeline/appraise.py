"""What requests besides conversations consume and cost: images, speech, recordings, pages, searches, video, tokens.

The provider's own report counts where there is one; else what the request asked for, or our estimate, marked.
A model is priced by tokens or by its own unit, never by both: what a price book lists for both is one charge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct
from msgspec.structs import replace

from tollway.model.event import NO_RAW_USAGE
from tollway.model.money import Money
from tollway.model.price import Price
from tollway.model.usage import NOTHING, Usage
from tollway.pipeline.meter import Metered
from tollway.pipeline.snapshot import Snapshot, Target
from tollway.pricing.cost import cost
from tollway.wire.formats.openai_usage import read_usage

Count = Annotated[int, Meta(ge=0, le=10**12)]

SPOKEN_CHARACTERS = 15
"""Characters that are spoken in a second, where a model is priced by the second and says nothing."""

SPEECH_TOKENS = 21
"""Tokens of a second of speech (1,250 a minute)."""

RECORDED_BYTES = 16_000
"""Bytes of a second of a recording whose format we do not read: 128 kbit/s."""

WORST_RECORDED_BYTES = 1_000
WORST_IMAGE_TOKENS = 7_000
"""An image of the dearest size and quality, its partial images included."""

USUAL_IMAGE_TOKENS = 1_100

_LARGEST = ("1024x1024", "1536x1024", "1792x1024")
"""What a model may choose where the request leaves the size to it."""


class Wish(Struct, kw_only=True):
    """What the request says about its cost. ``text`` is the length of the text to be read or spoken, ``uploaded`` the
    size of its files, ``seconds`` a video's length or a recording's, as far as known."""

    endpoint: str
    text: int = 0
    images: int = 1
    size: str = ""
    quality: str = ""
    seconds: int | None = None
    uploaded: int = 0
    documents: int = 0
    queries: int = 1
    pages: int = 0


class _Details(Struct):
    text_tokens: Count | None = None
    audio_tokens: Count | None = None


class _Billed(Struct):
    search_units: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None


class _Meta(Struct):
    billed_units: _Billed | None = None


class _OcrUsage(Struct):
    pages_processed: Count | None = None


class _Answer(Struct):
    """The places where answers say what they took."""

    usage: Raw = Raw()
    data: Raw = Raw()
    meta: Raw = Raw()
    usage_info: Raw = Raw()
    duration: Raw = Raw()
    seconds: Raw = Raw()
    size: Raw = Raw()
    quality: Raw = Raw()


class _Heard(Struct):
    """The usage of a transcription, which has its own spelling."""

    type: str = ""
    seconds: float | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    input_token_details: _Details | None = None


_NULLS = (b"", b"null")
_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_heard = msgspec.json.Decoder(_Heard).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_meta = msgspec.json.Decoder(_Meta).decode
_decode_ocr = msgspec.json.Decoder(_OcrUsage).decode
_decode_number = msgspec.json.Decoder(float, strict=False).decode
_decode_text = msgspec.json.Decoder(str).decode


def appraise(
    wish: Wish, target: Target, snapshot: Snapshot, body: bytes, usage: Raw | None = None
) -> Metered:
    """``body`` is the whole answer where it was read (JSON or text), ``usage`` what a stream reported."""
    answer = _read(body)
    raw = usage if usage is not None else answer.usage
    if bytes(raw) in _NULLS:
        raw = NO_RAW_USAGE
    if wish.endpoint in _IMAGES and not wish.size:
        wish = replace(wish, size=_text(answer.size), quality=wish.quality or _text(answer.quality))
    reported, guessed = _COUNTED.get(wish.endpoint, _tokens)(wish, answer, raw, body)
    return _charge(wish, target, snapshot, reported, guessed, raw)


def expected(wish: Wish, target: Target, snapshot: Snapshot) -> tuple[int, Money]:
    """(input tokens, nano-dollars) to hold for a request."""
    guesses = _guesses(wish, RECORDED_BYTES, USUAL_IMAGE_TOKENS)
    return wish.text // 4, _charge(wish, target, snapshot, (), guesses, NO_RAW_USAGE).cost


def worst(wish: Wish, target: Target, snapshot: Snapshot) -> Money:
    """The most the request can cost: what a strict budget holds."""
    wishes = [wish]
    if wish.endpoint in _IMAGES and not (wish.size and wish.quality):
        sizes = (wish.size,) if wish.size else _LARGEST
        wishes += [replace(wish, size=size, quality=best) for size in sizes for best in ("high", "hd")]
    return max(
        _charge(each, target, snapshot, (), (replace(one, input=one.input * 8),), NO_RAW_USAGE).cost
        for each in wishes
        for one in _guesses(each, WORST_RECORDED_BYTES, WORST_IMAGE_TOKENS)
    )


def _charge(
    wish: Wish,
    target: Target,
    snapshot: Snapshot,
    reported: Iterable[Usage],
    guessed: Iterable[Usage],
    raw: Raw,
) -> Metered:
    """By the first count the price knows a rate for; those that were reported come before those we guess."""
    first: Usage | None = None
    for estimated, counts in ((False, reported), (True, guessed)):
        for usage in counts:
            first = first or usage
            price = _price(wish, target, snapshot, usage)
            amount = cost(price, usage) if price is not None else None
            if amount is not None:
                return Metered(usage=usage, cost=amount, priced=True, estimated=estimated, raw=raw)
    return Metered(usage=first or NOTHING, cost=0, priced=False, estimated=False, raw=raw)


def _price(wish: Wish, target: Target, snapshot: Snapshot, usage: Usage) -> Price | None:
    """The deployment's price; for images and video the book's line for their size and quality, where it has one."""
    price = target.deployment.price
    sized = wish.size and (usage.images or usage.video_seconds)
    if not sized or (price is not None and price.source == "configuration"):
        return price
    size = wish.size.replace("x", "-x-")
    model = target.deployment.upstream_model
    sheet = target.provider.entry.price_sheet
    for name in (f"{wish.quality}/{size}/{model}", f"standard/{size}/{model}", f"{size}/{model}"):
        found = snapshot.prices.price(sheet, name)
        if found is not None:
            return found
    return price


# What was counted, by endpoint: (reported by the provider, counted from the request or guessed), the better first.

_Counts = tuple[tuple[Usage, ...], tuple[Usage, ...]]


def _tokens(wish: Wish, answer: _Answer, raw: Raw, body: bytes) -> _Counts:
    usage = read_usage(raw)
    guessed = Usage(input=max(wish.text // 4, 1))
    return ((usage,) if usage is not None else ()), (guessed, Usage(requests=1))


def _pictures(wish: Wish, answer: _Answer, raw: Raw, body: bytes) -> _Counts:
    usage = read_usage(raw)
    made = wish.images
    if bytes(answer.data) not in _NULLS:
        try:
            made = len(_decode_list(answer.data))
        except msgspec.DecodeError:
            made = wish.images
    images = Usage(images=made)
    return (((usage, images) if usage is not None else (images,)), ())


def _spoken(wish: Wish, answer: _Answer, raw: Raw, body: bytes) -> _Counts:
    usage = read_usage(raw)
    characters = Usage(characters=wish.text)
    if usage is None:
        return (characters,), _spoken_guess(wish)
    # What a voice writes is sound.
    heard = replace(usage, output=0, reasoning=0, audio_output=usage.output + usage.audio_output)
    return (heard, characters), ()


def _spoken_guess(wish: Wish) -> tuple[Usage, ...]:
    seconds = -(-wish.text // SPOKEN_CHARACTERS)
    return (
        Usage(input=max(wish.text // 4, 1), audio_output=seconds * SPEECH_TOKENS),
        Usage(seconds=seconds),
    )


def _heard(wish: Wish, answer: _Answer, raw: Raw, body: bytes) -> _Counts:
    """Tokens or seconds as reported; else the length the answer tells, or the recording's own."""
    reported: list[Usage] = []
    try:
        usage = _decode_heard(raw) if bytes(raw) not in _NULLS else _Heard()
    except msgspec.DecodeError:
        usage = _Heard()
    if usage.input_tokens is not None:
        details = usage.input_token_details
        audio = min(details.audio_tokens or 0, usage.input_tokens) if details is not None else 0
        reported.append(
            Usage(input=usage.input_tokens - audio, audio_input=audio, output=usage.output_tokens or 0)
        )
    seconds = usage.seconds if usage.seconds is not None else _number(answer.duration)
    if seconds is None:
        seconds = _last_moment(body)
    if seconds is not None:
        reported.append(Usage(seconds=_up(seconds)))
    return tuple(reported), _heard_guess(wish, RECORDED_BYTES)


def _heard_guess(wish: Wish, rate: int) -> tuple[Usage, ...]:
    seconds = wish.seconds if wish.seconds is not None else -(-wish.uploaded // rate)
    seconds = max(seconds, 1)
    return Usage(seconds=seconds), Usage(audio_input=seconds * 10, output=seconds * 4)


_MOMENT = re.compile(rb"--> (?:(\d+):)?(\d\d):(\d\d)[.,](\d{3})")


def _last_moment(body: bytes) -> float | None:
    """Where the subtitles (SRT or WebVTT) end, in seconds."""
    found = None
    for found in _MOMENT.finditer(body):  # noqa: B007 - the last one is wanted
        pass
    if found is None:
        return None
    hours, minutes, seconds, thousandths = (int(one or b"0") for one in found.groups())
    return hours * 3600 + minutes * 60 + seconds + thousandths / 1000


def _ranked(wish: Wish, answer: _Answer, raw: Raw, body: bytes) -> _Counts:
    reported: list[Usage] = []
    billed = _billed(answer.meta)
    if billed is not None and billed.search_units is not None:
        reported.append(Usage(searches=_up(billed.search_units)))
    usage = read_usage(raw)
    if usage is not None:
        reported.append(usage)
    elif billed is not None and billed.input_tokens is not None:
        reported.append(Usage(input=_up(billed.input_tokens), output=_up(billed.output_tokens or 0)))
    return tuple(reported), _ranked_guess(wish)


def _ranked_guess(wish: Wish) -> tuple[Usage, ...]:
    return Usage(searches=max(-(-wish.documents // 100), 1)), Usage(input=max(wish.text // 4, 1))


def _billed(meta: Raw) -> _Billed | None:
    try:
        return _decode_meta(meta).billed_units if bytes(meta) not in _NULLS else None
    except msgspec.DecodeError:
        return None


def _searched(wish: Wish, answer: _Answer, raw: Raw, body: bytes) -> _Counts:
    return (Usage(searches=wish.queries),), (Usage(requests=wish.queries),)


def _paged(wish: Wish, answer: _Answer, raw: Raw, body: bytes) -> _Counts:
    reported: list[Usage] = []
    try:
        pages = _decode_ocr(answer.usage_info).pages_processed if bytes(answer.usage_info) else None
    except msgspec.DecodeError:
        pages = None
    if pages is not None:
        reported.append(Usage(pages=pages))
    usage = read_usage(raw)
    if usage is not None:
        reported.append(usage)
    return tuple(reported), (Usage(pages=max(wish.pages, 1)),)


def _filmed(wish: Wish, answer: _Answer, raw: Raw, body: bytes) -> _Counts:
    seconds = _number(answer.seconds)
    if seconds is not None:
        return (Usage(video_seconds=_up(seconds)),), ()
    return (), (Usage(video_seconds=wish.seconds or 4),)


def _told(wish: Wish, answer: _Answer, raw: Raw, body: bytes) -> _Counts:
    """By the provider's word alone: nothing of the request tells what it will take."""
    usage = read_usage(raw)
    return ((usage,) if usage is not None else ()), ()


_IMAGES = frozenset(("images.generations", "images.edits", "images.variations"))
_COUNTED = {
    **dict.fromkeys(_IMAGES, _pictures),
    "audio.speech": _spoken,
    "audio.transcriptions": _heard,
    "audio.translations": _heard,
    "rerank": _ranked,
    "search": _searched,
    "ocr": _paged,
    "videos": _filmed,
    "batches": _told,
    "fine_tuning.jobs": _told,
    "threads.runs": _told,
    "vector_stores.search": _told,
}


def _guesses(wish: Wish, rate: int, image_tokens: int) -> tuple[Usage, ...]:
    """What a request will take, before it is made."""
    text = max(wish.text // 4, 1)
    match wish.endpoint:
        case "images.generations" | "images.edits" | "images.variations":
            return Usage(images=wish.images), Usage(input=text, output=image_tokens * wish.images)
        case "audio.speech":
            return Usage(characters=wish.text), *_spoken_guess(wish)
        case "audio.transcriptions" | "audio.translations":
            return _heard_guess(wish, rate)
        case "rerank":
            return _ranked_guess(wish)
        case "search":
            return (Usage(searches=wish.queries),)
        case "ocr":
            return (Usage(pages=max(wish.pages, 1)),)
        case "videos":
            return (Usage(video_seconds=wish.seconds or 4),)
        case _:
            return (Usage(input=text),)


def _read(body: bytes) -> _Answer:
    if body.lstrip()[:1] != b"{":
        return _Answer()
    try:
        return _decode_answer(body)
    except (msgspec.DecodeError, RecursionError):
        return _Answer()


def _number(raw: Raw) -> float | None:
    """A number, also one that is written as a string."""
    try:
        found = _decode_number(raw) if bytes(raw) not in _NULLS else None
    except msgspec.DecodeError:
        return None
    return found if found is not None and 0 <= found < 10**9 else None


def _text(raw: Raw) -> str:
    try:
        return _decode_text(raw) if bytes(raw) not in _NULLS else ""
    except msgspec.DecodeError:
        return ""


def _up(amount: float) -> int:
    """The next whole unit."""
    return int(-(-max(amount, 0.0) // 1))
