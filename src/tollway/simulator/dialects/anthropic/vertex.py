"""Claude at Vertex AI: the model stands in the address and the version in the body, which is else Anthropic's own."""

from __future__ import annotations

import re

import msgspec

from tollway.simulator.answer import Endpoint, Request, Route
from tollway.simulator.dialects.anthropic.errors import invalid
from tollway.simulator.dialects.anthropic.messages import MESSAGES
from tollway.simulator.dialects.anthropic.requests import read
from tollway.simulator.reading import Plain, json_object

VERSION = re.compile(r"vertex-2023-10-16|20\d\d-\d\d-\d\d")
"""Google's own word for it, or the API's date, which newer clients send."""

PLACE = "/v1/projects/{project}/locations/{location}/publishers/anthropic/models/{model}"
_PLACE = re.compile(rb"/v1/projects/[^/]+/locations/[^/]+/publishers/anthropic/models/.+")


def is_vertex(request: Request) -> bool:
    return _PLACE.fullmatch(request.path) is not None


def _read(request: Request) -> Plain:
    body = json_object(request, invalid)
    if not VERSION.fullmatch(str(body.pop("anthropic_version", ""))):
        raise invalid("anthropic_version: Input should be 'vertex-2023-10-16'")
    if "model" in body:
        raise invalid("model: Extra inputs are not permitted")
    if bool(body.get("stream")) is not request.path.endswith(b":streamRawPredict"):
        raise invalid("stream: must agree with the method")
    body["model"] = (request.params or {})["model"]
    return read(msgspec.structs.replace(request, body=msgspec.json.encode(body)))


_PREDICT = Endpoint("messages.vertex", _read, MESSAGES.answer)

VERTEX = tuple(Route(b"POST", f"{PLACE}:{method}", _PREDICT) for method in ("rawPredict", "streamRawPredict"))
