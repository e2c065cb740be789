"""A real run of all 18 networks in four frameworks, kept as an artefact: its tables follow from its samples,
and its page is small, quiet and fits a phone.
"""

import os
import shutil
from pathlib import Path

import pytest

from reports.artefact_read import Artefact, read_artefact
from reports.speedup import choose_reference, speedups
from reports.verify import verify

REAL = Path(__file__).parents[1] / "data" / "real.bench"
MOST_PAGE_BYTES = 3_000_000
CHROMIUM = os.environ.get("BENCH_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def real() -> Artefact:
    return read_artefact(REAL)


@pytest.fixture(scope="module")
def page(real: Artefact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("matplotlib", reason="the extra `reports` is not installed")
    from reports.as_html import html_page

    path = tmp_path_factory.mktemp("page") / "real.html"
    result = speedups(real.data, choose_reference(real.data, None, real.reference))
    path.write_text(html_page(real.data, result), encoding="utf-8")
    return path


def test_its_tables_follow_from_its_samples(real: Artefact) -> None:
    assert (len(real.data.groups), real.data.frameworks) == (18, ("tflite", "mnn", "tvm", "ort"))
    assert real.data.measured_cells == 72
    findings = verify(real, "a later bench")
    assert [one for one in findings if not one.matches] == []


def test_its_page_is_small(page: Path) -> None:
    """Under 3 MB for 18 × 6 cells: this has four of the six frameworks."""
    assert page.stat().st_size * 6 / 4 < MOST_PAGE_BYTES
    assert "Where the time goes" in page.read_text(encoding="utf-8")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium (as root)")
@pytest.mark.parametrize("width", [390, 1366])
def test_a_browser_shows_it_without_a_word(page: Path, width: int) -> None:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: the extra `test`"
    )
    said: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        shown = browser.new_context(offline=True, viewport={"width": width, "height": 800}).new_page()
        shown.on("console", lambda message: said.append(message.text))
        shown.on("pageerror", lambda error: said.append(str(error)))
        shown.goto(page.as_uri())
        shown.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        assert shown.locator("svg").count() > 18
        browser.close()
    assert said == []
