"""Refusals in the shape of Amazon's REST-JSON services: a message, and the exception's name as ``__type``."""

from __future__ import annotations

import msgspec

from tollway.errors import GatewayError

EXCEPTIONS = {
    400: "ValidationException",
    401: "AccessDeniedException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
    504: "ModelTimeoutException",
}

STREAM_STATUSES = {
    "internalServerException": 500,
    "modelStreamErrorException": 424,
    "validationException": 400,
    "throttlingException": 429,
    "serviceUnavailableException": 503,
    "modelTimeoutException": 408,
}
"""Exceptions that may come in a stream, with the status they would have had before it."""

_encode = msgspec.json.Encoder().encode


def exception_for(status: int) -> str:
    """The service's name for a status; other client errors are validation, other server errors internal."""
    return EXCEPTIONS.get(status) or ("ValidationException" if status < 500 else "InternalServerException")


def stream_exception_for(status: int) -> str:
    """The same among those a stream may carry."""
    for name, known in STREAM_STATUSES.items():
        if known == status and name != "modelTimeoutException":
            return name
    return "validationException" if 400 <= status < 500 else "internalServerException"


def write_error(error: GatewayError) -> bytes:
    return _encode(
        {
            "__type": exception_for(error.http_status),
            "message": error.message,
            "code": error.error_code,
            **error.details,
        }
    )
