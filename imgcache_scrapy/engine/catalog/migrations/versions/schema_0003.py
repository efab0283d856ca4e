"""Count the attempts to decode an image, and find the images that are not decoded yet."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column, and an index of the few images that are not decoded."""
    op.add_column(
        "image", sa.Column("decode_attempts", sa.Integer, nullable=False, server_default="0")
    )
    is_not_decoded = sa.text("width IS NULL AND decode_error IS NULL")
    op.create_index(
        "ix_image_not_decoded",
        "image",
        ["content_hash"],
        sqlite_where=is_not_decoded,
        postgresql_where=is_not_decoded,
    )
