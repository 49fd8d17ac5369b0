"""Datasets are uploaded in a real browser, to a real service."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browsing import Visit, browser, class_folders, playwright, service, visit
from layouts import tar_of
from playwright.sync_api import expect
from running import Service

__all__ = ["browser", "playwright", "service", "visit"]

pytestmark = [pytest.mark.xdist_group("pages"), pytest.mark.timeout(600)]

HARMFUL = "<img src=x onerror=alert(1)>"


def test_good_archive_becomes_a_dataset_and_a_broken_one_a_sentence(
    service: Service, visit: Visit
) -> None:
    page = visit.go("/datasets")
    broken = tar_of(class_folders(("cat", "dog")) | {"cat/no.png": b"this is no picture"})
    page.locator("#file").set_input_files(
        {"name": "pets.tar", "mimeType": "application/x-tar", "buffer": broken}
    )
    expect(page.get_by_label("Name")).to_have_value("pets")
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("#upload-problem")).to_contain_text("no.png")
    page.get_by_label("Leave out files that cannot be read").check()
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", name="pets@1")).to_be_visible()
    expect(page.locator("#grid img").first).to_be_visible()
    expect(page.get_by_text("cat/no.png")).to_be_visible()
    assert service.client.datasets.get("pets").class_names == ["cat", "dog"]


def test_folder_is_packed_on_the_way(service: Service, visit: Visit, tmp_path: Path) -> None:
    long = "a" * 90
    for name, data in class_folders(("cat", f"dög {long}")).items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    page = visit.go("/datasets")
    page.locator("#folder").set_input_files(tmp_path / "folder")
    expect(page.locator("#chosen")).to_contain_text("8 files")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", name="folder@1")).to_be_visible()
    assert service.client.datasets.get("folder").class_names == ["cat", f"dög {long}"]


def test_names_that_are_code_are_shown_as_text(service: Service, visit: Visit) -> None:
    page = visit.go("/datasets")
    page.locator("#file").set_input_files(
        {"name": "odd.tar", "mimeType": "application/x-tar",
         "buffer": tar_of(class_folders((HARMFUL, "dog")))}
    )  # fmt: skip
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", name="odd@1")).to_be_visible()
    expect(page.get_by_role("cell", name=HARMFUL).first).to_be_visible()
    expect(page.locator("#grid img").first).to_have_attribute("alt", re.compile("<img src=x"))
    model = service.client.models.create("odd", "odd")
    page = visit.go(f"/models/{model.id}")
    expect(page.get_by_role("heading", name="odd@1")).to_be_visible()
    page.get_by_role("button", name="Cancel the training").click()
    expect(page.get_by_text("cancelled").first).to_be_visible()
