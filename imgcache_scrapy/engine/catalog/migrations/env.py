"""Run the migrations on the connection that `upgrade` gives; Alembic looks for this file."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    # Not Alembic's usual name: another program may keep its own tables in the same database.
    version_table="imgcache_alembic_version",
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
