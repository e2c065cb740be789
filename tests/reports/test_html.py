"""The page: one file, nothing from elsewhere, every name is text, and it says what is wrong on top."""

import base64
import hashlib
import re
import sys
from collections.abc import Callable, Mapping
from html.parser import HTMLParser

import pytest

from adapters.protocol import Profile, ProfileEntry
from benchsuite.profiled import Profiled
from benchsuite.record import CellKey, GroupKey, Outcome
from models.errors import BenchError
from reports.cells import RunData
from reports.speedup import choose_baseline, speedups

pytest.importorskip("matplotlib", reason="the extra `reports` is not installed")
from reports.as_html import Past, html_page
from reports.history import Series

SVG = re.compile(r"<svg.*?</svg>", re.DOTALL)
VOID = {"meta", "link", "input", "br"}


def page(run: RunData, past: Past | None = None, banners: tuple[str, ...] = ()) -> str:
    return html_page(run, speedups(run, choose_baseline(run, None)), past, banners)


class Structure(HTMLParser):
    """Checks that every element is closed, and collects what a page could load or link to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "srcset", "data", "action", "poster") or name.startswith("on"):
                self.loads.append(f"{tag} {name}={value}")
            if name in ("href", "xlink:href"):
                self.links.append(value or "")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def structure(text: str) -> Structure:
    found = Structure()
    found.feed(text)
    assert found.open == []
    return found


def test_html(run: RunData, golden: Callable) -> None:
    """Without the drawings and the style: their bytes are matplotlib's and a designer's business."""
    text = re.sub(
        r"<style>.*?</style>", "<style></style>", SVG.sub("<svg></svg>", page(run)), flags=re.DOTALL
    )
    text = re.sub(r"<script>.*?</script>", "<script></script>", text, flags=re.DOTALL)
    golden("report.html", re.sub(r"sha256-[^']+", "sha256-", text))


def test_the_same_run_gives_the_same_bytes(run: RunData) -> None:
    assert page(run) == page(run)


def test_nothing_comes_from_elsewhere(run: RunData) -> None:
    text = page(run)
    found = structure(text)
    assert found.loads == []
    assert [link for link in found.links if not link.startswith(("#", "data:,"))] == []
    assert [link for link in found.links if link.startswith("#") and link[1:] not in found.ids] == []
    assert len(found.ids) == len(set(found.ids)), "ids are unique"
    assert not re.search(r"@import|url\((?!#)", text)
    hosts = set(re.findall(r"https?://[^\s\"'<)]+", text))
    assert hosts <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_only_our_script_may_run(run: RunData) -> None:
    text = page(run)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hashed}'" in text


def test_hostile_names_are_text(hostile: RunData, hostile_names: tuple[str, ...]) -> None:
    text = page(hostile)
    found = structure(text)
    assert found.loads == []
    assert text.count("<script") == 1
    assert "alert(1)&lt;/script&gt;" in text
    assert "red" not in found.tags
    assert not [link for link in found.links if "example" in link]


def test_trouble_is_on_top(run: RunData) -> None:
    text = page(run, banners=("2 regressions: <b>",))
    assert (
        text.index("2 regressions: &lt;b&gt;")
        < text.index("4 cells without a good number")
        < text.index("<h2>")
    )


def test_a_good_run_has_no_banner(write_run: Callable, good: Outcome) -> None:
    text = page(write_run({("swin", 1): {"a": (1.0, good), "b": (2.0, good)}}, ("a", "b")))
    assert "banner bad" not in text
    assert 'id="roofline"' not in text
    assert 'id="ablation"' not in text
    assert 'id="history"' not in text


def test_roofline_ablation_history_and_breakdown_appear_when_there_is_something(
    write_run: Callable, good: Outcome, ceilings: Mapping
) -> None:
    cells = {
        "ours": (10.0, good),
        "ours:no-fusion": (14.0, good),
        "ours:no-layout": (11.0, good),
        "ort": (20.0, good),
    }
    run = write_run({("swin", 1): cells, ("vit", 1): cells}, tuple(cells), facts=ceilings)
    key = GroupKey("swin", "local", 1, "fp32")
    profile = Profile((ProfileEntry("m", "MatMul", 900, ("mm",)),), 1000, "a profiler")
    for name in ("ours", "ort"):
        run.profiles[CellKey(key, name)] = Profiled(profile, 950, {}, ("mm",), ("MatMul",))  # type: ignore[index]
    days = tuple(f"2026-11-{day:02}T03:00:00+00:00" for day in range(1, 9))
    series = Series(CellKey(key, "ours"), tuple(range(8)), days, (10.0,) * 8)
    text = page(run, Past((series,)))
    structure(text)
    for id in ("roofline", "ablation", "history", "b-0-1-1"):
        assert f'id="{id}"' in text
    assert "What is lost without each optimisation of ours" in text
    fusion = text[text.index("What is lost without each optimisation of ours") :]
    assert fusion.index(">fusion<") < fusion.index(">layout<"), "the most useful first"
    assert "unattributed" in text
    assert "Changes over 8 runs: none" in text


def test_drawings_follow_the_page_colours(run: RunData) -> None:
    for drawing in SVG.findall(page(run)):
        assert "var(--series-" in drawing
        assert not re.search(r"#0[ef]00", drawing)
        assert set(re.findall(r"#[0-9a-f]{6}\b", drawing)) <= {"#000000", "#ffffff"}
        assert 'role="img" aria-label="' in drawing


@pytest.mark.parametrize(("module", "what"), [("jinja2", "Jinja2"), ("matplotlib", "matplotlib")])
def test_a_missing_library_is_explained(
    run: RunData, module: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BenchError, match=f"{what} is not installed") as caught:
        page(run)
    assert caught.value.hint.startswith("pip install '.[reports]'")
