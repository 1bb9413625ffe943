"""The page with 10,000 jobs in Chromium: its first rows, its frames while one scrolls, its size.

``python -m bench.page``; ``make page`` builds it first.
"""

import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from tests.clusters import chromium

from hpcq.schedulers.testing.service import INSTALLATION, Service

ARRAYS, TASKS = 10, 1_000
TURNS = 7
SCROLLS = 150
VIEW = "#/jobs?tasks=true"
# Notes when the first row stands, and how long each frame took.
WATCH = """
window.frames_ = []; window.firstRow = null;
let before = performance.now();
const frame = (now) => {
  window.frames_.push(now - before); before = now;
  if (window.firstRow === null && document.querySelector(".body .row")) window.firstRow = now;
  requestAnimationFrame(frame);
};
requestAnimationFrame(frame);
"""


def open_page(browser: Browser, service: Service) -> tuple[float, list[float]]:
    """Return the milliseconds until the first rows stand, and those of the frames of a scroll."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.add_init_script(WATCH)
    page.goto(f"{service.url}/{VIEW}")
    page.wait_for_selector(".body .row")
    first = float(page.evaluate("window.firstRow ?? performance.now()"))
    page.locator(".grid").hover()
    page.wait_for_timeout(1000)
    page.evaluate("window.frames_.length = 0")
    for step in range(SCROLLS):
        page.mouse.wheel(0, 900 if step % 3 else -400)
        page.wait_for_timeout(20)
    frames = [float(one) for one in page.evaluate("window.frames_")]
    context.close()
    return first, frames


def measure(folder: Path) -> None:
    assets = INSTALLATION / "src" / "hpcq" / "page" / "assets"
    for ending in ("js", "js.br", "css.br"):
        size = sum(path.stat().st_size for path in assets.glob(f"*.{ending}"))
        print(f"{ending}: {size / 1000:.1f} kB")
    with Service(folder, {"SCHEDULER": "LOCAL", "LOG_LEVEL": "WARNING"}) as service:
        body = {
            "workingDirectory": str(folder),
            "reservedSlots": 1,
            "script": "#!/bin/sh\n:\n",
            "hold": True,
            "array": {"first": 1, "last": TASKS},
        }
        for number in range(ARRAYS):
            service.client.post("/jobs", json={**body, "name": f"case-{number}"}).raise_for_status()
        time.sleep(3)
        print(f"{len(service.client.get('/jobs').json())} jobs")
        firsts, longest, slow, total = [], [], 0, 0
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium.up()["CHROMIUM"], args=["--no-sandbox"]
            )
            for _ in range(TURNS):
                first, frames = open_page(browser, service)
                firsts.append(first)
                longest.append(max(frames))
                slow += sum(frame > 50 for frame in frames)
                total += len(frames)
            browser.close()
        print(
            f"first rows: median {statistics.median(firsts):.0f} ms, at most {max(firsts):.0f} ms; "
            f"longest frame of a scroll: median {statistics.median(longest):.0f} ms, at most "
            f"{max(longest):.0f} ms; {slow} of {total} frames over 50 ms"
        )


if __name__ == "__main__":
    subprocess.run(["uptime"], check=True)
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name))
