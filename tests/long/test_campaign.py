"""The whole campaign of generated requests, against a stack of its own on either database."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from campaign.links import run_links
from campaign.sending import Campaign
from campaign.watch import WITHOUT_SUCCESS
from running import Service

SEED, ROUNDS = 2026, 10
# Drawn requests, and those along the document's links.
CASES = {"sqlite": (10_000, 2_000), "postgresql": (3_000, 1_000)}


@pytest.mark.timeout(1500)
def test_no_generated_request_fails_or_shows_another_owners_things(
    services: Callable[..., Service],
    tmp_path: Path,
    database_kind: str,
    empty_database_url: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service = services(tmp_path / "home", workers=1, database_url=empty_database_url)
    service.start()
    campaign = Campaign(service.url, (service.home / "api-key").read_text().strip())
    drawn, linked = CASES[database_kind]
    try:
        campaign.run(drawn, SEED, rounds=ROUNDS)
        run_links(campaign, linked, SEED)
    finally:
        campaign.end()
    with capsys.disabled():
        sys.stdout.write(f"\nThe campaign on {database_kind}:\n{campaign.watch.summary()}\n")
    assert not campaign.watch.failures, campaign.watch.failures_text()
    assert campaign.watch.cases >= drawn + linked
    assert set(campaign.watch.never_succeeded()) <= set(WITHOUT_SUCCESS)
    service.stop()
    for log in (service.home / "logs").glob("*.log"):
        assert "Traceback" not in log.read_text(errors="replace"), log.name
