"""The form, the page and the gallery of a job, in a real browser, on a real service."""

from __future__ import annotations

import re

import pytest
from browsing import Visit, browser, images_stored, playwright, service, visit
from playwright.sync_api import expect
from running import Service, wait_until

__all__ = ["browser", "playwright", "service", "visit"]

pytestmark = [pytest.mark.xdist_group("pages"), pytest.mark.timeout(600)]


def test_large_seed_goes_through_the_form_whole(service: Service, visit: Visit) -> None:
    # The nearest float64 ends in …816, and makes other images.
    large = "7046029254386356970"
    page = visit.go(f"/jobs/new?model=mnist&label.3=5&seed={large}")
    seed = page.get_by_label("Seed")
    expect(seed).to_have_value(large)
    page.get_by_role("button", name="Another", exact=True).click()
    drawn = int(seed.input_value())
    assert 0 <= drawn < 2**53
    seed.fill("seven")
    expect(page.locator("#plan")).to_contain_text("whole number")
    expect(page.get_by_role("button", name="Make them")).to_be_disabled()
    seed.fill(large)
    page.locator("#gate").select_option("none")
    strip = page.locator(".label-row[data-label='3'] .strip img")
    expect(page.locator("#plan")).to_contain_text("batches")
    # Previews of what was chosen before may still be on their way.
    with page.expect_response(
        lambda one: one.url.endswith("/preview") and "prior" in (one.request.post_data or "")
    ) as coming:
        page.locator("#sampler").select_option("prior")
    previewed = coming.value.json()
    assert (previewed["seed_text"], previewed["sampler"]) == (large, "prior")
    expect(strip.first).to_be_visible()
    page.get_by_role("button", name="Make them").click()
    page.wait_for_url(re.compile("/jobs/[0-9a-f-]{36}$"))
    expect(page.locator("#state")).to_have_text("succeeded", timeout=120_000)
    expect(page.locator("#facts ~ dl .mono")).to_have_text(large)
    job = service.client.jobs.get(page.url.rpartition("/")[2])
    assert job.seed == int(large)
    same = service.client.jobs.create(
        "mnist", {"3": 5}, seed=int(large), gate=None, sampler="prior"
    ).wait()
    images = [[one.digest for one in found.samples()] for found in (job, same)]
    assert images[0] == images[1]
    # What a script reads of the answer, in its digits.
    told = page.evaluate("(id) => fetch(`/v1/jobs/${id}`).then((one) => one.json())", str(job.id))
    assert told["seed_text"] == large


def test_job_page_catches_up_after_the_server_was_killed(service: Service, visit: Visit) -> None:
    job = service.client.jobs.create("mnist", {"3": 20_000}, gate=None)
    page = visit.go(f"/jobs/{job.id}")
    wait_until(lambda: images_stored(page) > 0)
    service.program("api").kill()
    expect(page.locator("#state")).to_have_text("succeeded", timeout=180_000)
    expect(page.locator("#stored")).to_have_text("20,000")


def test_job_is_cancelled_from_its_page(service: Service, visit: Visit) -> None:
    job = service.client.jobs.create("mnist", {"3": 900_000}, gate=None)
    page = visit.go(f"/jobs/{job.id}")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#state")).to_have_text("cancelled")
    page.get_by_role("button", name="Remove").click()
    expect(page).to_have_url(re.compile("/jobs$"))
    assert visit.asked == ["Remove the job with all its images? Exports of it stay."]


def test_gallery_is_filtered_sorted_and_leads_to_each_image(service: Service, visit: Visit) -> None:
    job = service.client.jobs.create("mnist", {"3": 300, "8": 200}, seed=7, gate=None).wait()
    page = visit.go(f"/jobs/{job.id}")
    tiles = page.locator("#gallery .tile")
    expect(tiles.first).to_have_attribute("title", re.compile("^3, image 0"))
    page.get_by_label("Label").select_option("8")
    expect(tiles.first).to_have_attribute("title", re.compile("^8, image 300"))
    page.get_by_label("Sort").select_option("score")
    page.get_by_label("Label").select_option("")
    wait_until(lambda: " score " in (tiles.first.get_attribute("title") or ""))
    shown = [re.search(r"score (\S+)", one.get_attribute("title") or "") for one in tiles.all()]
    scores = [float(one[1].rstrip(",")) for one in shown if one]
    assert scores == sorted(scores)
    page.get_by_label("Least score").fill("1")
    page.get_by_label("Least score").press("Tab")
    wait_until(lambda: tiles.count() < len(scores) or "score 1.00" in str(
        tiles.first.get_attribute("title")))  # fmt: skip
    page.get_by_label("Least score").fill("0")
    page.get_by_label("Least score").press("Tab")
    tiles.first.click()
    expect(page.get_by_text("What is known of it")).to_be_visible()
    expect(page.locator(".near img").first).to_be_visible()
