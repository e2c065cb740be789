"""How long `bench --help` takes, as a user waits for it; and a few other commands that should be quick.

python benchmarks/startup.py
"""

import subprocess
import sys
import time
from statistics import median

COMMANDS = (["--help"], ["run", "--help"], ["models", "list"], ["frameworks"])
ROUNDS = 20


def main() -> None:
    """Print the median and the slowest of `ROUNDS` starts of each command, in milliseconds."""
    for typed in COMMANDS:
        seconds = [one_start(typed) for _ in range(ROUNDS)]
        shown = f"bench {' '.join(typed)}"
        print(f"{shown:20} median {median(seconds) * 1e3:4.0f} ms, slowest {max(seconds) * 1e3:4.0f} ms")


def one_start(typed: list[str]) -> float:
    """Wall seconds of one command, its output thrown away."""
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "benchsuite.cli.main", *typed], check=True, stdout=subprocess.DEVNULL
    )
    return time.monotonic() - start


if __name__ == "__main__":
    main()
