"""A real headless Chromium, through Playwright: what a page asked for, what it said to the console, what axe finds.

A test takes the fixture `visit` and opens windows with it: ``window = visit(origin, language="ja", phone=True)``. When
the test ends, each window must have asked for nothing outside its origin, and must have logged no error.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Response

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--metrics-recording-only",
)  # fmt: skip
SIZES = {False: {"width": 1280, "height": 900}, True: {"width": 390, "height": 844}}


@dataclass
class Window:
    """One browser context with one page.

    Attributes:
        requests: every address that was asked for, by the page or anything in it.
        errors: what the console and uncaught exceptions said.
        expected: parts of errors that a test provokes; those are not held against the page.
    """

    page: Page
    context: BrowserContext
    origin: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def go(self, path: str) -> Response | None:
        """Open a path of the origin."""
        return self.page.goto(self.origin + path)

    def outside(self) -> list[str]:
        """The requests that left the origin."""
        inside = (self.origin + "/", "data:", "blob:", "about:")
        return [url for url in self.requests if not f"{url}/".startswith(inside)]

    def faults(self) -> list[str]:
        """The errors that no test provoked."""
        return [e for e in self.errors if not any(part in e for part in self.expected)]

    def axe(self) -> list[str]:
        """What axe-core finds on the page that is serious or critical, and where."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [
            f"{v['id']} ({v['impact']}): {', '.join(str(n['target']) for n in v['nodes'])}"
            for v in found
            if v["impact"] in ("serious", "critical")
        ]

    def overflow(self) -> int:
        """By how many CSS pixels the page is wider than the window; 0 where nobody needs to scroll sideways."""
        width = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert isinstance(width, int)
        return width


Visit = Callable[..., Window]


def chromium_path() -> str | None:
    """Where a Chromium is; None where there is none."""
    named = os.environ.get("DATASOV_CHROMIUM")
    return named or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for a module's tests: while it runs, no event loop can be started in this thread."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install 'datasov[test]'")
    path = chromium_path()
    if path is None or not Path(path).exists():
        pytest.skip("no Chromium: install Debian's chromium, or name one with DATASOV_CHROMIUM")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield found
        found.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens windows; see the module."""
    opened: list[Window] = []

    def new(origin: str, *, language: str = "en", phone: bool = False, javascript: bool = True, **more: Any) -> Window:
        context = browser.new_context(
            locale={"en": "en-GB", "ja": "ja-JP"}[language], viewport=SIZES[phone], has_touch=phone,
            java_script_enabled=javascript, accept_downloads=True, **more,
        )  # fmt: skip
        context.set_default_timeout(15_000)
        window = Window(context.new_page(), context, origin.rstrip("/"))
        assert urlsplit(window.origin).path == ""
        context.on("request", lambda request: window.requests.append(request.url))
        context.on("console", lambda message: _said(window, message))
        context.on("weberror", lambda error: window.errors.append(str(error.error)))
        opened.append(window)
        return window

    yield new
    left = [(w.outside(), w.faults()) for w in opened]
    for window in opened:
        window.context.close()
    assert not [url for outside, _ in left for url in outside], "a page asked outside its origin"
    assert not [fault for _, faults in left for fault in faults], "a page logged errors"


def _said(window: Window, message: ConsoleMessage) -> None:
    if message.type == "error":
        window.errors.append(f"{message.text} {message.location.get('url', '')}")
