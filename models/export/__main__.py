"""`python -m models.export NAME… [--check] [--pretrained --out FILE]`: `bench models export` by itself."""

import argparse
import sys
from pathlib import Path

from models.errors import ModelError
from models.export.driver import export, export_pretrained
from models.zoo import GRAPHS


def main() -> int:
    """Return 0 when all is well, 1 when a check found a difference, 2 for an error."""
    parser = argparse.ArgumentParser(prog="python -m models.export", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--check", action="store_true", help="compare with the pinned files, write nothing")
    parser.add_argument("--pretrained", action="store_true", help="trained weights; needs --out and one NAME")
    parser.add_argument("--out", type=Path, metavar="FILE")
    parser.add_argument("--graphs", type=Path, default=GRAPHS, metavar="FOLDER")
    arguments = parser.parse_args()
    if arguments.pretrained and (arguments.out is None or len(arguments.names) != 1):
        parser.error("--pretrained needs --out FILE and one NAME")
    try:
        if arguments.pretrained:
            export_pretrained(arguments.names[0], arguments.out)
            return 0
        return max(_export(name, arguments.graphs, arguments.check) for name in arguments.names)
    except ModelError as error:
        print(error, file=sys.stderr)
        return 2


def _export(name: str, graphs: Path, check: bool) -> int:
    report = export(name, graphs, check=check)
    state = "differs" if report.differences else "matches" if check else "written"
    print(f"{name}: {state}, {report.node_count} nodes, {report.seconds:.0f} s", flush=True)
    for difference in report.differences:
        print(f"  {difference[:400]}")
    return 1 if report.differences else 0


if __name__ == "__main__":
    sys.exit(main())
