"""``/v1/realtime``: a session over a WebSocket that answers with text, sound or calls; and ``client_secrets``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

import msgspec

from tollway.simulator.answer import Answer, Endpoint, Request, Route, Stamp
from tollway.simulator.dialects.openai.errors import invalid
from tollway.simulator.dialects.openai.kept import looks, optional, shown
from tollway.simulator.dialects.openai.realtime_parts import (
    Running,
    Served,
    prompt_tokens,
    tell_content,
    text_of,
)
from tollway.simulator.knobs import Knobs
from tollway.simulator.message import Message
from tollway.simulator.reading import Body, Plain
from tollway.simulator.speech import Speech, Tool, Wish, speak
from tollway.simulator.tally import Tally, tally
from tollway.simulator.tokens import count, pieces

SUBPROTOCOLS = ["realtime"]

SECRET_SECONDS = 600

BETA_NAMES = {
    "response.output_text": "response.text",
    "response.output_audio_transcript": "response.audio_transcript",
    "response.output_audio": "response.audio",
    "conversation.item.added": "conversation.item.created",
}
"""What events were called before general availability; asked for by ``OpenAI-Beta: realtime=v1``."""

_json = msgspec.json.encode


class Session:
    """One conversation. ``bill`` is called for each response, once it is over or the client is gone."""

    def __init__(
        self,
        model: str,
        knobs: Knobs,
        serials: Callable[[], str],
        beta: bool,
        created: int,
        bill: Callable[[Served], None],
    ) -> None:
        self._knobs = knobs
        self._serials = serials
        self._beta = beta
        self._bill = bill
        self._model = model
        self._items: list[Body] = []
        self._heard = 0
        self._events = 0
        self._running: Running | None = None
        ident = "sess_" + serials()
        common = {"id": ident, "object": "realtime.session", "model": model, "instructions": "", "tools": []}
        self._session: Body = {**common, "tool_choice": "auto", "expires_at": created + 3600}
        if beta:
            self._session |= {"modalities": ["text"], "voice": "alloy", "temperature": 0.8}
        else:
            self._session |= {"type": "realtime", "output_modalities": ["text"]}

    # What the socket asks.

    def opened(self) -> Iterable[Message]:
        return [self._event("session.created", delay=self._knobs.latency[0], session=self._session)]

    def lost(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            self._bill(running.broken())

    def heard(self, text: str | bytes, waiting: deque[Message]) -> Iterable[Message]:
        try:
            said = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return [self._wrong("The message could not be parsed as JSON.", "invalid_json")]
        if not isinstance(said, dict):
            return [self._wrong("The message must be a JSON object.", "invalid_event")]
        handler = HANDLERS.get(said.get("type", ""))
        if handler is None:
            return [self._wrong(f"Invalid value: '{said.get('type')}'.", "invalid_value", "type", said)]
        if said["type"] == "response.cancel":
            return self._cancel(waiting, said)
        told = handler(self, said)
        if self._running is None or (said["type"] == "response.create" and len(told) > 1):
            return told
        # A response is under way: what is answered meanwhile does not wait for its end.
        waiting.extendleft(reversed(told))
        return []

    # What the client says.

    def update(self, said: Body) -> list[Message]:
        self._session |= {
            name: value for name, value in (said.get("session") or {}).items() if name != "model"
        }
        return [self._event("session.updated", session=self._session)]

    def add_item(self, said: Body) -> list[Message]:
        item = said.get("item")
        if not isinstance(item, dict) or item.get("type") not in (
            "message",
            "function_call",
            "function_call_output",
        ):
            return [self._wrong("Invalid 'item.type'.", "invalid_value", "item.type", said)]
        return self._added(
            {"id": "item_" + self._serials(), "object": "realtime.item", "status": "completed", **item}
        )

    def _added(self, item: Body) -> list[Message]:
        before = self._items[-1]["id"] if self._items else None
        self._items.append(item)
        made = [self._event("conversation.item.added", previous_item_id=before, item=item)]
        if not self._beta:
            made.append(self._event("conversation.item.done", previous_item_id=before, item=item))
        return made

    def delete_item(self, said: Body) -> list[Message]:
        ident = said.get("item_id")
        if all(item["id"] != ident for item in self._items):
            return [
                self._wrong(f"Item '{ident}' does not exist.", "item_delete_invalid_item_id", "item_id", said)
            ]
        self._items = [item for item in self._items if item["id"] != ident]
        return [self._event("conversation.item.deleted", item_id=ident)]

    def append(self, said: Body) -> list[Message]:
        self._heard += len(said.get("audio") or "")
        return []

    def commit(self, said: Body) -> list[Message]:
        if not self._heard:
            message = "Error committing input audio buffer: buffer too small."
            return [self._wrong(message, "input_audio_buffer_commit_empty", None, said)]
        heard, self._heard = self._heard, 0
        part = {"type": "input_audio", "transcript": None, "heard": heard}
        item: Body = {"id": "item_" + self._serials(), "object": "realtime.item", "type": "message"}
        item |= {"status": "completed", "role": "user", "content": [part]}
        before = self._items[-1]["id"] if self._items else None
        done = self._event("input_audio_buffer.committed", previous_item_id=before, item_id=item["id"])
        return [done, *self._added(item)]

    def clear(self, said: Body) -> list[Message]:
        self._heard = 0
        return [self._event("input_audio_buffer.cleared")]

    def respond(self, said: Body) -> list[Message]:
        if self._running is not None:
            message = "Conversation already has an active response in progress."
            return [self._wrong(message, "conversation_already_has_active_response", None, said)]
        asked = {**self._session, **(said.get("response") or {})}
        items = (
            [*self._items, *asked.get("input", ())] if isinstance(asked.get("input"), list) else self._items
        )
        spoken = speak(self._wish(asked, items), self._knobs)
        prompt, audio = prompt_tokens(asked, items)
        counts = tally(prompt, spoken.tokens, 0, self._knobs, audio)
        modalities = asked.get("output_modalities") or asked.get("modalities") or ["text"]
        aloud = "audio" in modalities and spoken.text is not None
        if aloud:
            # The words are told as well, but it is the sound that counts.
            counts.audio_out = counts.output
        running = Running("resp_" + self._serials(), counts)
        self._running = running
        return self._tell(running, spoken, aloud, asked)

    def _cancel(self, waiting: deque[Message], said: Body) -> list[Message]:
        running, self._running = self._running, None
        if running is None:
            message = "Cancellation failed: no active response found."
            return [self._wrong(message, "response_cancel_not_active", None, said)]
        waiting.clear()
        counts = running.so_far()
        usage = self._usage(counts)
        told = self._response(running.id, "cancelled", [], usage)
        told["status_details"] = {"type": "cancelled", "reason": "client_cancelled"}

        def sent() -> None:
            self._bill(Served(running.id, True, running.events + 1, usage, counts))

        return [self._event("response.done", sent=sent, response=told)]

    # What it says.

    def _event(
        self, kind: str, delay: float = 0.0, sent: Callable[[], None] | None = None, **fields: Any
    ) -> Message:
        self._events += 1
        if self._beta:
            for new, old in BETA_NAMES.items():
                if kind == new or kind.startswith(new + "."):
                    kind = old + kind[len(new) :]
        told = {"type": kind, "event_id": f"event_{self._events:08d}", **fields}
        return Message(_json(told).decode(), delay, sent)

    def _wrong(self, message: str, code: str, param: str | None = None, said: Body | None = None) -> Message:
        error = {"type": "invalid_request_error", "code": code, "message": message, "param": param}
        return self._event("error", error={**error, "event_id": (said or {}).get("event_id")})

    def _wish(self, asked: Body, items: list[Body]) -> Wish:
        offered = [
            Tool(tool["name"], tool.get("parameters")) for tool in asked.get("tools") or () if "name" in tool
        ]
        if asked.get("tool_choice") == "none" or (items and items[-1].get("type") == "function_call_output"):
            offered = []
        limit = asked.get("max_output_tokens", asked.get("max_response_output_tokens"))
        users = [text_of(item) for item in items if item.get("role") == "user"]
        return Wish(
            model=self._model,
            last=users[-1] if users else "",
            tools=offered,
            limit=limit if isinstance(limit, int) else None,
        )

    def _usage(self, counts: Tally) -> bytes | None:
        if self._knobs.no_usage:
            return None
        if self._knobs.usage == "null":
            return b"null"
        text = counts.prompt - counts.audio_in
        usage: Body = {
            "total_tokens": counts.total,
            "input_tokens": counts.prompt,
            "output_tokens": counts.output,
        }
        if self._knobs.usage == "full":
            usage["input_token_details"] = {
                "text_tokens": text,
                "audio_tokens": counts.audio_in,
                "image_tokens": 0,
                "cached_tokens": counts.read,
                "cached_tokens_details": {"text_tokens": counts.read, "audio_tokens": 0, "image_tokens": 0},
            }
            spoken = counts.audio_out
            usage["output_token_details"] = {"text_tokens": counts.output - spoken, "audio_tokens": spoken}
        return _json(usage)

    def _response(self, ident: str, status: str, output: list[Body], usage: bytes | None) -> Body:
        told: Body = {"object": "realtime.response", "id": ident, "status": status, "status_details": None}
        told |= {"output": output, "metadata": None}
        told["usage"] = None if usage is None else msgspec.Raw(usage)
        return told

    def _tell(self, running: Running, spoken: Speech, aloud: bool, asked: Body) -> list[Message]:
        knobs = self._knobs
        made: list[tuple[str, int, Body]] = []

        def add(kind: str, tokens: int = 0, **fields: Any) -> None:
            made.append((kind, tokens, fields))

        add("response.created", response=self._response(running.id, "in_progress", [], None))
        output: list[Body] = []
        for place, item in enumerate(self._output(spoken, aloud)):
            output.append(item)
            before = self._items[-1]["id"] if self._items else None
            where = {"response_id": running.id, "item_id": item["id"], "output_index": place}
            hollow: Body = {"content": []} if item["type"] == "message" else {"arguments": ""}
            empty = {**item, "status": "in_progress", **hollow}
            names = count(item.get("name", ""))
            add("response.output_item.added", names, response_id=running.id, output_index=place, item=empty)
            add("conversation.item.added", previous_item_id=before, item=empty)
            if item["type"] == "message":
                tell_content(add, item["content"][0], where, knobs)
            else:
                for piece in pieces(item["arguments"], knobs.events):
                    add(
                        "response.function_call_arguments.delta",
                        count(piece),
                        **where,
                        call_id=item["call_id"],
                        delta=piece,
                    )
                told = {"call_id": item["call_id"], "name": item["name"], "arguments": item["arguments"]}
                add("response.function_call_arguments.done", **where, **told)
            add("response.output_item.done", response_id=running.id, output_index=place, item=item)
            if not self._beta:
                add("conversation.item.done", previous_item_id=before, item=item)
            self._items.append(item)
        status = "incomplete" if spoken.finish in ("length", "content_filter") else "completed"
        usage = self._usage(running.counts)
        whole = self._response(running.id, status, output, usage)
        if status == "incomplete":
            reason = "max_output_tokens" if spoken.finish == "length" else "content_filter"
            whole["status_details"] = {"type": "incomplete", "reason": reason}
        add("response.done", response=whole)
        return self._played(running, made, usage)

    def _output(self, spoken: Speech, aloud: bool) -> list[Body]:
        if spoken.text is not None:
            part = {"type": "output_text", "text": spoken.text}
            if self._beta:
                part["type"] = "text"
            if aloud:
                part = {"type": "audio" if self._beta else "output_audio", "transcript": spoken.text}
            item: Body = {"id": "item_" + self._serials(), "object": "realtime.item", "type": "message"}
            return [{**item, "status": "completed", "role": "assistant", "content": [part]}]
        calls: list[Body] = []
        for call in spoken.calls:
            serial = self._serials()
            item = {"id": "item_" + serial, "object": "realtime.item", "type": "function_call"}
            item |= {"status": "completed", "call_id": "call_" + serial, "name": call.name}
            calls.append({**item, "arguments": call.arguments})
        return calls

    def _played(
        self, running: Running, made: list[tuple[str, int, Body]], usage: bytes | None
    ) -> list[Message]:
        """The events with their pauses, broken off where a knob says so."""
        knobs = self._knobs
        messages: list[Message] = []

        def told(tokens: int) -> Callable[[], None]:
            return lambda: running.tell(tokens)

        def ended(complete: bool) -> Callable[[], None]:
            def end() -> None:
                running.tell(0)
                self._running = None
                self._bill(
                    Served(running.id, True, running.events, usage, running.counts)
                    if complete
                    else running.broken()
                )

            return end

        for place, (kind, tokens, fields) in enumerate(made):
            if place == knobs.error_event:
                message = knobs.error_message or "Simulated error in the middle of a response."
                error = {
                    "type": knobs.error_type or "server_error",
                    "code": knobs.error_code,
                    "message": message,
                }
                return [*messages, self._event("error", sent=ended(False), error={**error, "param": None})]
            if place == knobs.cut:
                return [*messages, Message("", break_off=True)]
            if place == knobs.stall:
                return messages
            delay = knobs.first_event if place == 0 else knobs.pace or 0.0
            last = place == len(made) - 1
            messages.append(self._event(kind, delay, ended(True) if last else told(tokens), **fields))
        return messages


HANDLERS: dict[str, Callable[[Session, Body], list[Message]]] = {
    "session.update": Session.update,
    "conversation.item.create": Session.add_item,
    "conversation.item.delete": Session.delete_item,
    "input_audio_buffer.append": Session.append,
    "input_audio_buffer.commit": Session.commit,
    "input_audio_buffer.clear": Session.clear,
    "response.create": Session.respond,
    "response.cancel": Session.clear,
}
"""What a client may say. A cancellation also takes back what waits to be sent, so the session itself does it."""


def model_of(request: Request) -> str:
    return parse_qs(request.query.decode("latin-1").replace("+", "%2B")).get("model", [""])[-1]


def is_beta(request: Request) -> bool:
    named = request.headers.get(b"openai-beta", b"") + request.headers.get(b"sec-websocket-protocol", b"")
    return b"realtime=v1" in named or b"openai-beta.realtime-v1" in named


def key_of(request: Request) -> str | None:
    """The key that a browser hides among the subprotocols."""
    for one in request.headers.get(b"sec-websocket-protocol", b"").decode("latin-1").split(","):
        if one.strip().startswith("openai-insecure-api-key."):
            return one.strip().removeprefix("openai-insecure-api-key.")
    return None


def read_handshake(request: Request) -> Plain:
    """A request to the socket's path that is not to become one."""
    return Plain(model_of(request), {}, request)


def not_a_socket(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    if not model:
        raise invalid("You must provide a model parameter.", "model", "missing_model")
    raise invalid("This endpoint speaks WebSocket: send an upgrade.", None, "expected_websocket")


def client_secret(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    given = asked.body.get("session") or {"type": "realtime", "model": "gpt-realtime"}
    session = {"id": "sess_" + stamp.serial, "object": "realtime.session", **given}
    after = (asked.body.get("expires_after") or {}).get("seconds") or SECRET_SECONDS
    return shown(
        {"value": "ek_" + stamp.serial, "expires_at": stamp.created + after, "session": session}, stamp
    )


def beta_session(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    """The older page: a session with its secret inside."""
    secret = {"value": "ek_" + stamp.serial, "expires_at": stamp.created + SECRET_SECONDS}
    session = {"id": "sess_" + stamp.serial, "object": "realtime.session", "modalities": ["text"]}
    return shown({**session, **asked.body, "client_secret": secret}, stamp)


ROUTES = (
    Route(b"GET", "/v1/realtime", Endpoint("realtime", read_handshake, not_a_socket)),
    Route(b"POST", "/v1/realtime/client_secrets", looks(client_secret, optional)),
    Route(b"POST", "/v1/realtime/sessions", looks(beta_session, optional)),
)
