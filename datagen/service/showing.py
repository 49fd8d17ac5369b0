"""Lists that are shown although a row of them cannot be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog
from sqlalchemy.exc import DBAPIError

from datagen.errors import reason_of

log = structlog.get_logger()


Row = TypeVar("Row")
Shown = TypeVar("Shown")


def those_shown(rows: Sequence[Row], show: Callable[[Sequence[Row]], list[Shown]]) -> list[Shown]:
    """The rows of a list in their wire form, without those that have none.

    A row that another version wrote, or that was damaged, may fail to be shown. It is left out and
    logged with its id; the others are shown.

    Args:
        rows: of one table.
        show: gives the wire form of some of them, in their order.
    """
    try:
        return show(rows)
    except DBAPIError:
        raise
    except Exception:  # noqa: BLE001 - whatever it is, the list stands; each row is logged below
        return [one for row in rows for one in _shown_or_none(row, show)]


def _shown_or_none(row: Row, show: Callable[[Sequence[Row]], list[Shown]]) -> list[Shown]:
    try:
        return show([row])
    except DBAPIError:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        log.error(  # noqa: TRY400 - the reason says it; the row is what is wrong
            "row_not_shown",
            of=type(row).__name__.lower(),
            id=str(getattr(row, "id", "")),
            reason=reason_of(error),
        )
        return []
