"""Realtime sessions end to end: the SDK and bare sockets, a gateway, the simulator and a scripted provider."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from doors import Door
from running import ADMIN, KEY, Gateway, free_port, provider, simulator, until
from tollway.simulator.running import RunningSimulator

openai = pytest.importorskip("openai")

PRICE = {"input": 4, "cache_read": 0.4, "output": 16, "audio_input": 32, "audio_output": 64}
HEARD_PRICE = {"input": 2, "output": 8, "audio_input": 6}
VOICE = "gpt-realtime+tokens=4"
SECRET = "ek_of-the-provider"
KEYS: dict[str, dict[str, Any]] = {
    "poor": {"budget": {"usd": 0.025}},
    "penniless": {"budget": {"usd": 0.000001}},
    "strict": {"budget": {"usd": 1, "strict": True}},
    "narrow": {"models": ["voice"]},
    "hearing": {"models": ["voice", "scripted", "whisper-1"]},
    "once": {"limits": {"rpm": 1}},
    "alone": {"limits": {"parallel": 1}},
    "shy": {"limits": {"tpm": 700}},
    "spare": {"budget": {"usd": 0.03}},
    "watched": {"budget": {"usd": 1}},
    "own": {"budget": {"usd": 5}},
}


def key(name: str) -> str:
    return f"sk-tw-realtime-{name}"


def hello(text: str = "Hello") -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {
        "type": "conversation.item.create",
        "item": {"type": "message", "role": "user", "content": content},
    }


ASK: dict[str, Any] = {"type": "response.create"}
ALOUD = {"type": "response.create", "response": {"output_modalities": ["audio"]}}


class House:
    """A gateway, the simulator behind it, and a port where tests put a provider of their own."""

    def __init__(self, gateway: Gateway, upstream: RunningSimulator, scripted: int) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self.scripted = scripted

    def at(self, query: str = "model=voice", path: str = "/v1/realtime") -> str:
        return f"ws://127.0.0.1:{self.gateway.port}{path}{'?' if query else ''}{query}"

    def connect(self, model: str = "voice", who: str = "own", **how: Any) -> connect:
        headers = {"authorization": f"Bearer {key(who)}"}
        return connect(self.at(f"model={model}"), additional_headers=headers, compression=None, **how)

    async def events(self, **query: Any) -> list[Any]:
        """Oldest first."""
        return (await self.gateway.events(**query))[::-1]

    async def of(self, socket: ClientConnection, count: int = 1) -> list[Any]:
        """The events of a session, as soon as there are so many."""
        assert socket.response is not None
        request_id = socket.response.headers["x-tollway-request-id"]
        found: list[Any] = []

        async def enough() -> bool:
            found[:] = await self.events(request_id=request_id)
            return len(found) >= count

        await until(enough, what=f"{count} events of {request_id}")
        return sorted(found, key=lambda event: int(event["attempt"]))

    async def held(self, who: str) -> int:
        return int((await self.gateway.key(who))["held_nano_usd"])

    async def spent(self, who: str) -> int:
        return int((await self.gateway.key(who))["spent_nano_usd"])


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with simulator() as upstream:
        scripted = free_port()
        near = f"http://127.0.0.1:{scripted}/v1"
        config: dict[str, Any] = {
            "server": {"max_message": "256KiB"},
            "providers": {
                "mock": provider(upstream),
                "script": {"type": "openai-compatible", "base_url": near, "api_key": "sk-of-the-script"},
                "deaf": {"type": "groq", "base_url": upstream.url, "api_key": "x"},
                "gone": {"type": "openai-compatible", "base_url": f"http://127.0.0.1:{free_port()}/v1"},
            },
            "models": {
                "voice": {"targets": [{"model": f"mock/{VOICE}", "price": PRICE}]},
                "slow": {"targets": [{"model": "mock/m+pace=20ms+tokens=200", "price": PRICE}]},
                "cut": {"targets": [{"model": "mock/m+cut=7", "price": PRICE}]},
                "busy": {"targets": [{"model": "mock/m+status=429", "price": PRICE}]},
                "scripted": {"targets": [{"model": "script/gpt-realtime", "price": PRICE}]},
                "scribe": {"targets": [{"model": "script/gpt-4o-transcribe", "price": HEARD_PRICE}]},
                "whisper-1": {"targets": [{"model": "script/whisper-1", "price": {"seconds": 100}}]},
                "either": {
                    "strategy": "fallback",
                    "targets": ["gone/m", {"model": "mock/m+status=500"}, {"model": f"mock/{VOICE}", "price": PRICE}],
                },
            },
            "keys": [{"name": name, "key": key(name), **terms} for name, terms in KEYS.items()],
        }  # fmt: skip
        gateway = Gateway(tmp_path_factory.mktemp("realtime"), config)
        try:
            asyncio.run(gateway.start())
            yield House(gateway, upstream, scripted)
            log = gateway.log
            assert "Traceback" not in log, log
        finally:
            gateway.kill()


class Spoken:
    """A socket that speaks JSON."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, *messages: dict[str, Any]) -> None:
        for message in messages:
            await self.socket.send(json.dumps(message))

    async def hear(self) -> Any:
        async with asyncio.timeout(5):
            return json.loads(await self.socket.recv())

    async def until(self, *kinds: str) -> list[Any]:
        """Every event up to the first of these types."""
        events: list[Any] = []
        while not events or events[-1]["type"] not in kinds:
            events.append(await self.hear())
        return events

    async def ends(self) -> tuple[list[Any], int, str]:
        """What still comes, and the close code and reason."""
        events: list[Any] = []
        try:
            while True:
                events.append(await self.hear())
        except ConnectionClosed as closed:
            if closed.rcvd is None:
                return events, 1006, ""
            return events, closed.rcvd.code, closed.rcvd.reason


async def refused(attempt: connect) -> tuple[int, Any]:
    """Status and error of a handshake that is answered in HTTP."""
    with pytest.raises(InvalidStatus) as caught:
        async with attempt:
            pass
    answer = caught.value.response
    assert answer.headers["x-tollway-request-id"].startswith("req_")
    error = json.loads(answer.body or b"")["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    return answer.status_code, error


Script = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def scripted(
    house: House,
    script: Script,
    answer: Callable[[ServerConnection, Request], Response | None] | None = None,
) -> AsyncIterator[list[ServerConnection]]:
    """A provider that does what ``script`` says; gives the connections it had."""
    seen: list[ServerConnection] = []

    async def run(socket: ServerConnection) -> None:
        seen.append(socket)
        try:
            await script(socket)
        except ConnectionClosed:
            pass

    async with serve(
        run,
        "127.0.0.1",
        house.scripted,
        process_request=answer,
        compression=None,
        max_size=None,
        ping_interval=None,
    ):
        yield seen


async def idle(socket: ServerConnection) -> None:
    await socket.wait_closed()


# ------------------------------------------------------------------------------------------- a session


async def test_the_sdk_talks_and_each_response_is_an_event(house: House) -> None:
    before = len(house.upstream.simulator.bill.entries())
    async with (
        openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{house.gateway.port}/v1", api_key=key("own")
        ) as client,
        client.realtime.connect(model="voice") as connection,
    ):
        request_id = connection._connection.response.headers["x-tollway-request-id"]
        await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        for _ in range(2):
            await connection.conversation.item.create(item=hello()["item"])
            await connection.response.create()
            async for event in connection:
                if event.type == "response.done":
                    break
    assert event.response.usage.output_tokens == 4
    events = await house.events(request_id=request_id)
    billed = house.upstream.simulator.bill.entries()[before:]
    assert [one["attempt"] for one in events] == [1, 2]
    for one, line in zip(events, billed, strict=True):
        assert (one["endpoint"], one["model"], one["outcome"], one["status"]) == (
            "realtime",
            "voice",
            "ok",
            200,
        )
        assert (one["streamed"], one["estimated"], one["priced"]) == (True, False, True)
        assert one["raw_usage"] == json.loads(bytes(line.usage))
        assert (one["usage"]["input"], one["usage"]["output"]) == (line.prompt_tokens, line.completion_tokens)
        assert one["cost_nano_usd"] == line.prompt_tokens * 4000 + line.completion_tokens * 16000
        assert one["first_token_ms"] is not None
    assert events[1]["usage"]["input"] > events[0]["usage"]["input"]


async def test_azures_client_talks_too(house: House) -> None:
    here = f"127.0.0.1:{house.gateway.port}/openai"
    async with (
        openai.AsyncAzureOpenAI(
            base_url="http://" + here,
            websocket_base_url="ws://" + here,
            api_key=key("own"),
            api_version="2025-04-01-preview",
        ) as client,
        client.realtime.connect(model="voice") as connection,
    ):
        assert (await connection.recv()).type == "session.created"
    both = connect(house.at("model=voice&deployment=slow"), additional_headers={"api-key": key("own")})
    assert (await refused(both))[0] == 400


async def test_sound_is_priced_as_sound(house: House) -> None:
    async with house.connect() as raw:
        session = Spoken(raw)
        sound = b64encode(b"\0" * 1500).decode()
        await session.say(
            {"type": "input_audio_buffer.append", "audio": sound},
            {"type": "input_audio_buffer.commit"},
            ALOUD,
        )
        done = (await session.until("response.done"))[-1]["response"]["usage"]
        (event,) = await house.of(raw)
    details, usage = done["input_token_details"], event["usage"]
    assert details["audio_tokens"] > 0
    assert usage["audio_input"] == details["audio_tokens"]
    assert usage["input"] == details["text_tokens"]
    assert (usage["output"], usage["audio_output"]) == (0, 4)
    assert event["cost_nano_usd"] == usage["input"] * 4000 + usage["audio_input"] * 32000 + 4 * 64000


@pytest.mark.parametrize("path", ["/v1/realtime", "/realtime"])
async def test_ways_to_give_the_key(house: House, path: str) -> None:
    token = key("own")
    for query, headers, protocols in (
        ("", {"authorization": f"Bearer {token}"}, None),
        ("", {"api-key": token}, None),
        (f"&key={token}", {}, None),
        ("", {}, ["realtime", f"openai-insecure-api-key.{token}", "openai-beta.realtime-v1"]),
    ):
        async with connect(
            house.at("model=voice" + query, path),
            additional_headers=headers,
            subprotocols=[Subprotocol(one) for one in protocols] if protocols else None,
        ) as raw:
            assert raw.subprotocol == ("realtime" if protocols else None)
            assert raw.response is not None
            assert raw.response.headers["x-tollway-provider"] == "mock"
            assert "sec-websocket-extensions" not in raw.response.headers
            created = await Spoken(raw).hear()
            assert created["type"] == "session.created"
            assert ("modalities" in created["session"]) == bool(protocols)  # the older names were asked for


async def test_what_the_provider_sees(house: House) -> None:
    async with (
        scripted(house, idle) as seen,
        connect(
            house.at(f"model=scripted&key={key('own')}&other=1"),
            subprotocols=[Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{key('own')}")],
            additional_headers={"openai-beta": "realtime=v1", "cookie": "a=b", "x-secret": "1"},
        ),
    ):
        request = seen[0].request
        assert request is not None
        assert request.path == "/v1/realtime?model=gpt-realtime"
        assert request.headers["authorization"] == "Bearer sk-of-the-script"
        assert request.headers["openai-beta"] == "realtime=v1"
        assert request.headers["host"] == f"127.0.0.1:{house.scripted}"
        assert key("own") not in str(request.headers)
        for name in ("cookie", "x-secret", "sec-websocket-protocol", "sec-websocket-extensions", "origin"):
            assert name not in request.headers


async def test_a_session_without_a_response_is_one_event(house: House) -> None:
    async with house.connect() as raw:
        await Spoken(raw).hear()
    (event,) = await house.of(raw)
    assert (event["status"], event["outcome"], event["cost_nano_usd"]) == (101, "ok", 0)


async def test_pings_are_answered(house: House) -> None:
    async with house.connect() as raw:
        async with asyncio.timeout(2):
            await (await raw.ping())


async def test_messages_that_are_no_json_are_not_passed_on(house: House) -> None:
    async with house.connect() as raw:
        session = Spoken(raw)
        await session.hear()
        for message in ("nonsense", "[]", "", '{"type": "a", "type"', b"\xff\x00"):
            await raw.send(message)
            error = await session.hear()
            assert (error["type"], error["error"]["code"]) == ("error", "invalid_json")
        await session.say(hello(), ASK)
        await session.until("response.done")


async def test_a_message_in_fragments_arrives_whole(house: House) -> None:
    async with house.connect() as raw:
        session = Spoken(raw)
        await session.hear()
        text = json.dumps(hello("word " * 100))
        await raw.send([text[:50], text[50:60], text[60:]])
        added = (await session.until("conversation.item.done"))[-1]
        assert added["item"]["content"][0]["text"] == "word " * 100


# --------------------------------------------------------------------------------- before it is a session


async def test_refusals_are_ordinary_answers(house: House) -> None:
    def asking(query: str, token: str = "", **headers: str) -> connect:
        given = {"authorization": f"Bearer {token}"} if token else {}
        return connect(house.at(query), additional_headers={**given, **headers})

    own = key("own")
    for attempt, status, code in (
        (asking("model=voice"), 401, "invalid_api_key"),
        (asking("model=voice", "sk-tw-nobody"), 401, "invalid_api_key"),
        (asking("model=voice", own, **{"api-key": "other"}), 400, "ambiguous_credentials"),
        (asking("", own), 400, "invalid_request"),
        (asking("call_id=rtc_1&model=voice", own), 400, "invalid_request"),
        (asking("model=voice&model=slow", own), 400, "invalid_request"),
        (asking("model=nothing", own), 404, "model_not_found"),
        (asking("model=slow", key("narrow")), 403, "model_not_allowed"),
        (asking("model=deaf/x", own), 400, "invalid_request"),
        (asking("model=voice", key("penniless")), 402, "budget_exceeded"),
        (asking("model=voice", key("strict")), 402, "budget_exceeded"),
        (asking("model=gone/m", own), 502, "upstream_unreachable"),
    ):
        got, error = await refused(attempt)
        assert (got, error["code"]) == (status, code), error


async def test_a_refusal_of_the_providers_keeps_its_status(house: House) -> None:
    status, error = await refused(house.connect("busy"))
    assert status == 429
    assert error["provider"] == "mock"
    newest = (await house.gateway.events(model="busy"))[0]
    assert (newest["endpoint"], newest["status"], newest["outcome"]) == ("realtime", 429, "error")


async def test_a_redirect_is_not_followed(house: House) -> None:
    def elsewhere(socket: ServerConnection, request: Request) -> Response:
        answer = socket.respond(302, "")
        answer.headers["location"] = house.at("model=voice")
        return answer

    async with scripted(house, idle, elsewhere):
        status, error = await refused(house.connect("scripted"))
    assert (status, error["provider"]) == (502, "script")


async def test_other_targets_are_tried(house: House) -> None:
    async with house.connect("either") as raw:
        assert raw.response is not None
        assert raw.response.headers["x-tollway-attempts"] == "3"
        assert raw.response.headers["x-tollway-provider"] == "mock"
        session = Spoken(raw)
        await session.say(hello(), ASK)
        await session.until("response.done")
        events = await house.of(raw, 3)
    assert [event["outcome"] for event in events] == ["error", "error", "ok"]
    assert [event["attempt"] for event in events] == [1, 2, 3]


async def test_requests_that_are_no_handshake(house: House) -> None:
    reply = await house.gateway.ask(path="/v1/realtime?model=voice", key=key("own"))
    assert (reply.status, reply.json()["error"]["code"]) == (426, "upgrade_required")
    assert reply.headers["upgrade"] == "websocket"
    assert (await house.gateway.ask({}, "/v1/realtime?model=voice", key=key("own"))).status == 405
    headers = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    assert (await house.gateway.ask(path="/v1/models", key=key("own"), headers=headers)).status == 200
    reply = await house.gateway.ask(path="/v1/realtime?model=voice", key=key("own"), headers=headers)
    assert reply.status == 426  # a handshake without its key
    assert reply.headers["sec-websocket-version"] == "13"
    headers["sec-websocket-key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    headers["sec-websocket-version"] = "8"
    assert (
        await house.gateway.ask(path="/realtime?model=voice", key=key("own"), headers=headers)
    ).status == 426


async def test_limits_of_requests_and_of_sessions(house: House) -> None:
    async with house.connect(who="once") as raw:
        assert raw.response is not None
        assert raw.response.headers["x-ratelimit-remaining-requests"] == "0"
        status, error = await refused(house.connect(who="once"))
        assert (status, error["code"]) == (429, "rate_limit_exceeded")
    async with house.connect(who="alone"):
        assert (await refused(house.connect(who="alone")))[0] == 429

    async def free() -> bool:
        try:
            async with house.connect(who="alone"):
                return True
        except InvalidStatus:
            return False

    await until(free, 2, "the slot is free again")


# ------------------------------------------------------------------------------------------- the models


async def test_a_session_keeps_its_model(house: House) -> None:
    heard: list[Any] = []

    async def listen(socket: ServerConnection) -> None:
        async for message in socket:
            heard.append(json.loads(message))

    async with scripted(house, listen), house.connect("scripted") as raw:
        session = Spoken(raw)
        for kind, body in (
            ("session.update", {"session": {"model": "gpt-4o-realtime-preview"}}),
            ("session.update", {"session": {"model": "voice"}}),
            ("session.update", {"session": {"mod\\u0065l": "voice"}}),
            ("response.create", {"response": {"model": "other"}}),
        ):
            text = json.dumps({"type": kind, "event_id": "mine", **body}).replace("\\\\u", "\\u")
            await raw.send(text)
            error = (await session.hear())["error"]
            assert (error["code"], error["event_id"]) == ("model_not_allowed", "mine")
        # Given twice, the last one counts, for us and for the provider.
        await raw.send(
            '{"type":"session.update","session":{"model":"voice"},"session":{"model":"scripted","a":1}}'
        )
        await raw.send('{"type":"x","type":"session.update","session":{"model":"gpt-realtime"}}')
        await until(lambda: len(heard) == 2)
    assert heard[0] == {"type": "session.update", "session": {"model": "gpt-realtime", "a": 1}}
    assert heard[1] == {"type": "session.update", "session": {"model": "gpt-realtime"}}


async def test_transcribers_are_models_a_key_must_be_allowed(house: House) -> None:
    heard: list[Any] = []

    async def listen(socket: ServerConnection) -> None:
        async for message in socket:
            heard.append(json.loads(message))

    def update(model: str, old: bool = False) -> dict[str, Any]:
        if old:
            return {"type": "session.update", "session": {"input_audio_transcription": {"model": model}}}
        transcription = {"model": model, "language": "en"}
        return {"type": "session.update", "session": {"audio": {"input": {"transcription": transcription}}}}

    async with scripted(house, listen), house.connect("scripted", "hearing") as raw:
        session = Spoken(raw)
        for model, code in (
            ("gpt-4o-transcribe", "model_not_allowed"),
            ("scribe", "model_not_allowed"),
            ("mock/m", "model_not_allowed"),
            ("voice", "invalid_request"),  # allowed, but served elsewhere
        ):
            for old in (False, True):
                await session.say(update(model, old))
                assert (await session.hear())["error"]["code"] == code
        await session.say(update("whisper-1"), update("whisper-1", old=True))
        await until(lambda: len(heard) == 2)
    assert heard[0]["session"]["audio"]["input"]["transcription"] == {"model": "whisper-1", "language": "en"}
    async with scripted(house, listen), house.connect("scripted") as raw:
        await Spoken(raw).say(update("scribe"))
        await until(lambda: len(heard) == 3)
    assert heard[2]["session"]["audio"]["input"]["transcription"]["model"] == "gpt-4o-transcribe"


async def test_transcriptions_are_priced_as_their_model(house: House) -> None:
    done = "conversation.item.input_audio_transcription.completed"

    async def transcribe(socket: ServerConnection) -> None:
        for model, usage in (
            ("gpt-4o-transcribe", {"type": "tokens", "input_tokens": 30, "output_tokens": 5, "total_tokens": 35,
                                   "input_token_details": {"text_tokens": 4, "audio_tokens": 26}}),
            ("whisper-1", {"type": "duration", "seconds": 2.4}),
        ):  # fmt: skip
            told = {"audio": {"input": {"transcription": {"model": model}}}}
            await socket.recv()
            await socket.send(json.dumps({"type": "session.updated", "session": told}))
            await socket.send(json.dumps({"type": done, "item_id": "i", "transcript": "a", "usage": usage}))
        await socket.wait_closed()

    async with scripted(house, transcribe), house.connect("scripted") as raw:
        session = Spoken(raw)
        for model in ("scribe", "whisper-1"):
            told = {"audio": {"input": {"transcription": {"model": model}}}}
            await session.say({"type": "session.update", "session": told})
            await session.until(done)
        events = await house.of(raw, 2)
    assert [event["upstream_model"] for event in events] == ["gpt-4o-transcribe", "whisper-1"]
    assert [event["model"] for event in events] == ["scripted", "scripted"]
    first, second = events
    assert (first["usage"]["input"], first["usage"]["audio_input"], first["usage"]["output"]) == (4, 26, 5)
    assert first["cost_nano_usd"] == 4 * 2000 + 26 * 6000 + 5 * 8000
    assert (second["usage"]["seconds"], second["cost_nano_usd"]) == (3, 300_000)


# ----------------------------------------------------------------------------------------------- money


async def test_a_budget_that_runs_out_ends_the_session(house: House) -> None:
    async with house.connect(who="poor") as raw:
        session = Spoken(raw)
        assert await house.held("poor") > 0
        done = 0
        text = "word " * 400
        closing: tuple[list[Any], int, str] | None = None
        while closing is None:
            await session.say(hello(text), ASK)
            seen = await session.until("response.done", "error")
            assert seen[-1]["type"] == "response.done"
            done += 1
            try:
                nxt = await asyncio.wait_for(raw.recv(), 0.1)
            except TimeoutError:
                continue
            closing = ([json.loads(nxt)], *(await session.ends())[1:])
            assert done < 100
    (error,), code, reason = closing
    assert (code, reason) == (1008, "budget_exceeded")
    assert error["type"] == "error"
    assert error["error"]["code"] == "budget_exceeded"
    assert error["error"]["type"] == "insufficient_quota"
    events = await house.of(raw, done)
    assert len(events) == done
    assert await house.spent("poor") == sum(event["cost_nano_usd"] for event in events) > 10_000_000
    assert await house.held("poor") == 0
    assert (await refused(house.connect(who="poor")))[0] == 402


async def test_a_token_limit_that_is_reached_ends_the_session(house: House) -> None:
    async with house.connect(who="shy") as raw:
        session = Spoken(raw)
        await session.say(hello("word " * 600), ASK)
        await session.until("response.done")
        events, code, reason = await session.ends()
    assert events[-1]["error"]["code"] == "rate_limit_exceeded"
    assert (code, reason) == (1013, "rate_limit_exceeded")


async def test_responses_side_by_side_are_each_held(house: House) -> None:
    """A budget with room for one and not for two: the second is refused before it is asked for, or ends the session
    where the provider began it by itself."""
    asked: list[Any] = []

    async def respond(socket: ServerConnection) -> None:
        async for message in socket:
            asked.append(json.loads(message))
            ident = f"resp_{len(asked)}"
            if asked[-1].get("twice"):
                ident = "resp_own"
            await socket.send(json.dumps({"type": "response.created", "response": {"id": ident}}))

    async with scripted(house, respond), house.connect("scripted", "spare") as raw:
        session = Spoken(raw)
        held = await house.held("spare")
        await session.say(ASK)
        await session.until("response.created")
        assert await house.held("spare") == held
        await session.say({**ASK, "event_id": "second"})
        error = (await session.hear())["error"]
        assert (error["code"], error["event_id"]) == ("budget_exceeded", "second")
        assert len(asked) == 1
        await session.say({"type": "other", "twice": True})
        events, code, _ = await session.ends()
        assert events[-1]["error"]["code"] == "budget_exceeded"
        assert code == 1008
        found = await house.of(raw, 2)
    assert [event["outcome"] for event in found] == ["cancelled", "cancelled"]
    assert all(event["estimated"] for event in found)
    assert await house.held("spare") == 0


async def test_a_response_that_failed_or_was_cancelled(house: House) -> None:
    async def respond(socket: ServerConnection) -> None:
        usage = {"input_tokens": 10, "output_tokens": 3, "total_tokens": 13}
        for status, used in (("failed", None), ("cancelled", usage), ("completed", None)):
            ident = "resp_" + status
            await socket.recv()
            await socket.send(json.dumps({"type": "response.created", "response": {"id": ident}}))
            delta = {"type": "response.output_text.delta", "response_id": ident, "delta": "a" * 40}
            await socket.send(json.dumps(delta))
            done = {"id": ident, "status": status, "usage": used}
            await socket.send(json.dumps({"type": "response.done", "response": done}))
        await socket.wait_closed()

    async with scripted(house, respond), house.connect("scripted") as raw:
        session = Spoken(raw)
        for _ in range(3):
            await session.say(ASK)
            await session.until("response.done")
        failed, cancelled, silent = await house.of(raw, 3)
    assert (failed["outcome"], failed["status"], failed["cost_nano_usd"]) == ("error", 502, 0)
    assert (cancelled["outcome"], cancelled["usage"]["output"]) == ("cancelled", 3)
    assert (silent["outcome"], silent["estimated"]) == ("ok", True)
    assert silent["usage"]["output"] == 10


# -------------------------------------------------------------------------------------- who leaves, what breaks


async def test_a_client_that_vanishes_takes_the_provider_along(house: House) -> None:
    bills = len(house.upstream.simulator.bill.entries())
    async with house.connect("slow", "watched") as raw:
        session = Spoken(raw)
        await session.say(hello(), ASK)
        await session.until("response.output_text.delta")
        assert await house.held("watched") > 0
        began = time.monotonic()
        sock = raw.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.transport.abort()
        await until(
            lambda: len(house.upstream.simulator.bill.entries()) > bills, 2, "the provider is let go of"
        )
        assert time.monotonic() - began < 1
        (event,) = await house.of(raw)
    line = house.upstream.simulator.bill.entries()[-1]
    assert (line.complete, line.usage) == (False, None)
    assert (event["outcome"], event["status"], event["estimated"]) == ("cancelled", 499, True)
    assert 0 < event["usage"]["output"] <= line.completion_tokens + 1
    assert await house.held("watched") == 0
    assert await house.spent("watched") == event["cost_nano_usd"] > 0


async def test_a_client_that_leaves_before_the_socket_stands(house: House) -> None:
    arrived = asyncio.Event()

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        assert await reader.read() == b""  # it was let go of
        arrived.clear()
        writer.close()

    async with await asyncio.start_server(never, "127.0.0.1", house.scripted):
        task = asyncio.create_task(house.connect("scripted", "watched").__aenter__())
        async with asyncio.timeout(3):
            await arrived.wait()
        task.cancel()
        await until(lambda: not arrived.is_set(), 2, "the provider is let go of")
    assert await house.held("watched") == 0
    newest = (await house.gateway.events(key="watched", model="scripted"))[0]
    assert (newest["outcome"], newest["status"], newest["cost_nano_usd"]) == ("cancelled", 499, 0)


async def test_a_provider_that_breaks_off(house: House) -> None:
    async with house.connect("cut") as raw:
        session = Spoken(raw)
        await session.say(hello(), ASK)
        events, code, reason = await session.ends()
        assert events[-1]["type"] == "error"
        assert events[-1]["error"]["code"] == "upstream_malformed"
        assert events[-1]["error"]["provider"] == "mock"
        assert (code, reason) == (1011, "upstream_malformed")
        (event,) = await house.of(raw)
    assert (event["outcome"], event["status"], event["estimated"]) == ("error", 502, True)


async def test_close_codes_are_passed_on(house: House) -> None:
    codes: list[tuple[int | None, str | None]] = []

    async def close(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.close(4100, "the provider says so")

    async def keep(socket: ServerConnection) -> None:
        await socket.wait_closed()
        codes.append((socket.close_code, socket.close_reason))

    async with scripted(house, close), house.connect("scripted") as raw:
        await Spoken(raw).say({"type": "x"})
        assert (await Spoken(raw).ends())[1:] == (4100, "the provider says so")
    async with scripted(house, keep):
        for code, reason in ((4200, "the client says so"), (1000, ""), (1001, "away")):
            async with house.connect("scripted") as raw:
                await raw.close(code, reason)
            await until(lambda: bool(codes))
            assert codes.pop() == (code, reason)


async def test_messages_that_are_too_large(house: House) -> None:
    async def large(socket: ServerConnection) -> None:
        async for _ in socket:
            await socket.send("x" * 300_000)

    async with house.connect() as raw:
        session = Spoken(raw)
        await session.hear()
        await raw.send(json.dumps(hello("x" * 300_000)))
        assert (await session.ends())[1] == 1009
    async with scripted(house, large), house.connect("scripted") as raw:
        await Spoken(raw).say({"type": "x"})
        events, code, _ = await Spoken(raw).ends()
        assert events[-1]["error"]["code"] == "request_too_large"
        assert code == 1009


async def test_who_is_slow_slows_the_other_side_down(house: House) -> None:
    sent = received = 0
    message = json.dumps({"type": "x", "data": "y" * 100_000})
    total = 600

    async def flood(socket: ServerConnection) -> None:
        nonlocal sent
        for _ in range(total):
            await socket.send(message)
            sent += 1
        await socket.recv()

    async def sleep(socket: ServerConnection) -> None:
        nonlocal received
        await socket.recv()
        await asyncio.sleep(0.5)
        async for _ in socket:
            received += 1

    assert house.gateway.process is not None
    status = Path(f"/proc/{house.gateway.process.pid}/status")

    def memory() -> int:
        return int(status.read_text().split("VmRSS:")[1].split()[0])

    async with scripted(house, flood), house.connect("scripted", max_queue=1, max_size=None) as raw:
        before = memory()
        await asyncio.sleep(0.5)
        stalled = sent
        assert stalled < total  # and not all 60 MB of it
        assert memory() - before < 20_000
        for _ in range(total):
            assert await raw.recv() == message
        await Spoken(raw).say({"type": "done"})
    async with scripted(house, sleep), house.connect("scripted", write_limit=1) as raw:
        before = memory()
        pushed = 0
        try:
            async with asyncio.timeout(0.4):
                while pushed < total:
                    await raw.send(message)
                    pushed += 1
        except TimeoutError:
            pass
        assert pushed < total
        assert memory() - before < 20_000
        await until(lambda: received >= pushed - 1, 5)


async def test_a_key_that_is_revoked_ends_its_session(house: House) -> None:
    made = await house.gateway.api("/keys", {"name": "short-lived"})
    async with connect(house.at(), additional_headers={"authorization": f"Bearer {made['key']}"}) as raw:
        session = Spoken(raw)
        await session.hear()
        await house.gateway.api("/keys/short-lived/revoke", method="POST")
        await session.say(hello())
        events, code, reason = await session.ends()
    assert events[-1]["error"]["code"] == "invalid_api_key"
    assert (code, reason) == (1008, "invalid_api_key")


# -------------------------------------------------------------------------------------------- client secrets


def ask_secret(**session: Any) -> dict[str, Any]:
    return {"session": {"type": "realtime", "model": "voice", **session}}


async def test_a_browser_connects_with_a_secret_of_ours(house: House) -> None:
    reply = await house.gateway.ask(
        {**ask_secret(instructions="Be brief."), "expires_after": {"anchor": "created_at", "seconds": 90}},
        "/v1/realtime/client_secrets",
        key=key("watched"),
    )
    made = reply.json()
    assert reply.status == 200
    assert reply.headers["cache-control"] == "no-store"
    assert made["value"].startswith("ek_tw_")
    assert 60 < made["expires_at"] - time.time() < 120
    assert made["session"]["instructions"] == "Be brief."
    before = await house.spent("watched")
    for query in ("", "model=voice"):
        protocols = [Subprotocol("realtime"), Subprotocol("openai-insecure-api-key." + made["value"])]
        async with connect(house.at(query), subprotocols=protocols, origin="https://app.example") as raw:  # type: ignore[arg-type]
            session = Spoken(raw)
            await session.say(hello(), ASK)
            await session.until("response.done")
            (event,) = await house.of(raw)
            assert (event["key"], event["model"]) == ("watched", "voice")
    assert await house.spent("watched") == before + 2 * event["cost_nano_usd"]


async def test_what_a_secret_is_not_good_for(house: House) -> None:
    reply = await house.gateway.ask(ask_secret(), "/v1/realtime/client_secrets", key=key("own"))
    ours = reply.json()["value"]
    headers = {"authorization": f"Bearer {ours}"}
    assert (await refused(connect(house.at("model=slow"), additional_headers=headers)))[0] == 403
    assert (await house.gateway.ask({"model": "voice", "messages": []}, key=ours)).status == 401
    assert (await house.gateway.ask(ask_secret(), "/v1/realtime/client_secrets", key=ours)).status == 401
    for foreign in ("ek_000001", "ek_tw_" + "a" * 43, ours + "x", ours[:-1]):
        status, error = await refused(
            connect(house.at(), additional_headers={"authorization": f"Bearer {foreign}"})
        )
        assert (status, error["code"]) == (401, "invalid_api_key")


async def test_requests_for_a_secret_are_judged(house: House) -> None:
    async def code(body: Any, who: str = "own", path: str = "client_secrets") -> tuple[int, str]:
        reply = await house.gateway.ask(body, f"/v1/realtime/{path}", key=key(who) if who else "")
        return reply.status, reply.json()["error"]["code"]

    assert await code(ask_secret(), "") == (401, "invalid_api_key")
    assert await code(ask_secret(model="slow"), "narrow") == (403, "model_not_allowed")
    assert await code(ask_secret(model="nothing")) == (404, "model_not_found")
    assert await code({}) == (400, "invalid_request")
    assert await code({"session": {"type": "realtime"}}) == (400, "invalid_request")
    assert await code({"model": "deaf/x"}, path="sessions") == (400, "invalid_request")
    assert await code(ask_secret(model="gone/m")) == (502, "upstream_unreachable")
    transcription = {"input": {"transcription": {"model": "scribe"}}}
    assert await code(ask_secret(audio=transcription), "narrow") == (403, "model_not_allowed")


async def test_the_older_page_has_its_secret_inside(house: House) -> None:
    reply = await house.gateway.ask(
        {"model": "voice", "voice": "alloy"}, "/realtime/sessions", key=key("own")
    )
    made = reply.json()
    assert made["client_secret"]["value"].startswith("ek_tw_")
    assert made["voice"] == "alloy"
    headers = {"authorization": f"Bearer {made['client_secret']['value']}"}
    async with connect(house.at(""), additional_headers=headers) as raw:
        assert (await Spoken(raw).hear())["type"] == "session.created"


@asynccontextmanager
async def secretive(house: House, expires: float) -> AsyncIterator[list[Request]]:
    """A provider that makes secrets, which the library's server cannot: it reads no POST. Gives the handshakes."""
    seen: list[Request] = []
    bodies: list[Any] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:-2])
        if not head.startswith("POST"):
            seen.append(Request(head.split(" ")[1], lines))  # type: ignore[arg-type]
            writer.write(b"HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\n{}")
            writer.close()
            return
        bodies.append(json.loads(await reader.readexactly(int(lines["content-length"]))))
        secret = {"value": SECRET, "expires_at": expires}
        answer = {"object": "x", "client_secret": secret} if "sessions" in head.split(" ")[1] else secret
        whole = json.dumps(answer).encode()
        head_lines = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n"
        writer.write(head_lines + b"content-length: %d\r\n\r\n%b" % (len(whole), whole))
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", house.scripted):
        yield seen


async def test_the_provider_gets_its_own_secret_back_and_not_its_key(house: House) -> None:
    async with secretive(house, time.time() + 0.7) as seen:
        reply = await house.gateway.ask(
            ask_secret(model="scripted"), "/v1/realtime/client_secrets", key=key("own")
        )
        made = reply.json()
        headers = {"authorization": f"Bearer {made['value']}"}
        assert SECRET not in reply.body.decode()
        assert (await refused(connect(house.at(""), additional_headers=headers)))[0] == 403
        assert seen[0].headers["authorization"].lower() == f"bearer {SECRET}"
        assert "sk-of-the-script" not in str(seen[0].headers)
        assert seen[0].path == "/v1/realtime?model=gpt-realtime"
        await asyncio.sleep(0.8)
        status, error = await refused(connect(house.at(""), additional_headers=headers))
        assert (status, "expired" in error["message"]) == (401, True)
        reply = await house.gateway.ask(
            {"input_audio_transcription": {"model": "scribe"}},
            "/v1/realtime/transcription_sessions",
            key=key("own"),
        )
        made = reply.json()["client_secret"]
        assert made["value"].startswith("ek_tw_")


async def test_a_secret_for_transcription_opens_such_a_session(house: House) -> None:
    async with secretive(house, time.time() + 60) as seen:
        reply = await house.gateway.ask(
            {
                "session": {
                    "type": "transcription",
                    "audio": {"input": {"transcription": {"model": "scribe"}}},
                }
            },
            "/v1/realtime/client_secrets",
            key=key("own"),
        )
        headers = {"authorization": f"Bearer {reply.json()['value']}"}
        await refused(connect(house.at("intent=transcription"), additional_headers=headers))
        assert seen[0].path == "/v1/realtime?intent=transcription"


async def test_a_secret_ends_with_its_key(house: House) -> None:
    made = await house.gateway.api("/keys", {"name": "lender"})
    reply = await house.gateway.ask(ask_secret(), "/v1/realtime/client_secrets", key=made["key"])
    headers = {"authorization": f"Bearer {reply.json()['value']}"}
    async with connect(house.at(""), additional_headers=headers) as raw:
        await Spoken(raw).hear()
    await house.gateway.api("/keys/lender/revoke", method="POST")
    status, error = await refused(connect(house.at(""), additional_headers=headers))
    assert (status, error["code"]) == (401, "invalid_api_key")


async def test_the_administrators_key_serves_too(house: House) -> None:
    async with connect(
        house.at("model=voice"), additional_headers={"authorization": f"Bearer {ADMIN}"}
    ) as raw:
        session = Spoken(raw)
        await session.say(hello(), ASK)
        await session.until("response.done")
        (event,) = await house.of(raw)
    assert event["key"] is None


# ------------------------------------------------------------------------------------ clocks, and the other door


@pytest.fixture(scope="module", params=["lane", "sockets"])
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """Without a database, with short clocks, over our own server and over a stock one."""
    with simulator() as upstream:
        config: dict[str, Any] = {
            "server": {
                "session_idle": "1500ms",
                "session_total": "2500ms",
                "max_message": "64KiB",
                "write_timeout": "300ms",
            },
            "database": "none",
            "providers": {"mock": provider(upstream)},
            "models": {
                "voice": {"targets": [{"model": f"mock/{VOICE}", "price": PRICE}]},
                "flood": {"targets": [{"model": "mock/m+tokens=3000", "price": PRICE}]},
            },
            "keys": [
                {"name": "own", "key": KEY},
                {"name": "none", "key": key("none"), "budget": {"usd": 0.000001}},
            ],
        }
        opened = Door(request.param, tmp_path_factory.mktemp("sockets"), upstream, config)
        try:
            opened.wait()
            yield opened
            assert "Traceback" not in opened.log, opened.log
        finally:
            opened.stop()


def through(door: Door, token: str = KEY, query: str = "model=voice", **how: Any) -> connect:
    headers = {"authorization": f"Bearer {token}"}
    return connect(f"ws://127.0.0.1:{door.port}/v1/realtime?{query}", additional_headers=headers, **how)


async def test_either_door_serves_a_session(door: Door) -> None:
    async with through(door) as raw:
        session = Spoken(raw)
        await session.say(hello(), ASK)
        done = (await session.until("response.done"))[-1]
        assert raw.response is not None
        event = await asyncio.to_thread(door.event, raw.response.headers["x-tollway-request-id"])
    assert event["raw_usage"] == done["response"]["usage"]


async def test_either_door_refuses_in_http_and_bounds_messages(door: Door) -> None:
    for token, query, status in (
        ("sk-tw-nobody", "model=voice", 401),
        (KEY, "model=nothing", 404),
        (KEY, "", 400),
        (key("none"), "model=voice", 402),
    ):
        assert (await refused(through(door, token, query)))[0] == status
    async with through(door) as raw:
        await Spoken(raw).hear()
        await raw.send(json.dumps(hello("x" * 70_000)))
        assert (await Spoken(raw).ends())[1] == 1009


async def test_either_door_ends_a_silent_session_and_one_that_is_too_long(door: Door) -> None:
    async with through(door) as raw:
        events, code, reason = await Spoken(raw).ends()
        assert events[-1]["error"]["code"] == "session_expired"
        assert (code, reason) == (1001, "session_expired")
    async with through(door) as raw:
        session = Spoken(raw)
        began = time.monotonic()
        ending = asyncio.create_task(session.ends())
        while not ending.done() and time.monotonic() - began < 8:
            try:
                await session.say({"type": "input_audio_buffer.clear"})
            except ConnectionClosed:
                break
            await asyncio.sleep(0.1)
        events, code, _ = await ending
        assert 2.0 < time.monotonic() - began < 6
        assert "longest" in events[-1]["error"]["message"]
        assert code == 1001


async def test_either_door_cuts_off_who_does_not_read(door: Door) -> None:
    narrow = socket.socket()
    narrow.setsockopt(
        socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16
    )  # before it connects: it does not grow then
    narrow.connect(("127.0.0.1", door.port))
    async with through(door, query="model=flood", max_queue=1, compression=None, sock=narrow) as raw:
        await Spoken(raw).say(hello(), ALOUD)  # 10 MB of it, more than the gateway's socket takes
        assert raw.response is not None
        event = await asyncio.to_thread(door.event, raw.response.headers["x-tollway-request-id"])
        raw.transport.abort()
    assert (event["outcome"], event["status"], event["estimated"]) == ("cancelled", 499, True)


async def test_a_stop_tells_the_client_and_writes_its_event(tmp_path: Path) -> None:
    with simulator() as upstream:
        config = {
            "providers": {"mock": provider(upstream)},
            "models": {"slow": {"targets": [{"model": "mock/m+pace=20ms+tokens=500", "price": PRICE}]}},
            "keys": [{"name": "own", "key": KEY}],
            "sinks": [{"type": "file", "path": str(tmp_path / "events.jsonl")}],
            "database": "none",
        }
        gateway = Gateway(tmp_path / "stop", config)
        try:
            await gateway.start()
            url = f"ws://127.0.0.1:{gateway.port}/v1/realtime?model=slow"
            async with connect(url, additional_headers={"authorization": f"Bearer {KEY}"}) as raw:
                session = Spoken(raw)
                await session.say(hello(), ASK)
                await session.until("response.output_text.delta")
                stopping = asyncio.create_task(gateway.stop())
                assert (await session.ends())[1] == 1012
                assert await stopping == 0
        finally:
            gateway.kill()
        (event,) = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert (event["outcome"], event["estimated"]) == ("cancelled", True)
    assert event["usage"]["output"] > 0
