"""Work that takes its time: ``/v1/fine_tuning/jobs`` and ``/v1/videos``. It is done after the knob ``job``."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from tollway.simulator.answer import Answer, Endpoint, Refusal, Request, Route, Stamp
from tollway.simulator.dialects.openai.errors import invalid
from tollway.simulator.dialects.openai.kept import (
    gone,
    held,
    looks,
    missing,
    named,
    optional,
    page,
    param,
    query,
    shown,
)
from tollway.simulator.knobs import Knobs
from tollway.simulator.media import PNG_BYTES
from tollway.simulator.reading import Body, Plain, json_object

_json = msgspec.json.encode


class Job(Struct):
    """``ready`` is when it is done (Unix seconds), ``working`` and ``done`` what it says until then and after."""

    shown: Body
    ready: float
    working: Body
    done: Body
    cancelled: Body | None = None

    def now(self, now: float) -> Body:
        if self.cancelled is not None:
            return {**self.shown, **self.cancelled}
        return {**self.shown, **(self.working if now < self.ready else self.done)}


# Fine-tuning.


def read_tuning(request: Request) -> Plain:
    asked = named(request)
    if not asked.body.get("training_file"):
        raise missing("training_file")
    return asked


def tune(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    body = asked.body
    file = held(stamp.shelf, "file", body["training_file"])
    ready = stamp.now + knobs.job
    trained = -(-file.shown["bytes"] // 4)
    chosen = body.get("hyperparameters") or {}
    told: Body = {
        "id": "ftjob-" + stamp.serial,
        "object": "fine_tuning.job",
        "created_at": stamp.created,
        "error": None,
        "fine_tuned_model": None,
        "finished_at": None,
        "hyperparameters": {
            "n_epochs": "auto",
            "batch_size": "auto",
            "learning_rate_multiplier": "auto",
            **chosen,
        },
        "model": model,
        "organization_id": "org-simulator",
        "result_files": [],
        "seed": body.get("seed") or 0,
        "status": "validating_files",
        "trained_tokens": None,
        "training_file": body["training_file"],
        "validation_file": body.get("validation_file"),
        "integrations": [],
        "metadata": body.get("metadata"),
    }
    name = f"ft:{model}:simulator:{body.get('suffix') or ''}:{stamp.serial[-8:]}"
    done = {
        "status": "succeeded",
        "fine_tuned_model": name,
        "finished_at": int(ready),
        "trained_tokens": trained,
    }
    stamp.shelf.put("fine_tuning.job", told["id"], Job(told, ready, {"status": "running"}, done))
    return Answer(told["id"], [_json(told)], units={"trained_tokens": trained})


def get_tuning(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    return shown(held(stamp.shelf, "fine_tuning.job", param(asked)).now(stamp.now), stamp)


def cancel_tuning(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    job = held(stamp.shelf, "fine_tuning.job", param(asked))
    if stamp.now >= job.ready:
        raise invalid("The job has already succeeded and cannot be cancelled.")
    job.cancelled = {"status": "cancelled", "finished_at": stamp.created}
    return shown(job.now(stamp.now), stamp)


def list_tunings(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    return page(asked, [job.now(stamp.now) for job in stamp.shelf.all("fine_tuning.job")], stamp)


def tuning_events(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    job = held(stamp.shelf, "fine_tuning.job", param(asked))
    status = job.now(stamp.now)["status"]
    said = {
        "id": "ftevent-" + job.shown["id"].removeprefix("ftjob-"),
        "object": "fine_tuning.job.event",
        "created_at": job.shown["created_at"],
        "level": "info",
        "message": f"The job is {status}.",
        "type": "message",
        "data": {},
    }
    return page(asked, [said], stamp)


# Videos.

SECONDS = "4"
SIZE = "720x1280"


def read_video(request: Request) -> Plain:
    """JSON, or a form with a picture to begin with."""
    if request.form is not None:
        if request.form.broken is not None:
            raise invalid(f"Could not parse multipart form: {request.form.broken}")
        body: Body = {part.name: part.text for part in request.form.parts if part.filename is None}
    else:
        body = json_object(request, invalid)
    if not body.get("prompt"):
        raise missing("prompt")
    return Plain(body.get("model") or "sora-2", body, request)


def film(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    body = asked.body
    seconds = str(body.get("seconds") or SECONDS)
    if not seconds.isdigit():
        raise invalid("Invalid 'seconds': expected a number.", "seconds", "invalid_value")
    return _film(body["prompt"], model, seconds, str(body.get("size") or SIZE), None, knobs, stamp)


def _film(
    prompt: str, model: str, seconds: str, size: str, source: str | None, knobs: Knobs, stamp: Stamp
) -> Answer:
    told: Body = {
        "id": "video_" + stamp.serial,
        "object": "video",
        "created_at": stamp.created,
        "completed_at": None,
        "expires_at": None,
        "error": None,
        "model": model,
        "progress": 0,
        "prompt": prompt,
        "remixed_from_video_id": source,
        "seconds": seconds,
        "size": size,
        "status": "queued",
    }
    ready = stamp.now + knobs.job
    done = {
        "status": "completed",
        "progress": 100,
        "completed_at": int(ready),
        "expires_at": int(ready) + 3600,
    }
    stamp.shelf.put("video", told["id"], Job(told, ready, {"status": "in_progress", "progress": 50}, done))
    units = {"video_seconds": int(seconds), "prompt_characters": len(prompt)}
    return Answer(told["id"], [_json(told)], units=units)


def remix(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    source = held(stamp.shelf, "video", param(asked)).shown
    if not asked.body.get("prompt"):
        raise missing("prompt")
    made = _film(
        asked.body["prompt"], source["model"], source["seconds"], source["size"], source["id"], knobs, stamp
    )
    made.model = source["model"]
    return made


def get_video(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    return shown(held(stamp.shelf, "video", param(asked)).now(stamp.now), stamp)


def list_videos(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    return page(asked, [job.now(stamp.now) for job in stamp.shelf.all("video")], stamp)


def delete_video(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    held(stamp.shelf, "video", param(asked))
    stamp.shelf.take("video", param(asked))
    return gone(param(asked), "video.deleted", stamp)


def video_content(asked: Plain, model: str, knobs: Knobs, stamp: Stamp) -> Answer:
    """The bytes of no real film: they say which one they would be. A thumbnail is a true picture."""
    job = held(stamp.shelf, "video", param(asked))
    if stamp.now < job.ready:
        raise Refusal(404, "Video is not ready yet, use GET /v1/videos/{video_id} to check status.")
    if query(asked, "variant", "video") != "video":
        return Answer("look-" + stamp.serial, [PNG_BYTES], content_type=b"image/png")
    film = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + job.shown["id"].encode()
    return Answer("look-" + stamp.serial, [film], content_type=b"video/mp4")


ROUTES = (
    Route(b"POST", "/v1/fine_tuning/jobs", Endpoint("fine_tuning.jobs", read_tuning, tune)),
    Route(b"GET", "/v1/fine_tuning/jobs", looks(list_tunings)),
    Route(b"GET", "/v1/fine_tuning/jobs/{id}", looks(get_tuning)),
    Route(b"POST", "/v1/fine_tuning/jobs/{id}/cancel", looks(cancel_tuning, optional)),
    Route(b"GET", "/v1/fine_tuning/jobs/{id}/events", looks(tuning_events)),
    Route(b"POST", "/v1/videos", Endpoint("videos", read_video, film)),
    Route(b"GET", "/v1/videos", looks(list_videos)),
    Route(b"GET", "/v1/videos/{id}", looks(get_video)),
    Route(b"DELETE", "/v1/videos/{id}", looks(delete_video)),
    Route(b"GET", "/v1/videos/{id}/content", looks(video_content)),
    Route(b"POST", "/v1/videos/{id}/remix", Endpoint("videos", optional, remix)),
)
