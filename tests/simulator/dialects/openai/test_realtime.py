"""The realtime API: the official SDK's connection, bare sockets, and what breaks."""

import asyncio
import base64
import json

import pytest

openai = pytest.importorskip("openai")
from websockets.asyncio.client import connect  # noqa: E402
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402

TOOL = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}},
}
HELLO = {
    "type": "conversation.item.create",
    "item": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
}


class Spoken:
    """A socket that speaks JSON."""

    def __init__(self, socket):
        self.socket = socket

    async def say(self, *messages):
        for message in messages:
            await self.socket.send(json.dumps(message))

    async def until(self, kind):
        """Every event up to the first of that type."""
        events = []
        async with asyncio.timeout(5):
            while not events or events[-1]["type"] != kind:
                events.append(json.loads(await self.socket.recv()))
        return events


@pytest.fixture
def speak(simulator):
    def to(model="gpt-realtime", **more):
        url = f"ws://127.0.0.1:{simulator.port}/v1/realtime?model={model}"
        return connect(url, additional_headers={"authorization": "Bearer k", **more})

    return to


async def test_the_sdk(simulator):
    async with (
        openai.AsyncOpenAI(base_url=simulator.url, api_key="k") as client,
        client.realtime.connect(model="gpt-realtime+tokens=3") as connection,
    ):
        await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        await connection.conversation.item.create(item=HELLO["item"])
        await connection.response.create()
        text, kinds = "", []
        async for event in connection:
            kinds.append(event.type)
            if event.type == "response.output_text.delta":
                text += event.delta
            elif event.type == "response.done":
                break
    assert kinds[:4] == [
        "session.created",
        "session.updated",
        "conversation.item.added",
        "conversation.item.done",
    ]
    assert len(text) == 12
    assert event.response.status == "completed"
    assert (event.response.usage.input_tokens, event.response.usage.output_tokens) == (8, 3)
    (line,) = simulator.bill.entries()
    assert (line.endpoint, line.model, line.id) == ("realtime", "gpt-realtime", event.response.id)
    assert (line.complete, line.completion_tokens, line.prompt_tokens) == (True, 3, 8)
    assert json.loads(bytes(line.usage))["output_tokens"] == 3


async def test_calls_and_their_results(speak):
    async with speak("m+parallel=2") as socket:
        session = Spoken(socket)
        await session.say(
            {"type": "session.update", "session": {"tools": [TOOL]}}, HELLO, {"type": "response.create"}
        )
        events = await session.until("response.done")
        calls = events[-1]["response"]["output"]
        assert [(call["name"], call["arguments"]) for call in calls] == [("weather", '{"n":7}')] * 2
        for call in calls:
            item = {"type": "function_call_output", "call_id": call["call_id"], "output": "Sunny"}
            await session.say({"type": "conversation.item.create", "item": item})
        await session.say({"type": "response.create"})
        events = await session.until("response.done")
        assert events[-1]["response"]["output"][0]["type"] == "message"


async def test_sound(speak, simulator):
    async with speak("m+tokens=2") as socket:
        session = Spoken(socket)
        sound = base64.b64encode(b"\0" * 1500).decode()
        await session.say(
            {"type": "input_audio_buffer.append", "audio": sound}, {"type": "input_audio_buffer.commit"}
        )
        await session.say({"type": "response.create", "response": {"output_modalities": ["audio"]}})
        events = await session.until("response.done")
    heard = [event for event in events if event["type"] == "response.output_audio.delta"]
    assert [len(base64.b64decode(event["delta"])) for event in heard] == [2400, 2400]
    usage = events[-1]["response"]["usage"]
    assert usage["input_token_details"]["audio_tokens"] == 2
    assert usage["output_token_details"] == {"text_tokens": 0, "audio_tokens": 2}
    tokens = simulator.bill.entries()[-1].tokens
    assert (tokens["audio_input"], tokens["audio_output"], tokens["output"]) == (2, 2, 0)


async def test_names_before_general_availability(speak):
    async with speak("m+tokens=1", **{"openai-beta": "realtime=v1"}) as socket:
        session = Spoken(socket)
        await session.say(HELLO, {"type": "response.create"})
        kinds = [event["type"] for event in await session.until("response.done")]
    assert "response.text.delta" in kinds
    assert "conversation.item.created" in kinds
    assert not any(kind.startswith("response.output_text") for kind in kinds)


async def test_a_response_can_be_cancelled(speak, simulator):
    async with speak("m+pace=10ms+tokens=200") as socket:
        session = Spoken(socket)
        await session.say(HELLO, {"type": "response.create"}, {"type": "response.create"})
        events = await session.until("response.output_text.delta")
        assert "conversation_already_has_active_response" in json.dumps(events)
        await session.say({"type": "response.cancel"})
        done = (await session.until("response.done"))[-1]["response"]
        assert done["status"] == "cancelled"
        await session.say({"type": "response.cancel"})
        wrong = (await session.until("error"))[-1]
    assert wrong["error"]["code"] == "response_cancel_not_active"
    (line,) = simulator.bill.entries()
    assert 0 < line.completion_tokens == done["usage"]["output_tokens"] < 200


async def test_who_leaves_is_billed_for_what_was_said(speak, simulator, until):
    async with speak("m+pace=5ms+tokens=200") as socket:
        session = Spoken(socket)
        await session.say(HELLO, {"type": "response.create"})
        await session.until("response.output_text.delta")
    await until(lambda: simulator.bill.requests == 1)
    (line,) = simulator.bill.entries()
    assert (line.complete, line.usage) == (False, None)
    assert 0 < line.completion_tokens < 200


async def test_what_breaks(speak, simulator, until):
    for knobs, place in (("cut=7", 7), ("error_event=7", 7)):
        async with speak("m+" + knobs) as socket:
            session = Spoken(socket)
            await session.say(HELLO, {"type": "response.create"})
            if "cut" in knobs:
                with pytest.raises(ConnectionClosed):
                    await session.until("response.done")
            else:
                assert (await session.until("error"))[-1]["error"]["type"] == "server_error"
        await until(lambda: simulator.bill.requests > 0)
        line = simulator.bill.entries()[-1]
        assert (line.complete, line.usage) == (False, None)
        assert place <= line.events <= place + 1
        simulator.bill.reset()
    async with speak("m+stall=3") as socket:
        session = Spoken(socket)
        await session.say(HELLO, {"type": "response.create"})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(session.until("response.done"), 0.1)


async def test_messages_that_are_not_understood(speak):
    async with speak() as socket:
        session = Spoken(socket)
        for message, code in (
            ("nonsense", "invalid_json"),
            ("[]", "invalid_event"),
            ('{"type": "no.such"}', "invalid_value"),
            ('{"type": "input_audio_buffer.commit"}', "input_audio_buffer_commit_empty"),
            ('{"type": "conversation.item.delete", "item_id": "x"}', "item_delete_invalid_item_id"),
        ):
            await socket.send(message)
            assert (await session.until("error"))[-1]["error"]["code"] == code


async def test_a_message_in_fragments_and_pings(speak):
    async with speak() as socket:
        session = Spoken(socket)
        text = json.dumps(HELLO)
        await socket.send([text[:20], text[20:40], text[40:]])
        await session.until("conversation.item.done")
        await (await socket.ping())


@pytest.mark.parametrize("suffix", ["+status=429", "+known_only", "+no_such_knob"])
async def test_faults_before_the_upgrade(speak, suffix):
    with pytest.raises(InvalidStatus) as caught:
        async with speak("m" + suffix):
            pass
    assert caught.value.response.status_code in (400, 404, 429)


async def test_plain_requests_and_secrets(ask, simulator):
    reply = await ask(path="/v1/realtime?model=m")
    assert reply.json()["error"]["code"] == "expected_websocket"
    assert (await ask(path="/v1/realtime")).json()["error"]["code"] == "missing_model"
    made = (
        await ask({"session": {"type": "realtime", "model": "m"}}, path="/v1/realtime/client_secrets")
    ).json()
    assert made["value"].startswith("ek_")
    assert made["session"]["model"] == "m"
    assert "value" in (await ask({"model": "m"}, path="/v1/realtime/sessions")).json()["client_secret"]


async def test_a_browser_sends_its_key_among_the_subprotocols(simulator):
    url = f"ws://127.0.0.1:{simulator.port}/v1/realtime?model=m"
    async with connect(url, subprotocols=["realtime", "openai-insecure-api-key.k"]) as socket:
        assert socket.subprotocol == "realtime"
        assert json.loads(await socket.recv())["type"] == "session.created"
