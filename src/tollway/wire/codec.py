"""What a wire format has to offer to be spoken at either side: pure functions between its bytes and the hub.

A format is a module in ``wire/formats`` with one ``Codec`` value in it. Reading raises ``BadRequest`` (the client's
fault, with ``param``) for requests and ``Unreadable`` for a provider's answers. No codec opens,
waits or looks at a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from tollway.errors import GatewayError
from tollway.wire.conversation import Completion, Conversation, StreamEvent, Written


class Unreadable(ValueError):
    """A provider's answer that is not what its format promises. The text says what, never the answer itself."""


class Profile(Struct, frozen=True, kw_only=True):
    """What the target model can do, as far as a writer must know it.

    ``model`` is the name at the provider; ``max_output`` its output limit, used where a format demands ``max_tokens``
    and the client named none; ``thinking`` how it is asked to think: ``budget`` (tokens), ``adaptive`` or ``effort``
    (levels), ``none`` when it cannot; ``images``, ``documents``, ``audio``, ``tools``, ``schema`` say what it takes;
    ``sampling`` whether it takes temperature, top_p and top_k; ``system_turns`` whether a system turn may stand behind
    a user's one instead of in front of all.
    """

    model: str
    max_output: int | None = None
    thinking: str = "budget"
    images: bool = True
    documents: bool = True
    audio: bool = True
    tools: bool = True
    schema: bool = True
    sampling: bool = True
    system_turns: bool = False


class StreamReader(Protocol):
    """The state of one provider's stream."""

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Events made of ``data`` and what came before. Any split of the bytes gives the same events.

        Raises Unreadable, or sse.EventTooLarge.
        """

    def finish(self) -> list[StreamEvent]:
        """What the end of the bytes means: open blocks are closed and ``End`` given if the format has no end mark, or
        ``Failed`` when the stream broke off before it."""


class StreamWriter(Protocol):
    """The state of one client's stream."""

    def write(self, events: Sequence[StreamEvent]) -> bytes:
        """Whole frames for these events. ``End`` writes the end mark, ``Failed`` the dialect's error event and end."""


class Codec(Struct, frozen=True, kw_only=True):
    """One wire format. ``name`` as in ``wire/formats``; ``content_type`` of its streams.

    ``read_request(body)`` is for formats clients speak, ``write_request(conversation, profile)`` for those providers
    speak. ``write_answer`` and ``stream_writer`` get the request they answer: it holds what was asked for.
    ``write_error(error)`` is a whole refusal's body, in the format's own shape.
    """

    name: str
    content_type: bytes = b"text/event-stream; charset=utf-8"
    read_request: Callable[[bytes], Conversation]
    write_request: Callable[[Conversation, Profile], Written]
    read_answer: Callable[[bytes], Completion]
    write_answer: Callable[[Completion, Conversation], bytes]
    stream_reader: Callable[[], StreamReader]
    stream_writer: Callable[[Conversation], StreamWriter]
    write_error: Callable[[GatewayError], bytes]
