"""Run the migrations on the connection of `upgrade`; Alembic runs this file by its name."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    # Not the default name, which another program may use in the same database.
    version_table="imgcache_alembic_version",
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
