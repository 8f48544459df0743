"""What holds in every dialect alike: the same faults, each in its own shape, and one bill for all."""

import json

import pytest

USER = [{"role": "user", "content": "Hello"}]
BEARER = {"authorization": "Bearer k"}


def chat(model, streamed):
    body = {"model": model, "messages": USER, "stream": streamed}
    return (
        "/v1/chat/completions",
        {**body, "stream_options": {"include_usage": True}} if streamed else body,
        BEARER,
    )


def anthropic(model, streamed):
    body = {"model": model, "messages": USER, "stream": streamed, "max_tokens": 99}
    return "/v1/messages", body, {"x_api_key": "k", "anthropic_version": "2023-06-01"}


def responses(model, streamed):
    return "/v1/responses", {"model": model, "input": "Hello", "stream": streamed}, BEARER


def gemini(model, streamed):
    name = "streamGenerateContent?alt=sse" if streamed else "generateContent"
    body = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
    return f"/v1beta/models/{model}:{name}", body, {"x_goog_api_key": "k"}


def bedrock(model, streamed):
    body = {"messages": [{"role": "user", "content": [{"text": "Hello"}]}]}
    return f"/model/{model}/converse{'-stream' if streamed else ''}", body, BEARER


def ollama(model, streamed):
    return "/api/chat", {"model": model, "messages": USER, "stream": streamed}, {}


def cohere(model, streamed):
    return "/v2/chat", {"model": model, "messages": USER, "stream": streamed}, BEARER


DIALECTS = [chat, anthropic, responses, gemini, bedrock, ollama, cohere]


@pytest.fixture(params=DIALECTS, ids=lambda one: one.__name__)
def request_of(request):
    return request.param


@pytest.fixture
def tell(ask, request_of):
    async def send(model, streamed=False, **headers):
        path, body, more = request_of(model, streamed)
        return await ask(body, path=path, **more, **headers)

    return send


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_same_is_billed_whole_and_streamed(tell, simulator, streamed):
    reply = await tell("m+tokens=7+prompt_tokens=50+cached=20", streamed)
    assert reply.status == 200
    (line,) = simulator.bill.entries()
    assert (line.model, line.complete, line.streamed) == ("m", True, streamed)
    assert (line.prompt_tokens, line.completion_tokens) == (50, 7)
    assert (line.tokens["input"], line.tokens["cache_read"], line.tokens["output"]) == (30, 20, 7)
    assert bytes(line.usage) in reply.body or counts_stand_in(line, reply)


def counts_stand_in(line, reply):
    """Ollama has no object for its usage: the counts stand among the last line's fields."""
    last = json.loads(reply.body.strip().split(b"\n")[-1])
    return json.loads(bytes(line.usage)).items() <= last.items()


async def test_equal_requests_get_equal_words(tell):
    replies = [(await tell("m+tokens=5")).json() for _ in range(2)]
    names = ("id", "created", "created_at", "responseId", "output", "usage", "completed_at")
    for reply in replies:
        for name in names:
            if name == "output" and "stopReason" in reply:
                continue
            reply.pop(name, None)
    assert replies[0] == replies[1]


async def test_a_rate_limit(tell, simulator):
    reply = await tell("m+status=429+retry_after=2+error_message=Slow")
    assert reply.status == 429
    assert reply.headers["retry-after"] == "2"
    assert b"Slow" in reply.body
    (line,) = simulator.bill.entries()
    assert (line.status, line.prompt_tokens, line.usage) == (429, 0, None)


async def test_headers_set_knobs_as_well(tell):
    assert (await tell("m", x_mock_status="503")).status == 503
    page = await tell("m", x_mock_status="502", x_mock_body="html")
    assert (page.status, page.headers["content-type"]) == (502, "text/html")


FIRST, SECOND = "read_file", "list_files"
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
FUNCTIONS = [{"name": name, "description": "d", "parameters": SCHEMA} for name in (FIRST, SECOND)]
TOOLS = {
    responses: [{"type": "function", **one} for one in FUNCTIONS],
    anthropic: [{"name": one["name"], "input_schema": SCHEMA} for one in FUNCTIONS],
    gemini: [{"functionDeclarations": FUNCTIONS}],
    bedrock: [{"toolSpec": {"name": one["name"], "inputSchema": {"json": SCHEMA}}} for one in FUNCTIONS],
}


async def test_the_tool_to_call_and_its_arguments(ask, request_of):
    path, body, headers = request_of("m+call=list_files+arguments=%7B%22path%22:%22%2Fetc%22%7D", False)
    usual = [{"type": "function", "function": one} for one in FUNCTIONS]
    offered = TOOLS.get(request_of, usual)
    tools = {"toolConfig": {"tools": offered}} if request_of is bedrock else {"tools": offered}
    said = (await ask({**body, **tools}, path=path, **headers)).json()
    told = json.dumps({**said, "tools": []})
    assert SECOND in told
    assert FIRST not in told
    assert "/etc" in told
    model, nothing = "m+call=list_files+arguments=%7B%22path%22:%22%2Fetc%22%7D", "m+call=nothing"
    body = {name: nothing if value == model else value for name, value in body.items()}
    reply = await ask({**body, **tools}, path=path.replace(model, nothing), **headers)
    assert reply.status == 200
    assert "/etc" not in json.dumps({**reply.json(), "tools": []})


async def test_rationed_faults(tell):
    statuses = [(await tell("m+fail_first=2+status=500")).status for _ in range(4)]
    assert statuses == [500, 500, 200, 200]


@pytest.mark.parametrize("fault", ["cut=4", "cut=chunk", "malformed=chunk_size"])
async def test_a_stream_that_breaks(request_of, connect, post, simulator, until, fault):
    path, body, headers = request_of(f"m+tokens=20+{fault}", True)
    reader, writer = await connect()
    writer.write(post(body, path, **headers))
    if fault.startswith("cut"):
        raw = await reader.read()
        assert not raw.endswith(b"0\r\n\r\n")
    await until(lambda: simulator.bill.requests == 1)
    (line,) = simulator.bill.entries()
    assert not line.complete
    assert line.prompt_tokens > 0
    if fault == "cut=4":
        assert (line.events, line.usage) == (4, None)
        assert line.completion_tokens < 20


async def test_who_leaves_is_noticed(request_of, connect, post, simulator, until):
    path, body, headers = request_of("m+pace=20ms", True)
    reader, writer = await connect()
    writer.write(post(body, path, **headers))
    await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await until(lambda: simulator.aborted_total == 1)
    assert simulator.aborted[0].phase == "mid-stream"
    assert simulator.bill.entries()[0].usage is None


async def test_a_broken_body(tell):
    reply = await tell("m+malformed=json")
    with pytest.raises(json.JSONDecodeError):
        reply.json()


async def test_a_body_that_is_no_json(ask, request_of):
    path, _, headers = request_of("m", False)
    for body in (b"{", b"[]", b"\xff"):
        reply = await ask(body, path=path, **headers)
        assert reply.status == 400
        assert reply.headers["content-type"] == "application/json"
