"""``logprobsResult`` and the hub's log probabilities, which are OpenAI's ``{"content": […]}``."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from tollway.wire.formats.gemini_generate.shapes import given


class _Chosen(Struct, rename="camel"):
    token: str = ""
    log_probability: float = 0.0


class _Top(Struct):
    candidates: list[_Chosen] | None = None


class _Result(Struct, rename="camel"):
    chosen_candidates: list[_Chosen] | None = None
    top_candidates: list[_Top] | None = None


class _Likely(Struct):
    token: str = ""
    logprob: float = 0.0


class _Token(Struct):
    token: str = ""
    logprob: float = 0.0
    top_logprobs: list[_Likely] | None = None


class _Told(Struct):
    content: list[_Token] | None = None


_decode_result = msgspec.json.Decoder(_Result).decode
_decode_told = msgspec.json.Decoder(_Told).decode
_encode = msgspec.json.Encoder().encode


def read_logprobs(raw: Raw) -> Raw:
    """OpenAI's object; empty where nothing (readable) was given."""
    if not given(raw):
        return Raw()
    try:
        result = _decode_result(raw)
    except (msgspec.DecodeError, RecursionError):
        return Raw()
    tops = result.top_candidates or []
    told = []
    for place, chosen in enumerate(result.chosen_candidates or ()):
        likely = tops[place].candidates if place < len(tops) else None
        told.append({**_token(chosen), "top_logprobs": [_token(each) for each in likely or ()]})
    return Raw(_encode({"content": told})) if told else Raw()


def _token(chosen: _Chosen) -> dict[str, object]:
    return {
        "token": chosen.token,
        "logprob": chosen.log_probability,
        "bytes": list(chosen.token.encode()),
    }


def write_logprobs(raw: Raw) -> dict[str, object] | None:
    """``logprobsResult``; None where there is nothing to tell."""
    if not given(raw):
        return None
    try:
        tokens = _decode_told(raw).content
    except (msgspec.DecodeError, RecursionError):
        return None
    if not tokens:
        return None
    told: dict[str, object] = {"chosenCandidates": [_chosen(token) for token in tokens]}
    if any(token.top_logprobs for token in tokens):
        told["topCandidates"] = [
            {"candidates": [_chosen(each) for each in token.top_logprobs or ()]} for token in tokens
        ]
    return told


def _chosen(token: _Token | _Likely) -> dict[str, object]:
    return {"token": token.token, "logProbability": token.logprob}
