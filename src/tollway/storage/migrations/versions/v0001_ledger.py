"""Keys, events, daily roll-ups, bodies, objects, responses, the counter of changes and the spool's positions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_DIMENSIONS = ("key_id", "key", "team", "user", "customer", "endpoint", "model", "provider", "upstream_model")
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
_MEASURES = ("requests", "errors", *_UNITS, "cost_nano_usd", "unpriced_requests")


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def upgrade() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("hint", sa.Text, nullable=False),
        sa.Column("models", sa.Text, nullable=False),
        sa.Column("budgets", sa.Text, nullable=False),
        sa.Column("limits", sa.Text, nullable=False),
        sa.Column("team", sa.Text),
        sa.Column("user", sa.Text),
        sa.Column("customer", sa.Text),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float),
        sa.Column("blocked", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("revoked_at", sa.Float),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("more", sa.Text, nullable=False, server_default="{}"),
        sa.Column("organization", sa.Text),
        sa.Column("project", sa.Text),
        sa.Column("service", sa.Boolean(create_constraint=False), nullable=False, server_default=sa.false()),
        sa.Column("description", sa.Text, nullable=False, server_default=""),
        sa.Column("former_hash", sa.Text),
        sa.Column("former_until", sa.Float),
        sa.Column("created_by", sa.Text),
        sa.Column("scope", sa.Text, nullable=False, server_default=""),
        sa.UniqueConstraint("scope", "name", name="keys_name"),
        sa.UniqueConstraint("hash", name="keys_hash"),
    )
    op.create_table(
        "events",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("time", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text) for name in _DIMENSIONS),
        sa.Column("error", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("priced", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("cost_nano_usd", sa.BigInteger, nullable=False),
        *(_count(name) for name in ("input", "cache_read", "output")),
        sa.Column("other_units", sa.Text),
        sa.Column("event", sa.LargeBinary, nullable=False),
    )
    op.create_index("events_id", "events", ["id"], unique=True)
    op.create_index("events_time", "events", ["time"])
    op.create_index("events_key_id_time", "events", ["key_id", "time"])
    op.create_index("events_team_time", "events", ["team", "time"], sqlite_where=sa.text("team IS NOT NULL"))
    op.create_index("events_model_time", "events", ["model", "time"])
    op.create_table(
        "rollups",
        sa.Column("day", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, primary_key=True) for name in _DIMENSIONS),
        *(_count(name) for name in _MEASURES),
        sqlite_with_rowid=False,
    )
    op.create_index("rollups_key_id_day", "rollups", ["key_id", "day"])
    op.create_index("rollups_key", "rollups", ["key", "key_id"])
    op.create_table(
        "bodies",
        sa.Column("event_id", sa.Text, primary_key=True),
        sa.Column("request", sa.LargeBinary),
        sa.Column("response", sa.LargeBinary),
        sa.Column("expires_at", sa.Float, nullable=False),
    )
    op.create_index("bodies_expires_at", "bodies", ["expires_at"])
    op.create_table(
        "objects",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("team", sa.Text),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("deployment", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("expires", sa.Float),
        sa.Column("settled", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("shown", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
    )
    op.create_index("objects_kind_owner_created", "objects", ["kind", "owner", "created", "id"])
    op.create_index("objects_kind_created", "objects", ["kind", "created", "id"])
    op.create_index("objects_unsettled", "objects", ["kind", "created"], sqlite_where=sa.text("settled = 0"))
    op.create_index("objects_expires", "objects", ["expires"], sqlite_where=sa.text("expires IS NOT NULL"))
    op.create_table(
        "responses",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("team", sa.Text),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("deployment", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("background", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("previous", sa.Text),
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
    )
    op.create_table(
        "generation",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "spool_positions",
        sa.Column("spool", sa.Text, primary_key=True),
        sa.Column("segment", sa.BigInteger, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "ledger_state",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )


def downgrade() -> None:
    for name in (
        "ledger_state", "spool_positions", "generation", "responses", "objects", "bodies", "rollups", "events", "keys",
    ):  # fmt: skip
        op.drop_table(name)
