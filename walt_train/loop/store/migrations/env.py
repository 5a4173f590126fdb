"""Alembic runs this before the revisions in `versions/`: they go through the connection that opens the store.

A new revision is one file, NNNN_area.py, with `revision`, `down_revision` (the newest there is when it is added:
the chain is linear) and `upgrade()`. It takes nothing from our tables' modules, which change: it writes columns out,
in plain SQL types. There is no way back; whoever wants one restores a backup.
"""

from __future__ import annotations

import logging

from alembic import context

# Alembic's own notes at INFO ("Context impl ...") are no news to who starts a worker.
logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)
context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
