"""The pictures of docs/home.md, of the simulated vault: ``python -m tests.home_shots docs/images``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from datasov.home import example
from tests.browser import FLAGS, SIZES, chromium_path
from tests.home import served

SHOTS = (
    ("home-overview-en", "/", "en", False), ("home-questions-ja", "/questions", "ja", False),
    ("home-data-ja", "/data/mobility", "ja", True), ("home-consents-en", "/consents", "en", True),
)  # fmt: skip


def main(folder: Path) -> None:
    """Write each picture: what fits into the window, and of consents with the first confirmation open."""
    with (
        tempfile.TemporaryDirectory() as made, example.example(Path(made)) as desk, served(desk) as door,
        sync_playwright() as playwright,
    ):  # fmt: skip
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(FLAGS))
        page = browser.new_context().new_page()
        page.goto(door.address)
        page.wait_for_url(f"{door.origin}{door.place}/")
        for name, place, language, phone in SHOTS:
            page.set_viewport_size(SIZES[phone])
            page.goto(f"{door.origin}{door.place}{place}?lang={language}")
            if place == "/consents":
                page.locator("summary").first.click()
            page.screenshot(path=folder / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
