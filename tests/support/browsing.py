"""A real browser for tests of the pages: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from digits import digits
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright
from running import Service, wait_until

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
MISSING = (
    "The tests of the pages need Chromium, which pip cannot install: install your system's "
    "package, such as by `apt-get install chromium`, or run `make test PAGES=no` for all else."
)
FLAGS = ["--no-sandbox", "--headless", "--disable-gpu", "--disable-background-networking"]
# Kept for whoever wants to look at them; not in the repository.
SHOTS = Path(__file__).parents[2] / ".artifacts" / "pages"
RECIPE = {
    "name": "nightly",
    "source": {"dataset": "digits"},
    "model": "mnist",
    "plan": {"balance": True},
    "gate": None,
    "deliver": [{"format": "npz"}],
    "schedule": {"cron": "0 2 * * *", "timezone": "Europe/Berlin"},
}
_TELL = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`);
});
"""


class Visit:
    """A browser window on a service, which notes whatever its pages do wrong."""

    def __init__(self, browser: Browser, service: Service, **options: Any) -> None:
        self.browser, self.service, self.wrong = browser, service, list[str]()
        self.context: BrowserContext = browser.new_context(**options)
        self.context.add_init_script(_TELL)
        self.page = self.window()

    def window(self) -> Page:
        """Another page of the same browser session."""
        page = self.context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        page.on("dialog", self._asked)
        self.asked: list[str] = []
        return page

    def _heard(self, message: Any) -> None:
        # A refusal that a test causes is no fault of the page.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.wrong.append(message.text)

    def _asked(self, dialog: Any) -> None:
        if dialog.type == "confirm":
            self.asked.append(dialog.message)
            dialog.accept()
            return
        self.wrong.append(f"{dialog.type}: {dialog.message}")
        dialog.dismiss()

    def sign_in(self) -> Page:
        """By a link that is good once."""
        self.page.goto(self.service.client.sign_in_link().url)
        return self.page

    def go(self, path: str) -> Page:
        """Open a page."""
        self.page.goto(f"{self.service.url}{path}")
        return self.page

    def faults(self) -> list[str]:
        """What axe finds wrong with the page."""
        # Its script comes from here and not from the page, whose policy would refuse it.
        found = Axe().run(self.page).response["violations"]
        return [f"{one['id']}: {one['nodes'][0]['html'][:120]}" for one in found]

    def close(self) -> None:
        """Close the window; fails where a page did something wrong."""
        self.context.close()
        assert self.wrong == []


def class_folders(folders: tuple[str, ...], count: int = 4) -> dict[str, bytes]:
    """Small pictures of one class in each folder, by the names of their files."""
    files = {}
    for label, row, png in digits([count] * len(folders)):
        folder = folders[label]
        files[f"{folder}/{folder if '<' in folder else 'image'}-{row}.png"] = png
    return files


def images_stored(page: Page) -> int:
    """What a job's page says of its images now."""
    return int(page.locator("#whole").evaluate("one => one.value"))


# No longer than its module: the driver keeps an event loop running in the thread of the tests.
@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """The driver."""
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """Chromium; where there is none, its tests fail and say how to get it."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    assert path is not None, MISSING
    launched = playwright.chromium.launch(executable_path=path, args=FLAGS)
    yield launched
    launched.close()


@pytest.fixture(scope="module")
def service(
    browser: Browser, services: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service of the module's own, with the lopsided sample in it."""
    del browser  # where there is none, the tests fail before anything is started
    made = services(tmp_path_factory.mktemp("pages") / "home", workers=1)
    made.start()
    yield made
    assert made.stop() == 0
    wait_until(lambda: not made.survivors())


@pytest.fixture
def visit(browser: Browser, service: Service) -> Iterator[Visit]:
    """A window that is signed in, and in which nothing may go wrong."""
    made = Visit(browser, service)
    made.sign_in()
    yield made
    made.close()
