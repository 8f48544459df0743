"""Log probabilities of an answer's tokens: the hub keeps them with the choice, this API with the text they are of."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from tollway.wire.formats.openai_responses.shapes import encode


class Candidate(Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None

    def written(self) -> dict[str, object]:
        spelled = list(self.token.encode()) if self.bytes is None else self.bytes
        return {"token": self.token, "logprob": self.logprob, "bytes": spelled}


class Token(Candidate):
    top_logprobs: list[Candidate] = []


class Logprobs(Struct):
    content: list[Token] | None = None


_decode = msgspec.json.Decoder(Logprobs).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode


def tokens(raw: Raw) -> list[Token]:
    """The tokens of a choice's or delta's logprobs object; none where it is empty or something else."""
    if bytes(raw) in (b"", b"null"):
        return []
    try:
        return _decode(raw).content or []
    except (msgspec.DecodeError, RecursionError):
        return []


def written(found: list[Token]) -> list[dict[str, object]]:
    return [
        {**token.written(), "top_logprobs": [other.written() for other in token.top_logprobs]}
        for token in found
    ]


def taken(found: list[Token], text: str) -> list[Token]:
    """The leading tokens that spell ``text``, taken out of ``found``."""
    length = 0
    count = 0
    while count < len(found) and length < len(text):
        length += len(found[count].token)
        count += 1
    mine = found[:count]
    del found[:count]
    return mine


def joined(lists: list[Raw]) -> Raw:
    """The hub's object of the lists that an answer's texts carry."""
    everything: list[Raw] = []
    for raw in lists:
        if bytes(raw) not in (b"", b"null", b"[]"):
            try:
                everything.extend(_decode_list(raw))
            except (msgspec.DecodeError, RecursionError):
                continue
    return Raw(encode({"content": everything})) if everything else Raw()
