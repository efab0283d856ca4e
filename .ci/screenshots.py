"""Make the screenshots of the README: `python .ci/screenshots.py`, in the environment of the tests.

It crawls the example project into a new folder, serves the cache, and opens it in Chromium.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github" / "screenshots"
PROGRAMS = Path(sys.executable).parent
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SIZE = {"width": 1280, "height": 800}


def main(target: Path) -> None:
    """Write `grid.jpg` and `picture.jpg` to a folder."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "example_project"
        shutil.copytree(ROOT / "example_project", project, ignore=lambda *_: {".scrapy"})
        crawl = [PROGRAMS / "scrapy", "crawl", "shop", "--loglevel", "ERROR"]
        subprocess.run(crawl, cwd=project, check=True)  # noqa: S603 - our own commands
        command = [PROGRAMS / "imgcache", "ui", "--no-browser"]
        with subprocess.Popen(  # noqa: S603
            command, cwd=project, stderr=subprocess.PIPE, text=True
        ) as served:
            try:
                found = (re.search(r"http://\S+/", line) for line in served.stderr or ())
                take(next(filter(None, found))[0], target)
            finally:
                served.terminate()


def take(address: str, target: Path) -> None:
    """Take the screenshots of a page at an address."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        page = browser.new_page(base_url=address, viewport=SIZE, device_scale_factor=1.5)
        page.goto("/?url_contains=/photos/")
        for image in page.locator("img.thumb").all()[:24]:
            image.evaluate("each => each.decode()")
        page.goto("/?url_contains=/photos/")
        page.wait_for_load_state("networkidle")
        page.screenshot(path=target / "grid.jpg", quality=82, type="jpeg")
        page.locator(".tiles a", has_text="dragonfly").first.click()
        page.wait_for_url("**/ui/images/*")
        page.wait_for_load_state("networkidle")
        page.screenshot(path=target / "picture.jpg", quality=82, type="jpeg")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
