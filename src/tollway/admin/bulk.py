"""Many changes in one call: each is done on its own, in order, and has its own result; one that fails stops none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Literal

from msgspec import Struct

from tollway.admin.context import Context
from tollway.errors import BadRequest, GatewayError

MOST = 1000

Step = tuple[str, Callable[[Context], Awaitable[Struct]]]
"""What it is called in the answer, and how it is done."""


class BulkResult(Struct, frozen=True, kw_only=True):
    """``index`` counts from 0 through the request's lists. ``code`` and ``message`` say why one was refused; ``key`` is
    a new key's secret, shown this once."""

    index: int
    action: str
    status: Literal["ok", "refused"]
    id: str | None
    key: str | None
    code: str | None
    message: str | None
    param: str | None


class BulkAnswer(Struct, frozen=True, kw_only=True):
    """One result for each change, and how many were refused."""

    data: tuple[BulkResult, ...]
    refused: int


async def in_bulk(context: Context, steps: Iterable[Step]) -> BulkAnswer:
    """Do the steps one after another; what is served follows once, at the end."""
    listed = list(steps)
    if not 1 <= len(listed) <= MOST:
        raise BadRequest(f"a bulk request holds 1 to {MOST} changes")
    quiet = replace(context, changed=_later)
    results = []
    try:
        for index, (name, act) in enumerate(listed):
            results.append(await _result(quiet, index, name, act))
    finally:
        await context.changed()
    return BulkAnswer(data=tuple(results), refused=sum(each.status == "refused" for each in results))


async def _later() -> None:
    pass


async def _result(
    context: Context, index: int, name: str, act: Callable[[Context], Awaitable[Struct]]
) -> BulkResult:
    id = key = code = message = param = None
    try:
        done = await act(context)
        id, key = getattr(done, "id", None), getattr(done, "key", None)
    except GatewayError as error:
        code, message, param = error.error_code, error.message, error.param
    return BulkResult(
        index=index,
        action=name,
        status="ok" if code is None else "refused",
        id=id,
        key=key,
        code=code,
        message=message,
        param=param,
    )
