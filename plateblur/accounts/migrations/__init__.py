"""Alembic's environment and the steps of the store's shape."""
