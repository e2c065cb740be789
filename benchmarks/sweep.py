"""Which of a framework's settings is the fastest: its variants against its default, interleaved, in one run.

    python benchmarks/sweep.py mnn [--models quick] [--threads 1,2] [--blocks 8]

Writes `adapters/sweeps/<framework>.json`, which `bench doctor --frameworks` shows and a test holds the
defaults to. `ratio` is the variant's time over the default's: above 1 the default is faster.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from adapters.catalogue import adapter, installed_version
from adapters.protocol import Adapter
from benchsuite.journal import Journal
from reports.cells import RunData, read_run
from reports.speedup import speedups

SWEEPS = Path(__file__).parent.parent / "adapters" / "sweeps"
DIGITS = 4


def main() -> None:
    """Run the sweep of one framework and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("framework")
    parser.add_argument("--models", default="quick")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--cache", type=Path, help="as of `bench run`")
    asked = parser.parse_args()
    row = adapter(asked.framework)
    names = [f"{row.name}:{variant}" for variant in row.variants]
    if not names:
        sys.exit(f"{row.name} has no variants")
    typed = ["run", "--models", asked.models, "--frameworks", ",".join([*names, row.name])]
    typed += ["--threads", asked.threads]
    typed += ["--set", f"least_blocks={asked.blocks}", "--set", f"most_blocks={asked.blocks}"]
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal.db"
        places = ["--journal", str(journal), *(["--cache", str(asked.cache)] if asked.cache else [])]
        subprocess.run([sys.executable, "-m", "benchsuite.cli.main", *typed, *places], check=False)
        with Journal(journal, must_exist=True) as book:
            data = read_run(book)
    document = {
        "framework": row.name,
        "version": installed_version(row),
        "chip": data.run.facts.get("processor"),
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(["bench", *typed]),
        "commit": data.run.facts.get("bench_commit"),
        "default": dict(row.options),
        "rows": list(_rows(row, data)),
    }
    SWEEPS.mkdir(exist_ok=True)
    path = SWEEPS / f"{row.name}.json"
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for one in document["rows"]:
        print(f"{one['variant']:24} {one['threads']} threads: {_shown(one)}")


def _rows(row: Adapter, data: RunData) -> Iterator[dict[str, object]]:
    for variant, options in row.variants.items():
        name = f"{row.name}:{variant}"
        result = speedups(data, name)  # the variant's time over …
        each = {(one.model, one.threads): one.speedup for one in result.rows if one.framework == row.name}
        for mean in result.means:
            if mean.framework != row.name:  # … the default's
                continue
            interval = mean.interval
            yield {
                "variant": variant,
                "options": dict(options),
                "threads": mean.threads,
                "ratio": round(interval.estimate, DIGITS) if interval else None,
                "low": round(interval.low, DIGITS) if interval and interval.is_known else None,
                "high": round(interval.high, DIGITS) if interval and interval.is_known else None,
                "networks": {
                    model: round(found.estimate, DIGITS)
                    for (model, threads), found in each.items()
                    if found is not None and threads == mean.threads
                },
                "missing": {
                    group.key.model: f"{group.cells[name].status}: {group.cells[name].reason}"
                    for group in data.groups
                    if group.key.threads == mean.threads and group.key.model in mean.missing
                },
            }


def _shown(one: dict[str, object]) -> str:
    if one["ratio"] is None:
        return f"no number ({one['missing']})"
    return f"{one['ratio']} times the default's time [{one['low']}, {one['high']}]"


if __name__ == "__main__":
    main()
