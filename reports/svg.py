"""Figures as inline SVG that follow the page's colours: drawn by matplotlib in marker colours, which become
CSS variables, so that one drawing serves light, dark and paper.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from reports.history import missing_library

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LETTER_INCHES = 0.092
"""A wide letter of the font that is used for measuring; names are short."""
SERIES_COUNT = 8
"""Colours of series; a ninth framework has the first one's colour and its own name beside it."""
INK, MUTED, GRID, PAPER = "#0e0001", "#0e0002", "#0e0003", "#0e0004"
MARKERS = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"} | {
    f"#0f00{index:02x}": f"series-{index}" for index in range(SERIES_COUNT)
}
"""Colours that nobody would choose, and the CSS variable that each stands for."""
SETTINGS: Any = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and takes the page's font
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "path.simplify": True,
    "path.simplify_threshold": 0.5,
}
DECIMALS = re.compile(r"(\.\d\d)\d+")
COMMENTS = re.compile(r"<!--.*?-->", re.DOTALL)
GROUP_NAMES = re.compile(r'<g id="[^"]*"')
FONT = re.compile(r"'DejaVu Sans'|DejaVu Sans")
MARKER = re.compile("|".join(MARKERS))
BLANKS = re.compile(r">\s+<")


def series_colour(index: int) -> str:
    """The marker colour of series `index`."""
    return f"#0f00{index % SERIES_COUNT:02x}"


@contextmanager
def plot_style() -> Iterator[None]:
    """Our settings for all that is drawn inside; raises `BenchError` without matplotlib."""
    try:
        import matplotlib
    except ImportError as error:
        raise missing_library("matplotlib", "plots") from error
    with matplotlib.rc_context(SETTINGS):
        yield


def figure(width: float, height: float) -> "tuple[Figure, Axes]":
    """A figure of so many inches with one pair of axes; inside `plot_style`."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), layout="constrained")
    return drawn, drawn.add_subplot()


def svg(drawn: "Figure", name: str, description: str) -> str:
    """The figure as an `<svg>` element; `name` keeps its definitions apart from those of other figures, and
    `description` is read aloud in its place.
    """
    import matplotlib

    stream = io.StringIO()
    # Without a salt the names inside would be drawn by lot, and the same page would have other bytes each
    # time.
    matplotlib.rcParams["svg.hashsalt"] = name
    drawn.savefig(stream, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Type", "Format")))
    return cleaned(stream.getvalue(), description)


def cleaned(text: str, description: str) -> str:
    """Matplotlib's file as an element for a page: no header, no comments, short numbers, our colours and
    font.
    """
    inside = text[text.index("<svg") :]
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', inside)
    body = inside[inside.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>", "", COMMENTS.sub("", body), flags=re.DOTALL)
    body = GROUP_NAMES.sub("<g", BLANKS.sub("><", DECIMALS.sub(r"\1", body)))
    body = MARKER.sub(lambda match: f"var(--{MARKERS[match[0]]})", FONT.sub("system-ui,sans-serif", body))
    width, height = (size[1], size[2]) if size else ("400", "300")
    return (
        f'<svg viewBox="0 0 {width} {height}" style="max-width:{float(width) * 1.35:.0f}px" role="img"'
        f' aria-label="{escape(description)}" xmlns:xlink="http://www.w3.org/1999/xlink">{body.strip()}'
    )


def named_rows(names: Sequence[str], width: float, row_height: float) -> "tuple[Figure, Axes]":
    """A figure with one row a name and room for the names, as `label_rows` will write them.

    Its margins are computed here: matplotlib's own layout draws everything twice, and a page has dozens.
    """
    from matplotlib.figure import Figure

    left, bottom, top = LETTER_INCHES * max(map(len, names)) + 0.15, 0.45, 0.08
    height = row_height * len(names) + bottom + top
    drawn = Figure(figsize=(width, height))
    place = (left / width, bottom / height, 1 - (left + 0.15) / width, 1 - (bottom + top) / height)
    return drawn, drawn.add_axes(place)


def label_rows(axes: "Axes", names: Sequence[str]) -> None:
    """Names on the left, the first on top."""
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def plain(text: str) -> str:
    """A name that matplotlib will not read as mathematics."""
    return text.replace("$", r"\$")
