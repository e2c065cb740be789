"""`python -m ourcompiler.selftest --graphs 3000 --seed 0`: random graphs, compiled and compared, at night.

Prints every graph that is wrong, made small; the exit status says whether there was one.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from ourcompiler.ir.text import show
from ourcompiler.selftest.compare import drawn, failures, smallest

BATCH = 100
"""Graphs in one library: a compiler's start costs as much as some of them."""


def main() -> int:
    """How many seeds failed, as an exit status."""
    parser = argparse.ArgumentParser(prog="python -m ourcompiler.selftest", description=__doc__)
    parser.add_argument("--graphs", type=int, default=BATCH, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="the number of the first")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--target", default="host")
    given = parser.parse_args()
    wrong: list[str] = []
    for first in range(given.seed, given.seed + given.graphs, BATCH):
        seeds = range(first, min(first + BATCH, given.seed + given.graphs))
        wrong += _batch(seeds, given.target, given.threads)
    print(f"{given.graphs} graphs, {len(wrong)} wrong" + (f": {' '.join(wrong)}" if wrong else ""))
    return 1 if wrong else 0


def _batch(seeds: range, target_name: str, threads: int) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        cases = drawn(seeds)
        found = failures(cases, Path(folder), target_name=target_name, threads=threads)
        for name, text in found.items():
            print(f"seed {name}: {text}", flush=True)
            least = smallest(cases[name], Path(folder), target_name=target_name)
            print(show(least.graph), flush=True)
    return list(found)


if __name__ == "__main__":
    sys.exit(main())
