"""The tool calls of a streamed choice: which one a delta goes on with.

The index alone does not tell: some servers give none, some give 0 to every call, some leave out ids. So an index or
id that is known goes on with its call, unless another id, or a name where nobody gives ids, begins a new one.
"""

from __future__ import annotations

import msgspec

from tollway.wire.formats.openai_chat.shapes import Call

_decode_any = msgspec.json.Decoder().decode


class CallSoFar:
    """A call under way. ``id`` is the provider's, None while it gave none; ``block`` the hub's number of its block,
    None until the call has a name and is told."""

    __slots__ = ("arguments", "block", "custom", "id", "name", "signature")

    def __init__(self, call_id: str | None, custom: bool) -> None:
        self.id = call_id
        self.name = ""
        self.custom = custom
        self.arguments: list[str] = []
        self.signature: str | None = None
        self.block: int | None = None

    def complete(self) -> bool:
        """Whether its arguments are whole JSON already: what follows belongs to another call."""
        text = "".join(self.arguments)
        if not text.strip():
            return False
        try:
            _decode_any(text)
        except (msgspec.DecodeError, RecursionError):
            return False
        return True


class Calls:
    """The calls of one choice in the order in which they began."""

    __slots__ = ("_by_index", "all")

    def __init__(self) -> None:
        self.all: list[CallSoFar] = []
        self._by_index: dict[int, CallSoFar] = {}

    def which(self, delta: Call, name: str | None) -> CallSoFar:
        """The call that ``delta`` goes on with, or a new one."""
        index, call_id = delta.index, delta.id or None
        if index is not None:
            call = self._by_index.get(index)
        elif call_id is not None:
            call = self._with_id(call_id)
        else:
            call = self.all[-1] if self.all else None
        if call is not None:
            if call_id is not None and call.id is not None and call_id != call.id:
                call = None  # the index is used again
            elif call_id is None and name and call.name and (name != call.name or call.complete()):
                call = None  # no ids at all: a name begins a call
        if call is None and call_id is not None and not name:
            call = self._with_id(call_id)
        if call is None:
            call = CallSoFar(call_id, delta.custom is not None)
            self.all.append(call)
        elif call_id is not None and call.id is None and call.block is None:
            call.id = call_id
        if index is not None:
            self._by_index[index] = call
        return call

    def _with_id(self, call_id: str) -> CallSoFar | None:
        return next((known for known in self.all if known.id == call_id), None)
