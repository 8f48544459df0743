"""Which operation answers a method and a path, where the path holds names."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from tollway.simulator.answer import Dialect, Endpoint, Request, Route


class Routes:
    """Every dialect's routes, by method and path. Of those that match the first is taken, unless a later dialect owns
    the request."""

    def __init__(self, dialects: tuple[Dialect, ...]) -> None:
        self._routes: dict[str, list[tuple[re.Pattern[str], Dialect, Route]]] = {}
        for dialect in dialects:
            for route in dialect.routes:
                first = route.pattern.split("/")[1]
                self._routes.setdefault(first, []).append((_pattern(route.pattern), dialect, route))

    def find(self, request: Request) -> tuple[Dialect, Endpoint[Any]] | None:
        """Also sets the request's ``params``."""
        path = request.path.decode("latin-1")
        chosen: tuple[Dialect, Endpoint[Any]] | None = None
        for pattern, dialect, route in self._routes.get(path[1:].partition("/")[0], ()):
            if (
                route.method == request.method
                and (found := pattern.fullmatch(path))
                and (chosen is None or (dialect is not chosen[0] and dialect.owns(request)))
            ):
                request.params = {name: unquote(value) for name, value in found.groupdict().items()}
                chosen = dialect, route.endpoint
        return chosen

    def knows(self, path: bytes) -> bool:
        """Whether another method would have been answered."""
        text = path.decode("latin-1")
        routes = self._routes.get(text[1:].partition("/")[0], ())
        return any(pattern.fullmatch(text) for pattern, _, _ in routes)


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+(?:\.\.\.)?)\}", path)
    made = ""
    for place, part in enumerate(parts):
        if place % 2 == 0:
            made += re.escape(part)
        elif part.endswith("..."):
            made += f"(?P<{part[:-3]}>.+)"
        else:
            made += f"(?P<{part}>[^/]+)"
    return re.compile(made)
