"""Who shares the gateway: tenants, memberships, access groups, corrections of counters, users' tokens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

_TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "tenants",
        sa.Column("level", _TEXT, primary_key=True),
        sa.Column("id", _TEXT, primary_key=True),
        sa.Column("name", _TEXT, nullable=False),
        sa.Column("scope", _TEXT, nullable=False),
        sa.Column("organization", _TEXT),
        sa.Column("team", _TEXT),
        sa.Column("email", _TEXT),
        sa.Column("role", _TEXT),
        sa.Column("terms", _TEXT, nullable=False),
        sa.Column("members", _TEXT, nullable=False),
        sa.Column("keys", _TEXT, nullable=False),
        sa.Column("metadata", _TEXT, nullable=False),
        sa.Column("description", _TEXT, nullable=False),
        sa.Column("blocked", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float),
        sa.UniqueConstraint("level", "scope", "name", name="tenants_name"),
    )
    op.create_table(
        "memberships",
        sa.Column("level", _TEXT, primary_key=True),
        sa.Column("tenant", _TEXT, primary_key=True),
        sa.Column("user", _TEXT, primary_key=True),
        sa.Column("role", _TEXT, nullable=False),
        sa.Column("terms", _TEXT, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_index("memberships_user", "memberships", ["user"])
    op.create_table(
        "access_groups",
        sa.Column("id", _TEXT, primary_key=True),
        sa.Column("name", _TEXT, nullable=False),
        sa.Column("models", _TEXT, nullable=False),
        sa.Column("mcp_servers", _TEXT, nullable=False),
        sa.Column("description", _TEXT, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.UniqueConstraint("name", name="access_groups_name"),
    )
    op.create_table(
        "adjustments",
        sa.Column("id", _TEXT, primary_key=True),
        sa.Column("time", _TEXT, nullable=False),
        sa.Column("counter", _TEXT, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("reason", _TEXT, nullable=False),
        sa.Column("actor", _TEXT, nullable=False),
    )
    op.create_index("adjustments_counter_time", "adjustments", ["counter", "time"])
    op.create_index("adjustments_time", "adjustments", ["time"])
    op.create_table(
        "admin_tokens",
        sa.Column("id", _TEXT, primary_key=True),
        sa.Column("user", _TEXT, nullable=False),
        sa.Column("name", _TEXT, nullable=False),
        sa.Column("hash", _TEXT, nullable=False),
        sa.Column("hint", _TEXT, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
        sa.UniqueConstraint("hash", name="admin_tokens_hash"),
    )
    op.create_index("admin_tokens_user", "admin_tokens", ["user"])


def downgrade() -> None:
    for name in ("admin_tokens", "adjustments", "access_groups", "memberships", "tenants"):
        op.drop_table(name)
