"""Reports: what labelled images are worth, measured beside real ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_25_reports"
down_revision = "2026_11_25_gate"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_STATES = "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')"


def upgrade() -> None:
    op.create_table(
        "reports",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("dataset_id", sa.Uuid(), nullable=True),
        sa.Column("dataset_key", sa.String(length=64), nullable=False),
        sa.Column("quick", sa.Boolean(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("progress", sa.JSON(), nullable=False),
        sa.Column("outcome", sa.String(length=32), nullable=True),
        sa.Column("sentence", sa.Text(), nullable=True),
        sa.Column("state_key", sa.String(length=200), nullable=True),
        sa.Column("archive_key", sa.String(length=200), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("attempt_floor", sa.Integer(), nullable=False),
        sa.Column("lease_until", _TIME, nullable=True),
        sa.Column("available_at", _TIME, nullable=False),
        sa.Column("sent_at", _TIME, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("started_at", _TIME, nullable=True),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.CheckConstraint(_STATES, name=op.f("ck_reports_state")),
        *(
            sa.ForeignKeyConstraint(
                [f"{kind}_id"], [f"{kind}s.id"], name=op.f(f"fk_reports_{kind}_id_{kind}s")
            )
            for kind in ("owner", "model", "job", "dataset")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reports")),
    )
    for kind in ("model", "job", "dataset"):
        op.create_index(op.f(f"ix_reports_{kind}_id"), "reports", [f"{kind}_id"])
    op.create_index("ix_reports_owner_id_id", "reports", ["owner_id", "id"])
    op.create_index("ix_reports_state_lease_until", "reports", ["state", "lease_until"])


def downgrade() -> None:
    op.drop_table("reports")
