"""``/v1/batches``: every line of a file is answered as its own endpoint would, into an output file."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from tollway.simulator.answer import Answer, Endpoint, Refusal, Request, Route, Stamp
from tollway.simulator.dialects.openai.chat import CHAT
from tollway.simulator.dialects.openai.completions import COMPLETIONS
from tollway.simulator.dialects.openai.embeddings import EMBEDDINGS
from tollway.simulator.dialects.openai.errors import error_body, invalid
from tollway.simulator.dialects.openai.files import written
from tollway.simulator.dialects.openai.kept import held, looks, missing, optional, page, param, shown
from tollway.simulator.dialects.openai.responses import RESPONSES
from tollway.simulator.dialects.openai.small import MODERATIONS
from tollway.simulator.knobs import NEUTRAL, Knobs, UnknownKnob, set_knobs, suffix
from tollway.simulator.reading import Body, Plain

ENDPOINTS: dict[str, Endpoint[Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETIONS,
    "/v1/embeddings": EMBEDDINGS,
    "/v1/responses": RESPONSES,
    "/v1/moderations": MODERATIONS,
}

WINDOW = 24 * 3600


class Batch(Struct):
    """``ready`` is when it is complete (Unix seconds); ``done`` what it then says beside what it says now."""

    shown: Body
    ready: float
    done: Body
    cancelled: float | None = None

    def now(self, now: float) -> Body:
        if self.cancelled is not None:
            at = int(self.cancelled)
            return {**self.shown, "status": "cancelled", "cancelling_at": at, "cancelled_at": at}
        if now < self.ready:
            return {**self.shown, "status": "in_progress", "in_progress_at": self.shown["created_at"]}
        return {**self.shown, **self.done}


class Served(Struct):
    """What all lines of a batch come to."""

    output: list[bytes] = []
    errors: list[bytes] = []
    model: str = ""
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    reasoning: int = 0


def create(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    body = asked.body
    for name in ("input_file_id", "endpoint", "completion_window"):
        if not body.get(name):
            raise missing(name)
    if body["endpoint"] not in ENDPOINTS:
        raise invalid(f"Invalid value for 'endpoint': {body['endpoint']!r}.", "endpoint", "invalid_value")
    file = held(stamp.shelf, "file", body["input_file_id"])
    if file.content is None:
        raise invalid("The input file is too large for the simulator to keep.", "input_file_id")
    served = _serve(file.content, body["endpoint"], stamp)
    done = _files(served, stamp)
    total = len(served.output) + len(served.errors)
    told: Body = {
        "id": "batch_" + stamp.serial,
        "object": "batch",
        "endpoint": body["endpoint"],
        "errors": None,
        "input_file_id": body["input_file_id"],
        "completion_window": body["completion_window"],
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": stamp.created,
        "in_progress_at": None,
        "expires_at": stamp.created + WINDOW,
        "finalizing_at": None,
        "completed_at": None,
        "failed_at": None,
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": None,
        "request_counts": {"total": total, "completed": 0, "failed": 0},
        "metadata": body.get("metadata"),
    }
    ready = stamp.now + knobs.job
    done |= {
        "status": "completed",
        "in_progress_at": stamp.created,
        "finalizing_at": int(ready),
        "completed_at": int(ready),
        "request_counts": {"total": total, "completed": len(served.output), "failed": len(served.errors)},
        "usage": _usage(served),
    }
    stamp.shelf.put("batch", told["id"], Batch(told, ready, done))
    # All its lines are billed with it, although their usage is told in the output file.
    return Answer(
        told["id"],
        [msgspec.json.encode(told)],
        prompt_tokens=served.prompt,
        cached_tokens=served.cached,
        completion_tokens=served.completion,
        reasoning_tokens=served.reasoning,
        units={"requests": total},
        model=served.model,
    )


def _usage(served: Served) -> Body:
    return {
        "input_tokens": served.prompt,
        "input_tokens_details": {"cached_tokens": served.cached},
        "output_tokens": served.completion,
        "output_tokens_details": {"reasoning_tokens": served.reasoning},
        "total_tokens": served.prompt + served.completion,
    }


def _files(served: Served, stamp: Stamp) -> Body:
    done: Body = {"output_file_id": None, "error_file_id": None}
    for place, (name, lines) in enumerate((("output", served.output), ("error", served.errors))):
        if lines:
            tail = f"{stamp.serial}{place}"
            content = b"\n".join(lines) + b"\n"
            file = written(stamp.shelf, tail, stamp.created, f"batch_{name}.jsonl", "batch_output", content)
            done[f"{name}_file_id"] = file.shown["id"]
    return done


def _serve(content: bytes, endpoint: str, stamp: Stamp) -> Served:
    served = Served()
    for place, line in enumerate(one for one in content.split(b"\n") if one.strip()):
        try:
            asked = msgspec.json.decode(line)
        except msgspec.DecodeError as error:
            raise invalid(
                f"Line {place + 1} of the input file is not valid JSON.", "input_file_id"
            ) from error
        if not isinstance(asked, dict) or not isinstance(asked.get("body"), dict) or "custom_id" not in asked:
            raise invalid(f"Line {place + 1} of the input file has no custom_id or body.", "input_file_id")
        own = Stamp(f"{stamp.serial[:20]}{place:04x}", stamp.created, stamp.shelf, stamp.now)
        result: Body = {"id": "batch_req_" + own.serial, "custom_id": asked["custom_id"], "error": None}
        try:
            made = _one(asked, endpoint, own)
        except Refusal as refusal:
            status, told = refusal.status, error_body(refusal)
        else:
            status, told = 200, made.pieces[0]
            served.model = served.model or str(asked["body"].get("model", "")).partition("+")[0]
            served.prompt += made.prompt_tokens
            served.cached += made.cached_tokens
            served.completion += made.completion_tokens
            served.reasoning += made.reasoning_tokens
        result["response"] = {
            "status_code": status,
            "request_id": "req_" + own.serial,
            "body": msgspec.Raw(told),
        }
        (served.output if status == 200 else served.errors).append(msgspec.json.encode(result))
    if not served.output and not served.errors:
        raise invalid("The input file is empty.", "input_file_id")
    return served


def _one(asked: Body, endpoint: str, stamp: Stamp) -> Answer:
    if asked.get("url") != endpoint:
        raise invalid(f"The URL of the line is not the batch's: {asked.get('url')!r}.", "url")
    known = ENDPOINTS[endpoint]
    body = msgspec.json.encode(
        {**asked["body"], "stream": False} if "stream" in asked["body"] else asked["body"]
    )
    wanted = known.read(Request(b"POST", endpoint.encode(), b"", {}, body, True))
    base, settings = suffix(wanted.model)
    try:
        knobs = set_knobs(NEUTRAL, settings)
    except UnknownKnob as error:
        raise invalid(str(error), "model", "unknown_knob") from error
    if knobs.status is not None and knobs.status >= 400:
        raise Refusal(knobs.status, f"Simulated error {knobs.status}.")
    return known.answer(wanted, base, knobs, stamp)


def get(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    return shown(held(stamp.shelf, "batch", param(asked)).now(stamp.now), stamp)


def cancel(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    found = held(stamp.shelf, "batch", param(asked))
    if stamp.now >= found.ready:
        raise Refusal(409, "Cannot cancel a batch with status 'completed'.", kind="invalid_request_error")
    found.cancelled = stamp.now
    return shown(found.now(stamp.now), stamp)


def listed(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    return page(asked, [one.now(stamp.now) for one in stamp.shelf.all("batch")], stamp)


ROUTES = (
    Route(b"POST", "/v1/batches", Endpoint("batches", optional, create)),
    Route(b"GET", "/v1/batches", looks(listed)),
    Route(b"GET", "/v1/batches/{id}", looks(get)),
    Route(b"POST", "/v1/batches/{id}/cancel", looks(cancel, optional)),
)
