"""Pictures of the pages for README and docs, taken from a service of their own.

    python scripts/make_screenshots.py FOLDER

Needs the test extra and Debian's Chromium.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from datagen import Client

FLAGS = ["--no-sandbox", "--headless", "--disable-gpu", "--disable-background-networking"]
SIZE = (1280, 900)
COLOURS = 200
RECIPE = {
    "name": "nightly",
    "source": {"dataset": "digits"},
    "model": "mnist",
    "plan": {"fill": 700},
    "deliver": [{"format": "parquet", "merge": True}],
    "schedule": {"cron": "0 2 * * *", "timezone": "Europe/Berlin"},
}


@contextmanager
def service() -> Iterator[Client]:
    """A service with something in it, in a folder that goes with it."""
    with tempfile.TemporaryDirectory(prefix="datagen-pictures-") as home:
        environment = {**os.environ, "DATAGEN_HOME": home}
        command = [sys.executable, "-P", "-m", "datagen.cli", "up", "--port", "0", "--json"]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            url = json.loads(process.stdout.readline() if process.stdout else "")["url"]
            with Client(url, Path(home, "api-key").read_text().strip()) as client:
                yield client
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def fill(client: Client) -> str:
    """A dataset, jobs, an export, a pipeline; the id of the job that is shown."""
    client.datasets.add("digits", "sample:mnist")
    job = client.jobs.create("mnist", per_label=400, seed=7).wait()
    job.export("imagefolder").wait()
    client.pipelines.apply(RECIPE)
    client.pipelines.run("nightly").wait()
    return str(job.id)


def take(page: Page, path: Path, dark: bool = False) -> None:
    """One picture, in as many colours as it needs."""
    page.emulate_media(color_scheme="dark" if dark else "light")
    page.wait_for_timeout(300)
    shot = Image.open(BytesIO(page.screenshot())).convert("RGB")
    shot.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path)


def main() -> None:
    """Take them all."""
    folder = Path(sys.argv[1])
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("Install Debian's package chromium first.")
    with service() as client, sync_playwright() as playwright:
        job = fill(client)
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
        page.goto(client.sign_in_link().url)
        page.goto(f"{client.url}/jobs/new?model=mnist&label.3=500&label.8=200&seed=7")
        page.locator(".label-row[data-label='9'] .strip img").first.wait_for()
        page.wait_for_timeout(500)
        take(page, folder / "page-new-job.png")
        page.goto(f"{client.url}/jobs/{job}")
        page.locator("#gallery img").first.wait_for()
        page.locator("#gallery").scroll_into_view_if_needed()
        take(page, folder / "page-job.png")
        page.goto(f"{client.url}/models/mnist")
        page.locator("#hovered-told", has_text="images by").wait_for(timeout=120_000)
        page.get_by_role("button", name="By chance").click()
        page.locator("#pad").scroll_into_view_if_needed()
        page.locator("#explore").evaluate("one => one.scrollIntoView()")
        page.wait_for_timeout(800)
        take(page, folder / "page-explorer.png", dark=True)
        page.goto(f"{client.url}/pipelines/new?edit=nightly")
        page.locator("#next li").first.wait_for()
        take(page, folder / "page-pipeline.png")
        browser.close()


if __name__ == "__main__":
    main()
