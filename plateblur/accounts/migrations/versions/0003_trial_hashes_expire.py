"""Trial hashes carry the moment of their trial, so that they can be deleted after a period."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Bring the tables to this step.

    A hash doesn't say whose trial it was, so that the period of existing hashes starts now.
    """
    now = datetime.now(UTC).replace(tzinfo=None)
    op.add_column(
        "trial_persons",
        sa.Column(
            "started_at", sa.DateTime(timezone=True), nullable=False, server_default=str(now)
        ),
    )
    # The default was for the existing rows; SQLite drops one only by writing the table again.
    with op.batch_alter_table("trial_persons") as table:
        table.alter_column("started_at", server_default=None)
    op.create_index(op.f("ix_trial_persons_started_at"), "trial_persons", ["started_at"])
