"""The README from its first line to its last, on images of one's own.

Counts and trainings are cut short; `make` is what runs these tests, and the many machines of the
last block are what `compose.yaml` starts.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from documents import Block, blocks, run_block
from PIL import Image, ImageDraw
from running import Service

SHORT = " --preset small --epochs 3 --judge-epochs 3 --no-refine"


def draw_photos(folder: Path) -> None:
    """Lines and spots on grey, more of the former."""
    dice = random.Random(7)
    for label, count in (("scratch", 60), ("dent", 30)):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            image = Image.new("L", (40, 32), dice.randrange(90, 130))
            x, y = dice.randrange(4, 20), dice.randrange(4, 16)
            draw = ImageDraw.Draw(image)
            if label == "scratch":
                draw.line((x, y, x + 18, y + dice.randrange(12)), fill=230, width=2)
            else:
                draw.ellipse((x, y, x + 12, y + 10), fill=30)
            image.save(folder / label / f"{number}.png")


class Reader:
    """Somebody who reads the README, and types what stands there."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.service, self.folder, self.dg = service, folder, service.client
        self.shell, self.python = blocks("README.md", "sh"), blocks("README.md", "python")

    def run(self, block: Block, text: str | None = None, **names: str) -> str:
        """Type a block, or some of it."""
        block = Block(block.document, block.line, block.language, text or block.text)
        return run_block(block, self.service.url, self.service.home, self.folder, names)

    def with_own_images(self) -> str:
        """A dataset, a model and a job of one's own; the job."""
        draw_photos(self.folder / "photos")
        own = self.shell[3]
        short = own.text.replace("--dataset defects\n", f"--dataset defects{SHORT}\n", 1)
        self.run(own, short.replace("--per-label 500", "--per-label 80 --no-gate"))
        return self.newest()

    def newest(self) -> str:
        """The job that was made last."""
        return str(self.dg.jobs.list(limit=1).items[0].id)


@pytest.fixture
def reader(services: Callable[..., Service], tmp_path: Path) -> Reader:
    service = services(tmp_path / "home", workers=2)
    service.start()
    return Reader(service, tmp_path)


@pytest.mark.timeout(2400)
def test_readme_from_ten_lines_to_whether_the_images_help(reader: Reader) -> None:
    _, once, kept_up, _, judged = reader.shell[:5]
    ten_lines, loading = reader.python
    reader.run(ten_lines)
    reader.run(once)
    _, detached, listed, watched, written = kept_up.text.splitlines()
    reader.run(kept_up, f"{detached}\n{listed}".replace("1000", "20"))
    reader.run(kept_up, f"{watched}\n{written}", JOB=reader.newest())
    reader.run(loading)
    reader.with_own_images()
    assert (reader.folder / "what-it-learnt" / "index.html").is_file()
    reader.run(judged, judged.text.replace("500", "20").replace("0.9", "0.01"))
    assert (reader.folder / "worth" / "report.html").is_file()


@pytest.mark.timeout(900)
def test_readme_from_exports_to_the_service(reader: Reader) -> None:
    dg, (exported, as_a_service) = reader.dg, reader.shell[5:7]
    job = reader.with_own_images()
    digits, second = (
        str(dg.jobs.create("mnist", {"3": 5, "8": 5}, gate=None).wait().id) for _ in range(2)
    )
    filled, shared, chosen, link = exported.text.splitlines()
    reader.run(exported, filled.replace("5000", "60"), JOB=job)
    reader.run(exported, shared, JOB=job)
    reader.run(exported, chosen.replace("JOB2", second).replace("0.9", "0.1"), JOB=digits)
    url = reader.run(exported, link, EXPORT=str(dg.exports.list(limit=1).items[0].id))
    assert url.startswith(reader.service.url)

    backups = str(reader.folder / "backups")
    running = None
    for line in as_a_service.text.splitlines():
        names = {"JOB": job, "/srv/backups": backups, "dg_…": f"dg_team_{'k' * 43}"}
        if "job retry" in line:
            running = dg.jobs.create("mnist", {"3": 400_000}, gate=None).cancel()
            names["JOB"] = f"{running.id} --detach"
        if "job remove" in line:
            assert running is not None
            running.cancel()
            names["JOB"] = f"{second} --force"
        reader.run(as_a_service, line.replace("scratch=500", "scratch=5"), **names)
    assert (reader.folder / "backups" / "today").is_dir()

    (recipe,), nightly = blocks("README.md", "yaml"), reader.shell[7]
    (reader.folder / "nightly.yaml").write_text(recipe.text.replace("5000", "90"))
    told = reader.run(nightly)
    assert told.count("succeeded") >= 3, told
    assert dg.pipelines.get("nightly").last_state == "succeeded"
