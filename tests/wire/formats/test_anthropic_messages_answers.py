"""Answers, streams and errors of the Messages API: the official SDK takes what is written, over a real connection."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import anthropic
import pytest
from anthropic.types import Message as SdkMessage
from anthropic.types.beta import BetaRawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, structs
from pydantic import TypeAdapter
from tests.wire.accumulate import Broken, accumulate

from tollway.errors import (
    BadRequest,
    BudgetExceeded,
    Forbidden,
    GatewayError,
    InternalError,
    ModelNotFound,
    NoHealthyDeployment,
    RateLimitExceeded,
    RequestTooLarge,
    Unauthorized,
    UpstreamError,
    UpstreamTimeout,
)
from tollway.model.usage import Usage
from tollway.wire import sse
from tollway.wire.codec import Unreadable
from tollway.wire.conversation import (
    Audio,
    BlockDelta,
    BlockStart,
    BlockStop,
    Choice,
    Citation,
    Completion,
    Conversation,
    End,
    Failed,
    Finish,
    Finished,
    Image,
    Metered,
    Opaque,
    Ping,
    Reasoning,
    Refusal,
    Source,
    Start,
    StreamEvent,
    Text,
    Thinking,
    ToolCall,
)
from tollway.wire.formats.anthropic_messages import CODEC, count_answer
from tollway.wire.formats.anthropic_messages.proof import unseal, unseal_call
from tollway.wire.formats.anthropic_messages.usage import read_usage

GOLDEN = Path(__file__).parents[2] / "golden" / "anthropic_messages"
ANSWER = (GOLDEN / "answer.json").read_bytes()
STREAM = (GOLDEN / "stream.sse").read_bytes()
BROKEN = (GOLDEN / "broken.sse").read_bytes()
REQUEST = Conversation(model="claude-test")
USAGE = Usage(input=11, cache_read=5, cache_write_5m=2, cache_write_1h=3, output=7, reasoning=4, searches=1)

SDK_BETA_EVENT: TypeAdapter[Any] = TypeAdapter(BetaRawMessageStreamEvent)


def read(data: bytes) -> list[StreamEvent]:
    reader = CODEC.stream_reader()
    return reader.feed(data) + reader.finish()


def write(events: Sequence[StreamEvent], request: Conversation = REQUEST) -> bytes:
    """One event at a time, as they come."""
    writer = CODEC.stream_writer(request)
    return b"".join(writer.write((event,)) for event in events)


def frames(data: bytes) -> list[dict[str, Any]]:
    """The events of a written stream, each with a name that is its type."""
    found = []
    for part in sse.split(data):
        event = sse.parse(part)
        assert event.data is not None
        fields = json.loads(event.data)
        assert event.name == fields["type"].encode()
        found.append(fields)
    return found


def legal(data: bytes) -> list[dict[str, Any]]:
    """The frames, held to the dialect's grammar and to the SDK's types."""
    found = [frame for frame in frames(data) if frame["type"] != "ping"]
    for frame in found:
        if frame["type"] != "error":
            SDK_BETA_EVENT.validate_python(frame)
    assert found[0]["type"] == "message_start"
    assert [frame["type"] for frame in found[-2:]] == ["message_delta", "message_stop"]
    opened = -1
    is_open = False
    for frame in found[1:-2]:
        if frame["type"] == "content_block_start":
            assert not is_open
            assert frame["index"] == opened + 1
            opened, is_open = frame["index"], True
        else:
            assert is_open
            assert frame["index"] == opened
            is_open = frame["type"] != "content_block_stop"
    assert not is_open
    return found


def events_of(answer: Completion, pieces: int = 3) -> list[StreamEvent]:
    """A whole answer told as a stream."""
    events: list[StreamEvent] = [Start(id=answer.id, model=answer.model)]
    choice = answer.choices[0]
    for index, block in enumerate(choice.blocks):
        if isinstance(block, Text | Thinking | Refusal) and block.text:
            text = block.text
            bare = structs.replace(block, text="")
            if isinstance(bare, Text):
                bare = structs.replace(bare, citations=())
            if isinstance(bare, Thinking):
                bare = structs.replace(bare, signature=None, redacted=None)
            events.append(BlockStart(index=index, block=bare))
            events += [
                BlockDelta(index=index, text=text[at : at + pieces]) for at in range(0, len(text), pieces)
            ]
            if isinstance(block, Text):
                events += [BlockDelta(index=index, citation=citation) for citation in block.citations]
            if isinstance(block, Thinking):
                if block.signature:
                    half = len(block.signature) // 2
                    for part in (block.signature[:half], block.signature[half:]):
                        events.append(BlockDelta(index=index, signature=part))
                if block.redacted:
                    events.append(BlockDelta(index=index, redacted=block.redacted))
        elif isinstance(block, ToolCall):
            events.append(BlockStart(index=index, block=structs.replace(block, arguments="")))
            events += [
                BlockDelta(index=index, arguments=block.arguments[at : at + pieces])
                for at in range(0, len(block.arguments), pieces)
            ]
        else:
            events.append(BlockStart(index=index, block=block))
        events.append(BlockStop(index=index))
    events.append(Finished(finish=choice.finish, stop_sequence=choice.stop_sequence))
    if answer.usage is not None:
        events.append(Metered(usage=answer.usage))
    return [*events, End()]


def told(*blocks: Any, finish: Finish = "stop", **fields: Any) -> Completion:
    choice = Choice(blocks=blocks, finish=finish, stop_sequence=fields.pop("stop_sequence", None))
    return Completion(**{"id": "msg_1", "model": "m", "choices": (choice,), "usage": USAGE, **fields})


def whole(answer: Completion, request: Conversation = REQUEST) -> dict[str, Any]:
    got = json.loads(CODEC.write_answer(answer, request))
    assert isinstance(got, dict)
    return got


# ------------------------------------------------------------------ a server for the SDK


class Served(ThreadingHTTPServer):
    """Answers every request with ``status``, ``content_type`` and ``body``."""

    status = 200
    content_type = "application/json"
    body = b""


class Handler(BaseHTTPRequestHandler):
    server: Served

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(self.server.status)
        self.send_header("content-type", self.server.content_type)
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    served = Served(("127.0.0.1", 0), Handler)
    thread = Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        api_key="k", base_url=f"http://127.0.0.1:{server.server_address[1]}", max_retries=0
    ) as made:
        yield made


def streamed(server: Served, client: anthropic.Anthropic, body: bytes) -> SdkMessage:
    """The message that the SDK makes of a stream."""
    server.status, server.content_type, server.body = 200, "text/event-stream; charset=utf-8", body
    with client.messages.stream(
        model="m", max_tokens=10, messages=[{"role": "user", "content": "x"}]
    ) as stream:
        return stream.get_final_message()


# ------------------------------------------------------------------ reading


def test_a_whole_message_is_read() -> None:
    got = CODEC.read_answer(ANSWER)
    assert (got.id, got.model) == ("msg_01XFDUDYJgAACzvnptvVoYEL", "claude-opus-4-5-20251101")
    assert got.service_tier == "standard"
    assert json.loads(bytes(got.raw_usage))["input_tokens"] == 2095
    assert got.usage == Usage(
        input=2095,
        cache_read=1800,
        cache_write_5m=100,
        cache_write_1h=200,
        output=503,
        reasoning=120,
        searches=1,
    )
    (choice,) = got.choices
    assert (choice.finish, choice.stop_sequence) == ("tool_calls", None)
    thought, redacted, search, found, sunny, _, time, ping = choice.blocks
    assert thought == Thinking(text="They ask about Paris.", signature="EqQBCgIYAhIM", format="anthropic")
    assert redacted == Thinking(redacted="EmwKAhgBEgy3", format="anthropic")
    assert isinstance(search, Opaque)
    assert isinstance(found, Opaque)
    assert (search.kind, found.kind) == ("server_tool_use", "web_search_tool_result")
    assert isinstance(sunny, Text)
    assert (sunny.citations[0].url, sunny.citations[0].title) == ("https://example.com/w", "Weather")
    assert isinstance(time, ToolCall)
    assert json.loads(time.arguments) == {"city": "Paris", "zone": {"utc": 2}}
    assert ping == ToolCall(id="toolu_01D8", name="ping")


def comparable(answer: Completion) -> Any:
    """An answer by what it says: JSON kept as it came is compared as values."""
    blocks = []
    for block in answer.choices[0].blocks:
        if isinstance(block, Opaque):
            blocks.append(("opaque", block.kind, json.loads(bytes(block.raw))))
        elif isinstance(block, ToolCall):
            blocks.append((block.id, block.name, json.loads(block.arguments), block.signature))
        elif isinstance(block, Text):
            cited = [json.loads(bytes(citation.raw)) for citation in block.citations]
            blocks.append((block.text, cited))
        else:
            blocks.append(block)
    choice = answer.choices[0]
    return answer.id, answer.model, answer.usage, choice.finish, choice.stop_sequence, blocks


def test_stream_and_whole_are_the_same_answer() -> None:
    got = accumulate(read(STREAM))
    assert comparable(got) == comparable(CODEC.read_answer(ANSWER))
    assert json.loads(bytes(got.raw_usage))["cache_creation"]["ephemeral_1h_input_tokens"] == 200


def test_the_start_tells_the_usage_of_the_prompt() -> None:
    start = read(STREAM)[0]
    assert isinstance(start, Start)
    assert start.usage is not None
    assert (start.usage.input, start.usage.cache_write_1h, start.usage.output) == (2095, 200, 2)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_any_split_gives_the_same_events(line_end: bytes) -> None:
    data = STREAM.replace(b"\n", line_end)
    want = read(STREAM)
    for at in range(1, len(data)):
        reader = CODEC.stream_reader()
        got = reader.feed(data[:at]) + reader.feed(data[at:]) + reader.finish()
        assert got == want, at
    reader = CODEC.stream_reader()
    got = [event for at in range(len(data)) for event in reader.feed(data[at : at + 1])]
    assert got + reader.finish() == want


def test_an_error_event_ends_the_stream() -> None:
    with pytest.raises(Broken) as broken:
        accumulate(read(BROKEN))
    assert broken.value.failed == Failed(message="Overloaded", status=529, kind="overloaded_error")
    assert broken.value.so_far.choices[0].blocks == (
        Thinking(text="They ask about Paris.", signature="EqQBCgIYAhIM", format="anthropic"),
    )
    first = b'event: error\ndata: {"type":"error","error":{"type":"rate_limit_error","message":"Slow"}}\n\n'
    assert read(first) == [Failed(message="Slow", status=429, kind="rate_limit_error")]


def test_a_stream_that_breaks_off() -> None:
    cut = STREAM[: STREAM.index(b"event: message_delta")]
    with pytest.raises(Broken) as broken:
        accumulate(read(cut))
    assert broken.value.failed.status == 502
    assert broken.value.so_far.usage is not None
    assert broken.value.so_far.usage.input == 2095
    assert isinstance(read(b"")[0], Failed)


def test_an_end_without_its_last_event_is_an_end() -> None:
    cut = STREAM[: STREAM.index(b"event: message_stop")]
    assert accumulate(read(cut)) == accumulate(read(STREAM))
    assert accumulate(read(STREAM.rstrip(b"\n"))) == accumulate(read(STREAM))


def stream(*events: dict[str, Any], usage: dict[str, Any] | None = None, reason: str = "end_turn") -> bytes:
    """A stream with these events between its start and its end."""
    start = {"type": "message_start", "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 3}}}
    delta = {
        "type": "message_delta",
        "delta": {"stop_reason": reason},
        "usage": usage or {"output_tokens": 1},
    }
    rows = [start, *events, delta, {"type": "message_stop"}]
    return b"".join(b"data: " + json.dumps(row).encode() + b"\n\n" for row in rows)


def block(start: dict[str, Any], *deltas: dict[str, Any], index: int = 0) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def test_a_call_whose_input_came_with_its_start() -> None:
    call = {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}
    got = accumulate(read(stream(*block(call), reason="tool_use")))
    assert got.choices[0].blocks == (ToolCall(id="a", name="f", arguments='{"x": 1}'),)
    more = block(call, {"type": "input_json_delta", "partial_json": '{"x": 2}'})
    got = accumulate(read(stream(*more, reason="tool_use")))
    assert got.choices[0].blocks == (ToolCall(id="a", name="f", arguments='{"x": 2}'),)


def test_text_that_came_with_its_start() -> None:
    got = accumulate(read(stream(*block({"type": "text", "text": "a"}, {"type": "text_delta", "text": "b"}))))
    assert got.choices[0].blocks == (Text(text="ab"),)


def test_blocks_of_the_api_alone_are_held_until_whole() -> None:
    events = read(
        stream(
            *block({"type": "compaction", "content": None}, {"type": "compaction_delta", "content": "Sum"}),
            *block(
                {"type": "mcp_tool_use", "id": "m", "name": "n", "server_name": "s", "input": {}},
                {"type": "input_json_delta", "partial_json": '{"q":'},
                {"type": "input_json_delta", "partial_json": "1}"},
                index=1,
            ),
            reason="compaction",
        )
    )
    got = accumulate(events).choices[0]
    assert [json.loads(bytes(found.raw)) for found in got.blocks if isinstance(found, Opaque)] == [
        {"type": "compaction", "content": "Sum"},
        {"type": "mcp_tool_use", "id": "m", "name": "n", "server_name": "s", "input": {"q": 1}},
    ]
    assert got.finish == "pause"


def test_unknown_events_and_deltas_are_passed_over() -> None:
    got = accumulate(
        read(
            stream(
                {"type": "hologram", "index": "x"} | {"index": 0},
                *block(
                    {"type": "text", "text": ""}, {"type": "shine_delta"}, {"type": "text_delta", "text": "a"}
                ),
            )
        )
    )
    assert got.choices[0].blocks == (Text(text="a"),)


@pytest.mark.parametrize(
    "data",
    [
        b"data: {\n\n",
        b"data: []\n\n",
        b'data: {"type":"message_start"}\n\n',
        b'data: {"type":"content_block_start","index":0}\n\n',
        b'data: {"type":"content_block_start","index":0,"content_block":{"type":"tool_use"}}\n\n',
        b'data: {"type":"content_block_delta","index":"a"}\n\n',
        b"data: " + b"[" * 100_000 + b"\n\n",
    ],
)
def test_what_is_no_stream_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable) as error:
        read(data)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"content":[{}]}',
        b'{"content":[{"type":"text"}]}',
        b'{"content":3}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_message_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        CODEC.read_answer(body)


REASONS: list[tuple[str, Finish]] = [
    ("end_turn", "stop"),
    ("max_tokens", "length"),
    ("stop_sequence", "stop"),
    ("tool_use", "tool_calls"),
    ("pause_turn", "pause"),
    ("refusal", "refusal"),
    ("model_context_window_exceeded", "length"),
    ("something_new", "stop"),
]


@pytest.mark.parametrize(("reason", "finish"), REASONS)
def test_reasons_are_read(reason: str, finish: Finish) -> None:
    body = json.dumps({"content": [], "stop_reason": reason, "stop_sequence": "END"}).encode()
    choice = CODEC.read_answer(body).choices[0]
    assert (choice.finish, choice.stop_sequence) == (finish, "END")
    assert accumulate(read(stream(reason=reason))).choices[0].finish == finish


@pytest.mark.parametrize(
    ("finish", "stop_sequence", "reason"),
    [
        ("stop", None, "end_turn"),
        ("stop", "END", "stop_sequence"),
        ("length", None, "max_tokens"),
        ("tool_calls", None, "tool_use"),
        ("content_filter", None, "refusal"),
        ("refusal", None, "refusal"),
        ("pause", None, "pause_turn"),
        ("error", None, "end_turn"),
    ],
)
def test_reasons_are_written(finish: Finish, stop_sequence: str | None, reason: str) -> None:
    answer = told(Text(text="x"), finish=finish, stop_sequence=stop_sequence)
    assert whole(answer)["stop_reason"] == reason
    delta = legal(write(events_of(answer)))[-2]["delta"]
    assert delta == {"stop_reason": reason, "stop_sequence": stop_sequence}


def test_calls_are_a_reason_even_when_the_provider_says_stop() -> None:
    """An agent looks at the reason alone to know that it has to act."""
    answer = told(ToolCall(id="a", name="f"), finish="stop")
    assert whole(answer)["stop_reason"] == "tool_use"
    assert legal(write(events_of(answer)))[-2]["delta"]["stop_reason"] == "tool_use"


# ------------------------------------------------------------------ usage


@pytest.mark.parametrize(
    ("wire", "usage"),
    [
        ({"input_tokens": 3, "output_tokens": 4}, Usage(input=3, output=4)),
        (
            {
                "input_tokens": 3,
                "output_tokens": 4,
                "cache_creation_input_tokens": 9,
                "cache_read_input_tokens": 8,
            },
            Usage(input=3, output=4, cache_read=8, cache_write_5m=9),
        ),
        (
            {
                "input_tokens": 0,
                "output_tokens": 4,
                "cache_creation_input_tokens": 9,
                "cache_creation": {"ephemeral_1h_input_tokens": 4},
            },
            Usage(output=4, cache_write_5m=5, cache_write_1h=4),
        ),
        (
            {"input_tokens": 1, "output_tokens": 1, "cache_creation": {"ephemeral_5m_input_tokens": 2}},
            Usage(input=1, output=1, cache_write_5m=2),
        ),
        (
            {"input_tokens": 1, "output_tokens": 5, "output_tokens_details": {"thinking_tokens": 9}},
            Usage(input=1, output=5, reasoning=5),
        ),
        ({"input_tokens": -1, "output_tokens": 5, "cache_read_input_tokens": None}, Usage(output=5)),
        (
            {
                "input_tokens": 10,
                "output_tokens": 5,
                "iterations": [
                    {"type": "compaction", "input_tokens": 180000, "output_tokens": 3500},
                    {"type": "message", "input_tokens": 10, "output_tokens": 5},
                ],
            },
            Usage(input=180010, output=3505),
        ),
    ],
)
def test_usage_is_disjoint(wire: dict[str, Any], usage: Usage) -> None:
    assert read_usage(json.dumps(wire).encode()) == (usage, None)


@pytest.mark.parametrize("raw", [b"", b"null", b"{}", b"[1]", b'"x"', b'{"input_tokens":"a"}', b"{" * 9])
def test_no_usage_is_no_usage(raw: bytes) -> None:
    assert read_usage(raw)[0] is None


def test_later_usage_counts_and_the_rest_stays() -> None:
    """Providers that count the prompt at the end only, and those that say it once."""
    got = accumulate(
        read(stream(usage={"input_tokens": 8, "output_tokens": 2, "cache_read_input_tokens": None}))
    )
    assert got.usage == Usage(input=8, output=2)
    assert accumulate(read(stream())).usage == Usage(input=3, output=1)
    nulls = {"input_tokens": None, "output_tokens": 2}
    assert accumulate(read(stream(usage=nulls))).usage == Usage(input=3, output=2)


COUNTS = st.integers(0, 10**9)


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        Usage,
        input=COUNTS,
        cache_read=COUNTS,
        cache_write_5m=COUNTS,
        cache_write_1h=COUNTS,
        output=COUNTS,
        searches=COUNTS,
    ),
    st.integers(0, 10**9),
)
def test_usage_comes_back_from_message_and_stream(usage: Usage, reasoning: int) -> None:
    usage = structs.replace(usage, reasoning=min(reasoning, usage.output))
    answer = told(Text(text="x"), usage=usage)
    assert CODEC.read_answer(CODEC.write_answer(answer, REQUEST)).usage == usage
    assert accumulate(read(write(events_of(answer)))).usage == usage


def test_audio_tokens_count_as_plain_ones() -> None:
    got = whole(told(Text(text="x"), usage=Usage(input=1, audio_input=2, output=3, audio_output=4)))
    assert (got["usage"]["input_tokens"], got["usage"]["output_tokens"]) == (3, 7)


def test_a_cost_has_no_place_here() -> None:
    assert "cost" not in whole(told(Text(text="x"), cost="0.1"))["usage"]


# ------------------------------------------------------------------ writing


def test_the_sdk_takes_a_whole_message(server: Served, client: anthropic.Anthropic) -> None:
    answer = CODEC.read_answer(ANSWER)
    body = CODEC.write_answer(answer, REQUEST)
    assert json.loads(body) == json.loads(ANSWER)
    SdkMessage.model_validate_json(body)
    server.status, server.content_type, server.body = 200, "application/json", body
    got = client.messages.create(model="m", max_tokens=5, messages=[{"role": "user", "content": "x"}])
    assert [found.type for found in got.content] == [found["type"] for found in json.loads(ANSWER)["content"]]
    assert got.usage.cache_creation is not None
    assert got.usage.cache_creation.ephemeral_1h_input_tokens == 200


def test_the_sdk_takes_a_stream_as_the_same_message(server: Served, client: anthropic.Anthropic) -> None:
    """Read from the API, written again: the SDK's accumulator ends with the message the API meant."""
    want = SdkMessage.model_validate_json(ANSWER)
    direct = streamed(server, client, STREAM)
    ours = write(read(STREAM))
    legal(ours)
    through = streamed(server, client, ours)
    assert through.model_dump(mode="json") == direct.model_dump(mode="json")
    assert through.content == [type(found).model_validate(found.model_dump()) for found in direct.content]
    for got, meant in zip(through.content, want.content, strict=True):
        assert got.model_dump(exclude_none=True, exclude={"parsed_output"}) == meant.model_dump(
            exclude_none=True
        )
    assert through.usage.output_tokens == 503
    assert through.stop_reason == "tool_use"


def test_parallel_calls_that_interleave_are_told_one_after_the_other(
    server: Served, client: anthropic.Anthropic
) -> None:
    """As OpenAI's chunks bring them: the arguments of two calls side by side."""
    events: list[StreamEvent] = [
        Start(id="chatcmpl-1", model="gpt"),
        BlockStart(index=0, block=Text()),
        BlockDelta(index=0, text="Both"),
        BlockStart(index=1, block=ToolCall(id="a", name="f", arguments="")),
        BlockStart(index=2, block=ToolCall(id="b", name="g", arguments="")),
        BlockDelta(index=2, arguments='{"y":'),
        BlockDelta(index=1, arguments='{"x":'),
        BlockDelta(index=0, text=" of them."),
        BlockStart(index=3, block=ToolCall(id="c", name="h", arguments="")),
        BlockDelta(index=2, arguments="2}"),
        BlockStop(index=2),
        BlockDelta(index=1, arguments="1}"),
        BlockStop(index=0),
        BlockStop(index=3),
        BlockStop(index=1),
        Finished(finish="tool_calls"),
        Metered(usage=Usage(input=4, output=9)),
        End(),
    ]
    data = write(events)
    legal(data)
    got = streamed(server, client, data)
    assert [found.model_dump(exclude_none=True, exclude={"parsed_output"}) for found in got.content] == [
        {"type": "text", "text": "Both of them."},
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {"y": 2}},
        {"type": "tool_use", "id": "c", "name": "h", "input": {}},
    ]
    assert (got.usage.input_tokens, got.usage.output_tokens) == (4, 9)
    assert got.id == "chatcmpl-1"


def test_text_goes_out_as_it_comes() -> None:
    writer = CODEC.stream_writer(REQUEST)
    assert frames(writer.write((Start(id="a"),)))[0]["message"]["usage"]["input_tokens"] == 0
    assert writer.write((BlockStart(index=0, block=Text()),)) == b""
    first = frames(writer.write((BlockDelta(index=0, text="H"),)))
    assert [frame["type"] for frame in first] == ["content_block_start", "content_block_delta"]
    (second,) = frames(writer.write((BlockDelta(index=0, text='i"\n'),)))
    assert second["delta"] == {"type": "text_delta", "text": 'i"\n'}


def test_the_start_says_what_the_provider_said() -> None:
    data = CODEC.stream_writer(REQUEST).write((Start(id="i", usage=USAGE, service_tier="priority"),))
    message = frames(data)[0]["message"]
    assert message["usage"]["cache_creation"] == {
        "ephemeral_5m_input_tokens": 2,
        "ephemeral_1h_input_tokens": 3,
    }
    assert message["usage"]["service_tier"] == "priority"
    assert message["model"] == "claude-test"


def test_empty_blocks_are_never_told() -> None:
    """A client would send them back, and the API refuses to read them."""
    answer = told(Text(text=""), Thinking(), Refusal(), Text(text="x"))
    assert [found["type"] for found in whole(answer)["content"]] == ["text"]
    got = legal(write(events_of(answer)))
    assert [frame["content_block"]["type"] for frame in got if "content_block" in frame] == ["text"]


def test_an_answer_of_nothing() -> None:
    assert whole(Completion())["content"] == []
    got = legal(write([Start(), End()]))
    assert [frame["type"] for frame in got] == ["message_start", "message_delta", "message_stop"]
    legal(write([End()]))


def test_a_call_without_arguments_is_an_empty_object() -> None:
    got = legal(write(events_of(told(ToolCall(id="a", name="f", arguments="")))))
    pieces = [frame["delta"]["partial_json"] for frame in got if frame["type"] == "content_block_delta"]
    assert pieces == ["{}"]


def test_arguments_that_are_no_object() -> None:
    got = whole(told(ToolCall(id="a", name="f", arguments='{"cut'), finish="length"))
    assert got["content"][0]["input"] == {"input": '{"cut'}
    SdkMessage.model_validate(got)


def test_free_text_of_a_custom_tool(server: Served, client: anthropic.Anthropic) -> None:
    patch = '*** Begin\n"é"\\ 😀'
    answer = told(ToolCall(id="a", name="patch", arguments=patch, custom=True), finish="tool_calls")
    assert whole(answer)["content"][0]["input"] == {"input": patch}
    for pieces in (1, 4, 100):
        got = streamed(server, client, write(events_of(answer, pieces)))
        assert got.content[0].model_dump()["input"] == {"input": patch}
    nothing = told(ToolCall(id="a", name="patch", arguments="", custom=True), finish="tool_calls")
    assert whole(nothing)["content"][0]["input"] == {"input": ""}
    got = streamed(server, client, write(events_of(nothing)))
    assert got.content[0].model_dump()["input"] == {"input": ""}


def test_thoughts_that_the_client_does_not_want_to_read() -> None:
    """``thinking.display`` omitted: a block with its signature alone, and signs of life meanwhile."""
    request = structs.replace(REQUEST, reasoning=Reasoning(adaptive=True, show=False))
    answer = told(Thinking(text="secret thought", signature="sig", format="anthropic"), Text(text="x"))
    thought = {"type": "thinking", "thinking": "", "signature": "sig"}
    assert whole(answer, request)["content"][0] == thought
    data = write(events_of(answer), request)
    assert b"secret" not in data
    assert b"event: ping" in data
    got = accumulate(read(data)).choices[0].blocks
    assert got[0] == Thinking(signature="sig", format="anthropic")


def test_a_signature_goes_out_whole(server: Served, client: anthropic.Anthropic) -> None:
    """The SDK keeps the last signature delta it sees."""
    answer = told(Thinking(text="t", signature="abcdef", format="anthropic"), Text(text="x"))
    got = streamed(server, client, write(events_of(answer)))
    assert got.content[0].model_dump() == {"type": "thinking", "thinking": "t", "signature": "abcdef"}


THEIRS = [
    Thinking(text="t", signature="sig", format="google"),
    Thinking(text="t", redacted="enc", id="rs_1", summary=True, format="openai"),
    Thinking(redacted="enc", id="rs_1", format="openai"),
]


@pytest.mark.parametrize("thought", THEIRS)
def test_reasoning_of_others_travels_sealed(
    thought: Thinking, server: Served, client: anthropic.Anthropic
) -> None:
    """What a client gives back is what the provider wrote, from a message or a stream."""
    answer = told(thought, Text(text="x"))
    for got in (
        SdkMessage.model_validate(whole(answer)),
        streamed(server, client, write(events_of(answer))),
    ):
        back = CODEC.read_request(
            json.dumps(
                {
                    "model": "m",
                    "max_tokens": 5,
                    "messages": [
                        {
                            "role": "assistant",
                            "content": [
                                found.model_dump(exclude_none=True, exclude={"parsed_output"})
                                for found in got.content
                            ],
                        }
                    ],
                }
            ).encode()
        )
        assert back.messages[0].blocks == (thought, Text(text="x"))


def test_a_calls_own_signature_travels_in_front_of_it(server: Served, client: anthropic.Anthropic) -> None:
    answer = told(ToolCall(id="a", name="f", arguments='{"x":1}', signature="proof"))
    first, second = whole(answer)["content"]
    assert unseal_call(first["data"]) == ("a", "proof")
    assert second["type"] == "tool_use"
    got = streamed(server, client, write(events_of(answer)))
    assert [found.type for found in got.content] == ["redacted_thinking", "tool_use"]
    late = write(
        [
            Start(),
            BlockStart(index=0, block=ToolCall(id="a", name="f", arguments="")),
            BlockDelta(index=0, signature="pro"),
            BlockDelta(index=0, signature="of"),
            BlockStop(index=0),
            End(),
        ]
    )
    last = [frame for frame in legal(late) if "content_block" in frame][-1]["content_block"]
    assert unseal_call(last["data"]) == ("a", "proof")


def test_unsigned_reasoning_of_others_is_shown() -> None:
    """Servers that say ``reasoning_content``: nothing to prove, but it must be known again when it returns."""
    thought = Thinking(text="hm", format="openai")
    answer = told(thought, Text(text="x"))
    block = whole(answer)["content"][0]
    assert (block["type"], block["thinking"]) == ("thinking", "hm")
    assert unseal(block["signature"], "hm") == thought
    got = legal(write(events_of(answer)))
    (signed,) = [frame for frame in got if frame.get("delta", {}).get("type") == "signature_delta"]
    assert signed["delta"]["signature"] == block["signature"]
    assert unseal("", "hm") is None


def test_citations_of_others_are_web_results(server: Served, client: anthropic.Anthropic) -> None:
    cited = Citation(
        url="https://a", title="A", cited="words", start=0, end=1, format="openai", raw=Raw(b"{}")
    )
    answer = told(Text(text="x", citations=(cited, Citation(file_id="file-1", format="openai"))))
    want = {
        "type": "web_search_result_location",
        "url": "https://a",
        "title": "A",
        "cited_text": "words",
        "encrypted_index": "",
    }
    assert whole(answer)["content"][0]["citations"] == [want]
    got = streamed(server, client, write(events_of(answer)))
    assert got.content[0].model_dump()["citations"] == [want]


def test_what_the_dialect_cannot_say_is_left_out() -> None:
    answer = told(
        Image(source=Source(kind="data", value="AAAA", media_type="image/png")),
        Audio(source=Source(kind="data", value="AAAA", media_type="audio/wav"), transcript="Spoken."),
        Opaque(format="openai", kind="file_search_call", raw=Raw(b'{"type":"file_search_call"}')),
        Refusal(text="No."),
    )
    want = [{"type": "text", "text": "Spoken."}, {"type": "text", "text": "No."}]
    assert whole(answer)["content"] == want
    got = accumulate(read(write(events_of(answer)))).choices[0].blocks
    assert got == (Text(text="Spoken."), Text(text="No."))


def test_pretty_printed_json_stays_on_one_line() -> None:
    """A line break inside an event's data would tear it apart."""
    raw = Raw(
        json.dumps(
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": 1}}, indent=2
        ).encode()
    )
    result = Raw(
        json.dumps({"type": "web_search_tool_result", "tool_use_id": "s", "content": []}, indent=2).encode()
    )
    cited = Citation(
        format="anthropic",
        raw=Raw(
            json.dumps(
                {
                    "type": "page_location",
                    "cited_text": "x",
                    "document_index": 0,
                    "document_title": None,
                    "start_page_number": 1,
                    "end_page_number": 2,
                },
                indent=2,
            ).encode()
        ),
    )
    answer = told(
        Opaque(format="anthropic", kind="server_tool_use", raw=raw),
        Opaque(format="anthropic", kind="web_search_tool_result", raw=result),
        Text(text="x", citations=(cited,)),
        ToolCall(id="a", name="f", arguments='{\n  "x": "\\n"\n}'),
    )
    data = write(events_of(answer))
    legal(data)
    assert comparable(accumulate(read(data))) == comparable(
        structs.replace(answer, choices=(structs.replace(answer.choices[0], finish="tool_calls"),))
    )


def test_a_failure_is_the_last_thing_said(server: Served, client: anthropic.Anthropic) -> None:
    data = write(
        [
            Start(id="a"),
            BlockStart(index=0, block=Text()),
            BlockDelta(index=0, text="x"),
            Ping(),
            Failed(message="The provider is gone.", status=503),
            BlockStop(index=0),
            End(),
        ]
    )
    found = frames(data)
    assert [frame["type"] for frame in found][-2:] == ["ping", "error"]
    assert found[-1]["error"] == {"type": "overloaded_error", "message": "The provider is gone."}
    with pytest.raises(anthropic.APIStatusError) as error:
        streamed(server, client, data)
    assert "The provider is gone." in str(error.value)


def test_a_failure_before_the_start() -> None:
    assert [frame["type"] for frame in frames(write([Failed(message="x", status=400)]))] == ["error"]


def test_other_choices_are_left_out() -> None:
    data = write(
        [
            Start(),
            BlockStart(index=0, block=Text(), choice=1),
            BlockStart(index=0, block=Text()),
            BlockDelta(index=0, text="no", choice=1),
            BlockDelta(index=0, text="yes"),
            BlockStop(index=0, choice=1),
            BlockStop(index=0),
            Finished(finish="length", choice=1),
            Finished(finish="stop"),
            End(),
        ]
    )
    got = accumulate(read(data))
    assert got.choices[0].blocks == (Text(text="yes"),)
    assert got.choices[0].finish == "stop"


# ------------------------------------------------------------------ properties

WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
OBJECTS = st.dictionaries(WORDS, st.integers() | WORDS | st.lists(st.booleans(), max_size=2), max_size=3)
ARGUMENTS = OBJECTS.map(lambda value: json.dumps(value, ensure_ascii=False))
BLOCKS = (
    st.builds(Text, text=WORDS)
    | st.builds(Thinking, text=WORDS, signature=WORDS, format=st.just("anthropic"))
    | st.builds(Thinking, redacted=WORDS, format=st.just("anthropic"))
    | st.builds(ToolCall, id=WORDS, name=WORDS, arguments=ARGUMENTS)
    | st.builds(
        lambda name, value: Opaque(
            format="anthropic",
            kind="server_tool_use",
            raw=Raw(
                json.dumps({"type": "server_tool_use", "id": "s", "name": name, "input": value}).encode()
            ),
        ),
        st.sampled_from(["web_search", "code_execution"]),
        OBJECTS,
    )
)


@settings(max_examples=150, deadline=None)
@given(blocks=st.lists(BLOCKS, max_size=5), pieces=st.integers(1, 9), data=st.data())
def test_stream_and_message_tell_the_same(blocks: list[Any], pieces: int, data: st.DataObject) -> None:
    """Blocks told side by side in any order come out in theirs; read again they are the answer that was meant."""
    calls = any(isinstance(found, ToolCall) for found in blocks)
    answer = told(*blocks, finish="tool_calls" if calls else "stop")
    whole_again = CODEC.read_answer(CODEC.write_answer(answer, REQUEST))
    assert comparable(whole_again) == comparable(answer)

    events = events_of(answer, pieces)
    per_block: dict[int, list[StreamEvent]] = {}
    for event in events:
        if isinstance(event, BlockStart | BlockDelta | BlockStop):
            per_block.setdefault(event.index, []).append(event)
    mixed: list[StreamEvent] = []
    opened = 0
    while any(per_block.values()):
        # A block may begin only when all before it have.
        ready = [index for index, rest in per_block.items() if rest and index <= opened]
        index = data.draw(st.sampled_from(ready))
        event = per_block[index].pop(0)
        opened += isinstance(event, BlockStart)
        mixed.append(event)
    shuffled = [events[0], *mixed, *events[-3:]]
    accumulate(shuffled)  # the shuffle itself keeps the hub's grammar
    written = write(shuffled)
    legal(written)
    assert comparable(accumulate(read(written))) == comparable(answer)
    assert written == CODEC.stream_writer(REQUEST).write(shuffled)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, len(STREAM.split(b"\n\n")) - 2), max_size=12), st.binary(max_size=30))
def test_streams_in_any_disorder_are_read_or_unreadable(order: list[int], noise: bytes) -> None:
    parts = [part + b"\n\n" for part in STREAM.split(b"\n\n")]
    reader = CODEC.stream_reader()
    try:
        events = reader.feed(b"".join(parts[place] for place in order) + noise) + reader.finish()
    except Unreadable:
        return
    assert isinstance(events[-1], End | Failed)
    try:
        accumulate(events)
    except Broken as broken:
        assert broken.failed is events[-1]  # noqa: PT017


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("error", "kind", "raised"),
    [
        (BadRequest("No.", param="messages.0"), "invalid_request_error", anthropic.BadRequestError),
        (Unauthorized("No."), "authentication_error", anthropic.AuthenticationError),
        (BudgetExceeded("No.", details={"budget": "team"}), "billing_error", anthropic.APIStatusError),
        (Forbidden("No."), "permission_error", anthropic.PermissionDeniedError),
        (ModelNotFound("No."), "not_found_error", anthropic.NotFoundError),
        (RequestTooLarge("No."), "request_too_large", anthropic.APIStatusError),
        (RateLimitExceeded("No."), "rate_limit_error", anthropic.RateLimitError),
        (InternalError("No."), "api_error", anthropic.InternalServerError),
        (NoHealthyDeployment("No."), "overloaded_error", anthropic.APIStatusError),
        (UpstreamTimeout("No.", provider="p", clock="idle"), "timeout_error", anthropic.APIStatusError),
        (
            UpstreamError("No.", provider="p", upstream_status=529, upstream_kind="overloaded_error"),
            "overloaded_error",
            anthropic.APIStatusError,
        ),
        (
            UpstreamError("No.", provider="p", upstream_status=400, upstream_kind="server_error"),
            "invalid_request_error",
            anthropic.BadRequestError,
        ),
        (
            UpstreamError("No.", provider="p", upstream_status=422),
            "invalid_request_error",
            anthropic.APIStatusError,
        ),
        (UpstreamError("No.", provider="p", upstream_status=502), "api_error", anthropic.InternalServerError),
    ],
)
def test_errors_are_the_sdks_own(
    error: GatewayError, kind: str, raised: type[Exception], server: Served, client: anthropic.Anthropic
) -> None:
    body = CODEC.write_error(error)
    fields = json.loads(body)
    assert fields["type"] == "error"
    assert (fields["error"]["type"], fields["error"]["message"]) == (kind, "No.")
    assert fields["error"]["code"] == error.error_code
    assert fields["error"].items() >= error.details.items()
    server.status, server.content_type, server.body = error.http_status, "application/json", body
    with pytest.raises(raised) as caught:
        client.messages.create(model="m", max_tokens=5, messages=[{"role": "user", "content": "x"}])
    assert isinstance(caught.value, anthropic.APIStatusError)
    assert caught.value.status_code == error.http_status


def test_the_sdk_takes_a_count(server: Served, client: anthropic.Anthropic) -> None:
    server.status, server.content_type, server.body = 200, "application/json", count_answer(42)
    got = client.messages.count_tokens(model="m", messages=[{"role": "user", "content": "x"}])
    assert got.input_tokens == 42
