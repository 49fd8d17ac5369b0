"""The page of a model with its latent explorer, in a real browser, on a real service."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browsing import Visit, browser, class_folders, playwright, service, visit
from playwright.sync_api import Page, expect
from running import Service, wait_until

__all__ = ["browser", "playwright", "service", "visit"]

pytestmark = [pytest.mark.xdist_group("pages"), pytest.mark.timeout(600)]


def explored(visit: Visit, path: str) -> Page:
    """A model's page whose pictures have been drawn: the one worker is free for its explorer."""
    page = visit.go(path)
    expect(page.locator("#hovered-told")).not_to_contain_text("being drawn", timeout=240_000)
    expect(page.locator("#figures figure").first).to_be_visible()
    expect(page.locator("#figures")).not_to_contain_text("Being drawn", timeout=240_000)
    return visit.go(path)


def test_latent_explorer_follows_pointer_and_keys(visit: Visit) -> None:
    page = explored(visit, "/models/mnist")
    image, pad = page.locator("#decoded"), page.locator("#pad")
    expect(image).to_have_attribute("src", re.compile("^data:image/png"), timeout=60_000)
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    assert box is not None
    seen = set()
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        # Read before the move: the frame of a quick answer would be counted before it otherwise.
        frames = int(pad.get_attribute("data-frames") or 0)
        page.mouse.move(box["x"] + share * box["width"], box["y"] + share * box["height"])
        wait_until(lambda n=frames: int(pad.get_attribute("data-frames") or 0) > n)  # type: ignore[misc]
        page.wait_for_timeout(50)
        seen.add(image.get_attribute("src"))
    assert len(seen) >= 4
    pad.focus()
    before = image.get_attribute("src")
    for _ in range(6):
        page.keyboard.press("ArrowLeft")
    expect(image).not_to_have_attribute("src", before or "")
    page.get_by_role("group", name="Label").get_by_role("button", name="7", exact=True).click()
    expect(page.locator("#judged")).to_contain_text("for 7")
    expect(page.locator("#same-z img")).to_have_count(10)
    expect(page.locator("#hovered-told")).to_contain_text("images by", timeout=120_000)
    scatter = page.locator("#scatter")
    scatter.scroll_into_view_if_needed()
    box = scatter.bounding_box()
    assert box is not None
    for x, y in ((0.45, 0.5), (0.55, 0.45)):
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
        expect(page.locator("#hovered")).to_be_visible()
    expect(page.locator("#way img")).to_have_count(12)
    scatter.focus()
    seen = set()
    for _ in range(3):
        before = page.locator("#hovered").get_attribute("src")
        page.keyboard.press("ArrowRight")
        expect(page.locator("#hovered")).not_to_have_attribute("src", before or "")
        seen.add(page.locator("#hovered").get_attribute("src"))
    assert len(seen) == 3


def write_two_classes(folder: Path) -> None:
    """A few digits, in a folder for each class."""
    for name, png in class_folders(("1", "2"), count=6).items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png)


def trained_a_little(service: Service, name: str, folder: Path) -> None:
    """A dataset of a folder, and a small model of it, by the same name."""
    service.client.datasets.add(name, folder)
    options = {"preset": "small", "epochs": 1, "judge_epochs": 1, "refine": False}
    models = service.client.models
    models.wait(models.create(name, name, **options).id)


def test_latent_explorer_leaves_out_what_the_model_has_not_learnt(
    service: Service, visit: Visit, tmp_path: Path
) -> None:
    # Of 0 there is an image to test with, and none to train on.
    for name, png in class_folders(("1", "2", "3", "0"), count=6).items():
        file = tmp_path / ("test" if name.startswith("0/") else "train") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png)
    trained_a_little(service, "letters", tmp_path)
    page = explored(visit, "/models/letters")
    expect(page.locator("main")).to_contain_text("had no training images of '0'")
    expect(page.locator("#judged")).to_contain_text("for 1", timeout=60_000)
    expect(page.locator("#same-z img")).to_have_count(3)
    expect(page.get_by_role("group", name="Label").get_by_role("button")).to_have_text(list("123"))


def test_strength_of_a_job_is_chosen_where_its_sampler_takes_one(
    service: Service, visit: Visit, tmp_path: Path
) -> None:
    write_two_classes(tmp_path)
    trained_a_little(service, "near", tmp_path)
    page = visit.go("/jobs/new?model=near&all=2")
    strength = page.get_by_label("Strength")
    expect(strength).to_be_hidden()
    page.locator("#sampler").select_option("neighbour")
    expect(strength).to_be_visible()
    strength.fill("0.35")
    page.locator("#gate").select_option("none")
    page.locator("#submit").click()
    page.wait_for_url(re.compile("/jobs/[0-9a-f-]{36}$"))
    job = service.client.jobs.get(page.url.rsplit("/", 1)[1])
    assert (job.sampler, job.strength) == ("neighbour", 0.35)
    expect(page.locator("main")).to_contain_text("Strength")


def test_training_starts_from_a_model_of_the_same_shape(
    service: Service, visit: Visit, tmp_path: Path
) -> None:
    write_two_classes(tmp_path)
    trained_a_little(service, "first", tmp_path)
    service.client.datasets.add("larger", tmp_path, size="16")
    page = visit.go("/models")
    start = page.get_by_label("Start from")
    page.get_by_label("Dataset").select_option(label="larger@1")
    expect(start.locator("option:enabled")).to_have_text(["nothing"])
    page.get_by_label("Dataset").select_option(label="first@1")
    start.select_option(label="first@1")
    page.get_by_label("Minutes it may take").fill("1")
    page.get_by_role("button", name="Train").click()
    page.wait_for_url(re.compile("/models/[0-9a-f-]{36}$"))
    model = service.client.models.cancel(page.url.rsplit("/", 1)[1])
    assert model.parent is not None
    assert (model.parent.name, model.parent.version) == ("first", 1)
