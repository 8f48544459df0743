"""``/v1/audio/speech``: silence, in a stream of bytes; ``transcriptions`` and ``translations``: made-up words."""

from __future__ import annotations

from typing import Any

import msgspec

from tollway.simulator.answer import Answer, Endpoint, Request, Stamp
from tollway.simulator.dialects.openai.errors import invalid
from tollway.simulator.dialects.openai.kept import form_of, missing, named
from tollway.simulator.dialects.openai.stream import error_event
from tollway.simulator.knobs import Knobs
from tollway.simulator.media import RATE, silence, wave
from tollway.simulator.reading import Body, Plain
from tollway.simulator.speech import Wish, speak
from tollway.simulator.tally import Tally, billed, tally
from tollway.simulator.tokens import count, pieces
from tollway.simulator.track import Track, event

KINDS = {
    "mp3": b"audio/mpeg",
    "opus": b"audio/opus",
    "aac": b"audio/aac",
    "flac": b"audio/flac",
    "wav": b"audio/wav",
    "pcm": b"audio/pcm",
}

LONGEST = 4096

SAMPLES = RATE // 20
"""Of one token of speech: a twentieth of a second."""

BYTES_A_SECOND = 32_000
"""What a second of any recording is taken to weigh."""

TOKENS_A_SECOND = 10

_json = msgspec.json.encode


def read_speech(request: Request) -> Plain:
    asked = named(request)
    for name in ("input", "voice"):
        if not asked.body.get(name):
            raise missing(name)
    if len(asked.body["input"]) > LONGEST:
        message = f"Invalid 'input': string too long. Expected a string with maximum length {LONGEST}."
        raise invalid(message, "input", "string_above_max_length")
    if asked.body.get("response_format", "mp3") not in KINDS:
        raise invalid(
            f"Invalid value for 'response_format': must be one of {', '.join(KINDS)}.", "response_format"
        )
    return asked


def speech(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    body = asked.body
    text = body["input"]
    said = count(text) if knobs.tokens is None else knobs.tokens
    ident = "speech-" + stamp.serial
    by_token = model.startswith("gpt-")
    counts = tally(count(text) if by_token else 0, said if by_token else 0, 0, knobs)
    # Every token of the answer is one of sound.
    counts.audio_out = counts.output
    track = Track(ident, knobs)
    parts = said if knobs.events is None else min(knobs.events, max(said, 1))
    sizes = [said * (place + 1) // parts - said * place // parts for place in range(parts)] if parts else []
    if body.get("stream_format") == "sse":
        for size in sizes:
            name = "speech.audio.delta"
            track.add(event({"type": name, "audio": silence(size * SAMPLES)}, name), size if by_token else 0)
        usage = None if knobs.no_usage else _json(_tokens(counts, knobs))
        told = {} if usage is None else {"usage": msgspec.Raw(usage)}
        if not knobs.no_done:
            track.add(event({"type": "speech.audio.done", **told}, "speech.audio.done"), usage=usage)
        reply = track.answer(error_event(knobs))
    else:
        first = wave(said * SAMPLES)[:44] if body.get("response_format", "mp3") != "pcm" else b""
        for place, size in enumerate(sizes or [0]):
            sound = b"\0\0" * (size * SAMPLES)
            track.add(sound if place else first + sound, size if by_token else 0)
        kind = KINDS[body.get("response_format", "mp3")]
        reply = track.answer(b"", shape="frames", content_type=kind, headers=b"")
    reply.units = {"characters": len(text)}
    return billed(reply, counts)


def _tokens(counts: Tally, knobs: Knobs) -> Any:
    if knobs.usage == "null":
        return None
    return {"input_tokens": counts.prompt, "output_tokens": counts.output, "total_tokens": counts.total}


def read_recording(request: Request) -> Plain:
    form = form_of(request)
    model, file = form.field("model"), form.file("file")
    if not model:
        raise missing("model")
    if file is None:
        raise missing("file")
    if not file.size:
        raise invalid(
            "Audio file is too short. Minimum audio length is 0.1 seconds.", "file", "audio_too_short"
        )
    body: Body = {part.name: part.text for part in form.parts if part.filename is None}
    body["size"], body["granularities"] = file.size, form.fields("timestamp_granularities[]")
    return Plain(model, body, request)


def transcribe(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    body = asked.body
    said = speak(Wish(model=model, last=body.get("prompt") or ""), knobs)
    text = said.text or ""
    seconds = -(-body["size"] // BYTES_A_SECOND)
    ident = "transcript-" + stamp.serial
    by_second = not model.startswith("gpt-")
    heard = 0 if by_second else seconds * TOKENS_A_SECOND
    counts = tally(heard + count(body.get("prompt") or ""), said.tokens, 0, knobs, audio=heard)
    if by_second:
        counts = tally(0, 0, 0, knobs)
    usage = None if knobs.no_usage else _json(_usage(counts, seconds, by_second, knobs))
    form = body.get("response_format") or "json"
    if body.get("stream") == "true" and not by_second:
        reply = _stream(ident, text, usage, knobs)
    elif form in ("json", "verbose_json", "diarized_json"):
        whole: Body = {"text": text}
        if form == "verbose_json":
            whole = _verbose(body, text, seconds)
        elif form == "diarized_json":
            segment = {"type": "transcript.text.segment", "id": "seg_0", "speaker": "A", "start": 0.0}
            whole = {"task": "transcribe", "duration": float(seconds), "text": text}
            whole["segments"] = [{**segment, "end": float(seconds), "text": text}]
        if usage is not None:
            whole["usage"] = msgspec.Raw(usage)
        reply = Answer(ident, [_json(whole)], usage=usage)
    elif form in ("text", "srt", "vtt"):
        reply = Answer(ident, [_plain(form, text, seconds)], content_type=b"text/plain; charset=utf-8")
    else:
        raise invalid(f"Invalid value for 'response_format': {form!r}.", "response_format", "invalid_value")
    reply.units = {"seconds": seconds}
    return billed(reply, counts)


def _usage(counts: Tally, seconds: int, by_second: bool, knobs: Knobs) -> Any:
    if knobs.usage == "null":
        return None
    if by_second:
        return {"type": "duration", "seconds": seconds}
    tokens = {"type": "tokens", **_tokens(counts, knobs)}
    if knobs.usage == "full":
        text = counts.prompt - counts.audio_in
        tokens["input_token_details"] = {"text_tokens": text, "audio_tokens": counts.audio_in}
    return tokens


def _verbose(body: Body, text: str, seconds: int) -> Any:
    numbers = {"avg_logprob": -0.25, "compression_ratio": 1.0, "no_speech_prob": 0.0, "temperature": 0.0}
    span = {"start": 0.0, "end": float(seconds)}
    whole: Body = {"task": "transcribe", "language": "english", "duration": float(seconds), "text": text}
    whole["segments"] = [{"id": 0, "seek": 0, **span, "text": text, "tokens": [], **numbers}]
    if "word" in body["granularities"]:
        words = text.split()
        step = seconds / max(len(words), 1)
        whole["words"] = [
            {"word": word, "start": round(place * step, 3), "end": round((place + 1) * step, 3)}
            for place, word in enumerate(words)
        ]
    return whole


def _plain(form: str, text: str, seconds: int) -> bytes:
    end = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    match form:
        case "srt":
            return f"1\n00:00:00,000 --> {end},000\n{text}\n\n".encode()
        case "vtt":
            return f"WEBVTT\n\n00:00:00.000 --> {end}.000\n{text}\n\n".encode()
        case _:
            return f"{text}\n".encode()


def _stream(ident: str, text: str, usage: bytes | None, knobs: Knobs) -> Answer:
    track = Track(ident, knobs)
    for piece in pieces(text, knobs.events):
        name = "transcript.text.delta"
        track.add(event({"type": name, "delta": piece}, name), count(piece))
    if not knobs.no_done:
        told = {} if usage is None else {"usage": msgspec.Raw(usage)}
        name = "transcript.text.done"
        track.add(event({"type": name, "text": text, **told}, name), usage=usage)
    return track.answer(error_event(knobs))


SPEECH = Endpoint("audio.speech", read_speech, speech)
TRANSCRIPTIONS = Endpoint("audio.transcriptions", read_recording, transcribe)
TRANSLATIONS = Endpoint("audio.translations", read_recording, transcribe)
