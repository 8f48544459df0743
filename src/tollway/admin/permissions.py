"""The one table of who may do what, and how far a role reaches. What lies where is decided in ``sight.py``."""

from __future__ import annotations

from typing import Literal, cast

from tollway.model.role import ROLES, Permission, Role

Reach = Literal["everywhere", "organization", "team", "own"]
"""How far a permission goes: everything, what lies in the role's organization, what lies in its team, what is the
user's own. A role never reaches further than where it is held."""

_REACHES: dict[str, Reach | None] = {
    "E": "everywhere",
    "O": "organization",
    "T": "team",
    "o": "own",
    "-": None,
}

# Columns: owner admin auditor org_admin team_admin member viewer
_ROWS = {
    "organizations.read":     "E E E O - - -",
    "organizations.create":   "E E - - - - -",
    "organizations.update":   "E E - - - - -",
    "organizations.delete":   "E E - - - - -",
    "organizations.block":    "E E - - - - -",
    "organizations.budget":   "E E - - - - -",
    "teams.read":             "E E E O T T T",
    "teams.create":           "E E - O - - -",
    "teams.update":           "E E - O - - -",
    "teams.delete":           "E E - O - - -",
    "teams.block":            "E E - O - - -",
    "teams.budget":           "E E - O - - -",
    "teams.transfer":         "E E - - - - -",
    "projects.read":          "E E E O T T T",
    "projects.create":        "E E - O T - -",
    "projects.update":        "E E - O T - -",
    "projects.delete":        "E E - O T - -",
    "projects.block":         "E E - O T - -",
    "projects.budget":        "E E - O T - -",
    "users.read":             "E E E O T o o",
    "users.create":           "E E - O - - -",
    "users.update":           "E E - O - - -",
    "users.delete":           "E E - O - - -",
    "users.block":            "E E - O - - -",
    "users.budget":           "E E - O - - -",
    "users.grant":            "E - - - - - -",
    "members.read":           "E E E O T T T",
    "members.create":         "E E - O T - -",
    "members.update":         "E E - O T - -",
    "members.delete":         "E E - O T - -",
    "members.budget":         "E E - O T - -",
    "customers.read":         "E E E O - - -",
    "customers.create":       "E E - O - - -",
    "customers.update":       "E E - O - - -",
    "customers.delete":       "E E - O - - -",
    "customers.block":        "E E - O - - -",
    "customers.budget":       "E E - O - - -",
    "tags.read":              "E E E - - - -",
    "tags.create":            "E E - - - - -",
    "tags.update":            "E E - - - - -",
    "tags.delete":            "E E - - - - -",
    "tags.block":             "E E - - - - -",
    "tags.budget":            "E E - - - - -",
    "access_groups.read":     "E E E - - - -",
    "access_groups.create":   "E E - - - - -",
    "access_groups.update":   "E E - - - - -",
    "access_groups.delete":   "E E - - - - -",
    "keys.read":              "E E E O T o T",
    "keys.create":            "E E - O T o -",
    "keys.update":            "E E - O T o -",
    "keys.block":             "E E - O T o -",
    "keys.revoke":            "E E - O T o -",
    "keys.rotate":            "E E - O T o -",
    "keys.transfer":          "E E - O T - -",
    "keys.budget":            "E E - O T - -",
    "keys.self":              "- - - - - - -",
    "tokens.read":            "E E E o o o o",
    "tokens.create":          "E o o o o o o",
    "tokens.delete":          "E E o o o o o",
    "budgets.read":           "E E E O T o T",
    "adjustments.read":       "E E E - - - -",
    "events.read":            "E E E O T o T",
    "events.correct":         "E E - - - - -",
    "usage.read":             "E E E O T o T",
    "models.read":            "E E E - - - -",
    "config.read":            "E E E - - - -",
    "config.reload":          "E E - - - - -",
}  # fmt: skip

PERMISSIONS: dict[Permission, dict[Role, Reach | None]] = {
    permission: dict(zip(ROLES, (_REACHES[letter] for letter in row.split()), strict=True))
    for permission, row in _ROWS.items()
}

OF_KEYS: frozenset[Permission] = frozenset(("keys.self", "events.read", "usage.read"))
"""What a virtual key may ask for, of itself only."""


def reach(permission: Permission, role: Role) -> Reach | None:
    """None: not at all. A permission that is not in the table is nobody's."""
    row = PERMISSIONS.get(permission)
    return row[role] if row is not None else None


def gateway_role(written: str | None) -> Role:
    """The role of a user over the whole gateway; without one only what is the user's own can be read."""
    return cast(Role, written) if written in ("owner", "admin", "auditor", "member") else "viewer"
