"""A short campaign of generated requests by two owners, each scope, by keys and by sessions.

`make test-long` runs ten thousand of them, on both databases.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest
from campaign.links import run_links
from campaign.sending import Campaign
from campaign.watch import WITHOUT_SUCCESS

pytestmark = pytest.mark.xdist_group("stack")

CASES, LINKED, SEED = 700, 60, 17


def test_generated_requests_never_fail_and_show_nothing_of_another_owner(stack: Any) -> None:
    campaign = Campaign(stack.url, stack.key)
    try:
        campaign.run(CASES, SEED)
        run_links(campaign, LINKED, SEED)
    finally:
        campaign.end()
    watch = campaign.watch
    sys.stdout.write(watch.summary())
    assert not watch.failures, watch.failures_text()
    assert watch.cases >= CASES + LINKED
    # Each operation got a request that is good; without a success nothing behind it was tried.
    assert set(watch.never_succeeded()) <= set(WITHOUT_SUCCESS)
