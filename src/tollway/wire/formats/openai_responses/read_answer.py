"""The response object of a provider into an answer. What a failed response had said is kept, with finish ``error``;
one that failed without a word, or is not over yet, is Unreadable."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from tollway.wire import decoding
from tollway.wire.codec import Unreadable
from tollway.wire.conversation import (
    Block,
    Choice,
    Completion,
    Finish,
    Image,
    Opaque,
    Refusal,
    Source,
    Text,
    ToolCall,
)
from tollway.wire.formats.openai_responses import shapes
from tollway.wire.formats.openai_responses.logprobs import joined
from tollway.wire.formats.openai_responses.names import flat_name
from tollway.wire.formats.openai_responses.parts import PART, read_citations
from tollway.wire.formats.openai_responses.reasoning import thinking
from tollway.wire.formats.openai_responses.shapes import FAMILY
from tollway.wire.formats.openai_usage import read_usage

_response = msgspec.json.Decoder(shapes.Response)
_item = msgspec.json.Decoder(shapes.AnswerItem)
_part = msgspec.json.Decoder(shapes.Part)


def read_answer(body: bytes) -> Completion:
    """Raises Unreadable."""
    response = decoding.answer(_response, body, "the response")
    return completion(response)


def completion(response: shapes.Response) -> Completion:
    blocks, logprobs = read_items(response.output or [])
    if response.status in ("queued", "in_progress"):
        raise Unreadable(f"the response is not over: it is {response.status}")
    if response.status in ("failed", "cancelled") and not blocks:
        code = response.error.code if response.error is not None else None
        raise Unreadable(f"the response {response.status}" + (f" with {code}" if code else ""))
    given = decoding.given(response.usage)
    return Completion(
        id=response.id or "",
        model=response.model or "",
        created=int(response.created_at or 0),
        choices=(
            Choice(blocks=tuple(blocks), finish=finish_of(response, blocks), logprobs=joined(logprobs)),
        ),
        usage=read_usage(response.usage) if given else None,
        raw_usage=response.usage if given else Raw(),
        service_tier=response.service_tier,
    )


def finish_of(response: shapes.Response, blocks: list[Block]) -> Finish:
    """Why the answer ended; a response that asks for tools says so only by the calls in it."""
    if response.status in ("failed", "cancelled"):
        return "error"
    if response.status == "incomplete":
        reason = response.incomplete_details.reason if response.incomplete_details else None
        return "content_filter" if reason == "content_filter" else "length"
    if any(isinstance(block, ToolCall) for block in blocks):
        return "tool_calls"
    if any(isinstance(block, Refusal) for block in blocks):
        return "refusal"
    return "stop"


def read_items(items: list[Raw]) -> tuple[list[Block], list[Raw]]:
    """The blocks of output items, and the lists of log probabilities of their texts."""
    blocks: list[Block] = []
    logprobs: list[Raw] = []
    for raw in items:
        item = decoding.answer(_item, raw, "an output item")
        if item.type == "message":
            for part in item.content or ():
                blocks.append(read_output_part(part, logprobs))
        else:
            blocks.extend(read_item(item, raw))
    return blocks, logprobs


def read_output_part(raw: Raw, logprobs: list[Raw]) -> Block:
    part = decoding.answer(_part, raw, "a content part")
    if part.type == "output_text":
        if decoding.given(part.logprobs):
            logprobs.append(part.logprobs)
        return Text(text=part.text or "", citations=read_citations(part.annotations or []))
    if part.type == "refusal":
        return Refusal(text=part.refusal or "")
    return Opaque(format=FAMILY, kind=PART + part.type, raw=raw)


def read_item(item: shapes.AnswerItem, raw: Raw) -> list[Block]:
    """The blocks of an item that is no message."""
    if item.type in ("function_call", "custom_tool_call"):
        return [read_call(item)]
    if item.type == "reasoning":
        return list(thinking(summary_of(item), content_of(item), item.encrypted_content, item.id))
    image = read_image(item)
    return [image if image is not None else Opaque(format=FAMILY, kind=item.type, raw=raw)]


def summary_of(item: shapes.AnswerItem) -> str:
    return "\n\n".join(part.text for part in item.summary or ())


def content_of(item: shapes.AnswerItem) -> str:
    """The text of a reasoning item's own content."""
    parts = [decoding.answer(_part, raw, "a reasoning part") for raw in item.content or ()]
    return "\n\n".join(part.text or "" for part in parts)


def read_call(item: shapes.AnswerItem) -> ToolCall:
    """Raises Unreadable for a call without a name or id."""
    custom = item.type == "custom_tool_call"
    said = item.input if custom else item.arguments
    call_id = item.call_id or item.id
    if not item.name or not call_id:
        raise Unreadable(f"a {item.type} has no name or no call_id")
    if isinstance(said, str):
        arguments = said
    else:
        arguments = "" if said is None else shapes.encode(said).decode()
    return ToolCall(
        id=call_id,
        name=flat_name(item.namespace, item.name),
        arguments=arguments if custom else arguments or "{}",
        custom=custom,
    )


def read_image(item: shapes.AnswerItem) -> Image | None:
    """The picture that an image generation gave; None for any other item."""
    if item.type != "image_generation_call" or not isinstance(item.result, str) or not item.result:
        return None
    kind = f"image/{item.output_format or 'png'}"
    return Image(source=Source(kind="data", value=item.result, media_type=kind))
