"""A response of the Responses API that can be asked for again: by whom, and where it is kept."""

from __future__ import annotations

from msgspec import Struct

HERE = ""
"""The provider of a response that this gateway keeps itself."""

UNFINISHED = frozenset(("queued", "in_progress"))


class StoredResponse(Struct, frozen=True, kw_only=True):
    """``owner`` is a key's id, ``admin`` or ``anonymous``; ``provider`` names who keeps it and ``deployment`` what
    served it, ``model`` the public name it was asked of. ``created`` and ``expires`` are Unix seconds.

    What a provider keeps has no more than that. Of what is kept here, ``previous`` is the response it goes on from,
    ``input`` the request's own input as it came (a JSON string or array), ``response`` the response object as JSON and
    ``events`` its stream where it was streamed (empty: it was not, or that was too long).
    """

    id: str
    owner: str
    team: str | None = None
    provider: str = HERE
    deployment: str = ""
    model: str = ""
    status: str = "completed"
    background: bool = False
    previous: str | None = None
    created: float = 0.0
    expires: float = 0.0
    input: bytes = b""
    response: bytes = b""
    events: bytes = b""

    @property
    def size(self) -> int:
        return len(self.input) + len(self.response) + len(self.events) + 500
