"""Access groups: named sets of models and MCP servers that allow- and deny-lists mention as ``group:NAME``."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from tollway.admin.action import action
from tollway.admin.context import Context
from tollway.admin.labels import Name, described, name
from tollway.admin.tenants import to_the_end
from tollway.admin.terms import Patterns, words
from tollway.admin.times import iso
from tollway.errors import BadRequest, Conflict, NotFound
from tollway.model.tenant import AccessGroup


class NewAccessGroup(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An access group to create. Its id is its name, which has no blanks or commas and never changes."""

    name: Name
    models: Patterns = ()
    mcp_servers: tuple[str, ...] = ()
    description: str = ""


class AccessGroupPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A JSON merge patch (RFC 7396): left out stays, ``null`` clears, lists are replaced."""

    models: Patterns | UnsetType | None = UNSET
    mcp_servers: tuple[str, ...] | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET


class AccessGroupView(Struct, frozen=True, kw_only=True):
    """An access group. ``owner`` ``file`` is read-only here: the configuration file declares it."""

    id: str
    name: str
    owner: Literal["file", "database"]
    models: tuple[str, ...]
    mcp_servers: tuple[str, ...]
    description: str
    created_at: str


class AccessGroupList(Struct, frozen=True, kw_only=True):
    """Every access group, by name."""

    data: tuple[AccessGroupView, ...]


class AccessGroupDeleted(Struct, frozen=True, kw_only=True):
    """The access group that is gone. Lists that name it allow and forbid nothing by it any more."""

    id: str
    deleted: bool


@action(permission="access_groups.create", audit=True, route=("POST", "/access_groups"), status=201)
async def create(context: Context, body: NewAccessGroup) -> AccessGroupView:
    """Create an access group."""
    title = name(body.name)
    if any(char.isspace() or char == "," for char in title):
        raise BadRequest("name must have no blanks and no commas: lists name it", param="name")
    group = AccessGroup(
        id=title,
        name=title,
        models=words(body.models, "models"),
        mcp_servers=words(body.mcp_servers, "mcp_servers"),
        description=described(body.description),
        created_at=context.clock(),
    )

    async def write() -> None:
        store = context.stored_tenants()
        if any(one.id == title for one in (await context.society()).directory.groups):
            raise Conflict(f"an access group named {title} exists already", param="name")
        await store.put_group(group)
        await context.changed()

    await to_the_end(context, write)
    return _view(group)


@action(permission="access_groups.read", audit=False, route=("GET", "/access_groups"))
async def list_(context: Context) -> AccessGroupList:
    """List all access groups, those of the configuration file included."""
    groups = (await context.society()).directory.groups
    return AccessGroupList(data=tuple(_view(one) for one in sorted(groups, key=lambda one: one.id)))


@action(permission="access_groups.read", audit=False, route=("GET", "/access_groups/{access_group}"))
async def get(context: Context, access_group: str) -> AccessGroupView:
    """Look at an access group."""
    return _view(await _located(context, access_group))


@action(permission="access_groups.update", audit=True, route=("PATCH", "/access_groups/{access_group}"))
async def update(context: Context, access_group: str, body: AccessGroupPatch) -> AccessGroupView:
    """Change an access group with a JSON merge patch; every list that names it follows."""
    made: list[AccessGroup] = []

    async def write() -> None:
        found = _own(context, await _located(context, access_group))
        changes: dict[str, object] = {}
        if body.models is not UNSET:
            changes["models"] = words(body.models or (), "models")
        if body.mcp_servers is not UNSET:
            changes["mcp_servers"] = words(body.mcp_servers or (), "mcp_servers")
        if body.description is not UNSET:
            changes["description"] = described(body.description or "")
        made.append(replace(found, **changes))
        await context.stored_tenants().put_group(made[0])
        await context.changed()

    await to_the_end(context, write)
    return _view(made[0])


@action(permission="access_groups.delete", audit=True, route=("DELETE", "/access_groups/{access_group}"))
async def delete(context: Context, access_group: str) -> AccessGroupDeleted:
    """Delete an access group. Allow-lists that name nothing else then allow nothing."""

    async def write() -> None:
        found = _own(context, await _located(context, access_group))
        await context.stored_tenants().remove_group(found.id)
        await context.changed()

    await to_the_end(context, write)
    return AccessGroupDeleted(id=access_group, deleted=True)


async def _located(context: Context, id: str) -> AccessGroup:
    for one in (await context.society()).directory.groups:
        if one.id == id:
            return one
    raise NotFound("no access group has this name", param="access_group")


def _own(context: Context, found: AccessGroup) -> AccessGroup:
    if found.owner == "file":
        place = context.settings().source or "the configuration"
        raise Conflict(f"the access group {found.name} is declared in {place}: change it there and reload")
    return found


def _view(group: AccessGroup) -> AccessGroupView:
    return AccessGroupView(
        id=group.id,
        name=group.name,
        owner=group.owner,
        models=group.models,
        mcp_servers=group.mcp_servers,
        description=group.description,
        created_at=iso(group.created_at),
    )
