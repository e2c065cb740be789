"""The page in a real browser: no errors, used by keyboard, fits a phone, follows light and dark, prints."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.cells import RunData
from reports.speedup import choose_baseline, speedups

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: the extra `test`"
)
pytest.importorskip("matplotlib", reason="the extra `reports` is not installed")
from reports.as_html import html_page  # noqa: E402

CHROMIUM = os.environ.get("BENCH_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium here: apt-get install chromium (as root)"
)
# As root there is no sandbox; the others keep the browser from calling home, which a closed network refuses.
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-quic"),
)
PHONE, LAPTOP = {"width": 390, "height": 844}, {"width": 1366, "height": 800}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield opened
        opened.close()


Open = Callable[..., Any]


@pytest.fixture
def open_page(browser: Any, run: RunData, tmp_path: Path) -> Iterator[Open]:
    """Open the page of a run; nothing may be logged, and nothing but the file be asked for."""
    path = tmp_path / "report.html"
    path.write_text(html_page(run, speedups(run, choose_baseline(run, None))), encoding="utf-8")
    contexts, troubles, requests = [], list[str](), list[str]()

    def show(**options: Any) -> Any:
        context = browser.new_context(offline=True, **{"viewport": LAPTOP, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    assert troubles == []
    assert {url for url in requests if not url.startswith("data:")} == {path.as_uri()}


def column(page: Any, table: str, index: int) -> list[str]:
    """Texts of a column without footnote marks, in the order shown."""
    script = """([id, index]) => [...document.querySelector(`#${id} tbody`).rows]
        .filter((row) => !row.hidden).map((row) => row.cells[index].firstChild?.textContent ?? "")"""
    texts: list[str] = page.evaluate(script, [table, index])
    return texts


def test_headings_sort_by_keyboard(open_page: Open) -> None:
    page = open_page()
    heading = page.locator("#latency thead th").nth(3)
    heading.locator("button").focus()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    shown = column(page, "latency", 3)
    numbers = [float(text) for text in shown if text.replace(".", "").isdigit()]
    assert numbers == sorted(numbers)
    assert len(numbers) > 10
    assert not shown[-1].replace(".", "").isdigit(), "cells without a number stay at the end"
    page.keyboard.press("Space")
    assert heading.get_attribute("aria-sort") == "descending"
    assert [float(text) for text in column(page, "latency", 3)[: len(numbers)]] == numbers[::-1]


def test_rows_are_filtered(open_page: Open) -> None:
    page = open_page()
    everything = column(page, "latency", 0)
    field = page.get_by_role("searchbox").locator("visible=true").and_(page.locator("#latency input"))
    field.focus()
    page.keyboard.type("SWIN ours")
    assert column(page, "latency", 0) == ["swin", "swin"]
    field.fill("")
    assert column(page, "latency", 0) == everything


def test_all_that_can_be_used_can_be_reached_by_keyboard(open_page: Open) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#overview"
    stuck = page.evaluate(
        """[...document.querySelectorAll("button, a[href], input, summary")]
        .filter((one) => one.tabIndex < 0).map((one) => one.outerHTML)"""
    )
    assert stuck == []
    summary = page.locator("#network-0 summary")
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("#network-0 svg").first.is_visible()


def test_a_link_opens_what_it_points_into(open_page: Open) -> None:
    page = open_page()
    page.locator(".heat a").first.click()
    assert page.locator("#network-0").get_attribute("open") is not None


@pytest.mark.parametrize("size", [PHONE, {"width": 320, "height": 640}, LAPTOP])
def test_the_page_never_scrolls_sideways(open_page: Open, size: dict[str, int]) -> None:
    """Wide tables scroll inside their frame."""
    page = open_page(viewport=size)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    assert page.evaluate("parseFloat(getComputedStyle(document.querySelector('td')).fontSize)") >= 12


CONTRAST = """() => {
  const light = (colour) => {
    const context = Object.assign(document.createElement("canvas"), {width: 1, height: 1}).getContext("2d");
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const parts = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) => value / 255)
      .map((value) => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const ground = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
  };
  const found = {};
  for (const one of document.querySelectorAll("p, td, th, button, a, li, dt, dd, span, svg text")) {
    if (!one.textContent.trim()) continue;
    const style = getComputedStyle(one);
    const ink = one.tagName === "text" ? style.fill : style.color;
    const [a, b] = [light(ink), light(ground(one))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const name = `${one.tagName} ${one.className.baseVal ?? one.className} ${ink} on ${ground(one)}`;
    if (ratio < 4.5) found[name] = ratio;
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(open_page: Open, scheme: str) -> None:
    """Contrast of at least 4.5 to 1, as WCAG 2.2 asks, of every text, drawings included."""
    page = open_page(color_scheme=scheme)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    assert dark == (scheme == "dark")
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.evaluate(CONTRAST) == {}


def test_the_button_changes_light_and_dark(open_page: Open) -> None:
    page = open_page(color_scheme="light")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Dark or light").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.get_by_role("button", name="Dark or light").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == before


def test_it_prints_everything(open_page: Open) -> None:
    page = open_page(color_scheme="dark")
    assert len(page.pdf()) > 20_000
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"


def test_it_reads_without_a_script(open_page: Open) -> None:
    page = open_page(java_script_enabled=False)
    assert page.locator("#speedup").is_visible()
    assert page.locator("#theme").is_hidden()
