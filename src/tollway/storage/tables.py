"""The tables, as data. The roll-ups and the events share their columns of units, so that one can be summed
into the other. No query is here."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    LargeBinary,
    MetaData,
    Table,
    UniqueConstraint,
    false,
    text,
)

from tollway.storage.columns import SEQUENCE
from tollway.storage.columns import TEXT as Text
from tollway.storage.entries import DIMENSIONS, MEASURES, PLAIN_UNITS

metadata = MetaData()


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


def _rolled_up() -> list[Column[bytes] | Column[str] | Column[int]]:
    """What stands beside the time: all names of the primary key in one digest, since theirs have no bound."""
    return [
        Column("digest", LargeBinary, primary_key=True),
        *(Column(name, Text, nullable=False) for name in DIMENSIONS),
        *(_count(name) for name in MEASURES),
    ]


def _sparse(name: str) -> Index:
    """An index of the events that have the dimension: many installations use few of them."""
    given = text(f'"{name}" IS NOT NULL')
    return Index(f"events_{name}_time", name, "time", sqlite_where=given, postgresql_where=given)


keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("hint", Text, nullable=False),
    Column("models", Text, nullable=False),
    Column("budgets", Text, nullable=False),
    Column("limits", Text, nullable=False),
    Column("team", Text),
    Column("user", Text),
    Column("customer", Text),
    Column("tags", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("blocked", Boolean(create_constraint=False), nullable=False),
    Column("revoked_at", Float),
    Column("owner", Text, nullable=False),
    Column("more", Text, nullable=False, server_default="{}"),
    Column("organization", Text),
    Column("project", Text),
    Column("service", Boolean(create_constraint=False), nullable=False, server_default=false()),
    Column("description", Text, nullable=False, server_default=""),
    Column("former_hash", Text),
    Column("former_until", Float),
    Column("created_by", Text),
    # The organization, or nothing: a name is taken within one organization only.
    Column("scope", Text, nullable=False, server_default=""),
    UniqueConstraint("scope", "name", name="keys_name"),
    UniqueConstraint("hash", name="keys_hash"),
)

events = Table(
    "events",
    metadata,
    # On PostgreSQL this table is partitioned by the month of ``time`` and its primary key is (id, time).
    # The order of arrival; breaks ties between events of the same millisecond.
    Column("seq", SEQUENCE, primary_key=True),
    # ``ue_{request_id}_{attempt}``: a request's events lie beside one another.
    Column("id", Text, nullable=False),
    Column("time", Text, nullable=False),
    *(Column(name, Text) for name in DIMENSIONS),
    Column("outcome", Text, nullable=False),
    Column("priced", Boolean(create_constraint=False), nullable=False),
    Column("cost_nano_usd", BigInteger, nullable=False),
    *(_count(name) for name in PLAIN_UNITS),
    Column("other_units", Text),
    Column("event", LargeBinary, nullable=False),
    Index("events_id", "id", unique=True),
    Index("events_time", "time"),
    Index("events_key_id_time", "key_id", "time"),
    *(_sparse(name) for name in ("organization", "team", "project", "user", "customer")),
    Index(
        "events_outcome_time",
        "outcome",
        "time",
        sqlite_where=text("outcome <> 'ok'"),
        postgresql_where=text("outcome <> 'ok'"),
    ),
    Index("events_model_time", "model", "time"),
)

rollups = Table(
    "rollups",
    metadata,
    Column("day", Text, primary_key=True),
    *_rolled_up(),
    Index("rollups_key_id_day", "key_id", "day"),
    # From a key's name to its ids, so that the events need one index for both.
    Index("rollups_key", "key", "key_id"),
    sqlite_with_rowid=False,
)

rollups_hourly = Table(
    "rollups_hourly",
    metadata,
    # Such as ``2026-11-22T10``: an hour of UTC.
    Column("hour", Text, primary_key=True),
    *_rolled_up(),
    sqlite_with_rowid=False,
)

bodies = Table(
    "bodies",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("request", LargeBinary),
    Column("response", LargeBinary),
    Column("expires_at", Float, nullable=False),
    Index("bodies_expires_at", "expires_at"),
)

objects = Table(
    "objects",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    # The empty string: this gateway keeps it itself.
    Column("provider", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("team", Text),
    Column("model", Text, nullable=False),
    Column("deployment", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float),
    Column("settled", Boolean(create_constraint=False), nullable=False),
    Column("shown", LargeBinary, nullable=False),
    Column("state", LargeBinary, nullable=False),
    Index("objects_kind_owner_created", "kind", "owner", "created", "id"),
    Index("objects_kind_created", "kind", "created", "id"),
    Index(
        "objects_unsettled",
        "kind",
        "created",
        sqlite_where=text("settled = 0"),
        postgresql_where=text("NOT settled"),
    ),
    Index(
        "objects_expires",
        "expires",
        sqlite_where=text("expires IS NOT NULL"),
        postgresql_where=text("expires IS NOT NULL"),
    ),
)

responses = Table(
    "responses",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("team", Text),
    # The empty string: this gateway keeps it itself.
    Column("provider", Text, nullable=False),
    Column("deployment", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("background", Boolean(create_constraint=False), nullable=False),
    Column("previous", Text),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("input", LargeBinary, nullable=False),
    Column("response", LargeBinary, nullable=False),
    Column("events", LargeBinary, nullable=False),
    Index("responses_expires", "expires"),
    Index(
        "responses_unfinished",
        "created",
        sqlite_where=text("status IN ('queued', 'in_progress')"),
        postgresql_where=text("status IN ('queued', 'in_progress')"),
    ),
)

generation = Table(
    "generation",
    metadata,
    Column("name", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
)

spool_positions = Table(
    "spool_positions",
    metadata,
    Column("spool", Text, primary_key=True),
    Column("segment", BigInteger, nullable=False),
    Column("offset", BigInteger, nullable=False),
)

ledger_state = Table(
    "ledger_state",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""``purged_before``: the UTC day before which events were deleted and the roll-ups alone remember. ``hours_before``:
the UTC day before which the hourly roll-ups were deleted."""

tenants = Table(
    "tenants",
    metadata,
    Column("level", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    # The organization, or nothing: a name is taken within one organization only.
    Column("scope", Text, nullable=False),
    Column("organization", Text),
    Column("team", Text),
    Column("email", Text),
    Column("role", Text),
    Column("terms", Text, nullable=False),
    Column("members", Text, nullable=False),
    Column("keys", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("blocked", Boolean(create_constraint=False), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    UniqueConstraint("level", "scope", "name", name="tenants_name"),
)

memberships = Table(
    "memberships",
    metadata,
    Column("level", Text, primary_key=True),
    Column("tenant", Text, primary_key=True),
    Column("user", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("terms", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Index("memberships_user", "user"),
)

access_groups = Table(
    "access_groups",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("models", Text, nullable=False),
    Column("mcp_servers", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("name", name="access_groups_name"),
)

adjustments = Table(
    "adjustments",
    metadata,
    Column("id", Text, primary_key=True),
    Column("time", Text, nullable=False),
    # Named as claims name it, such as ``team:search:usd:month``.
    Column("counter", Text, nullable=False),
    # In the counter's unit; negative where something is forgiven.
    Column("amount", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Index("adjustments_counter_time", "counter", "time"),
    Index("adjustments_time", "time"),
)

admin_tokens = Table(
    "admin_tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("hint", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    UniqueConstraint("hash", name="admin_tokens_hash"),
    Index("admin_tokens_user", "user"),
)

processes = Table(
    "processes",
    metadata,
    Column("id", Text, primary_key=True),
    # Which data directory: its processes know of each other by their locks.
    Column("place", Text, nullable=False),
    Column("host", Text, nullable=False),
    # What they share their counters through, as a digest; empty: nothing.
    Column("sharing", Text, nullable=False),
    # Rises as long as the process lives, so that nobody has to compare clocks.
    Column("beats", BigInteger, nullable=False),
)
