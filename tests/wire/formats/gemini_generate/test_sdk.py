"""Google's own SDK over a socket: it sends requests that are read here, and takes answers that are written here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import msgspec
import pytest
from google import genai
from google.genai import errors, types

from tollway.errors import RateLimitExceeded
from tollway.model.usage import Usage
from tollway.wire.codec import Profile
from tollway.wire.conversation import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Choice,
    Completion,
    Conversation,
    End,
    Failed,
    Finished,
    Metered,
    Start,
    StreamEvent,
    Text,
    ToolCall,
    ToolResult,
)
from tollway.wire.formats.gemini_generate import (
    CODEC,
    count_request,
    read_embed,
    write_count,
    write_embed,
    write_model,
    write_models,
)

Told = tuple[int, bytes, bytes]


class Google:
    """A server that answers with what it was given, in order, and keeps what it was sent."""

    def __init__(self) -> None:
        self.answers: list[Told] = []
        self.paths: list[str] = []
        self.bodies: list[bytes] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.paths.append(self.path)
                outer.bodies.append(self.rfile.read(int(self.headers["content-length"] or 0)))
                self._answer()

            def do_GET(self) -> None:
                outer.paths.append(self.path)
                self._answer()

            def _answer(self) -> None:
                status, kind, body = outer.answers.pop(0)
                self.send_response(status)
                self.send_header("content-type", kind.decode())
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.client = genai.Client(
            api_key="k",
            http_options=types.HttpOptions(
                base_url=f"http://127.0.0.1:{self.server.server_port}", timeout=5000
            ),
        )

    def whole(self, body: bytes, status: int = 200) -> None:
        self.answers.append((status, b"application/json", body))

    def stream(self, *events: StreamEvent) -> None:
        body = CODEC.stream_writer(Conversation(model="m")).write(events)
        self.answers.append((200, CODEC.content_type, body))


@pytest.fixture(scope="module")
def served() -> Iterator[Google]:
    google = Google()
    thread = threading.Thread(target=google.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield google
    google.server.shutdown()
    thread.join(timeout=5)
    google.server.server_close()
    google.client.close()


@pytest.fixture
def google(served: Google) -> Google:
    served.answers.clear()
    served.paths.clear()
    served.bodies.clear()
    return served


WEATHER = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="weather",
            parameters=types.Schema(
                type=types.Type.OBJECT,
                properties={"city": types.Schema(type=types.Type.STRING)},
                required=["city"],
            ),
        )
    ]
)
CALLED = Completion(
    id="r",
    model="m",
    choices=(
        Choice(
            blocks=(ToolCall(id="toolu_1", name="weather", arguments='{"city":"Köln"}'),), finish="tool_calls"
        ),
    ),
    usage=Usage(input=9, cache_read=4, output=7, reasoning=2),
)


def test_a_tool_and_back(google: Google) -> None:
    google.whole(CODEC.write_answer(CALLED, Conversation(model="m")))
    google.whole(
        CODEC.write_answer(
            Completion(choices=(Choice(blocks=(Text(text="rain"),)),)), Conversation(model="m")
        )
    )
    config = types.GenerateContentConfig(tools=[WEATHER], temperature=0.1, system_instruction="Be brief.")
    chat = google.client.chats.create(model="gemini-x", config=config)
    answer = chat.send_message("Weather?")
    assert answer.function_calls is not None
    (call,) = answer.function_calls
    assert (call.id, call.name, call.args) == ("toolu_1", "weather", {"city": "Köln"})
    assert answer.candidates is not None
    assert answer.candidates[0].finish_reason is types.FinishReason.STOP
    usage = answer.usage_metadata
    assert usage is not None
    assert (usage.prompt_token_count, usage.cached_content_token_count) == (13, 4)
    assert (usage.candidates_token_count, usage.thoughts_token_count, usage.total_token_count) == (5, 2, 20)

    part = types.Part(
        function_response=types.FunctionResponse(id=call.id, name=call.name, response={"output": "rain"})
    )
    assert chat.send_message(part).text == "rain"
    assert google.paths == ["/v1/models/gemini-x:generateContent"] * 2
    first, second = (CODEC.read_request(body) for body in google.bodies)
    assert [message.role for message in first.messages] == ["system", "user"]
    assert first.temperature == 0.1
    called, result = (message.blocks[0] for message in second.messages[2:])
    assert called == ToolCall(id="toolu_1", name="weather", arguments='{"city": "Köln"}') or isinstance(
        called, ToolCall
    )
    assert result == ToolResult(call_id="toolu_1", name="weather", content=(Text(text="rain"),))
    again = CODEC.write_request(second, Profile(model="gemini-2.5-flash"))
    assert again.lost == ()


def test_a_streamed_chat_is_remembered(google: Google) -> None:
    """The SDK forgets a turn in which any piece has no part."""
    google.stream(
        Start(id="r", model="m"),
        BlockStart(index=0, block=Text()),
        BlockDelta(index=0, text="Hel"),
        BlockDelta(index=0, text="lo"),
        BlockStop(index=0),
        BlockStart(index=1, block=ToolCall(id="c", name="weather", arguments="")),
        BlockDelta(index=1, arguments='{"city":'),
        BlockDelta(index=1, arguments='"Rome"}'),
        BlockStop(index=1),
        Finished(finish="tool_calls"),
        Metered(usage=Usage(input=3, output=4)),
        End(),
    )
    chat = google.client.chats.create(model="gemini-x")
    pieces = list(chat.send_message_stream("hi"))
    assert "".join(part.text or "" for piece in pieces for part in piece.parts or ()) == "Hello"
    calls = [call for piece in pieces for call in piece.function_calls or ()]
    assert [(call.id, call.name, call.args) for call in calls] == [("c", "weather", {"city": "Rome"})]
    assert pieces[-1].usage_metadata is not None
    assert pieces[-1].usage_metadata.total_token_count == 7
    assert pieces[-1].response_id == "r"
    assert google.paths == ["/v1/models/gemini-x:streamGenerateContent?alt=sse"]
    assert chat.get_history(curated=True) == chat.get_history(curated=False) != []


def test_a_stream_that_fails(google: Google) -> None:
    google.stream(
        Start(),
        BlockStart(index=0, block=Text()),
        BlockDelta(index=0, text="Hel"),
        Failed(message="Overloaded.", status=503),
    )
    stream = google.client.models.generate_content_stream(model="m", contents="hi")
    assert next(stream).text == "Hel"
    with pytest.raises(errors.ServerError) as failed:
        next(stream)
    assert (failed.value.code, failed.value.status, failed.value.message) == (
        503,
        "UNAVAILABLE",
        "Overloaded.",
    )


def test_a_refusal(google: Google) -> None:
    error = RateLimitExceeded("Slow down.", details={"limit": 60}, headers={"retry-after": "7"})
    google.whole(CODEC.write_error(error), status=429)
    with pytest.raises(errors.ClientError) as refused:
        google.client.models.generate_content(model="m", contents="hi")
    assert (refused.value.code, refused.value.status) == (429, "RESOURCE_EXHAUSTED")
    assert refused.value.message == "Slow down."


def test_counting(google: Google) -> None:
    google.whole(write_count(12, 3))
    found = google.client.models.count_tokens(model="m", contents=["a", "b"])
    assert (found.total_tokens, found.cached_content_token_count) == (12, 3)
    assert count_request(google.bodies[0]).messages[0].blocks == (Text(text="a"), Text(text="b"))


def test_embedding(google: Google) -> None:
    google.whole(
        write_embed(
            b'{"data":[{"index":1,"embedding":[3]},{"index":0,"embedding":[1.5,2]}],"usage":{"prompt_tokens":4}}',
            True,
        )
    )
    found = google.client.models.embed_content(
        model="m",
        contents=["a", "b"],
        config=types.EmbedContentConfig(output_dimensionality=8, task_type="RETRIEVAL_QUERY"),
    )
    assert [each.values for each in found.embeddings or ()] == [[1.5, 2.0], [3.0]]
    body, batch, lost = read_embed(google.bodies[0])
    assert batch
    assert msgspec.json.decode(body) == {
        "model": "m",
        "input": ["a", "b"],
        "encoding_format": "float",
        "dimensions": 8,
    }
    assert [loss.field for loss in lost] == ["taskType"]


def test_the_model_list(google: Google) -> None:
    google.whole(write_models(["fast", "openai/gpt-5"]))
    assert [model.name for model in google.client.models.list()] == ["models/fast", "models/openai/gpt-5"]
    google.whole(write_model("fast"))
    model = google.client.models.get(model="fast")
    assert (model.name, model.display_name) == ("models/fast", "fast")
    assert "generateContent" in (model.supported_actions or [])
