"""Pipelines and their runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_29_pipelines"
down_revision = "2026_11_28_webhooks"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "pipelines",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("recipe", sa.JSON(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("next_due_at", _TIME, nullable=True),
        sa.Column("watched", sa.String(length=64), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["owners.id"], name=op.f("fk_pipelines_owner_id_owners")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipelines")),
        sa.UniqueConstraint("owner_id", "name", name=op.f("uq_pipelines_owner_id_name")),
    )
    op.create_index(op.f("ix_pipelines_next_due_at"), "pipelines", ["next_due_at"])
    op.create_index(op.f("ix_pipelines_watched"), "pipelines", ["owner_id", "watched"])
    op.create_table(
        "pipeline_runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("due_at", _TIME, nullable=False),
        sa.Column("cause", sa.String(length=16), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("recipe", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("retry", sa.Integer(), nullable=False),
        sa.Column("steps", sa.JSON(), nullable=False),
        sa.Column("waits_for", sa.String(length=16), nullable=True),
        sa.Column("waits_id", sa.Uuid(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("dataset_id", sa.Uuid(), nullable=True),
        sa.Column("model_id", sa.Uuid(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("report_id", sa.Uuid(), nullable=True),
        sa.Column("exports", sa.JSON(), nullable=False),
        sa.Column("images", sa.BigInteger(), nullable=True),
        sa.Column("sentence", sa.Text(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("attempt_floor", sa.Integer(), nullable=False),
        sa.Column("lease_until", _TIME, nullable=True),
        sa.Column("available_at", _TIME, nullable=False),
        sa.Column("sent_at", _TIME, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("started_at", _TIME, nullable=True),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_pipeline_runs_state"),
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["owners.id"], name=op.f("fk_pipeline_runs_owner_id_owners")
        ),
        sa.ForeignKeyConstraint(
            ["pipeline_id"], ["pipelines.id"], name=op.f("fk_pipeline_runs_pipeline_id_pipelines")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipeline_runs")),
        sa.UniqueConstraint(
            "pipeline_id", "due_at", name=op.f("uq_pipeline_runs_pipeline_id_due_at")
        ),
    )
    for name, columns in (
        ("ix_pipeline_runs_owner_id", ["owner_id"]),
        ("ix_pipeline_runs_pipeline_id_id", ["pipeline_id", "id"]),
        ("ix_pipeline_runs_state_lease_until", ["state", "lease_until"]),
        ("ix_pipeline_runs_waits_id", ["waits_id"]),
    ):
        op.create_index(op.f(name), "pipeline_runs", columns)


def downgrade() -> None:
    op.drop_table("pipeline_runs")
    op.drop_table("pipelines")
