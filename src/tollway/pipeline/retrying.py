"""Whether and when the same target is asked again. Reads how an error asks to be met, never who sent it."""

from __future__ import annotations

from collections.abc import Callable

from tollway.errors import UpstreamError, UpstreamTimeout, UpstreamUnreachable
from tollway.model.deployment import Retry


def wait(error: UpstreamError, retry: Retry, turn: int, jitter: Callable[[], float]) -> float | None:
    """Seconds until the try after number ``turn`` (from 0), if the rule allows one more; None: not again. ``jitter``
    gives numbers from 0 to 1."""
    if turn + 1 >= retry.attempts or not error.retryable or not covers(retry, error):
        return None
    backoff = 0.25 * 2.0**turn * (0.75 + 0.5 * jitter())
    wanted = backoff if error.retry_after is None else max(error.retry_after, 0.0)
    return wanted if wanted <= retry.max_wait else None


def covers(retry: Retry, error: UpstreamError) -> bool:
    if isinstance(error, UpstreamTimeout):
        return ("connect" if error.clock == "connect" else "timeout") in retry.on
    if isinstance(error, UpstreamUnreachable):
        return "connect" in retry.on
    status = error.http_status
    return str(status) in retry.on or f"{status // 100}xx" in retry.on
