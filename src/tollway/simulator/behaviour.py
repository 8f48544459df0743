"""Which knobs a request meets: defaults, then the model's suffix, then ``x-mock-*`` headers; and which faults
are due."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate
from math import floor

import msgspec

from tollway.simulator.answer import Refusal
from tollway.simulator.knobs import (
    NEUTRAL,
    Knobs,
    UnknownKnob,
    has_fault,
    is_staged,
    set_knobs,
    suffix,
    without_fault,
)

REMEMBERED = 4096
"""Model names whose suffix stays parsed."""

PREFIX = b"x-mock-"


class Behaviour:
    """The knobs of one simulator. ``defaults`` hold for all, ``models`` for a model named without suffix."""

    def __init__(self, defaults: Knobs = NEUTRAL) -> None:
        self._initial = defaults
        self._defaults = defaults
        self._models: dict[str, list[tuple[str, str | None]]] = {}
        self._known: dict[str, tuple[str, Knobs, bool]] = {}
        self._served: Counter[str] = Counter()
        self.on_change: Callable[[], None] = _nothing

    @property
    def defaults(self) -> Knobs:
        return self._defaults

    def set_defaults(self, settings: list[tuple[str, str | None]], model: str | None = None) -> None:
        """Set knobs for every request, or for one model, from now on. Raises UnknownKnob and then changes
        nothing."""
        if model is None:
            self._defaults = set_knobs(self._defaults, settings)
        else:
            held = self._models.get(model, [])
            set_knobs(NEUTRAL, settings)
            self._models[model] = [*held, *settings]
        self._known.clear()
        self.on_change()

    def reset(self) -> None:
        """Back to what the simulator was started with; counts of ``fail_first`` begin anew."""
        self._defaults = self._initial
        self._models.clear()
        self._known.clear()
        self._served.clear()
        self.on_change()

    def of(self, model: str, headers: dict[bytes, bytes]) -> tuple[str, Knobs, bool]:
        """The model without its suffix, its knobs, and whether they ask for more than plain bytes.

        Raises a 400 Refusal where a knob is not understood.
        """
        try:
            found = self._known.get(model) or self._learn(model)
            for name in headers:
                if name.startswith(PREFIX):
                    knobs = set_knobs(found[1], _own(headers))
                    found = found[0], knobs, is_staged(knobs)
                    break
        except UnknownKnob as error:
            raise Refusal(
                400, str(error), kind="invalid_request_error", code="unknown_knob", param="model"
            ) from error
        base, knobs, _ = found
        if knobs.errors is None and knobs.fail_first is None:
            return found
        knobs = self._rationed(knobs, knobs.scope or model)
        return base, knobs, is_staged(knobs)

    def _learn(self, model: str) -> tuple[str, Knobs, bool]:
        base, settings = suffix(model)
        knobs = set_knobs(self._defaults, [*self._models.get(base, ()), *settings])
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        found = self._known[model] = base, knobs, is_staged(knobs)
        return found

    def _rationed(self, knobs: Knobs, scope: str) -> Knobs:
        """The fault, where this request's turn has come; a plain failure is a 500."""
        self._served[scope] += 1
        number = self._served[scope]
        due = knobs.fail_first is not None and number <= knobs.fail_first
        if not due and knobs.errors is not None:
            # Evenly spread and exact: of n requests floor(n × share) fail.
            due = floor(number * knobs.errors) > floor((number - 1) * knobs.errors)
        if not due:
            return without_fault(knobs)
        return knobs if has_fault(knobs) else msgspec.structs.replace(knobs, status=500)


def _nothing() -> None:
    return


def _own(headers: dict[bytes, bytes]) -> list[tuple[str, str | None]]:
    return [
        (name[len(PREFIX) :].decode("latin-1"), value.decode("latin-1") or None)
        for name, value in headers.items()
        if name.startswith(PREFIX)
    ]


def failure(knobs: Knobs, status: int, now: float) -> Refusal:
    """The error that ``status`` and its companions describe."""
    return Refusal(
        status,
        knobs.error_message or f"Simulated error {status}.",
        kind=knobs.error_type,
        code=knobs.error_code,
        headers=_retry_after(knobs.retry_after, now),
    )


_AFTER = re.compile(r"(date:)?([\d.]+)(ms|s|)")


def _retry_after(asked: str | None, now: float) -> bytes:
    found = _AFTER.fullmatch(asked) if asked else None
    if found is None:
        return b""
    if found[1]:
        return b"retry-after: %b\r\n" % formatdate(now + float(found[2]), usegmt=True).encode()
    if found[3] == "ms":
        return b"retry-after-ms: %b\r\n" % found[2].encode()
    return b"retry-after: %b\r\n" % found[2].encode()
