"""Where a key belongs: the organization, team, project and user that a request names, resolved within what the actor
sees, and the terms that bound a key there."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from msgspec import Struct
from msgspec.structs import replace

from tollway.admin.context import Context
from tollway.admin.labels import label
from tollway.admin.sight import Belonging, Sight
from tollway.admin.tenants import visible
from tollway.admin.terms import LISTS
from tollway.config.term_rules import AMOUNT_NAMES, RATES
from tollway.errors import BadRequest, Conflict, NotFound
from tollway.model.key import VirtualKey
from tollway.model.tenant import Level, Tenant
from tollway.model.terms import Terms


class KeyPlace(Struct, frozen=True, kw_only=True):
    """Ids, or the labels of teams and users nobody declared."""

    organization: str | None = None
    team: str | None = None
    project: str | None = None
    user: str | None = None
    service: bool = False


def covers(sight: Sight, key: VirtualKey) -> bool:
    """Whether a key lies in a region. A service account's key is nobody's own."""
    return sight.covers(key.organization, key.team, None if key.service else key.user, key.id)


def placed(context: Context, society: Belonging, wanted: KeyPlace, permission: str) -> KeyPlace:
    """``wanted`` (ids or names) as ids. Raises NotFound for what the actor does not see, BadRequest for what does not
    belong together or may not be."""
    sight = context.sight(permission)
    project = _named(context, society, sight, "project", wanted.project)
    team = _named(context, society, sight, "team", wanted.team)
    user = _named(context, society, sight, "user", wanted.user)
    if project is not None and project.team is not None:
        if wanted.team is not None and (team is None or team.id != project.team):
            raise BadRequest("the project belongs to another team", param="project")
        team = society.tenants.get(("team", project.team))
    above = next((one.organization for one in (project, team) if one is not None and one.organization), None)
    organization = None
    if wanted.organization != above:
        organization = _named(context, society, sight, "organization", wanted.organization)
    if organization is not None and above is not None and organization.id != above:
        raise BadRequest("its team or project belongs to another organization", param="organization")
    if organization is not None and above is None and (project is not None or team is not None):
        raise BadRequest("its team or project belongs to no organization", param="organization")
    if wanted.service and wanted.user is not None:
        raise BadRequest("a service account's key has no user", param="user")
    place = KeyPlace(
        organization=organization.id if organization is not None else above,
        team=team.id if team is not None else label(wanted.team, "team"),
        project=project.id if project is not None else None,
        user=user.id if user is not None else label(wanted.user, "user"),
        service=wanted.service,
    )
    place = _inferred(context, society, sight, place)
    if user is not None and team is not None and not _belongs(society, user, team):
        raise BadRequest(f"{user.name} is no member of the team {team.name}", param="user")
    return place


def levels_above(society: Belonging, place: KeyPlace) -> list[Tenant]:
    """The declared project, team and organization of a key, nearest first."""
    pairs = (("project", place.project), ("team", place.team), ("organization", place.organization))
    return [
        society.tenants[level, id] for level, id in pairs if id is not None and (level, id) in society.tenants
    ]


def begun_with(terms: Terms, given: Iterable[str], above: list[Tenant]) -> Terms:
    """A new key's terms, with what the levels above let keys begin with where the request gave nothing."""
    given = set(given)
    changes: dict[str, object] = {}
    parts = ((*LISTS, "aliases"), ("budgets",), ("limits", "more_limits"))
    for group in parts:
        for name in group:
            asked = {"budgets": "budget", "more_limits": "limits"}.get(name, name)
            if asked in given:
                continue
            for level in above:
                usual = getattr(level.keys, name)
                if usual != getattr(Terms(), name):
                    changes[name] = usual
                    break
    return replace(terms, **changes)


def refuse_wider(context: Context, permission: str, terms: Terms, above: list[Tenant]) -> None:
    """Who does not reach everywhere gives a key nothing that a level above forbids: each model is one its allow-lists
    grant, no budget is larger than that of the same unit, period and models, and no rate than that of every model. The
    levels hold on their own in any case; this keeps a key from promising what it cannot keep. Raises BadRequest."""
    if context.sight(permission).everywhere:
        return
    for level in above:
        where = f"the {level.level} {level.name}"
        allowed = level.terms.models
        for model in terms.models:
            if allowed and not any(
                model == one or fnmatchcase(model, one.replace("[", "[[]")) for one in allowed
            ):
                raise BadRequest(f"models: {where} does not grant {model}", param="models")
        for budget in terms.budgets:
            for one in level.terms.budgets:
                same = (one.unit, one.per, one.models) == (budget.unit, budget.per, budget.models)
                if same and budget.limit > one.limit:
                    name = AMOUNT_NAMES[budget.unit]
                    raise BadRequest(f"budget.{name}: {where} has less for the same period", param="budget")
        for rate in RATES:
            mine, theirs = getattr(terms.limits, rate), getattr(level.terms.limits, rate)
            if mine is not None and theirs is not None and mine > theirs:
                raise BadRequest(f"limits.{rate}: {where} has {theirs}", param=f"limits.{rate}")


def _inferred(context: Context, society: Belonging, sight: Sight, place: KeyPlace) -> KeyPlace:
    """The place, completed where the actor has one choice only; refused where it may not be."""
    if sight.everywhere:
        return place
    actor = context.actor.user
    if place.organization is None and place.team is None and place.project is None:
        teams = set(sight.teams) | {scope.id for scope in sight.own if scope.level == "team"}
        only = society.tenants.get(("team", next(iter(teams)) or "")) if len(teams) == 1 else None
        if sight.organizations and not teams and len(sight.organizations) == 1:
            place = _with(place, organization=next(iter(sight.organizations)))
        elif only is not None and not sight.organizations:
            place = _with(place, organization=only.organization, team=only.id)
        else:
            raise BadRequest("team is missing: say which one the key belongs to", param="team")
    if not sight.covers(place.organization, place.team):
        # Only one's own is reached here: the key is the actor's, and no service account's.
        if place.user is None and actor is not None and not place.service:
            place = _with(place, user=actor.id)
        if place.service or not sight.covers(place.organization, place.team, place.user):
            param = (
                "user" if place.user is not None and actor is not None and place.user != actor.id else "team"
            )
            raise NotFound(f"no {param} has this id or name", param=param)
    return place


def _with(place: KeyPlace, **changes: str | None) -> KeyPlace:
    return replace(place, **changes)


def _named(
    context: Context, society: Belonging, sight: Sight, level: Level, text: str | None
) -> Tenant | None:
    """None for none, and for the label of a team or user where nobody has declared any."""
    if text is None:
        return None
    declared = [one for one in society.directory.tenants if one.level == level]
    if not declared and sight.everywhere and level in ("team", "user"):
        return None
    looks = context.actor.sight(f"{level}s.read")
    seen = [
        one
        for one in declared
        if text in (one.id, one.name)
        and (_own_home(context, one) or (looks is not None and visible(society, looks, one)))
    ]
    exact = [one for one in seen if one.id == text]
    if len(exact or seen) > 1:
        raise Conflict(f"several {level}s have this name: use the id", param=level)
    if not seen:
        raise NotFound(f"no {level} has this id or name", param=level)
    return (exact or seen)[0]


def _own_home(context: Context, one: Tenant) -> bool:
    """An organization's id may be named by those who hold a role in it, even if they cannot look at it."""
    return one.level == "organization" and any(
        each.scope.level == "organization" and each.scope.id == one.id for each in context.actor.assignments
    )


def _belongs(society: Belonging, user: Tenant, team: Tenant) -> bool:
    if team.organization is not None and user.organization == team.organization:
        return True
    return any(
        (one.level, one.tenant) in (("team", team.id), ("organization", team.organization))
        for one in society.memberships(user.id)
    )
