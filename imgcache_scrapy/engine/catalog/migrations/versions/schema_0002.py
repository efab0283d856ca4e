"""Add the id of the cache, which its blobs have, too, and why an image cannot be decoded."""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns, and create the id of the cache."""
    op.add_column("imgcache_schema", sa.Column("cache_id", sa.String(32)))
    op.add_column("imgcache_schema", sa.Column("adopts_blobs", sa.Boolean))
    op.add_column("image", sa.Column("decode_error", sa.String(16)))
    schema = sa.table(
        "imgcache_schema", sa.column("cache_id", sa.String), sa.column("adopts_blobs", sa.Boolean)
    )
    # The blobs of schema 1 have no id: the catalog accepts blobs that contain its images.
    op.execute(schema.update().values(cache_id=uuid4().hex, adopts_blobs=True))
