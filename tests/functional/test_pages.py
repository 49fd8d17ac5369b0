"""The pages in a real browser, on a real service."""

from __future__ import annotations

import http.server
import re
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import RECIPE, SHOTS, Visit, browser, images_stored, playwright, service, visit
from playwright.sync_api import Browser, expect
from running import Service, wait_until

__all__ = ["browser", "playwright", "service", "visit"]

pytestmark = [pytest.mark.xdist_group("pages"), pytest.mark.timeout(600)]

WIDTHS = {"narrow": (360, 740), "usual": (1280, 900), "wide": (3840, 2160)}
# Each width in one theme at least, the usual one in both.
THEMES = {"narrow": ("dark",), "usual": ("light", "dark"), "wide": ("light",)}


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


def test_documentation_shows_every_route(filled: Service, visit: Visit) -> None:
    page = visit.go("/docs")
    paths = page.request.get(f"{filled.url}/openapi.json").json()["paths"]
    routes = sum(len(methods) for methods in paths.values())
    expect(page.locator(".opblock")).to_have_count(routes, timeout=60_000)
    expect(page.get_by_text("Ask for images").first).to_be_visible()
    expect(page.get_by_text("OAS 3.2").first).to_be_visible()
    # What a stream holds is shown as well.
    page.locator("#operations-jobs-follow_job .opblock-summary-control").click()
    answers = page.locator("#operations-jobs-follow_job .responses-table").first
    expect(answers).to_contain_text("text/event-stream")
    expect(answers).to_contain_text("Events state and progress, each with the job as it then is")


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
    wait_until(lambda: images_stored(page) > 0)
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
