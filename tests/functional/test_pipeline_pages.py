"""The editor and the pages of pipelines, in a real browser, on a real service."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo

import pytest
from browsing import RECIPE, Visit, browser, playwright, service, visit
from playwright.sync_api import Browser, expect
from running import Service

__all__ = ["browser", "playwright", "service", "visit"]

pytestmark = [pytest.mark.xdist_group("pages"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def filled(service: Service) -> Service:
    """The service with a dataset, and with a pipeline that is due every night."""
    service.client.datasets.add("digits", "sample:mnist")
    service.client.pipelines.apply(RECIPE)
    return service


def test_large_seed_of_a_recipe_goes_through_the_editor_whole(
    filled: Service, visit: Visit
) -> None:
    large = 7046029254386356970
    filled.client.pipelines.apply(
        RECIPE | {"name": "seeded", "seed": large, "schedule": None}
        | {"deliver": [{"format": "npz", "split_seed": large}]}
    )  # fmt: skip
    page = visit.go("/pipelines/new?edit=seeded")
    expect(page.locator("#next li")).to_have_count(1)
    page.get_by_label("Plan").select_option("add")
    page.get_by_label("How many").fill("5")
    expect(page.locator("#yaml")).to_have_value(re.compile(f"add: 5(.|\n)*seed: '?{large}"))
    page.get_by_role("button", name="Apply").click()
    page.wait_for_url("**/pipelines/seeded")
    recipe = filled.client.pipelines.get("seeded").recipe
    assert (recipe["seed"], recipe["deliver"][0]["split_seed"]) == (large, large)
    assert recipe["plan"] == {"add": 5}


def test_pipeline_is_written_checked_as_it_is_typed_tried_dry_and_run(
    filled: Service, visit: Visit
) -> None:
    page = visit.go("/pipelines/new")
    yaml = page.locator("#yaml")
    expect(page.locator("#next li")).to_have_count(5)
    page.get_by_label("Name", exact=True).fill("weekly")
    page.get_by_label("Dataset").fill("digits")
    page.get_by_label("Model").fill("mnist")
    page.get_by_label("Plan").select_option("fill")
    page.get_by_label("How many").fill("700")
    expect(yaml).to_have_value(re.compile("fill: 700"))
    page.get_by_label("Time zone").fill("Europe/Berlin")
    expect(page.locator("#next li").first).to_contain_text("2:00 AM, Europe/Berlin")
    typed = yaml.input_value()
    yaml.fill(f"{typed}\nplan: {{add: 2}}")
    expect(page.locator("#problem")).to_contain_text("stands there twice")
    expect(page.get_by_role("button", name="Apply")).to_be_disabled()
    yaml.fill(typed.replace("fill: 700", "fill: 690").replace("format: parquet", "format: npz"))
    expect(page.get_by_label("How many")).to_have_value("690")
    expect(page.get_by_label("Deliver as")).to_have_value("npz")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("heading", name="weekly")).to_be_visible()
    page.get_by_role("button", name="Dry run").click()
    expect(page.locator("#dry-rows tr")).to_have_count(10)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("version 1, paused")).to_be_visible()
    page.get_by_role("button", name="Run now").click()
    page.wait_for_url("**/runs/*")
    expect(page.locator("#live .state").first).to_have_text("succeeded", timeout=120_000)
    with page.expect_download() as coming:
        page.get_by_role("link", name="export").click()
    assert coming.value.suggested_filename.endswith(".zip")
    assert filled.client.pipelines.get("weekly").last_state == "succeeded"


def test_times_are_shown_in_the_viewers_zone(filled: Service, browser: Browser) -> None:
    pipeline = filled.client.pipelines.get("nightly")
    assert pipeline.next_due_at is not None
    for zone in ("Asia/Tokyo", "America/New_York"):
        visit = Visit(browser, filled, timezone_id=zone, locale="en-GB")
        visit.sign_in()
        page = visit.go("/pipelines")
        told = pipeline.next_due_at.astimezone(ZoneInfo(zone)).strftime("%d/%m/%Y, %H:%M")
        expect(page.get_by_role("row", name="nightly")).to_contain_text(told)
        visit.close()
