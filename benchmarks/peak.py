"""The two probes of what a device does at most, side by side on this machine: that of phones, in C, and its
own, in ONNX Runtime and NumPy.

python -m benchmarks.peak [--rounds 5] [--seconds 0.25]

They take turns, and the best of all rounds counts: what else runs here can only take away. The verdict is for
a quiet machine: on a busy one the product's threads wait for one another, and those of the C program do not.
Where ONNX Runtime uses AVX-512 it can do twice what the C program can, which knows AVX2 here.
"""

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Mapping

from benchsuite.client import WorkerClient
from benchsuite.device.local import LocalDevice
from benchsuite.device.peak.build import built_peak, peak_words

FIELDS = {"flops_per_second": "GFLOP/s", "bytes_per_second": "GB/s"}
TIMEOUT_S = 120.0
GOOD = (0.8, 1.3)
"""C ÷ Python: the same machine, so about the same."""


def main() -> None:
    """Print both for 1 thread and for as many as there are cores, in 10⁹ a second, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.25)
    asked = parser.parse_args()
    device = LocalDevice()
    try:
        for threads in sorted({1, len(device.cores())}):
            cores = device.cores()[:threads]
            rounds = [
                (in_c(threads, asked.seconds, cores), in_python(device, threads, asked.seconds, cores))
                for _ in range(asked.rounds)
            ]
            for field, unit in FIELDS.items():
                ours, theirs = (max(one[side][field] for one in rounds) / 1e9 for side in (0, 1))
                ratio = ours / theirs
                verdict = "as it should be" if GOOD[0] <= ratio <= GOOD[1] else f"not within {GOOD}"
                print(
                    f"{threads} threads: C {ours:6.1f}, Python {theirs:6.1f} {unit}: {ratio:.2f}, {verdict}"
                )
    finally:
        device.close()
    print(f"load at the end: {os.getloadavg()[0]:.1f}")


def in_c(threads: int, seconds: float, cores: tuple[int, ...]) -> Mapping[str, float]:
    """One measurement by the program for phones."""
    words = peak_words(str(built_peak(platform.machine())), threads, seconds, cores)
    done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    reply: Mapping[str, float] = json.loads(done.stdout)
    return reply


def in_python(
    device: LocalDevice, threads: int, seconds: float, cores: tuple[int, ...]
) -> Mapping[str, float]:
    """One measurement as a run on this machine makes it, in a worker."""
    worker = WorkerClient(device)
    request = {"do": "probe", "threads": threads, "seconds": seconds, "cores": cores}
    try:
        return worker.ask(request, timeout_seconds=TIMEOUT_S)
    finally:
        worker.kill()


if __name__ == "__main__":
    main()
