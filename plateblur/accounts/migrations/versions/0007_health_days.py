"""The status page shows the last days."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Bring the tables to this step."""
    op.create_table(
        "health_days",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("part", sa.String(length=32), nullable=False),
        sa.Column("slots", sa.String(length=288), nullable=False),
        sa.PrimaryKeyConstraint("day", "part"),
    )
