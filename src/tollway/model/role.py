"""Who may do what in the control plane: roles, permissions, and the one table that joins them.

A role is held over the whole gateway, or within one organization or team; a scoped role reaches only what lies in that
scope. Deciding whether an object lies in it is not done here.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Role = Literal["owner", "admin", "auditor", "org_admin", "team_admin", "member", "viewer"]

ROLES: tuple[Role, ...] = ("owner", "admin", "auditor", "org_admin", "team_admin", "member", "viewer")

Permission = str
"""``noun.verb``, such as ``keys.create``; the verbs are ``read``, ``create``, ``update``, ``delete``, ``block``, …"""


class Scope(Struct, frozen=True, kw_only=True):
    """Where a role holds: everywhere (``everywhere``), in an organization and all within it, in a team, or only for
    what is the user's own."""

    level: Literal["everywhere", "organization", "team", "own"]
    id: str | None = None


class Assignment(Struct, frozen=True, kw_only=True):
    """A role somebody holds, and where."""

    role: Role
    scope: Scope
