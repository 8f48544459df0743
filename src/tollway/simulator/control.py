"""The simulator's own pages beside the played API: health, bill, statistics, defaults, received requests."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import msgspec

from tollway.simulator.answer import Answer, Request
from tollway.simulator.knobs import UnknownKnob
from tollway.simulator.multipart import Part

if TYPE_CHECKING:
    from tollway.simulator.server import Simulator

PATHS = (b"/health", b"/bill", b"/stats", b"/defaults", b"/requests")

_json = msgspec.json.encode


class BadQuery(ValueError):
    """A query parameter is not what the page takes."""


def answer(simulator: Simulator, request: Request) -> Answer | None:
    """The page, or None where the path is not one of the simulator's own."""
    try:
        match request.method, request.path:
            case b"GET", b"/health":
                return _page({"status": "ok"})
            case b"GET", b"/bill":
                return Answer("bill", [_bill(simulator, request)])
            case b"DELETE", b"/bill":
                simulator.bill.reset()
                return _page({"requests": 0})
            case b"GET", b"/stats":
                return _page(_stats(simulator))
            case b"GET", b"/defaults":
                return _page(simulator.behaviour.defaults)
            case b"PUT", b"/defaults":
                _set_defaults(simulator, request)
                return _page(simulator.behaviour.defaults)
            case b"DELETE", b"/defaults":
                simulator.behaviour.reset()
                return _page(simulator.behaviour.defaults)
            case b"GET", b"/requests":
                return _page([_received(one) for one in simulator.received])
            case b"DELETE", b"/requests":
                simulator.received.clear()
                return _page([])
    except (BadQuery, UnknownKnob, msgspec.ValidationError, msgspec.DecodeError) as error:
        page = _page(
            {"error": {"message": str(error), "type": "invalid_request_error", "param": None, "code": None}}
        )
        page.status = 400
        return page
    return None


def _page(value: object) -> Answer:
    return Answer("control", [_json(value)])


def _bill(simulator: Simulator, request: Request) -> bytes:
    asked = parse_qs(request.query.decode("latin-1"))
    if asked.get("totals", ["0"])[-1] not in ("0", "false"):
        return simulator.bill.summary()
    return simulator.bill.page(_number(asked, "since", 0), _number(asked, "limit", 10_000))


def _number(asked: dict[str, list[str]], name: str, default: int) -> int:
    text = asked.get(name, [str(default)])[-1]
    if not text.isdigit():
        raise BadQuery(f"{name!r} is a whole number, not {text!r}.")
    return int(text)


def _stats(simulator: Simulator) -> dict[str, object]:
    return {
        "requests": simulator.requests,
        "open": simulator.open - 1,
        "connections": len(simulator.connections),
        "aborted": simulator.aborted_total,
        "aborted_phases": simulator.phases(),
        "aborted_list": list(simulator.aborted)[-1000:],
    }


def _set_defaults(simulator: Simulator, request: Request) -> None:
    """``{"latency": "20ms", "status": 503}``; ``?model=`` sets them for that model alone."""
    wanted = msgspec.json.decode(request.body, type=dict[str, str | int | float | bool | None])
    settings: list[tuple[str, str | None]] = [
        (name, str(value).lower() if isinstance(value, bool) else str(value))
        for name, value in wanted.items()
        if value is not None
    ]
    model = parse_qs(request.query.decode("latin-1")).get("model", [None])[-1]
    simulator.behaviour.set_defaults(settings, model)


def _received(request: Request) -> dict[str, object]:
    return {
        "method": request.method.decode("latin-1"),
        "path": request.path.decode("latin-1"),
        "query": request.query.decode("latin-1"),
        "headers": {
            name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers.items()
        },
        "body": request.body.decode("utf-8", "replace"),
        "form": None if request.form is None else [_part(part) for part in request.form.parts],
    }


def _part(part: Part) -> dict[str, object]:
    """A part of a form: a field's text, of a file its size and hash."""
    told: dict[str, object] = {"name": part.name, "filename": part.filename, "size": part.size}
    return {**told, "sha256": part.digest} if part.filename is not None else {**told, "text": part.text}


def error_page(status: int, message: str, kind: str) -> tuple[bytes, bytes]:
    """Body and content type of an error that is not JSON: ``html`` as proxies send it, ``plain``, or
    ``empty``."""
    if kind == "html":
        title = b"%d %b" % (status, _phrase(status))
        body = b"<html>\r\n<head><title>%b</title></head>\r\n<body><h1>%b</h1></body>\r\n</html>\r\n"
        return body % (title, title), b"text/html"
    return (b"" if kind == "empty" else message.encode()), b"text/plain; charset=utf-8"


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Unknown"
