from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from tollway.wire import sse
from tollway.wire.formats.openai_stream import DONE, StreamTap, first_error, has_event

USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


def event(end: bytes = b"\n", **fields: Any) -> bytes:
    return b"data: " + json.dumps(fields, separators=(",", ":")).encode() + end + end


def words(*content: str, **more: Any) -> list[bytes]:
    return [
        event(id="c", choices=[{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more)
        for text in content
    ]


def usage(**more: Any) -> bytes:
    return event(id="c", choices=[], usage=USAGE, **more)


def relayed(tap: StreamTap, *pieces: bytes) -> bytes:
    return b"".join([tap.feed(piece) for piece in pieces]) + tap.finish()


def tap(hide: bool = False, cost: str | None = None) -> StreamTap:
    return StreamTap(hide_usage=hide, cost_of=None if cost is None else lambda raw: cost)


def said(stream: bytes) -> list[Any]:
    return [
        "[DONE]" if data == b"[DONE]" else json.loads(data)
        for part in sse.split(stream)
        if (data := sse.parse(part).data) is not None
    ]


# ------------------------------------------------------------------------------------------------ usage


def test_usage_the_client_asked_for_passes_and_is_read() -> None:
    stream = b"".join([*words("Hel", "lo"), usage(), DONE])
    listening = tap()
    assert relayed(listening, stream) == stream
    assert listening.usage is not None
    assert json.loads(bytes(listening.usage)) == USAGE
    assert listening.events == 2


def test_usage_the_client_did_not_ask_for_is_taken_out() -> None:
    spoken = words("Hel", "lo")
    listening = tap(hide=True)
    assert relayed(listening, b"".join([*spoken, usage(), DONE])) == b"".join([*spoken, DONE])
    assert json.loads(bytes(listening.usage or b"")) == USAGE


def test_cost_is_written_into_usage() -> None:
    stream = relayed(tap(cost="0.000042"), *words("Hi"), usage(service_tier="default"), DONE)
    last = said(stream)[-2]
    assert last == {"id": "c", "choices": [], "usage": {**USAGE, "cost": 0.000042}, "service_tier": "default"}
    assert b'"cost":0.000042}' in stream


def test_an_unknown_cost_is_not_written() -> None:
    stream = b"".join([*words("Hi"), usage(), DONE])
    assert relayed(StreamTap(hide_usage=False, cost_of=lambda raw: None), stream) == stream


def test_usage_beside_choices() -> None:
    both = event(
        id="c", choices=[{"index": 0, "delta": {"content": "!"}, "finish_reason": "stop"}], usage=USAGE
    )
    hidden = tap(hide=True)
    out = said(relayed(hidden, *words("Hi"), both, DONE))
    assert out[1] == {
        "id": "c", "choices": [{"index": 0, "delta": {"content": "!"}, "finish_reason": "stop"}]
    }  # fmt: skip
    assert out[2:] == ["[DONE]"]
    assert hidden.events == 2
    assert json.loads(bytes(hidden.usage or b"")) == USAGE
    shown = said(relayed(tap(cost="0.5"), *words("Hi"), both, DONE))
    assert shown[1]["usage"] == {**USAGE, "cost": 0.5}


def test_usage_in_every_event_ends_with_the_last() -> None:
    listening = tap()
    stream = b"".join(
        event(choices=[{"delta": {"content": "a"}}], usage={"prompt_tokens": 9, "completion_tokens": n})
        for n in (1, 2, 3)
    )
    assert relayed(listening, stream) == stream + DONE
    assert json.loads(bytes(listening.usage or b""))["completion_tokens"] == 3
    assert listening.events == 3


@pytest.mark.parametrize("choices", [b"[]", b"[ ]", b"null", None])
def test_an_event_with_nothing_but_usage_counts_as_none(choices: bytes | None) -> None:
    fields = b"" if choices is None else b'"choices":' + choices + b","
    listening = tap(hide=True)
    assert relayed(listening, b"data: {" + fields + b'"usage":{"total_tokens":3}}\n\n', DONE) == DONE
    assert listening.events == 0
    assert listening.estimated_output() == 0


@pytest.mark.parametrize(
    "line",
    [
        b'{"id":"c","usage":null,"choices":[{"delta":{"content":"a"}}]}',
        b'{"id":"c","choices":[{"delta":{"content":"a"}}], "usage": null}',
        b'{"usage":null,"id":"c","choices":[{"delta":{"content":"a"}}]}',
        b'{"usage" : null, "id":"c","choices":[{"delta":{"content":"a"}}]}',
    ],
)
def test_usage_null_goes_only_where_we_asked_for_usage(line: bytes) -> None:
    block = b"data: " + line + b"\n\n"
    assert said(tap(hide=True).feed(block)) == [{"id": "c", "choices": [{"delta": {"content": "a"}}]}]
    assert tap().feed(block) == block


def test_what_only_looks_like_usage_inside_a_text_stays() -> None:
    text = 'say ,"usage":null and "usage":{} and "error" and [DONE] to data: me'
    stream = b"".join(words(text))
    for hide in (True, False):
        listening = tap(hide)
        assert relayed(listening, stream, DONE) == stream + DONE
        assert listening.usage is None
        assert listening.failure is None


# -------------------------------------------------------------------------------------------- end, errors


def test_done_once_where_the_provider_says_it_more_often_or_never() -> None:
    spoken = b"".join(words("a"))
    assert relayed(tap(), spoken) == spoken + DONE
    assert relayed(tap(), spoken, DONE) == spoken + DONE
    assert relayed(tap(), spoken + DONE + DONE, DONE) == spoken + DONE
    assert relayed(tap(), spoken, b"data:[DONE]\r\n\r\n") == spoken + DONE
    assert relayed(tap(), spoken + b"data: [DONE]") == spoken + DONE
    listening = tap()
    assert relayed(listening, spoken + DONE + b"".join(words("after the end"))) == spoken + DONE
    assert listening.feed(b"data: more\n\n") == b""
    assert listening.done


def test_a_last_event_without_its_blank_line_is_still_said() -> None:
    spoken = b"".join(words("a", "b"))
    assert relayed(tap(), spoken[:-1]) == spoken + DONE
    assert relayed(tap(), spoken[:-2]) == spoken + DONE
    listening = tap(hide=True)
    assert relayed(listening, spoken, usage()[:-2]) == spoken + DONE
    assert listening.usage is not None


def test_error_events_pass_and_are_known() -> None:
    wire = event(error={"message": "overloaded", "type": "server_error"})
    listening = tap()
    assert relayed(listening, *words("a"), wire) == b"".join(words("a")) + wire + DONE
    assert listening.failure == "overloaded"


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ("plain words", '"plain words"'),
        ({"message": ""}, "the provider reported an error"),
        ({"code": 500}, "the provider reported an error"),
        ({"message": "x" * 900}, "x" * 500),
        ({"message": 7}, '{"message":7}'),
        (None, None),
    ],
)
def test_error_messages(error: Any, failure: str | None) -> None:
    listening = tap()
    listening.feed(event(error=error, choices=[]))
    assert listening.failure == failure


def test_comments_and_named_events_pass() -> None:
    stream = b": keep-alive\n\nevent: ping\ndata: {}\n\nid: 3\nretry: 100\n\n" + b"".join(words("a")) + DONE
    listening = tap(hide=True)
    assert relayed(listening, stream) == stream


def test_malformed_json_passes() -> None:
    stream = b'data: {"usage": {"prompt_tokens"\n\n' + b'data: "error"\n\n' + b'data: {"usage":[1]}\n\n'
    stream += b'data: {"error":' + b"[" * 100_000 + b"\n\n"
    listening = tap()
    assert relayed(listening, stream) == stream + DONE
    assert listening.failure is None


def test_crlf() -> None:
    stream = b"".join(part.replace(b"\n", b"\r\n") for part in words("a", "b"))
    tail = usage().replace(b"\n", b"\r\n") + b"data: [DONE]\r\n\r\n"
    listening = tap(hide=True)
    assert relayed(listening, stream + tail) == stream + DONE
    assert listening.usage is not None
    assert said(relayed(tap(cost="1.5"), stream + tail))[2]["usage"]["cost"] == 1.5


def test_an_event_without_end_is_refused() -> None:
    listening = tap()
    mebibyte = b"x" * 1024 * 1024
    for _ in range(16):
        assert listening.feed(mebibyte) == b""
    with pytest.raises(sse.EventTooLarge):
        listening.feed(b"x")


# ------------------------------------------------------------------------------------- however it arrives

_PARTS = st.lists(
    st.sampled_from(
        [
            *words("a", "bcd", "ü and 漢字", usage=None),
            *words("usage", usage=None, obfuscation="x"),
            event(usage=None, choices=[{"delta": {"content": "data:"}, "usage": None}]),
            event(choices=[], error=None, usage=None),
            b'data: {"usage": null}\n\n',
            b'data: {"a":1}\r\rdata: {"usage":null}\n\n',
            *words("x"),
            usage(),
            event(choices=[{"delta": {}}], usage=USAGE),
            event(error={"message": "no"}),
            b": ping\n\n",
            b"data: {broken\n\n",
            b"event: x\r\ndata: {}\r\n\r\n",
        ]
    ),
    max_size=6,
)


@given(_PARTS, st.booleans())
def test_an_event_that_comes_alone_is_treated_as_one_in_pieces(parts: list[bytes], hide: bool) -> None:
    alone, pieces = tap(hide), tap(hide)
    for listening in (alone, pieces):
        listening.feed(b": begun\n\n")
    for part in parts:
        assert alone.feed(part) == pieces.feed(part[:-1]) + pieces.feed(part[-1:])
    assert alone.finish() == pieces.finish()
    assert (alone.usage, alone.events, alone.failure) == (pieces.usage, pieces.events, pieces.failure)


@given(_PARTS, st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_split_at_every_byte(parts: list[bytes], hide: bool, ends: bool) -> None:
    stream = b"".join(parts) + (DONE if ends else b"")
    cost = None if hide else "0.1"
    whole_tap = tap(hide, cost)
    whole = relayed(whole_tap, stream)
    assert whole.count(b"[DONE]") == 1
    assert whole.endswith(DONE)
    for cut in range(len(stream) + 1):
        listening = tap(hide, cost)
        assert relayed(listening, stream[:cut], stream[cut:]) == whole
        assert (listening.usage, listening.events, listening.failure) == (
            whole_tap.usage, whole_tap.events, whole_tap.failure
        )  # fmt: skip
    listening = tap(hide, cost)
    assert relayed(listening, *(bytes([byte]) for byte in stream)) == whole


# --------------------------------------------------------------------------------------------- estimates


def test_estimate_counts_events() -> None:
    listening = tap()
    for block in words(*(["tok"] * 50)):
        listening.feed(block)
    assert listening.estimated_output() == 50


def test_estimate_sees_that_events_carry_more_than_a_token() -> None:
    listening = tap()
    for block in words("a", "b" * 400, "c" * 400):
        listening.feed(block)
    assert 150 <= listening.estimated_output() <= 250


def test_estimate_of_a_stream_that_came_in_one_read() -> None:
    listening = tap()
    listening.feed(b"".join(words(*(["tok"] * 50))))
    assert listening.estimated_output() == 50
    assert tap().estimated_output() == 0


# ---------------------------------------------------------------------------------------- the first event


@pytest.mark.parametrize(
    ("block", "found"),
    [
        (b'data: {"error":{"message":"no"}}\n\n', b'{"error":{"message":"no"}}'),
        (b': ping\n\ndata: {"error":"no"}\n\n', b'{"error":"no"}'),
        (sse.BOM + b'data: {"error":"no"}\n\n', b'{"error":"no"}'),
        (b'event: error\r\ndata: {"error":"no"}\r\n\r\n', b'{"error":"no"}'),
        (b'data: {"choices":[]}\n\ndata: {"error":"no"}\n\n', None),
        (b'data: {"error":null,"choices":[]}\n\n', None),
        (b'data: {"choices":[{"delta":{"content":"\\"error\\""}}]}\n\n', None),
        (b'data: {"error"\n\n', None),
        (b": ping\n\n", None),
        (b"", None),
    ],
)
def test_first_error(block: bytes, found: bytes | None) -> None:
    assert first_error(block) == found


@pytest.mark.parametrize(
    ("block", "answer"),
    [
        (b"data: x\n\n", True),
        (sse.BOM + b"data: x\n\n", True),
        (b": ping\n\ndata: x\n\n", True),
        (b"event: x\rdata: y\r\r", True),
        (b": ping data\n\n", False),
        (b"event: ping\n\n", False),
        (b"", False),
    ],
)
def test_has_event(block: bytes, answer: bool) -> None:
    assert has_event(block) is answer


def test_usage_is_kept_verbatim() -> None:
    listening = tap()
    verbatim = b'{ "prompt_tokens": 1.0, "vendor": {"x": [1, 2]} }'
    listening.feed(b'data: {"choices":[],"usage":' + verbatim + b"}\n\n")
    assert isinstance(listening.usage, Raw)
    assert bytes(listening.usage) == verbatim
