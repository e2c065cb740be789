"""How fast a file reaches the test phone over our link, verified and whole, against `adb push` by itself.

python -m benchmarks.phone_push [--megabytes 1024] [--rounds 2]
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

from benchsuite.device.adb.binary import find_adb
from benchsuite.device.adb.server import AdbServerLink
from tests.phone.host import AdbHome, adb_binary
from tests.phone.phone import Phone

PIECE = 1 << 20
FOLDER = "/data/local/tmp"


def main() -> None:
    """Push one after the other, as often as asked; the ratio is that of the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=2)
    wanted = parser.parse_args()
    ours: list[float] = []
    plain: list[float] = []
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "file"
        with file.open("wb") as stream:
            for _ in range(wanted.megabytes):
                stream.write(os.urandom(PIECE))
        home = AdbHome(Path(temporary) / "adb", str(adb_binary()))
        os.environ.update(home.environment)
        with Phone() as phone:
            phone.authorise(home.public_key)
            home.connect(phone.serial)
            link = AdbServerLink(find_adb(), phone.serial)
            for number in range(wanted.rounds):
                plain.append(seconds_of_adb(phone.serial, file))
                start = time.monotonic()
                link.push(file, f"{FOLDER}/ours")
                ours.append(time.monotonic() - start)
                link.shell(f"rm -f {FOLDER}/ours {FOLDER}/plain")
                print(f"round {number}: adb push {plain[-1]:.2f} s, our push {ours[-1]:.2f} s", flush=True)
        home.close()
    speeds = [wanted.megabytes * PIECE / 1e6 / median(seconds) for seconds in (plain, ours)]
    print(f"adb push {speeds[0]:.0f} MB/s, ours {speeds[1]:.0f} MB/s: {speeds[1] / speeds[0]:.0%} of it")


def seconds_of_adb(serial: str, file: Path) -> float:
    """One `adb push` as a user types it."""
    start = time.monotonic()
    words = [find_adb().path, "-s", serial, "push", str(file), f"{FOLDER}/plain"]
    subprocess.run(words, check=True, capture_output=True)
    return time.monotonic() - start


if __name__ == "__main__":
    main()
