"""The Ollama dialect, after its public API page: chat, generate, embeddings and the model list, in lines of
JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from tollway.simulator.answer import Answer, Dialect, Endpoint, Refusal, Request, Route, Stamp
from tollway.simulator.knobs import Knobs
from tollway.simulator.reading import IMAGE_TOKENS, Body, Plain, json_object, weight
from tollway.simulator.speech import Speech, Tool, Wish, speak
from tollway.simulator.tally import Tally, billed, tally
from tollway.simulator.tokens import MESSAGE_OVERHEAD, REPLY_OVERHEAD, count, pieces
from tollway.simulator.track import Track
from tollway.simulator.vectors import vector

MODELS = ("llama3.2:latest", "qwen3:8b", "gpt-oss:20b", "nomic-embed-text:latest")

LINES = b"application/x-ndjson"

DEFAULT_DIMENSIONS = 768

ROLES = ("system", "user", "assistant", "tool")

_json = msgspec.json.encode


def invalid(message: str) -> Refusal:
    return Refusal(400, message)


def error_body(refusal: Refusal) -> bytes:
    return _json({"error": refusal.message})


def unknown(name: str) -> Refusal:
    return Refusal(404, f"model '{name}' not found")


def credential(request: Request) -> str | None:
    scheme, _, key = request.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key else None


def read(request: Request) -> Plain:
    body = json_object(request, invalid)
    model = body.get("model", body.get("name"))
    if not isinstance(model, str) or not model:
        raise invalid("model is required")
    return Plain(model, body, request)


def read_chat(request: Request) -> Plain:
    asked = read(request)
    for message in asked.body.setdefault("messages", []):
        if message.get("role") not in ROLES:
            raise invalid(f"invalid role: {message.get('role')}")
    return asked


def chat(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    messages = asked.body["messages"]
    tokens = REPLY_OVERHEAD + weight(asked.body.get("tools"))
    for one in messages:
        tokens += MESSAGE_OVERHEAD + count(one.get("content") or "") + weight(one.get("tool_calls"))
        tokens += IMAGE_TOKENS * len(one.get("images") or ())
    last = next((one.get("content") or "" for one in reversed(messages) if one["role"] == "user"), "")
    offered = [
        Tool(tool["function"]["name"], tool["function"].get("parameters"))
        for tool in asked.body.get("tools") or ()
    ]
    if messages and messages[-1]["role"] == "tool":
        offered = []
    return _told(asked, model, last, offered, tokens, knobs, stamp, _message)


def generate(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    prompt = asked.body.get("prompt") or ""
    tokens = REPLY_OVERHEAD + count(prompt) + weight(asked.body.get("system"))
    tokens += IMAGE_TOKENS * len(asked.body.get("images") or ())
    return _told(asked, model, prompt, [], tokens, knobs, stamp, _response)


def _message(text: str, thinking: str, calls: list[Body]) -> Body:
    message: Body = {"role": "assistant", "content": text}
    if thinking:
        message["thinking"] = thinking
    if calls:
        message["tool_calls"] = calls
    return {"message": message}


def _response(text: str, thinking: str, calls: list[Body]) -> Body:
    return {"response": text, **({"thinking": thinking} if thinking else {})}


def _told(
    asked: Plain,
    model: str,
    last: str,
    offered: list[Tool],
    tokens: int,
    knobs: Knobs,
    stamp: Stamp,
    shape: Any,
) -> Answer:
    body = asked.body
    options = body.get("options") or {}
    limit = options.get("num_predict")
    stop = options.get("stop") or []
    wanted = body.get("format")
    wish = Wish(
        model=model,
        last=last,
        tools=offered,
        limit=limit if isinstance(limit, int) and limit > 0 else None,
        stop=[stop] if isinstance(stop, str) else stop,
        schema={"type": "object", "properties": {"answer": {"const": "the old cat sat"}}}
        if wanted == "json"
        else wanted or None,
        seed=options.get("seed"),
        thinks=bool(body.get("think")),
    )
    said = speak(wish, knobs)
    counts = tally(tokens, said.tokens + said.reasoning, said.reasoning, knobs)
    frame = {"model": knobs.answer_model or model, "created_at": _time(stamp.created)}
    calls = [
        {
            "id": f"call_{stamp.serial}{place:02x}",
            "function": {"name": call.name, "arguments": _arguments(call.arguments)},
        }
        for place, call in enumerate(said.calls)
    ]
    usage = None if knobs.no_usage else _usage(counts, knobs)
    end = {"done": True, "done_reason": "length" if said.finish == "length" else "stop", **_durations(usage)}
    ident = "chat-" + stamp.serial
    if body.get("stream") is False:
        whole = {**frame, **shape(said.text or "", said.thinking, calls), **end}
        return billed(Answer(ident, [_json(whole)], usage=usage), counts)
    track = Track(ident, knobs)
    for text, thinking, told, number in _steps(said, calls, knobs):
        track.add(_json({**frame, **shape(text, thinking, told), "done": False}) + b"\n", number)
    if not knobs.no_done:
        track.add(_json({**frame, **shape("", "", []), **end}) + b"\n", usage=usage)
    made = track.answer(
        _json({"error": knobs.error_message or "the model runner has unexpectedly stopped"}) + b"\n",
        shape="lines",
        content_type=LINES,
        headers=b"",
        unseen=(0 if said.thinking else said.reasoning) + counts.audio_out,
    )
    return billed(made, counts)


def _steps(said: Speech, calls: list[Body], knobs: Knobs) -> list[tuple[str, str, list[Body], int]]:
    """Text, thinking, calls and tokens of every line."""
    steps: list[tuple[str, str, list[Body], int]] = []
    steps += [("", one, [], count(one)) for one in pieces(said.thinking, knobs.events)]
    steps += [(one, "", [], count(one)) for one in pieces(said.text or "", knobs.events)]
    for call, shown in zip(said.calls, calls, strict=True):
        steps.append(("", "", [shown], count(call.name) + count(call.arguments)))
    return steps


def _arguments(text: str) -> Any:
    """A call that was cut at the limit has no arguments that could be shown."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}


def _usage(counts: Tally, knobs: Knobs) -> bytes:
    if knobs.usage == "null":
        return b'{"prompt_eval_count":null,"eval_count":null}'
    return b'{"prompt_eval_count":%d,"eval_count":%d}' % (counts.prompt, counts.output)


def _durations(usage: bytes | None) -> Body:
    """Nanoseconds that nobody measured, around the counts."""
    counted: Body = {} if usage is None else msgspec.json.decode(usage)
    times = {"prompt_eval_duration": 1_000_000, "eval_duration": 1_000_000}
    return {"total_duration": 3_000_000, "load_duration": 1_000_000, **times, **counted}


def _time(created: int) -> str:
    return datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%S.000000Z")


def embed(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    given = asked.body.get("input", asked.body.get("prompt", ""))
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
        raise invalid("invalid input type")
    tokens = sum(count(one) for one in texts) if knobs.prompt_tokens is None else knobs.prompt_tokens
    size = asked.body.get("dimensions") or knobs.dimensions or DEFAULT_DIMENSIONS
    vectors = [vector(one, size) for one in texts if one]
    ident = "embd-" + stamp.serial
    if asked.request.path == b"/api/embeddings":
        # The older page tells no usage.
        shown: Body = {"embedding": vectors[0] if vectors else []}
        return Answer(ident, [_json(shown)], prompt_tokens=tokens)
    usage = None
    counted: Body = {}
    if not knobs.no_usage:
        counted = {"prompt_eval_count": None if knobs.usage == "null" else tokens}
        usage = _json(counted)
    shown = {"model": knobs.answer_model or model, "embeddings": vectors, "total_duration": 2_000_000}
    body = _json({**shown, "load_duration": 1_000_000, **counted})
    return Answer(ident, [body], usage=usage, prompt_tokens=tokens)


def _details(name: str) -> Body:
    family = name.partition(":")[0]
    return {
        "parent_model": "",
        "format": "gguf",
        "family": family,
        "families": [family],
        "parameter_size": "8B",
        "quantization_level": "Q4_K_M",
    }


def _known(name: str) -> Body:
    return {
        "name": name,
        "model": name,
        "modified_at": "2025-01-01T00:00:00Z",
        "size": 4_000_000_000,
        "digest": f"{sum(name.encode()):064x}",
        "details": _details(name),
    }


def look(request: Request, knobs: Knobs) -> Answer | None:
    if request.path == b"/api/tags":
        return Answer("models", [_json({"models": [_known(name) for name in MODELS]})])
    if request.path == b"/api/ps":
        return Answer("models", [_json({"models": []})])
    if request.path == b"/api/version":
        return Answer("version", [_json({"version": "0.12.0"})])
    return None


def show(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    capabilities = ["embedding"] if "embed" in model else ["completion", "tools", "thinking", "vision"]
    shown = {
        "modelfile": f"FROM {model}",
        "parameters": "",
        "template": "{{ .Prompt }}",
        "details": _details(model),
        "model_info": {"general.architecture": "llama", "llama.context_length": 131_072},
        "capabilities": capabilities,
    }
    return Answer("show-" + stamp.serial, [_json(shown)])


EMBED = Endpoint("ollama.embed", read, embed)

OLLAMA = Dialect(
    name="ollama",
    base="",
    endpoints={
        b"/api/chat": Endpoint("ollama.chat", read_chat, chat),
        b"/api/generate": Endpoint("ollama.generate", read, generate),
        b"/api/embed": EMBED,
        b"/api/embeddings": EMBED,
    },
    look=look,
    owns=lambda request: request.path.startswith(b"/api/"),
    error=error_body,
    headers=b"",
    credential=credential,
    models=MODELS,
    unknown=unknown,
    routes=(Route(b"POST", "/api/show", Endpoint("ollama.show", read, show, billed=False)),),
)
