"""The city's page in a real browser: both languages, phone and desktop, keyboard, screen reader, without JavaScript."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import datasov as ds
from tests.browser import Visit
from tests.city_page import build, served
from tests.helpers import Clock

SEEN = [(language, phone) for language in ("en", "ja") for phone in (False, True)]


@pytest.fixture(scope="module")
def page_city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ds.City, str]]:
    clock = Clock()
    with build(tmp_path_factory.mktemp("city"), clock, 16) as city, served(city, clock) as at:
        yield city, at


@pytest.mark.parametrize(("language", "phone"), SEEN)
def test_the_page_is_there_for_everybody(
    page_city: tuple[ds.City, str], visit: Visit, language: str, phone: bool
) -> None:  # fmt: skip
    city, at = page_city
    window = visit(at, language=language, phone=phone)
    window.go("/")
    page = window.page
    assert page.locator("html").get_attribute("lang") == language
    assert page.locator("article:has(table.bars)").count() == 6
    assert page.locator("section#programmes article").count() == 3
    assert f"{city.log.size}" in page.locator(".tiles").inner_text()
    assert page.locator("#h-log").inner_text() == {"en": "Public log", "ja": "公開ログ"}[language]
    assert window.overflow() == 0
    page.locator("details").first.evaluate("e => document.querySelectorAll('details').forEach(d => d.open = true)")
    assert window.overflow() == 0
    assert window.axe() == []


@pytest.mark.parametrize(("language", "phone"), [("en", False), ("ja", True)])
def test_an_answer_is_there_for_everybody(
    page_city: tuple[ds.City, str], visit: Visit, language: str, phone: bool
) -> None:  # fmt: skip
    city, at = page_city
    window = visit(at, language=language, phone=phone)
    for release in (city.releases()[1], city.releases()[2]):
        window.go(f"/answers/{release.identifier.hex()}")
        assert window.page.locator("tr:has(svg.bar)").count() == release.frame().height
        assert window.overflow() == 0
    assert window.axe() == []


def test_error_bars_are_drawn_where_the_interval_is(page_city: tuple[ds.City, str], visit: Visit) -> None:
    city, at = page_city
    window = visit(at)
    release = city.releases()[0]
    window.go(f"/answers/{release.identifier.hex()}")
    drawn: list[dict[str, Any]] = window.page.locator("svg.bar").evaluate_all(
        """bars => bars.map(b => ({
            fill: b.querySelector('rect').getBoundingClientRect().toJSON(),
            line: b.querySelector('line.whisker').getBoundingClientRect().toJSON(),
            width: b.getBoundingClientRect().width,
            color: getComputedStyle(b.querySelector('rect')).fill,
        }))"""
    )
    frame = release.frame()
    low, high = min(0, frame["count_low"].min()), max(0, frame["count_high"].max())  # type: ignore[type-var]
    for bar, (value, first, last) in zip(
        drawn, frame.select("count", "count_low", "count_high").rows(), strict=True
    ):  # fmt: skip
        pixel = bar["width"] / (high - low)
        assert bar["line"]["width"] == pytest.approx((last - first) * pixel, abs=3)
        assert bar["fill"]["width"] == pytest.approx(abs(value) * pixel, abs=3)
        assert bar["color"] != "rgb(0, 0, 0)", "the style was refused"


def test_it_is_used_by_keyboard(page_city: tuple[ds.City, str], visit: Visit) -> None:
    window = visit(page_city[1])
    window.go("/")
    page = window.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["y"] >= 0  # type: ignore[index]
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#budget"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    summary = page.locator("summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("details").first.get_attribute("open") is not None
    language = page.locator(".languages a[lang=ja]")
    language.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/?lang=ja")
    page.locator("a", has_text="この答えの詳細").first.click()
    page.wait_for_url("**/answers/*lang=ja")
    page.locator(".crumb a").click()
    page.wait_for_url("**/?lang=ja#answers")


def test_a_screen_reader_hears_the_numbers(page_city: tuple[ds.City, str], visit: Visit) -> None:
    city, at = page_city
    window = visit(at)
    release = city.releases()[0]
    window.go(f"/answers/{release.identifier.hex()}")
    heard = window.page.locator("table.bars").first.aria_snapshot()
    first = release.frame().row(0, named=True)
    assert "columnheader" in heard
    assert f'rowheader "{first["mode"]}"' in heard
    assert f'cell "{first["count"]:,}"'.replace("-", "−") in heard
    assert window.page.get_by_role("main").count() == 1
    assert window.page.get_by_role("heading", level=1).count() == 1


def test_nothing_is_lost_without_scripts_and_in_the_dark(page_city: tuple[ds.City, str], visit: Visit) -> None:
    window = visit(page_city[1], javascript=False)
    window.go("/")
    assert window.page.locator("svg.bar").count() > 30
    dark = visit(page_city[1], color_scheme="dark")
    dark.go("/")
    assert dark.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 22, 20)"
    assert dark.axe() == []
    narrow = visit(page_city[1], phone=True)
    narrow.page.set_viewport_size({"width": 320, "height": 640})
    narrow.go("/?lang=ja")
    assert narrow.overflow() == 0


def test_a_script_that_came_in_would_not_run(page_city: tuple[ds.City, str], visit: Visit) -> None:
    window = visit(page_city[1])
    window.expected += ["Content Security Policy", "violates"]
    window.go("/")
    window.page.evaluate(
        """() => { const s = document.createElement('script');
        s.textContent = 'window.owned = 1'; document.body.append(s);
        const i = document.createElement('img'); i.src = 'https://example.org/x.png'; document.body.append(i); }"""
    )
    assert window.page.evaluate("window.owned") is None
    window.requests[:] = [r for r in window.requests if "example.org" not in r]


def test_no_answer_is_a_page_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests.helpers import found_city

    clock = Clock()
    with found_city(tmp_path_factory.mktemp("empty"), clock) as city, served(city, clock) as at:
        assert "Nothing was asked yet" in httpx.get(at).text
