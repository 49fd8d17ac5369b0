"""The pages in a real browser, on a real service."""

from __future__ import annotations

import http.server
import io
import re
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from browsing import SHOTS, Visit, browser, playwright, service, visit
from playwright.sync_api import Browser, Page, expect
from running import Service, wait_until

from datagen.datasets.sample import load_sample
from datagen.images import encode_png

__all__ = ["browser", "playwright", "service", "visit"]

pytestmark = [pytest.mark.xdist_group("pages"), pytest.mark.timeout(600)]

WIDTHS = {"narrow": (360, 740), "usual": (1280, 900), "wide": (3840, 2160)}
# Each width in one theme at least, the usual one in both.
THEMES = {"narrow": ("dark",), "usual": ("light", "dark"), "wide": ("light",)}
HARMFUL = "<img src=x onerror=alert(1)>"
RECIPE = {
    "name": "nightly",
    "source": {"dataset": "digits"},
    "model": "mnist",
    "plan": {"balance": True},
    "gate": None,
    "deliver": [{"format": "npz"}],
    "schedule": {"cron": "0 2 * * *", "timezone": "Europe/Berlin"},
}


def labelled(folders: tuple[str, ...], count: int = 4) -> dict[str, bytes]:
    """Small pictures of a class each, by the names of their files."""
    images = load_sample()["train"]
    files = {}
    for label, folder in enumerate(folders):
        rows = np.flatnonzero(images.labels == label)[:count]
        for row, png in zip(rows, encode_png(images.images[rows]), strict=True):
            files[f"{folder}/{folder if '<' in folder else 'image'}-{row}.png"] = png
    return files


def tarred(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def stored(page: Page) -> int:
    """What a job's page says of its images now."""
    return int(page.locator("#whole").evaluate("one => one.value"))


@pytest.fixture(scope="module")
def filled(service: Service) -> Service:
    """The service with one of everything in it."""
    client = service.client
    client.datasets.add("digits", "sample:mnist")
    job = client.jobs.create("mnist", {"3": 300, "8": 200}, seed=7, gate=None).wait()
    job.export("npz").wait()
    client.pipelines.apply(RECIPE)
    client.pipelines.run("nightly").wait()
    return service


def paths_of(service: Service) -> list[str]:
    client = service.client
    job = next(one for one in client.jobs.list().items if one.images_requested == 500)
    run = client.pipelines.history("nightly").items[0]
    return [
        "/", "/jobs", "/jobs/new?model=mnist", f"/jobs/{job.id}", f"/jobs/{job.id}/samples/7",
        "/datasets", "/datasets/digits", "/models", "/models/mnist", "/pipelines",
        "/pipelines/new", "/pipelines/nightly", f"/runs/{run.id}", "/keys", "/about", "/nowhere",
    ]  # fmt: skip


def test_every_page_fits_every_width_and_axe_finds_nothing(filled: Service, visit: Visit) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page = visit.page
    for path in paths_of(filled):
        name = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "id", path).strip("/").replace("/", "-")
        name = re.sub(r"[^a-z-]+", "-", name) or "overview"
        for width, (wide, high) in WIDTHS.items():
            page.set_viewport_size({"width": wide, "height": high})
            visit.go(path)
            # What scripts bring comes within a moment; what is still away is not waited for.
            page.wait_for_load_state("load")
            expect(page.locator("main h1")).to_be_visible()
            beyond = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert beyond <= 0, (path, width, beyond)
            for theme in THEMES[width]:
                page.emulate_media(color_scheme=theme)
                page.screenshot(path=SHOTS / f"{name}-{width}-{theme}.png")
                if width != "wide":
                    assert visit.faults() == [], (path, width, theme)
    page.context.clear_cookies()
    visit.go("/jobs")
    assert page.url.endswith("/sign-in?next=/jobs")
    assert visit.faults() == []


def test_pages_weigh_little_and_load_from_here_alone(filled: Service, visit: Visit) -> None:
    for path in ("/", "/jobs/new?model=mnist", "/models/mnist", f"{paths_of(filled)[3]}"):
        page = visit.go(path)
        page.wait_for_load_state("load")
        loaded = page.evaluate(
            "[...performance.getEntriesByType('navigation'),"
            " ...performance.getEntriesByType('resource')]"
            ".map((one) => [one.name, one.initiatorType, one.decodedBodySize])"
        )
        # A part that is fetched again while the page is looked at weighs once.
        sizes = {url: size for url, kind, size in loaded if kind != "img" and "/v1/" not in url}
        own = sum(sizes.values())
        assert 20_000 < own < 300_000, (path, own)
        assert all(url.startswith((filled.url, "data:", "blob:")) for url, _, _ in loaded), loaded


def test_newcomer_comes_from_the_key_to_a_zip(
    filled: Service, browser: Browser, tmp_path: Path
) -> None:
    visit = Visit(browser, filled)
    page = visit.go("/")
    page.get_by_label("API key").fill("dg_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not valid")
    page.get_by_label("API key").fill((filled.home / "api-key").read_text().strip())
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()

    page.get_by_role("link", name="New job").first.click()
    row = page.locator(".label-row[data-label='3']")
    expect(row.locator(".strip img").first).to_be_visible(timeout=30_000)
    before = row.locator(".strip img").first.get_attribute("src")
    page.get_by_role("button", name="Another", exact=True).click()
    expect(row.locator(".strip img").first).not_to_have_attribute("src", before or "")
    row.locator("input[type=number]").fill("8000")
    page.locator(".label-row[data-label='8'] input[type=number]").fill("100")
    expect(page.locator("#total")).to_have_text("8,100")
    expect(page.locator("#plan")).to_contain_text("batches")
    page.get_by_role("button", name="Make them").click()

    # What is there rises without the page being loaded again.
    page.wait_for_url(re.compile("/jobs/[0-9a-f-]{36}$"))
    page.evaluate("window.same = true")
    wait_until(lambda: stored(page) > 0)
    assert page.evaluate("window.same") is True
    expect(page.locator("#state")).to_have_text("succeeded", timeout=120_000)
    expect(page.locator("#stored")).to_have_text("8,100")
    expect(page.get_by_role("button", name="Remove")).to_be_visible()
    assert page.evaluate("window.same") is True
    expect(page.locator("#gallery img").first).to_be_visible()

    page.get_by_label("Format").select_option("imagefolder")
    page.get_by_role("button", name="Export", exact=True).click()
    link = page.get_by_role("link", name="Download")
    expect(link).to_be_visible(timeout=120_000)
    with page.expect_download() as coming:
        link.click()
    coming.value.save_as(tmp_path / "digits.zip")
    with zipfile.ZipFile(tmp_path / "digits.zip") as archive:
        names = archive.namelist()
    assert sum(name.startswith("train/3/") for name in names) == 8_000

    page.go_back()
    expect(page).to_have_url(re.compile("/jobs/new"))
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    visit.close()


def test_large_seed_goes_through_the_form_whole(filled: Service, visit: Visit) -> None:
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
    job = filled.client.jobs.get(page.url.rpartition("/")[2])
    assert job.seed == int(large)
    same = filled.client.jobs.create(
        "mnist", {"3": 5}, seed=int(large), gate=None, sampler="prior"
    ).wait()
    images = [[one.digest for one in found.samples()] for found in (job, same)]
    assert images[0] == images[1]
    # What a script reads of the answer, in its digits.
    told = page.evaluate("(id) => fetch(`/v1/jobs/${id}`).then((one) => one.json())", str(job.id))
    assert told["seed_text"] == large


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


def test_job_page_catches_up_after_the_server_was_killed(filled: Service, visit: Visit) -> None:
    job = filled.client.jobs.create("mnist", {"3": 20_000}, gate=None)
    page = visit.go(f"/jobs/{job.id}")
    wait_until(lambda: stored(page) > 0)
    filled.program("api").kill()
    expect(page.locator("#state")).to_have_text("succeeded", timeout=180_000)
    expect(page.locator("#stored")).to_have_text("20,000")


def test_job_is_cancelled_from_its_page(filled: Service, visit: Visit) -> None:
    job = filled.client.jobs.create("mnist", {"3": 900_000}, gate=None)
    page = visit.go(f"/jobs/{job.id}")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#state")).to_have_text("cancelled")
    page.get_by_role("button", name="Remove").click()
    expect(page).to_have_url(re.compile("/jobs$"))
    assert visit.asked == ["Remove the job with all its images? Exports of it stay."]


def test_gallery_is_filtered_sorted_and_leads_to_each_image(filled: Service, visit: Visit) -> None:
    path = paths_of(filled)[3]
    page = visit.go(path)
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


def explored(visit: Visit, path: str) -> Page:
    """A model's page whose pictures have been drawn: the one worker is free for its explorer."""
    page = visit.go(path)
    expect(page.locator("#hovered-told")).not_to_contain_text("being drawn", timeout=240_000)
    expect(page.locator("#figures figure").first).to_be_visible()
    expect(page.locator("#figures")).not_to_contain_text("Being drawn", timeout=240_000)
    return visit.go(path)


def test_latent_explorer_follows_pointer_and_keys(filled: Service, visit: Visit) -> None:
    del filled
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


def test_latent_explorer_leaves_out_what_the_model_has_not_learnt(
    filled: Service, visit: Visit, tmp_path: Path
) -> None:
    # Of 0 there is an image to test with, and none to train on.
    for name, png in labelled(("1", "2", "3", "0"), count=6).items():
        file = tmp_path / ("test" if name.startswith("0/") else "train") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png)
    filled.client.datasets.add("letters", tmp_path)
    options = {"preset": "small", "epochs": 1, "judge_epochs": 1, "refine": False}
    models = filled.client.models
    models.wait(models.create("letters", "letters", **options).id)
    page = explored(visit, "/models/letters")
    expect(page.locator("main")).to_contain_text("had no training images of '0'")
    expect(page.locator("#judged")).to_contain_text("for 1", timeout=60_000)
    expect(page.locator("#same-z img")).to_have_count(3)
    expect(page.get_by_role("group", name="Label").get_by_role("button")).to_have_text(list("123"))


def test_good_archive_becomes_a_dataset_and_a_broken_one_a_sentence(
    filled: Service, visit: Visit
) -> None:
    page = visit.go("/datasets")
    broken = tarred(labelled(("cat", "dog")) | {"cat/no.png": b"this is no picture"})
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
    assert filled.client.datasets.get("pets").class_names == ["cat", "dog"]


def test_folder_is_packed_on_the_way(filled: Service, visit: Visit, tmp_path: Path) -> None:
    long = "a" * 90
    for name, data in labelled(("cat", f"dög {long}")).items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    page = visit.go("/datasets")
    page.locator("#folder").set_input_files(tmp_path / "folder")
    expect(page.locator("#chosen")).to_contain_text("8 files")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", name="folder@1")).to_be_visible()
    assert filled.client.datasets.get("folder").class_names == ["cat", f"dög {long}"]


def test_names_that_are_code_are_shown_as_text(filled: Service, visit: Visit) -> None:
    page = visit.go("/datasets")
    page.locator("#file").set_input_files(
        {"name": "odd.tar", "mimeType": "application/x-tar",
         "buffer": tarred(labelled((HARMFUL, "dog")))}
    )  # fmt: skip
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", name="odd@1")).to_be_visible()
    expect(page.get_by_role("cell", name=HARMFUL).first).to_be_visible()
    expect(page.locator("#grid img").first).to_have_attribute("alt", re.compile("<img src=x"))
    model = filled.client.models.create("odd", "odd")
    page = visit.go(f"/models/{model.id}")
    expect(page.get_by_role("heading", name="odd@1")).to_be_visible()
    page.get_by_role("button", name="Cancel the training").click()
    expect(page.get_by_text("cancelled").first).to_be_visible()


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


def test_key_is_made_shown_once_and_revoked(filled: Service, visit: Visit) -> None:
    page = visit.go("/keys")
    page.get_by_label("Owner").fill("team-a")
    page.get_by_label("Reaches").select_option("read")
    page.get_by_role("button", name="Make").click()
    expect(page.locator("#made-key")).to_contain_text("dg_")
    key = page.locator("#made-key").inner_text()
    # Whoever only reads finds no button that changes things, and no keys.
    other = Visit(visit.browser, filled)
    reader = other.go("/sign-in")
    reader.get_by_label("API key").fill(key)
    reader.get_by_role("button", name="Sign in").click()
    expect(reader.get_by_role("heading", name="Overview")).to_be_visible()
    expect(reader.get_by_role("link", name="Keys")).to_have_count(0)
    other.go("/keys")
    expect(reader.get_by_role("alert")).to_contain_text("admin")
    other.go("/jobs/new")
    expect(reader.get_by_role("button", name="Make them")).to_have_count(0)
    page.reload()
    page.get_by_role("row", name=key.split("_")[1]).get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("row", name=key.split("_")[1])).to_contain_text("revoked")
    other.go("/jobs")
    expect(reader.get_by_label("API key")).to_be_visible()
    other.close()


def test_link_signs_in_once(filled: Service, browser: Browser) -> None:
    link = filled.client.sign_in_link().url
    first, second = Visit(browser, filled), Visit(browser, filled)
    first.page.goto(link)
    expect(first.page.get_by_role("heading", name="Overview")).to_be_visible()
    second.page.goto(link)
    expect(second.page.get_by_role("alert")).to_contain_text("was used already")
    first.close()
    second.close()


@pytest.fixture
def elsewhere(filled: Service) -> Iterator[str]:
    """A page of another site, that posts to the service in the name of whoever looks at it."""
    body = f"""<form method="post" action="{filled.url}/sign-out"><button>win a prize</button>
    </form>
    <script>fetch("{filled.url}/v1/jobs", {{method: "POST", credentials: "include", mode: "no-cors",
    headers: {{"Content-Type": "text/plain"}}, body: JSON.stringify({{model: "mnist", all: 1}})}})
    .finally(() => document.title = "sent")</script>""".encode()

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        # The same machine by another name is another site.
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()


def test_other_sites_change_nothing(filled: Service, visit: Visit, elsewhere: str) -> None:
    before = len(filled.client.jobs.list().items)
    page = visit.page
    page.goto(elsewhere)
    expect(page).to_have_title("sent")
    page.get_by_role("button", name="win a prize").click()
    page.wait_for_load_state("load")
    assert len(filled.client.jobs.list().items) == before
    visit.go("/")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    cookie = page.context.cookies()[0]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}, {}):
        answer = page.request.post(
            f"{filled.url}/v1/jobs", data={"model": "mnist", "all": 1}, headers=headers
        )
        assert answer.status == 403, headers
    visit.wrong.clear()


def test_everything_is_reached_by_keyboard(filled: Service, visit: Visit) -> None:
    del filled
    page = visit.go("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    seen = []
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.textContent.trim()"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", seen[-1]
    assert {"New job", "Datasets", "Models", "Pipelines", "About"} <= set(seen)


def test_times_are_told_in_the_viewers_zone(filled: Service, browser: Browser) -> None:
    pipeline = filled.client.pipelines.get("nightly")
    assert pipeline.next_due_at is not None
    for zone in ("Asia/Tokyo", "America/New_York"):
        visit = Visit(browser, filled, timezone_id=zone, locale="en-GB")
        visit.sign_in()
        page = visit.go("/pipelines")
        told = pipeline.next_due_at.astimezone(ZoneInfo(zone)).strftime("%d/%m/%Y, %H:%M")
        expect(page.get_by_role("row", name="nightly")).to_contain_text(told)
        visit.close()
