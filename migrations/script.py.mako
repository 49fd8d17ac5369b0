"""${message}

The revision is the file's name, at most 32 characters, and begins with the date: revisions sort by
age. Code of the version before must keep working on the schema that this step leaves behind.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
