"""Which processes live on the database, and what they share their counters through."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

_TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "processes",
        sa.Column("id", _TEXT, primary_key=True),
        sa.Column("place", _TEXT, nullable=False),
        sa.Column("host", _TEXT, nullable=False),
        sa.Column("sharing", _TEXT, nullable=False),
        sa.Column("beats", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("processes")
