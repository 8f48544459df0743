"""``POST /v2/chat``: a message whole, or as its events from message-start to message-end."""

from __future__ import annotations

from typing import Any

import msgspec

from tollway.simulator.answer import Answer, Endpoint, Request, Stamp
from tollway.simulator.dialects.cohere.errors import error_event, invalid, opened
from tollway.simulator.knobs import Knobs
from tollway.simulator.reading import IMAGE_TOKENS, Body, Plain, texts, weight
from tollway.simulator.speech import Speech, Tool, Wish, speak
from tollway.simulator.tally import Tally, billed, tally
from tollway.simulator.tokens import MESSAGE_OVERHEAD, REPLY_OVERHEAD, count, pieces
from tollway.simulator.track import Track, event

FIELDS = frozenset(
    (
        "citation_options",
        "documents",
        "frequency_penalty",
        "k",
        "logprobs",
        "max_tokens",
        "messages",
        "model",
        "p",
        "presence_penalty",
        "priority",
        "raw_prompting",
        "response_format",
        "safety_mode",
        "seed",
        "stop_sequences",
        "stream",
        "strict_tools",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
    )
)

STOPS = {
    "stop": "COMPLETE",
    "length": "MAX_TOKENS",
    "tool_calls": "TOOL_CALL",
    "function_call": "TOOL_CALL",
    "stop_sequence": "STOP_SEQUENCE",
    "content_filter": "ERROR",
    "refusal": "COMPLETE",
    "pause": "TIMEOUT",
}

ROLES = ("system", "developer", "user", "assistant", "tool")

_json = msgspec.json.encode


def read(request: Request) -> Plain:
    asked = opened(request, FIELDS, ("model", "messages"))
    called: set[str] = set()
    for place, message in enumerate(asked.body["messages"]):
        role = message.get("role")
        if role not in ROLES:
            raise invalid(f"invalid request: messages[{place}].role must be one of {', '.join(ROLES)}")
        if role == "tool" and message.get("tool_call_id") not in called:
            raise invalid(
                f"invalid request: no tool call with id '{message.get('tool_call_id')}' precedes the tool message"
            )
        called.update(call["id"] for call in message.get("tool_calls") or ())
        if role in ("user", "tool") and not message.get("content"):
            raise invalid(f"invalid request: messages[{place}].content must not be empty")
    return asked


def answer(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    body = asked.body
    said = speak(_wish(body, model), knobs)
    counts = tally(_prompt_tokens(body), said.tokens + said.reasoning, said.reasoning, knobs)
    ident = stamp.serial
    usage = None if knobs.no_usage else _json(_usage(counts, knobs))
    message = _message(said, body, knobs, ident)
    if body.get("stream"):
        return billed(_stream(ident, message, said, usage, counts, knobs), counts)
    whole: Body = {"id": ident, "finish_reason": STOPS[said.finish], "message": message}
    if usage is not None:
        whole["usage"] = msgspec.Raw(usage)
    return billed(Answer(ident, [_json(whole)], usage=usage), counts)


def _wish(body: Body, model: str) -> Wish:
    offered = [
        Tool(tool["function"]["name"], tool["function"].get("parameters")) for tool in body.get("tools") or ()
    ]
    choice = body.get("tool_choice")
    if choice == "NONE" or (choice != "REQUIRED" and body["messages"][-1]["role"] == "tool"):
        offered = []
    form = body.get("response_format") or {}
    schema = form.get("json_schema") or form.get("schema")
    if form.get("type") == "json_object" and schema is None:
        schema = {"type": "object", "properties": {"answer": {"const": "the old cat sat"}}}
    users = [one for one in body["messages"] if one["role"] == "user"]
    thinking = body.get("thinking") or {}
    return Wish(
        model=model,
        last=texts(users[-1]["content"]) if users else "",
        tools=offered,
        limit=body.get("max_tokens"),
        stop=body.get("stop_sequences") or [],
        schema=schema,
        seed=body.get("seed"),
        thinks=thinking.get("type") == "enabled",
    )


def _prompt_tokens(body: Body) -> int:
    tokens = REPLY_OVERHEAD + weight(body.get("tools")) + weight(body.get("documents"))
    for message in body["messages"]:
        content = message.get("content")
        tokens += MESSAGE_OVERHEAD + count(texts(content)) + weight(message.get("tool_calls"))
        if isinstance(content, list):
            tokens += IMAGE_TOKENS * sum(part.get("type") == "image_url" for part in content)
    return tokens


def _message(said: Speech, body: Body, knobs: Knobs, serial: str) -> Body:
    message: Body = {"role": "assistant"}
    content: list[Body] = []
    if said.thinking:
        content.append({"type": "thinking", "thinking": said.thinking})
    if said.text:
        content.append({"type": "text", "text": said.text})
        if knobs.citations or body.get("documents"):
            message["citations"] = [_citation(said.text, body, len(content) - 1)]
    if content:
        message["content"] = content
    if said.calls:
        message["tool_plan"] = "I will use the tools."
        message["tool_calls"] = [
            {
                "id": f"call_{serial}{place:02x}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for place, call in enumerate(said.calls)
        ]
    return message


def _citation(text: str, body: Body, place: int) -> Body:
    documents = body.get("documents") or []
    first = documents[0] if documents and isinstance(documents[0], dict) else {}
    source = {"type": "document", "id": str(first.get("id", "doc:0")), "document": first.get("data") or {}}
    cited = text[:20]
    where = {"start": 0, "end": len(cited), "text": cited}
    return {**where, "sources": [source], "content_index": place, "type": "TEXT_CONTENT"}


def _usage(counts: Tally, knobs: Knobs) -> Any:
    if knobs.usage == "null":
        return None
    tokens = {"input_tokens": counts.prompt, "output_tokens": counts.output}
    if knobs.usage == "bare":
        return {"tokens": tokens}
    return {"billed_units": tokens, "tokens": tokens, "cached_tokens": counts.read}


def _stream(
    ident: str, message: Body, said: Speech, usage: bytes | None, counts: Tally, knobs: Knobs
) -> Answer:
    track = Track(ident, knobs)

    def add(kind: str, number: int = 0, told: bytes | None = None, **fields: Any) -> None:
        track.add(event({"type": kind, **fields}, kind), number, told)

    def part(kind: str, index: int, number: int = 0, **inner: Any) -> None:
        add(kind, number, index=index, delta={"message": inner})

    empty = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    add("message-start", id=ident, delta={"message": empty})
    for index, block in enumerate(message.get("content", ())):
        name = block["type"]
        part("content-start", index, content={"type": name, name: ""})
        for piece in pieces(block[name], knobs.events):
            part("content-delta", index, count(piece), content={name: piece})
        add("content-end", index=index)
    for index, cited in enumerate(message.get("citations", ())):
        part("citation-start", index, citations=cited)
        add("citation-end", index=index)
    for piece in pieces(message.get("tool_plan", ""), knobs.events):
        # The plan is not billed: whole and streamed must cost the same.
        add("tool-plan-delta", delta={"message": {"tool_plan": piece}})
    for index, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        opened_call = {**call, "function": {**function, "arguments": ""}}
        part("tool-call-start", index, count(function["name"]), tool_calls=opened_call)
        for piece in pieces(function["arguments"], knobs.events):
            part("tool-call-delta", index, count(piece), tool_calls={"function": {"arguments": piece}})
        add("tool-call-end", index=index)
    if not knobs.no_done:
        delta: Body = {"finish_reason": STOPS[said.finish]}
        if usage is not None:
            delta["usage"] = msgspec.Raw(usage)
        add("message-end", told=usage, id=ident, delta=delta)
    unseen = (0 if said.thinking else said.reasoning) + counts.audio_out
    return track.answer(error_event(knobs), content_type=b"text/event-stream", unseen=unseen)


CHAT = Endpoint("cohere.chat", read, answer)
