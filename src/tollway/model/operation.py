"""What a client may do besides conversing, as data: one row an operation, from its path to what it touches."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Body = Literal["none", "json", "form", "either"]
Does = Literal["run", "make", "show", "change", "remove", "list", "fetch"]


class Operation(Struct, frozen=True, kw_only=True):
    """``endpoint`` is the name in events, ``offer`` what a provider of the catalogue has to offer, ``below`` the path
    behind that one's own, with the ids in braces.

    ``kind`` is the kind of object the first id names (or that is made), empty where the operation is about a model
    alone. ``does`` says what becomes of the object: ``run`` and ``fetch`` leave it as it is, ``fetch`` hands out bytes.
    ``model``: the body names a model, ``usual`` the one the API documents for bodies that name none. ``paid``: the
    provider charges for it.
    """

    endpoint: str
    offer: str
    method: str = "POST"
    below: str = ""
    body: Body = "json"
    kind: str = ""
    does: Does = "run"
    model: bool = False
    usual: str = ""
    paid: bool = True
