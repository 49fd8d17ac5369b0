"""A gallery of 100,000 images, scrolled from its first to its last."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from browsing import Visit, browser, playwright, service, visit
from running import Service, wait_until

__all__ = ["browser", "playwright", "service", "visit"]

pytestmark = pytest.mark.timeout(1500)

PER_LABEL = 10_000
# What a page may hold at once: some pages of tiles above and below what is seen.
MOST_NODES = 12_000


def test_gallery_is_scrolled_to_its_end_with_memory_flat(
    service: Service, visit: Visit, record_property: Callable[[str, object], None]
) -> None:
    job = service.client.jobs.create("mnist", per_label=PER_LABEL, gate=None).wait(timeout=900)
    page = visit.go(f"/jobs/{job.id}")
    developer = page.context.new_cdp_session(page)
    gallery = page.locator("#gallery")
    wait_until(lambda: page.locator("#gallery .tile").count() > 0)

    def heap() -> float:
        developer.send("HeapProfiler.collectGarbage")
        return float(page.evaluate("performance.memory.usedJSHeapSize"))

    heaps, waits, pages = [heap()], [], 0
    last = page.locator(f"#gallery .tile[href$='/samples/{10 * PER_LABEL - 1}']")
    while last.count() == 0:
        began = time.monotonic()
        gallery.evaluate("one => { one.scrollTop = one.scrollHeight; }")
        before = pages
        wait_until(lambda n=before: page.locator("#gallery .page").count() > n or last.count())  # type: ignore[misc]
        pages = page.locator("#gallery .page").count()
        waits.append(time.monotonic() - began)
        if pages % 100 == 0:
            heaps.append(heap())
            assert page.evaluate("document.querySelectorAll('*').length") < MOST_NODES
    heaps.append(heap())
    assert pages >= 10 * PER_LABEL // 120
    # Nothing is kept of what has gone by but its place.
    assert heaps[-1] < 2 * max(heaps[1], 8e6), heaps
    record_property("waits_ms", [round(1000 * one) for one in waits[:: max(1, len(waits) // 20)]])
    record_property("heap_mb", [round(one / 1e6, 1) for one in heaps])
    # Back to the top, what was given up is there again.
    gallery.evaluate("one => { one.scrollTop = 0; }")
    wait_until(lambda: page.locator("#gallery .tile[href$='/samples/0']").count() == 1)
