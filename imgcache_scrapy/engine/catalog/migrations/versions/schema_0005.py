"""Add the day on which each image was last used."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_SECONDS_A_DAY = 86_400


def upgrade() -> None:
    """Add the columns. The last use of the old images is not known: it counts as today."""
    op.add_column("image", sa.Column("last_used", sa.Integer))
    op.add_column("imgcache_schema", sa.Column("used_since", sa.Integer))
    schema = sa.table("imgcache_schema", sa.column("used_since", sa.Integer))
    op.execute(schema.update().values(used_since=int(time.time()) // _SECONDS_A_DAY))
