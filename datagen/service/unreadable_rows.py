"""Lists with a row that cannot be read: the other rows are returned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog
from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError

from datagen.errors import reason_of

log = structlog.get_logger()

Row = TypeVar("Row")
Schema = TypeVar("Schema")
ToSchemas = Callable[[Sequence[Row]], list[Schema]]


def skip_unreadable(rows: Sequence[Row], to_schemas: ToSchemas[Row, Schema]) -> list[Schema]:
    """The schemas of a list's rows, without the rows that have none.

    A row that another version wrote, or that was damaged, may not fit its schema. It is left out
    and logged with its id.

    Args:
        rows: of one table.
        to_schemas: gives the schemas of some of them, in their order.
    """
    try:
        return to_schemas(rows)
    except DBAPIError:
        raise
    except Exception:  # noqa: BLE001 - whatever it is, the list stands; each row is logged below
        return [schema for row in rows for schema in _schema_or_none(row, to_schemas)]


def _schema_or_none(row: Row, to_schemas: ToSchemas[Row, Schema]) -> list[Schema]:
    try:
        return to_schemas([row])
    except DBAPIError:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        log.error(  # noqa: TRY400 - the reason says it; the row is what is wrong
            "row_unreadable",
            of=type(row).__name__.lower(),
            id=str(inspect(row).identity),
            reason=reason_of(error),
        )
        return []
