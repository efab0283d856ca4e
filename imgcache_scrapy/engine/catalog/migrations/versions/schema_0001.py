"""Create the tables of schema 1: images, captures, and the number of the schema.

The first release created these tables without Alembic.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    schema = op.create_table("imgcache_schema", sa.Column("number", sa.Integer, nullable=False))
    op.bulk_insert(schema, [{"number": 1}])
    op.create_table(
        "image",
        sa.Column("content_hash", sa.String(64), primary_key=True),
        sa.Column("content_type", sa.String(64), nullable=False),
        sa.Column("file_size_bytes", sa.BigInteger, nullable=False),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("perceptual_hash", sa.String(16)),
        *(sa.Column(f"band{i}", sa.Integer, index=True) for i in range(5)),
        sa.Column("damaged", sa.Boolean, nullable=False),
    )
    op.create_table(
        "capture",
        # SQLite numbers rows automatically only if the key is INTEGER.
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("url_digest", sa.LargeBinary(16), nullable=False, index=True),
        sa.Column("bucket", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column(
            "content_hash",
            sa.String(64),
            sa.ForeignKey("image.content_hash"),
            nullable=False,
            index=True,
        ),
        sa.Column("original_filename", sa.Text),
        sa.Column("client_name", sa.Text, nullable=False),
        sa.Column("lookup_time", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        # An id is never used again: the search index would miss the second URL of the same id.
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_capture_newest_first", "capture", [sa.text("lookup_time DESC"), sa.text("id DESC")]
    )
