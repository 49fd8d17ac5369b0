"""The API's pages at /docs: what /openapi.json says, to be read and tried out in a browser.

Everything comes from here, since the machine may have no way to the internet: Swagger UI lies in
`docs/` beside its licence, as its makers ship it.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Response
from starlette.staticfiles import StaticFiles

ASSETS = Path(__file__).with_name("docs")
# Swagger UI sets styles on elements; scripts come from files of ours alone.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def install_documentation(app: FastAPI) -> None:
    """Serve the page and its assets; they say what anybody may know, and need no key."""
    page = (ASSETS / "index.html").read_bytes()

    @app.get("/docs", include_in_schema=False)
    def documentation() -> Response:
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
        return Response(page, media_type="text/html; charset=utf-8", headers=headers)

    app.mount("/docs/assets", StaticFiles(directory=ASSETS), name="docs")
