"""The sections ``organizations:``, ``teams:``, ``projects:``, ``users:``, ``customers:``, ``tags:`` and
``access_groups:``: who shares the gateway, as far as the file declares it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, cast

import msgspec

from tollway.config import reading
from tollway.config.keys import known_model
from tollway.config.reading import Table
from tollway.config.report import Bad, Report, closest, shown
from tollway.config.terms import read_expiry, read_metadata, read_terms
from tollway.config.yaml_marks import Mapping, Node, Sequence
from tollway.model.key import VirtualKey
from tollway.model.slug import FREE, ID, LONGEST_ID, tenant_id
from tollway.model.tenant import LEVELS, AccessGroup, Directory, Level, Membership, Tenant
from tollway.model.terms import Terms

SECTIONS: dict[Level, str] = {level: level + "s" for level in LEVELS}
"""Each level's section: ``organizations``, ``teams``, …"""

_GATEWAY_ROLES = ("owner", "admin", "auditor", "member", "viewer")
MemberRole = Literal["admin", "member", "viewer"]


def read_directory(table: Table, public: Collection[str]) -> Directory:
    """Everything these sections of the whole file (``table``) declare. ``public`` are the names under ``models:``."""
    found: dict[Level, dict[str, Tenant]] = {level: {} for level in LEVELS}
    memberships: list[Membership] = []
    groups = _groups(table)
    names = {*public, *(f"group:{group.name}" for group in groups)}
    for level in LEVELS:
        node = table.node(SECTIONS[level])
        for item in _items(node, SECTIONS[level], table.report):
            tenant = _tenant(item, level, found, memberships, table.report)
            if tenant is None:
                continue
            if any(other.id == tenant.id for other in found[level].values()):
                table.report.add(item.line, f"{SECTIONS[level]}: the id {shown(tenant.id)} is used twice")
            same = [one for one in found[level].values() if one.name == tenant.name]
            if any(one.organization == tenant.organization for one in same):
                table.report.add(item.line, f"{SECTIONS[level]}: the name {shown(tenant.name)} is used twice")
            for terms in (tenant.terms, tenant.members, tenant.keys):
                _check_models(terms, item, f"{level} {tenant.name}", names, table.report)
            found[level][tenant.id] = tenant
    tenants = tuple(tenant for level in LEVELS for tenant in found[level].values())
    return Directory(tenants=tenants, memberships=tuple(memberships), groups=groups)


def placed_keys(
    keys: tuple[VirtualKey, ...], directory: Directory, line: int, report: Report
) -> tuple[VirtualKey, ...]:
    """The keys with ids for the names of organizations, teams, projects and users. A team or user that nobody declared
    stays a label, as long as the file declares none of that level."""
    return tuple(_placed(key, directory, line, report) for key in keys)


def _placed(key: VirtualKey, directory: Directory, line: int, report: Report) -> VirtualKey:
    places: dict[Level, str | None] = {
        "organization": key.organization, "team": key.team, "project": key.project, "user": key.user
    }  # fmt: skip
    found: dict[str, Tenant] = {}
    for level, name in places.items():
        if name is None:
            continue
        declared = [one for one in directory.tenants if one.level == level]
        named = next((one for one in declared if one.id == name), None)
        same = [one for one in declared if one.name == name]
        if named is None and len(same) == 1:
            named = same[0]
        if named is not None:
            found[level] = named
        elif declared and level not in ("team", "user"):
            meant = closest(name, [one.name for one in declared])
            report.add(
                line, f"key {key.name}: {level} {shown(name)} is not under {SECTIONS[level]}", meant=meant
            )
    project, team = found.get("project"), found.get("team")
    organization = found.get("organization")
    team_id = team.id if team is not None else (project.team if project is not None else None) or key.team
    home = next((one.organization for one in (project, team) if one is not None and one.organization), None)
    if organization is not None and home is not None and organization.id != home:
        report.add(line, f"key {key.name}: its team or project belongs to another organization")
    user = found.get("user")
    return msgspec.structs.replace(
        key,
        organization=organization.id if organization is not None else home or key.organization,
        team=team_id,
        project=project.id if project is not None else key.project,
        user=user.id if user is not None else key.user,
    )


def _items(node: Node | None, section: str, report: Report) -> tuple[Node, ...]:
    if node is None:
        return ()
    if not isinstance(node, Sequence):
        report.add(node.line, f"{section} must be a list, each item `- {{name: …}}`")
        return ()
    good = [item for item in node.items if isinstance(item, Mapping)]
    for item in node.items:
        if not isinstance(item, Mapping):
            report.add(item.line, f"{section}: expected an item such as {{name: …}}")
    return tuple(good)


def _tenant(
    node: Node,
    level: Level,
    found: dict[Level, dict[str, Tenant]],
    memberships: list[Membership],
    report: Report,
) -> Tenant | None:
    name = Table(node, report, level).get("name", _name, None)
    table = Table(node, report, f"{level} {name}" if name else f"a {level}")
    if not table.has("name"):
        report.add(table.line, f"{table.place}: name is missing")
    table.node("name")
    organization = team = None
    if level in ("team", "project", "user", "customer"):
        organization = _reference(table, "organization", found)
    if level == "project":
        team = _reference(table, "team", found)
        if team is not None:
            above = found["team"][team].organization
            if organization is not None and organization != above:
                report.add(table.line, f"{table.place}: its team belongs to another organization")
            organization = above
    usual = tenant_id(level, name or "", organization)
    own = reading.label if level in FREE else _id
    id = table.get("id", own, usual)
    members, keys = Terms(), Terms()
    if level in ("organization", "team"):
        members = table.get("members", _inner(f"{level}.members"), Terms())
    if level in ("organization", "team", "project"):
        keys = table.get("keys", _inner(f"{level}.keys"), Terms())
    email = role = None
    if level == "user":
        email = table.get("email", _email, None)
        role = table.get("role", reading.choice(*_GATEWAY_ROLES), None)
        memberships += _memberships(table, "organizations", "organization", id, found)
        memberships += _memberships(table, "teams", "team", id, found)
    tenant = Tenant(
        level=level,
        id=id,
        name=name or "",
        organization=organization,
        team=team,
        email=email,
        role=role,
        terms=read_terms(table),
        members=members,
        keys=keys,
        metadata=table.get("metadata", read_metadata, {}),
        description=table.get("description", reading.label, ""),
        blocked=table.get("blocked", reading.boolean, False),
        expires_at=table.get("expires", read_expiry, None),
        owner="file",
    )
    table.finish()
    return tenant if name else None


def _inner(place: str) -> reading.Reader[Terms]:
    def read(node: Node, report: Report) -> Terms:
        table = Table(node, report, place)
        terms = read_terms(table)
        table.finish()
        return terms

    return read


def _reference(table: Table, level: Level, found: dict[Level, dict[str, Tenant]]) -> str | None:
    """The id of the tenant a setting names, by id or name; reported where nothing is called so."""

    def read(node: Node, report: Report) -> str:
        return _referred(reading.label(node, report), level, found)

    return table.get(level, read, None)


def _referred(named: str, level: Level, found: dict[Level, dict[str, Tenant]]) -> str:
    if named in found[level]:
        return named
    same = [one.id for one in found[level].values() if one.name == named]
    if len(same) == 1:
        return same[0]
    if same:
        raise Bad(f"several are named {shown(named)}; write the id")
    meant = closest(named, [one.name for one in found[level].values()])
    raise Bad(f"{shown(named)} is not under {SECTIONS[level]}", meant=meant)


def _memberships(
    table: Table,
    section: str,
    level: Literal["organization", "team"],
    user: str,
    found: dict[Level, dict[str, Tenant]],
) -> list[Membership]:
    """``teams: [search, {team: ads, role: admin, budget: 5usd/day}]``."""

    def read(node: Node, report: Report) -> Membership:
        if not isinstance(node, Mapping):
            return Membership(
                level=level,
                tenant=_referred(reading.label(node, report), level, found),
                user=user,
                owner="file",
            )
        inner = Table(node, report, f"user.{section}")
        tenant = _reference(inner, level, found)
        if not inner.has(level):
            raise Bad(f"{level} is missing: {{{level}: …, role: admin}}")
        role = inner.get("role", reading.choice("admin", "member", "viewer"), "member")
        made = Membership(
            level=level,
            tenant=tenant or "",
            user=user,
            role=cast(MemberRole, role),
            terms=read_terms(inner),
            owner="file",
        )
        inner.finish()
        return made

    several = reading.many(read, section)
    made: tuple[Membership, ...] = table.get(section, several, ())
    if len({one.tenant for one in made}) < len(made):
        table.report.add(table.line_of(section), f"{table.name_of(section)}: names a {level} twice")
    return list(made)


def _groups(table: Table) -> tuple[AccessGroup, ...]:
    found: dict[str, AccessGroup] = {}
    for item in _items(table.node("access_groups"), "access_groups", table.report):
        inner = Table(item, table.report, "access_group")
        name = inner.get("name", reading.name, None)
        if not inner.has("name"):
            table.report.add(inner.line, "an access group: name is missing")
        group = AccessGroup(
            id=name or "",
            name=name or "",
            models=inner.get("models", reading.many(reading.name, "models"), ()),
            mcp_servers=inner.get("mcp_servers", reading.many(reading.name, "mcp_servers"), ()),
            description=inner.get("description", reading.label, ""),
            owner="file",
        )
        inner.finish()
        if name in found:
            table.report.add(inner.line, f"access_groups: the name {shown(name or '')} is used twice")
        if name:
            found[name] = group
    return tuple(found.values())


def _check_models(terms: Terms, node: Node, place: str, known: Collection[str], report: Report) -> None:
    named = (*terms.models, *terms.denied_models, *(name for each in terms.budgets for name in each.models))
    for model in named:
        if (model.startswith("group:") and model not in known) or not known_model(model, known):
            meant = closest(model, known)
            report.add(node.line, f"{place}: models names {shown(model)}, which is not declared", meant=meant)


def _name(node: Node, report: Report) -> str:
    """Names stand in addresses of the admin API beside ids."""
    found = reading.label(node, report)
    if len(found) > 100 or set(found) & set("/?#%"):
        raise Bad("expected 1 to 100 characters without / ? # or %, because the name stands in addresses")
    return found


def _id(node: Node, _: Report) -> str:
    found = reading.text_of(node).strip()
    if not ID.fullmatch(found):
        raise Bad(f"expected 1 to {LONGEST_ID} letters, digits or . _ @ : + -")
    return found


def _email(node: Node, report: Report) -> str:
    found = reading.label(node, report)
    if not len(found) >= 3 or found.count("@") != 1 or " " in found:
        raise Bad("expected an address such as ada@example.com")
    return found.casefold()
