"""Sign-ups stand apart from accounts; sessions and links end with the password; stray payments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Bring the tables to this step."""
    op.create_table(
        "pending_sign_ups",
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("email_key", sa.Text(), nullable=False),
        sa.Column("username", sa.Text(), nullable=True),
        sa.Column("username_key", sa.Text(), nullable=True),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("consents", sa.JSON(), nullable=False),
        sa.Column("signed_up_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("secret_hash"),
    )
    for column in ("email_key", "username_key", "expires_at"):
        op.create_index(op.f(f"ix_pending_sign_ups_{column}"), "pending_sign_ups", [column])
    op.create_table(
        "stray_payments",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("invoice_number", sa.Text(), nullable=False),
        sa.Column("amount_cents", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("came_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("event_id"),
    )
    accounts = sa.table("accounts", sa.column("id"), sa.column("credentials_version"))
    for name in ("sessions", "mailed_links"):
        op.add_column(
            name, sa.Column("credentials_version", sa.Integer(), nullable=False, server_default="0")
        )
        table = sa.table(name, sa.column("account_id"), sa.column("credentials_version"))
        now = sa.select(accounts.c.credentials_version).where(accounts.c.id == table.c.account_id)
        op.execute(sa.update(table).values(credentials_version=now.scalar_subquery()))
    _move_sign_ups()


def _move_sign_ups() -> None:
    """Take what waits for its link out of the accounts; the links that were mailed still work.

    An account that waits without a link was made by the operator, and stays; a sign-up whose link
    was too old goes. The two are distinguished by the consents, which a sign-up alone has.
    """
    connection = op.get_bind()
    moment = sa.DateTime(timezone=True)
    accounts = sa.table(
        "accounts",
        *map(
            sa.column,
            ("id", "email", "email_key", "username", "username_key", "password_hash", "status"),
        ),
        sa.column("created_at", moment),
    )
    links = sa.table(
        "mailed_links",
        *map(sa.column, ("secret_hash", "account_id", "purpose")),
        sa.column("expires_at", moment),
    )
    consents = sa.table(
        "consents",
        *map(sa.column, ("id", "account_id", "subject", "text_version")),
        sa.column("given", sa.Boolean()),
        sa.column("decided_at", moment),
    )
    pending = sa.table(
        "pending_sign_ups",
        *map(
            sa.column,
            ("secret_hash", "email", "email_key", "username", "username_key", "password_hash"),
        ),
        sa.column("consents", sa.JSON()),
        sa.column("signed_up_at", moment),
        sa.column("expires_at", moment),
    )
    waiting = connection.execute(
        sa.select(accounts, links.c.secret_hash, links.c.expires_at)
        .join(links, links.c.account_id == accounts.c.id)
        .where(accounts.c.status == "pending", links.c.purpose == "activate")
    ).all()
    for row in waiting:
        decided = connection.execute(
            sa.select(consents).where(consents.c.account_id == row.id).order_by(consents.c.id)
        ).all()
        connection.execute(
            sa.insert(pending).values(
                secret_hash=row.secret_hash,
                email=row.email,
                email_key=row.email_key,
                username=row.username,
                username_key=row.username_key,
                password_hash=row.password_hash,
                consents=[
                    {
                        "subject": one.subject,
                        "text_version": one.text_version,
                        "given": one.given,
                    }
                    for one in decided
                ],
                signed_up_at=row.created_at,
                expires_at=row.expires_at,
            )
        )
        connection.execute(sa.delete(accounts).where(accounts.c.id == row.id))
    connection.execute(sa.delete(links).where(links.c.purpose == "activate"))
    signed_up = sa.select(consents.c.account_id)
    connection.execute(
        sa.delete(accounts).where(accounts.c.status == "pending", accounts.c.id.in_(signed_up))
    )
