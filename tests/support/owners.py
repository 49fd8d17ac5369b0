"""Owners, as tests need them."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Engine

from datagen.db.session import writing
from datagen.db.tables import Owner, new_id


def add_owner(engine: Engine, name: str) -> Owner:
    """An owner who has nothing yet."""
    row = Owner(id=new_id(), name=name, created_at=datetime.now(UTC))
    with writing(engine) as session:
        session.add(row)
    return row
