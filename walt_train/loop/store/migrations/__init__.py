"""The store's revisions, run by Alembic when a store is opened."""
