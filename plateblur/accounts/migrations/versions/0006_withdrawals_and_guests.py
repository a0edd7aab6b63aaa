"""Orders can be cancelled and withdrawn from, and visitors may try the service."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Bring the tables to this step."""
    op.add_column("invoices", sa.Column("cancelled_at", MOMENT, nullable=True))
    op.add_column("invoices", sa.Column("terms", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("invoices", sa.Column("local_vat", sa.Text(), nullable=False, server_default=""))
    op.create_table(
        "credit_notes",
        sa.Column("id", ID, nullable=False),
        sa.Column("invoice_id", ID, nullable=False),
        sa.Column("number", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("net_cents", sa.Integer(), nullable=False),
        sa.Column("vat_cents", sa.Integer(), nullable=False),
        sa.Column("issued_at", MOMENT, nullable=False),
        sa.Column("refund_due", sa.Boolean(), nullable=False),
        sa.Column("refunded_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("invoice_id"),
        sa.UniqueConstraint("number"),
    )
    op.create_table(
        "withdrawals",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("contract", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("declared_at", MOMENT, nullable=False),
        sa.Column("credit_note", sa.Text(), nullable=False),
        sa.Column("settled_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_withdrawals_declared_at"), "withdrawals", ["declared_at"])
    op.create_table(
        "guest_photos",
        sa.Column("id", ID, nullable=False),
        sa.Column("block_hash", sa.String(length=64), nullable=False),
        sa.Column("tried_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_guest_photos_block_hash"), "guest_photos", ["block_hash"])
    op.create_index(op.f("ix_guest_photos_tried_at"), "guest_photos", ["tried_at"])
