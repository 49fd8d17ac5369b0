"""The generative core: what was found in a dataset, what a model keeps, figures, tombstones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_25_generative_core"
down_revision = "2026_11_24_samplers"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_STATES = "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')"


def upgrade() -> None:
    op.add_column("datasets", sa.Column("report", sa.JSON(), nullable=True))
    op.add_column("datasets", sa.Column("removed_at", _TIME, nullable=True))
    op.add_column("models", sa.Column("dataset_digest", sa.String(length=64), nullable=True))
    op.add_column("models", sa.Column("config", sa.JSON(), nullable=True))
    op.add_column("models", sa.Column("seconds", sa.Float(), nullable=False, server_default="0"))
    op.add_column("models", sa.Column("device", sa.String(length=64), nullable=True))
    op.add_column("models", sa.Column("removed_at", _TIME, nullable=True))
    op.execute(
        "UPDATE models SET dataset_digest = "
        "(SELECT digest FROM datasets WHERE datasets.id = models.dataset_id)"
    )
    op.create_table(
        "figures",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=True),
        sa.Column("dataset_key", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("names", sa.JSON(), nullable=False),
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
        sa.CheckConstraint(_STATES, name=op.f("ck_figures_state")),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_figures_dataset_id_datasets")
        ),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_figures_model_id_models")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_figures")),
        sa.UniqueConstraint(
            "model_id", "dataset_key", name=op.f("uq_figures_model_id_dataset_key")
        ),
    )
    op.create_index(op.f("ix_figures_dataset_id"), "figures", ["dataset_id"])
    op.create_index("ix_figures_state_lease_until", "figures", ["state", "lease_until"])


def downgrade() -> None:
    op.drop_table("figures")
    for name in ("removed_at", "device", "seconds", "config", "dataset_digest"):
        op.drop_column("models", name)
    for name in ("removed_at", "report"):
        op.drop_column("datasets", name)
