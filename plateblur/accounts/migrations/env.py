"""Run by Alembic inside the transaction that `Store.migrate` opened and locked."""

from __future__ import annotations

from alembic import context

from plateblur.accounts.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,  # also SQLite: a step that fails leaves nothing
)
with context.begin_transaction():
    context.run_migrations()
