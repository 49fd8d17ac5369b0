"""The gate: what a job rejects, redraws and leaves out; the training index that a model carries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_25_gate"
down_revision = "2026_11_25_generative_core"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_REASONS = ("score", "copy", "duplicate")


def upgrade() -> None:
    op.add_column("models", sa.Column("index_digest", sa.String(length=64), nullable=True))
    op.add_column("models", sa.Column("index_key", sa.String(length=200), nullable=True))
    op.add_column("jobs", sa.Column("gate", sa.JSON(), nullable=True))
    for table, name in (
        ("jobs", "images_short"),
        *(("job_labels", f"rejected_{reason}") for reason in _REASONS),
        ("job_labels", "short"),
    ):
        op.add_column(table, sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("rounds", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("settle_sent_at", _TIME, nullable=True))
    op.create_table(
        "redraws",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_redraws_job_id_jobs")),
        sa.PrimaryKeyConstraint("job_id", "index", name=op.f("pk_redraws")),
    )


def downgrade() -> None:
    op.drop_table("redraws")
    for name in ("short", *(f"rejected_{reason}" for reason in reversed(_REASONS))):
        op.drop_column("job_labels", name)
    for name in ("settle_sent_at", "rounds", "images_short", "gate"):
        op.drop_column("jobs", name)
    for name in ("index_key", "index_digest"):
        op.drop_column("models", name)
