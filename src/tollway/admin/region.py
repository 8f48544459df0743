"""From how far an actor sees to which events it sees, and the names that reports show beside ids."""

from __future__ import annotations

from tollway.admin.sight import Sight

Region = list[dict[str, tuple[str, ...]]] | None
"""Events that match one of these, by dimension; None: all."""


def region_of(sight: Sight) -> Region:
    """The events that lie in a region of organizations, teams and people."""
    if sight.everywhere:
        return None
    found: list[dict[str, tuple[str, ...]]] = []
    if sight.organizations:
        found.append({"organization": tuple(sorted(sight.organizations))})
    if sight.teams:
        found.append({"team": tuple(sorted(sight.teams))})
    if sight.key is not None:
        found.append({"key_id": (sight.key,)})
    if sight.user is not None:
        for scope in sorted(sight.own, key=lambda scope: (scope.level, scope.id or "")):
            mine: dict[str, tuple[str, ...]] = {"user": (sight.user,)}
            if scope.level in ("organization", "team") and scope.id is not None:
                mine[scope.level] = (scope.id,)
            found.append(mine)
    return found
