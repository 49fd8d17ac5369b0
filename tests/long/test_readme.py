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


@pytest.mark.timeout(1800)
def test_readme_from_its_first_line_to_its_last(
    services: Callable[..., Service], tmp_path: Path
) -> None:
    service = services(tmp_path / "home", workers=2)
    service.start()
    dg = service.client
    draw_photos(tmp_path / "photos")
    _, once, kept_up, own, judged, exported, as_a_service, _ = blocks("README.md", "sh")
    python, loading = blocks("README.md", "python")

    def run(block: Block, text: str | None = None, **names: str) -> str:
        block = Block(block.document, block.line, block.language, text or block.text)
        return run_block(block, service.url, service.home, tmp_path, names)

    run(python)
    run(once)
    _, detached, listed, watched, written = kept_up.text.splitlines()
    run(kept_up, f"{detached}\n{listed}".replace("1000", "20"))
    digits = str(dg.jobs.list(limit=1).items[0].id)
    run(kept_up, f"{watched}\n{written}", JOB=digits)
    run(loading)

    run(own, own.text.replace("--dataset defects\n", f"--dataset defects{SHORT}\n", 1)
        .replace("--per-label 500", "--per-label 80 --no-gate"))  # fmt: skip
    assert (tmp_path / "what-it-learnt" / "index.html").is_file()
    job = str(dg.jobs.list(limit=1).items[0].id)
    run(judged, judged.text.replace("500", "20").replace("0.9", "0.01"))
    assert (tmp_path / "worth" / "report.html").is_file()

    filled, shared, chosen, link = exported.text.splitlines()
    run(exported, filled.replace("5000", "60"), JOB=job)
    run(exported, shared, JOB=job)
    second = str(dg.jobs.create("mnist", {"3": 5}, gate=None).wait().id)
    run(exported, chosen.replace("JOB2", second).replace("0.9", "0.1"), JOB=digits)
    url = run(exported, link, EXPORT=str(dg.exports.list(limit=1).items[0].id))
    assert url.startswith(service.url)

    for line in as_a_service.text.splitlines():
        names = {"JOB": job, "/srv/backups": str(tmp_path / "backups")}
        if "job retry" in line:
            ended = dg.jobs.create("mnist", {"3": 400_000}, gate=None).cancel()
            dg.jobs.create("mnist", {"3": 1}, gate=None).wait()
            names["JOB"] = f"{ended.id} --detach"
        if "job remove" in line:
            dg.jobs.cancel(ended.id)
            names["JOB"] = second + " --force"
        run(as_a_service, line.replace("scratch=500", "scratch=5"), **names)
    assert (tmp_path / "backups" / "today").is_dir()
