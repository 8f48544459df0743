"""Keys, events, daily roll-ups, bodies, objects, responses, the counter of changes and the spool's positions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.schema import SchemaItem

revision = "0001"
down_revision = None

_DIMENSIONS = (
    "key_id",
    "key",
    "organization",
    "team",
    "project",
    "user",
    "customer",
    "tags",
    "endpoint",
    "model",
    "provider",
    "upstream_model",
)
_UNITS = (
    "input",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "output",
    "reasoning",
    "audio_input",
    "audio_output",
    "images",
    "video_seconds",
    "characters",
    "seconds",
    "pages",
    "searches",
    "service_calls",
)
_MEASURES = ("requests", "errors", "corrections", *_UNITS, "cost_nano_usd", "unpriced_requests")


_TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def upgrade() -> None:
    op.create_table(
        "keys",
        sa.Column("id", _TEXT, primary_key=True),
        sa.Column("name", _TEXT, nullable=False),
        sa.Column("hash", _TEXT, nullable=False),
        sa.Column("hint", _TEXT, nullable=False),
        sa.Column("models", _TEXT, nullable=False),
        sa.Column("budgets", _TEXT, nullable=False),
        sa.Column("limits", _TEXT, nullable=False),
        sa.Column("team", _TEXT),
        sa.Column("user", _TEXT),
        sa.Column("customer", _TEXT),
        sa.Column("tags", _TEXT, nullable=False),
        sa.Column("metadata", _TEXT, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float),
        sa.Column("blocked", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("revoked_at", sa.Float),
        sa.Column("owner", _TEXT, nullable=False),
        sa.Column("more", _TEXT, nullable=False, server_default="{}"),
        sa.Column("organization", _TEXT),
        sa.Column("project", _TEXT),
        sa.Column("service", sa.Boolean(create_constraint=False), nullable=False, server_default=sa.false()),
        sa.Column("description", _TEXT, nullable=False, server_default=""),
        sa.Column("former_hash", _TEXT),
        sa.Column("former_until", sa.Float),
        sa.Column("created_by", _TEXT),
        sa.Column("scope", _TEXT, nullable=False, server_default=""),
        sa.UniqueConstraint("scope", "name", name="keys_name"),
        sa.UniqueConstraint("hash", name="keys_hash"),
    )
    order: list[SchemaItem]
    if op.get_context().dialect.name == "postgresql":
        op.execute("CREATE SEQUENCE events_seq")
        number = sa.text("nextval('events_seq')")
        order = [
            sa.Column("seq", sa.BigInteger, nullable=False, server_default=number),
            # An event's time never changes, so its id is unique still.
            sa.PrimaryKeyConstraint("id", "time", name="events_pkey"),
        ]
    else:
        order = [sa.Column("seq", sa.Integer, primary_key=True)]
    op.create_table(
        "events",
        *order,
        sa.Column("id", _TEXT, nullable=False),
        sa.Column("time", _TEXT, nullable=False),
        *(sa.Column(name, _TEXT) for name in _DIMENSIONS),
        sa.Column("outcome", _TEXT, nullable=False),
        sa.Column("priced", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("cost_nano_usd", sa.BigInteger, nullable=False),
        *(_count(name) for name in ("input", "cache_read", "output")),
        sa.Column("other_units", _TEXT),
        sa.Column("event", sa.LargeBinary, nullable=False),
        postgresql_partition_by="RANGE (time)",
    )
    if op.get_context().dialect.name != "postgresql":
        op.create_index("events_id", "events", ["id"], unique=True)
    op.create_index("events_time", "events", ["time"])
    op.create_index("events_key_id_time", "events", ["key_id", "time"])
    for name in ("organization", "team", "project", "user", "customer"):
        given = sa.text(f'"{name}" IS NOT NULL')
        op.create_index(
            f"events_{name}_time", "events", [name, "time"], sqlite_where=given, postgresql_where=given
        )
    failed = sa.text("outcome <> 'ok'")
    op.create_index(
        "events_outcome_time", "events", ["outcome", "time"], sqlite_where=failed, postgresql_where=failed
    )
    op.create_index("events_model_time", "events", ["model", "time"])
    for table, time in (("rollups", "day"), ("rollups_hourly", "hour")):
        op.create_table(
            table,
            sa.Column(time, _TEXT, primary_key=True),
            sa.Column("digest", sa.LargeBinary, primary_key=True),
            *(sa.Column(name, _TEXT, nullable=False) for name in _DIMENSIONS),
            *(_count(name) for name in _MEASURES),
            sqlite_with_rowid=False,
        )
    op.create_index("rollups_key_id_day", "rollups", ["key_id", "day"])
    op.create_index("rollups_key", "rollups", ["key", "key_id"])
    op.create_table(
        "bodies",
        sa.Column("event_id", _TEXT, primary_key=True),
        sa.Column("request", sa.LargeBinary),
        sa.Column("response", sa.LargeBinary),
        sa.Column("expires_at", sa.Float, nullable=False),
    )
    op.create_index("bodies_expires_at", "bodies", ["expires_at"])
    op.create_table(
        "objects",
        sa.Column("id", _TEXT, primary_key=True),
        sa.Column("kind", _TEXT, nullable=False),
        sa.Column("provider", _TEXT, nullable=False),
        sa.Column("owner", _TEXT, nullable=False),
        sa.Column("team", _TEXT),
        sa.Column("model", _TEXT, nullable=False),
        sa.Column("deployment", _TEXT, nullable=False),
        sa.Column("purpose", _TEXT, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("expires", sa.Float),
        sa.Column("settled", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("shown", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
    )
    op.create_index("objects_kind_owner_created", "objects", ["kind", "owner", "created", "id"])
    op.create_index("objects_kind_created", "objects", ["kind", "created", "id"])
    op.create_index(
        "objects_unsettled",
        "objects",
        ["kind", "created"],
        sqlite_where=sa.text("settled = 0"),
        postgresql_where=sa.text("NOT settled"),
    )
    op.create_index(
        "objects_expires",
        "objects",
        ["expires"],
        sqlite_where=sa.text("expires IS NOT NULL"),
        postgresql_where=sa.text("expires IS NOT NULL"),
    )
    op.create_table(
        "responses",
        sa.Column("id", _TEXT, primary_key=True),
        sa.Column("owner", _TEXT, nullable=False),
        sa.Column("team", _TEXT),
        sa.Column("provider", _TEXT, nullable=False),
        sa.Column("deployment", _TEXT, nullable=False),
        sa.Column("model", _TEXT, nullable=False),
        sa.Column("status", _TEXT, nullable=False),
        sa.Column("background", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("previous", _TEXT),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
        sa.Column("input", sa.LargeBinary, nullable=False),
        sa.Column("response", sa.LargeBinary, nullable=False),
        sa.Column("events", sa.LargeBinary, nullable=False),
    )
    op.create_index("responses_expires", "responses", ["expires"])
    op.create_index(
        "responses_unfinished",
        "responses",
        ["created"],
        sqlite_where=sa.text("status IN ('queued', 'in_progress')"),
        postgresql_where=sa.text("status IN ('queued', 'in_progress')"),
    )
    op.create_table(
        "generation",
        sa.Column("name", _TEXT, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "spool_positions",
        sa.Column("spool", _TEXT, primary_key=True),
        sa.Column("segment", sa.BigInteger, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "ledger_state",
        sa.Column("name", _TEXT, primary_key=True),
        sa.Column("value", _TEXT, nullable=False),
    )


def downgrade() -> None:
    for name in (
        "ledger_state", "spool_positions", "generation", "responses", "objects", "bodies", "rollups",
        "rollups_hourly", "events", "keys",
    ):  # fmt: skip
        op.drop_table(name)
