"""Reports: what labelled images are worth, measured beside real ones."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from datagen.api.auth import Reader, ScopedRoute, Writer
from datagen.api.backends import Wired
from datagen.api.openapi import content_of, problems
from datagen.api.paging import Paged
from datagen.api.routes.jobs import Cursor, Limit
from datagen.db.session import reading, writing
from datagen.schemas import Page, Report, ReportCreate
from datagen.service import reports

router = APIRouter(prefix="/v1/reports", tags=["reports"], route_class=ScopedRoute)

_FILES = content_of(*reports.MEDIA_TYPES.values())
# What the page may do where a browser shows it: its own styles and pictures, and nothing else.
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"


@router.post("", status_code=202, summary="Measure images", responses=problems(404, 409))
def create_report(wanted: ReportCreate, answer: Response, backends: Wired, asker: Writer) -> Report:
    """Measure what the images of a job or a model are worth, beside real ones.

    Label fidelity, distances, coverage, copying, and whether a classifier that learns from them too
    sees real images better; with a verdict drawn from the intervals.
    """
    with writing(backends.engine) as session:
        report, messages = reports.create(session, asker.owner_id, wanted)
    backends.send(messages)
    answer.headers["Location"] = f"{router.prefix}/{report.id}"
    return report


@router.get("", summary="List reports, newest first", responses=problems())
def list_reports(
    backends: Wired,
    paging: Paged,
    asker: Reader,
    job: Annotated[UUID | None, Query(description="Only those of this job.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[Report]:
    """Your reports, in pages."""
    with reading(backends.engine) as session:
        return paging(
            reports.list_reports(session, asker.owner_id, job_id=job, limit=limit, cursor=cursor)
        )


@router.get("/{report_id}", summary="Read a report's state", responses=problems(404))
def read_report(report_id: UUID, backends: Wired, asker: Reader) -> Report:
    """The report as it is now: which step it is at, and the verdict once it is there."""
    with reading(backends.engine) as session:
        return reports.read(session, asker.owner_id, report_id)


@router.post("/{report_id}/cancel", summary="Cancel a report", responses=problems(404, 409))
def cancel_report(report_id: UUID, backends: Wired, asker: Writer) -> Report:
    """End it now."""
    with writing(backends.engine) as session:
        return reports.cancel(session, asker.owner_id, report_id)


@router.delete(
    "/{report_id}", status_code=204, summary="Remove a report", responses=problems(404, 409)
)
def remove_report(report_id: UUID, backends: Wired, asker: Writer) -> None:
    """Remove one that has ended, with its files."""
    with writing(backends.engine) as session:
        reports.remove(session, asker.owner_id, report_id)


@router.get(
    "/{report_id}/files/{name}",
    summary="Fetch a report",
    response_class=Response,
    responses={
        **problems(404, 409),
        200: {"content": _FILES, "description": "The figures, or the page."},
    },
)
def read_report_file(report_id: UUID, name: str, backends: Wired, asker: Reader) -> Response:
    """`report.json`, all figures; or `report.html`, one page that needs nothing beside it."""
    with reading(backends.engine) as session:
        data, media_type, digest = reports.read_file(
            session, backends.storage, asker.owner_id, report_id, name
        )
    headers = {
        "ETag": f'"{digest}-{name}"',
        "Cache-Control": "private, no-cache",
        "Content-Security-Policy": _PAGE_POLICY,
    }
    return Response(data, media_type=media_type, headers=headers)
