"""Speech in a stream of bytes; recordings to words in every format."""

import pytest

openai = pytest.importorskip("openai")

TWO_SECONDS = ("talk.wav", b"\0" * 64_000, "audio/wav")


def test_speech(sdk, last_line):
    with sdk.audio.speech.with_streaming_response.create(
        model="tts-1+pace=0", voice="alloy", input="x" * 40, response_format="wav"
    ) as reply:
        assert reply.headers["content-type"] == "audio/wav"
        parts = list(reply.iter_bytes(512))
    sound = b"".join(parts)
    assert sound.startswith(b"RIFF")
    assert len(sound) == 44 + 10 * 2400
    line = last_line()
    assert (line.endpoint, line.tokens["characters"], line.completion_tokens) == ("audio.speech", 40, 0)
    assert line.events == 10


def test_speech_in_events(sdk, served, last_line):
    reply = sdk.post(
        "/audio/speech",
        body={"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "x" * 12, "stream_format": "sse"},
        cast_to=str,
    )
    assert reply.count("event: speech.audio.delta") == 3
    assert '"usage":{"input_tokens":3,"output_tokens":3,"total_tokens":6}' in reply
    line = last_line()
    assert (line.tokens["output"], line.tokens["audio_output"], line.prompt_tokens) == (0, 3, 3)


def test_transcripts_by_the_second(sdk, checked, last_line):
    said = checked(sdk.audio.transcriptions.create(model="whisper-1+text=Hello%20you", file=TWO_SECONDS))
    assert said.text == "Hello you"
    assert (said.usage.type, said.usage.seconds) == ("duration", 2)
    assert last_line().tokens["seconds"] == 2
    verbose = checked(
        sdk.audio.transcriptions.create(
            model="whisper-1+text=Hello%20you",
            file=TWO_SECONDS,
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
        )
    )
    assert [word.word for word in verbose.words] == ["Hello", "you"]
    assert verbose.segments[0].end == 2.0
    assert "00:00:02,000" in sdk.audio.transcriptions.create(
        model="whisper-1", file=TWO_SECONDS, response_format="srt"
    )


def test_transcripts_by_the_token(sdk, checked, last_line):
    fields = {"model": "gpt-4o-transcribe+tokens=5", "file": TWO_SECONDS}
    said = checked(sdk.audio.transcriptions.create(**fields))
    assert (said.usage.input_tokens, said.usage.output_tokens) == (20, 5)
    assert said.usage.input_token_details.audio_tokens == 20
    assert (last_line().tokens["audio_input"], last_line().tokens["input"]) == (20, 0)
    events = [checked(event) for event in sdk.audio.transcriptions.create(**fields, stream=True)]
    assert "".join(event.delta for event in events[:-1]) == events[-1].text == said.text
    assert events[-1].usage.output_tokens == 5


def test_translations(sdk, last_line):
    assert sdk.audio.translations.create(model="whisper-1", file=TWO_SECONDS).text
    assert last_line().endpoint == "audio.translations"


def test_refusals(sdk):
    with pytest.raises(openai.BadRequestError, match="too long"):
        sdk.audio.speech.create(model="tts-1", voice="alloy", input="x" * 4097)
    with pytest.raises(openai.BadRequestError, match="too short"):
        sdk.audio.transcriptions.create(model="whisper-1", file=("a.wav", b""))
    with pytest.raises(openai.InternalServerError):
        sdk.audio.transcriptions.create(model="whisper-1+status=503", file=TWO_SECONDS)
