"""An admin action: one function, with its permission, audit and route declared beside it.

The declaration is enforced here, whichever door the call came through. HTTP itself is not known here.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import cached_property
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, get_type_hints

import msgspec
from msgspec import UNSET, Struct

from tollway.admin.context import Context
from tollway.admin.times import iso
from tollway.errors import Forbidden, GatewayError

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
Method = Literal["GET", "POST", "PATCH", "PUT", "DELETE"]

_log = logging.getLogger("tollway.audit")


class File(Struct, frozen=True, kw_only=True):
    """A result as a file: whoever takes it sends it and deletes it."""

    path: str
    media_type: str
    name: str


Export = Callable[..., Coroutine[Any, Any, File]]
"""``(context, query) -> File``: the result of an action in another format, made on the disk so that its size does not
matter."""


class AuditRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the audit log. ``fields`` names what a body carried, never its values: no secret can enter.

    ``target`` is the id acted on (what the caller named it by, if the action failed before finding it),
    ``outcome`` is ``ok``, the code of the refusal, or ``failed``.
    """

    time: str
    actor: str
    via: str
    action: str
    target: str | None
    outcome: str
    fields: tuple[str, ...] = ()
    request_id: str | None = None


class Action(Generic[P, R]):
    """A callable ``(context, …) -> result`` that carries its declaration.

    Parameters after the context: one ``str`` for each ``{name}`` in the path, then ``query`` (a Struct of
    query parameters) and ``body`` (a Struct of the JSON body) where the action has them.
    """

    def __init__(
        self,
        function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]],
        *,
        permission: str,
        audit: bool,
        route: tuple[Method, str],
        status: int,
        csv: Callable[..., str] | None,
        files: Mapping[str, Export],
    ) -> None:
        self.function = function
        self.permission = permission
        self.audit = audit
        self.method, self.path = route
        self.status = status
        self.csv = csv
        self.files = files
        self.name = action_name(function)
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__wrapped__ = function

    async def __call__(self, context: Context, *args: P.args, **kwargs: P.kwargs) -> R:
        """What the function does, or Forbidden if the context's actor lacks the permission."""
        if not self.audit:
            self._admit(context)
            return await self.function(context, *args, **kwargs)
        target, fields = self._named(context, args, kwargs)
        outcome = "failed"
        try:
            self._admit(context)
            result = await self.function(context, *args, **kwargs)
            target = getattr(result, "id", None) or target
            outcome = "ok"
            return result
        except GatewayError as error:
            outcome = error.error_code
            raise
        finally:
            record = AuditRecord(
                time=iso(context.clock()),
                actor=context.actor.name,
                via=context.actor.via,
                action=self.name,
                target=target,
                outcome=outcome,
                fields=fields,
                request_id=context.actor.request_id,
            )
            _log.info("%s", msgspec.json.encode(record).decode())

    async def file(self, format: str, context: Context, **arguments: Struct | str) -> File:
        """The result in one of ``files``' formats, or Forbidden if the context's actor lacks the permission."""
        self._admit(context)
        return await self.files[format](context, **arguments)

    @property
    def formats(self) -> tuple[str, ...]:
        """What ``format`` may be; empty where there is only JSON."""
        if self.csv is None and not self.files:
            return ()
        return ("json", *(("csv",) if self.csv is not None else ()), *self.files)

    @cached_property
    def query(self) -> type[Struct] | None:
        """The Struct of query parameters, if any."""
        return self._types.get("query")

    @cached_property
    def body(self) -> type[Struct] | None:
        """The Struct of the JSON body, if any."""
        return self._types.get("body")

    @property
    def result(self) -> type[Struct]:
        """The Struct answered."""
        return self._types["return"]

    @property
    def summary(self) -> str:
        return (self.__doc__ or self.name).strip().split("\n", 1)[0]

    @property
    def description(self) -> str:
        return inspect.cleandoc(self.__doc__ or "")

    @cached_property
    def _types(self) -> dict[str, type[Struct]]:
        return get_type_hints(self.function)

    def _admit(self, context: Context) -> None:
        if not context.actor.may(self.permission):
            raise Forbidden(f"{context.actor.name} has no permission {self.permission}")

    def _named(
        self, context: Context, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[str | None, tuple[str, ...]]:
        values = inspect.signature(self.function).bind(context, *args, **kwargs).arguments
        target = next((value for value in values.values() if isinstance(value, str)), None)
        body = values.get("body")
        if target is None:
            target = getattr(body, "name", None)
        if not isinstance(body, Struct):
            return _clipped(target), ()
        left_out: tuple[object, ...] = (UNSET, None, (), {}, "", False)
        given = tuple(name for name in body.__struct_fields__ if getattr(body, name) not in left_out)
        return _clipped(target), given


def action_name(function: Callable[..., object]) -> str:
    """``keys.list`` for the function ``list_`` of ``admin/keys.py``."""
    return f"{function.__module__.rsplit('.', 1)[-1]}.{function.__name__.rstrip('_')}"


def _clipped(target: object) -> str | None:
    """A target as a caller named it. Someone may have pasted a whole key: only its beginning is kept."""
    if not isinstance(target, str):
        return None
    return target[:8] + "…" if target.startswith("sk-") else target[:100]


def action(
    *,
    permission: str,
    audit: bool,
    route: tuple[Method, str],
    status: int = 200,
    csv: Callable[..., str] | None = None,
    files: Mapping[str, Export] | None = None,
) -> Callable[[Callable[Concatenate[Context, P], Coroutine[Any, Any, R]]], Action[P, R]]:
    """Declare an async function an action. ``csv`` renders its result as CSV where a caller asks for that, ``files``
    make files of it in other formats."""

    def declare(function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]]) -> Action[P, R]:
        return Action(
            function,
            permission=permission,
            audit=audit,
            route=route,
            status=status,
            csv=csv,
            files=files or {},
        )

    return declare
