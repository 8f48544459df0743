"""What an actor sees and may touch: roles and memberships turned into a region, and whether an object lies in it.

Whatever lies outside looks as if it did not exist. The table of permissions is in ``permissions.py``.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from tollway.admin.permissions import Reach, gateway_role, reach
from tollway.model.role import Assignment, Permission, Role, Scope
from tollway.model.tenant import Directory, Membership, Tenant

EVERYWHERE = Scope(level="everywhere")
_BREADTH = {"everywhere": 3, "organization": 2, "team": 1, "own": 0}
_SCOPED: dict[tuple[str, str], Role] = {
    ("organization", "admin"): "org_admin",
    ("team", "admin"): "team_admin",
}


class Sight(Struct, frozen=True, kw_only=True):
    """A region: everything, or whole organizations and teams (ids), what is the user's own within ``own`` scopes,
    what one virtual key did."""

    everywhere: bool = False
    organizations: frozenset[str] = frozenset()
    teams: frozenset[str] = frozenset()
    user: str | None = None
    own: frozenset[Scope] = frozenset()
    key: str | None = None

    def covers(
        self,
        organization: str | None,
        team: str | None = None,
        user: str | None = None,
        key: str | None = None,
    ) -> bool:
        """Whether something that belongs there lies in the region."""
        if self.everywhere or organization in self.organizations or team in self.teams:
            return True
        if self.key is not None and key == self.key:
            return True
        return (
            user is not None
            and user == self.user
            and any(
                scope.level in ("own", "everywhere")
                or (scope.level == "organization" and scope.id == organization)
                or (scope.level == "team" and scope.id == team)
                for scope in self.own
            )
        )

    @property
    def scoped(self) -> bool:
        return not self.everywhere


class Belonging:
    """A directory with the indexes that sight needs. Kept for as long as the directory is the same object."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self.tenants: dict[tuple[str, str], Tenant] = {(one.level, one.id): one for one in directory.tenants}
        self._of_user: dict[str, list[Membership]] = {}
        for one in directory.memberships:
            self._of_user.setdefault(one.user, []).append(one)

    def memberships(self, user: str) -> list[Membership]:
        return self._of_user.get(user, [])

    def places(self, tenant: Tenant, *, reading: bool) -> Iterable[tuple[str | None, str | None, str | None]]:
        """Where a tenant lies: (organization, team, user). A user is managed at home only, and seen wherever it is a
        member."""
        match tenant.level:
            case "organization":
                yield tenant.id, None, None
            case "team":
                yield tenant.organization, tenant.id, None
            case "user":
                # Who holds a role over the gateway is no organization's to manage.
                powerful = tenant.role in ("owner", "admin", "auditor") and not reading
                yield None if powerful else tenant.organization, None, tenant.id
                for one in self.memberships(tenant.id) if reading else ():
                    yield self.place_of(one)
            case _:
                yield tenant.organization, tenant.team, None

    def place_of(self, member: Membership) -> tuple[str | None, str | None, str | None]:
        if member.level == "organization":
            return member.tenant, None, member.user
        team = self.tenants.get(("team", member.tenant))
        return (team.organization if team is not None else None), member.tenant, member.user

    def assignments(self, user: Tenant) -> tuple[Assignment, ...]:
        """The roles a user holds. A membership in what is gone or blocked gives none."""
        role = gateway_role(user.role)
        scope = EVERYWHERE if role in ("owner", "admin", "auditor") else Scope(level="own")
        found = [Assignment(role=role, scope=scope)]
        for one in self.memberships(user.id):
            within = self.tenants.get((one.level, one.tenant))
            if within is None or within.blocked:
                continue
            above = self.tenants.get(("organization", within.organization or ""))
            if above is not None and above.blocked:
                continue
            held = _SCOPED.get((one.level, one.role)) or ("member" if one.role == "member" else "viewer")
            found.append(Assignment(role=held, scope=Scope(level=one.level, id=one.tenant)))
        return tuple(found)


def sight(permission: Permission, assignments: Iterable[Assignment], user: str | None) -> Sight | None:
    """How far all roles together reach. None: not at all."""
    everywhere = False
    organizations: set[str] = set()
    teams: set[str] = set()
    own: set[Scope] = set()
    for one in assignments:
        how_far: Reach | None = reach(permission, one.role)
        if how_far is None:
            continue
        scope = one.scope
        if _BREADTH[scope.level] < _BREADTH[how_far]:
            how_far = scope.level
        if how_far == "everywhere":
            everywhere = True
        elif how_far == "organization" and scope.level == "organization" and scope.id is not None:
            organizations.add(scope.id)
        elif how_far == "team" and scope.level == "team" and scope.id is not None:
            teams.add(scope.id)
        else:
            own.add(scope)
    if not (everywhere or organizations or teams or own):
        return None
    return Sight(
        everywhere=everywhere,
        organizations=frozenset(organizations),
        teams=frozenset(teams),
        user=user,
        own=frozenset(own),
    )
