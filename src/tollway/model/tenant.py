"""Who shares the gateway: organizations, teams, projects, users and their memberships, customers, tags, access groups.

A request meets the terms of every level it belongs to; each level is checked on its own.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from tollway.model.terms import Terms

Level = Literal["organization", "team", "project", "user", "customer", "tag"]

LEVELS: tuple[Level, ...] = ("organization", "team", "project", "user", "customer", "tag")


class Tenant(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One organization, team, project, user, customer or tag.

    ``id`` is unique among its level and stands in events; ``name`` is what people read. ``organization`` is the id of
    the one above (teams, projects, customers), ``team`` that of a project's team. ``role`` is a user's role over the
    whole gateway, ``email`` a user's address. ``members`` are terms every member of a team or organization has unless
    the membership says otherwise, ``keys`` terms new keys of it begin with. The customer named ``default`` lends its
    terms to end users nobody declared. Times are Unix seconds; ``owner`` says who may change it.
    """

    level: Level
    id: str
    name: str
    organization: str | None = None
    team: str | None = None
    email: str | None = None
    role: str | None = None
    terms: Terms = Terms()
    members: Terms = Terms()
    keys: Terms = Terms()
    metadata: dict[str, str] = {}
    description: str = ""
    blocked: bool = False
    created_at: float = 0.0
    expires_at: float | None = None
    owner: Literal["file", "database"] = "database"


class Membership(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A user's place in a team or an organization, with a role there and terms of its own."""

    level: Literal["organization", "team"]
    tenant: str
    user: str
    role: Literal["admin", "member", "viewer"] = "member"
    terms: Terms = Terms()
    created_at: float = 0.0
    owner: Literal["file", "database"] = "database"


class AccessGroup(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A named set of models and MCP servers. Allow- and deny-lists name it ``group:NAME``."""

    id: str
    name: str
    models: tuple[str, ...] = ()
    mcp_servers: tuple[str, ...] = ()
    description: str = ""
    created_at: float = 0.0
    owner: Literal["file", "database"] = "database"


class Directory(Struct, frozen=True, kw_only=True):
    """All of it at one moment, as the configuration file and the database say. Order does not matter."""

    tenants: tuple[Tenant, ...] = ()
    memberships: tuple[Membership, ...] = ()
    groups: tuple[AccessGroup, ...] = ()


def joined(file: Directory, stored: Directory) -> Directory:
    """What the file declares and what the database holds, as one; where both know an id, the file's counts."""
    tenants = {(one.level, one.id): one for one in (*stored.tenants, *file.tenants)}
    members = {(one.level, one.tenant, one.user): one for one in (*stored.memberships, *file.memberships)}
    groups = {one.id: one for one in (*stored.groups, *file.groups)}
    return Directory(
        tenants=tuple(tenants.values()), memberships=tuple(members.values()), groups=tuple(groups.values())
    )
