"""Exports of several jobs and of datasets, when they expire; licences of datasets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26_exports"
down_revision = "2026_11_25_reports"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_exports = sa.table(
    "exports",
    sa.column("id", sa.Uuid()),
    sa.column("job_id", sa.Uuid()),
    sa.column("format", sa.String()),
    sa.column("request", sa.JSON()),
)
_export_jobs = sa.table(
    "export_jobs",
    sa.column("export_id", sa.Uuid()),
    sa.column("position", sa.Integer()),
    sa.column("job_id", sa.Uuid()),
)


def upgrade() -> None:
    op.add_column("datasets", sa.Column("license", sa.String(length=200), nullable=True))
    op.add_column("batches", sa.Column("repair_asked_at", _TIME, nullable=True))
    op.add_column("batches", sa.Column("repair_error", sa.Text(), nullable=True))
    with op.batch_alter_table("exports") as exports:
        exports.alter_column("job_id", existing_type=sa.Uuid(), nullable=True)
        exports.add_column(sa.Column("dataset_id", sa.Uuid(), nullable=True))
        exports.add_column(sa.Column("request", sa.JSON(), nullable=True))
        exports.add_column(sa.Column("warnings", sa.JSON(), nullable=True))
        exports.add_column(sa.Column("files_key", sa.String(length=200), nullable=True))
        exports.add_column(sa.Column("location", sa.String(length=300), nullable=True))
        exports.add_column(sa.Column("expires_at", _TIME, nullable=True))
        exports.create_foreign_key(
            op.f("fk_exports_dataset_id_datasets"), "datasets", ["dataset_id"], ["id"]
        )
        exports.create_index(op.f("ix_exports_dataset_id"), ["dataset_id"])
    op.create_table(
        "export_jobs",
        sa.Column("export_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["export_id"], ["exports.id"], name=op.f("fk_export_jobs_export_id_exports")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_export_jobs_job_id_jobs")),
        sa.PrimaryKeyConstraint("export_id", "position", name=op.f("pk_export_jobs")),
    )
    op.create_index(op.f("ix_export_jobs_job_id"), "export_jobs", ["job_id"])
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("value", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_secrets")),
    )
    _carry_over()


def _carry_over() -> None:
    """Write down of the exports that are there what they were made from."""
    connection = op.get_bind()
    for row in connection.execute(
        sa.select(_exports.c.id, _exports.c.job_id, _exports.c.format)
    ).all():
        request = {"job": str(row.job_id), "format": row.format}
        connection.execute(
            sa.update(_exports).where(_exports.c.id == row.id).values(request=request)
        )
        connection.execute(
            sa.insert(_export_jobs).values(export_id=row.id, position=0, job_id=row.job_id)
        )


def downgrade() -> None:
    op.drop_table("secrets")
    op.drop_table("export_jobs")
    connection = op.get_bind()
    # The version before knows exports of one job only.
    connection.execute(sa.delete(_exports).where(_exports.c.job_id.is_(None)))
    with op.batch_alter_table("exports") as exports:
        exports.drop_index(op.f("ix_exports_dataset_id"))
        exports.drop_constraint(op.f("fk_exports_dataset_id_datasets"), type_="foreignkey")
        for name in ("expires_at", "location", "files_key", "warnings", "request", "dataset_id"):
            exports.drop_column(name)
        exports.alter_column("job_id", existing_type=sa.Uuid(), nullable=False)
    op.drop_column("batches", "repair_error")
    op.drop_column("batches", "repair_asked_at")
    op.drop_column("datasets", "license")
