"""Faults at random points of a run on the test phone: what is lost, what is wrong, what is left over.

python -m benchmarks.phone_faults [--faults 50] [--seed 0] [--seconds 2400] [--json FILE]

Every fault strikes a `bench run` of its own (two small networks, `ours`), at a moment drawn between its first
call and the time that an undisturbed run takes. Exit code 1 when anything was lost, wrong or left over.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.phone.faults import FAULTS, Outcome, Rig


def main() -> None:
    """Strike as often as asked or as time allows; print a line for each, then the sum."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=2400.0, help="begin no other fault after this time")
    parser.add_argument("--json", type=Path, help="write all outcomes there")
    wanted = parser.parse_args()
    drawn = random.Random(wanted.seed)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as temporary, Rig(Path(temporary)) as rig:
        usual = rig.undisturbed_seconds()
        print(f"an undisturbed run takes {usual:.1f} s")
        print(f"{'fault':10} {'at s':>6} {'for s':>6} {'blocks':>6} {'all s':>6}  outcome", flush=True)
        start = time.monotonic()
        for number in range(wanted.faults):
            if time.monotonic() - start > wanted.seconds:
                break
            kind = list(FAULTS)[number % len(FAULTS)]
            outcomes.append(rig.strike(kind, drawn.uniform(0.0, usual), drawn.uniform(0.3, 6.0)))
            print(line(outcomes[-1]), flush=True)
    bad = [one for one in outcomes if one.wrong]
    print(f"{len(outcomes)} faults, {len(bad)} with something lost, wrong or left over")
    if wanted.json is not None:
        document = {"seed": wanted.seed, "usual_s": usual, "faults": [asdict(one) for one in outcomes]}
        wanted.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    sys.exit(1 if bad else 0)


def line(one: Outcome) -> str:
    """One fault as a row."""
    how = "; ".join(one.wrong) or one.ending
    numbers = f"{one.at_s:6.1f} {one.lasted_s:6.1f} {one.blocks_before:6} {one.all_s:6.1f}"
    return f"{one.kind:10} {numbers}  {'WRONG: ' if one.wrong else ''}{how}"


if __name__ == "__main__":
    main()
