"""Samplers: which one a job draws with, what each sample was made from, and the examples."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_24_samplers"
down_revision = "2026_11_23_first_tables"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("models", sa.Column("examples_digest", sa.String(length=64), nullable=True))
    op.add_column("models", sa.Column("examples_key", sa.String(length=200), nullable=True))
    # What there was before was drawn from the prior, and from no real image.
    op.add_column(
        "jobs",
        sa.Column("sampler", sa.String(length=16), nullable=False, server_default="prior"),
    )
    op.add_column("jobs", sa.Column("truncation", sa.Float(), nullable=True))
    for name in ("first_source", "second_source"):
        op.add_column(
            "samples", sa.Column(name, sa.BigInteger(), nullable=False, server_default="-1")
        )


def downgrade() -> None:
    for name in ("first_source", "second_source"):
        op.drop_column("samples", name)
    for name in ("sampler", "truncation"):
        op.drop_column("jobs", name)
    for name in ("examples_digest", "examples_key"):
        op.drop_column("models", name)
