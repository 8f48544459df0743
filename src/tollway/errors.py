"""Every error a client can meet, drawn as one tree and named by the reaction it asks for.

    GatewayError                       status, code, message; retryable: the same target may be tried again;
    ├── BadRequest            400      fallback: another target may be tried
    │   ├── InvalidJson, NotFound 404, MethodNotAllowed 405, RequestTooLarge 413, UnsupportedMedia 415,
    │   ├── UpgradeRequired 426, SessionExpired 408, PreviousResponseNotFound (a NotFound)
    │   └── HeadersTooLarge 431, RequestTimeout 408
    ├── Unauthorized          401      InvalidKey, KeyExpired, AmbiguousCredentials (400)
    ├── Forbidden             403      ModelNotAllowed, RouteNotAllowed, KeyBlocked, PermissionDenied
    ├── ModelNotFound         404
    ├── BudgetExceeded        402      not retried by SDKs
    ├── RateLimitExceeded     429      with retry-after
    ├── UnpricedModel         400
    ├── Unsupported           400      this target cannot carry what is asked; another one may
    ├── StoreUnavailable      503      never a 401
    ├── NoHealthyDeployment   503
    ├── InternalError         500
    └── UpstreamError                  the provider's own status and message, its name added
        ├── UpstreamUnreachable 502    no byte was answered
        ├── UpstreamMalformed   502    the answer was not HTTP, or broke off
        └── UpstreamTimeout     504    says which clock fired

The wire shape of each dialect is made in ``http/errors.py``; nothing here knows a dialect.
"""

from __future__ import annotations

from typing import Any, ClassVar


class GatewayError(Exception):
    """A refusal with a status, a stable code and a message that says what to do.

    ``details`` is merged into the error body (numbers and names a program may want), ``headers`` into the answer's.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    kind: ClassVar[str] = "api_error"
    retryable: bool = False
    fallback: bool = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        details: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.details = details or {}
        self.headers = headers or {}

    @property
    def http_status(self) -> int:
        return self.status

    @property
    def error_code(self) -> str:
        return self.code


class BadRequest(GatewayError):
    status, code, kind = 400, "invalid_request", "invalid_request_error"


class InvalidJson(BadRequest):
    code = "invalid_json"


class NotFound(BadRequest):
    status, code = 404, "not_found"


class PreviousResponseNotFound(NotFound):
    code = "previous_response_not_found"


class MethodNotAllowed(BadRequest):
    status, code = 405, "method_not_allowed"


class RequestTimeout(BadRequest):
    status, code = 408, "request_timeout"


class Conflict(BadRequest):
    status, code = 409, "conflict"


class RequestTooLarge(BadRequest):
    status, code = 413, "request_too_large"


class UnsupportedMedia(BadRequest):
    status, code = 415, "unsupported_media_type"


class UpgradeRequired(BadRequest):
    status, code = 426, "upgrade_required"


class SessionExpired(BadRequest):
    """A clock of the gateway's ended a session that had been opened."""

    status, code = 408, "session_expired"


class HeadersTooLarge(BadRequest):
    status, code = 431, "headers_too_large"


class AmbiguousCredentials(BadRequest):
    code = "ambiguous_credentials"


class UnpricedModel(BadRequest):
    code = "model_unpriced"


class Unsupported(BadRequest):
    code = "unsupported_by_model"
    fallback = True


class Unauthorized(GatewayError):
    status, code, kind = 401, "invalid_api_key", "authentication_error"


class InvalidKey(Unauthorized):
    pass


class KeyExpired(Unauthorized):
    code = "key_expired"


class Forbidden(GatewayError):
    status, code, kind = 403, "permission_denied", "permission_error"


class KeyBlocked(Forbidden):
    code = "key_blocked"


class ModelNotAllowed(Forbidden):
    code = "model_not_allowed"


class RouteNotAllowed(Forbidden):
    code = "route_not_allowed"


class ModelNotFound(GatewayError):
    status, code, kind = 404, "model_not_found", "invalid_request_error"


class BudgetExceeded(GatewayError):
    status, code, kind = 402, "budget_exceeded", "insufficient_quota"


class RateLimitExceeded(GatewayError):
    status, code, kind = 429, "rate_limit_exceeded", "rate_limit_error"


class StoreUnavailable(GatewayError):
    status, code = 503, "store_unavailable"


class NoHealthyDeployment(GatewayError):
    status, code = 503, "no_healthy_deployment"


class InternalError(GatewayError):
    pass


class UpstreamError(GatewayError):
    """A provider's refusal: its own status and message, with the provider named.

    ``body`` is the provider's error object where it had the OpenAI shape; ``retry_after`` seconds where it said so.
    """

    status, code, kind = 502, "upstream_error", "api_error"

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        upstream_status: int = 502,
        upstream_code: str | None = None,
        upstream_kind: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        retryable: bool = False,
        fallback: bool = True,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message, param=param, details={"provider": provider}, headers=headers)
        self.provider = provider
        self.upstream_status = upstream_status
        self.upstream_code = upstream_code
        self.upstream_kind = upstream_kind
        self.retry_after = retry_after
        self.retryable = retryable
        self.fallback = fallback

    @property
    def http_status(self) -> int:
        return self.upstream_status

    @property
    def error_code(self) -> str:
        return self.upstream_code or self.code


class UpstreamUnreachable(UpstreamError):
    code = "upstream_unreachable"


class UpstreamMalformed(UpstreamError):
    code = "upstream_malformed"


class UpstreamTimeout(UpstreamError):
    """``clock`` is the name of the clock that fired: connect, first_byte, first_token, idle or total."""

    code = "upstream_timeout"

    def __init__(self, message: str, *, provider: str, clock: str, retryable: bool = False) -> None:
        super().__init__(message, provider=provider, upstream_status=504, retryable=retryable)
        self.clock = clock
        self.details["clock"] = clock


class ConfigError(Exception):
    """A configuration that cannot be served. ``problems`` lists every finding, each with its place in the file."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
