"""Add the uses of images: by which page, item, spider and job."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "image_use",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("digest", sa.LargeBinary(16), nullable=False),
        sa.Column(
            "content_hash", sa.String(64), sa.ForeignKey("image.content_hash"), nullable=False
        ),
        sa.Column("bucket", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("url_digest", sa.LargeBinary(16), nullable=False),
        sa.Column("page_url", sa.Text),
        sa.Column("page_digest", sa.LargeBinary(16)),
        sa.Column("item", sa.Text),
        sa.Column("spider", sa.Text),
        sa.Column("job", sa.Text),
        sa.Column("job_digest", sa.LargeBinary(16)),
        sa.Column("position", sa.Integer),
        sa.Column("alt", sa.Text),
        sa.Column("caption", sa.Text),
        sa.Column("meta", sa.Text),
        sa.Column("first_used_at", sa.BigInteger, nullable=False),
        sa.Column("used_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_image_use_digest", "image_use", ["digest"], unique=True)
    op.create_index("ix_image_use_content_hash", "image_use", ["content_hash", "id"])
    op.create_index("ix_image_use_page", "image_use", ["page_digest", "id"])
    op.create_index("ix_image_use_job", "image_use", ["job_digest", "id"])
