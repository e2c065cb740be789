"""Publish a run: page, tables, artefact and their README into a folder, and its table into the README.

    python benchmarks/publish.py reports/published/2026-12-01-all --journal table.db [--run 1]
        [--baseline ort] [--breakdowns swin,pythia] [--marker "bench: all networks"] [--readme README.md]

The table goes between the lines `<!-- MARKER -->` and `<!-- end of MARKER -->` of the README (`--marker ""`
leaves it alone). Every file is made by a command that the folder's README lists. Ends with the exit code of a
command that fails, 1 when the artefact does not verify.
"""

import argparse
import hashlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

from benchsuite.journal import Journal
from reports.cells import RunData, read_run
from reports.publish import folder_text, put_between, short_text
from reports.speedup import Speedups, choose_baseline, speedups

ROOT = Path(__file__).parent.parent
MARKER = "bench: all networks"
FOLDER_MARKER = "bench: this run"
ARTEFACT = "run.bench"
REPORTS = {
    "report.html": ("--format", "html"),
    "report.md": ("--format", "md"),
    "report.tex": ("--format", "latex"),
    "report.json": ("--format", "json"),
    "cells.csv": ("--format", "csv"),
    "best-peer.md": ("--format", "md", "--against", "best-peer"),
}
"""What is drawn, and how; the baseline is added to all but the last."""


def main() -> None:
    """Make the files, then the two READMEs."""
    asked = _asked()
    with Journal(asked.journal, must_exist=True) as book:
        data = read_run(book, asked.run)
    result = speedups(data, choose_baseline(data, asked.baseline))
    asked.folder.mkdir(parents=True, exist_ok=True)
    for network in filter(None, asked.breakdowns.split(",")):
        _bench("breakdown", network, "--run", str(data.run.number), "--journal", str(asked.journal))
    commands = _draw(asked.folder, asked.journal, data, result.baseline)
    _bench("verify", str(asked.folder / ARTEFACT))
    _write_readmes(asked, data, result, commands)
    for path in sorted(asked.folder.iterdir()):
        print(f"{path}  {path.stat().st_size / 1e3:.0f} kB")


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--run", type=int, help="the last one by default")
    parser.add_argument("--baseline", help="the framework named last by default")
    parser.add_argument("--breakdowns", default="", help="networks to profile for the page, commas between")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("--marker", default=MARKER)
    return parser.parse_args()


def _draw(folder: Path, journal: Path, data: RunData, baseline: str) -> dict[str, str]:
    """Make every file; returns the command of each, as one would type it beside the journal."""
    run, place = str(data.run.number), ("--journal", str(journal))
    shown = {}
    for name, how in REPORTS.items():
        relative = () if "--against" in how else ("--baseline", baseline)
        _bench("report", run, *how, *relative, "--out", str(folder / name), *place)
        shown[name] = shlex.join(["bench", "report", run, *how, *relative])
    _bench("export", run, str(folder / ARTEFACT), "--baseline", baseline, "--force", *place)
    shown[ARTEFACT] = shlex.join(["bench", "export", run, ARTEFACT, "--baseline", baseline])
    return shown


def _write_readmes(
    asked: argparse.Namespace, data: RunData, result: Speedups, commands: dict[str, str]
) -> None:
    digest = hashlib.sha256((asked.folder / ARTEFACT).read_bytes()).hexdigest()
    own = asked.folder / "README.md"
    if not own.exists():
        own.write_text(
            f"# {asked.folder.name}\n\n<!-- {FOLDER_MARKER} -->\n<!-- end of {FOLDER_MARKER} -->\n",
            encoding="utf-8",
        )
    _replace(own, FOLDER_MARKER, folder_text(data, result, commands, digest))
    if asked.marker:
        place = os.path.relpath(asked.folder.resolve(), asked.readme.resolve().parent)
        _replace(asked.readme, asked.marker, short_text(data, result, Path(place).as_posix()))


def _replace(path: Path, marker: str, content: str) -> None:
    text = put_between(path.read_text(encoding="utf-8"), marker, content, str(path))
    path.write_text(text, encoding="utf-8")


def _bench(*typed: str) -> None:
    """Run a command of bench; ends with its exit code when it fails."""
    done = subprocess.run([sys.executable, "-m", "benchsuite.cli.main", *typed], check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
