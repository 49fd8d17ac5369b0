"""Schemathesis over the whole of the API: nothing that is sent makes it stumble."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from running import Service

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance,response_headers_conformance"
)
# The last one goes along the document's links: what was made is read, changed, removed.
PHASES = "examples,coverage,fuzzing,stateful"
# The keys that the run itself goes by; `test_campaign.py` revokes and rotates others.
LEFT_OUT = "/keys/.*/(revoke|rotate)"


@pytest.mark.timeout(900)
def test_no_request_makes_the_api_stumble(
    services: Callable[..., Service], tmp_path: Path, empty_database_url: str
) -> None:
    service = services(tmp_path / "home", workers=1, database_url=empty_database_url)
    service.start()
    key = service.client.keys.create(
        "fuzz", ["read", "write", "admin"], quota_images=2000, quota_jobs=30, quota_uploads=5
    ).key
    ran = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")), "run",
            service.url + "/openapi.json", "--header", f"Authorization: Bearer {key}",
            "--checks", CHECKS, "--phases", PHASES, "--max-examples", "20",
            "--exclude-path-regex", LEFT_OUT, "--request-timeout", "60", "--continue-on-failure",
            "--max-time", "240", "--no-color", "--seed", "1",
        ],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert "Failures:" not in ran.stdout, ran.stdout[-20_000:]
    assert "Test cases:" in ran.stdout, ran.stdout[-5000:] + ran.stderr[-5000:]
    service.stop()
    for log in (tmp_path / "home" / "logs").glob("*.log"):
        assert "Traceback" not in log.read_text(errors="replace"), log.name
