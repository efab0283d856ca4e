"""Add cache keys, hosts and the site's response to captures; add failures and blocked images."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_MAX_CAPTURES = 100_000


def upgrade() -> None:
    """Add the columns, which are empty in old rows, and create the tables."""
    for name in ("key", "host", "headers", "final_url", "accept"):
        op.add_column("capture", sa.Column(name, sa.Text))
    # Without the old rows, which have no host yet: a million of them must not delay the opening.
    has_host = sa.text("host IS NOT NULL")
    op.create_index(
        "ix_capture_host", "capture", ["host"], sqlite_where=has_host, postgresql_where=has_host
    )
    # In a large catalog this takes seconds: it keeps the old index until `imgcache upgrade`.
    if (op.get_bind().scalar(sa.text("SELECT max(id) FROM capture")) or 0) <= _MAX_CAPTURES:
        op.create_index("ix_capture_history", "capture", ["url_digest", "lookup_time", "id"])
        op.drop_index("ix_capture_url_digest", "capture")
    op.create_table(
        "failure",
        sa.Column("digest", sa.LargeBinary(16), primary_key=True),
        sa.Column("bucket", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("http_status", sa.Integer),
        sa.Column("failed_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    for name in ("host", "failed_at", "expires_at"):
        op.create_index(f"ix_failure_{name}", "failure", [name])
    op.create_table(
        "blocked",
        sa.Column("content_hash", sa.String(64), primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
