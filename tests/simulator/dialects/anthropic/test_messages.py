"""The messages API on the wire: the order of events, headers, and faults."""

HELLO = {"model": "claude-opus-4-5", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}
KEY = {"x_api_key": "k", "anthropic_version": "2023-06-01", "path": "/v1/messages"}


async def test_the_events_of_a_stream(ask):
    reply = await ask({**HELLO, "model": "m+tokens=2", "stream": True}, **KEY)
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert [chunk["type"] for chunk in reply.chunks] == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    names = [line[7:] for line in reply.body.decode().split("\n") if line.startswith("event: ")]
    assert names == [chunk["type"] for chunk in reply.chunks]
    start, end = reply.chunks[0]["message"], reply.chunks[-2]
    assert start["usage"]["input_tokens"] == 8
    assert start["usage"]["output_tokens"] == 1
    assert start["stop_reason"] is None
    assert end["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert end["usage"]["output_tokens"] == 2


async def test_tool_input_comes_in_small_pieces(ask):
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    body = {**HELLO, "stream": True, "tools": [{"name": "f", "input_schema": schema}]}
    reply = await ask(body, **KEY)
    deltas = [x["delta"] for x in reply.chunks if x["type"] == "content_block_delta"]
    assert deltas[0] == {"type": "input_json_delta", "partial_json": ""}
    assert max(len(one["partial_json"]) for one in deltas) == 4
    assert "".join(one["partial_json"] for one in deltas) == '{"city":"the old cat"}'


async def test_usage_knobs(ask):
    bare = (await ask({**HELLO, "model": "m+usage=bare"}, **KEY)).json()
    assert bare["usage"] == {"input_tokens": 8, "output_tokens": 32}
    assert (await ask({**HELLO, "model": "m+usage=null"}, **KEY)).json()["usage"] is None
    assert "usage" not in (await ask({**HELLO, "model": "m+no_usage"}, **KEY)).json()
    reply = await ask({**HELLO, "model": "m+no_usage+no_done", "stream": True}, **KEY)
    assert b"usage" not in reply.body
    assert reply.chunks[-1]["type"] == "message_delta"


async def test_the_door(ask, simulator):
    assert (await ask(HELLO, path="/v1/messages")).status == 401
    reply = await ask(HELLO, path="/v1/messages", x_api_key="k")
    assert reply.status == 400
    assert reply.json()["error"]["message"] == "anthropic-version: header is required"
    bearer = await ask(HELLO, path="/v1/messages", authorization="Bearer k", anthropic_version="2023-06-01")
    assert bearer.status == 200
    assert bearer.headers["request-id"].startswith("req_")
    assert (await ask(HELLO, **{**KEY, "path": "/v1/messages?beta=true"})).status == 200
    wrong = await ask(**{**KEY, "path": "/v1/messages/none"})
    assert wrong.status == 404
    assert wrong.json()["error"]["type"] == "not_found_error"
    assert (await ask(**KEY)).status == 405


async def test_ratelimits_have_their_own_names(ask):
    reply = await ask({**HELLO, "model": "m+ratelimit=7"}, **KEY)
    assert reply.headers["anthropic-ratelimit-requests-remaining"] == "7"
    assert not any(name.startswith("x-ratelimit") for name in reply.headers)


async def test_a_cut_stream_is_billed_for_what_it_said(ask, connect, post, simulator, until):
    reader, writer = await connect()
    writer.write(post({**HELLO, "model": "m+cut=6", "stream": True}, **KEY))
    raw = await reader.read()
    assert b"message_delta" not in raw
    await until(lambda: simulator.bill.requests == 1)
    (line,) = simulator.bill.entries()
    assert (line.complete, line.events, line.completion_tokens, line.usage) == (False, 6, 3, None)
    assert line.prompt_tokens == 8
