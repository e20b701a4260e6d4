"""Alembic's entry point: migrates the connection passed by `promptreel.api.db.migrate`."""

from alembic import context

from promptreel.api.db.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite changes a table by copying it
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
