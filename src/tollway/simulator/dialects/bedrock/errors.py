"""AWS's errors: ``{"message"}`` with the kind in ``x-amzn-errortype``, or as an exception inside a stream."""

from __future__ import annotations

import msgspec

from tollway.simulator.answer import Refusal
from tollway.simulator.dialects.bedrock.frames import frame
from tollway.simulator.knobs import Knobs

KINDS = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    405: "UnknownOperationException",
    408: "ModelTimeoutException",
    413: "ValidationException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}


def kind_of(refusal: Refusal) -> str:
    # The engine's neutral refusals bear OpenAI's word.
    if refusal.kind not in (None, "invalid_request_error"):
        return str(refusal.kind)
    return KINDS.get(
        refusal.status, "ValidationException" if refusal.status < 500 else "InternalServerException"
    )


def error_body(refusal: Refusal) -> bytes:
    return msgspec.json.encode({"message": refusal.message})


def error_headers(refusal: Refusal) -> bytes:
    address = b"http://internal.amazon.com/coral/com.amazon.bedrock/"
    return b"x-amzn-errortype: %b:%b\r\n%b" % (kind_of(refusal).encode(), address, request_id(refusal.serial))


def request_id(serial: str) -> bytes:
    """The header with the serial in a UUID's shape."""
    shown = "-".join(("00000000", serial[:4], "4" + serial[4:7], "8" + serial[7:10], serial[10:22]))
    return b"x-amzn-requestid: %b\r\n" % shown.encode()


def invalid(message: str) -> Refusal:
    return Refusal(400, message, kind="ValidationException")


def unknown(name: str) -> Refusal:
    return Refusal(404, f"Could not resolve the foundation model from the model identifier: {name}.")


def exception(knobs: Knobs) -> bytes:
    kind = knobs.error_type or "modelStreamErrorException"
    message = knobs.error_message or "The model stream broke off."
    return frame({":exception-type": kind, ":message-type": "exception"}, {"message": message})
