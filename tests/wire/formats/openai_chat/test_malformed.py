"""Every value of a good request and answer, replaced by others of every type: refused by name or carried, no crash."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tollway.errors import BadRequest
from tollway.wire.codec import Profile, Unreadable
from tollway.wire.conversation import Conversation
from tollway.wire.formats.openai_chat import CODEC

GOLDEN = Path(__file__).parents[3] / "golden" / "openai_chat"
JUNK: list[Any] = [
    None,
    True,
    3,
    -1,
    1.5,
    10**30,
    "",
    "x",
    [],
    {},
    [1],
    [None],
    [{}],
    {"a": 1},
    {"type": "text"},
]
Place = tuple[str | int, ...]


def places(value: Any, here: Place = ()) -> Iterator[Place]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*here, key)
        yield from places(item, (*here, key))


def spoilt(value: Any) -> Iterator[Any]:
    """The value with one place left out or filled with junk, for every place and junk."""
    for place in list(places(value)):
        for junk in (None, *JUNK):
            found = copy.deepcopy(value)
            target = found
            for key in place[:-1]:
                target = target[key]
            if junk is None:
                del target[place[-1]]
            else:
                target[place[-1]] = None if junk == "null" else junk
            yield found


def test_requests() -> None:
    good = json.loads((GOLDEN / "request.json").read_bytes())
    good["messages"][2] |= {
        "thinking_blocks": [{"type": "thinking", "thinking": "x", "signature": "y"}],
        "reasoning_details": [{"type": "reasoning.text", "text": "a", "index": 0}],
    }
    refused: list[BadRequest] = []
    carried = 0
    for body in spoilt(good):
        try:
            asked = CODEC.read_request(json.dumps(body).encode())
        except BadRequest as error:
            refused.append(error)
            continue
        carried += 1
        for profile in (Profile(model="m"), Profile(model="m", tools=False, images=False, thinking="none")):
            json.loads(CODEC.write_request(asked, profile).body)
    assert all(error.param for error in refused)
    assert len(refused) > 500
    assert carried > 500


def test_answers_and_events() -> None:
    good = json.loads((GOLDEN / "answer.json").read_bytes())
    good["choices"][0]["message"] |= {
        "audio": {"id": "x", "data": "AAAA", "transcript": "t", "expires_at": 1},
        "images": [{"type": "image_url", "image_url": {"url": "x"}}],
        "reasoning_details": [{"type": "reasoning.text", "text": "a", "index": 0}],
        "thinking_blocks": [{"type": "thinking", "thinking": "x", "signature": "y"}],
        "function_call": {"name": "f", "arguments": "{}"},
    }
    asked = Conversation(model="m", include_usage=True)
    read = 0
    for body in spoilt(good):
        try:
            json.loads(CODEC.write_answer(CODEC.read_answer(json.dumps(body).encode()), asked))
            read += 1
        except Unreadable:
            pass
        choices = body.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and "message" in choice:
                choice["delta"] = choice.pop("message")
        reader = CODEC.stream_reader()
        try:
            events = reader.feed(b"data: " + json.dumps(body).encode() + b"\n\n") + reader.finish()
        except Unreadable:
            continue
        CODEC.stream_writer(asked).write(events)
    assert read > 200
