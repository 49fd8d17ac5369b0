"""What was granted of a quota of images, so that not every job is added up for the next one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_28_owners"
down_revision = "2026_11_27_webhooks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("owners", sa.Column("images_granted", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("owners") as owners:
        owners.drop_column("images_granted")
