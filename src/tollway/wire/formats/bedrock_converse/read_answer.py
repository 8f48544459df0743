"""A whole Converse answer as a Completion. Its id and model stand in no body: both stay empty."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from tollway.errors import BadRequest
from tollway.wire.codec import Unreadable
from tollway.wire.conversation import Choice, Completion, Finish
from tollway.wire.decoding import answer, given
from tollway.wire.formats.bedrock_converse.read_blocks import WireBlock, read_blocks
from tollway.wire.formats.bedrock_converse.shapes import FINISHES, ServiceTier, TokenUsage, read_usage


class _Message(Struct):
    content: list[WireBlock]


class _Output(Struct):
    message: _Message


class _Answer(Struct):
    output: _Output
    stopReason: str = "end_turn"
    usage: Raw = Raw()
    additionalModelResponseFields: Raw = Raw()
    serviceTier: ServiceTier | None = None


class ModelFields(Struct):
    """What of the model's own answer fields is understood."""

    stop_sequence: str | None = None


_answer = msgspec.json.Decoder(_Answer)
_usage = msgspec.json.Decoder(TokenUsage)
_model_fields = msgspec.json.Decoder(ModelFields)

WHAT = "Bedrock's answer"


def read_answer(data: bytes) -> Completion:
    wire = answer(_answer, data, WHAT)
    try:
        blocks = read_blocks(wire.output.message.content, "output.message.content")
    except BadRequest as error:
        raise Unreadable(f"{WHAT} does not fit its format: {error.message}") from None
    finish, sequence = read_stop(wire.stopReason, wire.additionalModelResponseFields)
    usage = answer(_usage, wire.usage, WHAT) if given(wire.usage) else None
    return Completion(
        choices=(Choice(blocks=blocks, finish=finish, stop_sequence=sequence),),
        usage=read_usage(usage) if usage is not None else None,
        raw_usage=wire.usage,
        service_tier=wire.serviceTier.type if wire.serviceTier else None,
    )


def read_stop(reason: str, fields: Raw) -> tuple[Finish, str | None]:
    """The finish and the stop sequence; an empty one where the model did not say which it was."""
    finish = FINISHES.get(reason, "stop")
    if reason != "stop_sequence":
        return finish, None
    if given(fields):
        try:
            return finish, _model_fields.decode(fields).stop_sequence or ""
        except msgspec.DecodeError:
            return finish, ""  # fields of the model's own: any shape is possible
    return finish, ""
