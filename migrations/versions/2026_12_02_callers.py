"""Stored answers belong to one key or session, and sessions can be ended.

Answers that were stored before are deleted: they name an owner, and not who may have them again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_12_02_callers"
down_revision = "2026_12_01_job_notes"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _drop_replays()
    _create_replays(
        sa.Column("caller", sa.String(length=100), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("head", sa.LargeBinary(length=32), nullable=False),
        sa.Column("body_digest", sa.LargeBinary(length=32), nullable=True),
        sa.PrimaryKeyConstraint("caller", "key", name=op.f("pk_replays")),
    )
    op.create_table(
        "ended_sessions",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_ended_sessions")),
    )
    op.create_index(op.f("ix_ended_sessions_expires_at"), "ended_sessions", ["expires_at"])


def downgrade() -> None:
    op.drop_index(op.f("ix_ended_sessions_expires_at"), "ended_sessions")
    op.drop_table("ended_sessions")
    _drop_replays()
    _create_replays(
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["owners.id"], name=op.f("fk_replays_owner_id_owners")
        ),
        sa.PrimaryKeyConstraint("owner_id", "key", name=op.f("pk_replays")),
    )


def _drop_replays() -> None:
    op.drop_index(op.f("ix_replays_created_at"), "replays")
    op.drop_table("replays")


def _create_replays(*own: sa.Column[object] | sa.Constraint) -> None:
    op.create_table(
        "replays",
        *own,
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("headers", sa.JSON(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
    )
    op.create_index(op.f("ix_replays_created_at"), "replays", ["created_at"])
