"""Requests can have an idempotency key, with which they are counted once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Bring the tables to this step."""
    for name in ("once_key", "once_request"):
        op.add_column("requests", sa.Column(name, sa.String(length=64), nullable=True))
    op.add_column(
        "requests", sa.Column("repeats", sa.Integer(), nullable=False, server_default="0")
    )
    op.create_index("ix_requests_once", "requests", ["account_id", "once_key"], unique=True)
